//! Receive: a request from its headers to its answer, along the straight line.
//!
//! No parse before verification, no duplicate before verification, no 200 before the sync. The types see to the
//! order: only a `Verified` can be identified, only a `Receipt` becomes a 200.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, StatusCode, request};
use http_body_util::Full as Whole;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;
use tracing::field::display;
use tracing::{Instrument, debug, debug_span, info, warn};

use super::budget::Full;
use super::connection::{Begun, Pulse};
use super::fetched::{Fetched, wait_by};
use super::handshake::{self, Shaken};
use super::rate::Bucket;
use super::read::{self, Read, client_address};
use super::refusal::{Answer, Refused, json_answer, shown};
use super::remembered::Remembered;
use super::share::{Address, Stranger};
use super::{Intake, Refusal, Source};
use crate::metrics::{ByReason, Metrics, OfSource};
use crate::store::{Accept, NewDelivery, NewEvent, Receipt};
use crate::verify::{Identity, Key, Verified};
use crate::words::event::EventRef;
use crate::words::limits::{
    ACCEPT_TIME_MIN, ANSWER_TIMEOUT, HEADERS_BYTES_MAX, HEADERS_MAX, VERIFY_INLINE_BYTES_MAX,
};
use crate::words::time::Millis;

/// One source, with what the intake keeps about it.
pub(super) struct Door {
    pub(super) source: Arc<Source>,
    pub(super) remembered: Remembered,
    fetched: Arc<Fetched>,
    rate: Option<Bucket>,
    counters: OfSource,
}

/// What a request was, where it was not refused.
enum CameTo {
    Event(Receipt),
    Handshake(Shaken),
}

/// What a request knows of its connection.
pub(super) struct Connection {
    pub(super) peer: IpAddr,
    /// None behind a proxy, where each request has an address of its own.
    pub(super) address: Option<Arc<Address>>,
    pub(super) pulse: Arc<Pulse>,
}

// === impl Intake ===

impl Intake {
    /// One request, from the end of its headers to its answer.
    pub(super) async fn answer(&self, connection: &Connection, request: Request<Incoming>) -> Answer {
        let mut begun = connection.pulse.begin();
        let (version, is_head) = (request.version(), request.method() == Method::HEAD);
        let address = client_address(request.headers(), connection.peer, self.options.behind_proxy);
        let door = self.paths.get(request.uri().path()).map(|door| &**door);
        let handled = match door {
            Some(door) => {
                let handled = pin!(self.handle(door, &mut begun, connection, address, request)).await;
                handled.map(|came_to| (door, came_to))
            }
            // Its body is not read.
            None => Err(Refused::UnknownPath(shown(request.uri().path()))),
        };
        let source = door.map(|door| display(&door.source.name));
        let _answer = debug_span!("answer", source).entered();
        let answer = match handled {
            Ok((door, CameTo::Event(receipt))) => door.accepted(&receipt),
            Ok((door, CameTo::Handshake(shaken))) => door.answered(shaken, address),
            Err(refused) => {
                begun.was_refused();
                self.note(door, &refused, address);
                refused.answer(version)
            }
        };
        if door.is_some() {
            self.metrics.answer_seconds.observe(begun.at.elapsed().as_secs_f64());
        }
        if is_head { without_body(answer) } else { answer }
    }

    /// From the end of the headers to a receipt, or to a handshake's answer. Whatever happens, it has an end `ANSWER_TIMEOUT` after the
    /// request's first byte: a journal that is stuck does not keep the sender waiting. What it was given it may still
    /// write: the sender comes back, and its copy is then a duplicate.
    async fn handle(
        &self,
        door: &Door,
        begun: &mut Begun<'_>,
        connection: &Connection,
        address: IpAddr,
        request: Request<Incoming>,
    ) -> Result<CameTo, Refused> {
        let (head, body) = request.into_parts();
        door.admits(&head)?;
        let _room = self.requests.hold(1).map_err(|Full| Refused::Requests(self.requests.max()))?;
        let mut stranger = self.stranger(connection, address)?;
        // Of what is no POST nothing is stored.
        if head.method == Method::POST
            && let Some(refusing) = self.ledger.refusing()
        {
            return Err(refusing.into());
        }
        let answer_by = begun.first_byte_at + ANSWER_TIMEOUT;
        let read = pin!(self.read(head, body, begun, answer_by, &mut stranger))
            .instrument(debug_span!("read", source = %door.source.name))
            .await?;
        let received = begun.by(answer_by, pin!(self.receive(door, read, stranger, answer_by))).await;
        received.unwrap_or(Err(Refused::NoAnswer))
    }

