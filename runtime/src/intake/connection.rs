//! Connection: one connection's life, and how long each part of it may take.
//!
//! hyper's own header timeout also counts the idle time between two requests and closes without a word. A sender
//! of slow headers is owed a 408, and an idle connection is not slow. So the times are kept here: `Pulse` knows
//! what the connection is doing, `Watched` sees its bytes, and `serve` acts when something is overdue.
//!
//! Not here: sockets and TLS (`serve`, `tls`), and what a request is answered (`receive`).

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::alarm::{Alarm, Seldom};
use super::refusal::{Answer, Refused, slow_headers_answer};
use crate::words::limits::{
    ACCEPT_TIME_MIN, ANSWER_TIMEOUT, CLOSE_TIMEOUT, H2_CONNECTION_WINDOW_BYTES, H2_PING_INTERVAL,
    H2_PING_TIMEOUT, H2_STREAM_WINDOW_BYTES, H2_STREAMS_MAX, HEADERS_BYTES_MAX, HEADERS_MAX, IDLE_TIMEOUT,
    LINGER_BYTES_MAX, LINGER_TIMEOUT, WRITE_TIMEOUT,
};
use crate::words::time::Millis;

/// HTTP/1.1 and HTTP/2 with our bounds. hyper itself bounds what HTTP/2 peers are known to flood with: streams
/// reset at once, empty frames, settings, pings.
pub(super) fn http() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEADERS_BYTES_MAX)
        // A sender that has shut its side still gets its answer. It also spares each request a read, into a new
        // buffer, that could only find the connection's end.
        .half_close(true)
        // An answer is a few dozen bytes: one buffer, one plain write.
        .writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX as u32)
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// Serves one connection to its end. When `stop` is cancelled, the request in flight is its last.
///
/// # Errors
/// What was refused before it was a request. A peer that goes away is no error.
pub(super) async fn serve<I, S>(
    io: I,
    http: &auto::Builder<TokioExecutor>,
    service: S,
    pulse: Arc<Pulse>,
    stop: &CancellationToken,
) -> Result<(), Refused>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Answer, Error = Infallible>,
    S::Future: Send + 'static,
{
    let io = TokioIo::new(Watched::new(io, Arc::clone(&pulse)));
    let mut connection = pin!(http.serve_connection(io, service));
    let mut stopped = pin!(stop.cancelled());
    let mut stopped = Seldom::new(stopped.as_mut());
    let mut alarm = Alarm::new(pulse.first_deadline());
    let mut stopping = false;
    let mut closing: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut stopped, if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            ended = connection.as_mut() => return judge(ended, &pulse),
            overdue = pulse.overdue(&mut alarm), if closing.is_none() => match overdue {
                Overdue::Headers => pulse.cut(),
                Overdue::Request => {
                    closing = Some(Instant::now() + pulse.times.close);
                    connection.as_mut().graceful_shutdown();
                }
            },
            () = at(closing) => return Ok(()),
        }
    }
}

/// How long each part of a connection's life may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// From a request's first byte to the end of its headers.
    header: Duration,
    /// Without a request.
    idle: Duration,
    /// Without the client taking anything of its answer.
    write: Duration,
    /// Reading on after our side is closed.
    linger: Duration,
    /// From being asked to close to being dropped.
    close: Duration,
}

