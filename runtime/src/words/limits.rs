//! Every bound of the daemon in one place: a name, a default, and why it has that value.
//!
//! What an operator can set has its default here and its field in `config`; the rest is fixed.

use std::ops::RangeInclusive;
use std::time::Duration;

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;
pub const GIB: usize = 1 << 30;

// === configuration ===

/// `--config`, repeated.
pub const CONFIG_FILES_MAX: usize = 16;
pub const SOURCES_MAX: usize = 256;
pub const SOURCE_PATH_BYTES_MAX: usize = 256;
pub const HANDLERS_MAX: usize = 256;
pub const HANDLER_SECRETS_MAX: usize = 32;
/// Origins of one grant, and of one secret.
pub const ORIGINS_MAX: usize = 64;
pub const NETWORKS_MAX: usize = 64;
/// Methods of one granted origin.
pub const ORIGIN_METHODS_MAX: usize = 16;
/// Paths of one granted origin.
pub const ORIGIN_PATHS_MAX: usize = 64;
/// `sources.*.credentials`
pub const SOURCE_CREDENTIALS_MAX: usize = 8;
/// Also the most deliveries that one event can have.
pub const SUBSCRIPTIONS_MAX: usize = 1024;
pub const EVENT_PATTERNS_MAX: usize = 64;
/// The longest secret; a private key of 4,096 bits in PEM has 3.2 KiB.
pub const SECRET_BYTES_MAX: usize = 16 * KIB;
/// A certificate that ends within this is warned about: the usual ones are renewed 30 days ahead.
pub const CERTIFICATE_ENDS_SOON: Duration = days(14);

// What an operator may set each field to. The lower ends keep a slip (`10ms` for `10m`) from becoming an
// outage, the upper ones keep the promises: an answer within `ANSWER_TIMEOUT`, memory that is there.
pub const BODY_BYTES_RANGE: RangeInclusive<u64> = KIB as u64..=BODIES_IN_FLIGHT_BYTES_MAX as u64;
pub const CONNECTIONS_RANGE: RangeInclusive<u64> = 1..=65_536;
pub const REQUESTS_RANGE: RangeInclusive<u64> = 1..=65_536;
/// More has no effect: an answer is due within `ANSWER_TIMEOUT` of the first byte, and `ACCEPT_TIME_MIN` of it is
/// the journal's. So it is for the body.
pub const HEADER_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(8);
pub const BODY_TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(8);
pub const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
pub const RETAIN_AGE_RANGE: RangeInclusive<Duration> = Duration::from_secs(3600)..=days(3650);
/// Below four segments the retention would have nothing that it could drop.
pub const RETAIN_BYTES_RANGE: RangeInclusive<u64> = 4 * SEGMENT_BYTES..=64 << 40;
pub const OPEN_AGE_RANGE: RangeInclusive<Duration> = Duration::from_secs(60)..=days(3650);
pub const ROTATION_WINDOW_RANGE: RangeInclusive<Duration> = Duration::ZERO..=days(365);
pub const DEDUPE_WINDOW_RANGE: RangeInclusive<Duration> = Duration::from_secs(60)..=days(365);
/// Per second: from one an hour.
pub const RATE_RANGE: RangeInclusive<f64> = 1.0 / 3600.0..=100_000.0;
pub const GUEST_MEMORY_RANGE: RangeInclusive<u64> = MIB as u64..=GUEST_MEMORY_BYTES_MAX;
pub const GUEST_TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_millis(10)..=GUEST_TIMEOUT_MAX;
pub const LANE_CONCURRENCY_RANGE: RangeInclusive<u64> = 1..=INSTANCES_MAX as u64;
pub const CALLS_RANGE: RangeInclusive<u64> = 0..=1024;
pub const CALL_BYTES_RANGE: RangeInclusive<u64> = KIB as u64..=64 * MIB as u64;
/// How long a service remembers an idempotency key; Stripe a day, others up to a month.
pub const KEY_TTL_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600);
pub const GIVE_UP_AFTER_RANGE: RangeInclusive<Duration> = Duration::ZERO..=days(365);
pub const DELAY_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=AFTER_MAX;
pub const BREAKER_FAILURES_RANGE: RangeInclusive<u64> = 1..=1000;
pub const BACKOFF_FACTOR_RANGE: RangeInclusive<f64> = 1.0..=10.0;

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}

// === read ===

