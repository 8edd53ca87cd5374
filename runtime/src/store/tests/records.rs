//! The codec: what is written reads back, and nothing that is read can make it fall over.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::store::codec::*;
use crate::words::lane::LaneChange;

fn names() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9_-]{0,62}".prop_map(|text| Name::new(&text).unwrap())
}

fn times() -> impl Strategy<Value = Millis> {
    any::<u64>().prop_map(Millis)
}

fn blobs() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn events() -> impl Strategy<Value = EventRef> {
    (any::<u64>(), any::<u16>()).prop_map(|(position, ordinal)| EventRef { position, ordinal })
}

fn deliveries() -> impl Strategy<Value = DeliveryId> {
    (events(), names()).prop_map(|(event, subscription)| DeliveryId { event, subscription })
}

fn new_deliveries() -> impl Strategy<Value = NewDelivery> {
    (names(), names()).prop_map(|(subscription, handler)| NewDelivery { subscription, handler })
}

fn event_records() -> impl Strategy<Value = EventRecord> {
    let range = option::of((any::<u32>(), any::<u32>()));
    let names = (any::<String>(), option::of(any::<[u8; 16]>()));
    (names, any::<String>(), range, any::<bool>(), any::<u64>(), vec(new_deliveries(), 0..4)).prop_map(
        |((id, also), event_type, range, test, body_hash, deliveries)| EventRecord {
            id,
            also,
            event_type,
            range,
            test,
            body_hash,
            deliveries,
        },
    )
}

fn accepts() -> impl Strategy<Value = Record> {
    let heads = vec((any::<String>(), any::<String>()), 0..5);
    let times = (times(), any::<u64>(), option::of(times()), any::<u32>());
    (
        names(),
        times,
        any::<[u8; 6]>(),
        option::of(any::<String>()),
        heads,
        vec(event_records(), 1..4),
        blobs(),
    )
        .prop_map(
            |(source, (received_at, queued_us, signed_at, window), secret, query, headers, events, body)| {
                Record::Accept(AcceptRecord {
                    source,
                    received_at,
                    clock: received_at,
                    queued_us,
                    signed_at,
                    secret: Fingerprint(secret),
                    expires: Millis(u64::from(window)),
                    query,
                    headers,
                    events,
                    body,
                })
            },
        )
}

fn changes() -> impl Strategy<Value = ShelfChange> {
    prop_oneof![
        (blobs(), option::of(times())).prop_map(|(value, expires)| ShelfChange::Set { value, expires }),
        Just(ShelfChange::Delete),
        (any::<i64>(), option::of(times())).prop_map(|(sum, expires)| ShelfChange::Sum { sum, expires }),
    ]
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Done),
        Just(Verdict::Skipped),
        times().prop_map(|at| Verdict::Again { at }),
        any::<String>().prop_map(|reason| Verdict::Dead { reason }),
        any::<String>().prop_map(|reason| Verdict::Parked { reason }),
    ]
}

fn settles() -> impl Strategy<Value = Record> {
    let writes = vec((any::<String>(), changes()), 0..4);
    (deliveries(), names(), times(), verdicts(), any::<(u32, u64)>(), any::<String>(), writes).prop_map(
        |(delivery, handler, at, verdict, (number, took_ms), reason, writes)| {
            let attempt = Attempt { took_ms, ..attempt(number, failed(&reason)) };
            Record::Settle(Box::new(SettleRecord { delivery, handler, at, attempt, verdict, writes }))
        },
    )
}

fn holds() -> impl Strategy<Value = Record> {
    let status = prop_oneof![
        Just(Status::Open),
        Just(Status::Held),
        Just(Status::Parked),
        Just(Status::Dead),
        Just(Status::Done),
        Just(Status::Skipped),
        Just(Status::Cancelled),
    ];
    (deliveries(), status, times(), any::<String>())
        .prop_map(|(delivery, status, at, reason)| Record::Hold(HoldRecord { delivery, status, at, reason }))
}

fn copies() -> impl Strategy<Value = Record> {
    let rows = vec((names(), blobs()), 0..3);
    let states = vec(
        (any::<u16>(), blobs(), rows).prop_map(|(ordinal, redeliveries, rows)| StateCopy {
            ordinal,
            redeliveries,
            rows,
        }),
        0..3,
    );
    let key = (any::<[u8; 16]>(), events(), any::<u64>(), times())
        .prop_map(|(key, event, body_hash, expires)| KeyCopy { key, event, body_hash, expires });
    prop_oneof![
        (any::<(u64, u8, u64)>(), option::of(any::<u64>()), blobs(), states).prop_map(
            |((position, kind, link), answer_us, payload, state)| {
                Record::Copy(CopyRecord::Whole { position, kind, link, answer_us, payload, state })
            }
        ),
        vec(key, 0..4).prop_map(|keys| Record::Copy(CopyRecord::Keys(keys))),
    ]
}

fn marks() -> impl Strategy<Value = Record> {
    let drops = vec(any::<([u8; 16], u64)>().prop_map(|(key, position)| KeyDrop { key, position }), 0..4);
    prop_oneof![
        (times(), times()).prop_map(|(at, clock)| Record::Mark(Mark::Opened { at, clock })),
        (times(), times()).prop_map(|(at, clock)| Record::Mark(Mark::Clean { at, clock })),
        (vec(any::<u64>(), 0..4), drops)
            .prop_map(|(positions, keys)| Record::Mark(Mark::Dropped { positions, keys })),
        any::<u64>().prop_map(|sequence| Record::Mark(Mark::First { sequence })),
        (any::<u64>(), any::<u64>())
            .prop_map(|(at, clock)| { Record::Mark(Mark::Clock { at: Millis(at), clock: Millis(clock) }) }),
    ]
}