impl Times {
    /// However long headers may take, the answer must still be possible in time.
    pub(super) fn new(header: Duration) -> Times {
        let header = header.min(ANSWER_TIMEOUT - ACCEPT_TIME_MIN);
        Times {
            header,
            idle: IDLE_TIMEOUT,
            write: WRITE_TIMEOUT,
            linger: LINGER_TIMEOUT,
            close: CLOSE_TIMEOUT,
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn judge(ended: Result<(), Box<dyn StdError + Send + Sync>>, pulse: &Pulse) -> Result<(), Refused> {
    if pulse.is_cut() {
        return Err(Refused::SlowHeaders(pulse.times.header));
    }
    let Err(error) = ended else { return Ok(()) };
    // hyper has answered 400, 414 or 431 to these. Everything else is a peer that went away.
    match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_parse_too_large() => {
            Err(Refused::HeadersTooLarge { bytes_max: HEADERS_BYTES_MAX, headers_max: HEADERS_MAX })
        }
        Some(error) if error.is_parse() => Err(Refused::Malformed(error.to_string())),
        _ => Ok(()),
    }
}

// === Pulse: what the connection is doing ===

/// What a connection is doing, and since when. Shared by its IO, its requests and the loop that serves it.
pub(super) struct Pulse {
    times: Times,
    /// The headers were too slow: the IO answers 408 and ends.
    cut: AtomicBool,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// The last request was refused, perhaps before its body had come.
    refused: bool,
    opening: Opening,
    /// For the next request.
    alarm: Option<Alarm>,
    /// The task that serves the connection. HTTP/2 requests run in tasks of their own and wake it.
    server: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Fresh { since: Instant },
    /// A request's first byte has come, its headers have not.
    Headers { since: Instant },
    /// Between the headers and the answer.
    Requests { count: usize },
    /// Between two requests.
    Idle { since: Instant },
    /// Ended by `cut`.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overdue {
    /// Headers that began and did not end: HTTP/1 has an answer for them.
    Headers,
    /// No request came: closed without a word.
    Request,
}

impl Pulse {
    pub(super) fn new(times: Times) -> Arc<Pulse> {
        let state = State {
            phase: Phase::Fresh { since: Instant::now() },
            refused: false,
            opening: Opening::default(),
            alarm: None,
            server: None,
        };
        Arc::new(Pulse { times, cut: AtomicBool::new(false), state: Mutex::new(state) })
    }

    fn first_deadline(&self) -> Instant {
        Instant::now() + self.times.header
    }

    /// The headers of a request are whole. It lasts until what is returned is dropped.
    pub(super) fn begin(&self) -> Begun<'_> {
        let now = Instant::now();
        let mut state = self.lock();
        let first_byte_at = match state.phase {
            Phase::Headers { since } if !state.opening.is_http2() => since,
            _ => now,
        };
        let count = match state.phase {
            Phase::Requests { count } => count + 1,
            _ => 1,
        };
        state.phase = Phase::Requests { count };
        state.refused = false;
        Begun { pulse: self, first_byte_at, at: now, refused: false, alarm: state.alarm.take() }
    }

    fn end(&self, refused: bool, alarm: Option<Alarm>) {
        let mut state = self.lock();
        state.refused |= refused;
        state.alarm = alarm.or(state.alarm.take());
        let Phase::Requests { count } = state.phase else { return };
        if count > 1 {
            state.phase = Phase::Requests { count: count - 1 };
            return;
        }
        state.phase = Phase::Idle { since: Instant::now() };
        let server = if state.opening.is_http2() { state.server.take() } else { None };
        drop(state);
        if let Some(server) = server {
            server.wake();
        }
    }

    fn bytes_came(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.opening.see(bytes);
        let begins = match state.phase {
            Phase::Fresh { .. } => true,
            // In HTTP/2 an idle peer sends acknowledgements and pings.
            Phase::Idle { .. } => !state.opening.is_http2(),
            Phase::Headers { .. } | Phase::Requests { .. } | Phase::Cut => false,
        };
        if begins {
            state.phase = Phase::Headers { since: Instant::now() };
        }
    }

    fn cut(&self) {
        self.lock().phase = Phase::Cut;
        self.cut.store(true, Ordering::Relaxed);
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Whether the peer may be in the middle of something that nobody will read.
    fn may_be_sending(&self) -> bool {
        let state = self.lock();
        match state.phase {
            Phase::Fresh { .. } => false,
            Phase::Idle { .. } => state.refused,
            Phase::Headers { .. } | Phase::Requests { .. } | Phase::Cut => true,
        }
    }

    /// Returns when the connection has been too long at what it is doing.
    async fn overdue(&self, alarm: &mut Alarm) -> Overdue {
        std::future::poll_fn(|cx| {
            let Some((deadline, overdue)) = self.deadline(cx.waker()) else { return Poll::Pending };
            alarm.poll_at(cx, deadline).map(|()| overdue)
        })
        .await
    }

    fn deadline(&self, server: &Waker) -> Option<(Instant, Overdue)> {
        let mut state = self.lock();
        if !state.server.as_ref().is_some_and(|known| known.will_wake(server)) {
            state.server = Some(server.clone());
        }
        match state.phase {
            Phase::Fresh { since } => Some((since + self.times.header, Overdue::Request)),
            Phase::Headers { since } if state.opening.is_http2() => {
                Some((since + self.times.header, Overdue::Request))
            }
            Phase::Headers { since } => Some((since + self.times.header, Overdue::Headers)),
            Phase::Idle { since } => Some((since + self.times.idle, Overdue::Request)),
            Phase::Requests { .. } | Phase::Cut => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request between its headers and its answer.
pub(super) struct Begun<'p> {
    pulse: &'p Pulse,
    /// Where the request began on the wire; with HTTP/2, where its headers ended.
    pub(super) first_byte_at: Instant,
    /// Where its headers ended.
    pub(super) at: Instant,
    refused: bool,
    /// Handed on from one request of the connection to the next.
    alarm: Option<Alarm>,
}

impl Begun<'_> {
    pub(super) fn was_refused(&mut self) {
        self.refused = true;
    }

    /// What `work` comes to, or None where it comes to nothing by `time`.
    pub(super) async fn by<T>(
        &mut self,
        time: Instant,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => {
                let alarm = self.alarm.get_or_insert_with(|| Alarm::new(time));
                alarm.poll_at(cx, time).map(|()| None)
            }
        })
        .await
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.pulse.end(self.refused, self.alarm.take());
    }
}

/// The first three bytes of a connection: HTTP/2 begins with `PRI`, which is no method of HTTP/1.
#[derive(Default)]
struct Opening {
    bytes: [u8; 3],
    seen: usize,
}

impl Opening {
    fn see(&mut self, bytes: &[u8]) {
        let wanted = self.bytes.len() - self.seen;
        for byte in bytes.iter().take(wanted) {
            self.bytes[self.seen] = *byte;
            self.seen += 1;
        }
    }