/// `server.max_body`. GitHub's cap is 25 MiB, everybody else's far below; SendPilot's lead exports are the largest of its events.
pub const BODY_BYTES_MAX_DEFAULT: usize = 5 * MIB;
/// Bodies in flight and queued for the journal, summed over all requests.
pub const BODIES_IN_FLIGHT_BYTES_MAX: usize = 64 * MIB;
/// A body up to this size, come in one piece, is copied out of the connection's buffer of 8 KiB, which the next
/// request then finds free. Larger ones are kept as they came.
pub const BODY_COPY_BYTES_MAX: usize = 2 * KIB;
/// `server.max_connections`. 1,024 is also the usual soft limit of file descriptors, which `run` raises.
pub const CONNECTIONS_MAX_DEFAULT: usize = 4096;
/// Connections leave this many of the files that the process may open to the journal, the index, compiled plugins,
/// and connections of handlers; where it may open fewer than twice as many, half of them.
pub const FILES_RESERVE: usize = 512;
/// `server.max_requests`: requests between their headers and their answer.
pub const REQUESTS_IN_FLIGHT_MAX_DEFAULT: usize = 1024;
/// One address has at most one of this many parts of the connections, of the requests and of the body bytes, so
/// that no single stranger can turn the genuine senders away.
pub const ADDRESS_SHARE_PARTS: usize = 4;
/// And at least this many connections and requests, where there are that many: a small cap is not for one address.
pub const ADDRESS_SHARE_MIN: usize = 16;
/// The smallest network that anybody is given in IPv6 (RFC 6177): one address, as far as shares go.
pub const IPV6_NETWORK_BITS: u32 = 64;
/// From a request's first byte to the end of its headers; also what a new connection has for its first byte.
pub const HEADER_READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// From the end of the headers to the end of the body. `ANSWER_TIMEOUT` less `ACCEPT_TIME_MIN` cuts it short.
pub const BODY_READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(8);
/// A TLS handshake that takes longer is dropped.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Nobody waits longer for an answer: SendPilot gives up after 30 s, Slack after 3 s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading a request ends at the latest this long before its answer is due, so that the sync has time.
pub const ACCEPT_TIME_MIN: Duration = Duration::from_secs(2);
/// A connection without a request is closed after this. Senders keep theirs for seconds, proxies for a minute.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that takes nothing of its answer for this long is dropped. Answers fit into any socket buffer.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a sender still has in the pipe when it is refused is read and thrown away within these two bounds:
/// closing at once would make TCP reset the connection, and the sender would never see why.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
pub const LINGER_BYTES_MAX: usize = 8 * MIB;
/// A connection that was asked to close and does not is dropped after this.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(12);
/// Headers of a request, all together.
pub const HEADERS_BYTES_MAX: usize = 32 * KIB;
/// hyper's own default for HTTP/1, which is quicker than a number of ours; a test holds the two together.
pub const HEADERS_MAX: usize = 100;
/// HTTP/2: requests at once on one connection. A sender that has more of them waits, or opens another.
pub const H2_STREAMS_MAX: u32 = 32;
/// HTTP/2: what a sender may send of one body before we read it. At 50 ms away that is 5 MiB/s.
pub const H2_STREAM_WINDOW_BYTES: u32 = 256 * KIB as u32;
/// HTTP/2: the same, over all bodies of a connection.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 512 * KIB as u32;
/// HTTP/2: a silent peer with requests open is asked this often whether it is there, and given this long.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Verifying and parsing a body larger than this is announced to the runtime as blocking: 1 MiB takes
/// milliseconds for each secret, and other answers must not wait for it.
pub const VERIFY_INLINE_BYTES_MAX: usize = 256 * KIB;
/// How often the certificate's files are looked at.
pub const CERTIFICATE_POLL: Duration = Duration::from_secs(5);
/// A PEM file larger than this is not a certificate.
pub const PEM_BYTES_MAX: u64 = MIB as u64;
pub const DEVELOPMENT_CERTIFICATE_DAYS: i64 = 365;
/// One that ends sooner is made anew.
pub const DEVELOPMENT_CERTIFICATE_SPARE: Duration = Duration::from_secs(7 * 24 * 3600);
/// What a refused sender is told to wait.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// Nobody is told to wait longer than this, however small a source's rate.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// After a connection that could not be accepted, mostly for want of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// `server.drain`.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(20);
/// Refusals remembered for each source, for `sources show`.
pub const REFUSALS_REMEMBERED: usize = 100;
/// Refusals logged for each source and reason in each window; the rest are counted and the count is logged.
pub const REFUSAL_LOG_LINES_MAX: u32 = 5;
pub const REFUSAL_LOG_WINDOW: Duration = Duration::from_secs(60);
/// Text of a request (path, method) shown in a refusal.
pub const REQUEST_TEXT_CHARS_MAX: usize = 120;

