//! WebSockets that clients hold open: each has a message echoed every second, connects again where it ended, and keeps account of how that was.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    sync::watch::{self, Receiver},
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, protocol::frame::coding::CloseCode},
};

use crate::{
    namespace::Namespace,
    wait::{PATIENCE, eventually},
};

/// Between two messages of one client, and between two tries to connect.
const PACE: Duration = Duration::from_secs(1);
/// For a connection with its handshake, and for an echo.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// For the rest of a closing handshake.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// So many of them at any time, but for the moments in which some connect again.
#[derive(Debug)]
pub struct WebSockets {
    count: u32,
    /// Once it is dropped, at the latest when a scenario gives up, each client says goodbye.
    stop: watch::Sender<()>,
    tally: Arc<Mutex<Tally>>,
    thread: JoinHandle<()>,
}

/// What they have met.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many are open now.
    pub open: u32,
    /// Messages that came back.
    pub echoes: usize,
    /// In this order.
    pub ended: Vec<End>,
}

/// One that ended, or didn't come to be, and not because we wanted it.
#[derive(Debug, Clone)]
pub struct End {
    pub at: Instant,
    pub target: SocketAddr,
    pub how: How,
}

#[derive(Debug, Clone)]
pub enum How {
    /// By a `Close` with the status 1001: whoever sent it goes away.
    Told,
    /// Otherwise.
    Broken(String),
    /// It wasn't open yet.
    Refused(String),
}

/// One of the clients.
struct Client {
    target: SocketAddr,
    host: Arc<str>,
    ticks: Interval,
    stopped: Receiver<()>,
    tally: Arc<Mutex<Tally>>,
}

type Socket = WebSocketStream<TcpStream>;

impl WebSockets {
    /// Begins to hold `count` of them at `ws://HOST/ws` of the sample backend, the targets taking turns, from a namespace.
    pub fn open(from: &Namespace, targets: &[SocketAddr], host: &str, count: u32) -> Self {
        let (stop, stopped) = watch::channel(());
        let tally = Arc::<Mutex<Tally>>::default();
        let (targets, host, account): (_, Arc<str>, _) = (targets.to_vec(), host.into(), Arc::clone(&tally));
        let enter = from.entrance();
        let work = move || {
            enter.within_async(async || {
                let mut clients = JoinSet::new();
                for (number, target) in (0..count).zip(targets.iter().cycle()) {
                    let (host, stopped, tally) = (Arc::clone(&host), stopped.clone(), Arc::clone(&account));
                    // Not all of them in one moment of each second.
                    let mut ticks = interval_at(Instant::now() + PACE * number / count, PACE);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    clients.spawn(Client { target: *target, host, ticks, stopped, tally }.run());
                }
                clients.join_all().await;
            });
        };
        Self { count, stop, tally, thread: thread::spawn(work) }
    }

    /// Waits until each of them is open.
    pub async fn all_open(&self) -> anyhow::Result<()> {
        eventually("all WebSockets are open", PATIENCE, async || {
            let tally = lock(&self.tally);
            let last = tally.ended.last().map(ToString::to_string);
            ensure!(tally.open == self.count, "{} of {}; the last that ended: {last:?}", tally.open, self.count);
            Ok(())
        })
        .await
    }

    /// Ends them all.
    pub fn stop(self) -> Tally {
        drop(self.stop);
        self.thread.join().expect("the thread of the WebSockets");
        std::mem::take(&mut *lock(&self.tally))
    }
}

impl Tally {
    /// Those that were told.
    pub fn told(&self) -> impl Iterator<Item = &End> {
        self.ended.iter().filter(|end| matches!(end.how, How::Told))
    }

    /// Those that were open and ended otherwise.
    pub fn broken(&self) -> impl Iterator<Item = &End> {
        self.ended.iter().filter(|end| matches!(end.how, How::Broken(_)))
    }

    /// Those and the ones that didn't come to be.
    pub fn lost(&self) -> impl Iterator<Item = &End> {
        self.ended.iter().filter(|end| !matches!(end.how, How::Told))
    }

    /// The largest number that was told within a second, whenever that begins.
    pub fn most_told_in_a_second(&self) -> usize {
        let told: Vec<Instant> = self.told().map(|end| end.at).collect();
        let from = |(first, at): (usize, &Instant)| told[first..].partition_point(|later| *later < *at + Duration::from_secs(1));
        told.iter().enumerate().map(from).max().unwrap_or_default()
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Told => write!(formatter, "{}: told that it goes away", self.target),
            How::Broken(what) => write!(formatter, "{}: broken: {what}", self.target),
            How::Refused(what) => write!(formatter, "{}: not opened: {what}", self.target),
        }
    }
}

impl Client {
    async fn run(mut self) {
        while self.stopped.has_changed().is_ok() {
            match connect(self.target, &self.host).await {
                Ok(socket) => {
                    lock(&self.tally).open += 1;
                    let ended = self.converse(socket).await;
                    lock(&self.tally).open -= 1;
                    if let Some(how) = ended {
                        self.note(how);
                    }
                }
                Err(error) => {
                    self.note(How::Refused(format!("{error:#}")));
                    self.ticks.tick().await;
                }
            }
        }
    }

    fn note(&self, how: How) {
        lock(&self.tally).ended.push(End { at: Instant::now(), target: self.target, how });
    }

    /// Sends messages and takes their echoes, until it ends; None where it ended as we wanted.
    async fn converse(&mut self, mut socket: Socket) -> Option<How> {
        let (mut number, mut awaited) = (0, None::<(String, Instant)>);
        loop {
            tokio::select! {
                _ = self.stopped.changed() => {
                    close(&mut socket).await;
                    return None;
                }
                _ = self.ticks.tick() => match &awaited {
                    Some((text, sent)) if sent.elapsed() > ANSWERED_WITHIN => return Some(How::Broken(format!("no echo of {text:?}"))),
                    Some(_) => {}
                    None => {
                        number += 1;
                        let text = format!("message {number}");
                        if let Err(error) = socket.send(Message::text(text.clone())).await {
                            return Some(How::Broken(format!("can't send: {error}")));
                        }
                        awaited = Some((text, Instant::now()));
                    }
                },
                message = socket.next() => match (message, awaited.take()) {
                    (Some(Ok(Message::Text(text))), Some((wanted, _))) if *text == *wanted => lock(&self.tally).echoes += 1,
                    (Some(Ok(Message::Close(Some(frame)))), _) if frame.code == CloseCode::Away => {
                        close(&mut socket).await;
                        return Some(How::Told);
                    }
                    (message, awaited) => return Some(How::Broken(format!("{message:?} in the place of {awaited:?}"))),
                }
            }
        }
    }
}

async fn connect(target: SocketAddr, host: &str) -> anyhow::Result<Socket> {
    let opened = async {
        let stream = TcpStream::connect(target).await.context("no connection")?;
        let (socket, _) = client_async(format!("ws://{host}/ws"), stream).await.context("no handshake")?;
        anyhow::Ok(socket)
    };
    timeout(ANSWERED_WITHIN, opened).await.with_context(|| format!("not within {ANSWERED_WITHIN:?}"))?
}

/// Says `Close`, or answers one, and waits a little for the end. How that comes doesn't matter any more.
async fn close(socket: &mut Socket) {
    let closing = async {
        socket.close(None).await?;
        while let Some(message) = socket.next().await {
            message?;
        }
        Ok::<_, Error>(())
    };
    _ = timeout(CLOSED_WITHIN, closing).await;
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
