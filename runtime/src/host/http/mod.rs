//! Outbound HTTP, the only way for a plugin to act on the world: buffered, blocking, and recorded.
//!
//! `prepare` says what may be sent, `granted` what the operator allows of it, `past` what a call of an earlier attempt
//! means for this one, `effects` writes down what leaves and what came of it, `client` sends it, `mask` hides the
//! handler's secrets in what comes back. This file leads a call through them, and counts.

mod addresses;
mod client;
mod effects;
mod fetch;
pub(in crate::host) mod granted;
mod mask;
mod origin;
mod past;
mod prepare;
#[cfg(test)]
mod private;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use tokio::time::Instant;

use self::client::{Answer, Failure};
pub(in crate::host) use self::client::{Client, Network};
use self::effects::{Departure, Ledger, Next};
pub use self::effects::{request_body, rewrite_intent};
pub use self::fetch::{Fetched, Fetcher};
pub(in crate::host) use self::granted::Granted;
pub(in crate::host) use self::mask::{Mask, parts_of_url};
pub(in crate::host) use self::origin::{Origin, Pattern};
pub use self::past::is_safe;
use self::prepare::Prepared;
use super::call::clock::Clock;
use super::call::trace::{Cause, Trace, Waiting};
use super::grant::Grant;
use super::log::printable as short;
use super::{Arrived, Halt, HostCall, Side, Wire, World};
use crate::words::attempt::{CallRecord, LogLevel};
use crate::words::effect::Said;
use crate::words::limits;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) struct Request {
    pub(in crate::host) method: String,
    pub(in crate::host) target: Target,
    pub(in crate::host) headers: Vec<(String, String)>,
    pub(in crate::host) body: Option<Vec<u8>>,
    pub(in crate::host) credentials: Vec<Credential>,
    pub(in crate::host) timeout: Option<Duration>,
    pub(in crate::host) key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::host) enum Target {
    Url(String),
    /// The name of a secret that is the whole URL.
    SecretUrl(String),
}

/// How a secret is used; `secret` is its name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::host) enum Credential {
    Bearer(String),
    Basic { user: String, secret: String },
    Header { header: String, secret: String },
    Query { parameter: String, secret: String },
    Form { field: String, secret: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) struct Response {
    pub(in crate::host) call: u32,
    pub(in crate::host) recorded: bool,
    pub(in crate::host) status: u16,
    pub(in crate::host) headers: Vec<(String, String)>,
    pub(in crate::host) body: Vec<u8>,
}

/// The contract's cases. Its order tells what was not sent, what perhaps was, and what surely was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::host) enum Error {
    #[error("denied: {0}")]
    Denied(String),
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    #[error("the request is too large")]
    RequestTooLarge,
    #[error("dns: {0}")]
    Dns(String),
    #[error("connect: {0}")]
    Connect(String),
    #[error("tls: {0}")]
    Tls(String),
    #[error("limit: {0}")]
    Limit(String),
    #[error("unavailable: {0}")]
    Unavailable(String),
    #[error("timeout")]
    Timeout,
    #[error("protocol: {0}")]
    Protocol(String),
    #[error("the response is too large")]
    ResponseTooLarge(u16),
}

/// What the history says of a call that nobody lives to finish.
pub const UNANSWERED: &str = "the attempt ended before the answer; the request was perhaps sent";
/// What the host itself adds to a handler's log, of what the network gave.
const WITHHELD: &str =
    "the answer is compressed, unasked: its body is withheld, it could hold the credential";
const CUT: &str = "the answer is over the cap; the plugin gets its beginning";

/// Whether a line of a handler's log is the host's, about what the network gave: a record does not say it again.
pub fn is_of_the_network(message: &str) -> bool {
    [WITHHELD, CUT].contains(&message)
}

/// Of an origin and path in the history.
const TARGET_BYTES_MAX: usize = 512;

/// Why a call returns nothing that the guest could go on with.
pub(in crate::host) enum Stopped {
    Refused(Error),
    /// The guest is not to go on; the trace says why.
    Halted,
}

/// The calls of one attempt.
pub(in crate::host) struct Session {
    grant: Arc<Grant>,
    ledger: Ledger,
    /// None: the network.
    world: Option<Arc<dyn World>>,
    deadline: Instant,
    clock: Clock,
    trace: Trace,
    calls: u32,
}

