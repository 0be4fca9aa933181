//! What happens of itself, one thing at a time: messages arrive, calls are answered, sidecars do as they are ordered.

use std::time::Duration;

use sluice_operator::slots::{
    Action, Desk, Epoch, Hello, Precondition, ReadResult, Say, StreamOrder, TableVersion, WriteResult,
};
use sluice_sidecar::control::requests::{LAPSE, WRITTEN_WITHIN};
use sluice_sidecar::control::seat::{Grant, Order};

use super::attempts::ms;
use super::sabotage::Sabotage;
use super::world::{
    Call, Connection, Down, IDLE, LEASE_MS, Outcome, RENEWED_WITHIN_MS, Scene, Stream, Term, Up, What, World,
    group_ref, platform_group, slot, stream_id,
};

/// A stream on which nothing comes through is given up after so long.
const KEEPALIVE_MS: u64 = 20_000;

/// Something that happens of itself, sooner or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The API server carries the call of this place out, and its answer arrives.
    Call(usize),
    /// The caller gives up waiting.
    GiveUp(usize),
    /// The first message on the way to the operator, or to the sidecar, arrives on this stream.
    Up(u64),
    Down(u64),
    /// The operator, or the sidecar, learns that the other end of this stream is gone.
    Gone(u64),
    Closed(u64),
    /// The sidecar of this pod has closed the links that it was to leave.
    Vacate(usize),
    /// Having left, it exits.
    Exit(usize),
    /// The kubelet has the object of a pod without processes removed.
    Remove(usize),
    /// The kubelet starts a container again.
    Restart(usize),
    /// A pod is created in the place of one that goes.
    Create(usize),
    /// An operator that has lost the Lease notices.
    Notice(usize),
    /// An operator takes the Lease.
    Elect(usize),
    /// The sidecar of this pod calls this operator.
    Dial(usize, usize),
    /// This attempt reaches the platform.
    Reach(u64),
    /// The sidecar hears that the link of this attempt stands.
    Hear(u64),
}

impl World {
    /// All that can happen, in an order of its own.
    pub(crate) fn steps(&self, scene: &Scene) -> Vec<Step> {
        let mut steps = Vec::new();
        for (place, call) in self.calls.iter().enumerate() {
            let lost = call.held || self.operators[call.operator].deaf;
            if !call.given_up {
                steps.push(if lost { Step::GiveUp(place) } else { Step::Call(place) });
            }
        }
        for stream in &self.streams {
            if stream.held || self.pods[stream.pod].apart {
                continue;
            }
            if stream.served && !stream.up.is_empty() {
                steps.push(Step::Up(stream.id));
            } else if stream.served && !stream.open {
                steps.push(Step::Gone(stream.id));
            }
            if stream.open && !stream.down.is_empty() {
                steps.push(Step::Down(stream.id));
            } else if stream.open && !stream.served {
                steps.push(Step::Closed(stream.id));
            }
        }
        for (number, operator) in self.operators.iter().enumerate() {
            if !scene.without(Sabotage::Lease)
                && operator.term.as_ref().is_some_and(|term| self.now >= term.valid_until)
            {
                steps.push(Step::Notice(number));
            }
        }
        if self.lease.is_none_or(|(_, expires)| self.now >= expires) {
            let free = (0..self.operators.len())
                .filter(|number| !self.operators[*number].deaf && self.operators[*number].term.is_none());
            let former = self.lease.map(|(holder, _)| holder);
            let mut free: Vec<usize> = free.collect();
            free.sort_by_key(|number| Some(*number) == former);
            steps.extend(free.into_iter().map(Step::Elect));
        }
        for (place, pod) in self.pods.iter().enumerate() {
            match &pod.process {
                Some(process) => {
                    let standing = process.seat.standing(self.local());
                    match process.seat.order() {
                        Order::Leave { epoch, .. } if process.left != epoch => steps.push(Step::Vacate(place)),
                        Order::Stay if standing.draining => steps.push(Step::Exit(place)),
                        _ => {}
                    }
                    if process.stream.is_none() && !pod.apart && !standing.draining {
                        let leader = self.leader().map(|(leader, _)| leader);
                        steps.extend(leader.map(|leader| Step::Dial(place, leader)));
                    }
                }
                None if pod.exists && pod.deleting => steps.push(Step::Remove(place)),
                None if pod.exists && !pod.ended && !pod.node_lost => steps.push(Step::Restart(place)),
                None => {}
            }
        }
        let there = self.pods.iter().filter(|pod| pod.exists && !pod.deleting && !pod.ended && !pod.node_lost);
        let of: Vec<usize> = there.map(|pod| pod.group).collect();
        if of.len() < scene.pods && self.pods.len() < scene.most_pods {
            let fewer = usize::from(of.iter().filter(|group| **group == 0).count() > of.len() / 2);
            steps.push(Step::Create(fewer));
        }
        steps.extend(self.on_the_way.iter().map(|attempt| Step::Reach(attempt.id)));
        steps.extend(self.unheard().into_iter().map(Step::Hear));
        steps
    }

