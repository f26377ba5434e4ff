//! That a Lease is taken only when it may be, and that a role ends by itself.

use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};
use tokio::task::yield_now;

use super::{
    lease::{Candidate, Verdict},
    *,
};

fn candidate() -> Candidate {
    let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let settings = Settings::new("n", "nodegate", "me");
    Candidate::new(client, settings, watch::channel(None).0)
}

fn spec(holder: Option<&str>, renewed: i64, seconds: i32) -> LeaseSpec {
    let time = |second| Some(MicroTime(jiff::Timestamp::from_second(second).unwrap()));
    LeaseSpec {
        holder_identity: holder.map(str::to_owned),
        acquire_time: time(1),
        renew_time: time(renewed),
        lease_duration_seconds: Some(seconds),
        ..LeaseSpec::default()
    }
}

#[tokio::test]
async fn a_lease_is_free_only_after_its_duration_without_a_change_that_we_saw_ourselves() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let mut candidate = candidate();
    // (what the Lease says, our seconds, what that means). Its times are years ago from the start, which says nothing.
    for (step, (spec, seconds, expected)) in [
        (spec(Some("other"), 1, 15), 0, Verdict::Held),
        (spec(Some("other"), 1, 15), 14, Verdict::Held),
        (spec(Some("other"), 2, 15), 14, Verdict::Held),
        (spec(Some("other"), 2, 15), 28, Verdict::Held),
        (spec(Some("other"), 2, 15), 29, Verdict::Free),
        // Another has taken it in between.
        (spec(Some("third"), 2, 15), 30, Verdict::Held),
        // Released.
        (spec(None, 3, 1), 31, Verdict::Free),
        (spec(Some(""), 3, 1), 31, Verdict::Free),
        // A holder with a longer duration than ours is given it, within reason; one with a shorter is given ours.
        (spec(Some("slow"), 4, 60), 40, Verdict::Held),
        (spec(Some("slow"), 4, 60), 99, Verdict::Held),
        (spec(Some("slow"), 4, 60), 100, Verdict::Free),
        (spec(Some("mad"), 5, i32::MAX), 100, Verdict::Held),
        (spec(Some("mad"), 5, i32::MAX), 399, Verdict::Held),
        (spec(Some("mad"), 5, i32::MAX), 400, Verdict::Free),
        (spec(Some("hasty"), 6, -1), 400, Verdict::Held),
        (spec(Some("hasty"), 6, -1), 414, Verdict::Held),
        (spec(Some("hasty"), 6, -1), 415, Verdict::Free),
        // Our name, but not our term: a process before us, perhaps a live one.
        (spec(Some("me"), 7, 15), 415, Verdict::Held),
        (spec(Some("me"), 7, 15), 430, Verdict::Free),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(candidate.judge(spec, at(seconds)), expected, "step {step}");
    }
}

#[test]
fn a_leader_stops_before_anyone_else_may_begin_with_time_for_two_tries() {
    let settings = Settings::new("n", "l", "i");
    assert!(settings.term() + settings.pause() < settings.duration);
    assert!(2 * settings.patience() <= settings.term());
    assert!(settings.pause() * 3 < settings.term());
}

#[tokio::test(start_paused = true)]
async fn a_role_is_gained_extended_and_ends_by_itself() {
    let (until, role) = watch::channel(None);
    let mut role = Role::from_channel(role);
    assert!(!role.leads());
    role.lost().await;
    let mut follower = role.clone();
    let follower = tokio::spawn(async move {
        follower.gained().await;
        follower.lost().await;
    });
    // The role is measured on the real clock, which a paused runtime doesn't stop.
    until.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
    role.gained().await;
    yield_now().await;
    assert!(role.leads() && !follower.is_finished());
    until.send_replace(Some(Instant::now()));
    assert!(!role.leads());
    follower.await.unwrap();
    role.lost().await;
}

#[tokio::test(start_paused = true)]
async fn a_role_whose_election_is_gone_ends_too() {
    let (until, role) = watch::channel(Some(Instant::now() + Duration::from_millis(5)));
    let mut role = Role::from_channel(role);
    drop(until);
    role.lost().await;
    assert!(!role.leads());
    assert!(time::timeout(Duration::from_secs(60), Role::never().gained()).await.is_err());
}