/// How a call went, for the history.
#[derive(Default)]
struct Went {
    status: Option<u16>,
    response_bytes: u64,
    recorded: bool,
    effect: Option<u32>,
}

impl Session {
    /// Reads what earlier attempts did.
    pub(in crate::host) async fn open(
        grant: Arc<Grant>,
        wire: Wire,
        deadline: Instant,
        clock: Clock,
        trace: Trace,
    ) -> Result<Session, Halt> {
        let (effects, world) = match wire {
            Wire::Live(effects) => (effects, None),
            Wire::Simulated(effects, world) => (effects, Some(world)),
        };
        let ledger = Ledger::open(effects, grant.limits.call_bytes, trace.clone()).await?;
        clock.show(ledger.wall_clock());
        Ok(Session { grant, ledger, world, deadline, clock, trace, calls: 0 })
    }

    pub(in crate::host) async fn send(&mut self, request: Request) -> Result<Response, Stopped> {
        let calls_max = self.grant.limits.calls;
        if self.calls >= calls_max {
            let why = format!("an attempt makes at most {calls_max} calls");
            return Err(Stopped::Refused(Error::Limit(why)));
        }
        let number = self.calls;
        self.calls += 1;

        let started = Instant::now();
        let mut record = new_record(number, &request);
        let prepared = prepare::prepare(&self.grant, request.clone(), &mut record);
        record.target = short(&self.grant.mask.text(&record.target), TARGET_BYTES_MAX);
        record.request_bytes = prepared.as_ref().map_or(0, |p| p.body_bytes);
        self.trace.begin_call(record.clone());

        let mut went = Went::default();
        // On the heap: the fiber below has a stack of its own, and not a large one.
        let told = match prepared.and_then(|prepared| self.in_time(prepared)) {
            Ok(prepared) => Box::pin(self.call(&request, prepared, &record, &mut went)).await,
            // Nothing of it leaves; it has its number all the same.
            Err(error) => {
                self.ledger.skip();
                Ok(Err(error))
            }
        };
        self.trace.waiting(Waiting::Guest);
        match told {
            Ok(told) => self.finish(number, started, &went, told).map_err(Stopped::Refused),
            Err(halt) => {
                if let Halt::Park(_) = halt {
                    let said = "not sent: the attempt was stopped before it";
                    self.trace.edit_call(number, |record| record.error = Some(said.to_owned()));
                }
                self.trace.stop_at_call(halt);
                Err(Stopped::Halted)
            }
        }
    }

    /// The status said yes, the content said no: what happened did not.
    pub(in crate::host) async fn disown(&mut self, call: u32) -> Result<(), Stopped> {
        match self.ledger.disown(call).await {
            Ok(is_disowned) => {
                self.trace.edit_call(call, |record| record.disowned |= is_disowned);
                Ok(())
            }
            Err(halt) => {
                self.trace.stop_at_call(halt);
                Err(Stopped::Halted)
            }
        }
    }

    /// A world that is not the real one may end the guest at any call of the host.
    pub(in crate::host) fn reach(&self, call: HostCall, side: Side) -> Result<(), Stopped> {
        let Some(world) = &self.world else { return Ok(()) };
        world.reached(call, side).map_err(|why| {
            self.trace.stop_at_call(Halt::World(why));
            Stopped::Halted
        })
    }

    /// Successes of earlier attempts that this one, which has ended well, did not ask for.
    pub(in crate::host) fn tell_orphans(&self) {
        for orphan in self.ledger.orphans() {
            let said = format!(
                "orphan: {} {} happened in attempt {} and was not asked for again",
                orphan.method, orphan.place, orphan.attempt
            );
            self.trace.log(LogLevel::Warn, &said, &[]);
        }
    }

    fn in_time(&self, prepared: Prepared) -> Result<Prepared, Error> {
        if self.time_for(None).is_zero() {
            return Err(Error::Limit("the attempt's time is used up".into()));
        }
        Ok(prepared)
    }

