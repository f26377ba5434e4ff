//! Which addresses are told as pods and nodes come, go and falter; time is an argument.

use super::*;

const OURS: &str = "our-daemonset";

fn up(node: &str) -> PodFacts {
    PodFacts { uid: format!("uid-on-{node}"), node: node.into(), controller: Some(OURS.into()), ready: true, leaving: false, started: None }
}

fn down(node: &str) -> PodFacts {
    PodFacts { ready: false, ..up(node) }
}

fn leaving(node: &str) -> PodFacts {
    PodFacts { leaving: true, ..up(node) }
}

fn named<T>(objects: impl IntoIterator<Item = (&'static str, T)>) -> Facts<T> {
    Facts::All(objects.into_iter().map(|(name, object)| (name.to_owned(), object)).collect())
}

fn node_at(last: u8) -> NodeFacts {
    NodeFacts { ready: true, addresses: vec![Address::Ip([192, 0, 2, last].into())] }
}

/// Nodes n1, n2 and n3 with 192.0.2.1, .2 and .3; we are the pod `own` on n1.
fn peers(pods: impl IntoIterator<Item = (&'static str, PodFacts)>) -> Peers {
    let mut peers = Peers::new("own".into());
    peers.nodes(named([("n1", node_at(1)), ("n2", node_at(2)), ("n3", node_at(3))]));
    peers.pods(named(pods));
    peers
}

/// The last bytes of the addresses that are ready, held; whether there may be none.
fn seen(peers: &mut Peers, now: Instant) -> (Vec<u8>, Vec<u8>, bool) {
    let last = |addresses: &BTreeSet<Address>| {
        let last = addresses.iter().map(|address| match address {
            Address::Ip(std::net::IpAddr::V4(ip)) => ip.octets()[3],
            other => panic!("{other:?}"),
        });
        last.collect::<Vec<_>>()
    };
    let (view, _) = peers.view(now, false).expect("a view");
    (last(&view.ready), last(&view.held), view.may_be_empty)
}

#[test]
fn nothing_is_told_before_both_lists_are_complete_and_we_are_in_one() {
    let now = Instant::now();
    let mut peers = Peers::new("own".into());
    assert!(peers.view(now, false).is_none());
    peers.nodes(named([("n1", node_at(1))]));
    peers.pods(Facts::Is("own".into(), up("n1")));
    assert!(peers.view(now, false).is_none(), "the pods' list isn't there");
    peers.pods(named([("other", up("n1"))]));
    assert!(peers.view(now, false).is_none(), "whose pods are ours isn't known");
    assert!(peers.lost_itself());
    peers.pods(Facts::Is("own".into(), up("n1")));
    assert!(!peers.lost_itself());
    assert_eq!(seen(&mut peers, now), (vec![1], vec![], false));
    // Once known, it is known without our own pod.
    peers.pods(Facts::Gone("own".into()));
    assert_eq!(seen(&mut peers, now), (vec![1], vec![], false));
}

#[test]
fn a_pod_that_leaves_goes_at_once_and_one_that_falters_is_held_for_a_while() {
    let begin = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", up("n2")), ("three", up("n3"))]);
    assert_eq!(seen(&mut peers, begin), (vec![1, 2, 3], vec![], false));
    peers.pods(Facts::Is("two".into(), leaving("n2")));
    peers.pods(Facts::Is("three".into(), down("n3")));
    assert_eq!(seen(&mut peers, begin), (vec![1], vec![3], false));
    let again = peers.view(begin, false).unwrap().1;
    assert_eq!(again, Some(begin + STATUS_REMOVAL_HOLD));
    let short = begin + STATUS_REMOVAL_HOLD.mul_f64(0.99);
    assert_eq!(seen(&mut peers, short), (vec![1], vec![3], false));
    assert_eq!(seen(&mut peers, begin + STATUS_REMOVAL_HOLD), (vec![1], vec![], false));
    peers.pods(Facts::Is("three".into(), up("n3")));
    assert_eq!(seen(&mut peers, begin + STATUS_REMOVAL_HOLD), (vec![1, 3], vec![], false));
}

/// Lets the pod `two` crash, be withdrawn, and become Ready again. Returns when that was.
fn falls_and_rises(peers: &mut Peers, mut now: Instant) -> Instant {
    peers.pods(Facts::Is("two".into(), down("n2")));
    seen(peers, now);
    now += STATUS_REMOVAL_HOLD;
    assert_eq!(seen(peers, now), (vec![1], vec![], false));
    peers.pods(Facts::Is("two".into(), up("n2")));
    now
}

#[test]
fn a_pod_that_was_withdrawn_again_must_be_up_for_twice_as_long_each_time_up_to_the_longest() {
    let mut now = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", up("n2"))]);
    seen(&mut peers, now);
    now = falls_and_rises(&mut peers, now);
    assert_eq!(seen(&mut peers, now), (vec![1, 2], vec![], false), "once may happen to anyone");
    let mut hold = STATUS_RETURN_HOLD_MIN;
    for fall in 2..40 {
        now = falls_and_rises(&mut peers, now);
        assert_eq!(seen(&mut peers, now), (vec![1], vec![], false), "fall {fall}");
        assert_eq!(peers.view(now, false).unwrap().1, Some(now + hold), "fall {fall}");
        assert_eq!(seen(&mut peers, now + hold.mul_f64(0.99)), (vec![1], vec![], false), "fall {fall}");
        now += hold;
        assert_eq!(seen(&mut peers, now), (vec![1, 2], vec![], false), "fall {fall}");
        hold = (hold * 2).min(STATUS_RETURN_HOLD_MAX);
    }
}

#[test]
fn a_crash_loop_changes_the_addresses_a_few_times_and_then_no_more() {
    let mut now = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", up("n2"))]);
    let (mut told, mut changes) = (vec![1, 2], Vec::new());
    for round in 0..100 {
        // Up for 20 s, down for 40 s, and looked at each second.
        peers.pods(Facts::Is("two".into(), up("n2")));
        for second in 0..60 {
            if second == 20 {
                peers.pods(Facts::Is("two".into(), down("n2")));
            }
            let (ready, held, _) = seen(&mut peers, now);
            let all = [ready, held].concat();
            if all != told {
                (told, changes) = (all, [changes, vec![round]].concat());
            }
            now += Duration::from_secs(1);
        }
    }
    assert!(changes.len() <= 10, "{changes:?}");
    assert!(changes.iter().all(|round| *round < 10), "{changes:?}");
    assert_eq!(told, [1]);
}

#[test]
fn a_pod_that_falls_while_it_returns_begins_its_hold_anew_and_no_longer_one() {
    let mut now = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", up("n2"))]);
    seen(&mut peers, now);
    now = falls_and_rises(&mut peers, now);
    seen(&mut peers, now);
    now = falls_and_rises(&mut peers, now);
    seen(&mut peers, now);
    now += STATUS_RETURN_HOLD_MIN / 2;
    peers.pods(Facts::Is("two".into(), down("n2")));
    assert_eq!(seen(&mut peers, now), (vec![1], vec![], false));
    peers.pods(Facts::Is("two".into(), up("n2")));
    assert_eq!(seen(&mut peers, now), (vec![1], vec![], false));
    assert_eq!(peers.view(now, false).unwrap().1, Some(now + STATUS_RETURN_HOLD_MIN));
    assert_eq!(seen(&mut peers, now + STATUS_RETURN_HOLD_MIN), (vec![1, 2], vec![], false));
}

#[test]
fn withdrawals_are_forgotten_after_a_calm_and_hiccups_never_counted() {
    let mut now = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", up("n2"))]);
    seen(&mut peers, now);
    for _ in 0..5 {
        peers.pods(Facts::Is("two".into(), down("n2")));
        assert_eq!(seen(&mut peers, now), (vec![1], vec![2], false), "a hiccup");
        peers.pods(Facts::Is("two".into(), up("n2")));
        assert_eq!(seen(&mut peers, now), (vec![1, 2], vec![], false), "a hiccup");
    }
    for calm in 0..5 {
        now = falls_and_rises(&mut peers, now);
        assert_eq!(seen(&mut peers, now), (vec![1, 2], vec![], false), "calm {calm}");
        now += STATUS_RETURN_CALM;
    }
    now = falls_and_rises(&mut peers, now);
    seen(&mut peers, now);
    now = falls_and_rises(&mut peers, now + STATUS_RETURN_CALM.mul_f64(0.99));
    assert_eq!(seen(&mut peers, now), (vec![1], vec![], false), "too short a calm");
}

#[test]
fn a_new_pod_in_place_of_one_that_crashed_is_told_at_once() {
    let mut now = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", up("n2"))]);
    seen(&mut peers, now);
    now = falls_and_rises(&mut peers, now);
    seen(&mut peers, now);
    now = falls_and_rises(&mut peers, now);
    assert_eq!(seen(&mut peers, now), (vec![1], vec![], false));
    peers.pods(Facts::Is("two".into(), leaving("n2")));
    peers.pods(Facts::Is("new".into(), down("n2")));
    assert_eq!(seen(&mut peers, now), (vec![1], vec![], false));
    peers.pods(Facts::Is("new".into(), up("n2")));
    assert_eq!(seen(&mut peers, now), (vec![1, 2], vec![], false));
}

#[test]
fn a_pod_that_returns_is_told_at_once_where_there_is_no_other_and_stays() {
    let mut now = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", up("n2"))]);
    seen(&mut peers, now);
    now = falls_and_rises(&mut peers, now);
    seen(&mut peers, now);
    now = falls_and_rises(&mut peers, now);
    assert_eq!(seen(&mut peers, now), (vec![1], vec![], false));
    // The other one's hiccup is no reason yet; its end is.
    peers.pods(Facts::Is("own".into(), down("n1")));
    assert_eq!(seen(&mut peers, now), (vec![], vec![1], false));
    now += STATUS_REMOVAL_HOLD;
    assert_eq!(seen(&mut peers, now), (vec![2], vec![], false));
    peers.pods(Facts::Is("own".into(), up("n1")));
    assert_eq!(seen(&mut peers, now), (vec![1, 2], vec![], false));
}

#[test]
fn a_lone_pod_is_never_withdrawn_and_so_never_waits() {
    let mut now = Instant::now();
    let mut peers = peers([("own", up("n1"))]);
    seen(&mut peers, now);
    for _ in 0..5 {
        peers.pods(Facts::Is("own".into(), down("n1")));
        seen(&mut peers, now);
        now += STATUS_REMOVAL_HOLD;
        assert_eq!(seen(&mut peers, now), (vec![], vec![], false), "no news");
        peers.pods(Facts::Is("own".into(), up("n1")));
        assert_eq!(seen(&mut peers, now), (vec![1], vec![], false));
    }
    // Nor does it once there is another, of which it falls short.
    peers.pods(Facts::Is("two".into(), up("n2")));
    seen(&mut peers, now);
    peers.pods(Facts::Is("own".into(), down("n1")));
    seen(&mut peers, now);
    now += STATUS_REMOVAL_HOLD;
    assert_eq!(seen(&mut peers, now), (vec![2], vec![], false));
    peers.pods(Facts::Is("own".into(), up("n1")));
    assert_eq!(seen(&mut peers, now), (vec![1, 2], vec![], false));
}

#[test]
fn a_node_that_is_not_ready_is_held_for_a_while_and_one_that_is_gone_is_not() {
    let begin = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", up("n2")), ("three", up("n3"))]);
    seen(&mut peers, begin);
    peers.nodes(Facts::Is("n2".into(), NodeFacts { ready: false, ..node_at(2) }));
    peers.nodes(Facts::Gone("n3".into()));
    assert_eq!(seen(&mut peers, begin), (vec![1], vec![2], false));
    assert_eq!(seen(&mut peers, begin + STATUS_REMOVAL_HOLD), (vec![1], vec![], false));
}

#[test]
fn a_new_leader_holds_what_it_finds_down_but_not_what_only_starts() {
    let begin = Instant::now();
    let mut peers = peers([("own", up("n1")), ("two", down("n2"))]);
    assert_eq!(seen(&mut peers, begin), (vec![1], vec![2], false));
    peers.pods(Facts::Is("three".into(), down("n3")));
    assert_eq!(seen(&mut peers, begin), (vec![1], vec![2], false));
}

#[test]
fn there_may_be_no_address_only_when_nobody_is_left_to_come_back() {
    let begin = Instant::now();
    for (pods, expected) in [
        (vec![("own", down("n1")), ("two", down("n2"))], false),
        (vec![("own", leaving("n1")), ("two", down("n2"))], false),
        (vec![("own", leaving("n1")), ("two", leaving("n2"))], true),
        // Somebody else's.
        (vec![("own", leaving("n1")), ("x", PodFacts { controller: Some("another".into()), ..up("n2") })], true),
        (vec![("own", leaving("n1")), ("x", PodFacts { controller: None, ..up("n2") })], true),
    ] {
        let (ready, _, may_be_empty) = seen(&mut peers(pods.clone()), begin);
        assert_eq!((ready.len(), may_be_empty), (0, expected), "{pods:?}");
    }
    let (view, _) = peers([("own", up("n1"))]).view(begin, true).unwrap();
    assert_eq!((view.ready.len(), view.may_be_empty), (0, true), "a process that drains, whatever its pod says");
}