// === verify ===

/// `sources.*.secrets`
pub const SECRETS_MAX: usize = 8;
/// `sources.*.challenge`; a provider has one, some have two.
pub const CHALLENGES_MAX: usize = 8;
/// A larger body is no handshake: it is not parsed before its signature was found good. The largest known, Slack's and
/// Event Grid's, have less than 1 KiB.
pub const CHALLENGE_BODY_BYTES_MAX: usize = 16 * KIB;
/// One value of a handshake, as it is checked, signed or given back. Microsoft Graph's have some hundred bytes.
pub const CHALLENGE_VALUE_BYTES_MAX: usize = 2 * KIB;
/// Characters and classes of one pattern in `require`; a UUID has nine, a host name of AWS fifty.
pub const CHALLENGE_PATTERN_PIECES_MAX: usize = 128;
/// A secret that a handshake brings. Asana's has 64 characters, Notion's 50.
pub const CAPTURED_SECRET_BYTES: RangeInclusive<usize> = SECRET_BYTES_SHORT..=512;
/// Signatures tried in one request.
pub const SIGNATURE_CANDIDATES_MAX: usize = 64;
/// The same where each costs a check with a public key: tens of microseconds, and a hash of the body.
pub const PUBLIC_KEY_CANDIDATES_MAX: usize = 4;
/// The highest number of a `header-numbered:` header.
pub const NUMBERED_HEADERS_MAX: usize = 100;
/// Fields of a form or a query that a scheme reads from.
pub const FORM_FIELDS_MAX: usize = 1000;
pub const ROTATION_WINDOW_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// A secret shorter than this is warned about.
pub const SECRET_BYTES_SHORT: usize = 16;
pub const EVENT_ID_BYTES_MAX: usize = 512;
pub const EVENT_TYPE_BYTES_MAX: usize = 256;
/// How often the allocator is asked to give back what was freed.
pub const MEMORY_GIVEN_BACK_EVERY: Duration = Duration::from_secs(5);
/// Keys in a `json:` path. What lies beside the paths is skipped without recursion, however deep it is.
pub const JSON_DEPTH_MAX: usize = 32;
/// Items of one notification of Adyen's, each with a signature of its own; Adyen sends one.
pub const SIGNED_ITEMS_MAX: usize = 64;
/// `scheme.topics` of an `aws-sns`.
pub const TOPICS_MAX: usize = 256;
/// A token in a header. Those that are known have less than one KiB.
pub const JWT_BYTES_MAX: usize = 8 * KIB;
/// `kid` of a token.
pub const KEY_ID_BYTES_MAX: usize = 128;
/// How far a sender's clock may be off, for `nbf` and `exp`; MessageBird's own libraries have this.
pub const JWT_LEEWAY_DEFAULT: Duration = Duration::from_secs(5);
/// What a host of keys answers.
pub const KEY_ANSWER_BYTES_MAX: usize = 64 * KIB;
/// Keys of one set.
pub const KEYS_OF_A_SET_MAX: usize = 64;
/// How long a key that was fetched is used before it is asked for again: whoever ends one early is heard by then.
pub const KEY_LIFETIME: Duration = Duration::from_secs(3600);
/// A certificate of SNS has its number in its URL: another one is at another URL.
pub const KEY_LIFETIME_OF_CERTIFICATES: Duration = Duration::from_secs(24 * 3600);
/// That there is no such key is remembered this long, so that who made it up is not asked about again.
pub const KEY_ABSENT_REMEMBERED: Duration = Duration::from_secs(60);
/// And that a host could not be asked this long: every request that waits would ask anew.
pub const KEY_FAILURE_REMEMBERED: Duration = Duration::from_secs(5);
/// One question, from the lookup of the host to the end of its answer. The sender waits.
pub const KEY_FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions of one source at once or nearly so ...
pub const KEY_FETCHES_BURST: u32 = 10;
/// ... and after that one in this time: a flood of made-up names becomes no flood of questions.
pub const KEY_FETCH_EVERY: Duration = Duration::from_secs(6);
/// Keys that one source remembers, those that are absent too.
pub const KEYS_REMEMBERED_MAX: usize = 64;
/// What `body_repeat` of a vector may make.
pub const VECTOR_BODY_BYTES_MAX: usize = 64 * MIB;
/// A captured request as `verify --request` reads it; a HAR file of a whole page has some megabytes.
pub const CAPTURE_BYTES_MAX: usize = 64 * MIB;
/// Known mistakes that are made good and judged again, one or two at a time, until one matches: a second or two.
pub const TRIES_MAX: usize = 50_000;
/// The same in bytes that are hashed, for a large body.
pub const TRIES_BYTES_MAX: usize = 256 * MIB;
/// A larger body is not laid out anew as JSON: it would be in memory thirty times.
pub const TRIES_JSON_BYTES_MAX: usize = MIB;
/// The body of a scheme's sample. What is proved of it hashes it once for each of `SAMPLE_FLIPS_MAX` changes.
pub const SAMPLE_BODY_BYTES_MAX: usize = 64 * KIB;
/// Bytes of a sample's body that are changed, one at a time.
pub const SAMPLE_FLIPS_MAX: usize = 64;