    fn stranger(&self, connection: &Connection, address: IpAddr) -> Result<Stranger, Refused> {
        let known = connection.address.as_ref().map(Arc::clone);
        known.unwrap_or_else(|| self.shares.of(address)).request()
    }

    /// The straight line. A receipt is the ledger's word that the event is on disk. A handshake leaves it: where nothing
    /// signs it before the first step, else after the second.
    async fn receive(
        &self,
        door: &Door,
        read: Read,
        stranger: Stranger,
        answer_by: Instant,
    ) -> Result<CameTo, Refused> {
        if let Some(shaken) = handshake::shake(&door.source, &read, false).await? {
            return Ok(CameTo::Handshake(shaken));
        }
        door.may_be_signed(&read)?;
        let wait_by = wait_by(answer_by, ACCEPT_TIME_MIN);
        let verified = match door.fetched_key(&read, wait_by).await? {
            Some(key) => door.verify(&read, std::slice::from_ref(&*key))?,
            None => door.verify(&read, &door.source.keys.load())?,
        };
        drop(stranger);
        door.spend()?;
        if let Some(shaken) = handshake::shake(&door.source, &read, true).await? {
            return Ok(CameTo::Handshake(shaken));
        }
        door.is_post(&read)?;
        door.confirm(&verified, &read, wait_by).await?;
        let test = read.is_test();
        let named = door.identify(&verified, &read).into_iter();
        let events = named.map(|identity| self.event(door, identity, test)).collect();
        let accept = door.accept_of(read, &verified, events);
        let accepted = pin!(self.ledger.accept(accept))
            .instrument(debug_span!("accept", source = %door.source.name))
            .await;
        Ok(CameTo::Event(accepted?))
    }

    async fn read(
        &self,
        head: request::Parts,
        body: Incoming,
        begun: &mut Begun<'_>,
        answer_by: Instant,
        stranger: &mut Stranger,
    ) -> Result<Read, Refused> {
        let received_at = Millis::now();
        let time_left = (answer_by - ACCEPT_TIME_MIN).saturating_duration_since(begun.at);
        let time = self.options.body_timeout.min(time_left);
        let bytes_max = self.options.body_bytes_max;
        let read_by = begun.at + time;
        let reading = read::body(&head.headers, body, bytes_max, &self.bodies, stranger);
        let body = begun.by(read_by, pin!(reading)).await.unwrap_or(Err(Refused::SlowBody(time)))?;
        Ok(Read {
            method: head.method,
            query: head.uri.query().map(str::to_owned),
            headers: head.headers,
            body,
            received_at,
        })
    }

    fn event(&self, door: &Door, identity: Identity, test: bool) -> NewEvent {
        let deliveries = self.route(door, &identity);
        let Identity { id, event_type, range, also, .. } = identity;
        NewEvent { id, also, event_type, range, test, deliveries }
    }

    /// An empty answer is a fact: the event is stored, and its history says that nobody wanted it.
    fn route(&self, door: &Door, identity: &Identity) -> Vec<NewDelivery> {
        let _route = debug_span!("route", source = %door.source.name).entered();
        let wanted = self.routes.route(door.source.name.as_str(), &identity.event_type);
        wanted
            .map(|subscription| NewDelivery {
                subscription: subscription.name.clone(),
                handler: subscription.handler.clone(),
            })
            .collect()
    }

    /// Counts a refusal, remembers it, and logs it where that was not done too often already.
    pub(super) fn note(&self, door: Option<&Door>, refused: &Refused, address: IpAddr) {
        let row = refused.row();
        let source = door.map_or("", |door| door.source.name.as_str());
        let labels = ByReason { source: source.to_owned(), reason: row.reason.to_owned() };
        self.metrics.refusals.get_or_create(&labels).inc();
        let remembered = door.map_or(&self.elsewhere, |door| &door.remembered);
        let detail = refused.to_string();
        if let Some(left_out) = remembered.may_tell(row.reason, std::time::Instant::now()) {
            if row.loud {
                warn!(source, reason = row.reason, status = row.status, %address, left_out, "refused: {detail}");
            } else {
                info!(source, reason = row.reason, status = row.status, %address, left_out, "refused: {detail}");
            }
        }
        remembered.keep(Refusal {
            at: Millis::now(),
            address: address.to_string(),
            reason: row.reason.to_owned(),
            status: row.status,
            detail,
        });
    }

