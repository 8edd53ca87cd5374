//! The one way out, through a real guest and a real server.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::host::tests::rig::*;
use crate::host::{Called, Engine, Options};
use crate::words::attempt::{Blame, ErrorKind};
use crate::words::limits;

const SECRET: &str = "s3cr/et+t&ken=";

/// Everything of a call that history would show.
fn history(called: &Called) -> String {
    format!("{:?} {:?} {:?}", called.outcome, called.calls, called.logs)
}

#[test]
fn a_call_is_sent_and_recorded() {
    on_guests(async {
        let (origin, seen) = server().await;
        let called = Setup::new("post").calling(&origin, "/status/201?token=private").call().await;
        assert!(note(&called).starts_with("0 201 [server: rig"), "{}", note(&called));
        let record = &called.calls[0];
        assert_eq!(record.target, format!("{origin}/status/201"));
        assert_eq!((record.number, record.method.as_str(), record.status), (0, "POST", Some(201)));
        assert_eq!((record.request_bytes, record.response_bytes, record.error.as_deref()), (5, 2, None));
        assert_eq!((record.key.as_deref(), record.recorded, record.disowned), (Some("one"), false, false));
        let sent = &seen.all()[0];
        assert!(sent.starts_with("POST /status/201?token=private HTTP/1.1 ["), "{sent}");
        assert!(sent.contains("user-agent: longshore/") && sent.ends_with("] evt_1"), "{sent}");
        assert!(!history(&called).contains("private"));
    });
}

#[test]
fn a_disowned_call_is_marked() {
    on_guests(async {
        let (origin, _) = server().await;
        let called = Setup::new("disown").calling(&origin, "/").call().await;
        assert!(called.calls[0].disowned && called.calls.len() == 1);
    });
}

#[test]
fn what_is_not_granted_is_the_operators_matter() {
    on_guests(async {
        let (origin, seen) = server().await;
        let cases = [("call-ungranted", true), ("post", false), ("call-then-trap", false)];
        for (behaviour, is_permanent) in cases {
            let called = Setup::new(behaviour).setting("url", format!("{origin}/x?y")).call().await;
            let (kind, blame, reason, permanent) = failure(&called);
            assert_eq!(
                (kind, blame, permanent),
                (ErrorKind::Denied, Blame::Operator, is_permanent),
                "{reason}"
            );
            assert!(reason.contains(&format!("handlers.h.grants.http: [\"{origin}\"]")), "{reason}");
            assert_eq!(called.calls[0].target, format!("{origin}/x"));
            assert!(called.calls[0].error.as_ref().unwrap().starts_with("denied: "), "{:?}", called.calls);
        }
        assert!(seen.all().is_empty());
    });
}

#[test]
fn an_origin_may_be_granted_in_part() {
    on_guests(async {
        let (origin, seen) = server().await;
        let part = |behaviour: &str, path: &str| {
            let mut setup = Setup::new(behaviour).calling(&origin, path);
            setup.grants.origins[0].methods = vec!["GET".into(), "POST".into()];
            setup.grants.origins[0].paths = vec!["/crm/v3/".into()];
            setup
        };
        assert!(note(&part("get", "/crm/v3/x?y").call().await).starts_with("0 200"));
        let before = seen.all().len();
        for (path, expected) in [
            ("/admin", "the path /admin is not granted at"),
            ("/crm/v3/../../admin", "the path /admin is not granted at"),
            ("/crm/v3/..%2f..%2fadmin", "has an encoded slash"),
        ] {
            let called = part("post", path).call().await;
            let (kind, blame, reason, _) = failure(&called);
            assert_eq!((kind, blame), (ErrorKind::Denied, Blame::Operator), "{reason}");
            assert!(
                reason.contains(expected) && reason.contains("handlers.h.grants.http.0.paths: ["),
                "{reason}"
            );
        }
        let mut setup = part("post", "/crm/v3/x");
        setup.grants.origins[0].methods = vec!["GET".into()];
        let called = setup.call().await;
        let reason = failure(&called).2;
        assert!(reason.contains("handlers.h.grants.http.0.methods: [GET, POST]"), "{reason}");
        // A secret URL is held to the same, and its path is not told.
        let mut setup = Setup::new("credential").calling(&origin, "/").setting("credential", "url").secret(
            "webhook",
            &format!("{origin}/services/T000/XXXXYYYY"),
            &[&origin],
        );
        setup.grants.origins[0].paths = vec!["/hooks/".into()];
        let called = setup.call().await;
        assert!(note(&called).contains("the path of secret `webhook` is not granted"), "{}", note(&called));
        assert!(!history(&called).contains("XXXXYYYY") && !history(&called).contains("T000"));
        assert_eq!(seen.all().len(), before, "nothing that is denied leaves");
    });
}

