//! Who computes next: handshakes are expensive, and clients that can't be served in time are to keep nobody from being served who can.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use tokio::sync::oneshot;

use crate::config::limits::{HANDSHAKES_AT_ONCE, HANDSHAKES_IN_ORDER, HANDSHAKES_WAITING};

/// Those of one worker.
#[derive(Default)]
pub(in super::super) struct Turns(RefCell<Books>);

#[derive(Default)]
struct Books {
    taken: usize,
    first: Queue,
    later: Queue,
    /// Which of the two it was last.
    last: Option<Flight>,
}

/// What of a handshake is to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flight {
    /// The answer to the client's first message: most often the key exchange and the signature.
    First,
    /// What follows: the client's own certificates, or all that the first answer has put off. It goes in turn with first ones, or a flood of these would let it wait
    /// for so long that what was computed before was in vain.
    Later,
}

/// Held while one handshake is computed. The next one's turn comes when it is dropped.
pub(super) struct Turn(Rc<Turns>);

/// Those that wait, the oldest at the front. Whoever has left counts until it is met.
#[derive(Default)]
struct Queue(VecDeque<oneshot::Sender<Turn>>);

impl Turns {
    /// Resolves when it is this handshake's turn. `None`: it has waited for longest of too many.
    pub(super) async fn take(self: &Rc<Self>, flight: Flight) -> Option<Turn> {
        match self.ask(flight) {
            Ok(turn) => Some(turn),
            Err(waiting) => waiting.await.ok(),
        }
    }

    /// A turn, or where it will come from.
    fn ask(self: &Rc<Self>, flight: Flight) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut books = self.0.borrow_mut();
        if books.taken < HANDSHAKES_AT_ONCE {
            books.taken += 1;
            return Ok(Turn(Rc::clone(self)));
        }
        Err(match flight {
            Flight::First => books.first.push(),
            Flight::Later => books.later.push(),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Self(turns) = self;
        let next = turns.0.borrow_mut().next();
        match next {
            // It waits, as was found a moment ago, so that nothing comes back.
            Some(next) => drop(next.send(Self(Rc::clone(turns)))),
            None => turns.0.borrow_mut().taken -= 1,
        }
    }
}

impl Books {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let order = if self.last == Some(Flight::Later) { [Flight::First, Flight::Later] } else { [Flight::Later, Flight::First] };
        for flight in order {
            let next = match flight {
                Flight::First => self.first.pop(),
                Flight::Later => self.later.pop(),
            };
            if next.is_some() {
                self.last = Some(flight);
                return next;
            }
        }
        None
    }
}

impl Queue {
    fn push(&mut self) -> oneshot::Receiver<Turn> {
        let Self(waiting) = self;
        let (sender, receiver) = oneshot::channel();
        waiting.push_back(sender);
        if waiting.len() > HANDSHAKES_WAITING {
            // Which tells it.
            waiting.pop_front();
        }
        receiver
    }

    /// The oldest; of too many, the newest, whose client is there still.
    fn pop(&mut self) -> Option<oneshot::Sender<Turn>> {
        let Self(waiting) = self;
        loop {
            // All have the same time, so that those who have left are the oldest.
            while waiting.front().is_some_and(oneshot::Sender::is_closed) {
                waiting.pop_front();
            }
            let next = if waiting.len() > HANDSHAKES_IN_ORDER { waiting.pop_back() } else { waiting.pop_front() }?;
            if !next.is_closed() {
                return Some(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, task::Poll};

    use futures_util::FutureExt;

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Option<Turn>>>>;

    fn wait(turns: &Rc<Turns>, flight: Flight) -> Waiting {
        let turns = Rc::clone(turns);
        let mut waiting: Waiting = Box::pin(async move { turns.take(flight).await });
        assert!(poll(&mut waiting).is_pending());
        waiting
    }

    fn poll(waiting: &mut Waiting) -> Poll<Option<Turn>> {
        waiting.now_or_never().map_or(Poll::Pending, Poll::Ready)
    }

    fn take(turns: &Rc<Turns>) -> Turn {
        turns.take(Flight::First).now_or_never().flatten().unwrap()
    }

    /// Ends a turn, and finds whose is next: its number, and the turn.
    fn pass(turn: Turn, waiting: &mut [Waiting]) -> (usize, Turn) {
        drop(turn);
        let mut next = waiting.iter_mut().enumerate().filter_map(|(number, waiting)| match poll(waiting) {
            Poll::Ready(Some(turn)) => Some((number, turn)),
            Poll::Ready(None) => panic!("{number} was dropped"),
            Poll::Pending => None,
        });
        let found = next.next().expect("somebody is next");
        assert!(next.next().is_none(), "one at a time");
        found
    }

    #[test]
    fn those_who_wait_come_in_order_while_they_are_few_and_the_newest_first_when_they_are_many() {
        let turns = Rc::new(Turns::default());
        let mut turn = take(&turns);
        let mut waiting: Vec<_> = (0..HANDSHAKES_IN_ORDER + 3).map(|_| wait(&turns, Flight::First)).collect();
        for _ in 0..3 {
            let (number, next) = pass(turn, &mut waiting);
            assert_eq!(number, waiting.len() - 1, "the newest");
            drop(waiting.pop());
            turn = next;
        }
        while !waiting.is_empty() {
            let (number, next) = pass(turn, &mut waiting);
            assert_eq!(number, 0, "the oldest");
            drop(waiting.remove(0));
            turn = next;
        }
        drop(turn);
        drop(take(&turns));
    }

    #[test]
    fn of_too_many_the_one_that_has_waited_for_longest_is_told_to_go() {
        let turns = Rc::new(Turns::default());
        let turn = take(&turns);
        let mut waiting: Vec<_> = (0..HANDSHAKES_WAITING + 2).map(|_| wait(&turns, Flight::First)).collect();
        for gone in waiting.drain(..2) {
            assert!(matches!(gone.now_or_never(), Some(None)));
        }
        assert!(waiting.iter_mut().all(|waiting| poll(waiting).is_pending()));
        assert_eq!(pass(turn, &mut waiting).0, HANDSHAKES_WAITING - 1);
    }

    #[test]
    fn whoever_has_left_takes_nobody_s_turn() {
        let turns = Rc::new(Turns::default());
        let turn = take(&turns);
        let mut waiting: Vec<_> = (0..4).map(|_| wait(&turns, Flight::First)).collect();
        drop(waiting.remove(0));
        drop(waiting.remove(1));
        let (number, turn) = pass(turn, &mut waiting);
        assert_eq!(number, 0);
        drop(waiting.remove(0));
        // Told, and gone before it has heard.
        drop(turn);
        waiting.clear();
        let turn = take(&turns);
        drop(wait(&turns, Flight::First));
        drop(turn);
        drop(take(&turns));
    }

    #[test]
    fn a_flood_of_beginnings_keeps_no_handshake_from_its_end_nor_the_other_way_round() {
        let turns = Rc::new(Turns::default());
        let mut turn = take(&turns);
        let flights = [Flight::First, Flight::First, Flight::Later, Flight::Later];
        let mut waiting: Vec<_> = flights.into_iter().map(|flight| wait(&turns, flight)).collect();
        let mut order = Vec::new();
        for _ in flights {
            let (number, next) = pass(turn, &mut waiting);
            order.push(number);
            // Those that are done stay, and say no more.
            waiting[number] = Box::pin(std::future::pending());
            turn = next;
        }
        assert_eq!(order, [2, 0, 3, 1]);
    }
}
