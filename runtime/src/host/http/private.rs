//! Private: every way that we know to name an address that is none of a webhook's business, tried by a real guest. Each
//! is refused although its origin is granted by its own text, so that it is the address that refuses it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::host::tests::rig::*;
use crate::host::{Called, Engine, Options, Plugin};
use crate::words::attempt::{Blame, ErrorKind};

/// What is granted, and what its refusal says. Where they differ, the URL that is called.
type Way<'a> = (&'a str, Option<&'a str>, &'a str);

const WAYS: &[Way<'_>] = &[
    // Loopback, in every notation of `inet_aton`.
    ("http://127.0.0.1", None, "127.0.0.1 (loopback)"),
    ("http://127.0.0.1.", None, "127.0.0.1 (loopback)"),
    ("http://127.1", None, "127.0.0.1 (loopback)"),
    ("http://127.0.1", None, "127.0.0.1 (loopback)"),
    ("http://2130706433", None, "127.0.0.1 (loopback)"),
    ("http://0x7f000001", None, "127.0.0.1 (loopback)"),
    ("http://0X7F.1", None, "127.0.0.1 (loopback)"),
    ("http://0x7f.0x0.0x0.0x1", None, "127.0.0.1 (loopback)"),
    ("http://0177.0.0.1", None, "127.0.0.1 (loopback)"),
    ("http://0177.1", None, "127.0.0.1 (loopback)"),
    ("http://017700000001", None, "127.0.0.1 (loopback)"),
    ("http://0x7f.1.", None, "127.0.0.1 (loopback)"),
    ("http://127.255.255.254", None, "127.255.255.254 (loopback)"),
    // This host, which the kernel takes for loopback.
    ("http://0", None, "0.0.0.0 (this host)"),
    ("http://0.0.0.0", None, "0.0.0.0 (this host)"),
    ("http://0x0", None, "0.0.0.0 (this host)"),
    ("http://0.1.2.3", None, "0.1.2.3 (this host)"),
    // Private networks.
    ("http://10.0.0.1", None, "10.0.0.1 (private)"),
    ("http://167772161", None, "10.0.0.1 (private)"),
    ("http://012.1", None, "10.0.0.1 (private)"),
    ("https://172.16.0.1", None, "172.16.0.1 (private)"),
    ("https://172.31.255.255", None, "172.31.255.255 (private)"),
    ("http://192.168.1.1", None, "192.168.1.1 (private)"),
    ("http://0xc0a80101", None, "192.168.1.1 (private)"),
    ("http://3232235777", None, "192.168.1.1 (private)"),
    // Link-local, where clouds hand out credentials.
    ("http://169.254.169.254", None, "169.254.169.254 (link-local, cloud metadata)"),
    ("http://2852039166", None, "169.254.169.254 (link-local, cloud metadata)"),
    ("http://0xa9fea9fe", None, "169.254.169.254 (link-local, cloud metadata)"),
    ("http://0251.0376.0251.0376", None, "169.254.169.254 (link-local, cloud metadata)"),
    ("http://169.254.43518", None, "169.254.169.254 (link-local, cloud metadata)"),
    ("http://169.16689662", None, "169.254.169.254 (link-local, cloud metadata)"),
    ("https://169.254.170.2", None, "169.254.170.2 (link-local, cloud metadata)"),
    // Other clouds' metadata.
    ("http://100.100.100.200", None, "100.100.100.200 (carrier-grade NAT)"),
    ("http://192.0.0.192", None, "192.0.0.192 (protocol assignments)"),
    ("http://168.63.129.16", None, "168.63.129.16 (cloud metadata)"),
    ("http://[fd00:ec2::254]", None, "fd00:ec2::254 (private)"),
    ("http://[fd20:ce::254]", None, "fd20:ce::254 (private)"),
    // The rest of the registry.
    ("http://100.64.0.1", None, "100.64.0.1 (carrier-grade NAT)"),
    ("http://192.0.2.1", None, "192.0.2.1 (documentation)"),
    ("http://198.51.100.1", None, "198.51.100.1 (documentation)"),
    ("http://203.0.113.1", None, "203.0.113.1 (documentation)"),
    ("http://198.18.0.1", None, "198.18.0.1 (benchmarks)"),
    ("http://192.88.99.1", None, "192.88.99.1 (6to4 relay)"),
    ("http://224.0.0.1", None, "224.0.0.1 (multicast)"),
    ("http://239.255.255.250", None, "239.255.255.250 (multicast)"),
    ("http://240.0.0.1", None, "240.0.0.1 (reserved)"),
    ("http://255.255.255.255", None, "255.255.255.255 (reserved)"),
    ("http://4294967295", None, "255.255.255.255 (reserved)"),
    // IPv6.
    ("http://[::1]", None, "::1 (this host, loopback, embedded IPv4)"),
    ("http://[0:0:0:0:0:0:0:1]", None, "::1 (this host, loopback, embedded IPv4)"),
    ("http://[::]", None, ":: (this host, loopback, embedded IPv4)"),
    ("http://[::127.0.0.1]", None, "::7f00:1 (this host, loopback, embedded IPv4)"),
    ("http://[::ffff:127.0.0.1]", None, "127.0.0.1 (loopback)"),
    ("http://[::FFFF:7F00:1]", None, "127.0.0.1 (loopback)"),
    ("http://[::ffff:a9fe:a9fe]", None, "169.254.169.254 (link-local, cloud metadata)"),
    ("http://[::ffff:0:127.0.0.1]", None, "::ffff:0:7f00:1 (translated IPv4)"),
    ("http://[64:ff9b::7f00:1]", None, "64:ff9b::7f00:1 (NAT64)"),
    ("http://[64:ff9b::169.254.169.254]", None, "64:ff9b::a9fe:a9fe (NAT64)"),
    ("http://[64:ff9b:1::a00:1]", None, "64:ff9b:1::a00:1 (NAT64)"),
    ("http://[2002:7f00:1::]", None, "2002:7f00:1:: (6to4)"),
    ("http://[2002:a9fe:a9fe::1]", None, "2002:a9fe:a9fe::1 (6to4)"),
    ("http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]", None, "(protocol assignments, Teredo)"),
    ("http://[2001:20::1]", None, "2001:20::1 (protocol assignments, Teredo)"),
    ("http://[fc00::1]", None, "fc00::1 (private)"),
    ("http://[FD12:3456::1]", None, "fd12:3456::1 (private)"),
    ("http://[fe80::1]", None, "fe80::1 (link-local)"),
    ("http://[FEBF::1]", None, "febf::1 (link-local)"),
    ("http://[fec0::1]", None, "fec0::1 (site-local)"),
    ("http://[ff02::1]", None, "ff02::1 (multicast)"),
    ("http://[2001:db8::1]", None, "2001:db8::1 (documentation)"),
    ("http://[3fff::1]", None, "3fff::1 (documentation)"),
    ("http://[5f00::1]", None, "5f00::1 (segment routing)"),
    ("http://[100::1]", None, "100::1 (discard)"),
    ("http://[4000::1]", None, "4000::1 (not global unicast)"),
    // Letters that become digits, and encodings.
    ("http://%31%32%37.0.0.1", None, "127.0.0.1 (loopback)"),
    ("http://%6cocalhost", None, "`localhost` is 127.0.0.1 (loopback)"),
    ("http://１２７.０.０.１", None, "127.0.0.1 (loopback)"),
    ("http://127。0。0。1", None, "127.0.0.1 (loopback)"),
    ("http://①②⑦.⓪.⓪.①", None, "127.0.0.1 (loopback)"),
    ("http://ｌｏｃａｌｈｏｓｔ", None, "`localhost` is 127.0.0.1 (loopback)"),
    ("http://loc\u{ad}alhost", None, "`localhost` is 127.0.0.1 (loopback)"),
    // Ports make no difference.
    ("http://127.0.0.1:22", None, "127.0.0.1 (loopback)"),
    ("http://10.0.0.1:6379", None, "10.0.0.1 (private)"),
    ("https://[::1]:8443", None, "::1 (this host, loopback, embedded IPv4)"),
    // Names.
    ("http://localhost", None, "`localhost` is 127.0.0.1 (loopback)"),
    ("http://LOCALHOST.", None, "`localhost` is 127.0.0.1 (loopback)"),
    ("https://private.example", None, "`private.example` is 10.0.0.1 (private)"),
    ("https://private.example.", None, "`private.example` is 10.0.0.1 (private)"),
    ("https://mixed.example", None, "`mixed.example` is 10.0.0.1 (private)"),
    ("https://mixed6.example", None, "`mixed6.example` is fd00::1 (private)"),
    ("https://mapped.example", None, "`mapped.example` is 169.254.169.254 (link-local, cloud metadata)"),
    ("https://nat64.example", None, "`nat64.example` is 64:ff9b::a00:1 (NAT64)"),
    ("https://*.wild.example", Some("https://a.wild.example/"), "`a.wild.example` is 10.0.0.1 (private)"),
    ("https://crowd.example", None, "dns: `crowd.example` has too many addresses"),
    // What is no origin at all: these end before an address is looked at.
    ("http://127.0.0.1", Some("http://good.example@127.0.0.1/"), "a URL with a user or password is not sent"),
    (
        "http://127.0.0.1",
        Some("http://good.example:pw@127.0.0.1/"),
        "a URL with a user or password is not sent",
    ),
    ("http://127.0.0.1", Some("http://127.0.0.1:0/"), "port 0 is no port"),
    ("http://127.0.0.1", Some("http://127.0.0.1:65536/"), "the URL does not parse"),
    ("http://[fe80::1]", Some("http://[fe80::1%25eth0]/"), "the URL does not parse"),
    ("http://127.0.0.1", Some("http://127.0.0.256/"), "the URL does not parse"),
    ("http://127.0.0.1", Some("http://0x7f.0.0.0.0.1/"), "the URL does not parse"),
    ("http://127.0.0.1", Some("http://good.example\\@127.0.0.1/"), "http://good.example is not granted"),
    ("http://127.0.0.1", Some("http://127.0.0.1.good.example/"), "is not granted"),
    ("http://127.0.0.1", Some("gopher://127.0.0.1/_x"), "the scheme is neither https nor http"),
];

fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let global = "1.1.1.1";
    let found: Vec<String> = match host {
        "localhost" => vec!["127.0.0.1".into(), "::1".into()],
        "private.example" | "a.wild.example" => vec!["10.0.0.1".into()],
        "mixed.example" => vec![global.into(), "10.0.0.1".into()],
        "mixed6.example" => vec![global.into(), "2606:4700::1111".into(), "fd00::1".into()],
        "mapped.example" => vec!["::ffff:169.254.169.254".into()],
        "nat64.example" => vec!["64:ff9b::a00:1".into()],
        "crowd.example" => (0..65).map(|n| format!("1.1.1.{n}")).collect(),
        other => panic!("nobody asks for `{other}`"),
    };
    Ok(found.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect())
}

/// An engine with a resolver of its own, and the plugin, which is held so that it is compiled once.
fn engine_with(
    resolver: impl Fn(&str, u16) -> std::io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> (Engine, Plugin) {
    let mut engine = Engine::new(Options { cache: None, instances_max: 4 }).unwrap();
    Arc::get_mut(&mut engine.inner).unwrap().network.resolve_by(resolver);
    let plugin = engine.load(wasm()).unwrap();
    (engine, plugin)
}

fn calling(engine: &Engine, behaviour: &str, origin: &str, url: &str) -> Setup {
    let mut setup = Setup::new(behaviour);
    setup.engine = engine.clone();
    setup.grants.networks.clear();
    setup.grants.origins.push(origin.into());
    setup.setting("url", url)
}

fn errors(called: &Called) -> Vec<&str> {
    called.calls.iter().map(|call| call.error.as_deref().unwrap_or("none")).collect()
}

#[test]
fn no_way_to_name_a_private_address_leads_there() {
    on_guests(async {
        let (engine, _plugin) = engine_with(resolve);
        let mut by_address = 0;
        for (granted, url, expected) in WAYS {
            let own = format!("{granted}/path?query");
            let called = calling(&engine, "call-then-trap", granted, url.unwrap_or(&own)).call().await;
            let said = errors(&called).join(" ");
            assert!(said.contains(expected), "{granted} {url:?}: {said}");
            if said.starts_with("denied: ") && said.contains("which is not dialled unless granted") {
                let (kind, blame, reason, _) = failure(&called);
                assert_eq!((kind, blame), (ErrorKind::Denied, Blame::Operator), "{granted}");
                assert!(reason.contains("handlers.h.grants.networks: [\""), "{reason}");
                by_address += 1;
            }
        }
        assert!(WAYS.len() >= 100 && by_address >= 90, "{by_address} of {}", WAYS.len());
    });
}

/// Answers that may change: the addresses of each lookup in turn, the last one for ever; and how often it was asked.
fn in_turn(answers: &'static [&'static str]) -> (Engine, Plugin, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let (engine, plugin) = engine_with(move |_, port| {
        let turn = counted.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        Ok(vec![SocketAddr::new(answers[turn].parse().unwrap(), port)])
    });
    (engine, plugin, asked)
}

