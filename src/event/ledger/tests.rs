//! What is written when, over reports that the test makes up and an API server that is a map, in made-up time.

use std::collections::BTreeMap;

use super::*;
use crate::{
    compile::{Diagnostic, Subject},
    source::{Identity, ObjectName},
};

/// An API server's Events, what is asked of it, and what time it is.
struct World {
    ledger: Ledger,
    begin: Instant,
    now: Instant,
    /// What each Event says, and its count.
    stored: BTreeMap<Arc<str>, (Phase, i32)>,
    /// When (in milliseconds) and what.
    requests: Vec<(u128, Request)>,
    /// What is answered instead of obeying; `None` to obey.
    trouble: fn(&Request) -> Option<Outcome>,
    notable: usize,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { ledger: Ledger::default(), begin: now, now, stored: BTreeMap::new(), requests: Vec::new(), trouble: |_| None, notable: 0 }
    }

    /// Returns whether it is worth a line in the log.
    fn want(&mut self, findings: &[(&str, &str)], objects: &[&str]) -> bool {
        self.ledger.want(&report(findings, objects), self.now)
    }

    /// Lets time pass, in which requests are answered at once. Returns what was asked, as text.
    fn pass(&mut self, time: Duration) -> Vec<String> {
        let (end, before) = (self.now + time, self.requests.len());
        loop {
            match self.ledger.next(self.now) {
                Next::Send(request) => {
                    let outcome = (self.trouble)(&request).unwrap_or_else(|| self.obey(&request));
                    self.notable += usize::from(self.ledger.done(&request, &outcome, self.now));
                    self.requests.push((self.now.duration_since(self.begin).as_millis(), request));
                }
                Next::Wait(Some(until)) if until <= end => {
                    assert!(until > self.now, "a wait that is over");
                    self.now = until;
                }
                Next::Wait(_) => break,
            }
        }
        self.now = end;
        self.requests[before..].iter().map(|(_, request)| shown(request)).collect()
    }

    fn obey(&mut self, request: &Request) -> Outcome {
        let stored = self.stored.get(&request.finding.event).map(|(_, count)| *count);
        let count = match (request.how, stored) {
            (How::Create, Some(_)) => return Outcome::Exists,
            (How::Adopt | How::Turn | How::Repeat { .. }, None) => return Outcome::Missing,
            (How::Create | How::Turn, _) => 1,
            (How::Adopt, Some(count)) => count,
            (How::Repeat { count }, Some(_)) => count,
        };
        self.stored.insert(Arc::clone(&request.finding.event), (request.phase, count));
        Outcome::Stored(count)
    }

    /// What the Events say, in any order.
    fn said(&self) -> Vec<(Phase, i32)> {
        self.stored.values().copied().collect()
    }
}

fn shown(request: &Request) -> String {
    format!("{:?} {:?} {}", request.how, request.phase, request.finding.note)
}

/// Findings as (namespace/name, message), about Ingresses, all of which exist that are in `objects`.
fn report(findings: &[(&str, &str)], objects: &[&str]) -> Report {
    let split = |object: &str| {
        let (namespace, name) = object.split_once('/').unwrap();
        (Arc::<str>::from(namespace), Arc::<str>::from(name))
    };
    let mut diagnostics: Vec<_> = findings
        .iter()
        .map(|(object, message)| {
            let (namespace, name) = split(object);
            let subject = Subject::Object { kind: "Ingress", namespace, name, field: String::new() };
            Diagnostic::error("conflict", subject, *message, "mend it")
        })
        .collect();
    diagnostics.sort();
    let identity = |object: &&str| {
        // Behind an @, another uid.
        let (object, uid) = object.split_once('@').unwrap_or((object, object));
        let (namespace, name) = split(object);
        (ObjectName { kind: "Ingress", namespace, name }, Identity { api_version: "networking.k8s.io/v1", uid: uid.into() })
    };
    Report { diagnostics: diagnostics.into(), identities: Arc::new(objects.iter().map(identity).collect()), ..Report::default() }
}

const SETTLED: Duration = Duration::from_secs(3);

