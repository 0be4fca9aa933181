//! What can go wrong, and what people do.

use super::steps::Step;
use super::world::{Scene, What, World};

/// Something that does not happen of itself. Mending is free; everything else counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// The operator process dies; another is started in its place.
    CrashOperator(usize),
    /// It is cut off from the API server; or not any more.
    Deafen(usize),
    Undeafen(usize),
    /// Its watch of pods falls silent; or all pods are listed anew, and it goes on.
    Blind(usize),
    Sighted(usize),
    /// A list that is old, or a label taken off and put on again: one of the pods is not shown although it is there.
    Overlook(usize, usize),
    /// This call stays on the way, and is given up. Of a write nobody knows whether it will be carried out.
    HoldCall(usize),
    /// It is carried out, and the answer is lost.
    LoseAnswer(usize),
    /// A call that was given up is carried out after all.
    Release(usize),
    /// What is on the way on this stream stays there; or goes on.
    HoldStream(u64),
    ReleaseStream(u64),
    /// The sidecar gives its stream up, while the operator still has it.
    DropStream(u64),
    /// The sidecar's process dies; the container is started again.
    Crash(usize),
    /// It dies, and the pod ends.
    End(usize),
    /// The pod is deleted, and has time to end in order.
    Delete(usize),
    /// It is deleted by force: the object is gone, and the kubelet kills the process soon.
    ForceDelete(usize),
    /// Its node is declared lost.
    LoseNode(usize),
    /// It is cut off from the platform; or not any more.
    CutOff(usize),
    Rejoin(usize),
    /// It is cut off from the operators; or not any more.
    Part(usize),
    Reunite(usize),
    /// Its application detaches; or attaches.
    Detach(usize),
    Attach(usize),
    /// A sidecar calls an operator that does not lead any more.
    DialOther(usize, usize),
    /// One slot less; or one more.
    Lower,
    Raise,
    /// The ConsumerGroup's workload is rolled out: this pod is of the new revision when it is created.
    RollOut(usize),
    /// The platform refuses everybody; or nobody.
    Refuse,
    Accept,
}

impl Fault {
    /// It only ends what another one began.
    pub(crate) fn mends(self) -> bool {
        matches!(
            self,
            Self::Undeafen(_)
                | Self::Sighted(_)
                | Self::ReleaseStream(_)
                | Self::Release(_)
                | Self::Rejoin(_)
                | Self::Reunite(_)
                | Self::Attach(_)
                | Self::Raise
                | Self::Accept
        )
    }
}