#[test]
fn a_private_address_needs_its_network() {
    on_guests(async {
        let (origin, seen) = server().await;
        let port = origin.rsplit(':').next().unwrap();
        // By address, and by a name that resolves to it.
        for host in ["127.0.0.1", "localhost"] {
            let mut setup = Setup::new("post").calling(&format!("http://{host}:{port}"), "/");
            setup.grants.networks.clear();
            let called = setup.call().await;
            let (kind, blame, reason, _) = failure(&called);
            assert_eq!((kind, blame), (ErrorKind::Denied, Blame::Operator), "{reason}");
            assert!(reason.contains("handlers.h.grants.networks: ["), "{reason}");
        }
        assert!(seen.all().is_empty());
    });
}

#[test]
fn calls_and_bytes_have_ends() {
    on_guests(async {
        let (origin, seen) = server().await;
        let many = Setup::new("many-calls").calling(&origin, "/").setting("count", 9).limits(|l| l.calls = 5);
        let called = many.call().await;
        assert!(note(&called).starts_with("5 sent, Some(Error::Limit("), "{}", note(&called));
        assert_eq!((called.calls.len(), seen.all().len()), (5, 5));

        // An answer of two bytes and what the record needs around it: some fit, and the rest are not sent.
        let bytes = |max: u64| {
            Setup::new("many-calls").calling(&origin, "/").setting("count", 9).limits(|l| l.call_bytes = max)
        };
        let before = seen.all().len();
        let called = bytes(1024).call().await;
        let (sent, why) = note(&called).split_once(" sent, ").unwrap();
        let sent: usize = sent.parse().unwrap();
        assert!((2..9).contains(&sent) && why.starts_with("Some(Error::Limit("), "{}", note(&called));
        assert!(why.contains("at most 1024 bytes to the record"), "{why}");
        assert_eq!(seen.all().len() - before, sent, "what has no room does not leave");
        assert!(note(&bytes(64 * 1024).call().await).starts_with("9 sent, None"));

        for (count, expected) in [
            (limits::HTTP_REQUEST_BYTES_MAX, "0 200"),
            (limits::HTTP_REQUEST_BYTES_MAX + 1, "Error::RequestTooLarge"),
        ] {
            let called = Setup::new("big-request").calling(&origin, "/").setting("count", count).call().await;
            assert!(note(&called).starts_with(expected), "{}", note(&called));
        }
        let over = |count: usize| {
            Setup::new("big-request")
                .calling(&origin, "/")
                .setting("count", count)
                .limits(|l| l.call_bytes = 2048)
        };
        let before = seen.all().len();
        assert!(note(&over(2048).call().await).starts_with("Error::Limit("));
        assert_eq!(seen.all().len(), before);
        assert!(note(&over(1024).call().await).starts_with("0 200"));
    });
}

#[test]
fn answers_have_ends() {
    on_guests(async {
        let (origin, _) = server().await;
        let called = Setup::new("get").calling(&origin, "/large").call().await;
        assert_eq!(note(&called), "Error::ResponseTooLarge(200)");
        assert_eq!(called.calls[0].status, Some(200));
        assert_eq!(called.calls[0].error.as_deref(), Some("the response is too large"));

        // An error page is cut: its status is what counts.
        let small =
            Setup::new("get-then-retry").calling(&origin, "/large-error").limits(|l| l.response_bytes = 10);
        let called = small.call().await;
        let (kind, blame, reason, _) = failure(&called);
        assert_eq!((kind, blame), (ErrorKind::Retry, Blame::Remote));
        assert!(reason.starts_with("0 500 [") && reason.ends_with("] xxxxxxxxxx"), "{reason}");

        let called = Setup::new("get").calling(&origin, "/many-headers").call().await;
        assert_eq!(
            note(&called).matches("x-").count(),
            limits::HTTP_RESPONSE_HEADERS_MAX - 1,
            "{}",
            note(&called)
        );
    });
}

#[test]
fn a_redirect_is_an_answer() {
    on_guests(async {
        let (origin, seen) = server().await;
        let called = Setup::new("get").calling(&origin, "/redirect").call().await;
        assert!(note(&called).starts_with("0 302 ["), "{}", note(&called));
        assert!(note(&called).contains("location: /echo"));
        assert_eq!(seen.all().len(), 1);
    });
}

