//! Limits of the Events written to the API server.

use std::time::Duration;

/// How long a finding must last before it becomes an Event, and its end before that is told: `kubectl apply` of an Ingress, then of its Service,
/// is no news.
pub const EVENT_SETTLE: Duration = Duration::from_secs(2);

/// After that time a finding that lasts is told again. Half of [`EVENT_LIFETIME`], so that its Event never expires, one failed try included.
pub const EVENT_REFRESH: Duration = Duration::from_mins(30);

/// How long the API server keeps an Event that isn't written again, `--event-ttl` of kube-apiserver; as long it is remembered here.
pub const EVENT_LIFETIME: Duration = Duration::from_hours(1);

/// Requests about Events at once, when nothing was written for a while: most clusters' findings, all told in one go.
pub const EVENT_BURST: u32 = 50;

/// Then, time between two requests: 20 a second, under half of what each kubelet may send. [`EVENT_COUNT`] are told within 17 minutes, and refreshed at half that
/// rate. Beyond: later, nothing is lost.
pub const EVENT_INTERVAL: Duration = Duration::from_millis(50);

/// As [`EVENT_BURST`], about one object: twice what it can have, since a new leader meets each Event with two requests, and some for changes.
pub const EVENT_OBJECT_BURST: u32 = 50;

/// As [`EVENT_INTERVAL`], about one object: one whose findings come and go all the time takes a small part of the whole. Its refreshes fit twice.
pub const EVENT_OBJECT_INTERVAL: Duration = Duration::from_secs(20);

/// Findings of one object that become Events. Beyond: one more Event that says so; nobody reads hundreds in `kubectl describe`.
pub const EVENTS_PER_OBJECT: usize = 20;

/// Events that are kept up at a time, those of the last [`EVENT_LIFETIME`] that say `Fixed` included. Beyond: findings wait without an Event until
/// others are gone, and one line in the log says so. Some 20 MB here and in etcd.
pub const EVENT_COUNT: usize = 20_000;

/// Edits of Ingresses that are on their way to all nodes, and of which an Event is to say that they have arrived. Beyond: they have none. Whoever changes so many
/// within a second doesn't read an Event of each.
pub const PROGRAMMED_PENDING: usize = 1_000;

/// Between two looks at what the nodes report while an edit is on its way; more rarely the longer that takes, a tenth of the time. About a kilobyte for each pod.
pub const PROGRAMMED_POLL: Duration = Duration::from_secs(1);

/// One such look. Beyond: as one that failed.
pub const PROGRAMMED_LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an edit may be on its way. Beyond: it has no Event; a node that lags for so long has trouble of its own.
pub const PROGRAMMED_PATIENCE: Duration = Duration::from_mins(10);

/// Events of that kind whose count is remembered. Beyond: all are forgotten, and cost one more request each the next time. And objects whose budget is, before
/// those are forgotten that have used none of it lately.
pub const PROGRAMMED_TOLD: usize = 10_000;

/// Tries to write such an Event while the API server doesn't answer, ever more rarely. Beyond: it isn't written.
pub const PROGRAMMED_TRIES: u32 = 5;

/// Bytes of an Event's message. Beyond: cut, with an ellipsis. The API's own limit (events.k8s.io/v1, `note`).
pub const EVENT_NOTE_BYTES: usize = 1024;

/// One request about an Event. Beyond: as an API server that is away.
pub const EVENT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a namespace is left alone in which an Event was refused: by RBAC, a quota or a policy. Nobody mends those faster.
pub const EVENT_REFUSED_PAUSE: Duration = Duration::from_mins(1);

/// Longest pause between two tries while the API server is away; it begins with [`super::API_BACKOFF_MIN`]. Events are not urgent.
pub const EVENT_BACKOFF_MAX: Duration = Duration::from_mins(1);
