//! Which edits are told, over reports and answers that the test makes up, in made-up time.

use serde_json::json;

use super::*;
use crate::convergence::Lag;

/// An Ingress of that name, whose uid is `u-<name>`, in a version that leads to `host`.
fn served(name: &str, host: &str, version: u32) -> Served {
    let value = json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("u-{name}"), "resourceVersion": version.to_string()},
        "spec": {"rules": [{"host": host}]},
        "status": {"loadBalancer": {"ingress": [{"hostname": version.to_string()}]}},
    });
    Served { object: Arc::new(serde_json::from_value(value).unwrap()), previous: None, accepted: true }
}

fn name(name: &str) -> ObjectName {
    ObjectName { kind: "Ingress", namespace: "shop".into(), name: name.into() }
}

/// Three nodes, of which those that lag do so for every version beyond `reached`.
fn reached(reached: u128) -> impl Fn(&Target) -> Progress {
    move |target| {
        let lagging = (target.version > reached).then(|| ("n3".to_owned(), Lag::Behind));
        Progress { nodes: 3, lagging: lagging.into_iter().collect() }
    }
}

struct World {
    programmed: Programmed,
    now: Instant,
}

impl World {
    /// With these Ingresses at first.
    fn new(ingresses: Vec<Served>) -> Self {
        let mut world = Self { programmed: Programmed::default(), now: Instant::now() };
        world.note(ingresses);
        world
    }

    fn note(&mut self, ingresses: Vec<Served>) {
        self.programmed.note(&ingresses.into(), &[], self.now);
    }

    /// Looks when it is time to, and that far it has come. Returns what is written then, all of which the API server stores.
    fn look(&mut self, progress: impl Fn(&Target) -> Progress) -> Vec<String> {
        if let Some(at) = self.programmed.look_at() {
            self.now = self.now.max(at);
            self.programmed.looked(Some(&progress), self.now);
        }
        self.write(|notice| {
            Outcome::Stored(match notice.how {
                How::Create => 1,
                How::Repeat { count } => count,
                How::Adopt | How::Turn => panic!("{notice:?}"),
            })
        })
    }

    /// Writes what is due.
    fn write(&mut self, answer: impl Fn(&Notice) -> Outcome) -> Vec<String> {
        let mut written = Vec::new();
        while let Some((notice, _)) = self.programmed.next().filter(|(_, at)| *at <= self.now) {
            let words = notice.words();
            written.push(format!(
                "{:?} {} {} {} {}",
                words.how,
                words.object.name.name,
                words.version.unwrap(),
                words.reason,
                words.message
            ));
            let outcome = answer(&notice);
            self.programmed.done(&notice, &outcome, self.now);
            assert!(written.len() < 100, "for ever: {written:?}");
        }
        written
    }
}

#[test]
fn an_edit_is_told_once_when_all_nodes_have_it_and_the_next_one_in_the_same_event() {
    let mut world = World::new(vec![served("web", "a.example", 5)]);
    assert_eq!(world.programmed.look_at(), None, "what was there before is nobody's news");
    world.note(vec![served("web", "b.example", 9)]);
    assert_eq!(world.look(reached(8)), Vec::<String>::new());
    assert_eq!(world.look(reached(9)), ["Create web 9 Programmed in force on 3/3 nodes"]);
    assert_eq!((world.programmed.look_at(), world.look(reached(9))), (None, vec![]));
    world.note(vec![served("web", "c.example", 12)]);
    assert_eq!(world.look(reached(12)), ["Repeat { count: 2 } web 12 Programmed in force on 3/3 nodes"]);
}

#[test]
fn neither_a_status_nor_a_restart_of_the_source_is_an_edit() {
    let mut world = World::new(vec![served("web", "a.example", 5)]);
    world.note(vec![served("web", "a.example", 6)]);
    world.note(vec![served("web", "a.example", 6)]);
    assert_eq!(world.programmed.look_at(), None);
    // In another order, and with another one beside it, which is new.
    world.note(vec![served("api", "b.example", 7), served("web", "a.example", 6)]);
    assert_eq!(world.look(reached(7)), ["Create api 7 Programmed in force on 3/3 nodes"]);
}

#[test]
fn of_edits_that_follow_each_other_the_last_is_told() {
    let mut world = World::new(vec![served("web", "a.example", 5)]);
    world.note(vec![served("web", "b.example", 6)]);
    world.note(vec![served("web", "c.example", 7)]);
    assert_eq!(world.look(reached(6)), Vec::<String>::new());
    assert_eq!(world.look(reached(7)), ["Create web 7 Programmed in force on 3/3 nodes"]);
}

#[test]
fn a_version_that_comes_into_force_later_is_told_then() {
    let mut world = World::new(vec![served("web", "a.example", 5)]);
    let held = Served { previous: Some(served("web", "a.example", 5).object), ..served("web", "b.example", 9) };
    world.programmed.note(&vec![held].into(), &[name("web")], world.now);
    assert_eq!((world.programmed.look_at(), world.look(reached(9))), (None, vec![]));
    world.note(vec![served("web", "b.example", 9)]);
    assert_eq!(world.look(reached(9)), ["Create web 9 Programmed in force on 3/3 nodes"]);
}