    /// It happens.
    pub(crate) fn take(&mut self, scene: &Scene, step: Step) {
        match step {
            Step::Call(place) => {
                self.carry_out(scene, place);
                let call = self.calls.remove(place);
                self.answer(scene, &call);
            }
            Step::GiveUp(place) => self.give_up(scene, place),
            Step::Up(id) => self.arrive_up(scene, id),
            Step::Down(id) => self.arrive_down(scene, id),
            Step::Gone(id) => self.hang_up_operator(scene, id),
            Step::Closed(id) => self.hang_up_sidecar(scene, id),
            Step::Vacate(place) => self.vacate(scene, place),
            Step::Exit(place) => self.kill(scene, place, self.now),
            Step::Remove(place) => {
                self.pods[place].exists = false;
                self.inform(scene, place);
            }
            Step::Restart(place) => {
                self.start_process(place);
                self.settle(scene, place);
            }
            Step::Create(group) => {
                self.create_pod(group);
                self.inform(scene, self.pods.len() - 1);
                self.settle(scene, self.pods.len() - 1);
            }
            Step::Notice(number) => self.end_term(number),
            Step::Elect(number) => self.elect(scene, number),
            Step::Dial(place, operator) => self.dial(scene, place, operator),
            Step::Reach(id) => self.reach(scene, id, self.now),
            Step::Hear(id) => self.hear(scene, id),
        }
        if !scene.batched {
            self.streams.retain(|stream| stream.served || stream.open);
            self.check();
        }
    }

    /// Time passes.
    pub(crate) fn advance(&mut self, scene: &Scene, ms: u64) {
        self.now += ms;
        let now = self.now;
        if let Some((holder, expires)) = self.lease
            && !self.operators[holder].deaf
            && let Some(term) = &mut self.operators[holder].term
            && now < term.valid_until + ms
        {
            self.lease = Some((holder, expires.max(now + LEASE_MS)));
            term.valid_until = now + RENEWED_WITHIN_MS;
        }
        let dying = self.pods.iter().enumerate().filter_map(|(place, pod)| Some((pod.dies_by?, place)));
        let mut dead: Vec<(u64, usize)> = dying.filter(|(by, _)| now >= *by).collect();
        dead.sort_unstable();
        for (by, place) in dead {
            self.end_attempts(scene, by);
            self.kill(scene, place, by);
        }
        self.end_attempts(scene, now);
        self.connections.retain(|held| held.until.is_none_or(|until| now < until));
        while self.attempts.front().is_some_and(|at| now - at >= 120_000) {
            self.attempts.pop_front();
        }
        for place in 0..self.streams.len() {
            let stuck = self.streams[place].held || self.pods[self.streams[place].pod].apart;
            let since = self.streams[place].stuck_since;
            self.streams[place].stuck_since = if stuck { since.or(Some(now - ms)) } else { None };
        }
        let dead: Vec<u64> = self
            .streams
            .iter()
            .filter(|stream| stream.stuck_since.is_some_and(|since| now - since >= KEEPALIVE_MS))
            .map(|stream| stream.id)
            .collect();
        for id in dead {
            self.hang_up_sidecar(scene, id);
            if !scene.without(Sabotage::Reservation) {
                self.hang_up_operator(scene, id);
            }
        }
        self.streams.retain(|stream| stream.served || stream.open);
        for place in 0..self.pods.len() {
            self.settle(scene, place);
        }
        for number in 0..self.operators.len() {
            self.turn(scene, number);
        }
        self.check();
    }

