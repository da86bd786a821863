//! What a watch has shown of its objects, reduced to what matters here: most events change nothing of that.

use std::collections::BTreeMap;
use std::mem::take;

use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// The objects of a watch by their names.
pub(super) struct Seen<T> {
    /// `None` before the first list is complete.
    known: Option<BTreeMap<String, T>>,
    /// Those of a list that is not complete yet.
    listed: BTreeMap<String, T>,
}

impl<T: PartialEq> Seen<T> {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { known: None, listed: BTreeMap::new() }
    }

    /// The objects, once a list was complete.
    pub(super) fn known(&self) -> Option<&BTreeMap<String, T>> {
        self.known.as_ref()
    }

    /// Takes in an event; whether something that matters is different now. `reduce` says what matters of an object.
    pub(super) fn take<K: ResourceExt>(&mut self, event: Event<K>, reduce: impl Fn(&K) -> T) -> bool {
        match (event, &mut self.known) {
            (Event::Init, _) => {
                self.listed.clear();
                false
            }
            (Event::InitApply(object), _) => {
                self.listed.insert(object.name_any(), reduce(&object));
                false
            }
            (Event::InitDone, _) => {
                let listed = Some(take(&mut self.listed));
                let is_different = self.known != listed;
                self.known = listed;
                is_different
            }
            (Event::Apply(object), Some(known)) => {
                let (name, reduced) = (object.name_any(), reduce(&object));
                let is_different = known.get(&name) != Some(&reduced);
                known.insert(name, reduced);
                is_different
            }
            (Event::Delete(object), Some(known)) => known.remove(&object.name_any()).is_some(),
            // Never before the first list.
            (Event::Apply(_) | Event::Delete(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    fn node(name: &str, label: &str, heartbeat: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node.metadata.labels = Some([("label".to_owned(), label.to_owned())].into());
        node.metadata.resource_version = Some(heartbeat.to_owned());
        node
    }

    #[test]
    fn only_what_matters_makes_a_difference_and_a_list_counts_once_it_is_complete() {
        let mut seen = Seen::new();
        let mut take = |event| {
            let is_different = seen.take(event, |node: &Node| node.labels()["label"].clone());
            (is_different, seen.known().map(|known| known.values().cloned().collect::<Vec<_>>().join(" ")))
        };
        let known = |labels: &str| Some(labels.to_owned());
        assert_eq!(take(Event::Init), (false, None));
        assert_eq!(take(Event::InitApply(node("a", "one", "1"))), (false, None));
        assert_eq!(take(Event::InitDone), (true, known("one")));
        assert_eq!(take(Event::Apply(node("a", "one", "2"))), (false, known("one")), "a heartbeat");
        assert_eq!(take(Event::Apply(node("a", "two", "3"))), (true, known("two")));
        assert_eq!(take(Event::Apply(node("b", "one", "4"))), (true, known("two one")));
        // The watch begins anew, and what is missing then is gone.
        assert_eq!(take(Event::Init), (false, known("two one")));
        assert_eq!(take(Event::InitApply(node("a", "two", "3"))), (false, known("two one")));
        assert_eq!(take(Event::InitApply(node("b", "one", "4"))), (false, known("two one")));
        assert_eq!(take(Event::InitDone), (false, known("two one")), "nothing has changed");
        assert_eq!(take(Event::Init), (false, known("two one")));
        assert_eq!(take(Event::InitApply(node("b", "one", "5"))), (false, known("two one")));
        assert_eq!(take(Event::InitDone), (true, known("one")));
        assert_eq!(take(Event::Delete(node("b", "one", "6"))), (true, known("")));
        assert_eq!(take(Event::Delete(node("b", "one", "6"))), (false, known("")));
    }
}