    fn is_http2(&self) -> bool {
        &self.bytes == b"PRI"
    }
}

// === Watched: the bytes of the connection ===

/// The connection's IO: tells the pulse when bytes come, answers slow headers, does not wait for ever for a
/// client that takes nothing, and closes so that the last answer arrives.
struct Watched<I> {
    io: I,
    pulse: Arc<Pulse>,
    /// What is left of the answer to slow headers.
    last_words: Option<Bytes>,
    stall: Option<Stall>,
    linger: Option<Linger>,
}

/// The client takes nothing. Ended by the step that it holds up: a flush of nothing says nothing of a write.
struct Stall {
    held_up: Step,
    patience: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    Flush,
    Shutdown,
}

struct Linger {
    ends: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Watched<I> {
    fn new(io: I, pulse: Arc<Pulse>) -> Self {
        Watched { io, pulse, last_words: None, stall: None, linger: None }
    }

    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left =
            self.last_words.take().unwrap_or_else(|| Bytes::from(slow_headers_answer(Millis::now())));
        while !left.is_empty() {
            match Pin::new(&mut *self).poll_write(cx, &left)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => left.advance(written),
                Poll::Pending => {
                    self.last_words = Some(left);
                    return Poll::Pending;
                }
            }
        }
        self.last_words = Some(left);
        Pin::new(self).poll_shutdown(cx)
    }

