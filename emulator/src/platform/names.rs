//! The names of clients, each kept once: the fate log has a line per event, and a number in each is enough. Clients may
//! come under ever new names, so only the last ones are kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How many names are kept.
const KEPT: usize = 65_536;

/// Stands for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameId(u32);

impl NameId {
    /// Nobody's.
    pub(crate) const NOBODY: Self = Self(u32::MAX);
}

#[derive(Debug, Default)]
pub(super) struct Names {
    first: u32,
    kept: VecDeque<Arc<str>>,
    ids: HashMap<Arc<str>, NameId>,
}

impl Names {
    /// The number of `name`, which is kept from now on.
    pub(super) fn keep(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        if self.kept.len() == KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            self.ids.remove(&oldest);
            self.first = self.first.wrapping_add(1);
        }
        let id = NameId(self.first.wrapping_add(u32::try_from(self.kept.len()).unwrap_or(0)));
        let name: Arc<str> = name.into();
        self.kept.push_back(Arc::clone(&name));
        self.ids.insert(name, id);
        id
    }

    /// The same, for a name that had the number `id` once.
    pub(super) fn renew(&mut self, id: NameId, name: &str) -> NameId {
        if self.get(id).is_some() { id } else { self.keep(name) }
    }

    /// The name, unless it has been forgotten.
    pub(super) fn get(&self, id: NameId) -> Option<&str> {
        let index = usize::try_from(id.0.wrapping_sub(self.first)).ok()?;
        self.kept.get(index).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_old_ones_make_room() {
        let mut names = Names::default();
        let first = names.keep("first");
        assert_eq!(names.keep("first"), first);
        for number in 0..KEPT {
            names.keep(&number.to_string());
        }
        assert_eq!((names.kept.len(), names.ids.len()), (KEPT, KEPT));
        assert_eq!((names.get(first), names.get(NameId::NOBODY)), (None, None));
        let again = names.renew(first, "first");
        assert_eq!(names.get(again), Some("first"));
        assert_eq!(names.renew(again, "first"), again);
    }
}
