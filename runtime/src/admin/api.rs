//! Api: the two routers, and what stands behind each path.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::view::{
    DeliveryDetail, EventDetail, HandlerView, HandshakeView, LaneOrdered, Problem, RefusalView, Ruled,
    SecretView, SourceView, SourcesView, StatView, SubscriptionView,
};
use super::{Admin, HandlerFacts, SourceFacts, scrape};
use crate::dispatch::LaneStat;
use crate::intake::{HandshakeFacts, Refusal, Source};
use crate::replay::{self, Record};
use crate::store::tools::{Copied, ExportFilter};
use crate::store::{
    self, Backlog, DeliveryFilter, DeliveryRow, EventFilter, EventRow, LaneEntry, Page, Ruling, Status,
    StoredEvent,
};
use crate::verify::rotation;
use crate::words::attempt::ErrorKind;
use crate::words::effect::Resolution;
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits;
use crate::words::time::Millis;

/// What the TCP listener serves: no event, no name of a secret, nothing that orders anything.
pub(super) fn public(admin: Arc<Admin>) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz));
    bounded(router, limits::ADMIN_REQUEST_TIMEOUT).with_state(admin)
}

/// What the socket serves: the history and the orders.
pub(super) fn private(admin: Arc<Admin>) -> Router {
    let router = Router::new()
        .route("/events", get(events))
        .route("/events/{event}", get(event))
        .route("/deliveries", get(deliveries))
        .route("/deliveries/{delivery}", get(delivery))
        .route("/deliveries/{delivery}/record", get(record))
        .route("/deliveries/{delivery}/retry", post(retry))
        .route("/deliveries/{delivery}/cancel", post(cancel))
        .route("/deliveries/{delivery}/resolve/{resolution}", post(resolve))
        .route("/sources", get(sources))
        .route("/handlers", get(handlers))
        .route("/handlers/{handler}/history", get(lane_history))
        .route("/handlers/{handler}/pause", post(pause))
        .route("/handlers/{handler}/resume", post(resume))
        .route("/stat", get(stat))
        .route("/export", get(export))
        .fallback(async || Wrong::new(StatusCode::NOT_FOUND, "no such resource"))
        .method_not_allowed_fallback(async || {
            Wrong::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
        });
    let router = bounded(router, limits::ADMIN_REQUEST_TIMEOUT);
    // Copying takes as long as it takes.
    router.merge(Router::new().route("/backup", post(backup))).with_state(admin)
}

type Answer<T> = Result<Json<T>, Wrong>;
type Asked<T> = Result<Query<T>, QueryRejection>;

/// Every question is answered in time, whatever the store does.
pub(super) fn bounded<S: Clone + Send + Sync + 'static>(router: Router<S>, time: Duration) -> Router<S> {
    router.layer(middleware::from_fn(move |request: Request, next: Next| async move {
        let answered = tokio::time::timeout(time, next.run(request)).await;
        answered.unwrap_or_else(|_| {
            let why = "this took too long; ask for less, with a filter";
            Wrong::new(StatusCode::GATEWAY_TIMEOUT, why).into_response()
        })
    }))
}

// === the TCP listener ===

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, scrape::CONTENT_TYPE)], scrape::page(&admin, Millis::now())).into_response()
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    match admin.unready() {
        // Senders are safe, and whoever looks should know.
        None => match admin.warning() {
            None => "ready\n".into_response(),
            Some(warning) => format!("ready\nwarning: {warning}\n").into_response(),
        },
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

// === events ===

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    source: Option<Name>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    id: Option<String>,
    since: Option<Millis>,
    until: Option<Millis>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn events(State(admin): State<Arc<Admin>>, query: Asked<EventQuery>) -> Answer<Page<EventRow>> {
    let Query(q) = query?;
    let filter = EventFilter {
        source: q.source,
        event_type: q.event_type,
        id: q.id,
        since: q.since,
        until: q.until,
        cursor: q.cursor,
        limit: rows(q.limit),
    };
    Ok(Json(admin.ledger.events(filter).await?))
}

async fn event(State(admin): State<Arc<Admin>>, Path(event): Path<String>) -> Answer<EventDetail> {
    let event: EventRef = event.parse().map_err(Wrong::bad)?;
    let Some(row) = admin.ledger.event_row(event).await? else {
        return Err(
            Wrong::new(StatusCode::NOT_FOUND, format!("no event `{event}`")).with("longshore events list")
        );
    };
    Ok(Json(detail(row, admin.ledger.event(event).await?)))
}

fn detail(row: EventRow, stored: StoredEvent) -> EventDetail {
    let (body, body_base64) = match std::str::from_utf8(&stored.body) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(&stored.body))),
    };
    EventDetail { row, query: stored.query, headers: stored.headers, body, body_base64 }
}

