//! `RabbitMQ` 3.10 with its AMQP 1.0 plugin, as a server that knows nothing of Sluice: the sidecar's engine against a
//! stranger.
//!
//! The broker runs from a temporary directory, on loopback alone (its Erlang name server and distribution port as well),
//! offers TLS and SASL PLAIN and nothing else, and asks the test's own [`Verifier`] whom to let in.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::certificates::{self, Certificates};
use crate::process::{self, Process};
use crate::tools::{self, RabbitMqFiles};
use crate::verifier::Verifier;
use crate::{ports, python, wait};

/// How long the broker may take to offer TLS: some 5 s on two idle cores.
const START_BOUND: Duration = Duration::from_mins(2);

/// The AccessKey that the broker lets in.
pub const ACCESS_KEY_ID: &str = "testid";
/// Its secret.
pub const ACCESS_KEY_SECRET: &str = "testsecret";

/// A running broker. Dropping it ends it.
#[derive(Debug)]
pub struct RabbitMq {
    // In the order in which they are to end.
    _server: Process,
    _name_server: Process,
    verifier: Verifier,
    certificates: Certificates,
    node: Node,
}

/// A message to publish, of the platform's shape.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Application property `topic`.
    pub topic: String,
    /// Application property `messageId`.
    pub message_id: String,
    /// Application property `generateTime`, in Unix milliseconds.
    pub generate_time: i64,
    /// The bytes of the Data section, in Base64.
    pub payload: String,
}

/// What a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Depth {
    /// Messages that wait for a consumer.
    #[serde(rename = "messages_ready")]
    pub ready: u64,
    /// Messages at a consumer, not settled.
    #[serde(rename = "messages_unacknowledged")]
    pub unsettled: u64,
}

impl RabbitMq {
    /// The broker of this test process: the one that another test still holds, or a new one. It ends with the last test
    /// that holds it. Each test uses a queue of its own.
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<RabbitMq>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broker) = shared.upgrade() {
            return Ok(broker);
        }
        let broker = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&broker);
        Ok(broker)
    }

    /// Starts a broker, and waits until it offers TLS.
    pub fn start() -> Result<Self> {
        let files = tools::ensure_rabbitmq()?;
        let verifier = Verifier::start(ACCESS_KEY_ID, ACCESS_KEY_SECRET)?;
        let certificates = Certificates::generate()?;
        let node = Node::new(files)?;
        node.write_configuration(&certificates, &verifier)?;
        let name_server = Process::spawn("epmd", Command::new(&files.epmd).envs(node.environment()))?;
        let mut command = Command::new(files.home.join("sbin/rabbitmq-server"));
        let mut server = Process::spawn("RabbitMQ", command.envs(node.environment()))?;
        wait_for_tls(&mut server, node.amqps, &certificates.authority()).with_context(|| node.log())?;
        Ok(Self { _server: server, _name_server: name_server, verifier, certificates, node })
    }

    /// The port of AMQP over TLS, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.node.amqps
    }

    /// The certificate to trust.
    pub fn authority(&self) -> PathBuf {
        self.certificates.authority()
    }

    /// Who was let in, and who was not.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The address of a queue for a link. The broker declares the queue when a link first names it.
    pub fn address(queue: &str) -> String {
        format!("/queue/{queue}")
    }

    /// Publishes messages into `queue`, through AMQP 1.0, and waits until the broker has accepted them all.
    pub fn publish(&self, queue: &str, messages: &[Published]) -> Result<()> {
        let lines = messages.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), lines.join("\n"))?;
        let mut command = python::script("proton_sender.py")?;
        command.args(["--host", "127.0.0.1", "--port", &self.port().to_string()]);
        command.arg("--ca").arg(self.authority());
        command.args(["--address", &Self::address(queue)]);
        command.args(["--access-key", ACCESS_KEY_ID, "--secret", ACCESS_KEY_SECRET]);
        command.arg("--messages").arg(file.path());
        process::output_of("the publisher", &mut command)
            .with_context(|| format!("refused: {:?}\n{}", self.verifier.refused(), self.node.log()))?;
        Ok(())
    }

    /// What `queue` holds at this moment.
    pub fn depth(&self, queue: &str) -> Result<Depth> {
        let mut command = Command::new(self.node.files.home.join("sbin/rabbitmqctl"));
        command.envs(self.node.environment());
        command.args(["list_queues", "--silent", "--formatter", "json"]);
        command.args(["name", "messages_ready", "messages_unacknowledged"]);
        let output = process::output_of("rabbitmqctl", &mut command)?;
        let queues: Vec<Queue> =
            serde_json::from_str(&output).with_context(|| format!("rabbitmqctl said: {output}"))?;
        let found = queues.into_iter().find(|found| found.name == queue);
        Ok(found.with_context(|| format!("no queue {queue}"))?.depth)
    }

    /// Waits until `queue` holds this much, for at most `bound`; the last depth seen is in the error.
    pub fn wait_for_depth(&self, queue: &str, wanted: Depth, bound: Duration) -> Result<()> {
        let mut last = Ok(wanted);
        let reached = wait::until(bound, || {
            last = self.depth(queue);
            last.as_ref().is_ok_and(|depth| *depth == wanted).then_some(())
        });
        match reached {
            Some(()) => Ok(()),
            None => bail!("queue {queue} should hold {wanted:?}, and holds {:?}", last?),
        }
    }
}