#[test]
fn who_is_gone_or_not_ours_or_held_is_told_nothing() {
    let foreign = || Served { accepted: false, ..served("web", "b.example", 9) };
    for (case, then, held) in [
        ("gone", vec![], vec![]),
        ("another of its name", vec![Served { object: served("other", "b.example", 9).object, previous: None, accepted: false }], vec![]),
        ("another controller's", vec![foreign()], vec![]),
        ("held", vec![served("web", "b.example", 9)], vec![name("web")]),
    ] {
        let mut world = World::new(vec![served("web", "a.example", 5)]);
        world.note(vec![served("web", "b.example", 9)]);
        world.programmed.note(&then.into(), &held, world.now);
        assert_eq!((world.programmed.look_at(), world.look(reached(99))), (None, vec![]), "{case}");
    }
    let mut world = World::new(vec![]);
    world.note(vec![foreign()]);
    assert_eq!(world.programmed.look_at(), None);
}

#[test]
fn a_node_that_lags_is_looked_at_ever_more_rarely_and_at_last_given_up() {
    let mut world = World::new(vec![served("web", "a.example", 5)]);
    let begin = world.now;
    world.note(vec![served("web", "b.example", 9)]);
    let mut looks = Vec::new();
    while let Some(at) = world.programmed.look_at() {
        looks.push(at);
        assert_eq!(world.look(reached(8)), Vec::<String>::new());
    }
    let gaps: Vec<Duration> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[..5].iter().all(|gap| *gap == PROGRAMMED_POLL) && gaps.is_sorted(), "{gaps:?}");
    assert!(looks.len() < 80 && *looks.last().unwrap() - begin >= PROGRAMMED_PATIENCE, "{}", looks.len());
    // Nobody is counted where nobody is Ready.
    world.note(vec![served("web", "c.example", 12)]);
    assert_eq!(world.look(|_| Progress::default()), Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_is_tried_again_more_rarely_and_said_once() {
    let mut world = World::new(vec![served("web", "a.example", 5)]);
    world.note(vec![served("web", "b.example", 9)]);
    let nothing = || None::<&fn(&Target) -> Progress>;
    let mut said = Vec::new();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let at = world.programmed.look_at().unwrap();
        pauses.push(at - world.now);
        world.now = at;
        said.push(world.programmed.looked(nothing(), world.now));
    }
    assert!(said == [true, false, false, false] && pauses.is_sorted_by(|one, next| one < next), "{said:?} {pauses:?}");
    let at = world.programmed.look_at().unwrap();
    assert!(world.programmed.looked(Some(&reached(9)), at), "its end is said");
    world.now = at;
    assert_eq!(world.look(reached(9)), ["Create web 9 Programmed in force on 3/3 nodes"]);
}

#[test]
fn an_event_of_a_leader_before_is_met_and_one_that_expired_is_made_anew() {
    let mut world = World::new(vec![served("web", "a.example", 5)]);
    let edit = |world: &mut World, version: u32, answer: fn(&Notice) -> Outcome| {
        world.note(vec![served("web", &format!("v{version}.example"), version)]);
        world.now = world.programmed.look_at().unwrap();
        world.programmed.looked(Some(&reached(u128::MAX)), world.now);
        world.write(answer).iter().map(|line| line.split(" web ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let exists = |notice: &Notice| if notice.how == How::Create { Outcome::Exists } else { Outcome::Stored(4) };
    assert_eq!(edit(&mut world, 9, exists), ["Create", "Adopt"]);
    let expired = |notice: &Notice| if notice.how == How::Create { Outcome::Stored(1) } else { Outcome::Missing };
    assert_eq!(edit(&mut world, 10, expired), ["Repeat { count: 5 }", "Create"]);
    assert_eq!(edit(&mut world, 11, |_| Outcome::Refused), ["Repeat { count: 2 }"], "and not again");
    assert_eq!(edit(&mut world, 12, |_| Outcome::Unreachable), ["Repeat { count: 2 }"]);
    for _ in 0..20 {
        world.now += PROGRAMMED_POLL * 100;
        world.write(|_| Outcome::Unreachable);
    }
    assert!(world.programmed.pending.is_empty(), "given up");
}

#[test]
fn more_edits_than_there_is_room_for_are_dropped() {
    let all =
        |host: &str, version| (0..PROGRAMMED_PENDING + 5).map(|number| served(&format!("web-{number}"), host, version)).collect::<Vec<_>>();
    let mut world = World::new(all("a.example", 5));
    world.note(all("b.example", 9));
    assert_eq!(world.programmed.pending.len(), PROGRAMMED_PENDING);
    world.note(all("c.example", 10));
    assert!(
        world.programmed.pending.len() == PROGRAMMED_PENDING && world.programmed.pending.values().all(|edit| edit.target.version == 10)
    );
}
