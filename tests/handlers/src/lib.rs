//! Handlers that misbehave on purpose: one component whose setting `do` says how. With `do: by-type` the last
//! segment of the event's type says it, so that one handler can be well-behaved and hostile by turns.
//!
//! Written on the contract itself and not on the SDK, whose manners would get in the way.
//!
//! | `do` | what it does |
//! |---|---|
//! | `noop`, `skip`, `retry`, `reject` | answers at once |
//! | `loop`, `recurse`, `eat-memory`, `trap`, `exit`, `sleep` | does not answer |
//! | `grow-in-vain-then-trap` | asks for more memory than there is, does without, logs, and panics |
//! | `huge-return`, `big-log`, `print` | says too much |
//! | `settings` | answers with all settings, and with the one named by `url` |
//! | `get`, `post`, `get-then-retry` | one call of `url`, answers with status, headers and body; `post` sends the event's id |
//! | `insist` | posts the event's id, without a key, up to three times until it has a success |
//! | `slow-call` | calls `url` and retries when the call fails |
//! | `call-ungranted` | calls `url` and rejects when it is denied |
//! | `call-next`, `call-next-then-retry` | calls `url` and then `next` |
//! | `call-then-trap` | calls `url` and panics when it fails |
//! | `many-calls` | calls `url` `count` times, answers with the number that went through and the first error |
//! | `big-request` | posts `count` bytes |
//! | `tally` | adds one to its counter and posts the event's id |
//! | `script` | makes the calls that the setting `script` lists, one after the other |
//! | `disown` | posts and disowns |
//! | `credential` | posts with the secret named `secret`, used as `credential` says |
//! | `spy` | makes the calls that `script` lists, each with a secret, tells whatever it gets to whoever listens, looks for `marks` in its memory, and fails twice |
//! | `relay` | posts the event's body to `url`: as body, as header and as query |
//! | `get-state`, `add-state`, `set-state-then-reject`, `list-state` | uses its shelf |
//! | `count-state` | reads a counter, adds one to it, answers with the sum |
//! | `sockets`, `files`, `environment` | reaches for what WASI could give |

// The contract's exports are functions with C names, which the macro below writes.
#![allow(unsafe_code)]

use std::hash::BuildHasher as _;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod bindings {
    wit_bindgen::generate!({ path: "../../sdk/wit", world: "plugin" });
}

use bindings::exports::longshore::plugin::handler::{
    Event, Failure, Guest, Manifest, Outcome, Retry, Setting, SettingKind,
};
use bindings::longshore::plugin::{http, log, settings, state};

struct Handlers;

bindings::export!(Handlers with_types_in bindings);

/// A test that wants a plugin with a strange `describe` writes another word over this one, in the compiled file.
static DESCRIBE: [u8; 16] = *b"describe:normal.";

impl Guest for Handlers {
    fn describe() -> Manifest {
        let mut manifest = manifest();
        match std::hint::black_box(&DESCRIBE) {
            b"describe:loop..." => spin(),
            b"describe:trap..." => panic!("describe was told to panic"),
            b"describe:sleep.." => std::thread::sleep(Duration::from_secs(3600)),
            b"describe:wrong.." => {
                manifest.name.clear();
                manifest.origins.push("no origin".into());
            }
            b"describe:wants.." => manifest.origins.push("https://api.example.com".into()),
            b"describe:grasp.." => manifest.description = grasp(),
            _ => {}
        }
        manifest
    }

    fn handle(event: Event) -> Result<Outcome, Failure> {
        let behaviour = setting("do");
        let behaviour = match behaviour.as_str() {
            "by-type" => event.type_.rsplit('.').next().unwrap_or_default().to_owned(),
            _ => behaviour,
        };
        behave(&behaviour, &event)
    }
}