    pub(super) fn tell_left_out(&self) {
        let now = std::time::Instant::now();
        let doors = self.doors.values().map(|door| (door.source.name.as_str(), &door.remembered));
        for (source, remembered) in doors.chain([("", &self.elsewhere)]) {
            for (reason, left_out) in remembered.left_out(now) {
                info!(source, reason, left_out, "more of these were left out of the log");
            }
        }
    }
}

// === impl Door ===

impl Door {
    pub(super) fn new(source: Arc<Source>, metrics: &Metrics, now: std::time::Instant) -> Door {
        Door {
            rate: source.rate.map(|per_second| Bucket::new(per_second, now)),
            remembered: Remembered::default(),
            fetched: Fetched::new(source.name.as_str()),
            counters: metrics.of_source(source.name.as_str()),
            source,
        }
    }

    /// What can be said of a request before its body is read.
    fn admits(&self, head: &request::Parts) -> Result<(), Refused> {
        if !self.source.enabled {
            return Err(Refused::Disabled(self.source.name.to_string()));
        }
        let handshakes = &self.source.handshakes;
        if head.method != Method::POST && !handshakes.takes(head.method.as_str()) {
            return Err(Refused::Method { method: shown(head.method.as_str()), allow: handshakes.allow() });
        }
        if head.headers.len() > HEADERS_MAX {
            return Err(Refused::HeadersTooLarge { bytes_max: HEADERS_BYTES_MAX, headers_max: HEADERS_MAX });
        }
        Ok(())
    }

    /// An event, or a handshake of a kind that is signed.
    fn may_be_signed(&self, read: &Read) -> Result<(), Refused> {
        let method = read.method.as_str();
        let is_wanted =
            read.method == Method::POST || self.source.handshakes.challenges().wants_signed(method);
        if is_wanted { Ok(()) } else { Err(Refused::NoHandshake(shown(method))) }
    }

    fn is_post(&self, read: &Read) -> Result<(), Refused> {
        if read.method == Method::POST {
            Ok(())
        } else {
            Err(Refused::NoHandshake(shown(read.method.as_str())))
        }
    }

    /// The key that the request names, where the source has none of its own. An ended one is one: a source with a
    /// secret asks nobody.
    async fn fetched_key(&self, read: &Read, by: Instant) -> Result<Option<Arc<Key>>, Refused> {
        let source = &self.source;
        let Some(fetch) = source.fetch.as_ref().filter(|_| source.keys.load().is_empty()) else {
            return Ok(None);
        };
        let request = read.as_signed(&source.public_url);
        let Some(wanted) = unhurried(read.body.len(), || source.scheme.wants(request))? else {
            return Ok(None);
        };
        let asking = self.fetched.key(source, fetch, wanted, by);
        pin!(asking).instrument(debug_span!("fetch", source = %source.name)).await.map(Some)
    }

    fn verify(&self, read: &Read, keys: &[Key]) -> Result<Verified, Refused> {
        let _verify = debug_span!("verify", source = %self.source.name).entered();
        let source = &self.source;
        if keys.is_empty() && source.handshakes.is_pending() {
            return Err(Refused::NoSecretYet);
        }
        let request = read.as_signed(&source.public_url);
        let verified = unhurried(read.body.len(), || source.scheme.verify(request, keys, read.received_at))?;
        if source.handshakes.challenges().signs_for_anybody(&source.scheme, &request) {
            return Err(Refused::SignedForAnybody);
        }
        Ok(verified)
    }

    /// Does what a genuine request asks for before it is answered. Where that fails the sender comes back.
    async fn confirm(&self, verified: &Verified, read: &Read, by: Instant) -> Result<(), Refused> {
        let request = read.as_signed(&self.source.public_url);
        let Some(ask) = self.source.scheme.follow(verified, request) else { return Ok(()) };
        let fetch = self.source.fetch.as_ref();
        let fetch = fetch.ok_or_else(|| Refused::Unconfirmed("there is no way out".to_owned()))?;
        self.fetched.visit(fetch, ask, by).await?;
        info!(source = %self.source.name, "the subscription that the sender asked for is confirmed");
        Ok(())
    }