    /// The operator's edge: tells its desk, and carries out what the desk decides.
    pub(crate) fn turn(&mut self, scene: &Scene, number: usize) {
        let time = self.time();
        let members = self.members(scene);
        let operator = &mut self.operators[number];
        let Some(term) = &mut operator.term else { return };
        let valid_until = if scene.without(Sabotage::Lease) { u64::MAX / 2 } else { term.valid_until };
        if !operator.deaf {
            term.desk.set_members(members);
        }
        let term_number = term.number;
        let mut learnt = false;
        for action in term.desk.turn(time, World::time_of(valid_until)) {
            match action {
                Action::Read => self.call(number, term_number, What::Read),
                Action::Write { table, precondition } => {
                    if scene.without(Sabotage::RecordFirst) {
                        self.tell_early(&table);
                    }
                    self.call(number, term_number, What::Write { table, precondition });
                }
                Action::LookUp(pod) => {
                    let place = self.pods.iter().position(|known| known.pod == pod).unwrap();
                    learnt |= self.look_up(scene, number, place);
                }
                Action::Tell(id, say) => {
                    if let (true, Say::Ping { number: ping }) = (scene.without(Sabotage::Reservation), &say) {
                        self.operators[number].term.as_mut().unwrap().desk.pong(id, *ping);
                    }
                    // Without permits nobody cares who is heard.
                    let mute = !scene.permits && matches!(say, Say::Ping { .. } | Say::StandBy(_));
                    if let Some(stream) = self.stream_mut(id.0).filter(|stream| stream.served && !mute) {
                        stream.down.push_back(Down::Say(say));
                    }
                }
            }
        }
        if learnt {
            self.turn(scene, number);
        }
    }

    fn tell_early(&mut self, table: &sluice_operator::slots::Table) {
        let recorded = self.stored.as_ref().map_or(Epoch(1), |(table, _)| table.next_epoch);
        for holder in table.holders.iter().filter(|holder| holder.epoch >= recorded) {
            let place = self.pods.iter().position(|pod| pod.pod == holder.pod).unwrap();
            let (epoch, slots, attempts_alone) = (holder.epoch, holder.slots.clone(), holder.attempts_alone);
            for stream in self.streams.iter_mut().filter(|stream| stream.pod == place && stream.served) {
                stream.down.push_back(Down::Say(Say::Grant { epoch, slots: slots.clone(), attempts_alone }));
            }
        }
    }

    fn call(&mut self, operator: usize, term: u64, what: What) {
        self.calls.push(Call { operator, term, what, outcome: None, held: false, given_up: false });
    }

    /// The API server does what a call asks for.
    pub(crate) fn carry_out(&mut self, scene: &Scene, place: usize) {
        let outcome = match &self.calls[place].what {
            What::Read => Outcome::Read(self.stored.clone()),
            What::Write { table, precondition } => {
                let met = match (precondition, &self.stored) {
                    (Precondition::Absent, None) => true,
                    (Precondition::Version(expected), Some((_, version))) => expected.0 == version.to_string(),
                    _ => false,
                };
                if met || scene.without(Sabotage::Precondition) {
                    self.version += 1;
                    self.stored = Some((table.clone(), self.version));
                    Outcome::Written(self.version)
                } else {
                    Outcome::Conflict
                }
            }
        };
        self.calls[place].outcome = Some(outcome);
    }

