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
/// HTTP/2: requests at once on one connection.
pub const H2_STREAMS_MAX: u32 = 128;
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
/// What a refused sender is told to wait.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
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
/// Signatures tried in one request.
pub const SIGNATURE_CANDIDATES_MAX: usize = 64;
pub const ROTATION_WINDOW_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// A secret shorter than this is warned about.
pub const SECRET_BYTES_SHORT: usize = 16;
pub const EVENT_ID_BYTES_MAX: usize = 512;
pub const EVENT_TYPE_BYTES_MAX: usize = 256;
/// Keys in a `json:` path. What lies beside the paths is skipped without recursion, however deep it is.
pub const JSON_DEPTH_MAX: usize = 32;
/// What `body_repeat` of a vector may make.
pub const VECTOR_BODY_BYTES_MAX: usize = 64 * MIB;

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
/// And to this: a handler that always asks for no pause would spin until it is given up.
pub const AFTER_MIN: Duration = Duration::from_millis(100);
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

// === config ===

/// One YAML text: a configuration file, or the presets. The longest that we have seen by hand is 40 KiB.
pub const YAML_BYTES_MAX: usize = MIB;
/// Lists and maps within each other; a configuration needs eight.
pub const YAML_DEPTH_MAX: usize = 32;
