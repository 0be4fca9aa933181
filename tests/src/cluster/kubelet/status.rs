//! What the kubelet reports of a pod: pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::container::{Phase, Role, State, Termination};
use super::sources::HOST_IP;

/// One container, as it is at a moment.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) role: Role,
    pub(super) state: State,
}

impl View {
    fn has_completed(&self) -> bool {
        matches!(&self.state.phase, Phase::Terminated(end) if end.code == 0)
    }

    /// Whether the next init container may start.
    fn is_initialized(&self) -> bool {
        match self.role {
            Role::Init => self.has_completed(),
            Role::Sidecar => self.state.started || matches!(self.state.phase, Phase::Terminated(_)),
            Role::App => true,
        }
    }
}

/// When each condition came to be as it is.
pub(super) type Since = BTreeMap<String, (bool, Timestamp)>;

/// The status of a pod. `terminal` is set when nothing of it will run again; `since` is carried from one call to the
/// next.
pub(super) fn pod_status(
    pod: &Pod,
    views: &[View],
    ip: Ipv4Addr,
    begun: Timestamp,
    terminal: bool,
    since: &mut Since,
    now: Timestamp,
) -> PodStatus {
    let initialized = views.iter().all(View::is_initialized);
    let containers_ready = views.iter().filter(|view| view.role != Role::Init).all(|view| view.state.ready);
    let ready = containers_ready && gates_open(pod);
    let mut condition = |type_: &str, holds: bool, reason: &str, message: String| {
        let entry = since.entry(type_.to_owned()).or_insert((holds, now));
        if entry.0 != holds {
            *entry = (holds, now);
        }
        PodCondition {
            type_: type_.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            reason: (!holds).then(|| reason.to_owned()),
            message: (!holds).then_some(message),
            last_transition_time: Some(Time(entry.1)),
            ..PodCondition::default()
        }
    };
    let unready = || {
        let names = views.iter().filter(|view| view.role != Role::Init && !view.state.ready);
        format!("containers with unready status: {:?}", names.map(|view| view.name.as_str()).collect::<Vec<_>>())
    };
    let conditions = vec![
        condition("PodReadyToStartContainers", true, "", String::new()),
        condition(
            "Initialized",
            initialized,
            "ContainersNotInitialized",
            "init containers have not finished".to_owned(),
        ),
        condition("ContainersReady", containers_ready, "ContainersNotReady", unready()),
        condition(
            "Ready",
            ready,
            if containers_ready { "ReadinessGatesNotReady" } else { "ContainersNotReady" },
            unready(),
        ),
    ];
    let statuses = |init: bool| {
        let of_kind = views.iter().filter(|view| (view.role != Role::App) == init);
        Some(of_kind.map(container_status).collect::<Vec<_>>()).filter(|statuses| !statuses.is_empty())
    };
    PodStatus {
        phase: Some(phase(views, terminal, initialized).to_owned()),
        conditions: Some(conditions),
        container_statuses: statuses(false),
        init_container_statuses: statuses(true),
        host_ip: Some(HOST_IP.to_string()),
        host_ips: Some(vec![HostIP { ip: HOST_IP.to_string() }]),
        pod_ip: Some(ip.to_string()),
        pod_ips: Some(vec![PodIP { ip: ip.to_string() }]),
        start_time: Some(Time(begun)),
        ..PodStatus::default()
    }
}

/// The status as a strategic merge patch. Conditions are merged field by field: what a condition has no more must be
/// said.
pub(super) fn patch(status: &PodStatus) -> serde_json::Result<Value> {
    let mut patch = serde_json::to_value(status)?;
    for condition in patch["conditions"].as_array_mut().into_iter().flatten() {
        for field in ["reason", "message"] {
            // Indexing adds what is not there, as null.
            let _ = &mut condition[field];
        }
    }
    Ok(patch)
}

fn phase(views: &[View], terminal: bool, initialized: bool) -> &'static str {
    // How sidecars end says nothing of the pod.
    let failed = |view: &View| view.role != Role::Sidecar && !view.has_completed();
    let begun = |view: &View| view.role == Role::App && !matches!(view.state.phase, Phase::Waiting { .. });
    if terminal {
        if views.iter().any(failed) { "Failed" } else { "Succeeded" }
    } else if initialized && (views.iter().any(begun) || views.iter().any(|view| view.state.restarts > 0)) {
        "Running"
    } else {
        "Pending"
    }
}

/// Whether all readiness gates of a pod are open.
fn gates_open(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let holds = |wanted: &str| {
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|condition| condition.type_ == wanted && condition.status == "True")
    };
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    gates.into_iter().all(|gate| holds(&gate.condition_type))
}