#[test]
fn a_finding_is_told_once_then_at_each_refresh_until_it_is_fixed_which_is_told_once() {
    let mut world = World::new();
    world.want(&[("n/web", "bad")], &["n/web"]);
    assert_eq!(world.pass(EVENT_SETTLE / 2), Vec::<String>::new(), "not before it has lasted");
    assert_eq!(world.pass(SETTLED), ["Create Broken bad; mend it"]);
    assert_eq!(world.pass(EVENT_REFRESH.saturating_sub(SETTLED * 2)), Vec::<String>::new());
    assert_eq!(world.pass(EVENT_REFRESH), ["Repeat { count: 2 } Broken bad; mend it"]);
    assert_eq!(world.pass(EVENT_REFRESH), ["Repeat { count: 3 } Broken bad; mend it"]);
    // The same report again is no news.
    world.want(&[("n/web", "bad")], &["n/web"]);
    assert_eq!(world.pass(SETTLED), Vec::<String>::new());

    world.want(&[], &["n/web"]);
    assert_eq!(world.pass(SETTLED), ["Turn Fixed bad; mend it"]);
    assert_eq!(world.pass(EVENT_LIFETIME * 5), Vec::<String>::new(), "quiet for ever");
    assert_eq!(world.said(), [(Phase::Fixed, 1)]);
    assert!(world.ledger.entries.is_empty(), "and forgotten");
}

#[test]
fn no_refresh_comes_later_than_the_api_server_forgets() {
    let mut world = World::new();
    world.want(&[("n/web", "bad")], &["n/web"]);
    world.pass(EVENT_LIFETIME * 4);
    let times: Vec<_> = world.requests.iter().map(|(time, _)| *time).collect();
    assert!(times.len() >= 7, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] < EVENT_LIFETIME.as_millis()), "{times:?}");
}

#[test]
fn what_lasts_for_a_moment_only_is_never_told() {
    let mut world = World::new();
    world.want(&[], &["n/web"]);
    for _ in 0..20 {
        world.want(&[("n/web", "bad")], &["n/web"]);
        world.pass(EVENT_SETTLE / 2);
        world.want(&[], &["n/web"]);
        world.pass(EVENT_SETTLE / 2);
    }
    assert_eq!(world.requests.len(), 0);
    // Nor an end that doesn't last; and that doesn't put the refresh off for ever.
    world.want(&[("n/web", "bad")], &["n/web"]);
    world.pass(SETTLED);
    for _ in 0..EVENT_LIFETIME.as_secs() {
        world.want(&[], &["n/web"]);
        world.pass(Duration::from_millis(500));
        world.want(&[("n/web", "bad")], &["n/web"]);
        world.pass(Duration::from_millis(500));
    }
    let asked: Vec<_> = world.requests.iter().map(|(_, request)| shown(request)).collect();
    assert_eq!(asked[..2], ["Create Broken bad; mend it", "Repeat { count: 2 } Broken bad; mend it"], "{asked:?}");
}

#[test]
fn what_comes_back_is_the_same_event_again() {
    let mut world = World::new();
    for findings in [&[("n/web", "bad")][..], &[], &[("n/web", "bad")]] {
        world.want(findings, &["n/web"]);
        world.pass(SETTLED);
    }
    let asked: Vec<_> = world.requests.iter().map(|(_, request)| shown(request)).collect();
    assert_eq!(asked, ["Create Broken bad; mend it", "Turn Fixed bad; mend it", "Turn Broken bad; mend it"]);
    assert_eq!(world.said(), [(Phase::Broken, 1)]);
}

#[test]
fn another_leader_finds_the_events_of_the_first_and_adds_none() {
    let mut world = World::new();
    world.want(&[("n/web", "bad"), ("n/web", "worse")], &["n/web"]);
    world.pass(EVENT_REFRESH + SETTLED);
    assert_eq!(world.said(), [(Phase::Broken, 2); 2]);

    world.ledger = Ledger::default();
    world.want(&[("n/web", "bad"), ("n/web", "worse")], &["n/web"]);
    let asked = world.pass(SETTLED);
    assert_eq!(asked.iter().filter(|text| text.starts_with("Adopt Broken")).count(), 2, "{asked:?}");
    assert_eq!(world.said(), [(Phase::Broken, 2); 2], "no more Events, no higher counts");
    let asked = world.pass(EVENT_REFRESH);
    assert!(asked.len() == 2 && asked.iter().all(|text| text.starts_with("Repeat { count: 3 }")), "{asked:?}");

    // Between its finding the Event and its taking it over, what it is about is fixed.
    world.ledger = Ledger::default();
    world.trouble = |request| (request.how == How::Adopt).then_some(Outcome::Unreachable);
    world.want(&[("n/web", "bad"), ("n/web", "worse")], &["n/web"]);
    world.pass(SETTLED);
    world.trouble = |_| None;
    world.want(&[], &["n/web"]);
    world.pass(EVENT_BACKOFF_MAX * 2);
    assert!(world.said().iter().all(|(phase, _)| *phase == Phase::Fixed), "{:?}", world.said());
}