#[test]
fn a_secret_is_sent_and_never_seen() {
    on_guests(async {
        let (origin, seen) = server().await;
        let sent = [
            ("bearer", format!("authorization: Bearer {SECRET}")),
            ("basic", "authorization: Basic dXNlcjpzM2NyL2V0K3Qma2VuPQ==".into()),
            ("header", format!("x-api-key: {SECRET}")),
            ("query", "/echo?key=s3cr%2Fet%2Bt%26ken%3D".into()),
            ("form", "key=s3cr%2Fet%2Bt%26ken%3D".into()),
        ];
        for (credential, expected) in sent {
            let setup = Setup::new("credential")
                .calling(&origin, "/echo")
                .setting("credential", credential)
                .secret("token", &format!("{SECRET}\n"), &[&origin]);
            let called = setup.call().await;
            let arrived = seen.all().pop().unwrap();
            assert!(arrived.contains(&expected), "{credential}: {arrived}");
            assert!(note(&called).contains("[secret token]"), "{credential}: {}", note(&called));
            let history = history(&called);
            for form in [SECRET, "s3cr%2Fet", "zM2NyL2V0"] {
                assert!(!history.contains(form), "{credential}: {form} in {history}");
            }
            assert_eq!(called.calls[0].credentials, ["token"]);
        }
    });
}

#[test]
fn a_secret_across_the_cap_of_an_error_page_is_not_seen_in_part() {
    on_guests(async {
        let (origin, seen) = server().await;
        let setup = |cap: usize| {
            Setup::new("credential")
                .calling(&origin, "/echo-error")
                .secret("token", SECRET, &[&origin])
                .limits(|l| l.response_bytes = cap)
        };
        setup(limits::HTTP_RESPONSE_BYTES_MAX).call().await;
        let page = seen.all().pop().unwrap();
        let start = page.find(SECRET).unwrap();
        for cap in start..=start + SECRET.len() {
            let called = setup(cap).call().await;
            assert!(!note(&called).contains("Bearer s3"), "{cap}: {}", note(&called));
        }
    });
}

#[test]
fn a_mask_makes_no_answer_longer_than_its_cap() {
    on_guests(async {
        let (origin, seen) = server().await;
        let setup = |path: &str, cap: usize| {
            let setup = Setup::new("credential").calling(&origin, path).secret("token", "abcd", &[&origin]);
            setup.limits(|l| l.response_bytes = cap)
        };
        setup("/echo", limits::HTTP_RESPONSE_BYTES_MAX).call().await;
        let told = seen.all().pop().unwrap();
        assert!(told.contains("Bearer abcd"), "{told}");
        let called = setup("/echo", told.len()).call().await;
        assert_eq!(note(&called), "Error::ResponseTooLarge(200)");
        let cap = told.len() + "-error".len();
        let called = setup("/echo-error", cap).call().await;
        let (head, body) = note(&called).split_once("] ").unwrap();
        assert!(head.starts_with("0 500 [") && body.contains("[secret token]"), "{}", note(&called));
        assert_eq!(body.len(), cap);
    });
}

#[test]
fn a_secret_url_is_called_and_never_seen() {
    on_guests(async {
        let (origin, seen) = server().await;
        let setup = Setup::new("credential").calling(&origin, "/").setting("credential", "url").secret(
            "webhook",
            &format!("{origin}/services/T000/B000/XXXXYYYY"),
            &[&origin],
        );
        let called = setup.call().await;
        assert!(seen.all()[0].starts_with("POST /services/T000/B000/XXXXYYYY "), "{:?}", seen.all());
        assert_eq!(called.calls[0].target, format!("{origin}/[secret webhook]"));
        assert!(!history(&called).contains("XXXXYYYY"));
    });
}

#[test]
fn a_secret_goes_only_where_it_is_bound() {
    on_guests(async {
        let (origin, seen) = server().await;
        let mut setup = Setup::new("credential").calling(&origin, "/echo").secret(
            "token",
            SECRET,
            &["https://api.example.com"],
        );
        setup.grants.origins.push("https://api.example.com".into());
        let called = setup.call().await;
        assert!(note(&called).starts_with("Error::Denied("), "{}", note(&called));
        assert!(note(&called).contains("handlers.h.secrets.token.to: "), "{}", note(&called));
        assert!(seen.all().is_empty());

        let unknown = Setup::new("credential").calling(&origin, "/echo").setting("secret", "nobody");
        assert!(note(&unknown.call().await).contains("secret `nobody` is not given"));
        assert!(seen.all().is_empty());
    });
}

