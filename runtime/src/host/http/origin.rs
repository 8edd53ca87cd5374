//! Origin: scheme, host and port of a URL, and the patterns by which an operator grants them.
//!
//! A grant is `https://api.example.com`, `http://127.0.0.1:8081` or `https://*.example.com`. The wildcard stands
//! for one or more labels, never for the domain itself, never for an address, and only with https: plain HTTP
//! is granted host by host.

use std::fmt;

use url::{Host, Url};

/// Where one URL leads. The host is as the `url` crate normalises it: `0x7f.1` is `127.0.0.1` here already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) struct Origin {
    scheme: Scheme,
    host: Host<String>,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// What an operator grants and binds secrets to, and what a manifest asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum Pattern {
    Exact(Origin),
    /// Every host that ends in `.suffix`.
    Below {
        suffix: String,
        port: u16,
    },
}

impl Origin {
    /// # Errors
    /// Why the URL cannot be called at all, granted or not. The text quotes nothing of the URL: it may be secret.
    pub(in crate::host) fn of(url: &Url) -> Result<Origin, &'static str> {
        let scheme = Scheme::of(url).ok_or("the scheme is neither https nor http")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL with a user or password is not sent; use a credential");
        }
        let host = without_dot(url.host().ok_or("the URL names no host")?.to_owned());
        if matches!(&host, Host::Domain(name) if name.is_empty()) {
            return Err("the URL names no host");
        }
        match url.port_or_known_default() {
            None | Some(0) => Err("port 0 is no port"),
            Some(port) => Ok(Origin { scheme, host, port }),
        }
    }

    /// Where a text leads that may be a URL.
    pub(in crate::host) fn of_text(text: &str) -> Option<Origin> {
        Origin::of(&Url::parse(text).ok()?).ok()
    }

    pub(super) fn host(&self) -> &Host<String> {
        &self.host
    }
}

impl Pattern {
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub(in crate::host) fn parse(text: &str) -> Result<Pattern, String> {
        let (wildcard, plain) = match text.split_once("://*.") {
            Some((scheme, rest)) => (true, format!("{scheme}://{rest}")),
            None => (false, text.to_owned()),
        };
        if plain.contains('*') {
            return Err(format!(
                "`{text}`: `*` stands for the first labels only, as in https://*.example.com"
            ));
        }
        let url = Url::parse(&plain).map_err(|e| {
            format!("`{text}` is no origin ({e}); write scheme and host, as in https://api.example.com")
        })?;
        let origin = Origin::of(&url).map_err(|why| format!("`{text}`: {why}"))?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("`{text}` is more than an origin; write {origin}"));
        }
        if !wildcard {
            return Ok(Pattern::Exact(origin));
        }
        match origin {
            Origin { scheme: Scheme::Http, .. } => {
                Err(format!("`{text}`: plain HTTP is granted host by host; name the host, or use https"))
            }
            Origin { host: Host::Domain(suffix), port, .. } if suffix.contains('.') => {
                Ok(Pattern::Below { suffix, port })
            }
            _ => Err(format!("`{text}` is too wide; name a domain of two labels or more")),
        }
    }

    pub(in crate::host) fn matches(&self, origin: &Origin) -> bool {
        match self {
            Pattern::Exact(granted) => granted == origin,
            Pattern::Below { suffix, port } => {
                let Host::Domain(host) = &origin.host else { return false };
                let below = host.strip_suffix(suffix.as_str()).and_then(|rest| rest.strip_suffix('.'));
                origin.scheme == Scheme::Https && origin.port == *port && below.is_some_and(|b| !b.is_empty())
            }
        }
    }

    /// Whether everything that `wanted` matches is matched by this one too.
    pub(in crate::host) fn covers(&self, wanted: &Pattern) -> bool {
        match wanted {
            Pattern::Exact(origin) => self.matches(origin),
            Pattern::Below { suffix, port } => match self {
                Pattern::Exact(_) => false,
                Pattern::Below { suffix: ours, port: our_port } => {
                    let below = suffix.strip_suffix(ours.as_str());
                    our_port == port && below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                }
            },
        }
    }
}

impl Scheme {
    fn of(url: &Url) -> Option<Scheme> {
        match url.scheme() {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        }
    }
}

