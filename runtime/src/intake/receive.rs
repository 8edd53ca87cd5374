//! Receive: a request from its headers to its answer, along the straight line.
//!
//! No parse before verification, no duplicate before verification, no 200 before the sync. The types see to the
//! order: only a `Verified` can be identified, only a `Receipt` becomes a 200.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, request};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, debug, debug_span, info, warn};

use super::connection::Pulse;
use super::rate::Bucket;
use super::read::{self, Read, client_address};
use super::refusal::{Refused, shown};
use super::remembered::Remembered;
use super::share::{Over, Share};
use super::{Intake, Refusal, Source};
use crate::metrics::{ByReason, BySource, Metrics};
use crate::store::{Accept, NewDelivery, NewEvent, Receipt};
use crate::verify::{Identity, Verified};
use crate::words::event::EventRef;
use crate::words::limits::{
    ACCEPT_TIME_MIN, ANSWER_TIMEOUT, HEADERS_BYTES_MAX, HEADERS_MAX, VERIFY_INLINE_BYTES_MAX,
};
use crate::words::time::Millis;

/// One source, with what the intake keeps about it.
pub(super) struct Door {
    pub(super) source: Arc<Source>,
    pub(super) remembered: Remembered,
    rate: Option<Bucket>,
    /// The label of its counters.
    label: BySource,
}

/// What a request knows of its connection.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) peer: IpAddr,
    pub(super) pulse: Arc<Pulse>,
}

/// What a request holds of its address's shares, until its signature is found good.
struct Stranger {
    _request: Share,
    body_bytes: Share,
}

#[derive(Clone)]
struct At {
    intake: Arc<Intake>,
    door: Arc<Door>,
}

/// One exact path for each source; everything else is nobody's.
pub(super) fn router(intake: &Arc<Intake>) -> Router {
    let nobodys = Router::new().without_v07_checks().fallback(nobody).with_state(Arc::clone(intake));
    intake.doors_by_path().into_iter().fold(nobodys, |router, (path, door)| {
        let at = At { intake: Arc::clone(intake), door: Arc::clone(door) };
        router.route(&literal(path), any(webhook).with_state(at))
    })
}

/// The router reads braces as parameters; ours are braces.
fn literal(path: &str) -> String {
    path.replace('{', "{{").replace('}', "}}")
}