fn small_ones() -> impl Strategy<Value = Record> {
    let effect = || {
        (deliveries(), times(), blobs()).prop_map(|(delivery, at, detail)| Effect { delivery, at, detail })
    };
    let seen = vec((any::<[u8; 6]>().prop_map(Fingerprint), times()), 0..4);
    prop_oneof![
        (events(), times(), any::<bool>())
            .prop_map(|(event, at, body_differs)| Record::Redelivery(Redelivery { event, at, body_differs })),
        (deliveries(), any::<u32>(), times(), any::<[u8; 32]>()).prop_map(
            |(delivery, number, at, plugin)| {
                Record::Begun(Begun { delivery, number, at, plugin: Digest(plugin) })
            }
        ),
        effect().prop_map(Record::EffectIntent),
        effect().prop_map(Record::EffectResponse),
        (names(), any::<String>(), any::<u64>(), option::of(times()), blobs()).prop_map(
            |(handler, key, version, expires, value)| {
                Record::Shelf(ShelfRecord { handler, key, version, expires, value })
            }
        ),
        (deliveries(), any::<bool>(), times()).prop_map(|(delivery, retry, at)| {
            let ruling = if retry { Ruling::Retry } else { Ruling::Cancel };
            Record::Ruling(RulingRecord { delivery, ruling, at, clock: at })
        }),
        (names(), seen).prop_map(|(source, demoted)| Record::SecretsSeen(SecretsSeen { source, demoted })),
        (names(), times(), times(), lane_changes())
            .prop_map(|(handler, at, clock, change)| Record::Lane(LaneRecord { handler, at, clock, change })),
    ]
}

fn lane_changes() -> impl Strategy<Value = LaneChange> {
    let text = any::<String>;
    prop_oneof![
        (text(), any::<u32>(), times(), text(), times(), any::<u64>()).prop_map(
            |(origin, failures, since, why, probe_at, waiting)| LaneChange::Opened {
                origin,
                failures,
                since,
                why,
                probe_at,
                waiting
            }
        ),
        (text(), times(), any::<u32>()).prop_map(|(origin, since, probes)| LaneChange::Returning {
            origin,
            since,
            probes
        }),
        (text(), times()).prop_map(|(why, since)| LaneChange::Closed { why, since }),
        option::of(text()).prop_map(|reason| LaneChange::Paused { reason }),
        option::of(text()).prop_map(|reason| LaneChange::Resumed { reason }),
    ]
}

fn records() -> impl Strategy<Value = Record> {
    prop_oneof![accepts(), settles(), holds(), copies(), marks(), small_ones()]
}

proptest! {
    #[test]
    fn every_record_reads_back(record in records()) {
        let draft = record.draft();
        prop_assert_eq!(Record::decode(draft.kind, &Bytes::from(draft.payload)), Ok(record));
    }

    #[test]
    fn a_record_cut_short_or_with_more_behind_it_does_not_read(record in records(), cut in any::<prop::sample::Index>()) {
        let draft = record.draft();
        let mut longer = draft.payload.clone();
        let shorter = Bytes::copy_from_slice(&longer[..cut.index(longer.len())]);
        prop_assert!(Record::decode(draft.kind, &shorter).is_err());
        longer.push(0);
        prop_assert!(Record::decode(draft.kind, &Bytes::from(longer)).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind in any::<u8>(), payload in vec(any::<u8>(), 0..300)) {
        let _ = Record::decode(kind, &Bytes::from(payload));
    }

    #[test]
    fn a_flipped_byte_is_read_as_something_or_refused(record in records(), at in any::<prop::sample::Index>()) {
        let mut draft = record.draft();
        let at = at.index(draft.payload.len());
        draft.payload[at] ^= 0x41;
        let _ = Record::decode(draft.kind, &Bytes::from(draft.payload));
    }
}

#[test]
fn every_kind_has_a_number_of_its_own_and_no_other_number_is_known() {
    let known: Vec<u8> = (0..=u8::MAX).filter(|byte| Kind::of(*byte).is_some()).collect();
    assert_eq!(known, (1..=KIND_MAX).collect::<Vec<_>>());
    for byte in known {
        assert_eq!(Kind::of(byte).unwrap() as u8, byte);
    }
}

#[tokio::test]
async fn a_store_with_a_record_of_an_unknown_kind_does_not_start() {
    use crate::store::journal::{self, Draft, Opening};
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let opening = Opening {
        disk: Arc::new(journal::disk::Real),
        machine: Arc::new(machine::System::default()),
        dir: dir.path().join("journal"),
        segment_bytes: 1 << 20,
        kind_max: KIND_MAX + 1,
        now: NOW,
    };
    let (mut newer, _) = journal::open(opening).unwrap();
    let mut batch = newer.begin().unwrap();
    batch.push(&Draft::new(KIND_MAX + 1, b"of a later version".to_vec()), 0);
    newer.write(batch).unwrap();
    newer.sync().unwrap();
    drop(newer);
    let error = Ledger::open(options(dir.path()), NOW).err().unwrap();
    assert!(matches!(error, Error::UnknownKind(_, kind) if kind == KIND_MAX + 1), "{error}");
}