    fn spend(&self) -> Result<(), Refused> {
        let Some(rate) = &self.rate else { return Ok(()) };
        rate.take(std::time::Instant::now()).map_err(|retry_after| Refused::Rate {
            source_name: self.source.name.to_string(),
            per_second: rate.per_second(),
            retry_after,
        })
    }

    /// Never refuses: a genuine event without id or type is stored, and the operator is warned.
    fn identify(&self, verified: &Verified, read: &Read) -> Vec<Identity> {
        let _identify = debug_span!("identify", source = %self.source.name).entered();
        let request = read.as_signed(&self.source.public_url);
        let events = unhurried(read.body.len(), || self.source.scheme.identify(verified, request));
        if let Some(first) = events.iter().find(|event| !event.warnings.is_empty())
            && let Some(left_out) = self.remembered.may_tell("identity", std::time::Instant::now())
        {
            let (source, warnings) = (&self.source.name, first.warnings.join(", "));
            warn!(%source, id = shown(&first.id), warnings, left_out, "an event is stored without all its names");
        }
        events
    }

    /// What the ledger gets of a request. The rest is dropped here: its headers lie in the connection's buffer, which
    /// is free again while the request waits for the sync.
    fn accept_of(&self, read: Read, verified: &Verified, events: Vec<NewEvent>) -> Accept {
        let headers = read.stored_headers(|name| self.source.scheme.carries_secret(name));
        Accept {
            source: self.source.name.clone(),
            received_at: read.received_at,
            signed_at: verified.signed_at(),
            secret: verified.secret(),
            query: read.query,
            headers,
            body: read.body,
            dedupe_window: self.source.dedupe_window,
            events,
        }
    }

    /// An event's only way to a 200. The same for new and duplicate: both are safe.
    fn accepted(&self, receipt: &Receipt) -> Answer {
        let OfSource { accepted, duplicates, body_differed, handshakes: _ } = &self.counters;
        for event in receipt.events() {
            if event.duplicate {
                duplicates.inc()
            } else {
                accepted.inc()
            };
            debug!(source = %self.source.name, event = %event.event, duplicate = event.duplicate, "accepted");
            if event.body_differs {
                body_differed.inc();
                self.warn_of_another_body(event.event);
            }
        }
        json_answer(StatusCode::OK, Bytes::from_static(br#"{"status":"accepted"}"#))
    }

    /// The only other way to a 2xx: nothing is stored, and nothing was promised.
    fn answered(&self, shaken: Shaken, address: IpAddr) -> Answer {
        let when = shaken.remember(&self.source.handshakes, Millis::now());
        self.counters.handshakes.inc();
        // Anybody may ask, and as often as they like.
        if let Some(left_out) = self.remembered.may_tell("handshake", std::time::Instant::now()) {
            info!(source = %self.source.name, %address, handshake = when, left_out, "handshake answered");
        }
        shaken.answer()
    }

    fn warn_of_another_body(&self, event: EventRef) {
        let Some(left_out) = self.remembered.may_tell("body-differs", std::time::Instant::now()) else {
            return;
        };
        let source = &self.source.name;
        warn!(%source, %event, left_out, "a redelivery has another body than the event that is stored");
    }
}

/// HTTP/1 leaves the body of an answer to HEAD out by itself, HTTP/2 does not.
fn without_body(mut answer: Answer) -> Answer {
    let bytes = answer.body().size_hint().exact().unwrap_or(0);
    answer.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    answer.map(|_| Whole::default())
}

/// A large body takes milliseconds for each secret; the runtime is told, so that it moves the other answers to
/// another thread.
fn unhurried<T>(body_bytes: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let can_move = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if body_bytes > VERIFY_INLINE_BYTES_MAX && can_move() {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_body_moves_the_other_answers_to_another_thread() {
        let (done, answered) = std::sync::mpsc::channel();
        tokio::spawn(async move {
            // The only worker is here. The other task can only run if it was told to move on.
            let other = tokio::spawn(async move { done.send(()).unwrap() });
            unhurried(VERIFY_INLINE_BYTES_MAX + 1, || answered.recv().unwrap());
            other.await.unwrap();
        })
        .await
        .unwrap();
    }
}
