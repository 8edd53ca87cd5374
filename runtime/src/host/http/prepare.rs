//! From what a guest asks for to what is sent: checked, granted, with its credentials filled in.
//!
//! Pure: nothing here waits or leaves the machine. The order matters. A credential is looked at only after the
//! origin was found granted, so that no refusal tells a plugin more than it may know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use http_body_util::Full;
use url::Url;

use super::granted::{self, Shown};
use super::origin::Origin;
use super::{Credential, Error, Request, Target};
use crate::host::grant::{Credentials, Grant};
use crate::words::attempt::CallRecord;
use crate::words::limits;

/// A request that may be sent as it stands.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) request: http::Request<Full<Bytes>>,
    pub(super) body_bytes: u64,
    pub(super) has_credentials: bool,
    /// The place of what grants it among the origins of the grant.
    pub(super) granted: usize,
}

/// Fills in `record` as far as it gets: a refused call is in the history too.
pub(super) fn prepare(grant: &Grant, request: Request, record: &mut CallRecord) -> Result<Prepared, Error> {
    let method = method(&request.method)?;
    check_key(request.key.as_deref())?;
    let is_secret_url = matches!(request.target, Target::SecretUrl(_));
    let (url, origin, granted) = target(grant, &method, request.target, record)?;
    let draft = Draft {
        origin,
        url,
        granted,
        headers: headers(&request.headers)?,
        body: request.body.unwrap_or_default(),
    };
    if request.credentials.len() > limits::HTTP_CREDENTIALS_MAX {
        return Err(invalid(format!("more than {} credentials", limits::HTTP_CREDENTIALS_MAX)));
    }
    let has_credentials = is_secret_url || !request.credentials.is_empty();
    let draft = request
        .credentials
        .into_iter()
        .try_fold(draft, |draft, credential| draft.fill_in(&grant.credentials, credential, record))?;
    draft.finish(method, has_credentials)
}

fn method(text: &str) -> Result<Method, Error> {
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| invalid("the method is no token"))?;
    // A tunnel would reach past the grants; an echo of headers would hand back what the host filled in.
    if text.len() > limits::HTTP_METHOD_BYTES_MAX || is_never_sent(text) {
        return Err(Error::Denied(format!("method {} is not sent", method.as_str())));
    }
    Ok(method)
}

pub(super) fn is_never_sent(method: &str) -> bool {
    ["CONNECT", "TRACE", "TRACK"].contains(&method)
}

fn check_key(key: Option<&str>) -> Result<(), Error> {
    match key {
        Some("") => Err(invalid("an empty key names no call")),
        Some(key) if key.len() > limits::HTTP_KEY_BYTES_MAX => {
            Err(invalid(format!("a key is at most {} bytes", limits::HTTP_KEY_BYTES_MAX)))
        }
        _ => Ok(()),
    }
}

fn target(
    grant: &Grant,
    method: &Method,
    target: Target,
    record: &mut CallRecord,
) -> Result<(Url, Origin, usize), Error> {
    let find = |at: (&Url, &Origin), shown| {
        granted::find(&grant.origins, &grant.handler, method, at, shown).map_err(Error::Denied)
    };
    match target {
        Target::Url(text) => {
            let (url, origin) = parse(&text)?;
            record.target = format!("{origin}{}", url.path());
            let granted = find((&url, &origin), Shown::Path)?;
            Ok((url, origin, granted))
        }
        Target::SecretUrl(name) => {
            record.target = format!("[secret {}]", clip(&name));
            record.credentials.push(clip(&name));
            let text = grant.credentials.text(&name)?;
            let (url, origin) = parse(text).map_err(|error| match error {
                Error::InvalidRequest(why) => {
                    Error::Denied(format!("secret `{name}` is not a URL to call: {why}"))
                }
                other => other,
            })?;
            record.target = format!("{origin}/[secret {}]", clip(&name));
            let granted = find((&url, &origin), Shown::Secret(&clip(&name)))?;
            grant.credentials.check(&name, &origin)?;
            Ok((url, origin, granted))
        }
    }
}

fn parse(text: &str) -> Result<(Url, Origin), Error> {
    if text.len() > limits::HTTP_URL_BYTES_MAX {
        return Err(invalid(format!("a URL is at most {} bytes", limits::HTTP_URL_BYTES_MAX)));
    }
    let mut url = Url::parse(text).map_err(|error| invalid(format!("the URL does not parse: {error}")))?;
    let origin = Origin::of(&url).map_err(invalid)?;
    url.set_fragment(None);
    // What is dialled is what was granted, also where a dot was written at the end.
    url.set_host(Some(&origin.host().to_string())).map_err(|error| invalid(error.to_string()))?;
    Ok((url, origin))
}