fn behave(behaviour: &str, event: &Event) -> Result<Outcome, Failure> {
    match behaviour {
        "noop" => Ok(Outcome::Done(None)),
        "skip" => Ok(Outcome::Skipped(Some("nothing to do".into()))),
        "retry" => Err(Failure::Retry(Retry { reason: "not today".into(), after_ms: Some(1234) })),
        "reject" => Err(Failure::Reject("never".into())),
        "loop" => spin(),
        "recurse" => done(recurse(1).to_string()),
        "eat-memory" => eat_memory(),
        "trap" => panic!("told to panic"),
        "grow-in-vain-then-trap" => {
            let refused = Vec::<u8>::new().try_reserve_exact(1 << 30).is_err();
            log::log(log::Level::Info, &format!("refused: {refused}"), &[]);
            panic!("told to panic after all")
        }
        "exit" => std::process::exit(7),
        "sleep" => {
            std::thread::sleep(Duration::from_secs(3600));
            done("slept")
        }
        "huge-return" => done("x".repeat(16 << 20)),
        "big-log" => big_log(),
        "print" => {
            println!("to stdout");
            eprintln!("to stderr");
            print!("without an end");
            std::io::stdout().flush().expect("stdout takes what it is given");
            done("printed")
        }
        "settings" => done(format!("{} {:?}", settings::all(), settings::get(&setting("url")))),
        "sockets" | "files" | "environment" => done(reach(behaviour)),
        "get-state" | "add-state" | "count-state" | "set-state-then-reject" | "list-state" => {
            use_state(behaviour, event)
        }
        "script" => run_script(event),
        "spy" => spy(event),
        "relay" => relay(event),
        _ => call(behaviour, event),
    }
}

/// A mended plugin has another word over this one, in the compiled file.
static STATE: [u8; 16] = *b"handler:broken..";

/// A call in a line: method, URL, key or `-`, body; `{attempt}` and `{id}` in key and body are the event's, `{count}` is
/// what `COUNT` came to, `{now}` and `{elapsed}` are what the clocks show, `{random}` is a number, `{state}` is `broken` or
/// `mended`. With a `?` behind the method a refusal is no reason to stop; every other failure is one to try again.
/// `"ok":false` is disowned. A line `COUNT` adds one to what the shelf has, a line `SLEEP` sleeps 5 ms.
fn run_script(event: &Event) -> Result<Outcome, Failure> {
    let (mut told, began) = (Vec::new(), Instant::now());
    for line in setting("script").lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line == "COUNT" {
            let known = state::get("count").unwrap_or_default().unwrap_or_default();
            let known: u64 = String::from_utf8(known).unwrap_or_default().parse().unwrap_or_default();
            let _ = state::set("count", (known + 1).to_string().as_bytes(), None);
            told.push(format!("count {}", known + 1));
            continue;
        }
        if line == "SLEEP" {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (method, url, key, body) = (word(), word(), word(), word());
        let (key, body) = (filled(&key, event, began), filled(&body, event, began));
        let body = (method.trim_end_matches('?') != "GET").then(|| body.into_bytes());
        let mut call = request(method.trim_end_matches('?'), &url, body);
        call.key = (key != "-").then_some(key);
        match http::send(&call) {
            Ok(answer) if answer.body.windows(10).any(|text| text == br#""ok":false"#) => {
                http::disown(answer.call);
                return retry("the content says no");
            }
            Ok(answer) if (200..300).contains(&answer.status) || method.ends_with('?') => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                told.push(format!(
                    "{}{}{text}",
                    answer.status,
                    if answer.recorded { " again " } else { " " }
                ));
            }
            Ok(answer) => return retry(&format!("status {}", answer.status)),
            Err(error) => return retry(&format!("{error:?}")),
        }
    }
    done(told.join(", "))
}

fn filled(text: &str, event: &Event, began: Instant) -> String {
    let value = |word: &str| match word {
        "{attempt}" => event.attempt.to_string(),
        "{id}" => event.id.clone(),
        "{count}" => {
            String::from_utf8(state::get("count").unwrap_or_default().unwrap_or_default()).unwrap_or_default()
        }
        "{now}" => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string(),
        "{elapsed}" => began.elapsed().as_nanos().to_string(),
        "{state}" => if std::hint::black_box(&STATE)[8] == b'm' { "mended" } else { "broken" }.to_owned(),
        // A hash map's seed is a random number of the host.
        _ => std::hash::RandomState::new().hash_one(0).to_string(),
    };
    // Only what is there is asked for: a look at the clock moves it.
    let words = ["{attempt}", "{id}", "{count}", "{now}", "{elapsed}", "{state}", "{random}"];
    words.iter().fold(text.to_owned(), |text, word| {
        if text.contains(word) { text.replace(word, &value(word)) } else { text }
    })
}

