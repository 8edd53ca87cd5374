//! What an operator reads: every bad file of `tests/config` with its words, the repository's own file, layers,
//! secrets, and the schema against the reader.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::host;
use crate::words::event::Name;
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

const NOW: &str = "2026-11-24T12:00:00Z";

fn now() -> Millis {
    let at: jiff::Timestamp = NOW.parse().unwrap();
    Millis(u64::try_from(at.as_millisecond()).unwrap())
}

/// A folder with files, and a configuration read from it.
struct Scene {
    folder: tempfile::TempDir,
    environment: Environment,
    flags: Vec<Flag>,
}

impl Scene {
    fn new(files: &[(&str, &str)]) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Scene { folder, environment: Environment::default(), flags: Vec::new() }
    }

    fn environment(mut self, pairs: &[(&str, &str)]) -> Scene {
        self.environment = pairs.iter().copied().collect();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self, files: &[&str]) -> Loaded {
        let files = files.iter().map(|name| self.path(name)).collect();
        load(&Request { files, environment: self.environment.clone(), flags: self.flags.clone() })
    }

    fn sound(&self, files: &[&str]) -> Config {
        self.load(files).sound().map_err(|problems| problems.to_string()).unwrap().0
    }

    fn problems(&self, files: &[&str]) -> Vec<String> {
        self.shown(self.load(files).problems())
    }

    fn check(&self, files: &[&str]) -> Report {
        self.check_with(files, &|_, _| Vec::new())
    }

    fn check_with(&self, files: &[&str], bind: &dyn Fn(&Path, host::Grants) -> Vec<host::Problem>) -> Report {
        let tools = Tools {
            secrets: Some(Secrets::new(&self.environment)),
            now: now(),
            certificate: &|_, _| Ok(Validity { begins: Millis(0), ends: now().plus(year()) }),
            bind,
            demoted_at: &|_, _| None,
        };
        check(self.load(files), &tools)
    }

    /// As an operator reads them, without the folder's own name.
    fn shown(&self, problems: &Problems) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    }
}