// === store ===

pub const DEDUPE_WINDOW_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
pub const RETAIN_AGE_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
pub const RETAIN_BYTES_DEFAULT: u64 = 10 * GIB as u64;
/// Open deliveries older than this become dead.
pub const OPEN_AGE_MAX_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// An idempotency key that outlives its event, in the journal.
pub const KEY_COPY_BYTES: u64 = 42;
/// Live data over this share of `store.retain.max_size` refuses senders.
pub const LIVE_SHARE_MAX_PERCENT: u64 = 70;
/// Accepting stops this far before the disk is full; the reserve is for responses and settles.
pub const DISK_RESERVE_BYTES: u64 = 64 * MIB as u64;
/// Attempts stop starting this far before it: what is under way can still be settled.
pub const ATTEMPT_RESERVE_BYTES: u64 = 16 * MIB as u64;
/// Kept free beside that for each call in flight: an answer at its cap, its head as JSON, and what asked for it.
pub const CALL_RESERVE_BYTES: u64 = (HTTP_RESPONSE_BYTES_MAX + 3 * HTTP_HEADERS_BYTES_MAX) as u64;
pub const SEGMENT_BYTES: u64 = 64 * MIB as u64;
/// How far ahead of its records a segment is filled with zeros. A sync behind a write over bytes that the file has is
/// one write of the disk; where the file grew, the file system's own journal is written too.
pub const ZEROED_AHEAD_BYTES: usize = 256 * KIB;
/// A batch is closed at this many records or bytes.
pub const BATCH_RECORDS_MAX: usize = 1024;
pub const BATCH_BYTES_MAX: usize = 8 * MIB;
/// How far apart batches begin where more than one waits for each: a quarter of the syncs at half load, and a quarter
/// more events a second with a handler (docs/performance.md).
pub const SYNC_SPACING: Duration = Duration::from_micros(400);
/// Records waiting for the writer.
pub const WRITER_QUEUE_MAX: usize = 4096;
/// One record of the journal: a body at its cap, its headers, and room.
pub const RECORD_BYTES_MAX: usize = GIB;
/// Records that go to the index in one batch ...
pub const INDEX_BATCH_RECORDS_MAX: usize = 32_768;
/// ... or changes of single keys, if there are as many before. sled lets nobody read while it applies a batch.
pub const INDEX_BATCH_CHANGES_MAX: usize = 2048;
/// Rows of deliveries under way that the writer keeps, so that it need not wait for a batch of the index to be applied.
pub const HOT_ROWS_MAX: usize = 65_536;
/// The index waits this long for more records: a delivery that ends meanwhile costs it nothing.
pub const INDEX_PACE: Duration = Duration::from_secs(1);
/// The filters before the runs of idempotency keys: at twenty bits a key, fewer than one new event in a hundred has to
/// ask the index for one of them, and with it to wait where a batch is being applied.
pub const FILTER_BITS_PER_KEY: usize = 20;
/// Runs of idempotency keys of like size that are merged at once.
pub const SEEN_MERGE_RUNS: usize = 4;
/// Blocks that are read, written or removed in one step of merging.
pub const SEEN_STEP_BLOCKS: usize = 16;
/// Claims of keys that are let go in one.
pub const CLAIMS_STEP: usize = 512;
/// The index's thread rests between such steps, this many times as long as one took: done in one go, they would keep
/// a processor from those who answer senders for as long as the scheduler allows, which is milliseconds.
pub const INDEX_REST_FACTOR: u32 = 3;
/// And no longer than this: a step that the disk held up must not hold up the next one.
pub const INDEX_REST_MAX: Duration = Duration::from_millis(10);
/// Rows of deliveries that ended that make a table of the history: 2 MiB, and as much in memory before.
pub const PAST_TABLE_ROWS: usize = 16_384;
/// Events of one request.
pub const EVENTS_PER_REQUEST_MAX: usize = 10_000;
/// What sled may hold of its pages.
pub const INDEX_CACHE_BYTES: u64 = 32 * MIB as u64;
/// How often free space is asked for.
pub const DISK_CHECK_EVERY: Duration = Duration::from_secs(1);
/// How far ahead of the monotonic clock the time of expiry may jump: a wrong wall clock must not forget keys.
pub const EXPIRY_JUMP_MAX: Duration = Duration::from_secs(3600);
/// A longer time between two starts is not believed: it is a wall clock that is wrong, and no time has passed.
pub const EXPIRY_GAP_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// Newly accepted deliveries that wait for a lane to hear of them; the rest are found in the index.
pub const ANNOUNCEMENTS_MAX: usize = 4096;
/// Rows of one page of a listing.
pub const HISTORY_PAGE_MAX: usize = 1000;
pub const HISTORY_PAGE_DEFAULT: usize = 50;
/// Rows looked at for one page; a rarer filter goes on from `next`.
pub const HISTORY_SCAN_MAX: usize = 10_000;
/// Messages read from the journal for one page that is filtered by the text of an error.
pub const HISTORY_MESSAGES_MAX: usize = 2000;
/// Bytes read from the journal for one page.
pub const HISTORY_SCAN_BYTES_MAX: u64 = 64 * MIB as u64;
/// Records of one delivery that `deliveries show` walks through.
pub const DELIVERY_RECORDS_MAX: usize = 4096;
/// What was noted about the calls of one delivery, as far as an attempt holds it: above this it is parked.
pub const EFFECTS_BYTES_MAX: usize = 64 * MIB;
/// The same of all attempts under way together: one that needs more waits until another has ended.
pub const EFFECTS_HELD_BYTES_MAX: usize = 256 * MIB;
/// Records behind the last that are looked at for what was said last about a delivery: the calls of an attempt that is
/// under way, two records each.
pub const MESSAGE_RECORDS_MAX: usize = 2100;
/// One gap of `store repair`, header included: it is read as one record. A longer stretch becomes several.
pub const GAP_BYTES_MAX: u64 = MIB as u64;
/// Records that `store check` remembers with their delivery; the link to an older one is looked up in its file.
pub const CHECK_LINKS_REMEMBERED: usize = 100_000;
/// A shelf value up to this size lies in the index itself: counters are added to without reading the journal.
pub const SHELF_INLINE_BYTES_MAX: usize = 64;
/// Records that retention moves or drops in one go, so that accepts need not wait for it.
pub const RETAIN_CHUNK_RECORDS: usize = 64;
/// Keys of shelves that are looked at in one go for expired ones.
pub const PURGE_CHUNK_KEYS: usize = 1024;
/// Deliveries that are held, resumed or ended in one go.
pub const HOLD_CHUNK_DELIVERIES: usize = 256;
/// How far the index may lag behind the journal before senders are refused.
pub const INDEX_LAG_RECORDS_MAX: usize = 100_000;
/// Values of the index are small; what is larger is a position in the journal.
pub const INDEX_VALUE_BYTES_MAX: usize = KIB;