#[test]
fn another_leader_tells_the_end_of_what_it_never_got_to_write() {
    let mut world = World::new();
    let messages: Vec<String> = (0..10).map(|number| format!("bad {number}")).collect();
    let findings: Vec<_> = messages.iter().map(|message| ("n/web", message.as_str())).collect();
    world.want(&findings, &["n/web"]);
    world.pass(EVENT_REFRESH + SETTLED);
    assert_eq!(world.said(), [(Phase::Broken, 2); 10]);

    // The first comes to an end, in one of these ways, before the new leader has written anything.
    let refuse = |_: &Request| Some(Outcome::Refused);
    for (wait, trouble) in [(EVENT_SETTLE / 2, (|_| None) as fn(&Request) -> _), (SETTLED, refuse as fn(&Request) -> _)] {
        world.ledger = Ledger::default();
        world.trouble = trouble;
        world.want(&findings, &["n/web"]);
        world.pass(wait);
        world.trouble = |_| None;
        world.want(&findings[1..], &["n/web"]);
        let asked = world.pass(EVENT_REFUSED_PAUSE * 20);
        assert_eq!(asked.iter().filter(|text| **text == "Adopt Fixed bad 0; mend it").count(), 1, "after {wait:?}: {asked:?}");
        assert_eq!(asked.iter().filter(|text| text.contains("bad 0;")).count(), 1, "after {wait:?}: {asked:?}");
        assert_eq!(world.said().iter().filter(|(phase, _)| *phase == Phase::Fixed).count(), 1);
        assert_eq!(world.ledger.pending(), 0);
        world.stored.values_mut().for_each(|(phase, _)| *phase = Phase::Broken);
    }

    // It comes back while its end is still to be told.
    world.ledger = Ledger::default();
    world.want(&findings, &["n/web"]);
    world.want(&findings[1..], &["n/web"]);
    world.want(&findings, &["n/web"]);
    world.pass(SETTLED);
    assert_eq!(world.said(), [(Phase::Broken, 2); 10]);

    // Of its object nobody is left to be told.
    world.ledger = Ledger::default();
    world.want(&findings, &["n/web"]);
    world.want(&[], &[]);
    assert_eq!(world.pass(EVENT_LIFETIME), Vec::<String>::new());
}

#[test]
fn an_end_that_no_event_waits_for_is_one_request_and_none_if_the_finding_began_under_this_leader() {
    let mut world = World::new();
    world.want(&[("n/web", "bad")], &["n/web"]);
    world.want(&[("n/web", "new")], &["n/web"]);
    world.want(&[], &["n/web"]);
    assert_eq!(world.pass(EVENT_LIFETIME * 2), ["Adopt Fixed bad; mend it"]);
    assert_eq!((world.said(), world.ledger.pending()), (vec![], 0));
    assert!(world.ledger.entries.is_empty(), "and forgotten");
}

#[test]
fn an_event_that_somebody_deleted_is_made_anew_but_not_to_say_that_all_is_well() {
    let mut world = World::new();
    world.want(&[("n/web", "bad")], &["n/web"]);
    world.pass(SETTLED);
    world.stored.clear();
    assert_eq!(world.pass(EVENT_REFRESH), ["Repeat { count: 2 } Broken bad; mend it", "Create Broken bad; mend it"]);
    world.stored.clear();
    world.want(&[], &["n/web"]);
    assert_eq!(world.pass(EVENT_LIFETIME), ["Turn Fixed bad; mend it"]);
    assert_eq!(world.said(), []);
}

#[test]
fn an_object_that_is_gone_or_another_one_of_its_name_is_told_nothing() {
    let mut world = World::new();
    for objects in [&[][..], &["n/web@other"]] {
        world.want(&[("n/web", "bad")], &["n/web"]);
        world.pass(SETTLED);
        world.want(&[], objects);
        assert_eq!(world.pass(EVENT_LIFETIME), Vec::<String>::new());
    }
    // The other one has the same fault: an Event of its own.
    world.want(&[("n/web", "bad")], &["n/web@other"]);
    assert_eq!(world.pass(SETTLED), ["Create Broken bad; mend it"]);
    // An object nobody has: a file's.
    world.want(&[("n/file", "bad")], &[]);
    assert_eq!(world.pass(EVENT_LIFETIME), Vec::<String>::new());
}

