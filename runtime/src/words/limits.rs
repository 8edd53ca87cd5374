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
/// How long a looping guest keeps its thread before others get it. With 32 of them on two cores, 200 calls of
/// another handler took 4.0 s at 10 ms, the usual value, and 0.9 s at 2 ms; a call by itself took the same.
pub const EPOCH_TICK: Duration = Duration::from_millis(2);
/// The ticker sleeps once no call has been live for this many ticks.
pub const EPOCH_IDLE_TICKS_MAX: u32 = 500;
/// A call that has not ended this long after its budget is given up by the host, which is then to blame.
pub const CALL_OVERRUN_MAX: Duration = Duration::from_secs(1);
/// Of a guest's wasm stack, and of the host stack beneath it that wasm and host functions share.
pub const GUEST_STACK_BYTES: usize = 512 * KIB;
pub const GUEST_ASYNC_STACK_BYTES: usize = 2 * MIB;
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
/// Compiled plugins kept on disk; the longest unused are removed.
pub const COMPILED_FILES_MAX: usize = 64;
pub const MANIFEST_NAME_BYTES_MAX: usize = 64;
/// A description, a help text, a default, an origin.
pub const MANIFEST_TEXT_BYTES_MAX: usize = 4 * KIB;
/// Events, origins or settings of a manifest.
pub const MANIFEST_ITEMS_MAX: usize = 128;
/// Calls of `http.send` in one attempt.
pub const CALLS_MAX: u32 = 64;
/// Request and response bytes in one attempt.
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
/// Lookups at once, over all handlers. A lookup cannot be cancelled: it may outlive the attempt that asked.
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
pub const SHELF_KEY_BYTES_MAX: usize = 512;
pub const SHELF_VALUE_BYTES_MAX: usize = 256 * KIB;
pub const SHELF_WRITES_MAX: usize = 256;
pub const SHELF_LIST_MAX: u32 = 1000;
/// Reads of one attempt, and keys returned by its listings: each is compared when the attempt is settled.
pub const SHELF_READS_MAX: usize = 1024;
pub const SHELF_LISTED_KEYS_MAX: usize = 10_000;
pub const SHELF_LISTINGS_MAX: usize = 64;
/// Keys and values written by one attempt: they are one record of the journal.
pub const SHELF_TXN_BYTES_MAX: usize = 4 * MIB;
/// Longer than any window of ours, and short of where milliseconds overflow.
pub const SHELF_TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// One handler's shelf, keys and values.
pub const SHELF_BYTES_MAX: u64 = 64 * MIB as u64;