/// A line of `rabbitmqctl list_queues`.
#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    #[serde(flatten)]
    depth: Depth,
}

/// A node of its own: its files and its ports.
#[derive(Debug)]
struct Node {
    files: &'static RabbitMqFiles,
    directory: TempDir,
    amqps: u16,
    name_server: u16,
    distribution: u16,
}

impl Node {
    fn new(files: &'static RabbitMqFiles) -> Result<Self> {
        Ok(Self {
            files,
            directory: tempfile::tempdir()?,
            amqps: ports::free()?,
            name_server: ports::free()?,
            distribution: ports::free()?,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `rabbitmq.conf`, and the plugins to load.
    fn write_configuration(&self, certificates: &Certificates, verifier: &Verifier) -> Result<()> {
        let verifier = verifier.port();
        let configuration = format!(
            "listeners.tcp = none\n\
             listeners.ssl.1 = 127.0.0.1:{amqps}\n\
             ssl_options.certfile = {certificate}\n\
             ssl_options.keyfile = {key}\n\
             ssl_options.verify = verify_none\n\
             auth_mechanisms.1 = PLAIN\n\
             auth_backends.1 = http\n\
             auth_http.http_method = post\n\
             auth_http.user_path = http://127.0.0.1:{verifier}/user\n\
             auth_http.vhost_path = http://127.0.0.1:{verifier}/vhost\n\
             auth_http.resource_path = http://127.0.0.1:{verifier}/resource\n\
             auth_http.topic_path = http://127.0.0.1:{verifier}/topic\n\
             log.console = false\n\
             log.file = {log}\n",
            amqps = self.amqps,
            certificate = certificates.certificate().display(),
            key = certificates.key().display(),
            log = self.path("broker.log").display(),
        );
        fs::write(self.path("rabbitmq.conf"), configuration)?;
        fs::write(self.path("enabled_plugins"), "[rabbitmq_amqp1_0,rabbitmq_auth_backend_http].\n")?;
        Ok(())
    }

    /// The environment of every program of this node. Nothing of the machine's own broker, if it has one, is in it.
    fn environment(&self) -> Vec<(&'static str, String)> {
        // The test starts the name server itself, on loopback, and ends it itself.
        let loopback = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}".to_owned();
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.files.erlang.display())),
            ("LD_LIBRARY_PATH", self.files.libraries.display().to_string()),
            // The Erlang cookie is made here.
            ("HOME", text(self.directory.path().to_owned())),
            ("ERL_CRASH_DUMP", text(self.path("erl_crash.dump"))),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("ERL_EPMD_PORT", self.name_server.to_string()),
            ("RABBITMQ_NODENAME", format!("sluice-{}@127.0.0.1", self.amqps)),
            ("RABBITMQ_USE_LONGNAME", "true".to_owned()),
            ("RABBITMQ_DIST_PORT", self.distribution.to_string()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.clone()),
            ("RABBITMQ_CTL_ERL_ARGS", loopback),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_CONFIG_FILE", text(self.path("rabbitmq.conf"))),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", text(self.path("enabled_plugins"))),
            ("RABBITMQ_PLUGINS_DIR", text(self.files.home.join("plugins"))),
            ("RABBITMQ_MNESIA_BASE", text(self.path("mnesia"))),
            ("RABBITMQ_LOG_BASE", text(self.path("log"))),
            // Makes the start script become the broker instead of its parent, so that the handle is the broker's.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
        ]
    }

    /// The end of the broker's log.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.path("broker.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Waits until a TLS handshake with the broker succeeds.
fn wait_for_tls(server: &mut Process, port: u16, authority: &Path) -> Result<()> {
    let config = certificates::client_config(authority)?;
    let mut last = None;
    let ready = wait::until(START_BOUND, || {
        let attempt = server.check_alive().and_then(|()| handshake(&config, port));
        last = attempt.err();
        (last.is_none() || server.check_alive().is_err()).then_some(())
    });
    match last {
        None => Ok(()),
        Some(error) if ready.is_some() => Err(error),
        Some(error) => Err(error.context(format!("RabbitMQ offers no TLS after {START_BOUND:?}"))),
    }
}

fn handshake(config: &Arc<ClientConfig>, port: u16) -> Result<()> {
    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    tcp.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    Ok(())
}
