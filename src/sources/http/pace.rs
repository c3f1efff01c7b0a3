//! How long a connection may be silent: a request's head has a deadline from its first byte (or from the handshake), and
//! between requests a known client may rest. Bodies have their own deadline, in `body`.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a known client may rest between two requests: longer than API servers keep idle connections, so that they
/// close them and not we.
const REST: Duration = Duration::from_mins(3);
/// Nothing waits this long: a deadline that does not matter.
const NEVER: Duration = Duration::from_hours(24);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A head is on its way.
    Head,
    /// A request is worked on.
    Busy,
    /// Between two requests.
    Rest,
    /// The last answer is given; the client may read it.
    Leave,
}

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    deadline: Instant,
    /// How many heads were read.
    turn: u64,
}

/// What a connection is at; shared by its stream and its service.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    state: Arc<Mutex<State>>,
    head: Duration,
    is_late: Arc<AtomicBool>,
}

impl Pace {
    pub(super) fn new(head: Duration) -> Self {
        let state = State { phase: Phase::Head, deadline: Instant::now() + head, turn: 0 };
        Self { state: Arc::new(Mutex::new(state)), head, is_late: Arc::default() }
    }

    /// A head was read; returns whose turn it is.
    pub(super) fn busy(&self) -> u64 {
        self.set(Phase::Busy, NEVER);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn += 1;
        state.turn
    }

    /// An answer is given, and another request may come, if it has not come already.
    pub(super) fn rest(&self, turn: u64) {
        if self.get().turn == turn {
            self.set(Phase::Rest, REST);
        }
    }

    /// The last answer is given.
    pub(super) fn leave(&self, within: Duration) {
        self.set(Phase::Leave, within);
    }

    /// Whether a head did not come in time.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }

    fn give_up(&self, phase: Phase) -> io::Error {
        self.is_late.store(phase == Phase::Head, Ordering::Relaxed);
        io::ErrorKind::TimedOut.into()
    }

    fn set(&self, phase: Phase, from_now: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.phase, state.deadline) = (phase, Instant::now() + from_now);
    }

    fn get(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that gives up when it is silent for too long.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Pace) -> Self {
        let alarm = Box::pin(sleep_until(pace.get().deadline));
        Self { stream, pace, alarm }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let State { phase, deadline, .. } = self.pace.get();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            // Also while bytes come: a head in small drops is not faster for it.
            let is_late = phase == Phase::Head && Instant::now() >= deadline;
            if phase == Phase::Rest {
                self.pace.set(Phase::Head, self.pace.head);
            }
            return Poll::Ready(if is_late { Err(self.pace.give_up(phase)) } else { result });
        }
        if self.alarm.deadline() != deadline {
            self.alarm.as_mut().reset(deadline);
        }
        ready!(self.alarm.as_mut().poll(cx));
        Poll::Ready(Err(self.pace.give_up(phase)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const HEAD: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_head_in_drops_meets_its_deadline() {
        let (mut client, server) = duplex(64);
        let mut paced = Paced::new(server, Pace::new(HEAD));
        let drops = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let mut byte = [0];
        let error = loop {
            if let Err(error) = paced.read_exact(&mut byte).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(paced);
        drops.await.unwrap();
    }

    #[tokio::test]
    async fn silence_ends_a_head_and_not_a_rest() {
        let (mut client, server) = duplex(64);
        let pace = Pace::new(HEAD);
        let mut paced = Paced::new(server, pace.clone());
        let mut byte = [0];
        let turn = pace.busy();
        pace.rest(turn);
        assert!(tokio::time::timeout(3 * HEAD, paced.read(&mut byte)).await.is_err(), "it rests");
        // The first byte of the next head starts its time.
        client.write_all(b"P").await.unwrap();
        paced.read_exact(&mut byte).await.unwrap();
        assert_eq!(paced.read(&mut byte).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(pace.is_late());
        pace.leave(HEAD);
        assert_eq!(paced.read(&mut byte).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!pace.is_late(), "the head had come");
        pace.busy();
        pace.rest(turn);
        assert_eq!(pace.get().phase, Phase::Busy, "the next request had come before the rest");
    }
}