impl World {
    /// All that could go wrong now.
    pub(crate) fn faults(&self, scene: &Scene) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (number, operator) in self.operators.iter().enumerate() {
            if operator.term.is_some() {
                faults.push(Fault::CrashOperator(number));
                faults.push(if operator.deaf { Fault::Undeafen(number) } else { Fault::Deafen(number) });
            } else if operator.deaf {
                faults.push(Fault::Undeafen(number));
            }
            if scene.watches && operator.blind {
                faults.push(Fault::Sighted(number));
            } else if scene.watches && operator.term.is_some() && !operator.deaf {
                faults.push(Fault::Blind(number));
                let there = operator.pods.keys().filter(|place| self.pods[**place].exists);
                faults.extend(there.map(|place| Fault::Overlook(number, *place)));
            }
        }
        for (place, call) in self.calls.iter().enumerate() {
            if call.given_up {
                faults.push(Fault::Release(place));
            } else if !call.held && matches!(call.what, What::Write { .. }) {
                faults.extend([Fault::HoldCall(place), Fault::LoseAnswer(place)]);
            }
        }
        for stream in &self.streams {
            if stream.held {
                faults.push(Fault::ReleaseStream(stream.id));
            } else if !(stream.up.is_empty() && stream.down.is_empty()) {
                faults.push(Fault::HoldStream(stream.id));
            }
            if stream.open {
                faults.push(Fault::DropStream(stream.id));
            }
        }
        for (place, pod) in self.pods.iter().enumerate() {
            if let Some(process) = &pod.process {
                faults.extend([Fault::Crash(place), Fault::End(place)]);
                faults.push(if pod.apart { Fault::Reunite(place) } else { Fault::Part(place) });
                faults.push(if pod.cut_off { Fault::Rejoin(place) } else { Fault::CutOff(place) });
                faults.push(if pod.attended { Fault::Detach(place) } else { Fault::Attach(place) });
                if process.stream.is_none() && !pod.apart {
                    let others = (0..self.operators.len()).filter(|number| {
                        self.operators[*number].term.is_some()
                            && self.leader().is_none_or(|(leader, _)| leader != *number)
                    });
                    faults.extend(others.map(|number| Fault::DialOther(place, number)));
                }
                if pod.exists && !pod.deleting && !pod.node_lost {
                    faults.push(Fault::LoseNode(place));
                }
            }
            if pod.exists && !pod.deleting {
                faults.extend([Fault::Delete(place), Fault::ForceDelete(place)]);
            }
        }
        faults.push(if self.slots < scene.slots { Fault::Raise } else { Fault::Lower });
        if scene.permits {
            faults.push(if self.refuses { Fault::Accept } else { Fault::Refuse });
        }
        faults
    }

    /// It happens.
    pub(crate) fn suffer(&mut self, scene: &Scene, fault: Fault) {
        match fault {
            Fault::CrashOperator(number) => {
                self.end_term(number);
                self.operators[number].blind = false;
                self.operators[number].pods.clear();
                self.list(scene, number);
            }
            Fault::Deafen(number) => self.operators[number].deaf = true,
            Fault::Undeafen(number) => {
                self.operators[number].deaf = false;
                self.list(scene, number);
                self.turn(scene, number);
            }
            Fault::Blind(number) => self.operators[number].blind = true,
            Fault::Sighted(number) => {
                self.operators[number].blind = false;
                self.list(scene, number);
            }
            Fault::Overlook(number, place) => self.miss(scene, number, place),
            Fault::HoldCall(place) => self.calls[place].held = true,
            Fault::LoseAnswer(place) => {
                self.carry_out(scene, place);
                self.give_up(scene, place);
            }
            Fault::Release(place) => {
                self.carry_out(scene, place);
                self.calls.remove(place);
            }
            Fault::HoldStream(id) => self.hold(id, true),
            Fault::ReleaseStream(id) => self.hold(id, false),
            Fault::DropStream(id) => self.hang_up_sidecar(scene, id),
            Fault::Crash(place) => self.kill(scene, place, self.now),
            Fault::End(place) => {
                self.kill(scene, place, self.now);
                self.pods[place].ended = true;
                self.inform(scene, place);
            }
            Fault::Delete(place) => {
                self.pods[place].deleting = true;
                if let Some(process) = &mut self.pods[place].process {
                    process.seat.drain();
                }
                self.inform(scene, place);
                self.settle(scene, place);
            }
            Fault::ForceDelete(place) => {
                self.pods[place].exists = false;
                self.pods[place].dies_by = Some(self.now + 10_000);
                self.inform(scene, place);
            }
            Fault::LoseNode(place) => {
                self.pods[place].node_lost = true;
                self.pods[place].dies_by = Some(self.now + 10_000);
                self.inform(scene, place);
            }
            Fault::CutOff(place) => {
                self.pods[place].cut_off = true;
                self.drop_links(place, self.now);
                self.settle(scene, place);
            }
            Fault::Rejoin(place) => {
                self.pods[place].cut_off = false;
                self.settle(scene, place);
            }
            Fault::Part(place) => self.pods[place].apart = true,
            Fault::Reunite(place) => self.pods[place].apart = false,
            Fault::Detach(place) | Fault::Attach(place) => {
                let local = self.local();
                let attended = matches!(fault, Fault::Attach(_));
                self.pods[place].attended = attended;
                if let Some(process) = &mut self.pods[place].process {
                    process.seat.application(local, attended);
                }
                self.settle(scene, place);
            }
            Fault::DialOther(place, number) => self.take(scene, Step::Dial(place, number)),
            Fault::Lower => {
                self.slots_before = self.slots_before.max(self.slots);
                self.slots -= 1;
            }
            Fault::Raise => self.slots += 1,
            Fault::RollOut(group) => self.newest[group] += 1,
            Fault::Refuse => {
                self.refuses = true;
                self.connections.clear();
                for place in 0..self.pods.len() {
                    self.settle(scene, place);
                }
            }
            Fault::Accept => self.refuses = false,
        }
        // One that is deaf has not heard of the new limit.
        let all_know = self.operators.iter().all(|operator| !operator.deaf);
        if all_know && self.granted() <= usize::try_from(self.slots).unwrap() {
            self.slots_before = self.slots;
        }
        for number in 0..self.operators.len() {
            self.turn(scene, number);
        }
        self.streams.retain(|stream| stream.served || stream.open);
        self.check();
    }

    fn hold(&mut self, id: u64, held: bool) {
        if let Some(stream) = self.stream_mut(id) {
            stream.held = held;
        }
    }
}
