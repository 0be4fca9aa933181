//! What operators hear of pods: a watch tells of what changes and may fall silent until the next list, a list may be old,
//! and a pod that is looked up is told of as it is.

use super::sabotage::Sabotage;
use super::world::{Scene, World};

impl World {
    /// Kubernetes has something new to tell of this pod.
    pub(crate) fn inform(&mut self, scene: &Scene, place: usize) {
        for number in 0..self.operators.len() {
            self.inform_one(scene, number, place);
            self.turn(scene, number);
        }
    }

    /// All pods are listed: what was missed is learnt.
    pub(crate) fn list(&mut self, scene: &Scene, number: usize) {
        for place in 0..self.pods.len() {
            self.inform_one(scene, number, place);
        }
    }

    fn inform_one(&mut self, scene: &Scene, number: usize, place: usize) {
        if self.operators[number].deaf || self.operators[number].blind {
            return;
        }
        if !self.pods[place].exists {
            self.miss(scene, number, place);
            return;
        }
        let (uid, facts) = (self.pods[place].pod.uid.clone(), self.facts(place));
        let operator = &mut self.operators[number];
        operator.pods.insert(place, facts.clone());
        if let Some(term) = &mut operator.term {
            term.desk.pod_seen(&uid, facts);
        }
    }

    /// The pod is not among those that Kubernetes tells of, or not any more.
    pub(crate) fn miss(&mut self, scene: &Scene, number: usize, place: usize) {
        let uid = self.pods[place].pod.uid.clone();
        let operator = &mut self.operators[number];
        if operator.pods.remove(&place).is_some()
            && let Some(term) = &mut operator.term
        {
            if scene.without(Sabotage::Absence) {
                term.desk.pod_gone(&uid);
            } else {
                term.desk.pod_absent(&uid);
            }
        }
    }

    /// Asks the API server for one pod. Says whether it has answered.
    pub(crate) fn look_up(&mut self, scene: &Scene, number: usize, place: usize) -> bool {
        let (uid, facts, exists) = (self.pods[place].pod.uid.clone(), self.facts(place), self.pods[place].exists);
        let operator = &mut self.operators[number];
        let Some(term) = operator.term.as_mut().filter(|_| !operator.deaf && !scene.without(Sabotage::LookUp)) else {
            return false;
        };
        if exists {
            term.desk.pod_seen(&uid, facts);
        } else {
            term.desk.pod_gone(&uid);
        }
        true
    }

    /// A desk that is new is told of the pods that its operator knows.
    pub(crate) fn tell_of_pods(&mut self, number: usize) {
        let operator = &mut self.operators[number];
        let Some(term) = &mut operator.term else { return };
        for (place, facts) in &operator.pods {
            term.desk.pod_seen(&self.pods[*place].pod.uid, facts.clone());
        }
    }
}