fn port_of(origin: &str) -> &str {
    origin.rsplit(':').next().unwrap()
}

#[test]
fn what_was_vetted_is_what_is_dialled() {
    on_guests(async {
        let (origin, seen) = server().await;
        // Vetted is 127.0.0.2, where nobody listens; whoever asked a second time would reach the server.
        let (engine, _plugin, asked) = in_turn(&["127.0.0.2", "127.0.0.1"]);
        let name = format!("http://rebind.example:{}", port_of(&origin));
        let mut setup = calling(&engine, "get", &name, &format!("{name}/"));
        setup.grants.networks = vec!["127.0.0.2/32".parse().unwrap()];
        let called = setup.call().await;
        assert!(errors(&called)[0].starts_with("connect: 127.0.0.2:"), "{:?}", errors(&called));
        assert_eq!((asked.load(Ordering::SeqCst), seen.all().len()), (1, 0));
    });
}

/// A pooled connection leads where it was vetted for, whatever the name says by now; a new one is vetted, of another
/// handler too, which shares no connection with the first.
#[test]
fn every_connection_is_vetted_anew() {
    on_guests(async {
        let (origin, seen) = server().await;
        let moved = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&moved);
        let (engine, _plugin) = engine_with(move |_, port| {
            let address = if theirs.load(Ordering::SeqCst) { "10.0.0.1" } else { "127.0.0.1" };
            Ok(vec![SocketAddr::new(address.parse().unwrap(), port)])
        });
        let name = format!("http://rebind.example:{}", port_of(&origin));
        let handler = || {
            let mut setup = calling(&engine, "many-calls", &name, &format!("{name}/"));
            setup.grants.networks = vec!["127.0.0.1/32".parse().unwrap()];
            setup.bind()
        };
        let pooled = handler();
        assert!(note(&call(&pooled).await).starts_with("3 sent, None"));
        moved.store(true, Ordering::SeqCst);
        // Where the connection is not back in the pool yet, a new one is tried: that one is refused.
        let called = call(&pooled).await;
        let (sent, refused): (Vec<&str>, Vec<&str>) =
            errors(&called).iter().partition(|said| **said == "none");
        assert!(refused.iter().all(|said| said.contains("is 10.0.0.1 (private)")), "{refused:?}");
        assert_eq!(seen.all().len(), 3 + sent.len());
        let called = call(&handler()).await;
        assert!(
            errors(&called).iter().all(|said| said.contains("is 10.0.0.1 (private)")),
            "{:?}",
            errors(&called)
        );
        assert_eq!(seen.all().len(), 3 + sent.len());
    });
}