fn rows(limit: Option<usize>) -> usize {
    limit.unwrap_or(limits::PAGE_ROWS_DEFAULT).clamp(1, limits::PAGE_ROWS_MAX)
}

// === deliveries ===

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveryQuery {
    event: Option<EventRef>,
    source: Option<Name>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    handler: Option<Name>,
    status: Option<Status>,
    error_kind: Option<ErrorKind>,
    error: Option<String>,
    since: Option<Millis>,
    until: Option<Millis>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn deliveries(
    State(admin): State<Arc<Admin>>,
    query: Asked<DeliveryQuery>,
) -> Answer<Page<DeliveryRow>> {
    let Query(q) = query?;
    let filter = DeliveryFilter {
        event: q.event,
        source: q.source,
        event_type: q.event_type,
        handler: q.handler,
        status: q.status,
        error_kind: q.error_kind,
        error: q.error,
        since: q.since,
        until: q.until,
        cursor: q.cursor,
        limit: rows(q.limit),
    };
    Ok(Json(admin.ledger.deliveries(filter).await?))
}

async fn delivery(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer<DeliveryDetail> {
    let id: DeliveryId = id.parse().map_err(Wrong::bad)?;
    let Some(mut history) = admin.ledger.delivery(&id).await? else {
        return Err(store::Error::NoSuchDelivery(id).into());
    };
    // Large, and of no use without the rest of the record.
    history.attempts.iter_mut().for_each(|attempt| attempt.tape = None);
    let row = &history.row;
    let lanes = if row.status == Status::Open { admin.dispatch.stat() } else { Vec::new() };
    let lane = lanes.into_iter().find(|lane| lane.handler == row.handler);
    let (lane, paused) = lane.map_or_else(Default::default, |lane| (lane.lane, lane.paused));
    Ok(Json(DeliveryDetail { history, lane, paused }))
}

/// Everything that it takes to run it again, but for the plugins' bytes: whoever asks can read those where this daemon does.
async fn record(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer<Record> {
    let id: DeliveryId = id.parse().map_err(Wrong::bad)?;
    if admin.ledger.delivery(&id).await?.is_none() {
        return Err(store::Error::NoSuchDelivery(id).into());
    }
    match replay::take(&admin.ledger, &id).await {
        Ok(record) => Ok(Json(record)),
        Err(error) => Err(Wrong::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

async fn retry(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer<Ruled> {
    rule(&admin, &id, Ruling::Retry).await
}

async fn cancel(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer<Ruled> {
    rule(&admin, &id, Ruling::Cancel).await
}

async fn resolve(
    State(admin): State<Arc<Admin>>,
    Path((id, resolution)): Path<(String, Resolution)>,
) -> Answer<Ruled> {
    let delivery: DeliveryId = id.parse().map_err(Wrong::bad)?;
    admin.ledger.resolve(&delivery, resolution, Millis::now()).await?;
    tracing::info!(%delivery, %resolution, "the operator said what became of a call");
    Ok(Json(Ruled { delivery, ruling: Ruling::Retry }))
}

async fn rule(admin: &Admin, id: &str, ruling: Ruling) -> Answer<Ruled> {
    let delivery: DeliveryId = id.parse().map_err(Wrong::bad)?;
    admin.ledger.rule(&delivery, ruling, Millis::now()).await?;
    tracing::info!(%delivery, ?ruling, "the operator ruled");
    Ok(Json(Ruled { delivery, ruling }))
}

// === sources and handlers ===

async fn sources(State(admin): State<Arc<Admin>>) -> Json<SourcesView> {
    let now = Millis::now();
    let view = |(name, source): (&Name, &Arc<Source>)| {
        source_view(source, admin.facts.sources.get(name), admin.intake.refusals(name), now)
    };
    Json(SourcesView {
        sources: admin.intake.sources().iter().map(view).collect(),
        elsewhere: admin.intake.refusals_elsewhere().into_iter().map(refusal_view).collect(),
    })
}

fn source_view(
    source: &Source,
    facts: Option<&SourceFacts>,
    refusals: Vec<Refusal>,
    now: Millis,
) -> SourceView {
    let ends = source.keys.load().iter().map(|key| (key.fingerprint, key.ends)).collect();
    SourceView {
        name: source.name.clone(),
        path: source.path.clone(),
        enabled: source.enabled,
        scheme: facts.map_or_else(String::new, |f| f.scheme.clone()),
        dedupe_window_ms: u64::try_from(source.dedupe_window.as_millis()).unwrap_or(u64::MAX),
        rate: source.rate,
        secrets: facts.map_or_else(Vec::new, |f| secret_views(f, &ends, now)),
        handshakes: source.handshakes.facts().into_iter().map(handshake_view).collect(),
        refusals: refusals.into_iter().map(refusal_view).collect(),
    }
}

fn handshake_view(facts: HandshakeFacts) -> HandshakeView {
    let HandshakeFacts { when, gives, signed, file, is_pending: pending, answered, last } = facts;
    HandshakeView { when, gives, signed, file, pending, answered, last }
}

type Ends = BTreeMap<crate::words::secret::Fingerprint, Option<Millis>>;

fn secret_views(facts: &SourceFacts, ends: &Ends, now: Millis) -> Vec<SecretView> {
    let view = |(place, secret): (usize, &super::SecretFacts)| {
        let ends = ends.get(&secret.fingerprint).copied().flatten().or(secret.until);
        let live = rotation::is_live(ends, now);
        SecretView {
            fingerprint: secret.fingerprint,
            from: secret.from.clone(),
            ends,
            demoted_at: ends.filter(|_| secret.until.is_none()).map(|at| at.minus(facts.rotation_window)),
            live,
            why: why_it_ends(facts, secret, place, ends, live),
        }
    };
    facts.secrets.load().iter().enumerate().map(view).collect()
}

fn why_it_ends(
    facts: &SourceFacts,
    secret: &super::SecretFacts,
    place: usize,
    ends: Option<Millis>,
    live: bool,
) -> String {
    let Some(at) = ends else {
        return if place == 0 { "no end".to_owned() } else { "no end known yet".to_owned() };
    };
    let verb = if live { "ends" } else { "ended" };
    match secret.until {
        Some(_) => format!("{verb} {at}, as configured"),
        None => {
            let window = super::view::span(facts.rotation_window);
            format!("{verb} {at}, {window} after a newer one was first seen")
        }
    }
}

fn refusal_view(refusal: Refusal) -> RefusalView {
    let Refusal { at, address, reason, status, detail, .. } = refusal;
    RefusalView { at, address, reason: reason.to_string(), status, detail }
}

async fn handlers(State(admin): State<Arc<Admin>>) -> Json<Vec<HandlerView>> {
    let lanes = admin.dispatch.stat();
    let backlog = admin.ledger.stat().backlog;
    let view = |(name, facts): (&Name, &HandlerFacts)| {
        let lane = lanes.iter().find(|lane| lane.handler == *name);
        handler_view(name, facts, lane, backlog.get(name.as_str()))
    };
    Json(admin.facts.handlers.iter().map(view).collect())
}

fn handler_view(
    name: &Name,
    facts: &HandlerFacts,
    lane: Option<&LaneStat>,
    backlog: Option<&Backlog>,
) -> HandlerView {
    let subscription = |s: &super::SubscriptionFacts| SubscriptionView {
        name: s.name.clone(),
        source: s.source.clone(),
        events: s.events.clone(),
        enabled: s.enabled,
    };
    HandlerView {
        name: name.clone(),
        enabled: facts.enabled,
        plugin: facts.plugin.display().to_string(),
        plugin_name: facts.plugin_name.clone(),
        digest: facts.digest,
        contract: facts.contract.clone(),
        concurrency: facts.concurrency,
        rate: facts.rate,
        running: lane.map_or(0, |lane| lane.running),
        in_memory: lane.map_or(0, |lane| lane.in_memory),
        lane: lane.map(|lane| lane.lane.clone()).unwrap_or_default(),
        paused: lane.and_then(|lane| lane.paused.clone()),
        backlog: backlog.cloned().unwrap_or_default(),
        subscriptions: facts.subscriptions.iter().map(subscription).collect(),
    }
}

// === lanes ===

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneQuery {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Also of a handler that is gone from the configuration.
async fn lane_history(
    State(admin): State<Arc<Admin>>,
    Path(handler): Path<Name>,
    query: Asked<LaneQuery>,
) -> Answer<Page<LaneEntry>> {
    let Query(q) = query?;
    Ok(Json(admin.ledger.lane_history(&handler, q.cursor, rows(q.limit)).await?))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonQuery {
    reason: Option<String>,
}

impl ReasonQuery {
    fn checked(self) -> Result<Option<String>, Wrong> {
        let Some(reason) = self.reason.filter(|reason| !reason.trim().is_empty()) else { return Ok(None) };
        if reason.chars().count() > limits::PAUSE_REASON_CHARS_MAX {
            let most = limits::PAUSE_REASON_CHARS_MAX;
            return Err(Wrong::bad(format!("a reason has at most {most} characters; type a shorter one")));
        }
        if reason.chars().any(char::is_control) {
            return Err(Wrong::bad("a reason is one line of text; type it without control characters"));
        }
        Ok(Some(reason))
    }
}

async fn pause(
    State(admin): State<Arc<Admin>>,
    Path(handler): Path<Name>,
    query: Asked<ReasonQuery>,
) -> Answer<LaneOrdered> {
    let reason = query?.0.checked()?;
    let changed = admin.dispatch.pause(&handler, reason).await;
    ordered(&admin, handler, changed)
}

async fn resume(
    State(admin): State<Arc<Admin>>,
    Path(handler): Path<Name>,
    query: Asked<ReasonQuery>,
) -> Answer<LaneOrdered> {
    let reason = query?.0.checked()?;
    let changed = admin.dispatch.resume(&handler, reason).await;
    ordered(&admin, handler, changed)
}

fn ordered(admin: &Admin, handler: Name, changed: Option<Result<bool, store::Error>>) -> Answer<LaneOrdered> {
    let lane = admin.dispatch.stat().into_iter().find(|lane| lane.handler == handler);
    let (Some(changed), Some(lane)) = (changed, lane) else {
        let why = format!("no enabled handler `{handler}`");
        return Err(Wrong::new(StatusCode::NOT_FOUND, why).with("longshore handlers list"));
    };
    let LaneStat { lane, paused, .. } = lane;
    let waiting = admin.ledger.waiting(&handler)?;
    Ok(Json(LaneOrdered { handler, changed: changed?, lane, paused, waiting }))
}

async fn stat(State(admin): State<Arc<Admin>>) -> Json<StatView> {
    let unready = admin.unready();
    let in_flight = admin.intake.in_flight();
    Json(StatView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: admin.facts.started_at,
        listen: admin.facts.listen,
        admin: admin.facts.admin,
        certificate: admin.facts.certificate.clone(),
        ready: unready.is_none(),
        unready,
        connections: in_flight.connections,
        requests: in_flight.requests,
        body_bytes: in_flight.body_bytes,
        ledger: admin.ledger.stat(),
    })
}

// === the store as a whole ===

/// Lines as they are read: whoever asks slowly is waited for.
async fn export(State(admin): State<Arc<Admin>>, query: Asked<ExportFilter>) -> Result<Response, Wrong> {
    let Query(filter) = query?;
    let (send, receive) = mpsc::channel(limits::EXPORT_CHUNKS_MAX);
    let snapshot = admin.ledger.snapshot();
    tokio::task::spawn_blocking(move || {
        let mut chunk = Vec::new();
        let exported = snapshot.export(&filter, &mut |line| {
            chunk.extend_from_slice(line.as_bytes());
            chunk.push(b'\n');
            let is_full = chunk.len() >= limits::EXPORT_CHUNK_BYTES;
            !is_full || send.blocking_send(Ok(std::mem::take(&mut chunk).into())).is_ok()
        });
        // Where nobody listens any more, nobody is to be told.
        let _ = send.blocking_send(exported.map(|_| chunk.into()).inspect_err(|error| {
            tracing::warn!(%error, "an export broke off");
        }));
    });
    let body = Body::new(Chunks(receive));
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], body).into_response())
}

/// An error in it breaks the connection off: half an export must not look whole.
struct Chunks(mpsc::Receiver<Result<Bytes, store::Error>>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = store::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, store::Error>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupQuery {
    dir: PathBuf,
}

async fn backup(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<BackupQuery>, QueryRejection>,
) -> Answer<Copied> {
    let Query(BackupQuery { dir }) = query?;
    if !dir.is_absolute() {
        return Err(Wrong::bad("the folder of a backup is named from the root, as `/backups/monday`"));
    }
    let Ok(_one_at_a_time) = admin.backing_up.try_lock() else {
        return Err(Wrong::new(StatusCode::CONFLICT, "a backup is being made; wait for its end"));
    };
    let snapshot = admin.ledger.snapshot();
    let copied = tokio::task::spawn_blocking(move || snapshot.copy(&dir)).await;
    let copied = copied.map_err(|_| Wrong::from(store::Error::Closing))??;
    tracing::info!(path = %copied.path.display(), segments = copied.segments, "the journal was copied");
    Ok(Json(copied))
}

// === what goes wrong ===

/// An answer that is not 2xx: a status, a sentence and, where there is one, what to type next.
struct Wrong {
    status: StatusCode,
    problem: Problem,
}

impl Wrong {
    fn new(status: StatusCode, error: impl Into<String>) -> Wrong {
        Wrong { status, problem: Problem { error: error.into(), type_this: None } }
    }

    fn bad(error: impl std::fmt::Display) -> Wrong {
        Wrong::new(StatusCode::BAD_REQUEST, error.to_string())
    }

    fn with(mut self, type_this: impl Into<String>) -> Wrong {
        self.problem.type_this = Some(type_this.into());
        self
    }
}

impl From<store::Error> for Wrong {
    fn from(error: store::Error) -> Wrong {
        use store::Error as E;
        let status = match &error {
            E::NoSuchDelivery(_) | E::NoSuchEvent(_) => StatusCode::NOT_FOUND,
            E::BadCursor(_) => StatusCode::BAD_REQUEST,
            E::WrongState(..) | E::NothingToResolve(_) | E::Directory(..) => StatusCode::CONFLICT,
            E::Closing | E::Failed(_) | E::DiskFull(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(%error, "a question to the store got no answer");
        }
        let wrong = Wrong::new(status, error.to_string());
        match error {
            E::WrongState(id, _) => wrong.with(format!("longshore deliveries show {id}")),
            _ => wrong,
        }
    }
}

impl From<QueryRejection> for Wrong {
    fn from(rejection: QueryRejection) -> Wrong {
        Wrong::bad(rejection.body_text())
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}