    /// What the plugin asks for, within what is left of the attempt less a moment to act on the answer.
    fn time_for(&self, asked: Option<Duration>) -> Duration {
        // What is run again has the time that it had.
        let left = match &self.world {
            Some(_) => self.grant.limits.timeout.saturating_sub(self.clock.elapsed()),
            None => self.deadline.saturating_duration_since(Instant::now()),
        };
        let left = left.saturating_sub(limits::HTTP_TIMEOUT_MARGIN.min(left / 5));
        asked.unwrap_or(limits::HTTP_TIMEOUT_DEFAULT).min(left)
    }

    async fn call(
        &mut self,
        request: &Request,
        prepared: Prepared,
        record: &CallRecord,
        went: &mut Went,
    ) -> Result<Result<Response, Error>, Halt> {
        self.trace.waiting(Waiting::Ledger);
        match self.ledger.decide(&self.grant, request, prepared, record).await {
            Ok(Next::Recorded(recorded)) => {
                let told = effects::told(record.number, recorded.said, &recorded.body);
                (went.recorded, went.effect) = (true, Some(recorded.effect));
                went.status = told.as_ref().map_or(None, |response| Some(response.status));
                went.response_bytes = recorded.body.len() as u64;
                self.passed(recorded.took);
                Ok(told)
            }
            Ok(Next::Halt(halt)) => Err(halt),
            Err(error) => Ok(Err(error)),
            Ok(Next::Send(departure)) => {
                went.effect = Some(departure.effect);
                // Told now: nobody may live to tell it later.
                self.trace.edit_call(record.number, |record| {
                    (record.after_unknown, record.effect) = (departure.after_unknown, went.effect);
                });
                let effect = departure.effect();
                let (told, took) = self.leave(request, *departure, record.number, went).await?;
                self.trace.waiting(Waiting::Ledger);
                self.ledger.answered(effect, (&told, went.status), took).await?;
                self.passed(took);
                Ok(told)
            }
        }
    }

    /// The guest's clock, behind a call.
    fn passed(&self, took: Duration) {
        self.clock.pass(took);
        self.clock.show(self.ledger.wall_clock());
    }

    /// Out into the network, or into the world in its place.
    async fn leave(
        &mut self,
        request: &Request,
        departure: Departure,
        number: u32,
        went: &mut Went,
    ) -> Result<(Result<Response, Error>, Duration), Halt> {
        let cap = self.cap();
        if let Some(world) = &self.world {
            let call = departure.departed(&self.grant, number, request.body.as_deref());
            let Arrived { said, body, took } = world.answer(&call).map_err(Halt::World)?;
            return Ok((self.arrived(number, said, body, cap, went), took));
        }
        let started = Instant::now();
        let answered = self.exchange(departure.prepared, self.time_for(request.timeout), cap).await;
        let told = self.received(number, answered, went);
        // As it is written down, so that it is the same when it is read.
        Ok((told, Duration::from_micros(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX))))
    }

    /// Of an answer's body. Its head may go over: by what `http` takes of headers at the most.
    fn cap(&self) -> usize {
        let room = usize::try_from(self.ledger.room()).unwrap_or(usize::MAX);
        self.grant.limits.response_bytes.min(room)
    }

    async fn exchange(&self, prepared: Prepared, time: Duration, cap: usize) -> Result<Answer, Failure> {
        self.trace.waiting(Waiting::Http);
        let mut answer = self.grant.client.send(prepared.request, Instant::now() + time, cap).await?;
        if prepared.has_credentials && is_compressed(&answer.headers) {
            self.trace.log(LogLevel::Warn, WITHHELD, &[]);
            answer.body.clear();
        }
        Ok(answer)
    }

    /// What the guest is told of an answer.
    fn received(
        &mut self,
        number: u32,
        answered: Result<Answer, Failure>,
        went: &mut Went,
    ) -> Result<Response, Error> {
        (went.status, went.response_bytes) = match &answered {
            Ok(answer) => (Some(answer.status), answer.body.len() as u64),
            Err(failure) => (failure.status, 0),
        };
        answered.map_err(|failure| failure.error).and_then(|answer| self.response(number, answer))
    }

    /// The same, of an answer that the network did not give: a record has no secret in it, and is what a guest was told.
    fn arrived(
        &mut self,
        number: u32,
        said: Said,
        mut body: Bytes,
        cap: usize,
        went: &mut Went,
    ) -> Result<Response, Error> {
        let said = match said {
            Said::Answer { status, .. } if body.len() > cap && (200..300).contains(&status) => {
                Said::TooLarge { status }
            }
            said => said,
        };
        body.truncate(cap);
        (went.status, went.response_bytes) = (said.status(), body.len() as u64);
        match said {
            Said::Broken { why, .. } if why.is_empty() => Err(Error::Timeout),
            Said::Broken { why, .. } => Err(Error::Protocol(why)),
            said => {
                effects::told(number, said, &body).map(|response| Response { recorded: false, ..response })
            }
        }
    }

    /// The record's other half.
    fn finish(
        &mut self,
        number: u32,
        started: Instant,
        went: &Went,
        told: Result<Response, Error>,
    ) -> Result<Response, Error> {
        self.trace.call_ended(number, Cause::of_call(went.status, told.as_ref().err()));
        self.trace.edit_call(number, |record| {
            record.status = went.status;
            record.error = told.as_ref().err().map(Error::to_string);
            record.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            record.response_bytes = went.response_bytes;
            (record.recorded, record.effect) = (went.recorded, went.effect);
        });
        told
    }

    fn response(&self, call: u32, answer: Answer) -> Result<Response, Error> {
        let Answer { status, headers, body, is_cut } = answer;
        if is_cut && (200..300).contains(&status) {
            return Err(Error::ResponseTooLarge(status));
        }
        if is_cut {
            // An error page: its beginning tells what it has to tell.
            self.trace.log(LogLevel::Warn, CUT, &[]);
        }
        let mut body = if is_cut { self.grant.mask.beginning(body) } else { self.grant.mask.bytes(body) };
        // A mask may be longer than what it hides.
        let bytes_max = self.grant.limits.response_bytes;
        if body.len() > bytes_max && (200..300).contains(&status) {
            return Err(Error::ResponseTooLarge(status));
        }
        body.truncate(bytes_max);
        Ok(Response { call, recorded: false, status, headers: self.headers(&headers), body })
    }

    fn headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let mut bytes = 0;
        headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.as_str().to_owned(), self.grant.mask.text(&value).into_owned())
            })
            .take(limits::HTTP_RESPONSE_HEADERS_MAX)
            .take_while(|(name, value)| {
                bytes += name.len() + value.len();
                bytes <= limits::HTTP_HEADERS_BYTES_MAX
            })
            .collect()
    }
}

