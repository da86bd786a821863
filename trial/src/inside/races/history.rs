//! Whether there is an order of the calls on one volume, each at some moment between its begin and its end, in
//! which every answer is legal (linearizability; the search of Wing and Gong, as sets of states).

use std::collections::BTreeSet;
use std::collections::HashSet;

use crate::inside::kind::Kind;
use crate::inside::races::model::family::{Of, SOURCES};
use crate::inside::races::model::{Answer, Call, State, after};

/// A call with its answer; begin and end count on one clock.
#[derive(Debug, Clone)]
pub struct Event {
    pub begin: u64,
    pub end: u64,
    pub call: Call,
    pub answer: Answer,
}

/// A way in which it can have been so far: the state, and the running calls that took effect already.
type Way = (State, BTreeSet<usize>);

/// The illegal answers. After each the search goes on as if that call had not been.
pub fn illegal(kind: Kind, events: &[Event]) -> Vec<String> {
    let mut problems = busy_for_nothing(events);
    let tells = |event: &&Event| !is_busy(event) && (kind.is_thin() || !is_held_by_copy(event, events));
    let events: Vec<&Event> = events.iter().filter(tells).collect();
    let mut moments: Vec<(u64, usize, bool)> = Vec::new();
    for (index, event) in events.iter().enumerate() {
        moments.push((event.begin, index, true));
        moments.push((event.end, index, false));
    }
    moments.sort_unstable();
    let mut running: BTreeSet<usize> = BTreeSet::new();
    let mut ways: HashSet<Way> = HashSet::from([(State::default(), BTreeSet::new())]);
    for (_, index, is_begin) in moments {
        if is_begin {
            running.insert(index);
            continue;
        }
        let reached = closure(kind, &events, &running, &ways);
        let mut next: HashSet<Way> = reached.into_iter().filter(|(_, done)| done.contains(&index)).collect();
        if next.is_empty() {
            let states: HashSet<&State> = ways.iter().map(|(state, _)| state).collect();
            let others: Vec<_> = running
                .iter()
                .filter(|other| **other != index)
                .map(|other| (events[*other].call, events[*other].answer))
                .collect();
            problems.push(format!(
                "{:?} was answered with {:?}; before it could be {states:?}; at the same time there were {others:?}; \
                 before there were {:?}",
                events[index].call,
                events[index].answer,
                before(&events, events[index].begin)
            ));
            next = ways;
        }
        ways = next
            .into_iter()
            .map(|(state, mut done)| {
                done.remove(&index);
                (state, done)
            })
            .collect();
        running.remove(&index);
    }
    problems
}

/// The last calls that had ended by then and changed something, the latest first.
fn before(events: &[&Event], begin: u64) -> Vec<(Call, Answer)> {
    let mut ended: Vec<_> = events.iter().filter(|event| event.end < begin && !is_inert(event)).collect();
    ended.sort_by_key(|event| u64::MAX - event.end);
    ended.iter().take(5).map(|event| (event.call, event.answer)).collect()
}

/// All that can be, if any of the running calls took effect in any order.
fn closure(kind: Kind, events: &[&Event], running: &BTreeSet<usize>, ways: &HashSet<Way>) -> HashSet<Way> {
    let mut reached: HashSet<Way> = HashSet::new();
    let mut open: Vec<Way> = ways.iter().cloned().collect();
    while let Some((state, mut done)) = open.pop() {
        let mut changing = Vec::new();
        for index in running {
            let event = events[*index];
            match after(kind, &state, event.call, event.answer) {
                // What changes nothing in any state forecloses nothing when it takes effect at once.
                Some(_) if is_inert(event) => {
                    done.insert(*index);
                }
                Some(next) if !done.contains(index) => changing.push((*index, next)),
                _ => {}
            }
        }
        if reached.insert((state, done.clone())) {
            for (index, next) in changing {
                let mut done = done.clone();
                done.insert(index);
                open.push((next, done));
            }
        }
    }
    reached
}

fn is_inert(event: &Event) -> bool {
    event.call.only_looks() || matches!(event.call, Call::Read(_)) || matches!(event.answer, Answer::Refused(_))
}

/// Whether it is about a volume that is just being copied: a thick one is held as if by a snapshot until that is done.
fn is_held_by_copy(event: &Event, events: &[Event]) -> bool {
    let is_refused = event.answer == Answer::Refused(tonic::Code::FailedPrecondition)
        && matches!(event.call, Call::Delete | Call::Grow { .. });
    let copies = |other: &Event| matches!(other.call, Call::Copy(index) if SOURCES[index].of == Of::Volume);
    is_refused && events.iter().any(|other| copies(other) && overlap(event, other))
}

