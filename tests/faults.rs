//! Faults: what a disk, a kernel and a clock can do to the daemon, done to the real one. `docs/faults.md` has a row
//! for each, and names the test.
//!
//! Small disks are real file systems in a file, which needs root and mount(8); a wrong clock needs Debian's
//! `faketime`. Where they are missing a test says so and is skipped, but never in CI.

use std::collections::BTreeMap;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use longshore::words::time::Millis;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::{Answer, Daemon, Event, Home, SENDPILOT, now_s, plugin, skip, wait_for};

// === a scene ===

/// What the handler calls: answers as it is told to, or not before.
struct Gate {
    url: String,
    says: watch::Sender<Says>,
    received: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    /// Nothing yet.
    Wait,
}

type GateState = (watch::Receiver<Says>, Arc<Mutex<Vec<String>>>);

impl Gate {
    async fn open() -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (says, hears) = watch::channel(Says::Yes);
        let received = Arc::new(Mutex::new(Vec::new()));
        let router = axum::Router::new().fallback(answer).with_state((hears, Arc::clone(&received)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Gate { url, says, received }
    }

    fn says(&self, says: Says) {
        self.says.send_replace(says);
    }

    /// How often the event was brought.
    fn calls(&self, id: &str) -> usize {
        self.received.lock().unwrap().iter().filter(|received| *received == id).count()
    }

    async fn is_called(&self, id: &str) {
        wait_for(&format!("a call for {id}"), async || (self.calls(id) > 0).then_some(())).await;
    }
}

async fn answer(State((mut hears, received)): State<GateState>, request: Request) -> StatusCode {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    received.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
    let says = *hears.wait_for(|says| *says != Says::Wait).await.unwrap();
    if says == Says::Yes { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// A handler that posts every event's id to the gate, and tries again soon.
fn home(gate: &Gate) -> Home {
    Home::new(&format!(
        "store: {{ path: data, retain: {{ max_age: 1h }} }}\n{SENDPILOT}handlers:\n  post:\n    plugin: {}\n    \
         settings: {{ do: post, url: \"{url}\" }}\n    \
         grants: {{ http: [ \"{url}\" ], networks: [ 127.0.0.0/8 ] }}\n    limits: {{ timeout: 120s }}\n    \
         retry: {{ first_delay: 200ms, max_delay: 400ms, give_up_after: 2h }}\n\
         subscriptions:\n  all: {{ source: sendpilot, events: [ \"*.*\" ], handler: post }}\n",
        plugin("test_handlers").display(),
        url = gate.url,
    ))
}

fn event(id: &str) -> Event {
    Event::new(id, "message.received")
}

async fn accepted(daemon: &Daemon, id: &str) {
    let answer = daemon.client().send(&event(id)).await.unwrap();
    assert_eq!(answer.status, 200, "{id}:\n{}", daemon.log());
}

/// The sender is told to come back, when, and nothing more.
async fn refused(daemon: &Daemon, id: &str) {
    let answer = daemon.client().send(&event(id)).await.unwrap();
    told_to_come_back(&answer);
}

fn told_to_come_back(answer: &Answer) {
    assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"error":"unavailable"}"#));
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait >= 1);
}

/// Status of each event's delivery, as the command line lists them.
fn statuses(home: &Home) -> BTreeMap<String, String> {
    let listed = home.json(&["deliveries", "list", "--limit", "500"]);
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = listed["rows"].as_array().unwrap();
    let statuses: BTreeMap<_, _> =
        rows.iter().map(|row| (text(row, "event_id"), text(row, "status"))).collect();
    assert_eq!(statuses.len(), rows.len(), "an event has one delivery: {listed}");
    statuses
}

async fn done(home: &Home, ids: &[&str]) {
    wait_for(&format!("{ids:?} to be done"), async || {
        let statuses = statuses(home);
        ids.iter().all(|id| statuses.get(*id).is_some_and(|status| status == "done")).then_some(())
    })
    .await;
}

async fn unready(daemon: &Daemon) -> String {
    wait_for("readyz to turn red", async || {
        let (status, said) = daemon.admin("/readyz").await;
        (status == 503).then_some(said)
    })
    .await
}

async fn ready(daemon: &Daemon) {
    wait_for("readyz to turn green", async || (daemon.admin("/readyz").await.0 == 200).then_some(())).await;
}

async fn metrics(daemon: &Daemon, wanted: &[&str]) {
    let (_, page) = daemon.admin("/metrics").await;
    for line in wanted {
        assert!(page.lines().any(|l| l.starts_with(line)), "no `{line}` in\n{page}");
    }
}

async fn has_failed(daemon: &Daemon) -> bool {
    daemon.admin("/metrics").await.1.lines().any(|line| line == "longshore_store_failed 1")
}

/// A line of the log at this level has both of these in it; it may still be on its way.
async fn log_has(daemon: &Daemon, level: &str, what: &str, type_this: &str) {
    let is_it = |line: &str| {
        let is_level = serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"] == level);
        is_level && line.contains(what) && line.contains(type_this)
    };
    wait_for(&format!("a {level} line with `{what}` and `{type_this}`"), async || {
        daemon.log().lines().any(is_it).then_some(())
    })
    .await;
}

fn listed_events(home: &Home) -> Vec<String> {
    let listed = home.json(&["events", "list", "--limit", "500"]);
    listed["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

// === a disk of its own ===

/// An ext4 file system in a file, mounted where the data directory is. It goes with the test.
struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// The reserve is 64 MiB, and so is a segment.
    const MEBIBYTES: u64 = 256;

    fn under(home: &Home) -> Option<Disk> {
        if !rustix::process::geteuid().is_root() {
            return skip("a disk of its own needs root: `sudo -E cargo test`");
        }
        let disk = Disk { image: home.path().join("disk.img"), folder: home.data() };
        std::fs::create_dir(&disk.folder).unwrap();
        let file = std::fs::File::create(&disk.image).unwrap();
        file.set_len(Disk::MEBIBYTES << 20).unwrap();
        let image = disk.image.to_str().unwrap();
        // No blocks for root alone: the test is root, the daemon in life is not.
        let made = run("mkfs.ext4", &["-q", "-F", "-m", "0", image]).and_then(|()| disk.mount());
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                skip(&format!("no disk of its own: {why}; `apt-get install e2fsprogs mount`, as root"))
            }
        }
    }

