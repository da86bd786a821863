use super::*;

const DRIVER: &str = "lvm.quarry.storage";
const MINUTE: Duration = Duration::from_mins(1);
const LIFETIMES: Lifetimes =
    Lifetimes { authority: Duration::from_hours(5), leaf: Duration::from_mins(90), spread: Duration::from_mins(5) };

fn at(minutes: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000) + MINUTE * minutes
}

fn next(before: &Keyring, minutes: u32) -> Keyring {
    renewed(before, DRIVER, &LIFETIMES, at(minutes)).unwrap()
}

/// Whether a connection works between a controller that has one ring and nodes that have the other.
fn trust_each_other(controllers: &Keyring, nodes: &Keyring) -> bool {
    let signed_by = |pair: &Pair, ring: &Keyring| {
        let issuer = Known::of(pair).unwrap().issuer;
        ring.authorities.iter().any(|authority| Known::of(authority).unwrap().subject == issuer)
    };
    signed_by(&controllers.controller, nodes) && signed_by(&nodes.node, controllers)
}

#[test]
fn from_nothing_everything_is_made_and_then_left_alone() {
    let made = next(&Keyring::default(), 0);
    assert_eq!(made.authorities.len(), 1);
    assert!(trust_each_other(&made, &made));
    assert_eq!(next(&made, 1), made);
    assert_eq!(next(&made, 59), made);
    let renewed = next(&made, 61);
    assert_eq!(renewed.authorities, made.authorities);
    assert!(renewed.controller != made.controller && renewed.node != made.node);
}

#[test]
fn what_cannot_be_read_or_does_not_belong_is_made_anew() {
    let made = next(&Keyring::default(), 0);
    let other = next(&Keyring::default(), 1);
    let mixed = Keyring { controller: other.controller, ..made.clone() };
    assert!(trust_each_other(&next(&mixed, 2), &made));
    let broken = Keyring { node: Pair { key: String::from("nonsense"), ..made.node.clone() }, ..made.clone() };
    let mended = next(&broken, 2);
    assert_eq!((&mended.authorities, &mended.controller), (&made.authorities, &made.controller));
    assert!(Known::of(&mended.node).is_some());
    let misfit = Pair { key: made.controller.key.clone(), ..made.node.clone() };
    let mended = next(&Keyring { node: misfit, ..made.clone() }, 2);
    assert_ne!(mended.node.certificate, made.node.certificate, "the key is another one's");
    let swapped = Keyring { controller: made.node.clone(), node: made.controller.clone(), ..made.clone() };
    let mended = next(&swapped, 2);
    assert!(mended.controller != made.node && mended.node != made.controller, "each is for one role");
    let renamed = renewed(&made, "other.example.org", &LIFETIMES, at(2)).unwrap();
    assert!(renamed.controller != made.controller && renamed.node != made.node, "each is for one driver");
    let lost = Keyring { authorities: Vec::new(), ..made.clone() };
    let anew = next(&lost, 2);
    assert!(trust_each_other(&anew, &anew) && anew.controller != made.controller);
}

/// Every minute the controller decides; the nodes have what it decided up to the spread ago.
#[test]
fn a_change_of_authorities_breaks_no_connection_at_any_time() {
    let mut history = vec![next(&Keyring::default(), 0)];
    for minute in 1..1000 {
        history.push(next(history.last().unwrap(), minute));
        let now = history.last().unwrap();
        assert!(now.authorities.len() <= 2, "{} authorities in minute {minute}", now.authorities.len());
        for late in 0..=5 {
            let Some(earlier) = history.len().checked_sub(1 + late).map(|index| &history[index]) else { continue };
            assert!(trust_each_other(now, earlier), "minute {minute}: nodes that are {late} minutes behind");
            assert!(trust_each_other(earlier, now), "minute {minute}: a controller that is {late} minutes behind");
            for pair in [&earlier.controller, &earlier.node] {
                assert!(Known::of(pair).unwrap().ends > at(minute), "minute {minute}: expired {late} minutes ago");
            }
        }
    }
    let first = Known::of(&history[0].authorities[0]).unwrap().subject;
    let last = &history.last().unwrap().authorities;
    assert!(last.iter().all(|authority| Known::of(authority).unwrap().subject != first), "nothing was rolled over");
}

/// A controller noted a new authority and ended before it could tell nodes; the next look comes later.
fn untold(first: &Keyring) -> Keyring {
    let noted = next(first, 201);
    assert_eq!(noted.authorities.len(), 2);
    Keyring { trusted_by_nodes: first.trusted_by_nodes.clone(), ..noted }
}

#[test]
fn an_authority_that_nodes_are_told_of_late_is_replaced_and_signs_only_once_they_had_their_time() {
    let first = next(&Keyring::default(), 0);
    let untold = untold(&first);
    let later = next(&untold, 260);
    assert!(later.controller != first.controller && trust_each_other(&later, &first), "both are due");
    assert_eq!(later.trusted_by_nodes.len(), 2);
    assert!(later.authorities[0] == first.authorities[0] && later.authorities[1] != untold.authorities[1]);
    let mut now = later.clone();
    for minute in 261..265 {
        now = next(&now, minute);
        assert!(trust_each_other(&now, &first), "minute {minute}: nodes have not learnt of it yet");
    }
    assert_eq!(now.authorities, later.authorities);
    let told = next(&now, 265);
    assert!(!trust_each_other(&told, &first), "the new one signs");
    assert!(trust_each_other(&told, &later));
}

#[test]
fn an_authority_that_nodes_are_told_of_soon_is_kept() {
    let first = next(&Keyring::default(), 0);
    let untold = untold(&first);
    let soon = next(&untold, 203);
    assert_eq!(soon.authorities, untold.authorities);
    assert_eq!(soon.trusted_by_nodes.len(), 2);
}

#[test]
fn where_nodes_trust_nobody_that_is_known_one_of_those_that_sign_must_do() {
    let first = next(&Keyring::default(), 0);
    let lost = Keyring { trusted_by_nodes: Vec::new(), ..first.clone() };
    assert_eq!(next(&lost, 1).authorities, first.authorities);
    assert_eq!(next(&lost, 100).authorities, first.authorities);
}

#[test]
fn keys_are_not_shown() {
    let made = next(&Keyring::default(), 0);
    let shown = format!("{made:?}");
    assert!(shown.contains("BEGIN CERTIFICATE") && !shown.contains("PRIVATE KEY"), "{shown}");
}