async fn webhook(
    State(At { intake, door }): State<At>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response {
    let begun = connection.pulse.begin();
    let arrived = Instant::now();
    let version = request.version();
    let address = client_address(request.headers(), connection.peer, intake.options.behind_proxy);
    let answer = intake.handle(&door, begun.first_byte_at, address, request).await;
    let _answer = debug_span!("answer", source = %door.source.name).entered();
    let response = match answer {
        Ok(receipt) => door.accepted(&receipt, &intake.metrics),
        Err(refused) => {
            begun.was_refused();
            intake.note(Some(&door), &refused, address);
            refused.answer(version)
        }
    };
    intake.metrics.answer_seconds.observe(arrived.elapsed().as_secs_f64());
    response
}

/// A path that no source has. The body is not read.
async fn nobody(
    State(intake): State<Arc<Intake>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response {
    let begun = connection.pulse.begin();
    begun.was_refused();
    let address = client_address(request.headers(), connection.peer, intake.options.behind_proxy);
    let refused = Refused::UnknownPath(shown(request.uri().path()));
    intake.note(None, &refused, address);
    refused.answer(request.version())
}

// === impl Intake ===

impl Intake {
    /// From the end of the headers to a receipt. Whatever happens, it has an end `ANSWER_TIMEOUT` after the
    /// request's first byte.
    async fn handle(
        &self,
        door: &Door,
        first_byte_at: Instant,
        address: IpAddr,
        request: Request,
    ) -> Result<Receipt, Refused> {
        let (head, body) = request.into_parts();
        door.admits(&head)?;
        let _room = self.requests.try_acquire().map_err(|_| Refused::Requests(self.options.requests_max))?;
        let mut stranger = self.stranger(address)?;
        if let Some(refusing) = self.ledger.refusing() {
            return Err(refusing.into());
        }
        let answer_by = first_byte_at + ANSWER_TIMEOUT;
        let read = self
            .read(head, body, answer_by, &mut stranger)
            .instrument(debug_span!("read", source = %door.source.name))
            .await?;
        in_time(answer_by, self.receive(door, read, stranger)).await
    }

    fn stranger(&self, address: IpAddr) -> Result<Stranger, Refused> {
        let shares = &self.shares;
        let mut request = shares.requests.of(address);
        request.take(1).map_err(|Over| Refused::Share { max: request.max(), what: "requests" })?;
        Ok(Stranger { _request: request, body_bytes: shares.body_bytes.of(address) })
    }

    /// The straight line. A receipt is the ledger's word that the event is on disk.
    async fn receive(&self, door: &Door, read: Read, stranger: Stranger) -> Result<Receipt, Refused> {
        let verified = door.verify(&read)?;
        drop(stranger);
        door.spend()?;
        let identity = door.identify(&verified, &read);
        let deliveries = self.route(door, &identity);
        let event = NewEvent {
            id: identity.id,
            event_type: identity.event_type,
            range: None,
            test: read.is_test(),
            deliveries,
        };
        self.accept(door, read, &verified, event)
            .instrument(debug_span!("accept", source = %door.source.name))
            .await
    }

    async fn read(
        &self,
        head: request::Parts,
        body: Body,
        answer_by: Instant,
        stranger: &mut Stranger,
    ) -> Result<Read, Refused> {
        let received_at = Millis::now();
        let now = Instant::now();
        let time_left = (answer_by - ACCEPT_TIME_MIN).saturating_duration_since(now);
        let time = self.options.body_timeout.min(time_left);
        let bytes_max = self.options.body_bytes_max;
        let reading = read::body(&head.headers, body, bytes_max, &self.bodies, &mut stranger.body_bytes);
        let body = timeout_at(now + time, reading).await.map_err(|_| Refused::SlowBody(time))??;
        Ok(Read {
            method: head.method,
            query: head.uri.query().map(str::to_owned),
            headers: head.headers,
            body,
            received_at,
        })
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

    async fn accept(
        &self,
        door: &Door,
        read: Read,
        verified: &Verified,
        event: NewEvent,
    ) -> Result<Receipt, Refused> {
        let headers = read.stored_headers(|name| door.source.scheme.carries_secret(name));
        let accept = Accept {
            source: door.source.name.clone(),
            received_at: read.received_at,
            signed_at: verified.signed_at(),
            secret: verified.secret(),
            query: read.query,
            headers,
            body: read.body,
            dedupe_window: door.source.dedupe_window,
            events: vec![event],
        };
        Ok(self.ledger.accept(accept).await?)
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
    pub(super) fn new(source: Arc<Source>, now: std::time::Instant) -> Door {
        Door {
            rate: source.rate.map(|per_second| Bucket::new(per_second, now)),
            remembered: Remembered::default(),
            label: BySource { source: source.name.to_string() },
            source,
        }
    }

    /// What can be said of a request before its body is read.
    fn admits(&self, head: &request::Parts) -> Result<(), Refused> {
        if !self.source.enabled {
            return Err(Refused::Disabled(self.source.name.to_string()));
        }
        if head.method != Method::POST {
            return Err(Refused::Method(shown(head.method.as_str())));
        }
        if head.headers.len() > HEADERS_MAX {
            return Err(Refused::HeadersTooLarge { bytes_max: HEADERS_BYTES_MAX, headers_max: HEADERS_MAX });
        }
        Ok(())
    }

    fn verify(&self, read: &Read) -> Result<Verified, Refused> {
        let _verify = debug_span!("verify", source = %self.source.name).entered();
        let source = &self.source;
        let keys = source.keys.load();
        let request = read.as_signed(&source.public_url);
        Ok(unhurried(read.body.len(), || source.scheme.verify(request, &keys, read.received_at))?)
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
    fn identify(&self, verified: &Verified, read: &Read) -> Identity {
        let _identify = debug_span!("identify", source = %self.source.name).entered();
        let request = read.as_signed(&self.source.public_url);
        let identity = unhurried(read.body.len(), || self.source.scheme.identify(verified, request));
        if !identity.warnings.is_empty()
            && let Some(left_out) = self.remembered.may_tell("identity", std::time::Instant::now())
        {
            let (source, warnings) = (&self.source.name, identity.warnings.join(", "));
            warn!(%source, id = shown(&identity.id), warnings, left_out, "an event is stored without all its names");
        }
        identity
    }

    /// The only way to a 200. The same for new and duplicate: both are safe.
    fn accepted(&self, receipt: &Receipt, metrics: &Metrics) -> Response {
        for event in receipt.events() {
            let counters = if event.duplicate { &metrics.duplicates } else { &metrics.accepted };
            counters.get_or_create(&self.label).inc();
            debug!(source = %self.source.name, event = %event.event, duplicate = event.duplicate, "accepted");
            if event.body_differs {
                metrics.body_differed.get_or_create(&self.label).inc();
                self.warn_of_another_body(event.event);
            }
        }
        ([(CONTENT_TYPE, "application/json")], Bytes::from_static(br#"{"status":"accepted"}"#))
            .into_response()
    }

    fn warn_of_another_body(&self, event: EventRef) {
        let Some(left_out) = self.remembered.may_tell("body-differs", std::time::Instant::now()) else {
            return;
        };
        let source = &self.source.name;
        warn!(%source, %event, left_out, "a redelivery has another body than the event that is stored");
    }
}

/// A journal that is stuck does not keep the sender waiting. What it was given it may still write: the sender
/// comes back, and its copy is then a duplicate.
async fn in_time<T>(
    answer_by: Instant,
    received: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    timeout_at(answer_by, received).await.unwrap_or(Err(Refused::NoAnswer))
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

    #[tokio::test]
    async fn a_journal_that_does_not_answer_is_503_in_time() {
        let never = std::future::pending::<Result<(), Refused>>();
        let refused = in_time(Instant::now(), never).await.unwrap_err();
        assert_eq!((refused.row().status, refused.row().reason), (503, "no-answer"));
        assert!(in_time(Instant::now(), async { Ok(()) }).await.is_ok());
    }

    #[test]
    fn braces_of_a_path_are_braces() {
        assert_eq!(literal("/a/{b}/c"), "/a/{{b}}/c");
    }

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