/// A call in a line: how the secret is used, its name, URL. Whatever comes back goes to every place that a plugin can
/// write to.
fn spy(event: &Event) -> Result<Outcome, Failure> {
    let (known, mut told) = (setting("url"), Vec::new());
    for line in setting("script").lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let (kind, secret, url) = (word(), word(), word());
        let mut call = credential(&kind, secret, &url);
        call.key = None;
        if kind == "form" || kind == "url" {
            call.body = Some(format!("event={}", event.id).into_bytes());
        }
        told.push(format!("{kind} {}", shown(&http::send(&call))));
    }
    let told = told.join("\n");
    for chunk in told.as_bytes().chunks(3000) {
        let chunk = String::from_utf8_lossy(chunk).into_owned();
        log::log(log::Level::Info, &chunk, &[("told".into(), chunk.clone())]);
        println!("{chunk}");
        eprintln!("{chunk}");
    }
    let _ = state::set("told", told.as_bytes(), None);
    let found = format!("found {:?} of {} marks", found_marks(), setting("marks").lines().count());
    std::hint::black_box(known);
    match event.attempt {
        1 | 2 => retry(&format!("{found} {}", told.chars().take(1500).collect::<String>())),
        _ => done(format!("{found} {}", told.chars().take(1500).collect::<String>())),
    }
}

/// Which marks lie anywhere in memory. A mark is never decoded there: it would find itself.
fn found_marks() -> Vec<usize> {
    let marks: Vec<Vec<u8>> = setting("marks").lines().map(from_hex).collect();
    let found = |(number, mark): (usize, &Vec<u8>)| is_in_memory(mark).then_some(number);
    marks.iter().enumerate().filter_map(found).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16).unwrap_or_default() as u8;
    text.trim().as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, b| byte * 16 + digit(b))).collect()
}

#[cfg(target_arch = "wasm32")]
fn is_in_memory(mark: &[u8]) -> bool {
    let bytes = core::arch::wasm32::memory_size::<0>() * 65_536;
    // Nothing lies at 0, and what is read is never written through.
    let read = |at: usize| unsafe { core::ptr::read_volatile(at as *const u8) };
    (1..bytes.saturating_sub(mark.len()))
        .any(|start| mark.iter().enumerate().all(|(i, byte)| read(start + i) == byte ^ 0x5a))
}

#[cfg(not(target_arch = "wasm32"))]
fn is_in_memory(_: &[u8]) -> bool {
    unreachable!("a plugin is wasm")
}

fn relay(event: &Event) -> Result<Outcome, Failure> {
    let text = String::from_utf8_lossy(&event.body).into_owned();
    let query: String = event.body.iter().map(|b| format!("%{b:02X}")).collect();
    let url = format!("{}?{query}", setting("url"));
    let mut call = request("POST", &url, Some(event.body.clone()));
    call.headers.push(("x-relay".into(), text));
    call.key = None;
    match http::send(&call) {
        Ok(answer) if answer.status < 300 => done("relayed"),
        other => retry(&shown(&other)),
    }
}

fn manifest() -> Manifest {
    let setting = |key: &str, kind, default: Option<&str>, help: &str| Setting {
        key: key.into(),
        kind,
        required: false,
        default: default.map(str::to_owned),
        help: help.into(),
    };
    Manifest {
        name: "test-handlers".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        description: "Misbehaves on purpose".into(),
        events: vec![],
        origins: vec![],
        settings: vec![
            setting(
                "do",
                SettingKind::Text,
                Some("noop"),
                "what it does; by-type: what the event's type says",
            ),
            setting("url", SettingKind::Text, None, "what it calls"),
            setting("next", SettingKind::Text, None, "what it calls after that"),
            setting("script", SettingKind::Text, None, "the calls that it makes"),
            setting("secret", SettingKind::Text, None, "the name of the secret that it uses"),
            setting("credential", SettingKind::Text, Some("bearer"), "how it uses the secret"),
            setting(
                "marks",
                SettingKind::Text,
                None,
                "what it looks for in its memory, as hex, each byte XOR 0x5a",
            ),
            setting("count", SettingKind::Number, Some("3"), "how often, or how many bytes"),
        ],
    }
}