// === dispatch ===

/// Deliveries of one lane in memory; the rest wait in the index.
pub const LANE_DELIVERIES_MAX: usize = 1024;
pub const LANE_CONCURRENCY_DEFAULT: usize = 32;
/// Begun without an end this many times in a row parks a delivery.
pub const POISON_BEGUN_MAX: u32 = 3;
pub const GIVE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(3 * 24 * 3600);
pub const FIRST_DELAY_DEFAULT: Duration = Duration::from_secs(5);
pub const BACKOFF_FACTOR_DEFAULT: f64 = 2.0;
pub const MAX_DELAY_DEFAULT: Duration = Duration::from_secs(3600);
/// What a handler may ask for with `after-ms` is clamped to this.
pub const AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// And to this: a handler that always asks for no pause would spin until it is given up.
pub const AFTER_MIN: Duration = Duration::from_millis(100);
/// What is left of a note or a reason where the record of an attempt is too large for the journal.
pub const SHORT_REASON_CHARS_MAX: usize = 200;
/// `handlers.*.breaker.failures`. The chance that twenty in a row fail at a service of which a third of the answers
/// fail is one in three thousand million; one that is down sees its first twenty within a second.
pub const BREAKER_FAILURES_DEFAULT: u32 = 20;
/// `handlers.*.breaker.probe_after`: a restart of a service takes about as long.
pub const PROBE_AFTER_DEFAULT: Duration = Duration::from_secs(30);
/// `handlers.*.breaker.probe_max`: nobody waits much longer than this once the service is back.
pub const PROBE_MAX_DEFAULT: Duration = Duration::from_secs(600);
/// A probe waits as long as the service asked for, as `Retry-After`, but no longer: it holds a whole lane back.
pub const PROBE_ASKED_MAX: Duration = Duration::from_secs(3600);
/// Stops of a lane that are remembered, so that their time does not count towards `retry.give_up_after`.
pub const LANE_STOPS_MAX: usize = 64;
/// What an operator says to a pause.
pub const PAUSE_REASON_CHARS_MAX: usize = 200;
/// Conflicting shelf transactions run again at once, uncounted; the last of these runs alone.
pub const SHELF_CONFLICT_RUNS: u32 = 3;

