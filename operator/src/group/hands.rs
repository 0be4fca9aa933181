//! What is in hand: tasks that run at once, each known by a key. A task that panics is a bug, and comes back like any other:
//! its key must not stay in hand for ever.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinSet};

/// Tasks that run. Dropped, they stop where they stand.
#[derive(Debug)]
pub struct Hands<K, T> {
    running: JoinSet<T>,
    keys: HashMap<Id, K>,
}

/// Nothing runs.
impl<K, T> Default for Hands<K, T> {
    fn default() -> Self {
        Self { running: JoinSet::new(), keys: HashMap::new() }
    }
}

impl<K, T: Send + 'static> Hands<K, T> {
    /// Has a task run.
    pub fn take_up(&mut self, key: K, task: impl Future<Output = T> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.keys.insert(id, key);
    }

    /// The next task that has ended, and what came of it: `None` if it panicked. Completes with `None` if nothing runs.
    /// Nothing is lost if this is dropped before.
    pub async fn ended(&mut self) -> Option<(K, Option<T>)> {
        loop {
            let (id, result) = match self.running.join_next_with_id().await? {
                Ok((id, result)) => (id, Some(result)),
                Err(error) => (error.id(), None),
            };
            if let Some(key) = self.keys.remove(&id) {
                return Some((key, result));
            }
        }
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_given_back_like_the_others() {
        let mut hands = Hands::default();
        for key in 0..20_u8 {
            hands.take_up(key, async move {
                assert!(key % 3 > 0, "a panic that this test wants");
                key
            });
        }
        let mut ended = Vec::new();
        while let Some((key, result)) = hands.ended().await {
            assert_eq!(result, (key % 3 > 0).then_some(key));
            ended.push(key);
        }
        ended.sort_unstable();
        assert_eq!((ended, hands.len()), ((0..20).collect(), 0));
    }
}
