//! Every bound of the daemon in one place: a name, a default, and why it has that value.
//!
//! What an operator can set has its default here and its field in `config`; the rest is fixed.

use std::time::Duration;

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;
pub const GIB: usize = 1 << 30;

// === read ===

/// `server.max_body`. GitHub's cap is 25 MiB, everybody else's far below; SendPilot's lead exports are the largest of its events.
pub const BODY_BYTES_MAX_DEFAULT: usize = 5 * MIB;
/// Bodies in flight and queued for the journal, summed over all requests.
pub const BODIES_IN_FLIGHT_BYTES_MAX: usize = 64 * MIB;
/// `server.max_connections`. 1,024 is also the usual soft limit of file descriptors, which `run` raises.
pub const CONNECTIONS_MAX_DEFAULT: usize = 4096;
/// `server.max_requests`: requests between their headers and their answer.
pub const REQUESTS_IN_FLIGHT_MAX_DEFAULT: usize = 1024;
/// From the connection's first byte (or the end of the request before) to the end of the headers.
pub const HEADER_READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// From the end of the headers to the end of the body.
pub const BODY_READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(8);
/// A TLS handshake that takes longer is dropped.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Nobody waits longer for an answer: SendPilot gives up after 30 s, Slack after 3 s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of a request, all together.
pub const HEADERS_BYTES_MAX: usize = 32 * KIB;
pub const HEADERS_MAX: usize = 100;
/// What a refused sender is told to wait.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// `server.drain`.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(20);
/// Refusals remembered for each source, for `sources show`.
pub const REFUSALS_REMEMBERED: usize = 100;

// === verify ===

/// `sources.*.secrets`
pub const SECRETS_MAX: usize = 8;
/// Signatures tried in one request.
pub const SIGNATURE_CANDIDATES_MAX: usize = 64;
pub const ROTATION_WINDOW_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// A secret shorter than this is warned about.
pub const SECRET_BYTES_SHORT: usize = 16;
pub const EVENT_ID_BYTES_MAX: usize = 512;
pub const EVENT_TYPE_BYTES_MAX: usize = 256;
/// Deeper JSON is treated as a body without id and type.
pub const JSON_DEPTH_MAX: usize = 128;

// === store ===

pub const DEDUPE_WINDOW_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
pub const RETAIN_AGE_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
pub const RETAIN_BYTES_DEFAULT: u64 = 10 * GIB as u64;
/// Open deliveries older than this become dead.
pub const OPEN_AGE_MAX_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Live data over this share of `store.retain.max_size` refuses senders.
pub const LIVE_SHARE_MAX_PERCENT: u64 = 70;
/// Accepting stops this far before the disk is full; the reserve is for responses and settles.
pub const DISK_RESERVE_BYTES: u64 = 64 * MIB as u64;
pub const SEGMENT_BYTES: u64 = 64 * MIB as u64;
/// A batch is closed at this many records or bytes.
pub const BATCH_RECORDS_MAX: usize = 1024;
pub const BATCH_BYTES_MAX: usize = 8 * MIB;
/// Records waiting for the writer.
pub const WRITER_QUEUE_MAX: usize = 4096;
/// One record of the journal: a body at its cap, its headers, and room.
pub const RECORD_BYTES_MAX: usize = GIB;
/// Records that go to the index in one batch. sled lets nobody read while it applies one, so it stays small.
pub const INDEX_BATCH_RECORDS_MAX: usize = 512;
/// The index waits this long for more records: a delivery that ends meanwhile costs it one write, not five.
pub const INDEX_PACE: Duration = Duration::from_millis(50);
/// The filter before the index: room for this many idempotency keys at least (1.25 MiB) ...
pub const FILTER_KEYS_MIN: usize = 1 << 20;
/// ... at ten bits each: fewer than one new event in fifty has to ask the index when it is full.
pub const FILTER_BITS_PER_KEY: usize = 10;
/// Events of one request.
pub const EVENTS_PER_REQUEST_MAX: usize = 10_000;
/// What sled may hold of its pages.
pub const INDEX_CACHE_BYTES: u64 = 32 * MIB as u64;
/// How often free space is asked for.
pub const DISK_CHECK_EVERY: Duration = Duration::from_secs(1);
/// How far ahead of the monotonic clock the time of expiry may jump: a wrong wall clock must not forget keys.
pub const EXPIRY_JUMP_MAX: Duration = Duration::from_secs(3600);
/// Newly accepted deliveries that wait for a lane to hear of them; the rest are found in the index.
pub const ANNOUNCEMENTS_MAX: usize = 4096;
/// Rows of one page of a listing.
pub const HISTORY_PAGE_MAX: usize = 1000;
pub const HISTORY_PAGE_DEFAULT: usize = 50;
/// Rows looked at for one page; a rarer filter goes on from `next`.
pub const HISTORY_SCAN_MAX: usize = 20_000;
/// Bytes read from the journal for one page.
pub const HISTORY_SCAN_BYTES_MAX: u64 = 64 * MIB as u64;
/// Records of one delivery that `deliveries show` walks through.
pub const DELIVERY_RECORDS_MAX: usize = 4096;
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
/// Conflicting shelf transactions run again at once, uncounted; the last of these runs alone.
pub const SHELF_CONFLICT_RUNS: u32 = 3;

// === host ===

pub const PLUGIN_BYTES_MAX: u64 = 64 * MIB as u64;
pub const PLUGIN_COMPILE_TIMEOUT: Duration = Duration::from_secs(120);
pub const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
pub const GUEST_MEMORY_BYTES_DEFAULT: u64 = 64 * MIB as u64;
pub const GUEST_MEMORY_BYTES_MAX: u64 = 1024 * MIB as u64;
pub const GUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
pub const GUEST_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Live instances over all lanes.
pub const INSTANCES_MAX: u32 = 256;
pub const EPOCH_TICK: Duration = Duration::from_millis(10);
/// Calls of `http.send` in one attempt.
pub const CALLS_MAX: u32 = 64;
/// Request and response bytes in one attempt.
pub const CALL_BYTES_MAX: u64 = 4 * MIB as u64;
pub const HTTP_REQUEST_BYTES_MAX: usize = MIB;
pub const HTTP_RESPONSE_BYTES_MAX: usize = MIB;
pub const HTTP_RESPONSE_HEADERS_MAX: usize = 64;
pub const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
pub const HTTP_POOL_IDLE: Duration = Duration::from_secs(60);
pub const LOG_LINES_MAX: usize = 200;
pub const LOG_LINE_BYTES_MAX: usize = 4 * KIB;
pub const STDIO_BYTES_MAX: usize = 64 * KIB;
pub const REASON_BYTES_MAX: usize = 2 * KIB;
pub const SHELF_KEY_BYTES_MAX: usize = 512;
pub const SHELF_VALUE_BYTES_MAX: usize = 256 * KIB;
pub const SHELF_WRITES_MAX: usize = 256;
pub const SHELF_LIST_MAX: u32 = 1000;
/// One handler's shelf, keys and values.
pub const SHELF_BYTES_MAX: u64 = 64 * MIB as u64;