// === host ===

pub const PLUGIN_BYTES_MAX: u64 = 64 * MIB as u64;
/// What is compiled, over all modules of a component: the compiler takes about 5 KB of memory for a function that does
/// nothing. Python's interpreter has 15,000.
pub const PLUGIN_FUNCTIONS_MAX: u64 = 50_000;
/// Of one function: what the compiler holds for it grows faster than the function does. The largest that we know, an
/// interpreter's loop, has a quarter of this.
pub const PLUGIN_FUNCTION_BYTES_MAX: u64 = MIB as u64;
/// Of one function: they are multiplied by its branches.
pub const PLUGIN_LOCALS_MAX: u64 = 4000;
pub const PLUGIN_CODE_BYTES_MAX: u64 = 32 * MIB as u64;
/// Missing imports and problems of a manifest that are named one by one.
pub const PLUGIN_ITEMS_SHOWN_MAX: usize = 20;
pub const PLUGIN_COMPILE_TIMEOUT: Duration = Duration::from_secs(120);
pub const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
pub const GUEST_MEMORY_BYTES_DEFAULT: u64 = 64 * MIB as u64;
pub const GUEST_MEMORY_BYTES_MAX: u64 = 1024 * MIB as u64;
pub const GUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
pub const GUEST_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Live instances over all lanes.
pub const INSTANCES_MAX: u32 = 256;
/// An attempt that found no instance free is tried again after this.
pub const NO_INSTANCE_DELAY: Duration = Duration::from_secs(1);
/// How long a looping guest keeps its thread before others get it. With 32 of them on two cores, 200 calls of
/// another handler took 4.0 s at 10 ms, the usual value, and 0.9 s at 2 ms; a call by itself took the same.
pub const EPOCH_TICK: Duration = Duration::from_millis(2);
/// The ticker sleeps once no call has been live for this many ticks.
pub const EPOCH_IDLE_TICKS_MAX: u32 = 500;
/// An attempt that is under way for longer than all that its calls may take and this is reported: the disk is
/// stuck, or a function of the host never returns.
pub const CALL_OVERRUN_MAX: Duration = Duration::from_secs(10);
/// Of a guest's wasm stack, and of the host stack beneath it that wasm and host functions share.
pub const GUEST_STACK_BYTES: usize = 512 * KIB;
pub const GUEST_ASYNC_STACK_BYTES: usize = 2 * MIB;
/// What a slot of the pool keeps of a guest's memory, table and stack for the next guest, zeroed or written over.
/// A Rust guest writes 30 KiB of its memory, QuickJS 180 KiB; over all instances this is 64 MiB at most.
pub const GUEST_MEMORY_KEPT_BYTES: usize = 256 * KIB;
/// The same where the kernel does not tell which pages were written, so that all of this is zeroed.
pub const GUEST_MEMORY_KEPT_BLINDLY_BYTES: usize = 64 * KIB;
pub const GUEST_TABLE_KEPT_BYTES: usize = 16 * KIB;
pub const GUEST_STACK_KEPT_BYTES: usize = 16 * KIB;
/// Elements over all tables of an instance; CPython's largest has 5,670.
pub const GUEST_TABLE_ELEMENTS_MAX: usize = 20_000;
/// Core instances, tables and memories of one component; CPython has 14, 2 and 1.
pub const GUEST_CORE_INSTANCES_MAX: usize = 128;
pub const GUEST_TABLES_MAX: usize = 32;
pub const GUEST_MEMORIES_MAX: usize = 8;
/// What a guest may hand over in one call of the host. Wasmtime's default is 128 MiB.
pub const HOSTCALL_BYTES_MAX: usize = 8 * MIB;
/// Live handles of a guest, ours and WASI's.
pub const GUEST_HANDLES_MAX: usize = 1024;
pub const GUEST_RANDOM_BYTES_MAX: u64 = MIB as u64;
/// What is remembered of what plugins asked for: a few KiB for each of a hundred handlers, and room.
pub const ASKS_FILE_BYTES_MAX: u64 = 64 * MIB as u64;
/// Compiled plugins kept on disk; the longest unused are removed.
pub const COMPILED_FILES_MAX: usize = 64;
pub const MANIFEST_NAME_BYTES_MAX: usize = 64;
/// A description, a help text, a default, an origin.
pub const MANIFEST_TEXT_BYTES_MAX: usize = 4 * KIB;
/// Events, origins or settings of a manifest.
pub const MANIFEST_ITEMS_MAX: usize = 128;
/// Calls of `http.send` in one attempt.
pub const CALLS_MAX: u32 = 64;
/// What the calls of one attempt may add to the record: requests of calls that change something, and answers. The head
/// of the last answer may go over it.
pub const CALL_BYTES_MAX: u64 = 4 * MIB as u64;
pub const HTTP_REQUEST_BYTES_MAX: usize = MIB;
pub const HTTP_RESPONSE_BYTES_MAX: usize = MIB;
pub const HTTP_RESPONSE_HEADERS_MAX: usize = 64;
pub const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
pub const HTTP_POOL_IDLE: Duration = Duration::from_secs(60);
/// Idle connections kept for one origin of one handler: as many as a lane has calls at once by default.
pub const HTTP_POOL_IDLE_CONNECTIONS_MAX: usize = 32;
pub const HTTP_REQUEST_HEADERS_MAX: usize = 64;
/// Names and values of a request's headers, or of a response's.
pub const HTTP_HEADERS_BYTES_MAX: usize = 32 * KIB;
pub const HTTP_URL_BYTES_MAX: usize = 8 * KIB;
pub const HTTP_METHOD_BYTES_MAX: usize = 16;
pub const HTTP_CREDENTIALS_MAX: usize = 8;
/// What a plugin names a call by.
pub const HTTP_KEY_BYTES_MAX: usize = 256;
/// One lookup; one TCP connection to whichever address answers first; one TLS handshake.
pub const HTTP_DNS_TIMEOUT: Duration = Duration::from_secs(5);
pub const HTTP_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub const HTTP_TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are vetted; a name with more is refused.
pub const HTTP_ADDRESSES_MAX: usize = 64;
/// Addresses dialled for one connection, each this long after the one before (RFC 8305 suggests 250 ms).
pub const HTTP_DIALS_MAX: usize = 6;
pub const HTTP_DIAL_STAGGER: Duration = Duration::from_millis(250);
/// Lookups at once of one handler, so that one whose resolver is silent takes no other's. A lookup cannot be
/// cancelled: it may outlive the attempt that asked.
pub const HTTP_LOOKUPS_MAX: usize = 64;
/// A call ends this long before its attempt does, so that the handler can still say what it makes of that.
pub const HTTP_TIMEOUT_MARGIN: Duration = Duration::from_millis(100);
/// A shorter secret cannot be masked in a response without spoiling it, so it is refused.
pub const CREDENTIAL_BYTES_MIN: usize = 4;
pub const CREDENTIAL_BYTES_MAX: usize = 8 * KIB;
pub const LOG_LINES_MAX: usize = 200;
/// All lines of one attempt, since they are kept in its history.
pub const LOG_BYTES_MAX: usize = 128 * KIB;
pub const LOG_FIELDS_MAX: usize = 32;
pub const LOG_LINE_BYTES_MAX: usize = 4 * KIB;
pub const STDIO_BYTES_MAX: usize = 64 * KIB;
pub const REASON_BYTES_MAX: usize = 2 * KIB;
/// All that was noted about the calls of one delivery, in every round, for a record of it.
pub const RECORDED_BYTES_MAX: usize = 96 * MIB;
/// What is kept of a shelf's answers to one attempt, so that it can be run again.
pub const TAPE_BYTES_MAX: usize = MIB;
pub const SHELF_KEY_BYTES_MAX: usize = 512;
pub const SHELF_VALUE_BYTES_MAX: usize = 256 * KIB;
pub const SHELF_WRITES_MAX: usize = 256;
pub const SHELF_LIST_MAX: u32 = 1000;
/// Reads of one attempt, and keys returned by its listings: each is compared when the attempt is settled.
/// The one writer of the journal does that, and answers wait behind it.
pub const SHELF_READS_MAX: usize = 128;
pub const SHELF_LISTED_KEYS_MAX: usize = 1000;
/// Entries looked at for one listing, expired ones included: a sweep drops those with each retention.
pub const SHELF_SCAN_MAX: usize = 10_000;
/// Entries that the sweep looks at in one go.
pub const SHELF_SWEEP_CHUNK_KEYS: usize = 256;
pub const SHELF_LISTINGS_MAX: usize = 64;
/// Keys and values written by one attempt: they are one record of the journal.
pub const SHELF_TXN_BYTES_MAX: usize = 4 * MIB;
/// Longer than any window of ours, and short of where milliseconds overflow.
pub const SHELF_TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// One handler's shelf, keys and values.
pub const SHELF_BYTES_MAX: u64 = 64 * MIB as u64;