fn year() -> std::time::Duration {
    std::time::Duration::from_secs(365 * 24 * 3600)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

const ACME: &str = r#"
sources:
  acme: { path: /acme, preset: sendpilot, secrets: [ "env:ACME_SECRET" ] }
handlers:
  note: { plugin: plugins/note.wasm }
subscriptions:
  all: { source: acme, events: [ "*" ], handler: note }
"#;

/// `server:` that is sound, and whatever else.
fn sound_with(more: &str) -> String {
    format!("server: {{ listen: \"127.0.0.1:8443\", tls: off }}\n{more}")
}

// === bad files ===

const BAD_FILES_MIN: usize = 28;

/// Each line of `name.expect` is in a problem of its own, and there are no others. With `BLESS=1` the files are
/// written from what is said now.
#[test]
fn bad_files_say_what_is_wrong() {
    let folder = root().join("tests/config");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut wrong = String::new();
    for file in &files {
        let found = bad_file(&fs::read_to_string(file).unwrap());
        let expect = file.with_extension("expect");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expect, found.join("\n") + "\n").unwrap();
        }
        let expected = fs::read_to_string(&expect).unwrap_or_default();
        let expected: Vec<&str> = expected.lines().filter(|line| !line.is_empty()).collect();
        let all_said =
            expected.len() == found.len() && expected.iter().zip(&found).all(|(e, f)| f.contains(e));
        if !all_said || found.is_empty() {
            wrong += &format!(
                "{}\n  said\n    {}\n  not\n    {}\n",
                file.display(),
                found.join("\n    "),
                expected.join("\n    ")
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(files.len() >= BAD_FILES_MIN, "only {} files were found", files.len());
}

fn bad_file(text: &str) -> Vec<String> {
    let scene = Scene::new(&[("config.yaml", text), ("plugins/note.wasm", "")]).environment(&[
        ("ACME_SECRET", "whsec_0123456789abcdef"),
        ("ACME_SECRET_COPY", "whsec_0123456789abcdef"),
        ("OTHER_SECRET", "whsec_fedcba9876543210"),
        ("THIRD_SECRET", "whsec_0123456789fedcba"),
        ("TOKEN", "xoxb-0123456789"),
        ("TOKEN16", "xoxb-0123456789ab"),
        ("TOKEN16_AGAIN", "xoxb-0123456789ab"),
        ("SHORT", "whsec_x"),
        ("EMPTY", ""),
        ("HOLLOW", "whsec_"),
        ("GARBLED", "whsec_not base64"),
        ("NEWLINE", "whsec_0123456789abcdef\n"),
    ]);
    let report = scene.check(&["config.yaml"]);
    scene.shown(&report.problems)
}

#[test]
fn keys_that_are_fetched_are_no_secrets_of_the_file() {
    let text = sound_with(
        r#"
sources:
  orders:
    path: /orders
    preset: aws-sns
    scheme: { topics: [ "arn:aws:sns:us-west-2:123456789012:orders" ] }
  bank: { path: /bank, preset: plaid, credentials: { client_id: "env:ID", secret: "env:KEY" } }
  login:
    path: /login
    scheme:
      type: jwt
      algorithm: es256
      signature: { from: "header:X-Token" }
      timestamp: { tolerance: 300s }
      claims: { body: sha256 }
      jwks: "https://auth.example.com/jwks.json"
handlers:
  note: { plugin: plugins/note.wasm }
subscriptions:
  a: { source: orders, events: [ "*" ], handler: note }
  b: { source: bank, events: [ "*" ], handler: note }
  c: { source: login, events: [ "*" ], handler: note }
"#,
    );
    let said = |variables: &[(&str, &str)]| {
        let scene = Scene::new(&[("config.yaml", &text), ("plugins/note.wasm", "")]).environment(variables);
        let report = scene.check(&["config.yaml"]);
        scene.shown(&report.problems)
    };
    assert_eq!(said(&[("ID", "an id"), ("KEY", "a key")]), [""; 0]);
    let found = said(&[("ID", "an id")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("sources.bank.credentials.secret: the variable `KEY` is not set"), "{found:?}");
}

#[test]
fn seven_mistakes_give_seven_problems() {
    let found = bad_file(&fs::read_to_string(root().join("tests/config/seven.yaml")).unwrap());
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[test]
fn every_message_ends_with_what_to_type() {
    let folder = root().join("tests/config");
    let mut lines = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "expect") {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            lines += 1;
            assert!(problem::advises(line), "{}: {line}", path.display());
        }
    }
    assert!(lines > 50, "only {lines} lines were found");
}

#[test]
fn a_secret_in_the_file_is_not_repeated() {
    for (key, text) in [("literal-secret", "dGhpcyBpcyBub3QgYSBzZWNyZXQ"), ("literal-secret", "topsecret")] {
        let file = root().join(format!("tests/config/{key}.yaml"));
        let said = bad_file(&fs::read_to_string(file).unwrap()).join("\n");
        assert!(said.contains("a secret is never written in this file"), "{said}");
        assert!(!said.contains(text), "{said}");
    }
}

// === the repository's own file ===

fn own_environment() -> Environment {
    let pairs = [
        ("SENDPILOT_SECRET", "whsec_0123456789abcdef"),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/xyz"),
        ("HUBSPOT_TOKEN", "pat-eu1-0123456789"),
    ];
    pairs.into_iter().collect()
}

#[test]
fn our_own_file_is_sound() {
    let request =
        Request { files: vec![root().join("config.yaml")], environment: own_environment(), flags: vec![] };
    let loaded = load(&request);
    assert!(loaded.problems().is_empty(), "{}", loaded.problems());
    let (config, _) = loaded.sound().unwrap();
    let names: Vec<&str> = config.handlers.keys().map(Name::as_str).collect();
    assert_eq!(names, ["crm-sync", "slack-notify"]);
    assert_eq!(config.handlers["slack-notify"].plugin, root().join("plugins/slack_notify.wasm"));
    assert_eq!(config.handlers["slack-notify"].limits.rate, Some(1.0));
    assert_eq!(config.store.path, root().join("data"));
    assert_eq!(config.subscriptions["leads-to-crm"].events.len(), 3);
}

// === layers ===

#[test]
fn a_later_file_wins_key_by_key_and_list_by_list() {
    let scene = Scene::new(&[
        ("config.yaml", &sound_with(ACME)),
        (
            "over/demo.yaml",
            "server: { listen: 127.0.0.1:0 }\nsources: { acme: { secrets: [ \"file:secret\" ] } }\nhandlers:\n",
        ),
    ]);
    let config = scene.sound(&["config.yaml", "over/demo.yaml"]);
    assert_eq!(config.server.listen.port(), 0);
    assert_eq!(config.server.tls, Tls::Off);
    let source = &config.sources["acme"];
    assert_eq!(source.path, "/acme");
    assert_eq!(source.secrets.len(), 1);
    assert_eq!(source.secrets[0].from.holder, Holder::File(scene.path("over/secret")));
    assert_eq!(config.handlers["note"].plugin, scene.path("plugins/note.wasm"), "counts from its own file");
    assert_eq!(config.store.path, scene.path("data"), "the default counts from the first file");
}

#[test]
fn a_problem_is_told_where_the_value_was_written() {
    let mut scene = Scene::new(&[
        ("config.yaml", &sound_with(ACME)),
        ("over.yaml", "# over\nsources:\n  acme:\n    dedupe_window: 7\n"),
    ])
    .environment(&[
        ("LONGSHORE__SERVER__DRAIN", "soon"),
        ("LONGSHORE__HANDLERS__NOTE__LIMITS__TIMEOT", "10s"),
        ("LONGSHORE__", "1"),
        ("LONGSHORE_HOME", "/x"),
    ]);
    scene.flags = vec![Flag { name: "--listen".into(), key: "server.listen".into(), value: json!("8443") }];
    assert_eq!(
        scene.problems(&["config.yaml", "over.yaml"]),
        [
            "over.yaml:4:5: error: sources.acme.dedupe_window: `7` has no unit; type `7s`, or use ms, m, h, d",
            "$LONGSHORE__: error: this names no key; type `LONGSHORE__SECTION__KEY`, as in `LONGSHORE__SERVER__LISTEN`",
            "$LONGSHORE__HANDLERS__NOTE__LIMITS__TIMEOT: error: handlers.note.limits.timeot: this key is unknown; type `timeout`",
            "$LONGSHORE__SERVER__DRAIN: error: server.drain: `soon` is not a span of time; type one as `500ms`, `20s`, `24h` or `3d`",
            "--listen: error: server.listen: 8443 is a port alone; type `127.0.0.1:8443`, or `0.0.0.0:8443` for every address",
        ]
    );
}

#[test]
fn the_environment_finds_names_that_a_shell_cannot_spell() {
    let more = ACME.replace("note:", "crm-sync:").replace("handler: note", "handler: crm-sync");
    let scene = Scene::new(&[("config.yaml", &sound_with(&more))]).environment(&[
        ("LONGSHORE__HANDLERS__CRM_SYNC__ENABLED", "false"),
        ("LONGSHORE__HANDLERS__CRM_SYNC__GRANTS__HTTP", "[https://api.example.com]"),
        ("LONGSHORE__SERVER__MAX_BODY", "1MiB"),
        ("LONGSHORE__SERVER__BEHIND_PROXY", "true"),
    ]);
    let config = scene.sound(&["config.yaml"]);
    assert!(!config.handlers["crm-sync"].enabled);
    assert_eq!(config.handlers["crm-sync"].grants.http[0].origin, "https://api.example.com");
    assert_eq!(config.server.max_body, 1 << 20);
    assert!(config.server.behind_proxy);
}

#[test]
fn a_file_that_is_not_there_is_one_problem() {
    let scene = Scene::new(&[]);
    let problems = scene.problems(&["config.yaml"]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("config.yaml:1:1: error: the file cannot be read"), "{problems:?}");
    assert!(problems[0].ends_with("type `--config FILE`"), "{problems:?}");
}

#[test]
fn an_empty_file_lacks_tls() {
    for text in ["", "# nothing\n", "server:\n"] {
        let problems = Scene::new(&[("config.yaml", text)]).problems(&["config.yaml"]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems.iter().any(|line| line.contains("error: server.tls: this is missing")),
            "{problems:?}"
        );
        assert!(
            problems.iter().any(|line| line.contains("warning: sources: without a source")),
            "{problems:?}"
        );
    }
    let problems = Scene::new(&[("config.yaml", "- a list\n")]).problems(&["config.yaml"]);
    assert_eq!(problems, ["config.yaml:1:1: error: the file must be a mapping; begin it with `server:`"]);
}

#[test]
fn too_many_files_are_refused() {
    let text = sound_with(ACME);
    let scene = Scene::new(&[("config.yaml", &text)]);
    let files = vec!["config.yaml"; crate::words::limits::CONFIG_FILES_MAX + 1];
    assert!(scene.problems(&files)[0].contains("more than 16 files"));
    assert!(scene.problems(&files[1..]).is_empty());
}

// === tls ===

#[test]
fn tls_has_several_spellings() {
    for (written, expected) in [
        ("off", Tls::Off),
        ("false", Tls::Off),
        ("\"off\"", Tls::Off),
        ("\"false\"", Tls::Off),
        ("dev", Tls::Dev),
    ] {
        let text = format!("server: {{ listen: \"127.0.0.1:8443\", tls: {written} }}\n{ACME}");
        assert_eq!(
            Scene::new(&[("config.yaml", &text)]).sound(&["config.yaml"]).server.tls,
            expected,
            "{written}"
        );
    }
    let text = format!("server: {{ listen: \"0.0.0.0:8443\", tls: off, behind_proxy: true }}\n{ACME}");
    assert_eq!(Scene::new(&[("config.yaml", &text)]).sound(&["config.yaml"]).server.tls, Tls::Off);
}

#[test]
fn a_certificate_that_ends_is_warned_about() {
    let text = format!("server: {{ tls: {{ cert: c.pem, key: k.pem }} }}\n{ACME}");
    let scene =
        Scene::new(&[("config.yaml", &text), ("c.pem", ""), ("k.pem", ""), ("plugins/note.wasm", "")])
            .environment(&[("ACME_SECRET", "whsec_0123456789abcdef")]);
    let day = std::time::Duration::from_secs(24 * 3600);
    let said = |validity: Result<Validity, String>| {
        let tools = Tools {
            secrets: None,
            now: now(),
            certificate: &|_, _| validity.clone(),
            bind: &|_, _| Vec::new(),
            demoted_at: &|_, _| None,
        };
        scene.shown(&check(scene.load(&["config.yaml"]), &tools).problems)
    };
    let valid = |begins, ends| Ok(Validity { begins, ends });
    let open = said(valid(Millis(0), now().plus(day * 15)));
    assert!(
        open.len() == 1 && open[0].contains("warning: server.tls.key: `k.pem` can be read by every"),
        "{open:?}"
    );
    fs::set_permissions(scene.path("k.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(said(valid(Millis(0), now().plus(day * 15))), [""; 0]);
    for (validity, words) in [
        (
            valid(Millis(0), now().plus(day * 14)),
            "warning: server.tls.cert: the certificate ends 2026-12-08T12",
        ),
        (valid(Millis(0), now()), "warning: server.tls.cert: the certificate ended 2026-11-24T12"),
        (
            valid(now().plus(day), now().plus(day * 90)),
            "warning: server.tls.cert: the certificate begins only 2026-11-25",
        ),
        (
            Err("the key is another certificate's".to_owned()),
            "error: server.tls.cert: the key is another certificate's; type",
        ),
    ] {
        let said = said(validity);
        assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    }
}

// === secrets ===

#[test]
fn a_secret_file_is_read_as_it_is() {
    let more = ACME.replace("env:ACME_SECRET", "file:secret");
    let scene = Scene::new(&[
        ("config.yaml", &sound_with(&more)),
        ("plugins/note.wasm", ""),
        ("secret", "whsec_0123456789abcdef "),
    ]);
    let set_mode =
        |mode| fs::set_permissions(scene.path("secret"), fs::Permissions::from_mode(mode)).unwrap();
    let said = || scene.shown(&scene.check(&["config.yaml"]).problems);
    set_mode(0o600);
    assert_eq!(said(), [""; 0]);
    let config = scene.sound(&["config.yaml"]);
    let read = |secret| Secrets::new(&scene.environment).read(secret).map(|s| s.expose().to_vec());
    let secret = &config.sources["acme"].secrets[0].from;
    assert_eq!(read(secret).unwrap(), b"whsec_0123456789abcdef ", "nothing is trimmed");
    set_mode(0o644);
    assert!(said()[0].contains("can be read by every user of this machine; type `chmod 600"), "{:?}", said());

    for (bytes, words) in [
        (
            b"whsec_x\n".to_vec(),
            "ends with a newline, which is not part of the secret; type `printf %s \"$SECRET\" > ",
        ),
        (b"whsec_x\r\n".to_vec(), "ends with a newline"),
        (Vec::new(), "is empty, and an empty secret would accept anybody"),
        (vec![b'x'; crate::words::limits::SECRET_BYTES_MAX + 1], "is longer than 16384 bytes"),
    ] {
        fs::write(scene.path("secret"), bytes).unwrap();
        let why = read(secret).unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
    }
    fs::write(scene.path("secret"), vec![b'x'; crate::words::limits::SECRET_BYTES_MAX]).unwrap();
    assert!(read(secret).is_ok());
}

#[test]
fn without_secrets_nothing_is_read() {
    let more = ACME.replace(
        "plugins/note.wasm",
        r#"plugins/note.wasm, grants: { http: [ "https://a.example.com" ] },
    secrets: { t: { from: "file:absent", to: [ "https://a.example.com" ] } }"#,
    );
    let scene = Scene::new(&[("config.yaml", &sound_with(&more)), ("plugins/note.wasm", "")]);
    let bound = std::cell::RefCell::new(Vec::new());
    let tools = Tools {
        secrets: None,
        now: now(),
        certificate: &|_, _| Err("not asked".to_owned()),
        bind: &|_, grants| {
            bound.borrow_mut().extend(grants.secrets.keys().cloned());
            Vec::new()
        },
        demoted_at: &|_, _| None,
    };
    let report = check(scene.load(&["config.yaml"]), &tools);
    assert_eq!(scene.shown(&report.problems), [""; 0]);
    assert_eq!(*bound.borrow(), ["t"], "a placeholder stands for the secret");
    assert_eq!(report.secrets[0].to_string(), "acme: env:ACME_SECRET has no end");
}

#[test]
fn disabled_parts_need_no_secret_and_no_plugin() {
    let more = r#"
sources:
  acme: { path: /acme, preset: sendpilot, secrets: [ "env:NOT_SET" ], enabled: false }
handlers:
  note: { plugin: plugins/absent.wasm, enabled: false }
subscriptions:
  all: { source: acme, events: [ "*" ], handler: note, enabled: false }
"#;
    let scene = Scene::new(&[("config.yaml", &sound_with(more))]);
    assert_eq!(scene.shown(&scene.check(&["config.yaml"]).problems), [""; 0]);
    let waiting = Scene::new(&[("config.yaml", &sound_with(&more.replace("note, enabled: false", "note")))]);
    let said = waiting.problems(&["config.yaml"]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().all(|line| line.contains("is disabled, so nothing comes of this")), "{said:?}");
}

#[test]
fn each_secret_says_when_it_ends() {
    let more = ACME.replace(
        "[ \"env:ACME_SECRET\" ]",
        r#"[ "env:A", "env:B", { from: "env:C", until: 2026-12-01T00:00:00Z }, "env:D",
        { from: "env:E", until: 2026-11-24T11:59:59.999Z } ], rotation_window: 36h"#,
    );
    let names = ["A", "B", "C", "D", "E"];
    let values: Vec<(&str, String)> = names.iter().map(|n| (*n, format!("whsec_0123456789{n}"))).collect();
    let pairs: Vec<(&str, &str)> = values.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let scene =
        Scene::new(&[("config.yaml", &sound_with(&more)), ("plugins/note.wasm", "")]).environment(&pairs);
    let demoted: Fingerprint = crate::words::secret::Secret::new("whsec_0123456789D").fingerprint();
    let tools = Tools {
        secrets: Some(Secrets::new(&scene.environment)),
        now: now(),
        certificate: &|_, _| Err(String::new()),
        bind: &|_, _| Vec::new(),
        demoted_at: &|_, fingerprint| (fingerprint == demoted).then(|| now().minus(year() / 365)),
    };
    let report = check(scene.load(&["config.yaml"]), &tools);
    let said: Vec<String> = report.secrets.iter().map(SecretEnd::to_string).collect();
    assert_eq!(
        said,
        [
            "acme: env:A has no end",
            "acme: env:B ends 1d12h after the daemon first sees a newer one",
            "acme: env:C ends 2026-12-01T00:00:00.000Z",
            "acme: env:D ends 2026-11-25T00:00:00.000Z",
            "acme: env:E ended 2026-11-24T11:59:59.999Z",
        ]
    );
    let problems = scene.shown(&report.problems);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("warning: sources.acme.secrets.4.until: `env:E` ended"), "{problems:?}");
}

// === plugins ===

#[test]
fn what_a_plugin_misses_is_told_at_its_line() {
    let more = ACME.replace("plugins/note.wasm }", "plugins/note.wasm, settings: { template: 5 } }");
    let scene = Scene::new(&[("config.yaml", &sound_with(&more)), ("plugins/note.wasm", "")])
        .environment(&[("ACME_SECRET", "whsec_0123456789abcdef")]);
    let problem =
        |key: &str, fatal, message: &str| host::Problem { key: key.into(), message: message.into(), fatal };
    let report = scene.check_with(&["config.yaml"], &|_, _| {
        vec![
            problem("settings.template", true, "is a number, not text"),
            problem("settings.channel", true, "is missing"),
            problem("grants.http", false, "an origin is not granted"),
        ]
    });
    assert_eq!(
        scene.shown(&report.problems),
        [
            "config.yaml:6:3: warning: handlers.note.grants.http: an origin is not granted",
            "config.yaml:6:38: error: handlers.note.settings.channel: is missing",
            "config.yaml:6:50: error: handlers.note.settings.template: is a number, not text",
        ]
    );
    assert!(report.sound().is_err());
}

// === words for values ===

proptest::proptest! {
    #[test]
    fn spans_read_as_they_are_written(ms in 0_u64..10_000_000_000_000) {
        let text = show_span(std::time::Duration::from_millis(ms));
        let read = <std::time::Duration as values::Humane>::parse(&json!(text));
        proptest::prop_assert_eq!(read, Ok(std::time::Duration::from_millis(ms)));
    }

    #[test]
    fn sizes_read_as_they_are_written(bytes in proptest::num::u64::ANY) {
        let text = values::Humane::show(&values::Size(bytes));
        let read = <values::Size as values::Humane>::parse(&json!(text));
        proptest::prop_assert_eq!(read, Ok(values::Size(bytes)));
    }

    #[test]
    fn origins_read_as_they_are_written(text in "(https?://)?(\\*\\.)?[a-zA-Z0-9.\\-:@/?#\\[\\]*é]{0,24}") {
        if let Ok(canonical) = values::parse_origin(&text) {
            proptest::prop_assert_eq!(values::parse_origin(&canonical), Ok(canonical.clone()));
        }
    }

    /// Whatever stands in a file, reading it ends, and says something where it is not sound.
    #[test]
    fn no_file_panics(text in "(server|sources|handlers|subscriptions|tls|path|secrets|a|env:A|[-:{}\\[\\],\"*0-9 \n]){0,40}") {
        let scene = Scene::new(&[("config.yaml", &text)]);
        let loaded = scene.load(&["config.yaml"]);
        proptest::prop_assert!(loaded.problems().errors() > 0);
    }
}

#[test]
fn values_that_could_mean_two_things_are_refused() {
    fn parses<T: values::Humane>(value: Value) -> bool {
        T::parse(&value).is_ok()
    }
    use std::time::Duration;
    for good in ["20s", "500ms", "1h30m", "3d", "0s", "1d2h3m4s5ms"] {
        assert!(parses::<Duration>(json!(good)), "{good}");
    }
    for bad in [
        "",
        "20",
        "s",
        "20 s",
        "1.5h",
        "-1s",
        "30m1h",
        "1s1s",
        "1w",
        "20S",
        "99999999999999999999d",
        "999999999999999d",
    ] {
        assert!(!parses::<Duration>(json!(bad)), "{bad}");
    }
    for good in ["5MiB", "5 MiB", "10GB", "1B", "64KiB"] {
        assert!(parses::<values::Size>(json!(good)), "{good}");
    }
    for bad in ["5", "5M", "5mib", "MiB", "-1MiB", "1.5GiB", "99999999999TiB"] {
        assert!(!parses::<values::Size>(json!(bad)), "{bad}");
    }
    for (text, per_second) in [("1/s", 1.0), ("30/m", 0.5), ("7200/h", 2.0), ("0.5/s", 0.5)] {
        let rate = <values::Rate as values::Humane>::parse(&json!(text)).unwrap();
        assert!((rate.0 - per_second).abs() < 1e-9, "{text}");
    }
    for bad in ["1", "1/d", "/s", "-1/s", "1e3/s", "inf/s", "1/s/s"] {
        assert!(!parses::<values::Rate>(json!(bad)), "{bad}");
    }
}

// === every limit ===

/// A field's least and most are taken; one step beyond is refused, with the range.
#[test]
fn fields_keep_their_ranges() {
    let rows: &[(&str, &str, &str, &str, &str)] = &[
        ("server.max_body", "1023B", "1KiB", "64MiB", "65MiB"),
        ("server.max_connections", "0", "1", "65536", "65537"),
        ("server.max_requests", "0", "1", "65536", "65537"),
        ("server.header_timeout", "99ms", "100ms", "8s", "9s"),
        ("server.body_timeout", "99ms", "100ms", "8s", "8001ms"),
        ("server.drain", "", "0s", "10m", "601s"),
        ("store.retain.max_age", "59m", "1h", "3650d", "3651d"),
        ("store.retain.max_size", "255MiB", "256MiB", "64TiB", "65TiB"),
        ("store.open_max_age", "59s", "1m", "3650d", "3651d"),
        ("sources.acme.rotation_window", "", "0s", "365d", "366d"),
        ("sources.acme.dedupe_window", "59s", "1m", "365d", "366d"),
        ("sources.acme.rate", "0.9/h", "1/h", "100000/s", "100001/s"),
        ("handlers.note.limits.memory", "1023KiB", "1MiB", "1GiB", "1025MiB"),
        ("handlers.note.limits.timeout", "9ms", "10ms", "5m", "301s"),
        ("handlers.note.limits.concurrency", "0", "1", "256", "257"),
        ("handlers.note.limits.rate", "0.9/h", "1/h", "100000/s", "100001/s"),
        ("handlers.note.limits.calls", "", "0", "1024", "1025"),
        ("handlers.note.limits.call_bytes", "1023B", "1KiB", "64MiB", "65MiB"),
        ("handlers.note.retry.give_up_after", "", "0s", "365d", "366d"),
        ("handlers.note.retry.first_delay", "99ms", "100ms", "1h", "25h"),
        ("handlers.note.retry.factor", "0.9", "1", "10", "10.1"),
        ("handlers.note.retry.max_delay", "99ms", "5s", "24h", "25h"),
    ];
    let base = sound_with(ACME);
    for (key, below, least, most, above) in rows {
        let said = |value: &str| {
            let mut scene = Scene::new(&[("config.yaml", &base)]);
            let value = crate::words::yaml::parse(value).unwrap().value;
            scene.flags = vec![Flag { name: "--set".into(), key: (*key).into(), value }];
            scene.problems(&["config.yaml"])
        };
        assert_eq!(said(least), [""; 0], "{key}: {least}");
        assert_eq!(said(most), [""; 0], "{key}: {most}");
        for beyond in [below, above].into_iter().filter(|value| !value.is_empty()) {
            let said = said(beyond);
            assert!(
                said.len() == 1 && said[0].contains("is out of range; type a value from"),
                "{key}: {said:?}"
            );
        }
    }
}

#[test]
fn what_to_do_about_calls_is_a_word_of_a_few() {
    let with =
        |effects: &str| sound_with(ACME).replace("note.wasm", &format!("note.wasm, effects: {effects}"));
    let policy = |text: &str| {
        let config = Scene::new(&[("config.yaml", text)]).sound(&["config.yaml"]);
        config.handlers[&Name::new("note").unwrap()]
            .grants(&Name::new("note").unwrap(), BTreeMap::new())
            .effects
    };
    assert_eq!(policy(&sound_with(ACME)), host::EffectPolicy::default());
    let chosen = policy(&with("{ on_unknown: park, on_changed: keep }"));
    assert_eq!((chosen.on_unknown, chosen.on_changed), (host::OnUnknown::Park, host::OnChanged::Keep));
    for (wrong, choices) in [("{ on_unknown: keep }", "`park`"), ("{ on_changed: resend }", "`keep`")] {
        let said = Scene::new(&[("config.yaml", &with(wrong))]).problems(&["config.yaml"]);
        assert!(said.len() == 1 && said[0].contains(choices), "{said:?}");
    }
}

fn with_grant(grant: &str) -> String {
    sound_with(ACME).replace("note.wasm", &format!("note.wasm, grants: {{ http: [ {grant} ] }}"))
}

#[test]
fn an_origin_is_granted_whole_or_in_part() {
    let granted = |grant: &str| {
        let config = Scene::new(&[("config.yaml", &with_grant(grant))]).sound(&["config.yaml"]);
        let name = Name::new("note").unwrap();
        config.handlers[&name].grants(&name, BTreeMap::new()).origins
    };
    let whole = host::OriginGrant::from("https://a.example.com");
    assert_eq!(granted("\"https://a.example.com\""), std::slice::from_ref(&whole));
    assert_eq!(granted("{ origin: \"https://a.example.com/\" }"), std::slice::from_ref(&whole));
    let part = granted(
        "{ origin: \"https://a.example.com\", methods: [ GET, POST ], paths: [ /crm/v3/ ], on_unknown: park, \
         on_changed: keep, idempotency_key: { header: X-Key, ttl: 24h } }",
    );
    let expected = host::OriginGrant {
        methods: vec!["GET".to_owned(), "POST".to_owned()],
        paths: vec!["/crm/v3/".to_owned()],
        on_unknown: Some(host::OnUnknown::Park),
        on_changed: Some(host::OnChanged::Keep),
        key_header: Some("X-Key".to_owned()),
        key_ttl: Some(std::time::Duration::from_secs(24 * 3600)),
        ..whole
    };
    assert_eq!(part, [expected]);
}

#[test]
fn a_slip_in_a_grant_is_told_at_its_place() {
    let cases = [
        ("{ methods: [ GET ] }", "origin", "type `origin: "),
        ("{ origin: a.example.com }", "origin", "type `https://a.example.com`"),
        ("{ origin: \"https://a.example.com\", methods: [ GET, get ] }", "methods.1", "as `GET`"),
        ("{ origin: \"https://a.example.com\", methods: GET }", "methods", "type `methods: [ GET, POST ]`"),
        ("{ origin: \"https://a.example.com\", paths: [ crm ] }", "paths.0", "as `/crm/v3/`"),
        ("{ origin: \"https://a.example.com\", paths: [ /a%2fb ] }", "paths.0", "an encoded slash"),
        ("{ origin: \"https://a.example.com\", on_unknown: keep }", "on_unknown", "`resend` or `park`"),
        ("{ origin: \"https://a.example.com\", on_changed: resend }", "on_changed", "`keep` or `send`"),
        (
            "{ origin: \"https://a.example.com\", idempotency_key: { header: Host } }",
            "idempotency_key.header",
            "has another use",
        ),
        (
            "{ origin: \"https://a.example.com\", idempotency_key: { ttl: 0s } }",
            "idempotency_key.ttl",
            "from 1s to 365d",
        ),
        (
            "{ origin: \"https://a.example.com\", idempotency_key: { ttl: 366d } }",
            "idempotency_key.ttl",
            "from 1s to 365d",
        ),
        ("{ origin: \"https://a.example.com\", path: [ /a ] }", "path", "type `paths`"),
        ("5", "", "text"),
    ];
    for (grant, field, expected) in cases {
        let said = Scene::new(&[("config.yaml", &with_grant(grant))]).problems(&["config.yaml"]);
        let key = format!(" handlers.note.grants.http.0.{field}");
        let key = key.trim_end_matches('.');
        assert!(
            said.len() == 1 && said[0].contains(&format!("{key}: ")) && said[0].contains(expected),
            "{grant}: {said:?}"
        );
    }
    let twice = "\"https://*.example.com\", { origin: \"https://a.example.com\", methods: [ GET ] }";
    let said = Scene::new(&[("config.yaml", &with_grant(twice))]).problems(&["config.yaml"]);
    assert!(said.len() == 1 && said[0].contains("granted whole further up"), "{said:?}");
}

/// The items of a list are not among the sections of the test of all keys below.
#[test]
fn the_schema_knows_the_keys_of_a_grant() {
    let schema = schema();
    let mut sections = BTreeMap::new();
    schema_names(&schema, &schema, "", &mut sections);
    for (section, below) in [("", ""), (".idempotency_key", "idempotency_key: ")] {
        let names = sections[&format!("handlers.*.grants.http.0{section}")].clone();
        let mistake = match below {
            "" => "qqqqqqqqqqqq: 1".to_owned(),
            below => format!("{below} {{ qqqqqqqqqqqq: 1 }}"),
        };
        let grant = format!("{{ origin: \"https://a.example.com\", {mistake} }}");
        let said = Scene::new(&[("config.yaml", &with_grant(&grant))]).problems(&["config.yaml"]);
        let (_, list) = said[0].split_once("type one of ").unwrap();
        let mut known: Vec<String> = list.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        known.sort();
        assert_eq!(known, names, "{section}");
    }
}

/// `most` of something at `key` are taken, one more is refused.
fn keeps_its_maximum(key: &str, most: usize, value: impl Fn(usize) -> Value) {
    let base =
        sound_with(ACME).replace("note.wasm", "note.wasm, grants: { http: [ \"https://a0.example.com\" ] }");
    let said = |n: usize| {
        let over = key.split('.').rev().fold(value(n), |inner, segment| json!({ segment: inner }));
        let scene = Scene::new(&[("config.yaml", &base), ("over.yaml", &over.to_string())]);
        scene.problems(&["config.yaml", "over.yaml"])
    };
    assert_eq!(said(most), [""; 0], "{key}");
    let said = said(most + 1);
    assert!(said.len() == 1 && said[0].contains("are the most; take some away"), "{key}: {said:?}");
}

#[test]
fn lists_keep_their_maximum() {
    use crate::words::limits as l;
    let list = |item: fn(usize) -> String| move |n: usize| json!((0..n).map(item).collect::<Vec<_>>());
    keeps_its_maximum("sources.acme.secrets", l::SECRETS_MAX, list(|i| format!("env:S{i}")));
    keeps_its_maximum(
        "handlers.note.grants.http",
        l::ORIGINS_MAX,
        list(|i| format!("https://a{i}.example.com")),
    );
    for (field, most, item) in [("methods", l::ORIGIN_METHODS_MAX, "M"), ("paths", l::ORIGIN_PATHS_MAX, "/")]
    {
        keeps_its_maximum("handlers.note.grants.http", most, move |n| {
            let items: Vec<String> = (0..n).map(|i| format!("{item}{i}")).collect();
            json!([{ "origin": "https://a0.example.com", field: items }])
        });
    }
    keeps_its_maximum("handlers.note.grants.networks", l::NETWORKS_MAX, list(|i| format!("10.0.{i}.0/24")));
    keeps_its_maximum("subscriptions.all.events", l::EVENT_PATTERNS_MAX, list(|i| format!("e{i}")));
}

#[test]
fn sections_keep_their_maximum() {
    use crate::words::limits as l;
    let entries = |item: fn(usize) -> Value| {
        move |n: usize| Value::Object((0..n).map(|i| (format!("s{i}"), item(i))).collect())
    };
    keeps_its_maximum(
        "handlers.note.secrets",
        l::HANDLER_SECRETS_MAX,
        entries(|_| json!({ "from": "env:A", "to": ["https://a0.example.com"] })),
    );
    // The file laid over already has one of each.
    keeps_its_maximum(
        "subscriptions",
        l::SUBSCRIPTIONS_MAX - 1,
        entries(|_| json!({ "source": "acme", "events": ["*"], "handler": "note" })),
    );
    keeps_its_maximum(
        "handlers",
        l::HANDLERS_MAX - 1,
        entries(|_| json!({ "plugin": "p.wasm", "enabled": false })),
    );
    keeps_its_maximum(
        "sources",
        l::SOURCES_MAX - 1,
        entries(|i| {
            let path = format!("/s{i}");
            json!({ "path": path, "preset": "sendpilot", "secrets": ["env:A"], "enabled": false })
        }),
    );
}

#[test]
fn a_path_keeps_its_maximum() {
    let said = |bytes: usize| {
        let path = format!("/{}", "a".repeat(bytes - 1));
        Scene::new(&[("config.yaml", &sound_with(&ACME.replace("/acme", &path)))]).problems(&["config.yaml"])
    };
    assert_eq!(said(crate::words::limits::SOURCE_PATH_BYTES_MAX), [""; 0]);
    assert!(said(crate::words::limits::SOURCE_PATH_BYTES_MAX + 1)[0].contains("longer than 256 bytes"));
}

// === schema ===

/// The names that a section of the schema has, by the section's path; `*` for a name that the operator chooses.
fn schema_names(schema: &Value, root: &Value, path: &str, into: &mut BTreeMap<String, Vec<String>>) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for alternative in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        schema_names(alternative, root, path, into);
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let Some(items) = schema.get("items") {
        schema_names(items, root, &below("0"), into);
    }
    if let Some(others) = schema.get("additionalProperties").filter(|others| others.is_object()) {
        schema_names(others, root, &below("*"), into);
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let names = into.entry(path.to_owned()).or_default();
        names.extend(properties.keys().cloned());
        names.sort();
        properties.iter().for_each(|(name, inner)| schema_names(inner, root, &below(name), into));
    }
}

#[test]
fn a_breaker_has_defaults_and_can_be_off() {
    use super::types::Breaker;
    let breaker = |written: &str| {
        let handler = format!("note: {{ plugin: plugins/note.wasm, {written} }}");
        let text = sound_with(&ACME.replacen("note: { plugin: plugins/note.wasm }", &handler, 1));
        assert!(text.contains(written), "{text}");
        Scene::new(&[("config.yaml", &text)])
    };
    let read = |written: &str| {
        let config = breaker(written).sound(&["config.yaml"]);
        let Breaker { failures, probe_after, probe_max } =
            config.handlers.values().next()?.breaker.clone()?;
        Some((failures, probe_after.as_millis(), probe_max.as_millis()))
    };
    assert_eq!(read("enabled: true"), Some((20, 30_000, 600_000)));
    assert_eq!(read("breaker: {}"), Some((20, 30_000, 600_000)));
    assert_eq!(read("breaker: { failures: 3, probe_max: 45s }"), Some((3, 30_000, 45_000)));
    for off in ["off", "false", "\"off\""] {
        assert_eq!(read(&format!("breaker: {off}")), None, "{off}");
    }
    for (wrong, part) in [
        ("breaker: 20", "type `breaker: { failures: 20"),
        ("breaker: { failures: 0 }", "type a value from 1 to 1000"),
        ("breaker: { probe_max: 10s }", "type `probe_max: 30s` or more"),
        ("breaker: { trips: 3 }", "type one of"),
    ] {
        let said = breaker(wrong).problems(&["config.yaml"]);
        assert!(said.iter().any(|line| line.contains(part)), "{wrong}: {said:?}");
    }
}

/// A key that no section knows makes each of them say what it knows.
#[test]
fn the_schema_and_the_reader_know_the_same_keys() {
    let schema = schema();
    let mut by_section = BTreeMap::new();
    schema_names(&schema, &schema, "", &mut by_section);
    by_section.retain(|section, _| {
        !["scheme", "event", "challenge", "sample", ".0"].iter().any(|part| section.contains(part))
    });
    assert_eq!(by_section.len(), 16, "{by_section:#?}");
    for (section, names) in by_section {
        let path = section.replace("sources.*", "sources.acme").replace("handlers.*", "handlers.note");
        let path = path.replace("subscriptions.*", "subscriptions.all").replace("secrets.*", "secrets.token");
        let key = if path.is_empty() { "qqqqqqqqqqqq".to_owned() } else { format!("{path}.qqqqqqqqqqqq") };
        let text = sound_with(ACME).replace("tls: off", "tls: { cert: c, key: k }");
        let mut scene = Scene::new(&[("config.yaml", &text)]);
        scene.flags = vec![Flag { name: "--set".into(), key: key.clone(), value: json!(1) }];
        let said = scene.problems(&["config.yaml"]);
        let about = said
            .iter()
            .find(|line| line.contains(&format!(" {key}: ")))
            .unwrap_or_else(|| panic!("{key}: {said:?}"));
        let (_, list) = about.split_once("type one of ").unwrap();
        let mut known: Vec<String> = list.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        known.sort();
        assert_eq!(known, names, "{section}");
    }
}

/// Every key is in docs/configuration.md, and what stands there as YAML is YAML.
#[test]
fn the_documentation_has_every_key() {
    let text = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let schema = schema();
    let mut by_section = BTreeMap::new();
    schema_names(&schema, &schema, "", &mut by_section);
    // These two have pages of their own.
    by_section.retain(|section, _| !section.contains("scheme") && !section.contains("challenge"));
    let mut count = 0;
    for (section, names) in &by_section {
        let is_section = |name: &str| {
            let path = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            by_section.keys().any(|other| *other == path || other.starts_with(&format!("{path}.")))
        };
        for name in names.iter().filter(|name| !is_section(name)) {
            let documented =
                [format!("`{name}`"), format!(".{name}`"), format!("`{name}.KEY`"), format!("{name}:")];
            assert!(documented.iter().any(|form| text.contains(form.as_str())), "{section}.{name}");
            count += 1;
        }
    }
    assert!(count > 45, "only {count} keys were found");
    for block in text.split("```yaml\n").skip(1) {
        crate::words::yaml::parse(block.split("```").next().unwrap()).unwrap();
    }
}

/// Every key of a handshake, and every one that ships, is in docs/handshakes.md, and what stands there as YAML is YAML.
#[test]
fn the_page_about_handshakes_has_every_key_and_preset() {
    let text = fs::read_to_string(root().join("docs/handshakes.md")).unwrap();
    let schema = schema();
    let mut by_section = BTreeMap::new();
    schema_names(&schema, &schema, "", &mut by_section);
    let start = "sources.*.challenge";
    let keys = by_section
        .iter()
        .filter(|(section, _)| *section == start || section.starts_with(&format!("{start}.")));
    let mut count = 0;
    for (section, name) in keys.flat_map(|(section, names)| names.iter().map(move |name| (section, name))) {
        let section = section.trim_start_matches(start).trim_start_matches('.').replace("0.", "");
        let key =
            if section.is_empty() || section == "0" { name.clone() } else { format!("{section}.{name}") };
        assert!(text.contains(&format!("`{key}`")), "{key}");
        count += 1;
    }
    assert!(count >= 20, "only {count} keys were found");
    for name in crate::verify::challenge::preset_names() {
        assert!(text.contains(&format!("| `{name}` |")), "{name}");
    }
    for block in text.split("```yaml\n").skip(1) {
        crate::words::yaml::parse(block.split("```").next().unwrap()).unwrap();
    }
}

/// What the schema calls a default is what a field becomes where nobody writes it.
#[test]
fn the_schema_tells_the_true_defaults() {
    fn defaults(schema: &Value, root: &Value, path: &str, into: &mut Vec<(String, Value)>) {
        if let Some(default) = schema.get("default") {
            into.push((path.to_owned(), default.clone()));
        }
        let schema = match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        };
        for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            defaults(inner, root, &path, into);
        }
        if let Some(others) = schema.get("additionalProperties").filter(|others| others.is_object()) {
            let name = match path {
                "sources" => "acme",
                "handlers" => "note",
                "subscriptions" => "all",
                _ => return,
            };
            defaults(others, root, &format!("{path}.{name}"), into);
        }
    }
    let schema = schema();
    let mut found = Vec::new();
    defaults(&schema, &schema, "", &mut found);
    assert!(found.len() > 30, "only {} defaults were found", found.len());
    let text = format!("server: {{ tls: off, behind_proxy: true }}\n{ACME}");
    let mut scene = Scene::new(&[("config.yaml", &text)]);
    let without = shape(&scene.sound(&["config.yaml"]));
    for (key, default) in
        found.into_iter().filter(|(key, _)| key != "server.behind_proxy" && key != "store.path")
    {
        scene.flags = vec![Flag { name: "--set".into(), key: key.clone(), value: default }];
        assert_eq!(shape(&scene.sound(&["config.yaml"])), without, "{key}");
    }
}

/// A configuration without the places of its values.
fn shape(config: &Config) -> String {
    let Config { server, admin, store, log, sources, handlers, subscriptions, tree: _ } = config;
    format!("{server:?} {admin:?} {store:?} {log:?} {sources:?} {handlers:?} {subscriptions:?}")
}