/// Names that the connection, and not the guest, decides. `accept-encoding` is one of them: a compressed answer
/// could carry a secret past the mask.
const FORBIDDEN: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn headers(given: &[(String, String)]) -> Result<HeaderMap, Error> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > limits::HTTP_REQUEST_HEADERS_MAX || bytes > limits::HTTP_HEADERS_BYTES_MAX {
        return Err(Error::RequestTooLarge);
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 4);
    for (name, value) in given {
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| invalid(format!("the value of header `{}` has control characters", clip(name))))?;
        headers.append(header_name(name)?, value);
    }
    Ok(headers)
}

fn header_name(text: &str) -> Result<HeaderName, Error> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| invalid(format!("`{}` is no header name", clip(text))))?;
    if is_set_by_host(&name) {
        return Err(invalid(format!("header `{name}` is set by the host")));
    }
    Ok(name)
}

pub(super) fn is_set_by_host(name: &HeaderName) -> bool {
    FORBIDDEN.contains(&name.as_str())
}

// === credentials ===

struct Draft {
    origin: Origin,
    url: Url,
    granted: usize,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Draft {
    fn fill_in(
        mut self,
        credentials: &Credentials,
        credential: Credential,
        record: &mut CallRecord,
    ) -> Result<Draft, Error> {
        let name = credential.secret().to_owned();
        record.credentials.push(clip(&name));
        let secret = credentials.text(&name)?;
        credentials.check(&name, &self.origin)?;
        match credential {
            Credential::Bearer(_) => {
                self.set_header(header::AUTHORIZATION, &format!("Bearer {secret}"), &name)?
            }
            Credential::Basic { user, .. } => {
                if user.contains(':') {
                    return Err(invalid("the user of a basic credential has no `:`"));
                }
                let pair = STANDARD.encode(format!("{user}:{secret}"));
                self.set_header(header::AUTHORIZATION, &format!("Basic {pair}"), &name)?;
            }
            Credential::Header { header, .. } => self.set_header(header_name(&header)?, secret, &name)?,
            Credential::Query { parameter, .. } => self.add_parameter(&parameter, secret)?,
            Credential::Form { field, .. } => self.add_field(&field, secret)?,
        }
        Ok(self)
    }

    fn set_header(&mut self, header: HeaderName, value: &str, secret: &str) -> Result<(), Error> {
        if self.headers.contains_key(&header) {
            return Err(invalid(format!(
                "header `{header}` is set twice: by the plugin and as a credential"
            )));
        }
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            Error::Denied(format!("secret `{secret}` has control characters and cannot be sent in a header"))
        })?;
        value.set_sensitive(true);
        self.headers.insert(header, value);
        Ok(())
    }

    fn add_parameter(&mut self, parameter: &str, secret: &str) -> Result<(), Error> {
        if self.url.query_pairs().any(|(name, _)| name == parameter) {
            return Err(invalid(format!("query parameter `{}` is in the URL already", clip(parameter))));
        }
        self.url.query_pairs_mut().append_pair(parameter, secret);
        Ok(())
    }

    fn add_field(&mut self, field: &str, secret: &str) -> Result<(), Error> {
        const FORM: &str = "application/x-www-form-urlencoded";
        match self.headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) {
            Some(Ok(given))
                if given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(FORM) => {}
            Some(_) => return Err(invalid(format!("a form credential needs content-type {FORM}"))),
            None => {
                self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
            }
        }
        if url::form_urlencoded::parse(&self.body).any(|(name, _)| name == field) {
            return Err(invalid(format!("form field `{}` is in the body already", clip(field))));
        }
        if !self.body.is_empty() {
            self.body.push(b'&');
        }
        let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair(field, secret).finish();
        self.body.extend_from_slice(pair.as_bytes());
        Ok(())
    }

    fn finish(mut self, method: Method, has_credentials: bool) -> Result<Prepared, Error> {
        if self.body.len() > limits::HTTP_REQUEST_BYTES_MAX {
            return Err(Error::RequestTooLarge);
        }
        let agent = HeaderValue::from_static(concat!("longshore/", env!("CARGO_PKG_VERSION")));
        self.headers.entry(header::USER_AGENT).or_insert(agent);
        self.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let uri = Uri::try_from(self.url.as_str())
            .map_err(|_| invalid("the URL has characters that cannot be sent"))?;
        let body_bytes = self.body.len() as u64;
        let mut request = http::Request::new(Full::new(Bytes::from(self.body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        Ok(Prepared { request, body_bytes, has_credentials, granted: self.granted })
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::InvalidRequest(why.into())
}

/// A guest's words in an error are short.
fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::grant::tests::grant_with;

    fn grant() -> Grant {
        grant_with(
            &["https://api.example.com", "http://127.0.0.1:8081", "https://hooks.example.com"],
            &[
                ("token", "s3cret token", &["https://api.example.com"]),
                (
                    "webhook",
                    "https://hooks.example.com/services/T0/B0/XYZXYZXYZ\n",
                    &["https://hooks.example.com"],
                ),
                ("elsewhere", "https://evil.example/services", &["https://hooks.example.com"]),
                ("text", "no URL", &["https://hooks.example.com"]),
                ("broken", "two\nlines", &["https://api.example.com"]),
            ],
        )
    }

    fn record() -> CallRecord {
        super::super::new_record(0, &get("https://x.example"))
    }

    fn get(url: &str) -> Request {
        Request {
            method: "GET".into(),
            target: Target::Url(url.into()),
            headers: vec![],
            body: None,
            credentials: vec![],
            timeout: None,
            key: None,
        }
    }

    fn with(credential: Credential) -> Request {
        Request {
            method: "POST".into(),
            credentials: vec![credential],
            ..get("https://api.example.com/v1?a=b#c")
        }
    }

    fn prepared(request: Request) -> Result<http::Request<Full<Bytes>>, Error> {
        prepare(&grant(), request, &mut record()).map(|p| p.request)
    }

    fn header<'a>(request: &'a http::Request<Full<Bytes>>, name: &str) -> &'a str {
        request.headers()[name].to_str().unwrap()
    }

    #[test]
    fn a_granted_call_is_sent_as_asked() {
        let request = Request {
            headers: vec![("X-One".into(), "1".into()), ("x-one".into(), "2".into())],
            ..get("https://api.example.com./v1?a=b#c")
        };
        let sent = prepared(request).unwrap();
        assert_eq!(sent.uri(), "https://api.example.com/v1?a=b");
        assert_eq!(sent.headers().get_all("x-one").iter().count(), 2);
        assert!(header(&sent, "user-agent").starts_with("longshore/"));
        assert_eq!(header(&sent, "accept-encoding"), "identity");
    }

    #[test]
    fn what_is_not_granted_is_denied_with_what_to_type() {
        let mut record = record();
        let denied = prepare(&grant(), get("https://evil.example/path?token=1"), &mut record).unwrap_err();
        let Error::Denied(why) = denied else { panic!("{denied:?}") };
        assert!(why.contains("handlers.h.grants.http: [\"https://evil.example\"]"), "{why}");
        assert_eq!(record.target, "https://evil.example/path");
    }

    #[test]
    fn requests_that_no_grant_allows() {
        let header = |name: &str, value: &str| Request {
            headers: vec![(name.into(), value.into())],
            ..get("https://api.example.com/")
        };
        let method = |method: &str| Request { method: method.into(), ..get("https://api.example.com/") };
        let cases = [
            get("api.example.com"),
            get("https://me@api.example.com/"),
            get("https://me:pw@api.example.com/"),
            get("https://api.example.com:0/"),
            get("file:///etc/passwd"),
            get("data:text/plain,x"),
            header("host", "evil.example"),
            header("Content-Length", "5"),
            header("transfer-encoding", "chunked"),
            header("connection", "close"),
            header("accept-encoding", "gzip"),
            header("bad name", "x"),
            header("", "x"),
            header("x", "a\r\nb: c"),
            method(""),
            method("GET /"),
            Request { key: Some(String::new()), ..get("https://api.example.com/") },
            Request {
                key: Some("k".repeat(limits::HTTP_KEY_BYTES_MAX + 1)),
                ..get("https://api.example.com/")
            },
            get(&format!("https://api.example.com/{}", "a".repeat(limits::HTTP_URL_BYTES_MAX))),
        ];
        for request in cases {
            let shown = format!("{request:?}");
            assert!(matches!(prepared(request), Err(Error::InvalidRequest(_))), "{shown}");
        }
        for refused in ["CONNECT", "TRACE", "AMETHODTHATISTOOLONG"] {
            assert!(matches!(prepared(method(refused)), Err(Error::Denied(_))), "{refused}");
        }
        let large = Request {
            body: Some(vec![0; limits::HTTP_REQUEST_BYTES_MAX + 1]),
            ..get("https://api.example.com/")
        };
        assert!(matches!(prepared(large), Err(Error::RequestTooLarge)));
        let many = Request {
            headers: vec![("x".into(), "y".into()); limits::HTTP_REQUEST_HEADERS_MAX + 1],
            ..get("https://api.example.com/")
        };
        assert!(matches!(prepared(many), Err(Error::RequestTooLarge)));
        let wide = header("x", &"y".repeat(limits::HTTP_HEADERS_BYTES_MAX));
        assert!(matches!(prepared(wide), Err(Error::RequestTooLarge)));
    }

    #[test]
    fn credentials_are_filled_in() {
        let bearer = prepared(with(Credential::Bearer("token".into()))).unwrap();
        assert_eq!(header(&bearer, "authorization"), "Bearer s3cret token");
        assert!(bearer.headers()["authorization"].is_sensitive());

        let basic = Credential::Basic { user: "me".into(), secret: "token".into() };
        assert_eq!(header(&prepared(with(basic)).unwrap(), "authorization"), "Basic bWU6czNjcmV0IHRva2Vu");

        let named = Credential::Header { header: "X-Api-Key".into(), secret: "token".into() };
        assert_eq!(header(&prepared(with(named)).unwrap(), "x-api-key"), "s3cret token");

        let query = Credential::Query { parameter: "key".into(), secret: "token".into() };
        assert_eq!(prepared(with(query)).unwrap().uri(), "https://api.example.com/v1?a=b&key=s3cret+token");

        let form = Credential::Form { field: "secret".into(), secret: "token".into() };
        let sent = prepared(Request { body: Some(b"a=b".to_vec()), ..with(form) }).unwrap();
        assert_eq!(header(&sent, "content-type"), "application/x-www-form-urlencoded");
        assert_eq!(
            format!("{:?}", sent.body()),
            format!("{:?}", Full::new(Bytes::from("a=b&secret=s3cret+token")))
        );
    }

    #[test]
    fn a_credential_cannot_be_doubled_or_smuggled() {
        let cases = [
            Request {
                headers: vec![("Authorization".into(), "Bearer mine".into())],
                ..with(Credential::Bearer("token".into()))
            },
            with(Credential::Query { parameter: "a".into(), secret: "token".into() }),
            with(Credential::Basic { user: "a:b".into(), secret: "token".into() }),
            with(Credential::Header { header: "host".into(), secret: "token".into() }),
            Request {
                headers: vec![("content-type".into(), "application/json".into())],
                ..with(Credential::Form { field: "x".into(), secret: "token".into() })
            },
            Request {
                body: Some(b"x=1".to_vec()),
                ..with(Credential::Form { field: "x".into(), secret: "token".into() })
            },
            Request {
                credentials: vec![Credential::Bearer("token".into()); limits::HTTP_CREDENTIALS_MAX + 1],
                ..get("https://api.example.com/")
            },
        ];
        for request in cases {
            let shown = format!("{request:?}");
            assert!(matches!(prepared(request), Err(Error::InvalidRequest(_))), "{shown}");
        }
    }

    #[test]
    fn a_secret_goes_only_where_it_is_bound() {
        let elsewhere = Request {
            target: Target::Url("http://127.0.0.1:8081/".into()),
            ..with(Credential::Bearer("token".into()))
        };
        let unknown = with(Credential::Bearer("nobody".into()));
        let broken = with(Credential::Bearer("broken".into()));
        for (request, expected) in [
            (elsewhere, "handlers.h.secrets.token.to: [\"http://127.0.0.1:8081\"]"),
            (unknown, "handlers.h.secrets.nobody"),
            (broken, "control characters"),
        ] {
            let Err(Error::Denied(why)) = prepared(request) else { panic!("sent") };
            assert!(why.contains(expected), "{why}");
            assert!(!why.contains("s3cret") && !why.contains("two"), "{why}");
        }
    }

    #[test]
    fn a_secret_url_stays_secret() {
        let secret = |name: &str| Request { target: Target::SecretUrl(name.into()), ..get("") };
        let mut record = record();
        let sent = prepare(&grant(), secret("webhook"), &mut record).unwrap();
        assert_eq!(sent.request.uri(), "https://hooks.example.com/services/T0/B0/XYZXYZXYZ");
        assert_eq!(record.target, "https://hooks.example.com/[secret webhook]");
        assert_eq!(record.credentials, ["webhook"]);
        for name in ["elsewhere", "text", "nobody"] {
            let Err(Error::Denied(why)) = prepared(secret(name)) else { panic!("{name} was sent") };
            assert!(!why.contains("services"), "{why}");
        }
    }

    proptest! {
        /// Whatever a guest writes: what leaves goes to a granted origin, or nothing leaves.
        #[test]
        fn nothing_leaves_for_an_origin_that_is_not_granted(url in "(https?://)?[a-z@:.\\\\/%#?0-9\\[\\]]{0,40}") {
            let request = get(&url);
            if let Ok(sent) = prepared(request) {
                let uri = sent.uri();
                prop_assert!(["api.example.com", "hooks.example.com", "127.0.0.1"].contains(&uri.host().unwrap()), "{uri}");
            }
        }
    }
}