/// `example.com.` is `example.com`: the same name, written absolutely.
fn without_dot(host: Host<String>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').map(str::to_owned).unwrap_or(name)),
        address => address,
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = match self.scheme {
            Scheme::Http => ("http", 80),
            Scheme::Https => ("https", 443),
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Exact(origin) => origin.fmt(f),
            Pattern::Below { suffix, port: 443 } => write!(f, "https://*.{suffix}"),
            Pattern::Below { suffix, port } => write!(f, "https://*.{suffix}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grants(pattern: &str, url: &str) -> bool {
        let url = Url::parse(url).unwrap();
        Origin::of(&url).is_ok_and(|origin| Pattern::parse(pattern).unwrap().matches(&origin))
    }

    #[test]
    fn a_grant_matches_its_origin_and_no_other() {
        let cases = [
            ("https://api.example.com", "https://api.example.com/v1?x=1", true),
            ("https://api.example.com", "https://API.Example.COM./v1", true),
            ("https://api.example.com", "https://api.example.com:443/", true),
            ("https://api.example.com", "https://api.example.com:8443/", false),
            ("https://api.example.com", "http://api.example.com/", false),
            ("https://api.example.com", "https://api.example.com.evil.test/", false),
            ("https://api.example.com", "https://xapi.example.com/", false),
            ("https://api.example.com", "https://api.example.com@evil.test/", false),
            ("https://api.example.com", "https://evil.test/https://api.example.com", false),
            ("https://api.example.com", "https://evil.test\\@api.example.com/", false),
            ("https://*.example.com", "https://a.example.com/", true),
            ("https://*.example.com", "https://a.b.example.com/", true),
            ("https://*.example.com", "https://example.com/", false),
            ("https://*.example.com", "https://.example.com/", false),
            ("https://*.example.com", "https://badexample.com/", false),
            ("https://*.example.com", "http://a.example.com/", false),
            ("https://*.example.com:8443", "https://a.example.com:8443/", true),
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081/x", true),
            ("http://127.0.0.1:8081", "http://2130706433:8081/x", true),
            ("http://127.0.0.1:8081", "http://0x7f.1:8081/x", true),
            ("http://127.0.0.1:8081", "http://127.0.0.1:8082/x", false),
            ("http://[::1]:80", "http://[0:0:0:0:0:0:0:1]/", true),
            ("https://bücher.example", "https://xn--bcher-kva.example/", true),
        ];
        for (pattern, url, expected) in cases {
            assert_eq!(grants(pattern, url), expected, "{pattern} {url}");
        }
    }

    #[test]
    fn bad_origins_say_what_to_write() {
        let cases = [
            ("api.example.com", "write scheme and host"),
            ("https://", "is no origin"),
            ("https://api.example.com/v1", "write https://api.example.com"),
            ("https://api.example.com?x", "write https://api.example.com"),
            ("ftp://api.example.com", "neither https nor http"),
            ("https://me:pw@api.example.com", "use a credential"),
            ("https://api.example.com:0", "port 0"),
            ("https://*", "`*` stands for"),
            ("https://*.com", "too wide"),
            ("https://a.*.com", "`*` stands for"),
            ("https://*.*.example.com", "`*` stands for"),
            ("https://*.0.0.1", "too wide"),
            ("http://*.example.com", "plain HTTP is granted host by host"),
        ];
        for (text, expected) in cases {
            let refused = Pattern::parse(text).unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_matches() {
        let covers = |granted: &str, wanted: &str| {
            Pattern::parse(granted).unwrap().covers(&Pattern::parse(wanted).unwrap())
        };
        assert!(covers("https://*.example.com", "https://a.example.com"));
        assert!(covers("https://*.example.com", "https://*.example.com"));
        assert!(covers("https://*.example.com", "https://*.a.example.com"));
        assert!(!covers("https://*.a.example.com", "https://*.example.com"));
        assert!(!covers("https://*.example.com", "https://*.badexample.com"));
        assert!(!covers("https://a.example.com", "https://*.example.com"));
    }

    proptest! {
        #[test]
        fn an_origin_reads_back(host in "[a-z][a-z0-9]{0,8}(\\.[a-z][a-z0-9]{0,8}){0,3}", port in 1u16.., https: bool) {
            let scheme = if https { "https" } else { "http" };
            let pattern = Pattern::parse(&format!("{scheme}://{host}:{port}")).unwrap();
            prop_assert_eq!(Pattern::parse(&pattern.to_string()).unwrap(), pattern);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = Pattern::parse(&text);
        }

        /// Whatever a wildcard matches ends in its suffix and has something before it.
        #[test]
        fn a_wildcard_stays_below_its_domain(host in "[a-z.*0-9-]{1,30}") {
            if let Ok(url) = Url::parse(&format!("https://{host}/"))
                && let Ok(origin) = Origin::of(&url)
                && Pattern::parse("https://*.example.com").unwrap().matches(&origin)
            {
                let name = url.host_str().unwrap().trim_end_matches('.');
                prop_assert!(name.ends_with(".example.com") && name.len() > ".example.com".len());
            }
        }
    }
}
