//! Read: the exact bytes and headers of a request, capped, and when they came. Nothing is decoded or parsed.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Body;

use super::budget::{Full, Gathering, Room};
use super::refusal::Refused;
use super::share::Stranger;
use crate::verify;
use crate::words::time::Millis;

/// Says that `longshore send` made the request. It is not signed: whoever can sign an event may mark it as a
/// test, and all it does is to show the event as one and to set the handler's attribute `test`.
const TEST_HEADER: HeaderName = HeaderName::from_static("longshore-test");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Credentials of somebody's: no handler has a use for them, and the ledger keeps what it gets for weeks.
/// The signature was checked before they are dropped, so a scheme may well read them.
const NEVER_STORED: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// A request read whole.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) method: Method,
    /// As it was written, without `?`.
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// When its headers had arrived.
    pub(super) received_at: Millis,
}

impl Read {
    pub(super) fn as_signed<'a>(&'a self, url: &'a str) -> verify::Request<'a> {
        verify::Request {
            method: self.method.as_str(),
            url,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
        }
    }

    pub(super) fn is_test(&self) -> bool {
        self.headers.get(TEST_HEADER).is_some_and(|value| value == "1")
    }

    /// The headers as the ledger keeps them and handlers get them: names in lower case, in the order in which
    /// each name first came, a repeated header repeated. A value's bytes become the characters of the same
    /// number (Latin-1): for ASCII that is the text, and for anything else it loses nothing.
    ///
    /// `carries_secret`: what the source's scheme says of a header, beside those that are never stored.
    pub(super) fn stored_headers(
        &self,
        carries_secret: impl Fn(&HeaderName) -> bool,
    ) -> Vec<(String, String)> {
        let kept =
            self.headers.iter().filter(|(name, _)| !NEVER_STORED.contains(name) && !carries_secret(name));
        kept.map(|(name, value)| (name.as_str().to_owned(), latin1(value))).collect()
    }
}

fn latin1(value: &HeaderValue) -> String {
    match value.to_str() {
        Ok(ascii) => ascii.to_owned(),
        Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// Reads a body of at most `bytes_max` into the budget and its address's share. A `content-length` over the cap is
/// refused without reading; one that lies is caught by counting.
pub(super) async fn body(
    headers: &HeaderMap,
    mut body: impl Body<Data = Bytes> + Unpin,
    bytes_max: usize,
    bodies: &Arc<Room>,
    stranger: &mut Stranger,
) -> Result<Bytes, Refused> {
    let too_large = || Refused::TooLarge { bytes_max };
    if claimed_bytes(headers).is_some_and(|claimed| claimed > bytes_max as u64) {
        return Err(too_large());
    }
    let mut gathering = Gathering::new(bodies);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refused::Malformed("the body broke off".to_owned()))?;
        // Trailers are not signed and nobody asks for them.
        let Ok(chunk) = frame.into_data() else { continue };
        if gathering.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        stranger.take_body_bytes(chunk.len())?;
        gathering.push(chunk).map_err(|Full| Refused::Bodies(bodies.max()))?;
    }
    Ok(gathering.finish())
}

fn claimed_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Who sent a request, for the list of refusals. Behind a proxy the last hop of `X-Forwarded-For` is the one that
/// our proxy wrote; all before it is the client's own claim.
pub(super) fn client_address(headers: &HeaderMap, peer: IpAddr, behind_proxy: bool) -> IpAddr {
    if !behind_proxy {
        return peer;
    }
    let last = headers.get_all(FORWARDED_FOR).iter().next_back();
    let hop = last.and_then(|value| value.to_str().ok()).and_then(|list| list.rsplit(',').next());
    hop.and_then(parse_address).unwrap_or(peer)
}

