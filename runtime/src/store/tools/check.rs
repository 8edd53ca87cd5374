//! Check: what is damaged in a journal, and what depends on it. Nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::survey::{Past, Piece, Seen, Stretch, Survey, What, survey};
use super::{JOURNAL, lock_shared};
use crate::store::Error;
use crate::store::codec::{AcceptRecord, CopyRecord, Kind, Mark, Record, StateCopy};
use crate::store::journal::format::{BATCH_HEADER, SEGMENT_HEADER};
use crate::store::rows::Row;
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits::CHECK_LINKS_REMEMBERED;

/// What `store check` found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub path: PathBuf,
    pub is_damaged: bool,
    pub segments: Vec<SegmentReport>,
    pub damage: Vec<Damage>,
    /// What the next start cuts: a write that a crash cut short, and nothing that was answered for.
    pub torn: Option<TornTail>,
    /// Whole records of kinds that this version does not know.
    pub unknown: Vec<UnknownRecord>,
    /// Links and copies that lead to something else than they should, though nothing there is damaged.
    pub inconsistent: Vec<Inconsistent>,
    pub touched: Touched,
    /// Requests, events and deliveries whose records are whole, copies among them.
    pub requests: u64,
    pub events: u64,
    pub deliveries: u64,
    pub records: u64,
    /// The last word of the journal is that of a clean stop: a start believes the index then.
    pub is_clean_stop: bool,
    /// Behind the last whole batch.
    pub end: u64,
}

#[derive(Debug, Serialize)]
pub struct SegmentReport {
    pub file: String,
    pub number: u64,
    /// Null: missing.
    pub bytes: Option<u64>,
    pub base: u64,
    pub end: u64,
    pub batches: u64,
    pub records: u64,
    pub is_damaged: bool,
}

/// One place that does not read.
#[derive(Debug, Serialize)]
pub struct Damage {
    pub segment: String,
    /// In the file.
    pub byte: u64,
    /// None: in a segment's header, or a segment of which nothing is known.
    pub position: Option<u64>,
    pub why: String,
    /// Records that are known to have been there.
    pub lost: Vec<LostRecord>,
    /// Bytes of the file, from and to, in which no record can be told from another.
    pub unreadable: Vec<(u64, u64)>,
}

/// As far as it can be known. What is read from a record that is not whole may be wrong.
#[derive(Debug, Default, Serialize)]
pub struct LostRecord {
    pub position: u64,
    pub bytes: u64,
    pub kind: String,
    pub why: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<LostEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<EventRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<Name>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shelf_keys: Vec<String>,
    /// Idempotency keys that it held.
    pub keys: u64,
}

#[derive(Debug, Serialize)]
pub struct LostEvent {
    pub event: EventRef,
    pub source: Name,
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub deliveries: Vec<DeliveryId>,
}

