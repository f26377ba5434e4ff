//! A small steady load from the client namespace, which keeps account of every answer.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    http::{Answer, Client},
    namespace::Namespace,
    wait::{PATIENCE, eventually},
};

/// What takes longer is told of beside a failure.
const SLOW: Duration = Duration::from_millis(500);

/// A running load: each target gets its turn, first over a connection that is kept, the next time over a fresh one. A request that takes
/// long doesn't hold the next ones up.
#[derive(Debug)]
pub struct Load {
    stop: Stop,
    began: Instant,
    ended: Arc<AtomicU32>,
    tally: Arc<Mutex<Tally>>,
    thread: JoinHandle<()>,
}

/// Tells the thread to end, at the latest when a scenario gives up.
#[derive(Debug)]
struct Stop(Arc<AtomicBool>);

/// What a load has met.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: u32,
    /// In the order of their ends.
    pub failed: Vec<Failure>,
    /// How many answers came from each sample backend.
    pub by_backend: BTreeMap<String, u32>,
    /// In the order of their ends, too.
    pub succeeded: Vec<Success>,
    /// The longest that an answer took.
    pub slowest: Duration,
    /// The longest at one target between the starts of two requests that were answered, one after the other.
    pub longest_gap: Duration,
    /// When the latest request that a target answered was sent.
    answered: BTreeMap<SocketAddr, Duration>,
}

/// A request with the answer 200.
#[derive(Debug, Clone)]
pub struct Success {
    /// When it was sent, after the load's start.
    pub sent: Duration,
    /// Until the whole answer was there.
    pub took: Duration,
    pub target: SocketAddr,
    /// The `--name` of the sample backend that answered; empty where it was none.
    pub backend: String,
}

/// A request without an answer, or with another than 200.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When it was sent, after the load's start.
    pub sent: Duration,
    /// How long it took to fail.
    pub took: Duration,
    pub target: SocketAddr,
    /// Whether it had a connection of its own.
    pub fresh: bool,
    pub what: String,
}

impl Load {
    /// Begins to send `rate` requests a second for `http://HOST/` to the targets, from a namespace.
    pub fn start(from: &Namespace, targets: &[SocketAddr], host: &str, rate: u32) -> Self {
        let stop = Stop(Arc::default());
        let (ended, tally) = (Arc::new(AtomicU32::new(0)), Arc::<Mutex<Tally>>::default());
        let began = Instant::now();
        let (targets, host, stopped) = (targets.to_vec(), host.to_owned(), Arc::clone(&stop.0));
        let (count, account) = (Arc::clone(&ended), Arc::clone(&tally));
        let enter = from.entrance();
        let work = move || enter.within_async(async || send(&targets, &host, rate, began, &stopped, &count, &account).await);
        Self { stop, began, ended, tally, thread: thread::spawn(work) }
    }

    /// The present, as [`Failure::sent`] counts.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until so many more requests have ended, well or not.
    pub async fn ended(&self, more: u32) -> anyhow::Result<()> {
        let wanted = self.ended.load(Ordering::Relaxed) + more;
        eventually(&format!("{more} more requests of the load ended"), PATIENCE, async || {
            let ended = self.ended.load(Ordering::Relaxed);
            if ended < wanted { Err(format!("{} to go", wanted - ended)) } else { Ok(()) }
        })
        .await
    }

    /// Waits for the first answer of a target to what was sent after that moment, as [`Failure::sent`] counts.
    pub async fn answers_again(&self, target: SocketAddr, since: Duration) -> anyhow::Result<Success> {
        let is_it = |success: &&Success| success.target == target && success.sent >= since;
        eventually(&format!("{target} answers again"), PATIENCE, async || {
            self.so_far(|tally| tally.succeeded.iter().find(is_it).cloned()).ok_or("no answer yet")
        })
        .await
    }