fn overlap(one: &Event, other: &Event) -> bool {
    other.begin < one.end && one.begin < other.end
}

fn is_busy(event: &Event) -> bool {
    event.answer == Answer::Refused(tonic::Code::Aborted)
}

/// Calls that were told to wait for another one, where there was none. What is made may have to wait for the removal of its
/// predecessor.
fn busy_for_nothing(events: &[Event]) -> Vec<String> {
    let busy = events.iter().enumerate().filter(|(_, event)| is_busy(event) && !event.call.makes());
    let lonely = busy.filter(|(index, event)| {
        let overlaps = |other: &Event| overlap(event, other) && !other.call.only_looks();
        event.call.only_looks() || !events.iter().enumerate().any(|(other, event)| other != *index && overlaps(event))
    });
    lonely.map(|(_, event)| format!("{:?} was told to wait, but nothing else was going on", event.call)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 16 << 20;

    fn event(begin: u64, end: u64, call: Call, answer: Answer) -> Event {
        Event { begin, end, call, answer }
    }

    fn create(begin: u64, end: u64) -> Event {
        event(begin, end, Call::Create { bytes: BYTES, limit: 0 }, Answer::Bytes(BYTES))
    }

    #[test]
    fn overlapping_calls_may_have_come_in_any_order() {
        let not_found = Answer::Refused(tonic::Code::NotFound);
        let both = [create(0, 10), event(1, 9, Call::Get, not_found), event(2, 8, Call::Get, Answer::Bytes(BYTES))];
        assert_eq!(illegal(Kind::Ext4, &both), Vec::<String>::new());
        let too_late = [create(0, 10), event(11, 12, Call::Get, not_found)];
        assert_eq!(illegal(Kind::Ext4, &too_late).len(), 1);
    }

    #[test]
    fn what_was_seen_once_cannot_be_unseen() {
        let list = |begin, end, seen| event(begin, end, Call::List, Answer::Listed(seen));
        let events = [create(0, 20), list(1, 2, Some(BYTES)), list(3, 4, None)];
        assert_eq!(illegal(Kind::Ext4, &events).len(), 1);
        let events = [create(0, 20), list(1, 2, None), list(3, 4, Some(BYTES))];
        assert!(illegal(Kind::Ext4, &events).is_empty());
    }

    #[test]
    fn what_changed_nothing_at_first_may_have_come_later() {
        let publish = |begin, end| event(begin, end, Call::Publish { target: 0, read_only: false }, Answer::Done);
        let unpublish = |begin, end| event(begin, end, Call::Unpublish { target: 0 }, Answer::Done);
        let stage = || event(3, 4, Call::Stage, Answer::Done);
        let gone = |begin, end| event(begin, end, Call::Stats { target: 0 }, Answer::Refused(tonic::Code::NotFound));
        assert!(illegal(Kind::Ext4, &[create(0, 1), stage(), publish(5, 9), unpublish(6, 8), gone(10, 11)]).is_empty());
        assert_eq!(
            illegal(Kind::Ext4, &[create(0, 1), stage(), unpublish(5, 6), publish(7, 8), gone(10, 11)]).len(),
            1
        );
    }

    #[test]
    fn a_thick_volume_that_is_being_copied_may_refuse_to_go() {
        let refused = |begin, end| event(begin, end, Call::Delete, Answer::Refused(tonic::Code::FailedPrecondition));
        let copy = |begin, end| event(begin, end, Call::Copy(2), Answer::Bytes(BYTES));
        assert!(illegal(Kind::Ext4, &[create(0, 1), copy(2, 9), refused(3, 4)]).is_empty());
        assert_eq!(illegal(Kind::Ext4, &[create(0, 1), copy(2, 3), refused(4, 5)]).len(), 1);
        assert_eq!(illegal(Kind::ThinExt4, &[create(0, 1), copy(2, 9), refused(3, 4)]).len(), 1);
    }

    #[test]
    fn nobody_waits_for_nothing() {
        let busy = Answer::Refused(tonic::Code::Aborted);
        assert!(illegal(Kind::Ext4, &[create(0, 5), event(1, 2, Call::Stage, busy)]).is_empty());
        assert_eq!(illegal(Kind::Ext4, &[create(0, 5), event(6, 7, Call::Stage, busy)]).len(), 1);
        assert_eq!(illegal(Kind::Ext4, &[create(0, 5), event(1, 2, Call::Get, busy)]).len(), 1);
    }
}