#[test]
fn a_compressed_answer_to_a_credential_is_withheld() {
    on_guests(async {
        let (origin, _) = server().await;
        let called = Setup::new("get").calling(&origin, "/gzip").call().await;
        assert!(note(&called).ends_with("gzipped"), "{}", note(&called));
        let called = Setup::new("credential")
            .calling(&origin, "/gzip")
            .secret("token", SECRET, &[&origin])
            .call()
            .await;
        assert!(note(&called).ends_with("] "), "{}", note(&called));
        assert!(called.logs[0].message.contains("its body is withheld"), "{:?}", called.logs);
    });
}

#[test]
fn a_service_that_fails_is_to_blame() {
    on_guests(async {
        let (origin, _) = server().await;
        for (path, reason) in
            [("/status/503", "0 503"), ("/status/429", "0 429"), ("/break", "Error::Protocol(")]
        {
            let called = Setup::new("get-then-retry").calling(&origin, path).call().await;
            let (kind, blame, said, _) = failure(&called);
            assert_eq!((kind, blame), (ErrorKind::Retry, Blame::Remote), "{said}");
            assert!(said.starts_with(reason), "{said}");
        }
        let called = Setup::new("get-then-retry").calling(&origin, "/status/404").call().await;
        assert_eq!(failure(&called).1, Blame::Plugin);

        // Nobody listens there any more.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let called = Setup::new("slow-call").calling(&format!("http://{free}"), "/").call().await;
        let (kind, blame, said, _) = failure(&called);
        assert_eq!((kind, blame), (ErrorKind::Retry, Blame::Remote), "{said}");
        assert!(said.starts_with("Error::Connect("), "{said}");
    });
}

#[test]
fn a_failed_call_is_to_blame_until_it_goes_well() {
    on_guests(async {
        for (first, next, blame) in [
            ("/status/500", "/status/200", Blame::Remote),
            ("/status/200", "/status/500", Blame::Remote),
            ("/status/200", "/status/200", Blame::Plugin),
            ("/status/500", "/status/404", Blame::Plugin),
            ("/fails-once", "/fails-once", Blame::Plugin),
            ("/status/500", "/status/500", Blame::Remote),
        ] {
            let (origin, _) = server().await;
            let setup = Setup::new("call-next-then-retry")
                .calling(&origin, first)
                .setting("next", format!("{origin}{next}"));
            assert_eq!(failure(&setup.call().await).1, blame, "{first} {next}");
        }
    });
}

#[test]
fn a_silent_service_leaves_the_handler_a_moment() {
    on_guests(async {
        let (origin, _) = server().await;
        let slow = Setup::new("slow-call")
            .calling(&origin, "/hang")
            .limits(|l| l.timeout = Duration::from_millis(500));
        let called = slow.call().await;
        assert_eq!(failure(&called), (ErrorKind::Retry, Blame::Remote, "Error::Timeout", false));
        assert_eq!(called.calls[0].error.as_deref(), Some("timeout"));
        assert!(called.calls[0].took_ms >= 300, "{:?}", called.calls);
    });
}

// === TLS ===

/// A server for `localhost` with a certificate of its own, speaking both versions of HTTP.
async fn tls_server(engine: &mut Option<Engine>, alpn: &[&str]) -> (String, Seen) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    if let Some(engine) = engine {
        let inner = Arc::get_mut(&mut engine.inner).unwrap();
        inner.network.trust(made.cert.der().clone());
    }
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("https://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let theirs = seen.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, seen) = (acceptor.clone(), theirs.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, seen).await;
                }
            });
        }
    });
    (origin, seen)
}

#[test]
fn https_speaks_what_the_service_speaks() {
    on_guests(async {
        for (alpn, version) in
            [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")]
        {
            let mut engine = Some(Engine::new(Options { cache: None, instances_max: 2 }).unwrap());
            let (origin, seen) = tls_server(&mut engine, alpn).await;
            let mut setup = Setup::new("many-calls").calling(&origin, "/");
            setup.engine = engine.unwrap();
            let called = setup.call().await;
            assert!(note(&called).starts_with("3 sent"), "{}", note(&called));
            assert!(seen.all().iter().all(|sent| sent.contains(version)), "{version}: {:?}", seen.all());
        }
    });
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    on_guests(async {
        let (origin, seen) = tls_server(&mut None, &["h2"]).await;
        let called = Setup::new("slow-call").calling(&origin, "/").call().await;
        let (kind, blame, said, _) = failure(&called);
        assert_eq!((kind, blame), (ErrorKind::Retry, Blame::Remote), "{said}");
        assert!(said.starts_with("Error::Tls("), "{said}");
        assert!(seen.all().is_empty());
    });
}