    fn answer(&mut self, scene: &Scene, call: &Call) {
        let time = self.time();
        let Some(term) = self.operators[call.operator].term.as_mut().filter(|term| term.number == call.term) else {
            return;
        };
        match call.outcome.clone() {
            Some(Outcome::Read(None)) => term.desk.read(time, ReadResult::Absent),
            Some(Outcome::Read(Some((table, version)))) => {
                // As it would be read from the ConfigMap.
                let table = sluice_operator::slots::Table::parse(&platform_group(), Some(&table.to_json())).unwrap();
                term.desk.read(time, ReadResult::Found(table, TableVersion(version.to_string())));
            }
            Some(Outcome::Written(version)) => {
                term.desk.written(time, WriteResult::Written(TableVersion(version.to_string())));
            }
            Some(Outcome::Conflict) => term.desk.written(time, WriteResult::Conflict),
            None => {}
        }
        self.turn(scene, call.operator);
    }

    /// The caller hears nothing; the call may be carried out all the same, then or later.
    pub(crate) fn give_up(&mut self, scene: &Scene, place: usize) {
        self.calls[place].given_up = true;
        let call = self.calls[place].clone();
        let time = self.time();
        if let Some(term) = self.operators[call.operator].term.as_mut().filter(|term| term.number == call.term) {
            match call.what {
                What::Read => term.desk.read(time, ReadResult::Failed("time-out".into())),
                What::Write { .. } => term.desk.written(time, WriteResult::Unknown("time-out".into())),
            }
        }
        if matches!(call.what, What::Read) || call.outcome.is_some() {
            self.calls.remove(place);
        }
        self.turn(scene, call.operator);
    }

    fn arrive_up(&mut self, scene: &Scene, id: u64) {
        let time = self.time();
        let Some(stream) = self.stream_mut(id).filter(|stream| stream.served) else { return };
        let Some(message) = stream.up.pop_front() else { return };
        let (number, place, of_term) = (stream.operator, stream.pod, stream.term);
        let mut order = StreamOrder { process: stream.process, stream: stream.number };
        let (pod, group) = (self.pods[place].pod.clone(), self.pods[place].group);
        if scene.without(Sabotage::StreamOrder) {
            self.next_stream += 1;
            order = StreamOrder { process: 1, stream: self.next_stream };
        }
        let Some(term) = self.operators[number].term.as_mut().filter(|term| term.number == of_term) else { return };
        match message {
            Up::Hello { attempted_alone, report } => {
                let hello = Hello { pod, consumer_group: group_ref(group), order, attempted_alone, report };
                match term.desk.hello(time, stream_id(id), hello) {
                    Ok(former) => {
                        if let Some(former) = former.and_then(|former| self.stream_mut(former.0)) {
                            former.served = false;
                        }
                        if let Some(stream) = self.stream_mut(id) {
                            stream.down.push_back(Down::Welcome);
                        }
                    }
                    Err(_) => {
                        if let Some(stream) = self.stream_mut(id) {
                            stream.served = false;
                        }
                    }
                }
            }
            Up::Report(report) => term.desk.report(stream_id(id), report),
            Up::Pong(ping) => term.desk.pong(stream_id(id), ping),
            Up::Request { id: request, epoch, slot: index } => {
                term.desk.permit_request(stream_id(id), request, Epoch(epoch), slot(index));
            }
        }
        if !scene.batched {
            self.turn(scene, number);
        }
    }