fn container_status(view: &View) -> ContainerStatus {
    let State { phase, last, started, ready, restarts } = &view.state;
    let id = match phase {
        Phase::Running { id, .. } => Some(id.clone()),
        Phase::Terminated(end) => Some(end.id.clone()),
        Phase::Waiting { .. } => last.as_ref().map(|end| end.id.clone()),
    };
    let last = last.as_ref().filter(|_| !matches!(phase, Phase::Terminated(_)));
    ContainerStatus {
        name: view.name.clone(),
        image: view.image.clone(),
        // Kubernetes wants one; there is nothing to name but the image.
        image_id: view.image.clone(),
        container_id: id,
        ready: *ready,
        started: Some(*started),
        restart_count: *restarts,
        state: Some(container_state(phase)),
        last_state: last.map(|end| ContainerState { terminated: Some(terminated(end)), ..ContainerState::default() }),
        ..ContainerStatus::default()
    }
}

fn container_state(phase: &Phase) -> ContainerState {
    let mut state = ContainerState::default();
    match phase {
        Phase::Waiting { reason, message } => {
            let message = Some(message.clone()).filter(|message| !message.is_empty());
            state.waiting = Some(ContainerStateWaiting { reason: Some((*reason).to_owned()), message });
        }
        Phase::Running { since, .. } => {
            state.running = Some(ContainerStateRunning { started_at: Some(Time(*since)) });
        }
        Phase::Terminated(end) => state.terminated = Some(terminated(end)),
    }
    state
}

fn terminated(end: &Termination) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: end.code,
        reason: Some(if end.code == 0 { "Completed" } else { "Error" }.to_owned()),
        started_at: Some(Time(end.started)),
        finished_at: Some(Time(end.finished)),
        container_id: Some(end.id.clone()),
        ..ContainerStateTerminated::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(127, 20, 0, 1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn view(role: Role, phase: Phase, ready: bool) -> View {
        let started = matches!(phase, Phase::Running { .. });
        let state = State { phase, last: None, started, ready, restarts: 0 };
        View { name: format!("{role:?}").to_lowercase(), image: "app".to_owned(), role, state }
    }

    fn waiting() -> Phase {
        Phase::Waiting { reason: "PodInitializing", message: String::new() }
    }

    fn running() -> Phase {
        Phase::Running { since: at(1), id: "process://1".to_owned() }
    }

    fn ended(code: i32) -> Phase {
        Phase::Terminated(Termination { code, started: at(1), finished: at(2), id: "process://1".to_owned() })
    }

    fn status(views: &[View], terminal: bool, since: &mut Since, now: i64) -> PodStatus {
        pod_status(&Pod::default(), views, IP, at(0), terminal, since, at(now))
    }

    fn condition<'a>(status: &'a PodStatus, type_: &str) -> &'a PodCondition {
        status.conditions.as_ref().unwrap().iter().find(|condition| condition.type_ == type_).unwrap()
    }

    fn phase_of(views: &[View], terminal: bool) -> String {
        status(views, terminal, &mut Since::new(), 1).phase.unwrap()
    }

    #[test]
    fn a_pod_goes_from_pending_to_running_to_its_end() {
        use Role::{App, Init, Sidecar};
        let sidecar = |phase| view(Sidecar, phase, true);
        assert_eq!(phase_of(&[view(Init, running(), false), view(App, waiting(), false)], false), "Pending");
        assert_eq!(phase_of(&[sidecar(running()), view(App, waiting(), false)], false), "Pending");
        assert_eq!(phase_of(&[sidecar(running()), view(App, running(), false)], false), "Running");
        assert_eq!(phase_of(&[sidecar(ended(137)), view(App, ended(0), false)], true), "Succeeded");
        assert_eq!(phase_of(&[sidecar(ended(0)), view(App, ended(143), false)], true), "Failed");
        assert_eq!(phase_of(&[view(Init, ended(1), false), view(App, waiting(), false)], true), "Failed");
    }

    #[test]
    fn a_pod_is_ready_when_its_containers_and_sidecars_are() {
        let mut since = Since::new();
        let ready = |app, sidecar| [view(Role::Sidecar, running(), sidecar), view(Role::App, running(), app)];
        let first = status(&ready(true, false), false, &mut since, 10);
        assert_eq!(condition(&first, "Ready").status, "False");
        assert!(condition(&first, "Ready").message.as_ref().unwrap().contains("sidecar"));
        let second = status(&ready(true, true), false, &mut since, 20);
        let third = status(&ready(true, true), false, &mut since, 30);
        assert_eq!(condition(&second, "Ready").status, "True");
        assert_eq!(condition(&third, "Ready").last_transition_time, Some(Time(at(20))), "no change, no transition");
    }

    #[test]
    fn a_condition_that_holds_again_loses_its_reason_in_the_patch() {
        let views = [view(Role::App, running(), true)];
        let patch = patch(&status(&views, false, &mut Since::new(), 1)).unwrap();
        let ready = patch["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Ready").unwrap();
        assert!(ready["status"] == "True" && ready["reason"].is_null() && ready.get("reason").is_some(), "{ready}");
    }

    #[test]
    fn a_restarted_container_shows_how_it_ended_before() {
        let mut restarted = view(Role::App, running(), true);
        let Phase::Terminated(end) = ended(3) else { unreachable!() };
        restarted.state.last = Some(end);
        restarted.state.restarts = 1;
        let status = container_status(&restarted);
        assert_eq!(status.restart_count, 1);
        assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 3);
        assert!(status.state.unwrap().running.is_some());
    }
}