#[derive(Debug, Serialize)]
pub struct TornTail {
    pub segment: String,
    pub byte: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct UnknownRecord {
    pub segment: String,
    pub position: u64,
    pub kind: u8,
}

#[derive(Debug, Serialize)]
pub struct Inconsistent {
    pub position: u64,
    pub why: String,
}

/// What whole records say of those that are damaged.
#[derive(Debug, Default, Serialize)]
pub struct Touched {
    /// Events whose own record is lost; later records name them.
    pub events: Vec<EventRef>,
    pub deliveries: Vec<TouchedDelivery>,
    /// Ids that are not remembered any more, as far as they can be named: a sender that repeats one is believed.
    pub keys: Vec<TouchedKey>,
    pub shelf: Vec<TouchedShelf>,
}

#[derive(Debug, Serialize)]
pub struct TouchedDelivery {
    pub delivery: DeliveryId,
    pub handler: Option<Name>,
    pub source: Option<Name>,
    pub event_id: Option<String>,
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    pub why: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TouchedKey {
    pub source: Name,
    pub id: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TouchedShelf {
    pub handler: Name,
    pub key: String,
}

/// Reads the journal below a data directory.
///
/// # Errors
/// `Locked`, where a daemon runs; `Io`, `Directory`, and `Damaged` for a segment of another format.
pub fn check(data: &Path) -> Result<Report, Error> {
    let _lock = lock_shared(data)?;
    Ok(examine(data)?.report)
}

/// All that is known of a journal.
pub(super) struct Examined {
    pub survey: Survey,
    pub report: Report,
    /// Lost records that whole ones name as the one before them, and of which delivery.
    pub broken_links: Vec<(u64, DeliveryId)>,
}

pub(super) fn examine(data: &Path) -> Result<Examined, Error> {
    examine_remembering(data, CHECK_LINKS_REMEMBERED)
}

pub(super) fn examine_remembering(data: &Path, links_max: usize) -> Result<Examined, Error> {
    let mut look = Look { links_max, ..Look::default() };
    let survey = survey(&data.join(JOURNAL), &mut |seen, past| look.see(&seen, past))?;
    let mut report = Report {
        path: data.to_owned(),
        is_damaged: survey.is_damaged(),
        inconsistent: look.inconsistent,
        requests: look.requests,
        events: look.events,
        deliveries: look.deliveries,
        records: survey.parts.iter().map(|part| part.records).sum(),
        is_clean_stop: survey.is_clean_stop,
        end: survey.end(),
        ..Report::default()
    };
    report.segments = survey.parts.iter().map(segment_report).collect();
    report.damage = damage(&survey);
    report.torn = survey.torn.zip(survey.parts.last()).map(|(torn, part)| TornTail {
        segment: name_of(&part.path),
        byte: SEGMENT_HEADER as u64 + torn.position - part.base,
        bytes: torn.bytes,
    });
    let unknown = survey.unknown.iter();
    report.unknown = unknown
        .map(|one| UnknownRecord { segment: name_of(&one.segment), position: one.position, kind: one.kind })
        .collect();
    report.touched = touched(&survey, &report.damage, look.touched, look.orphaned);
    Ok(Examined { survey, report, broken_links: look.broken_links })
}

fn segment_report(part: &super::survey::Part) -> SegmentReport {
    SegmentReport {
        file: name_of(&part.path),
        number: part.number,
        bytes: part.file_bytes,
        base: part.base,
        end: part.end,
        batches: part.batches,
        records: part.records,
        is_damaged: part.is_damaged(),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

// === what is lost ===

fn damage(survey: &Survey) -> Vec<Damage> {
    let mut all = Vec::new();
    if let Some((from, to)) = survey.missing_below() {
        let others =
            if from == to { String::new() } else { format!(", and so are those up to {to:010}.seg") };
        let why =
            format!("the segment is missing{others}; or the mark that says that they were dropped is lost");
        let segment = format!("{from:010}.seg");
        all.push(Damage { segment, byte: 0, position: None, why, lost: Vec::new(), unreadable: Vec::new() });
    }
    for part in &survey.parts {
        let segment = name_of(&part.path);
        if let Some(why) = &part.header_damage {
            let why = match part.segment {
                Some(_) => format!("{why}; what it said was found out from its batches"),
                None => why.clone(),
            };
            let (lost, unreadable) = (Vec::new(), Vec::new());
            all.push(Damage { segment: segment.clone(), byte: 0, position: None, why, lost, unreadable });
        }
        let byte = |position: u64| SEGMENT_HEADER as u64 + position.saturating_sub(part.base);
        all.extend(part.stretches.iter().map(|stretch| Damage {
            segment: segment.clone(),
            byte: byte(stretch.bad),
            position: Some(stretch.bad),
            why: stretch.why.clone(),
            lost: stretch.pieces.iter().filter_map(lost_record).collect(),
            unreadable: unreadable(stretch).map(|(from, to)| (byte(from), byte(to))).collect(),
        }));
    }
    all
}

/// What follows a header that does not read belongs together with it: of a segment that is missing nobody knows
/// where its first batch began, and what lies there may be the end of the one before.
fn unreadable(stretch: &Stretch) -> impl Iterator<Item = (u64, u64)> {
    let pieces = stretch.pieces.iter().filter(|piece| matches!(piece.what, What::Unreadable));
    let behind_header = stretch.from + BATCH_HEADER as u64;
    pieces.map(move |piece| {
        let from = if piece.position == behind_header { stretch.from } else { piece.position };
        (from, piece.position + piece.bytes)
    })
}

fn lost_record(piece: &Piece) -> Option<LostRecord> {
    let What::Lost { kind, why, guess, .. } = &piece.what else { return None };
    let lost = LostRecord {
        position: piece.position,
        bytes: piece.bytes,
        kind: kind_name(*kind),
        why: why.clone(),
        ..LostRecord::default()
    };
    Some(match guess.as_deref() {
        Some(record) => described(lost, piece.position, record),
        None => lost,
    })
}

fn kind_name(kind: u8) -> String {
    let name = match Kind::of(kind) {
        Some(Kind::Accept) => "accept",
        Some(Kind::Redelivery) => "redelivery",
        Some(Kind::Begun) => "begun",
        Some(Kind::EffectIntent) => "effect intent",
        Some(Kind::EffectResponse) => "effect response",
        Some(Kind::Settle) => "settle",
        Some(Kind::Shelf) => "shelf",
        Some(Kind::Hold) => "hold",
        Some(Kind::Ruling) => "ruling",
        Some(Kind::SecretsSeen) => "secrets seen",
        Some(Kind::Copy) => "copy",
        Some(Kind::Mark) => "mark",
        Some(Kind::Gap) => "gap",
        Some(Kind::Lane) => "lane",
        None => return format!("kind {kind}"),
    };
    name.to_owned()
}

/// What its bytes say, though their checksum does not hold.
fn described(mut lost: LostRecord, position: u64, record: &Record) -> LostRecord {
    match record {
        Record::Accept(accept) => {
            lost.events = lost_events(position, accept);
            lost.keys = accept.events.len() as u64;
        }
        Record::Redelivery(again) => lost.event = Some(again.event),
        Record::Settle(settle) => {
            lost.shelf_keys = settle.writes.iter().map(|(key, _)| key.clone()).collect();
            lost.handler = Some(settle.handler.clone());
            lost.delivery = Some(settle.delivery.clone());
        }
        Record::Shelf(shelf) => {
            lost.shelf_keys = vec![shelf.key.clone()];
            lost.handler = Some(shelf.handler.clone());
        }
        Record::Copy(CopyRecord::Keys(keys)) => lost.keys = keys.len() as u64,
        Record::Copy(CopyRecord::Whole { position, kind, payload, .. }) => {
            if let Ok(inner) = Record::decode(*kind, payload) {
                lost.kind = format!("copy of {} at {position:x}", kind_name(*kind));
                lost = described(lost, *position, &inner);
            }
        }
        other => lost.delivery = delivery_of(other).cloned(),
    }
    lost
}

fn lost_events(position: u64, accept: &AcceptRecord) -> Vec<LostEvent> {
    let event = |(ordinal, event): (usize, &crate::store::codec::EventRecord)| {
        let name = EventRef { position, ordinal: u16::try_from(ordinal).unwrap_or(u16::MAX) };
        let delivery = |to: &crate::store::NewDelivery| DeliveryId {
            event: name,
            subscription: to.subscription.clone(),
        };
        LostEvent {
            event: name,
            source: accept.source.clone(),
            id: event.id.clone(),
            event_type: event.event_type.clone(),
            deliveries: event.deliveries.iter().map(delivery).collect(),
        }
    };
    accept.events.iter().enumerate().map(event).collect()
}

/// Of a record that is in the chain of one.
pub(super) fn delivery_of(record: &Record) -> Option<&DeliveryId> {
    match record {
        Record::Begun(begun) => Some(&begun.delivery),
        Record::EffectIntent(effect) | Record::EffectResponse(effect) => Some(&effect.delivery),
        Record::Settle(settle) => Some(&settle.delivery),
        Record::Hold(hold) => Some(&hold.delivery),
        Record::Ruling(ruling) => Some(&ruling.delivery),
        _ => None,
    }
}

// === what depends on it ===

fn touched(
    survey: &Survey,
    damage: &[Damage],
    mut deliveries: BTreeMap<DeliveryId, String>,
    orphaned: BTreeSet<EventRef>,
) -> Touched {
    let (mut keys, mut shelf) = (BTreeSet::new(), BTreeSet::new());
    for lost in damage.iter().flat_map(|damage| &damage.lost) {
        for event in &lost.events {
            keys.insert(TouchedKey { source: event.source.clone(), id: event.id.clone() });
            for id in &event.deliveries {
                deliveries.entry(id.clone()).or_insert_with(|| "its event's record is lost".into());
            }
        }
        if let Some(id) = &lost.delivery {
            deliveries.entry(id.clone()).or_insert_with(|| format!("its {} record is lost", lost.kind));
        }
        for key in &lost.shelf_keys {
            shelf.extend(lost.handler.clone().map(|handler| TouchedShelf { handler, key: key.clone() }));
        }
    }
    // A record whose header is whole names the one before it, which may say whose they both are.
    for (_, stretch) in survey.stretches() {
        for piece in &stretch.pieces {
            let What::Lost { link, kind, .. } = &piece.what else { continue };
            if let Some(id) = delivery_at(survey, *link) {
                let why = format!("a {} record of it is lost", kind_name(*kind));
                deliveries.entry(id).or_insert(why);
            }
        }
    }
    Touched {
        events: orphaned.into_iter().collect(),
        deliveries: deliveries.into_iter().map(|(id, why)| touched_delivery(survey, id, why)).collect(),
        keys: keys.into_iter().collect(),
        shelf: shelf.into_iter().collect(),
    }
}

fn delivery_at(survey: &Survey, position: u64) -> Option<DeliveryId> {
    if position == 0 {
        return None;
    }
    let raw = survey.segments.record(position).ok()??;
    delivery_of(&Record::decode(raw.kind, &raw.payload).ok()?).cloned()
}

fn touched_delivery(survey: &Survey, delivery: DeliveryId, why: String) -> TouchedDelivery {
    let raw = survey.segments.record(delivery.event.position).ok().flatten();
    let record = raw.and_then(|raw| Record::decode(raw.kind, &raw.payload).ok());
    let accept = match record {
        Some(Record::Accept(accept)) => Some(accept),
        _ => None,
    };
    let event = accept.as_ref().and_then(|accept| accept.events.get(usize::from(delivery.event.ordinal)));
    let to =
        event.and_then(|event| event.deliveries.iter().find(|to| to.subscription == delivery.subscription));
    TouchedDelivery {
        handler: to.map(|to| to.handler.clone()),
        source: accept.as_ref().map(|accept| accept.source.clone()),
        event_id: event.map(|event| event.id.clone()),
        event_type: event.map(|event| event.event_type.clone()),
        delivery,
        why,
    }
}

// === looking at every record ===

#[derive(Default)]
struct Look {
    requests: u64,
    events: u64,
    deliveries: u64,
    inconsistent: Vec<Inconsistent>,
    touched: BTreeMap<DeliveryId, String>,
    orphaned: BTreeSet<EventRef>,
    broken_links: Vec<(u64, DeliveryId)>,
    /// Whose the last records were: most links are short.
    recent: HashMap<u64, DeliveryId>,
    links_max: usize,
}

impl Look {
    fn see(&mut self, seen: &Seen<'_>, past: &Past<'_>) {
        match seen.record {
            Record::Accept(accept) => self.count(accept),
            Record::Copy(CopyRecord::Whole { position, kind, link, payload, state, .. }) => {
                self.copy(seen, past, (*position, *kind, *link), payload);
                self.copied_rows(seen, past, *position, state);
            }
            Record::Redelivery(again) if past.has_lost(again.event.position) => {
                self.orphaned.insert(again.event);
            }
            Record::Mark(Mark::Dropped { .. }) => {}
            other => {
                if let Some(id) = delivery_of(other) {
                    self.chained(past, seen.raw.position, seen.raw.link, id);
                }
            }
        }
    }

    fn count(&mut self, accept: &AcceptRecord) {
        self.requests += 1;
        self.events += accept.events.len() as u64;
        self.deliveries += accept.events.iter().map(|event| event.deliveries.len() as u64).sum::<u64>();
    }

    fn copy(
        &mut self,
        seen: &Seen<'_>,
        past: &Past<'_>,
        (position, kind, link): (u64, u8, u64),
        payload: &bytes::Bytes,
    ) {
        let at = seen.raw.position;
        if position >= at {
            self.complain(at, format!("it is a copy of what lies behind it, at {position:x}"));
            return;
        }
        if !past.has_lost(position)
            && let Ok(Some(original)) = past.segments.record(position)
            && (original.kind, &original.payload) != (kind, payload)
        {
            self.complain(at, format!("it is a copy of {position:x} and says something else"));
        }
        match Record::decode(kind, payload) {
            // Where the original is still there, it was counted.
            Ok(Record::Accept(accept)) if !matches!(past.segments.record(position), Ok(Some(_))) => {
                self.count(&accept);
            }
            Ok(record) => {
                if let Some(id) = delivery_of(&record) {
                    self.chained(past, position, link, id);
                }
            }
            Err(_) => {}
        }
    }

    /// A row that travels with its event names the last record of its delivery, as a link does.
    fn copied_rows(&mut self, seen: &Seen<'_>, past: &Past<'_>, position: u64, state: &[StateCopy]) {
        for copy in state {
            let event = EventRef { position, ordinal: copy.ordinal };
            for (subscription, row) in &copy.rows {
                let head = Row::decode(row).map_or(0, |row| row.head);
                if head != 0 {
                    let id = DeliveryId { event, subscription: subscription.clone() };
                    self.link(past, seen.raw.position, head, &id);
                }
            }
        }
    }

    fn chained(&mut self, past: &Past<'_>, position: u64, link: u64, id: &DeliveryId) {
        if past.has_lost(id.event.position) {
            self.orphaned.insert(id.event);
            self.touched.entry(id.clone()).or_insert_with(|| "its event's record is lost".into());
        }
        if link != 0 {
            self.link(past, position, link, id);
        }
        if self.recent.len() >= self.links_max {
            self.recent.clear();
        }
        if self.links_max > 0 {
            self.recent.insert(position, id.clone());
        }
    }

    fn link(&mut self, past: &Past<'_>, position: u64, link: u64, id: &DeliveryId) {
        if self.recent.get(&link) == Some(id) {
            return;
        }
        if link >= position {
            self.complain(position, format!("its link leads forwards, to {link:x}"));
        } else if past.has_lost(link) {
            self.broken_links.push((link, id.clone()));
            self.touched.entry(id.clone()).or_insert_with(|| format!("the record at {link:x} of it is lost"));
        } else {
            match past.segments.record(link) {
                Ok(Some(raw)) if !leads_to(&raw, id) => {
                    self.complain(position, format!("its link leads to {link:x}, which is not of {id}"));
                }
                Err(error) => self.complain(position, format!("its link leads to {link:x}: {error}")),
                // It was dropped, with what was known of it then.
                Ok(_) => {}
            }
        }
    }

    fn complain(&mut self, position: u64, why: String) {
        self.inconsistent.push(Inconsistent { position, why });
    }
}

fn leads_to(raw: &crate::store::journal::RawRecord, id: &DeliveryId) -> bool {
    let record = Record::decode(raw.kind, &raw.payload);
    // What a repair gave up stands for whatever was there.
    record.is_ok_and(|record| matches!(record, Record::Gap(_)) || delivery_of(&record) == Some(id))
}