/// An address as proxies write it: bare, with a port, or an IPv6 one in brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::share::{Share, Shares};
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;
    use proptest::prelude::*;

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    fn read(headers: HeaderMap) -> Read {
        Read { method: Method::POST, query: None, headers, body: Bytes::new(), received_at: Millis(0) }
    }

    /// A body in chunks, ended by an error where `breaks`.
    struct Chunks {
        left: VecDeque<&'static [u8]>,
        breaks: bool,
    }

    impl Body for Chunks {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            let next = self.left.pop_front().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk))));
            let end = self.breaks.then(|| Err(std::io::ErrorKind::UnexpectedEof.into()));
            Poll::Ready(next.or(end))
        }
    }

    fn chunks(chunks: &[&'static [u8]], breaks: bool) -> Chunks {
        Chunks { left: chunks.iter().copied().collect(), breaks }
    }

    fn room(max: usize) -> Arc<Room> {
        Arc::new(Room::new(max))
    }

    fn stranger(body_bytes: usize) -> Stranger {
        let share = Share { connections: 1, requests: 1, body_bytes };
        Shares::new(share).of("192.0.2.1".parse().unwrap()).request().unwrap()
    }

    async fn reason(headers: &HeaderMap, sent: Chunks, bytes_max: usize, bodies: &Arc<Room>) -> &'static str {
        body(headers, sent, bytes_max, bodies, &mut stranger(100)).await.unwrap_err().row().reason
    }

    #[tokio::test]
    async fn a_body_at_the_cap_is_read_and_one_byte_over_is_not() {
        let bodies = room(100);
        let none = HeaderMap::new();
        let sent = || chunks(&[b"0123", b"4567"], false);
        assert_eq!(body(&none, sent(), 8, &bodies, &mut stranger(100)).await.unwrap(), "01234567");
        assert_eq!(reason(&none, sent(), 7, &bodies).await, "too-large");
        assert_eq!(bodies.held(), 0);
    }

    #[tokio::test]
    async fn a_claim_over_the_cap_is_refused_before_a_byte_is_read() {
        let bodies = room(100);
        let never = chunks(&[], true);
        assert_eq!(reason(&headers(&[("content-length", b"9")]), never, 8, &bodies).await, "too-large");
    }

    #[tokio::test]
    async fn a_broken_body_is_malformed_and_a_full_budget_is_busy() {
        let bodies = room(6);
        let none = HeaderMap::new();
        assert_eq!(reason(&none, chunks(&[b"0123"], true), 8, &bodies).await, "malformed-request");
        assert_eq!(reason(&none, chunks(&[b"0123", b"456"], false), 8, &bodies).await, "bodies-in-flight");
        assert_eq!(bodies.held(), 0);
    }

    #[tokio::test]
    async fn a_body_over_its_address_s_share_is_refused_though_there_is_room() {
        let bodies = room(100);
        let none = HeaderMap::new();
        let mut share = stranger(6);
        let sent = || chunks(&[b"0123", b"45"], false);
        assert_eq!(body(&none, sent(), 8, &bodies, &mut share).await.unwrap(), "012345");
        let refused = body(&none, sent(), 8, &bodies, &mut share).await.unwrap_err();
        assert_eq!((refused.row().status, refused.row().reason), (503, "too-much-from-one-address"));
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn headers_are_stored_in_order_with_repeats_and_without_credentials() {
        let sent = headers(&[
            ("X-First", b"1"),
            ("Authorization", b"Bearer secret"),
            ("Cookie", b"session=secret"),
            ("x-twice", b"a"),
            ("Proxy-Authorization", b"Basic secret"),
            ("x-last", b"z"),
            ("x-token", b"the secret itself"),
            ("x-twice", b"b"),
        ]);
        let stored = read(sent).stored_headers(|name| name == "x-token");
        let stored: Vec<_> = stored.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(stored, [("x-first", "1"), ("x-twice", "a"), ("x-twice", "b"), ("x-last", "z")]);
    }

    proptest! {
        /// Any value that HTTP allows can be had back byte for byte.
        #[test]
        fn a_stored_value_loses_nothing(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let back: Vec<u8> = latin1(&value).chars().map(|c| u8::try_from(c).unwrap()).collect();
                prop_assert_eq!(back, bytes);
            }
        }
    }

    #[test]
    fn only_the_exact_mark_makes_a_test() {
        assert!(read(headers(&[("longshore-test", b"1")])).is_test());
        for not in [&b"0"[..], b"true", b"", b"11"] {
            assert!(!read(headers(&[("longshore-test", not)])).is_test());
        }
        assert!(!read(HeaderMap::new()).is_test());
    }

    #[test]
    fn the_last_hop_counts_and_only_behind_a_proxy() {
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let cases: &[(&[&[u8]], &str)] = &[
            (&[], "192.0.2.1"),
            (&[b"203.0.113.7"], "203.0.113.7"),
            (&[b"10.0.0.1, 203.0.113.7"], "203.0.113.7"),
            (&[b"10.0.0.1", b"203.0.113.7 "], "203.0.113.7"),
            (&[b"203.0.113.7:4711"], "203.0.113.7"),
            (&[b"[2001:db8::1]"], "2001:db8::1"),
            (&[b"[2001:db8::1]:4711"], "2001:db8::1"),
            (&[b"2001:db8::1"], "2001:db8::1"),
            (&[b"203.0.113.7, unknown"], "192.0.2.1"),
            (&[b""], "192.0.2.1"),
            (&[b"\xff"], "192.0.2.1"),
        ];
        for (lines, address) in cases {
            let pairs: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let headers = headers(&pairs);
            assert_eq!(client_address(&headers, peer, true).to_string(), *address, "{lines:?}");
            assert_eq!(client_address(&headers, peer, false), peer);
        }
    }
}