#[test]
fn one_object_has_a_bounded_number_of_events_and_one_that_says_so() {
    let messages: Vec<String> = (0..60).map(|number| format!("bad {number:02}")).collect();
    let all: Vec<_> = messages.iter().map(|message| ("n/web", message.as_str())).collect();
    let mut world = World::new();
    world.want(&all[10..], &["n/web"]);
    let asked = world.pass(SETTLED);
    assert_eq!(asked.len(), EVENTS_PER_OBJECT + 1);
    assert_eq!(asked.iter().filter(|text| text.contains("more is wrong with it")).count(), 1, "{asked:?}");
    // More findings, which come first in the order of things, push none of the others out.
    world.want(&all, &["n/web"]);
    assert_eq!(world.pass(SETTLED), Vec::<String>::new());
    // One fixed makes room for another.
    let but_one: Vec<_> = all.iter().copied().filter(|(_, message)| *message != "bad 10").collect();
    world.want(&but_one, &["n/web"]);
    let asked = world.pass(SETTLED);
    assert!(asked.contains(&"Turn Fixed bad 10; mend it".to_owned()) && asked.contains(&"Create Broken bad 00; mend it".to_owned()));
    assert_eq!(asked.len(), 2, "{asked:?}");
    world.want(&but_one[..3], &["n/web"]);
    let asked = world.pass(EVENT_OBJECT_INTERVAL * 60);
    assert!(asked.iter().any(|text| text.starts_with("Turn Fixed more is wrong")), "{asked:?}");
    let broken = world.said().iter().filter(|(phase, _)| *phase == Phase::Broken).count();
    assert_eq!(broken, 3);
}

#[test]
fn ten_thousand_findings_are_told_at_the_rate_and_a_new_one_does_not_wait_for_them() {
    let names: Vec<String> = (0..10_000).map(|number| format!("n/web-{number}")).collect();
    let mut objects: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut findings: Vec<_> = objects.iter().map(|name| (*name, "bad")).collect();
    let mut world = World::new();
    world.want(&findings, &objects);
    world.pass(Duration::from_secs(12));
    let burst = usize::try_from(EVENT_BURST).unwrap();
    assert_eq!(world.stored.len(), burst + 10 * 20, "a burst after two seconds of settling, then 20 a second for ten");
    assert_eq!(world.ledger.pending(), 10_000 - world.stored.len());

    objects.push("n/new");
    findings.push(("n/new", "new"));
    world.want(&findings, &objects);
    let asked = world.pass(SETTLED);
    assert_eq!(asked.iter().filter(|text| text.contains("new; ")).count(), 1, "told among the first");

    world.pass(Duration::from_secs(600));
    assert_eq!((world.stored.len(), world.ledger.pending()), (10_001, 0));
    world.pass(EVENT_LIFETIME * 2);
    let by_second = world.requests.iter().fold(BTreeMap::<u128, usize>::new(), |mut by_second, (time, _)| {
        *by_second.entry(time / 1000).or_default() += 1;
        by_second
    });
    assert!(by_second.values().all(|count| *count <= burst + 20), "{:?}", by_second.values().max());
    let mut last: BTreeMap<&str, u128> = BTreeMap::new();
    for (time, request) in &world.requests {
        let gap = last.insert(&request.finding.event, *time).map_or(0, |before| time - before);
        assert!(gap < EVENT_LIFETIME.as_millis(), "{} expired", request.finding.event);
    }
}

#[test]
fn more_findings_than_there_may_be_events_wait_for_room() {
    let names: Vec<String> = (0..EVENT_COUNT + 5).map(|number| format!("n/web-{number}")).collect();
    let objects: Vec<&str> = names.iter().map(String::as_str).collect();
    let findings: Vec<_> = objects.iter().map(|name| (*name, "bad")).collect();
    let mut world = World::new();
    assert!(!world.want(&[], &objects));
    assert!(world.want(&findings, &objects), "worth a line");
    assert!(world.ledger.is_crowded());
    assert_eq!(world.ledger.pending(), EVENT_COUNT);
    assert!(!world.want(&findings, &objects), "but not a second one");
    assert!(world.want(&findings[..10], &objects), "nor is its end passed over");
    assert!(!world.want(&findings[..15], &objects));
    assert!(!world.ledger.is_crowded());
    assert_eq!(world.ledger.pending(), 15);
}