    fn mount(&self) -> Result<(), String> {
        let (image, folder) = (self.image.to_str().unwrap(), self.folder.to_str().unwrap());
        run("mount", &["-t", "ext4", "-o", "loop,errors=remount-ro", image, folder])
    }

    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.folder).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Somebody else's file takes all but this.
    fn fill(&self, leave: u64) {
        let mut file = std::fs::File::create(self.folder.join("somebody-elses")).unwrap();
        // The file system needs some blocks for itself, so the last ones are taken one by one.
        let take = self.free_bytes().saturating_sub(leave + (4 << 20));
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, take).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        while self.free_bytes() > leave && file.write_all(&[0; 4096]).and_then(|()| file.sync_data()).is_ok()
        {
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.folder.join("somebody-elses")).unwrap();
    }

    /// As the kernel does it when a disk fails beneath it: `errors=remount-ro`. None: this kernel cannot be asked.
    fn turn_read_only(&self) -> Option<()> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let folder = self.folder.to_str().unwrap();
        let mounted = mounts.lines().find(|line| line.split(' ').nth(1) == Some(folder)).unwrap();
        let device = Path::new(mounted.split(' ').next().unwrap()).file_name().unwrap().to_owned();
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        match std::fs::write(&trigger, "1") {
            Ok(()) => Some(()),
            Err(error) => skip(&format!("{} cannot be written: {error}", trigger.display())),
        }
    }

    /// What an operator does about it, with the daemon stopped.
    fn repair(&self) {
        run("umount", &[self.folder.to_str().unwrap()]).unwrap();
        // 1: errors were corrected, and there was one.
        let status = Command::new("e2fsck").arg("-fy").arg(&self.image).output().unwrap().status;
        assert!(matches!(status.code(), Some(0 | 1)), "{status}");
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The daemon has ended by now; a test that failed in between leaves nothing mounted either.
        let _ = run("umount", &["--lazy", self.folder.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|e| format!("`{program}`: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("`{program}` {}: {said}", output.status)) }
}

// === full ===

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_senders_and_nothing_else_and_recovers_by_itself() {
    let gate = Gate::open().await;
    let home = home(&gate);
    let Some(disk) = Disk::under(&home) else { return };
    let daemon = home.start().await;
    accepted(&daemon, "evt_1").await;
    done(&home, &["evt_1"]).await;
    gate.says(Says::Wait);
    for id in ["evt_2", "evt_3"] {
        accepted(&daemon, id).await;
        gate.is_called(id).await;
    }

    disk.fill(32 << 20);
    let why = unready(&daemon).await;
    assert!(why.contains("the disk is nearly full") && why.contains("free some space"), "{why}");
    refused(&daemon, "evt_4").await;
    log_has(&daemon, "WARN", "the disk is nearly full", "free some space").await;
    metrics(&daemon, &["longshore_ready 0", "longshore_store_failed 0"]).await;
    metrics(&daemon, &[r#"longshore_refusals_total{source="sendpilot",reason="disk-full"} 1"#]).await;

    // Reading and listing go on, and so does what was accepted: that is what the reserve is for.
    assert_eq!(listed_events(&home), ["evt_3", "evt_2", "evt_1"]);
    gate.says(Says::Yes);
    done(&home, &["evt_2", "evt_3"]).await;
    let rows = home.json(&["deliveries", "list"])["rows"].clone();
    let first = rows[2]["delivery"].as_str().unwrap();
    assert!(home.cli(&["deliveries", "retry", first]).status.success(), "the operator's word is written too");
    wait_for("the retry", async || (gate.calls("evt_1") == 2).then_some(())).await;

    disk.free();
    ready(&daemon).await;
    accepted(&daemon, "evt_4").await;
    done(&home, &["evt_1", "evt_2", "evt_3", "evt_4"]).await;
    assert_eq!(gate.calls("evt_4"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_to_the_last_byte_loses_nothing() {
    let gate = Gate::open().await;
    let home = home(&gate);
    let Some(disk) = Disk::under(&home) else { return };
    let mut daemon = home.start().await;
    gate.says(Says::Wait);
    let ids: Vec<String> = (0..60).map(|n| format!("evt_{n}")).collect();
    for id in &ids {
        accepted(&daemon, id).await;
    }
    gate.is_called("evt_0").await;
    disk.fill(0);
    unready(&daemon).await;
    refused(&daemon, "evt_late").await;
    gate.says(Says::Yes);
    // What is under way ends: the journal has its blocks already. Nothing new begins. The index may find no blocks,
    // and then the store has failed.
    wait_for("the lane to wait, or the store to fail", async || {
        let waits = daemon.log().contains("no attempt begins: the disk is nearly full");
        (waits || has_failed(&daemon).await).then_some(())
    })
    .await;
    let ended = statuses(&home).values().filter(|status| *status == "done").count();
    assert!(ended < ids.len(), "{ended} were done, and so some had begun with nothing left of the disk");
    assert_eq!(listed_events(&home).len(), ids.len());
    disk.free();
    if has_failed(&daemon).await {
        let why = unready(&daemon).await;
        assert!(why.contains("the store failed") && why.contains("restart the daemon"), "{why}");
        log_has(&daemon, "ERROR", "the store failed", "systemctl restart longshore").await;
    }
    // sled may find out later still; a restart is enough whenever that is.
    daemon.stop();
    daemon = home.start().await;
    accepted(&daemon, "evt_late").await;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    done(&home, &ids).await;
    done(&home, &["evt_late"]).await;
    accepted(&daemon, "evt_0").await;
    assert_eq!(listed_events(&home).len(), 61, "a copy is a copy");
    assert_eq!(gate.calls("evt_0"), 1);
}

// === read-only ===

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_stops_the_store_until_it_is_opened_again() {
    let gate = Gate::open().await;
    let home = home(&gate);
    let Some(disk) = Disk::under(&home) else { return };
    let mut daemon = home.start().await;
    accepted(&daemon, "evt_1").await;
    done(&home, &["evt_1"]).await;
    gate.says(Says::No);
    accepted(&daemon, "evt_2").await;
    gate.is_called("evt_2").await;

    let Some(()) = disk.turn_read_only() else { return };
    refused(&daemon, "evt_3").await;
    let why = unready(&daemon).await;
    assert!(why.contains("the store failed") && why.contains("restart the daemon"), "{why}");
    log_has(&daemon, "ERROR", "the store failed", "systemctl restart longshore").await;
    metrics(&daemon, &["longshore_ready 0", "longshore_store_failed 1"]).await;
    metrics(&daemon, &[r#"longshore_refusals_total{source="sendpilot",reason="journal-failed"}"#]).await;

    // It can still be read; what would have to be written down is refused, in words.
    assert_eq!(listed_events(&home), ["evt_2", "evt_1"]);
    let rows = home.json(&["deliveries", "list"])["rows"].clone();
    let ordered = home.cli(&["deliveries", "retry", rows[1]["delivery"].as_str().unwrap()]);
    let said = String::from_utf8_lossy(&ordered.stderr).into_owned();
    assert!(!ordered.status.success() && said.contains("restart the daemon"), "{said}");
    assert_eq!(gate.calls("evt_1"), 1, "no attempt begins that could not be written down");

    daemon.stop();
    drop(daemon);
    disk.repair();
    gate.says(Says::Yes);
    let daemon = home.start().await;
    accepted(&daemon, "evt_1").await;
    accepted(&daemon, "evt_3").await;
    done(&home, &["evt_1", "evt_2", "evt_3"]).await;
    assert_eq!(listed_events(&home).len(), 3, "and the copy of evt_1 is no event");
    assert_eq!(gate.calls("evt_1"), 1);
}

// === no file descriptors ===

#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_connections_wait_and_nothing_is_lost() {
    let gate = Gate::open().await;
    let home = home(&gate);
    let daemon = home.start().await;
    gate.says(Says::No);
    accepted(&daemon, "evt_1").await;
    gate.is_called("evt_1").await;
    // Whoever scrapes has a connection already; a new one would wait as all others.
    let mut scraper = Scraper::connect(&daemon).await;
    assert_eq!(scraper.get("/readyz").await.0, 200);

    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid().as_raw_nonzero())).unwrap().count();
    let before = limit_files(&daemon, u64::try_from(open + 6).unwrap());
    let mut idle = Vec::new();
    for _ in 0..24 {
        idle.push(TcpStream::connect(daemon.address()).await.unwrap());
    }
    let why = wait_for("readyz to turn red", async || {
        let (status, said) = scraper.get("/readyz").await;
        (status == 503).then_some(said)
    })
    .await;
    assert!(why.contains("no connection can be accepted") && why.contains("LimitNOFILE"), "{why}");
    log_has(&daemon, "WARN", "no connection can be accepted", "LimitNOFILE").await;

    // Who comes now waits, and is answered when there is room.
    let client = daemon.client();
    let late = event("evt_2");
    let mut waiting = Box::pin(client.send(&late));
    assert!(
        timeout(Duration::from_millis(300), &mut waiting).await.is_err(),
        "it was answered without a file"
    );
    gate.says(Says::Yes);
    idle.clear();
    assert_eq!(waiting.await.unwrap().status, 200);
    ready(&daemon).await;
    done(&home, &["evt_1", "evt_2"]).await;
    limit_files(&daemon, before);
    accepted(&daemon, "evt_3").await;
    done(&home, &["evt_3"]).await;
}

/// Returns the limit before.
fn limit_files(daemon: &Daemon, files: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, prlimit};
    let limit = |current| Rlimit { current: Some(current), maximum: None };
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    let before =
        prlimit(Some(daemon.pid()), Resource::Nofile, Rlimit { maximum: hard, ..limit(files) }).unwrap();
    before.current.unwrap()
}

/// A connection to the admin listener that stays open.
struct Scraper(hyper::client::conn::http1::SendRequest<http_body_util::Empty<bytes::Bytes>>);

impl Scraper {
    async fn connect(daemon: &Daemon) -> Scraper {
        let stream = TcpStream::connect(daemon.admin_address()).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Scraper(send)
    }

    async fn get(&mut self, path: &str) -> (u16, String) {
        use http_body_util::BodyExt as _;
        let request = http::Request::get(path).header("host", "localhost");
        let request = request.body(http_body_util::Empty::new()).unwrap();
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

// === a wrong clock ===

/// The daemon's wall clock, which a test sets; its monotonic one goes on as it should.
struct Clock {
    file: PathBuf,
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// 20 seconds before 32 bits of seconds are over.
const IN_2038: i64 = 0x7fff_ffff - 20;

impl Clock {
    fn of(home: &mut Home) -> Option<Clock> {
        let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let found = found.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
        let Some(library) = found.into_iter().find(|library| library.exists()) else {
            return skip("a wrong clock needs libfaketime: `apt-get install faketime`");
        };
        let clock = Clock { file: home.path().join("clock") };
        clock.set_off_by(0);
        home.set_daemon_env("LD_PRELOAD", library.to_str().unwrap());
        home.set_daemon_env("FAKETIME_TIMESTAMP_FILE", clock.file.to_str().unwrap());
        for flag in
            ["FAKETIME_NO_CACHE", "DONT_FAKE_MONOTONIC", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"]
        {
            home.set_daemon_env(flag, "1");
        }
        Some(clock)
    }

    fn set_off_by(&self, seconds: i64) {
        // Replaced whole: the daemon reads it at any moment.
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&fresh, &self.file).unwrap();
    }

    fn set(&self, at: i64) {
        self.set_off_by(at - i64::try_from(now_s()).unwrap());
    }
}

/// As a sender whose clock is off by as much as the daemon's.
async fn sent_at(daemon: &Daemon, id: &str, at: i64) -> u16 {
    let event = event(id);
    let signature = event.signature_at(u64::try_from(at).unwrap());
    daemon.client().send_signed(&event, &signature).await.unwrap().status
}

fn now() -> i64 {
    i64::try_from(now_s()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_an_hour_puts_nothing_off_and_forgets_nothing() {
    let gate = Gate::open().await;
    let mut home = home(&gate);
    let Some(clock) = Clock::of(&mut home) else { return };
    let daemon = home.start().await;
    accepted(&daemon, "evt_1").await;
    done(&home, &["evt_1"]).await;
    gate.says(Says::No);
    accepted(&daemon, "evt_2").await;
    gate.is_called("evt_2").await;

    clock.set_off_by(-HOUR);
    // Its next try was planned by the old time, which is an hour away now.
    gate.says(Says::Yes);
    done(&home, &["evt_2"]).await;
    assert_eq!(sent_at(&daemon, "evt_1", now() - HOUR).await, 200);
    assert_eq!(sent_at(&daemon, "evt_3", now() - HOUR).await, 200);
    assert_eq!(sent_at(&daemon, "evt_4", now()).await, 401, "by this clock it was signed in an hour");
    log_has(&daemon, "WARN", "refused", "timedatectl").await;
    done(&home, &["evt_1", "evt_2", "evt_3"]).await;

    clock.set_off_by(0);
    accepted(&daemon, "evt_4").await;
    for id in ["evt_1", "evt_2", "evt_3"] {
        accepted(&daemon, id).await;
    }
    done(&home, &["evt_1", "evt_2", "evt_3", "evt_4"]).await;
    assert_eq!(statuses(&home).len(), 4, "copies are copies, whatever the clock says");
    assert_eq!([gate.calls("evt_1"), gate.calls("evt_3"), gate.calls("evt_4")], [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_in_2038_ends_no_delivery_and_puts_none_off() {
    let gate = Gate::open().await;
    let mut home = home(&gate);
    let Some(clock) = Clock::of(&mut home) else { return };
    let daemon = home.start().await;
    accepted(&daemon, "evt_1").await;
    done(&home, &["evt_1"]).await;
    gate.says(Says::No);
    for id in ["evt_2", "evt_3"] {
        accepted(&daemon, id).await;
        gate.is_called(id).await;
    }

    clock.set(IN_2038);
    assert_eq!(sent_at(&daemon, "evt_4", IN_2038).await, 200);
    assert_eq!(sent_at(&daemon, "evt_1", IN_2038).await, 200);
    assert_eq!(sent_at(&daemon, "evt_5", now()).await, 401, "by this clock it was signed years ago");
    // What fails now has failed for twelve years, by this clock, and is given up after two hours.
    let before = gate.calls("evt_2");
    wait_for("tries in 2038", async || {
        (gate.calls("evt_2") >= before + 3 && gate.calls("evt_4") >= 3).then_some(())
    })
    .await;
    gate.received.lock().unwrap().retain(|id| id != "evt_2");
    // The seconds pass what 32 bits hold.
    clock.set(IN_2038 + 21);
    wait_for("a try after it", async || (gate.calls("evt_2") >= 2).then_some(())).await;
    let open = statuses(&home);
    assert!(["evt_2", "evt_3", "evt_4"].iter().all(|id| open[*id] == "open"), "{open:?}");

    clock.set_off_by(0);
    gate.says(Says::Yes);
    // Their next try was planned in 2038.
    done(&home, &["evt_1", "evt_2", "evt_3", "evt_4"]).await;
    accepted(&daemon, "evt_5").await;
    for id in ["evt_1", "evt_4"] {
        accepted(&daemon, id).await;
    }
    done(&home, &["evt_5"]).await;
    assert_eq!(statuses(&home).len(), 5, "copies are copies, whatever the clock says");
    assert_eq!((gate.calls("evt_1"), gate.calls("evt_5")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_2038_drops_nothing() {
    let gate = Gate::open().await;
    let mut home = home(&gate);
    let Some(clock) = Clock::of(&mut home) else { return };
    let mut daemon = home.start().await;
    accepted(&daemon, "evt_1").await;
    done(&home, &["evt_1"]).await;
    gate.says(Says::No);
    accepted(&daemon, "evt_2").await;
    assert!(daemon.stop().success(), "{}", daemon.log());

    // Retention looks at the start, and history is kept for an hour.
    clock.set(IN_2038);
    let mut daemon = home.start().await;
    assert_eq!(sent_at(&daemon, "evt_3", IN_2038).await, 200);
    log_has(&daemon, "WARN", "the clock is not where the journal's past puts it", "").await;
    assert_eq!(listed_events(&home).len(), 3);
    assert!(daemon.stop().success(), "{}", daemon.log());

    clock.set_off_by(0);
    gate.says(Says::Yes);
    let daemon = home.start().await;
    done(&home, &["evt_1", "evt_2", "evt_3"]).await;
    for id in ["evt_1", "evt_2", "evt_3"] {
        accepted(&daemon, id).await;
    }
    assert_eq!(statuses(&home).len(), 3, "copies are copies, whatever the clock says");
    assert_eq!(gate.calls("evt_1"), 1);
}

// === an old segment that does not read ===

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_old_segment_is_told_of_and_refuses_nobody() {
    let gate = Gate::open().await;
    let mut home = home(&gate);
    let Some(clock) = Clock::of(&mut home) else { return };
    for id in ["evt_1", "evt_2"] {
        let mut daemon = home.start().await;
        accepted(&daemon, id).await;
        done(&home, &[id]).await;
        assert!(daemon.stop().success(), "{}", daemon.log());
    }
    flip_a_bit(&home.data().join("journal/0000000001.seg"));

    // Two days later retention comes to it.
    let later = 2 * DAY;
    clock.set_off_by(later);
    let daemon = home.start().await;
    let said = wait_for("a warning", async || {
        let (status, said) = daemon.admin("/readyz").await;
        assert_eq!(status, 200, "senders are safe: {said}");
        said.contains("warning: ").then_some(said)
    })
    .await;
    assert!(said.contains("0000000001.seg") && said.contains("longshore store repair"), "{said}");
    log_has(&daemon, "ERROR", "an old segment is damaged", "longshore store repair").await;
    metrics(&daemon, &["longshore_ready 1", "longshore_store_damaged 1", "longshore_store_failed 0"]).await;
    assert_eq!(sent_at(&daemon, "evt_3", now() + later).await, 200);
    gate.is_called("evt_3").await;
    // What lies elsewhere can be read: a listing that does not come to the damage.
    let tomorrow = Millis::from_seconds(now_s() + 24 * 3600).to_string();
    let listed = home.json(&["events", "list", "--since", &tomorrow]);
    assert_eq!(listed["rows"].as_array().unwrap().len(), 1, "{listed}");
    wait_for("evt_3 to be done", async || {
        let listed = home.json(&["deliveries", "list", "--since", &tomorrow]);
        (listed["rows"][0]["status"] == "done").then_some(())
    })
    .await;
}

/// In the middle of what was written.
fn flip_a_bit(segment: &Path) {
    let mut bytes = std::fs::read(segment).unwrap();
    let at = bytes.windows(5).position(|five| five == b"evt_1").expect("the event is in the first segment");
    bytes[at] ^= 1;
    std::fs::write(segment, bytes).unwrap();
}

// === the page ===

#[test]
fn every_test_that_the_page_of_faults_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let page = read(root.join("docs/faults.md"));
    let mut named = 0;
    for word in page.split('`').filter(|word| !word.contains(char::is_whitespace)) {
        let Some((chapter, test)) = word.split_once("::") else { continue };
        named += 1;
        let chapter = read(root.join("tests").join(chapter).with_extension("rs"));
        assert!(chapter.contains(&format!("fn {test}()")), "there is no test `{word}`");
    }
    assert!(named >= 11, "the page names {named} tests");
}