    /// Looks at what it has met so far.
    pub fn so_far<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&lock(&self.tally))
    }

    /// Ends it, once the last answers are there.
    pub fn stop(self) -> Tally {
        drop(self.stop);
        self.thread.join().expect("the load's thread");
        std::mem::take(&mut *lock(&self.tally))
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Tally {
    /// An error that counts the failures and shows the first ones, if there are any; and what was slow, as more than one request suffers where a machine does.
    pub fn all_succeeded(&self) -> anyhow::Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = self.failed.iter().take(5).map(ToString::to_string).collect();
        let slow: Vec<String> = self.succeeded.iter().filter(|success| success.took > SLOW).map(ToString::to_string).collect();
        anyhow::bail!(
            "{} of {} requests failed:\n  {}\nand {} took more than {SLOW:?}:\n  {}",
            self.failed.len(),
            self.sent,
            shown.join("\n  "),
            slow.len(),
            slow.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n  ")
        );
    }
}

impl fmt::Display for Success {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, took) = (self.sent.as_secs_f32(), self.took.as_secs_f32());
        write!(formatter, "at {sent:.2} s to {}, answered by {:?} after {took:.2} s", self.target, self.backend)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = if self.fresh { "fresh" } else { "kept" };
        let (sent, took) = (self.sent.as_secs_f32(), self.took.as_secs_f32());
        write!(formatter, "at {sent:.2} s to {} ({connection} connection), after {took:.2} s: {}", self.target, self.what)
    }
}

async fn send(
    targets: &[SocketAddr],
    host: &str,
    rate: u32,
    began: Instant,
    stop: &AtomicBool,
    ended: &Arc<AtomicU32>,
    tally: &Arc<Mutex<Tally>>,
) {
    let host: Arc<str> = host.into();
    // A kept connection that is busy with a slow request is not waited for: the target gets another one.
    let kept: Vec<_> = targets.iter().map(|_| Arc::new(Mutex::new(None))).collect();
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut requests, mut number) = (JoinSet::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        while requests.try_join_next().is_some() {}
        let target = targets[number % targets.len()];
        let kept = (number / targets.len()).is_multiple_of(2).then(|| Arc::clone(&kept[number % targets.len()]));
        number += 1;
        let (tally, host, ended) = (Arc::clone(tally), Arc::clone(&host), Arc::clone(ended));
        requests.spawn(async move {
            let sent = began.elapsed();
            let idle = kept.as_ref().and_then(|kept| lock(kept).take());
            let mut client = idle.unwrap_or_else(|| Client::new(target));
            let result = client.get(&host, "/", &[]).await;
            let took = began.elapsed().saturating_sub(sent);
            let failure = |what| Failure { sent, took, target, fresh: kept.is_none(), what };
            let success = |backend| Success { sent, took, target, backend };
            let mut tally = lock(&tally);
            if result.as_ref().is_ok_and(|answer| answer.status == 200) {
                tally.note_answer(target, sent);
            }
            tally.note(result, took, success, failure);
            drop(tally);
            ended.fetch_add(1, Ordering::Relaxed);
            if let Some(kept) = kept {
                *lock(&kept) = Some(client);
            }
        });
    }
    requests.join_all().await;
}

impl Tally {
    fn note(
        &mut self,
        result: anyhow::Result<Answer>,
        took: Duration,
        success: impl FnOnce(String) -> Success,
        failure: impl FnOnce(String) -> Failure,
    ) {
        self.sent += 1;
        self.slowest = self.slowest.max(took);
        match result {
            Ok(answer) if answer.status == 200 => {
                let backend = answer.backend().unwrap_or_default();
                *self.by_backend.entry(backend.clone()).or_default() += 1;
                self.succeeded.push(success(backend));
            }
            Ok(answer) => self.failed.push(failure(answer.to_string())),
            Err(error) => self.failed.push(failure(format!("{error:#}"))),
        }
    }

    fn note_answer(&mut self, target: SocketAddr, sent: Duration) {
        let before = self.answered.get(&target).copied().unwrap_or(sent);
        self.longest_gap = self.longest_gap.max(sent.saturating_sub(before));
        self.answered.insert(target, before.max(sent));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