// === running on ===

fn spin() -> ! {
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

#[allow(unconditional_recursion)]
fn recurse(n: u64) -> u64 {
    // Little of the stack in memory, which would run over first, and a frame that cannot be reused.
    std::hint::black_box(recurse(n + 1)) ^ n
}

fn eat_memory() -> ! {
    let mut eaten = Vec::new();
    loop {
        eaten.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

fn big_log() -> Result<Outcome, Failure> {
    let long = "y".repeat(100_000);
    for n in 0..1_000 {
        log::log(log::Level::Info, &format!("{n} {long}"), &[("n".into(), n.to_string())]);
        println!("{n} {long}");
        eprintln!("{n} {long}");
    }
    done("logged")
}

fn reach(what: &str) -> String {
    match what {
        "sockets" => format!("{:?}", std::net::TcpStream::connect("127.0.0.1:1").map(|_| ())),
        "files" => format!("{:?} {:?}", std::fs::read_dir("/").map(|_| ()), std::fs::write("x", "y")),
        _ => format!("{:?} {:?}", std::env::vars().collect::<Vec<_>>(), std::env::args().collect::<Vec<_>>()),
    }
}

/// What a plugin could do before anything was granted to it.
fn grasp() -> String {
    let called = http::send(&request("GET", "http://127.0.0.1:1/", None)).map(|r| r.status);
    let read = state::get("key");
    format!("{} {called:?} {read:?}", settings::all())
}

// === state ===

fn use_state(behaviour: &str, event: &Event) -> Result<Outcome, Failure> {
    let failed =
        |error: state::Error| Failure::Retry(Retry { reason: format!("state: {error:?}"), after_ms: None });
    match behaviour {
        "get-state" => {
            let before = state::get("last").map_err(failed)?;
            state::set("last", event.id.as_bytes(), None).map_err(failed)?;
            let after = state::get("last").map_err(failed)?;
            let text = |value: Option<Vec<u8>>| value.map(|v| String::from_utf8_lossy(&v).into_owned());
            done(format!("{:?} {:?}", text(before), text(after)))
        }
        "add-state" => {
            state::add("count", 1, None).map_err(failed)?;
            done("added")
        }
        "count-state" => {
            let before = state::get("count").map_err(failed)?.unwrap_or_else(|| b"0".to_vec());
            state::add("count", 1, None).map_err(failed)?;
            let before: u64 = String::from_utf8_lossy(&before).parse().expect("a counter is decimal");
            done((before + 1).to_string())
        }
        "set-state-then-reject" => {
            state::set("last", b"lost", None).map_err(failed)?;
            Err(Failure::Reject("after all".into()))
        }
        _ => {
            state::set("b", b"", None).map_err(failed)?;
            state::delete("a").map_err(failed)?;
            done(state::list_keys("", None, 10).map_err(failed)?.join(","))
        }
    }
}

// === calls ===

fn call(behaviour: &str, event: &Event) -> Result<Outcome, Failure> {
    let url = setting("url");
    let body = Some(event.id.clone().into_bytes());
    match behaviour {
        "get" => done(shown(&http::send(&request("GET", &url, None)))),
        "post" => match http::send(&request("POST", &url, body)) {
            Ok(response) if response.status < 300 => done(shown(&Ok(response))),
            other => retry(&shown(&other)),
        },
        "insist" => {
            let call = http::Request { key: None, ..request("POST", &url, body) };
            let mut tries = (0..3).map(|_| http::send(&call));
            match tries.find(|told| told.as_ref().is_ok_and(|answer| answer.status < 300)) {
                Some(told) => done(shown(&told)),
                None => retry("three times in vain"),
            }
        }
        "get-then-retry" => retry(&shown(&http::send(&request("GET", &url, None)))),
        "slow-call" => match http::send(&request("GET", &url, None)) {
            Ok(response) => done(shown(&Ok(response))),
            Err(error) => retry(&format!("{error:?}")),
        },
        "call-ungranted" => match http::send(&request("POST", &url, body)) {
            Err(http::Error::Denied(why)) => Err(Failure::Reject(why)),
            other => done(shown(&other)),
        },
        "call-then-trap" => {
            let response = http::send(&request("POST", &url, body)).expect("the call goes through");
            done(shown(&Ok(response)))
        }
        "call-next" | "call-next-then-retry" => {
            let _ = http::send(&request("GET", &url, None));
            log::log(log::Level::Info, "the first call went through", &[]);
            let next = shown(&http::send(&request("GET", &setting("next"), None)));
            if behaviour == "call-next" { done(next) } else { retry(&next) }
        }
        "many-calls" => many_calls(&url),
        "big-request" => done(shown(&http::send(&request("POST", &url, Some(vec![b'x'; count()]))))),
        "tally" => {
            let counted = state::add("count", 1, None);
            let sent = http::send(&request("POST", &url, body));
            match (counted, sent) {
                (Ok(()), Ok(response)) if response.status < 300 => done(shown(&Ok(response))),
                (counted, sent) => retry(&format!("{counted:?} {}", shown(&sent))),
            }
        }
        "disown" => {
            let response = http::send(&request("POST", &url, body));
            if let Ok(response) = &response {
                http::disown(response.call);
            }
            http::disown(4711);
            done(shown(&response))
        }
        "credential" => done(shown(&http::send(&with_credential(&url)))),
        other => Err(Failure::Reject(format!("no behaviour `{other}`"))),
    }
}

fn many_calls(url: &str) -> Result<Outcome, Failure> {
    let mut sent = 0;
    let mut refused = None;
    for _ in 0..count() {
        match http::send(&request("GET", url, None)) {
            Ok(_) => sent += 1,
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    done(format!("{sent} sent, {refused:?}"))
}

fn with_credential(url: &str) -> http::Request {
    credential(&setting("credential"), setting("secret"), url)
}

fn credential(kind: &str, secret: String, url: &str) -> http::Request {
    let credential = match kind {
        "url" => {
            let target = http::Target::SecretUrl(secret);
            return http::Request { target, ..request("POST", url, None) };
        }
        "basic" => http::Credential::Basic(("user".into(), secret)),
        "header" => http::Credential::Header(("x-api-key".into(), secret)),
        "query" => http::Credential::Query(("key".into(), secret)),
        "form" => http::Credential::Form(("key".into(), secret)),
        _ => http::Credential::Bearer(secret),
    };
    http::Request { credentials: vec![credential], ..request("POST", url, None) }
}

/// The attempt goes into a header: a call is recognised by its key or its bytes, and the attempt is in neither.
fn request(method: &str, url: &str, body: Option<Vec<u8>>) -> http::Request {
    http::Request {
        method: method.into(),
        target: http::Target::Url(url.into()),
        headers: vec![("x-test".into(), "1".into())],
        body,
        credentials: vec![],
        timeout_ms: None,
        key: Some("one".into()),
    }
}

fn shown(sent: &Result<http::Response, http::Error>) -> String {
    match sent {
        Ok(response) => {
            let headers: Vec<String> = response.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
            let body = String::from_utf8_lossy(&response.body);
            format!("{} {} [{}] {body}", response.call, response.status, headers.join(", "))
        }
        Err(error) => format!("{error:?}"),
    }
}

// === words ===

fn done(note: impl Into<String>) -> Result<Outcome, Failure> {
    Ok(Outcome::Done(Some(note.into())))
}

fn retry(reason: &str) -> Result<Outcome, Failure> {
    Err(Failure::Retry(Retry { reason: reason.into(), after_ms: None }))
}

fn setting(key: &str) -> String {
    settings::get(key).unwrap_or_default()
}

fn count() -> usize {
    setting("count").parse().unwrap_or(3)
}