// === admin and cli ===

/// Connections to the admin listener, and to the socket: scrapers and people, never load.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Also how long a connection may idle between two requests.
pub const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A listing that takes longer is cut off with a 504.
pub const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests that are being answered when the daemon stops get this long to end.
pub const ADMIN_DRAIN: Duration = Duration::from_secs(2);
pub const PAGE_ROWS_DEFAULT: usize = 50;
pub const PAGE_ROWS_MAX: usize = 1000;
/// The largest answer that the CLI reads: the largest body in base64, with room for its headers.
pub const API_ANSWER_BYTES_MAX: usize = 256 * MIB;
/// Lines of an export are sent in chunks of this size, and so many of them wait for whoever reads them.
pub const EXPORT_CHUNK_BYTES: usize = 64 * KIB;
pub const EXPORT_CHUNKS_MAX: usize = 4;
/// A connection to a daemon on this machine that takes longer is not going to be one.
pub const CLI_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `send --count`. More is a load test, and there is `cargo xtask bench` for that.
pub const SEND_COUNT_MAX: u32 = 1000;
/// `send --timeout`: handlers have 10 s, and a first retry comes within 5 s.
pub const SEND_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// Deliveries that one `deliveries retry` or `cancel` with filters touches; run it again for the rest.
pub const BULK_DELIVERIES_MAX: usize = 10_000;
/// A file given to `send --data` or `plugin run --data`: GitHub's cap on a body, the largest that is documented.
pub const DATA_BYTES_MAX: u64 = 25 * MIB as u64;
/// A file of `deliveries export`: all that was noted about its calls, and its plugins, as base64.
pub const RECORD_FILE_BYTES_MAX: u64 = 256 * MIB as u64;

// === torture ===

/// Attempts of one run of `plugin torture`. A handler that one trouble keeps from its end for so long does not end.
pub const TORTURE_ATTEMPTS_MAX: u32 = 12;
/// Places of one run where it may be disturbed; each is run several times. The plugins that we ship have about fifty.
pub const TORTURE_PLACES_MAX: usize = 2_000;
/// Fixtures of one folder.
pub const TORTURE_FIXTURES_MAX: usize = 100;

// === config ===

/// One YAML text: a configuration file, or the presets. The longest that we have seen by hand is 40 KiB.
pub const YAML_BYTES_MAX: usize = MIB;
/// Lists and maps within each other; a configuration needs eight.
pub const YAML_DEPTH_MAX: usize = 32;