    /// Waits for a step, but not for ever.
    fn unless_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: Step,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stall.take_if(|stall| stall.held_up == step);
            return done;
        }
        let time = self.pulse.times.write;
        let begin = || Stall { held_up: step, patience: Box::pin(sleep(time)) };
        ready!(self.stall.get_or_insert_with(begin).patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Our side is closed; reads what the peer still sends until it closes too, or the bounds are reached.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let time = self.pulse.times.linger;
        let begin = || Linger { ends: Box::pin(sleep(time)), bytes_left: LINGER_BYTES_MAX };
        let linger = self.linger.get_or_insert_with(begin);
        let mut scratch = [0; 4096];
        loop {
            if linger.ends.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut thrown_away = ReadBuf::new(&mut scratch);
            let Ok(()) = ready!(Pin::new(&mut self.io).poll_read(cx, &mut thrown_away)) else {
                return Poll::Ready(());
            };
            let bytes = thrown_away.filled().len();
            if bytes == 0 || bytes > linger.bytes_left {
                return Poll::Ready(());
            }
            linger.bytes_left -= bytes;
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.pulse.is_cut() {
            ready!(self.poll_last_words(cx))?;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let came = &buffer.filled()[before..];
        if !came.is_empty() {
            self.pulse.bytes_came(came);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.unless_stalled(cx, Step::Write, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.unless_stalled(cx, Step::Write, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.unless_stalled(cx, Step::Flush, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let shut = Pin::new(&mut self.io).poll_shutdown(cx);
            ready!(self.unless_stalled(cx, Step::Shutdown, shut))?;
            if !self.pulse.may_be_sending() {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;

    use http_body_util::{BodyExt, Empty, Full};
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    const SOON: Duration = Duration::from_millis(30);
    const NEVER: Duration = Duration::from_secs(3600);

    /// Nothing is ever overdue; a test shortens the time that it is about.
    fn patient() -> Times {
        Times { header: NEVER, idle: NEVER, write: NEVER, linger: SOON, close: NEVER }
    }

    struct Guest {
        wire: DuplexStream,
        served: JoinHandle<Result<(), Refused>>,
        stop: CancellationToken,
    }

    /// A connection whose requests are answered by `answer`.
    fn guest<F, A>(times: Times, buffer: usize, answer: F) -> Guest
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let (wire, io) = duplex(buffer);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let served = tokio::spawn(async move {
            let pulse = Pulse::new(times);
            let begins = Arc::clone(&pulse);
            let service = service_fn(move |request| {
                let (pulse, answer) = (Arc::clone(&begins), answer(request));
                async move {
                    let mut begun = pulse.begin();
                    let response = answer.await;
                    if !response.status().is_success() {
                        begun.was_refused();
                    }
                    drop(begun);
                    Ok::<_, Infallible>(response)
                }
            });
            serve(io, &http(), service, pulse, &stopped).await
        });
        Guest { wire, served, stop }
    }

    async fn yes(request: Request<Incoming>) -> Answer {
        let body = request.into_body().collect().await.map(|body| body.to_bytes());
        Answer::new(Full::new(body.unwrap_or_default()))
    }

    /// Answers without reading the body.
    async fn no(_: Request<Incoming>) -> Answer {
        Refused::TooLarge { bytes_max: 1 }.answer(http::Version::HTTP_11)
    }

    impl Guest {
        async fn send(&mut self, text: &str) {
            self.wire.write_all(text.as_bytes()).await.unwrap();
        }

        /// Reads up to and with `end`.
        async fn read_to(&mut self, end: &str) -> String {
            let mut text = String::new();
            while !text.ends_with(end) {
                text.push(char::from(self.wire.read_u8().await.unwrap()));
            }
            text
        }

        async fn read_all(&mut self) -> String {
            let mut text = String::new();
            self.wire.read_to_string(&mut text).await.unwrap();
            text
        }

        async fn ended(self) -> Result<(), Refused> {
            self.served.await.unwrap()
        }
    }

    const WHOLE: &str = "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok";

    #[tokio::test]
    async fn slow_headers_are_answered_408() {
        let mut guest = guest(Times { header: SOON, ..patient() }, 1024, yes);
        guest.send("POST /x HTTP/1.1\r\nhost: ").await;
        let text = guest.read_all().await;
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{text}");
        assert!(
            text.contains("\r\nconnection: close\r\n") && text.ends_with("\r\n\r\n{\"error\":\"timeout\"}")
        );
        assert!(matches!(guest.ended().await, Err(Refused::SlowHeaders(SOON))));
    }

    #[tokio::test]
    async fn slow_headers_of_a_later_request_too() {
        let mut guest = guest(Times { header: SOON, ..patient() }, 1024, yes);
        guest.send(WHOLE).await;
        assert!(guest.read_to("\r\n\r\nok").await.starts_with("HTTP/1.1 200"));
        guest.send("P").await;
        assert!(guest.read_all().await.starts_with("HTTP/1.1 408"));
        assert!(guest.ended().await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_does_not_hold_its_408_up() {
        let mut guest = guest(Times { header: SOON, write: SOON, ..patient() }, 30, yes);
        guest.send("POST /x").await;
        let Guest { served, wire, .. } = guest;
        assert!(matches!(served.await.unwrap(), Err(Refused::SlowHeaders(_))));
        drop(wire);
    }

    #[tokio::test]
    async fn a_silent_connection_and_an_idle_one_are_closed_without_a_word() {
        let mut silent = guest(Times { header: SOON, ..patient() }, 1024, yes);
        assert_eq!(silent.read_all().await, "");
        assert!(silent.ended().await.is_ok());

        let mut idle = guest(Times { idle: SOON, ..patient() }, 1024, yes);
        idle.send(WHOLE).await;
        let answer = idle.read_all().await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(idle.ended().await.is_ok());
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_its_answer_is_dropped() {
        let mut guest = guest(Times { write: SOON, ..patient() }, 64, yes);
        guest.send(WHOLE).await;
        let Guest { served, wire, .. } = guest;
        assert!(served.await.unwrap().is_ok());
        drop(wire);
    }

    #[tokio::test]
    async fn a_sender_that_has_shut_its_side_gets_its_answer() {
        let go = Arc::new(Notify::new());
        let goes = Arc::clone(&go);
        let mut guest = guest(patient(), 1 << 16, move |request| {
            let goes = Arc::clone(&goes);
            async move {
                goes.notified().await;
                yes(request).await
            }
        });
        guest.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await;
        guest.wire.shutdown().await.unwrap();
        go.notify_one();
        let mut answer = String::new();
        guest.wire.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hi"), "{answer}");
        assert!(guest.served.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn what_a_refused_sender_still_sends_is_taken_so_that_it_reads_why() {
        let mut guest = guest(Times { linger: NEVER, ..patient() }, 1024, no);
        guest.send("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n").await;
        guest.send(&"x".repeat(100_000)).await;
        guest.wire.shutdown().await.unwrap();
        let answer = guest.read_all().await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
        assert!(guest.ended().await.is_ok());
    }

    #[tokio::test]
    async fn but_not_without_end() {
        let head = "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
        let mut endless = guest(Times { linger: NEVER, ..patient() }, 1 << 20, no);
        endless.send(head).await;
        let mut sent = 0;
        while endless.wire.write_all(&[b'x'; 4096]).await.is_ok() {
            sent += 4096;
        }
        let most = LINGER_BYTES_MAX + (2 << 20);
        assert!((LINGER_BYTES_MAX..most).contains(&sent), "{sent}");

        let mut hanging = guest(patient(), 1024, no);
        hanging.send(head).await;
        let Guest { served, wire, .. } = hanging;
        assert!(served.await.unwrap().is_ok());
        drop(wire);
    }

    #[tokio::test]
    async fn stop_closes_an_idle_connection_and_lets_a_request_end() {
        let idle = guest(patient(), 1024, yes);
        idle.stop.cancel();
        assert!(idle.ended().await.is_ok());

        let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes) = (Arc::clone(&began), Arc::clone(&go));
        let mut busy = guest(patient(), 1024, move |request| {
            let (began, go) = (Arc::clone(&begins), Arc::clone(&goes));
            async move {
                began.notify_one();
                go.notified().await;
                yes(request).await
            }
        });
        busy.send(WHOLE).await;
        began.notified().await;
        busy.stop.cancel();
        go.notify_one();
        let answer = busy.read_all().await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
        assert!(busy.ended().await.is_ok());
    }

    #[tokio::test]
    async fn a_client_that_was_served_is_not_waited_for() {
        let mut served = guest(Times { linger: NEVER, ..patient() }, 1024, yes);
        served.send(WHOLE).await;
        assert!(served.read_to("\r\n\r\nok").await.starts_with("HTTP/1.1 200"));
        served.stop.cancel();
        let Guest { served, wire, .. } = served;
        assert!(served.await.unwrap().is_ok());
        drop(wire);
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered_and_named() {
        let many: String = (0..=HEADERS_MAX).map(|n| format!("x-{n}: 1\r\n")).collect();
        let large = format!("x: {}\r\n", "y".repeat(HEADERS_BYTES_MAX));
        let cases = [
            ("nonsense\r\n\r\n".to_owned(), 400, "malformed-request"),
            (format!("POST / HTTP/1.1\r\n{many}\r\n"), 431, "headers-too-large"),
            (format!("POST / HTTP/1.1\r\n{large}\r\n"), 431, "headers-too-large"),
        ];
        for (sent, status, reason) in cases {
            let mut guest = guest(patient(), 1 << 17, yes);
            guest.send(&sent).await;
            let answer = guest.read_all().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert_eq!(guest.ended().await.unwrap_err().row().reason, reason);
        }
    }

    #[tokio::test]
    async fn as_many_headers_as_are_allowed_are_taken() {
        let headers: String = (2..=HEADERS_MAX).map(|n| format!("x-{n}: 1\r\n")).collect();
        let mut guest = guest(patient(), 1 << 16, yes);
        guest.send(&format!("POST / HTTP/1.1\r\ncontent-length: 0\r\n{headers}\r\n")).await;
        assert!(guest.read_to("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_sender_that_asks_first_is_told_to_go_on() {
        let mut guest = guest(patient(), 1024, yes);
        guest.send("POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
        assert_eq!(guest.read_to("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        guest.send("ok").await;
        assert!(guest.read_to("\r\n\r\nok").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_sender_that_asks_first_and_is_refused_is_not_told_to_go_on() {
        let mut guest = guest(patient(), 1024, no);
        guest.send("POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
        assert!(guest.read_all().await.starts_with("HTTP/1.1 413"));
    }

    #[tokio::test]
    async fn http_2_is_answered_and_let_go() {
        let Guest { wire, served, stop } = guest(patient(), 1 << 16, yes);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.unwrap();
        let client = tokio::spawn(connection);
        for _ in 0..2 {
            let request = Request::post("https://x/x").body(Empty::<Bytes>::new()).unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        }
        stop.cancel();
        assert!(served.await.unwrap().is_ok());
        client.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_idle_http_2_connection_is_closed() {
        let Guest { wire, served, .. } = guest(Times { idle: SOON, ..patient() }, 1 << 16, yes);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.unwrap();
        let client = tokio::spawn(connection);
        let request = Request::post("https://x/x").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        client.await.unwrap().unwrap();
        assert!(served.await.unwrap().is_ok());
    }

    // The rest needs no connection.

    fn deadline_of(pulse: &Pulse) -> Option<(Instant, Overdue)> {
        pulse.deadline(Waker::noop())
    }

    #[tokio::test]
    async fn a_body_that_is_slow_is_not_slow_headers() {
        let pulse = Pulse::new(patient());
        pulse.bytes_came(b"POST");
        let began = Instant::now();
        let begun = pulse.begin();
        assert!(begun.first_byte_at <= began);
        pulse.bytes_came(b"more of the body");
        assert_eq!(deadline_of(&pulse), None);
        drop(begun);
        assert!(matches!(deadline_of(&pulse), Some((_, Overdue::Request))));
        pulse.bytes_came(b"P");
        assert!(matches!(deadline_of(&pulse), Some((_, Overdue::Headers))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_its_work_no_longer_than_its_time() {
        let pulse = Pulse::new(patient());
        let later = Duration::from_secs(10);
        for requests in 1..=3 {
            let start = Instant::now();
            let mut begun = pulse.begin();
            assert_eq!(begun.alarm.is_some(), requests > 1, "the one before leaves its alarm");
            let in_time = pin!(async { sleep(later / 2).await });
            assert_eq!(begun.by(start + later, in_time).await, Some(()));
            let never = pin!(std::future::pending::<()>());
            assert_eq!((begun.by(start + later, never).await, start.elapsed()), (None, later));
        }
    }

    #[tokio::test]
    async fn an_idle_http_2_peer_may_send_frames() {
        let pulse = Pulse::new(patient());
        pulse.bytes_came(b"PR");
        pulse.bytes_came(b"I * HTTP/2.0");
        assert!(matches!(deadline_of(&pulse), Some((_, Overdue::Request))));
        let (first, second) = (pulse.begin(), pulse.begin());
        drop(first);
        assert_eq!(deadline_of(&pulse), None, "one request is still there");
        drop(second);
        let idle = deadline_of(&pulse);
        assert!(matches!(idle, Some((_, Overdue::Request))));
        pulse.bytes_came(b"a ping");
        assert_eq!(deadline_of(&pulse), idle);
    }

    #[test]
    fn headers_leave_time_for_an_answer() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(Times::new(short).header, short);
        assert_eq!(Times::new(long).header + ACCEPT_TIME_MIN, ANSWER_TIMEOUT);
    }

    #[test]
    fn http_2_is_known_by_its_first_three_bytes() {
        let is_http2 = |parts: &[&[u8]]| {
            let mut opening = Opening::default();
            parts.iter().for_each(|part| opening.see(part));
            opening.is_http2()
        };
        assert!(is_http2(&[b"PRI * HTTP/2.0"]) && is_http2(&[b"P", b"", b"R", b"IX"]));
        assert!(!is_http2(&[b"POST"]) && !is_http2(&[b"PR"]) && !is_http2(&[]) && !is_http2(&[b"XPRI"]));
    }
}
