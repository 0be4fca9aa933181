//! What probes and hooks do: run a command, ask a URL, open a connection.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::container::Inside;
use super::invocation::Invocation;
use super::process::Process;

/// When a probe is asked, and how often it must say the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) initial_delay: Duration,
    pub(super) period: Duration,
    pub(super) timeout: Duration,
    pub(super) successes: u32,
    pub(super) failures: u32,
}

impl Schedule {
    pub(super) fn of(probe: &Probe) -> Self {
        let number =
            |value: Option<i32>, default: u32| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default);
        let seconds = |value, default| Duration::from_secs(u64::from(number(value, default)));
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: number(probe.success_threshold, 1),
            failures: number(probe.failure_threshold, 3),
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Exec(ExecAction),
    HttpGet(HTTPGetAction),
    TcpSocket(TCPSocketAction),
    Sleep(SleepAction),
}

impl Action {
    /// What a probe does; none if it is of a kind that this kubelet does not know.
    pub(super) fn of_probe(probe: &Probe) -> Option<Self> {
        let exec = probe.exec.clone().map(Self::Exec);
        let http = || probe.http_get.clone().map(Self::HttpGet);
        exec.or_else(http).or_else(|| probe.tcp_socket.clone().map(Self::TcpSocket))
    }

    /// What a hook does; none if it is of a kind that this kubelet does not know.
    pub(super) fn of_hook(hook: &LifecycleHandler) -> Option<Self> {
        let exec = hook.exec.clone().map(Self::Exec);
        let http = || hook.http_get.clone().map(Self::HttpGet);
        exec.or_else(http).or_else(|| hook.sleep.clone().map(Self::Sleep))
    }

    /// Does it. An error is in words.
    pub(super) async fn act(&self, inside: &Inside) -> Result<(), String> {
        match self {
            Self::Exec(exec) => run(exec, inside).await,
            Self::HttpGet(http) => get(http, inside).await,
            Self::TcpSocket(tcp) => {
                let port = port(&tcp.port, &inside.container)?;
                let host = tcp.host.clone().unwrap_or_else(|| inside.ip.to_string());
                connect(&host, port).await.map(drop)
            }
            Self::Sleep(sleep) => {
                tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
                Ok(())
            }
        }
    }

    /// Does it within `bound`.
    pub(super) async fn act_within(&self, bound: Duration, inside: &Inside) -> Result<(), String> {
        let result = tokio::time::timeout(bound, self.act(inside)).await;
        result.unwrap_or_else(|_| Err(format!("no end after {bound:?}")))
    }
}

async fn run(exec: &ExecAction, inside: &Inside) -> Result<(), String> {
    let command = exec.command.clone().unwrap_or_default();
    let call = Invocation::within(&command, &inside.image, &inside.environment, &inside.mounts);
    let call = call.ok_or("an empty command")?;
    let mut process = Process::spawn(&inside.groups, &call, &inside.directory, &inside.log)
        .map_err(|error| format!("cannot start {error}"))?;
    match process.exit().await {
        0 => Ok(()),
        code => Err(format!("{command:?} ended with exit code {code}")),
    }
}

async fn get(http: &HTTPGetAction, inside: &Inside) -> Result<(), String> {
    if http.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
        return Err("this kubelet asks HTTP only".to_owned());
    }
    let port = port(&http.port, &inside.container)?;
    let host = http.host.clone().unwrap_or_else(|| inside.ip.to_string());
    let path = http.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let headers = http.http_headers.iter().flatten();
    let headers: String = headers.flat_map(|header| [&header.name, ": ", &header.value, "\r\n"]).collect();
    let mut stream = connect(&host, port).await?;
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n{headers}\r\n");
    let failed = |error: std::io::Error| format!("http://{host}:{port}{path}: {error}");
    stream.write_all(ask.as_bytes()).await.map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.map_err(failed)?;
    match line.split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok()) {
        Some(200..400) => Ok(()),
        _ => Err(format!("http://{host}:{port}{path} answers {:?}", line.trim_end())),
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("{host}:{port}: {error}"))
}

/// The number of a port that may be named.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = container.ports.iter().flatten();
            let named = ports.filter(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port).next();
            named.or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("no port {port:?}"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn inside(port: u16) -> Inside {
        let ports = json!([{"name": "web", "containerPort": port}]);
        Inside {
            container: serde_json::from_value(json!({"name": "app", "ports": ports})).unwrap(),
            image: super::super::Image::shell(),
            environment: [("CODE".to_owned(), "7".to_owned())].into(),
            mounts: super::super::invocation::Mounts::default(),
            ip: Ipv4Addr::LOCALHOST,
            directory: std::env::temp_dir(),
            log: "/dev/null".into(),
            groups: std::sync::Arc::default(),
        }
    }

    /// Answers one request with `answer`; returns the request.
    async fn answer_once(listener: TcpListener, answer: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 1000];
        let length = stream.read(&mut asked).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&asked[..length]).into_owned()
    }

    async fn ask(answer: &str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let inside = inside(listener.local_addr().unwrap().port());
        let probe =
            json!({"httpGet": {"port": "web", "path": "/readyz", "httpHeaders": [{"name": "A", "value": "b"}]}});
        let action = Action::of_probe(&serde_json::from_value(probe).unwrap()).unwrap();
        tokio::join!(action.act(&inside), answer_once(listener, answer))
    }

    #[tokio::test]
    async fn an_answer_from_200_to_399_is_good() {
        let (result, asked) = ask("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        assert!(asked.starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
        assert!(asked.ends_with("A: b\r\n\r\n"), "{asked}");
        assert!(ask("HTTP/1.1 503 Service Unavailable\r\n\r\n").await.0.unwrap_err().contains("503"));
        assert!(ask("nonsense").await.0.is_err());
    }

    #[tokio::test]
    async fn a_command_is_good_if_it_ends_well_in_time_with_the_containers_variables() {
        let command = |script: &str| {
            let hook = json!({"exec": {"command": ["sh", "-c", script]}});
            Action::of_hook(&serde_json::from_value(hook).unwrap()).unwrap()
        };
        assert_eq!(command("true").act(&inside(1)).await, Ok(()));
        assert!(command("exit $CODE").act(&inside(1)).await.unwrap_err().contains("exit code 7"));
        let bound = Duration::from_millis(50);
        assert!(command("sleep 600").act_within(bound, &inside(1)).await.unwrap_err().contains("no end after 50ms"));
    }

    #[test]
    fn what_a_probe_does_not_say_is_as_in_kubernetes() {
        let schedule = Schedule::of(&Probe::default());
        assert_eq!((schedule.period.as_secs(), schedule.timeout.as_secs()), (10, 1));
        assert_eq!((schedule.successes, schedule.failures, schedule.initial_delay.as_secs()), (1, 3, 0));
        assert!(Action::of_probe(&serde_json::from_value(json!({"grpc": {"port": 1}})).unwrap()).is_none());
    }
}