    fn arrive_down(&mut self, scene: &Scene, id: u64) {
        let (now, local) = (self.now, self.local());
        let Some(stream) = self.stream_mut(id) else { return };
        let (place, process, number) = (stream.pod, stream.process, stream.number);
        let Some(message) = stream.down.pop_front() else { return };
        let Some(heard) =
            self.pods[place].process.as_mut().filter(|heard| heard.number == process && heard.stream == Some(id))
        else {
            return;
        };
        heard.alone.heard(local);
        match message {
            Down::Welcome | Down::Say(Say::StandBy(_)) => {}
            Down::Say(Say::Grant { epoch, slots, attempts_alone }) => {
                let slots = slots.iter().map(|slot| slot.0).collect();
                let grant = Grant { epoch: epoch.0, slots, attempts_alone };
                heard.alone.granted(&grant);
                heard.seat.granted(local, number, grant);
            }
            Down::Say(Say::Yield { epoch, drain }) => heard.seat.yield_up(local, number, epoch.0, drain),
            Down::Say(Say::Permit { id, slot }) => {
                let answered = heard.requests.answered(local, id);
                let late = (slot.0, local + WRITTEN_WITHIN);
                if let Some((asked, until)) = if scene.without(Sabotage::Asking) { Some(late) } else { answered } {
                    assert_eq!(asked, slot.0);
                    heard.asked.remove(&asked);
                    heard.permitted.insert(asked, until.0);
                    heard.alone.signed(asked, local, None);
                }
            }
            Down::Say(Say::RefusePermit { id, retry_after, .. }) => {
                if let Some((asked, _)) = heard.requests.answered(local, id) {
                    heard.asked.remove(&asked);
                }
                heard.ask_again = now + u64::try_from(retry_after.as_millis()).unwrap();
            }
            Down::Say(Say::Ping { number }) => {
                if let Some(stream) = self.stream_mut(id) {
                    stream.up.push_back(Up::Pong(number));
                }
            }
        }
        self.settle(scene, place);
    }

    /// The sidecar's edge: does as its seat orders, and reports what has changed.
    pub(crate) fn settle(&mut self, scene: &Scene, place: usize) {
        let (now, local) = (self.now, self.local());
        let Some(process) = &mut self.pods[place].process else { return };
        process.seat.tick(local);
        for slot in process.requests.lapsed(local) {
            process.asked.remove(&slot);
        }
        process.permitted.retain(|_, until| now < *until);
        if let Order::Use(grant) = process.seat.order() {
            for slot in grant.slots.clone() {
                if !self.is_up(place, slot) {
                    self.connect(scene, place, &grant, slot);
                }
            }
        } else {
            process.permitted.clear();
        }
        let report = self.report(place);
        let Some(process) = &mut self.pods[place].process else { return };
        if let Some(id) = process.stream
            && let Some(stream) = self.stream_mut(id)
            && stream.last != Some(report)
        {
            stream.last = Some(report);
            stream.up.push_back(Up::Report(report));
        }
    }

    fn connect(&mut self, scene: &Scene, place: usize, grant: &Grant, slot: u32) {
        let (now, local) = (self.now, self.local());
        let pod = &mut self.pods[place];
        let Some(process) = pod.process.as_mut().filter(|process| !process.trying.contains_key(&slot)) else { return };
        if !scene.permits {
            if !pod.cut_off && !pod.unable && !self.refuses {
                process.was_up = true;
                self.connections.push(Connection { pod: place, slot, until: None, unheard: None });
            }
        } else if let Some(until) = process.permitted.remove(&slot) {
            self.set_out(scene, place, slot, until + ms(LAPSE) - ms(WRITTEN_WITHIN));
        } else if process.stream.is_none() && process.alone.attempt(local, slot) {
            pod.remembered = process.alone.remembered();
            self.set_out(scene, place, slot, now + ms(LAPSE));
        } else if let Some(id) = process.stream
            && now >= process.ask_again
            && process.asked.insert(slot)
        {
            let request = process.requests.ask(local, slot);
            let message = Up::Request { id: request, epoch: grant.epoch, slot };
            if let Some(stream) = self.stream_mut(id) {
                stream.up.push_back(message);
            }
        }
    }

    fn vacate(&mut self, scene: &Scene, place: usize) {
        let (now, local) = (self.now, self.local());
        self.drop_links(place, now);
        self.drop_attempts(scene, place, now);
        let Some(process) = &mut self.pods[place].process else { return };
        let Some(epoch) = process.seat.held().map(|held| held.epoch) else { return };
        let lingers = if scene.without(Sabotage::Linger) { 0 } else { process.lingers_until.saturating_sub(now) };
        process.left = epoch;
        process.seat.vacated(local, epoch, Duration::from_millis(lingers));
        self.settle(scene, place);
    }