impl Credential {
    fn secret(&self) -> &str {
        match self {
            Credential::Bearer(secret)
            | Credential::Basic { secret, .. }
            | Credential::Header { secret, .. }
            | Credential::Query { secret, .. }
            | Credential::Form { secret, .. } => secret,
        }
    }
}

impl Cause {
    /// What this call says about a failure that follows it; None: it went well.
    fn of_call(status: Option<u16>, error: Option<&Error>) -> Option<Cause> {
        match error {
            Some(Error::Denied(why)) => Some(Cause::Denied(why.clone())),
            Some(Error::Unavailable(_)) => Some(Cause::Host),
            Some(Error::Dns(_) | Error::Connect(_) | Error::Tls(_) | Error::Timeout | Error::Protocol(_)) => {
                Some(Cause::Remote)
            }
            Some(_) => Some(Cause::Plugin),
            None if status.is_some_and(|s| s >= 500 || [408, 425, 429].contains(&s)) => Some(Cause::Remote),
            None if status.is_some_and(|s| s >= 400) => Some(Cause::Plugin),
            None => None,
        }
    }
}

fn new_record(number: u32, request: &Request) -> CallRecord {
    CallRecord {
        number,
        method: short(&request.method, limits::HTTP_METHOD_BYTES_MAX),
        target: match &request.target {
            // Until it is found to be one: nothing of it is known to be fit for the history.
            Target::Url(_) | Target::SecretUrl(_) => "(no URL)".into(),
        },
        key: request.key.as_deref().map(|key| short(key, limits::HTTP_KEY_BYTES_MAX)),
        status: None,
        // What it says if nobody lives to finish it.
        error: Some(UNANSWERED.into()),
        took_ms: 0,
        request_bytes: 0,
        response_bytes: 0,
        credentials: Vec::new(),
        recorded: false,
        disowned: false,
        after_unknown: false,
        effect: None,
        digest: None,
    }
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| encoding != "identity")
}