#[test]
fn an_object_whose_findings_never_rest_holds_nobody_up() {
    let mut world = World::new();
    for number in 0..3600 {
        let message = format!("bad {number}");
        world.want(&[("n/mad", &message), ("n/web", "bad")], &["n/mad", "n/web"]);
        world.pass(SETTLED);
    }
    let about = |name: &str| world.requests.iter().filter(|(_, request)| &*request.finding.object.name.name == name).count();
    assert_eq!(about("web"), 1 + 5, "told, and refreshed for three hours");
    let allowed = usize::try_from(EVENT_OBJECT_BURST).unwrap() + 3 * 3600 / 20;
    assert!((allowed / 2..=allowed).contains(&about("mad")), "{} of {allowed}", about("mad"));
    assert!(world.ledger.entries.len() < 1000, "{}", world.ledger.entries.len());
}

#[test]
fn a_refusal_stops_its_namespace_alone_and_is_said_once() {
    let mut world = World::new();
    world.trouble = |request| (request.finding.object.event_namespace() == "shut").then_some(Outcome::Refused);
    let objects = ["open/web", "shut/api", "shut/web"];
    world.want(&objects.map(|object| (object, "bad")), &objects);
    let asked = world.pass(Duration::from_secs(30));
    assert_eq!(asked.len(), 2, "one in each namespace: {asked:?}");
    world.pass(EVENT_REFUSED_PAUSE * 10);
    assert_eq!((world.said().len(), world.notable), (1, 1));
    assert!(world.requests.len() <= 2 + 11, "once a minute: {}", world.requests.len());

    world.trouble = |_| None;
    world.pass(EVENT_REFUSED_PAUSE * 2);
    assert_eq!((world.said().len(), world.notable), (3, 2), "and its end is said");
}

#[test]
fn an_api_server_that_is_away_is_asked_ever_more_rarely_and_loses_nothing() {
    let mut world = World::new();
    world.trouble = |_| Some(Outcome::Unreachable);
    let objects = ["n/a", "n/b", "n/c"];
    world.want(&objects.map(|object| (object, "bad")), &objects);
    world.pass(EVENT_BACKOFF_MAX * 20);
    assert!(world.requests.len() < 35, "{}", world.requests.len());
    assert_eq!(world.notable, 1);
    world.trouble = |_| None;
    world.pass(EVENT_BACKOFF_MAX * 2);
    assert_eq!((world.said(), world.notable), (vec![(Phase::Broken, 1); 3], 2));
}

#[test]
fn what_can_not_be_stored_is_not_tried_again_soon() {
    let mut world = World::new();
    world.trouble = |_| Some(Outcome::Hopeless);
    world.want(&[("n/web", "bad")], &["n/web"]);
    world.pass(EVENT_REFRESH.saturating_sub(SETTLED));
    assert_eq!(world.requests.len(), 1);
    // Its namespace is gone.
    world.want(&[], &[]);
    world.pass(EVENT_LIFETIME);
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn what_is_no_finding_takes_room_from_the_same_budget_and_waits_where_there_is_none() {
    let object = |namespace: &str, name: &str| {
        let name = ObjectName { kind: "Ingress", namespace: namespace.into(), name: name.into() };
        Arc::new(Object { name, api_version: "networking.k8s.io/v1", uid: "u".into() })
    };
    let mut world = World::new();
    for number in 0..EVENT_BURST {
        assert_eq!(world.ledger.spare(&object("n", &format!("web-{number}")), world.now), Ok(()));
    }
    assert_eq!(world.ledger.spare(&object("n", "one-more"), world.now), Err(world.now + EVENT_INTERVAL));
    world.pass(EVENT_INTERVAL * EVENT_BURST);
    // One object alone is told no more often than its findings.
    let all = (0..EVENT_OBJECT_BURST * 2).filter(|_| {
        world.pass(EVENT_INTERVAL);
        world.ledger.spare(&object("n", "mad"), world.now).is_ok()
    });
    assert_eq!(u32::try_from(all.count()), Ok(EVENT_OBJECT_BURST));

    // Nor where Events are refused, or nobody answers.
    world.trouble = |request| (request.finding.object.event_namespace() == "shut").then_some(Outcome::Refused);
    world.want(&[("shut/web", "bad")], &["shut/web"]);
    world.pass(SETTLED);
    assert!(world.ledger.spare(&object("shut", "api"), world.now).is_err());
    assert_eq!(world.ledger.spare(&object("open", "api"), world.now), Ok(()));
    world.trouble = |_| Some(Outcome::Unreachable);
    world.want(&[("shut/web", "bad"), ("open/web", "bad")], &["shut/web", "open/web"]);
    world.pass(EVENT_BACKOFF_MAX * 4);
    assert!(world.ledger.spare(&object("open", "other"), world.now).is_err());
}