#[test]
fn a_broken_connection_is_not_made_again_without_a_look() {
    on_guests(async {
        let (origin, seen) = server().await;
        let (engine, _plugin, asked) = in_turn(&["127.0.0.1", "10.0.0.1"]);
        let name = format!("http://rebind.example:{}", port_of(&origin));
        let mut setup = calling(&engine, "many-calls", &name, &format!("{name}/break"));
        setup.grants.networks = vec!["127.0.0.1/32".parse().unwrap()];
        let called = setup.call().await;
        let said = errors(&called);
        assert!(said[0].starts_with("protocol: "), "{said:?}");
        assert!(said[1..].iter().all(|said| said.contains("is 10.0.0.1 (private)")), "{said:?}");
        assert_eq!((asked.load(Ordering::SeqCst), seen.all().len()), (3, 1));
    });
}

#[test]
fn no_redirection_is_followed_wherever_it_leads() {
    on_guests(async {
        let (origin, seen) = server().await;
        let dialled = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&dialled);
        let (engine, _plugin) = engine_with(move |host, port| {
            theirs.lock().unwrap().push(host.to_owned());
            Ok(vec![SocketAddr::new("127.0.0.1".parse().unwrap(), port)])
        });
        let name = format!("http://redirects.example:{}", port_of(&origin));
        for target in [
            "http://169.254.169.254/latest/meta-data/",
            "http://localhost/",
            "//10.0.0.1/",
            "http://[::1]/",
            "file:///etc/passwd",
        ] {
            let to: String = url::form_urlencoded::byte_serialize(target.as_bytes()).collect();
            let mut setup = calling(&engine, "get", &name, &format!("{name}/redirect-to?{to}"));
            setup.grants.networks = vec!["127.0.0.1/32".parse().unwrap()];
            let before = seen.all().len();
            let called = setup.call().await;
            assert!(note(&called).starts_with("0 302 ["), "{}", note(&called));
            assert!(note(&called).contains(&format!("location: {target}")), "{}", note(&called));
            assert_eq!((called.calls.len(), seen.all().len() - before), (1, 1));
        }
        assert!(dialled.lock().unwrap().iter().all(|host| host == "redirects.example"), "{dialled:?}");
    });
}