    /// The links of a pod end: at the platform too, if it hears of it.
    pub(crate) fn drop_links(&mut self, place: usize, at: u64) {
        let until = at + ms(IDLE);
        let pod = &mut self.pods[place];
        let links = |held: &Connection| held.pod == place && held.until.is_none() && held.unheard.is_none();
        if pod.cut_off {
            for held in self.connections.iter_mut().filter(|held| links(held)) {
                held.until = Some(until);
                if let Some(process) = &mut pod.process {
                    process.lingers_until = until;
                }
            }
        } else {
            self.connections.retain(|held| !links(held));
        }
    }

    /// The process ends, and with it its sockets.
    pub(crate) fn kill(&mut self, scene: &Scene, place: usize, at: u64) {
        self.drop_links(place, at);
        self.drop_attempts(scene, place, at);
        let pod = &mut self.pods[place];
        pod.process = None;
        pod.dies_by = None;
        for stream in self.streams.iter_mut().filter(|stream| stream.pod == place) {
            stream.open = false;
        }
    }

    pub(crate) fn hang_up_operator(&mut self, scene: &Scene, id: u64) {
        let Some(stream) = self.stream_mut(id).filter(|stream| stream.served) else { return };
        stream.served = false;
        let (number, of_term) = (stream.operator, stream.term);
        if let Some(term) = self.operators[number].term.as_mut().filter(|term| term.number == of_term) {
            term.desk.stream_gone(stream_id(id));
            self.turn(scene, number);
        }
    }

    pub(crate) fn hang_up_sidecar(&mut self, scene: &Scene, id: u64) {
        let Some(stream) = self.stream_mut(id) else { return };
        stream.open = false;
        let place = stream.pod;
        if let Some(process) = self.pods[place].process.as_mut().filter(|process| process.stream == Some(id)) {
            process.stream = None;
            process.requests.clear();
            process.asked.clear();
        }
        self.settle(scene, place);
    }

    pub(crate) fn end_term(&mut self, number: usize) {
        self.operators[number].term = None;
        for stream in self.streams.iter_mut().filter(|stream| stream.operator == number) {
            stream.served = false;
        }
    }

    fn elect(&mut self, scene: &Scene, number: usize) {
        if self.lease.is_some_and(|(_, expires)| self.now < expires) {
            return; // The other one was quicker.
        }
        self.lease = Some((number, self.now + LEASE_MS));
        let since = if scene.without(Sabotage::Silence) { World::time_of(self.now - 100_000) } else { self.time() };
        let desk = Desk::new(platform_group(), since);
        self.version += 1;
        let term = Term { number: self.version, desk, valid_until: self.now + RENEWED_WITHIN_MS };
        self.operators[number].term = Some(term);
        self.tell_of_pods(number);
        self.turn(scene, number);
    }

    fn dial(&mut self, scene: &Scene, place: usize, number: usize) {
        let local = self.local();
        let Some(term) = self.operators[number].term.as_ref().map(|term| term.number) else { return };
        let id = self.next_stream;
        let Some(process) = &mut self.pods[place].process else { return };
        if process.stream.is_some() {
            return;
        }
        self.next_stream += 1;
        process.stream = Some(id);
        let stream_number = process.seat.open_stream();
        let attempted_alone = process.alone.attempted(local) && !scene.without(Sabotage::AttemptedAlone);
        let process = process.number;
        let report = self.report(place);
        self.streams.push(Stream {
            id,
            operator: number,
            term,
            pod: place,
            process,
            number: stream_number,
            up: [Up::Hello { attempted_alone, report }].into(),
            down: std::collections::VecDeque::new(),
            served: true,
            open: true,
            last: Some(report),
            held: false,
            stuck_since: None,
        });
        self.settle(scene, place);
    }
}
