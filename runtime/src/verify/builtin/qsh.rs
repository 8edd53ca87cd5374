//! Qsh: the query string hash of Atlassian Connect, over a request in one spelling.
//! <https://developer.atlassian.com/cloud/bitbucket/query-string-hash/> (2026-01)
//!
//! `METHOD&/path&a=1&b=2,3`: the path counts from the app's base URL, parameters are sorted, the values of one name
//! are sorted and joined with a comma, everything is percent-encoded anew, and the parameter `jwt` is left out.

use std::collections::BTreeMap;

use super::super::{Refused, Request};
use super::{form, hash};

/// `base`: the path of the app's base URL; empty where that is a host alone.
pub(super) fn hash_of(request: &Request<'_>, base: &str) -> Result<[u8; 32], Refused> {
    canonical(request, base).map(|text| hash::sha256(text.as_bytes()))
}

fn canonical(request: &Request<'_>, base: &str) -> Result<String, Refused> {
    if request.url.is_empty() {
        return Err(Refused::Malformed("the scheme signs the URL; set `public_url` of the source".into()));
    }
    let method = request.method.to_ascii_uppercase();
    Ok(format!("{method}&{}&{}", path(request.url, base), query(request.query.unwrap_or_default())?))
}

fn path(url: &str, base: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let whole = rest.find('/').map_or("", |at| &rest[at..]);
    let below = whole.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let trimmed = below.unwrap_or(whole).trim_end_matches('/');
    if trimmed.is_empty() { "/".to_owned() } else { trimmed.replace('&', "%26") }
}

fn query(query: &str) -> Result<String, Refused> {
    let pairs =
        form::pairs(query.as_bytes()).map_err(|why| Refused::Malformed(format!("the query has {why}")))?;
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs.iter().filter(|(name, _)| name != b"jwt") {
        values.entry(form::percent_encoded(name)).or_default().push(form::percent_encoded(value));
    }
    let parts = values.into_iter().map(|(name, mut values)| {
        values.sort_unstable();
        format!("{name}={}", values.join(","))
    });
    Ok(parts.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn request<'a>(method: &'a str, url: &'a str, headers: &'a HeaderMap) -> Request<'a> {
        let query = url.split_once('?').map(|(_, query)| query);
        Request { method, url, query, headers, body: b"" }
    }

    fn canonical_of(method: &str, url: &str, base: &str) -> String {
        canonical(&request(method, url, &HeaderMap::new()), base).unwrap()
    }

    /// The examples of Atlassian's page.
    #[test]
    fn a_request_has_one_spelling() {
        for (method, url, base, expected) in [
            ("GET", "https://a.example/?param=foo", "", "GET&/&param=foo"),
            ("post", "https://a.example/user", "", "POST&/user&"),
            ("GET", "https://a.example/jira-connector", "/jira-connector", "GET&/&"),
            ("GET", "https://a.example/jira-connector/issue", "/jira-connector", "GET&/issue&"),
            ("GET", "https://a.example/jira-connector/issue/", "/jira-connector", "GET&/issue&"),
            ("GET", "https://a.example/jira-connectors", "/jira-connector", "GET&/jira-connectors&"),
            ("GET", "https://a.example/a&b", "", "GET&/a%26b&"),
            ("GET", "https://a.example", "", "GET&/&"),
            ("GET", "https://a.example/p?b=2&a=x+y&b=1&jwt=t&c", "", "GET&/p&a=x%20y&b=1,2&c="),
            ("GET", "https://a.example/p?a=%5e*~%C3%A9,", "", "GET&/p&a=%5E%2A~%C3%A9%2C"),
        ] {
            assert_eq!(canonical_of(method, url, base), expected, "{url}");
        }
    }

    /// From a token that Jira sent (<https://gist.github.com/moskrc/8453971>, 2014).
    #[test]
    fn the_hash_is_the_one_that_jira_sent() {
        let url = "http://localhost/addon/?lic=none&tz=Europe%2FMoscow&cp=%2Fjira&user_key=admin&loc=en-US\
                   &user_id=admin&jwt=a.b.c&xdm_e=http%3A%2F%2Flocalhost%3A2990&xdm_c=channel-servlet-click-me&xdm_p=1";
        let hash = hash_of(&request("GET", url, &HeaderMap::new()), "").unwrap();
        assert_eq!(hex::encode(hash), "3a6ff1b66f60eb275d0e4cb6be4261d5d3b0216b91c58dc6524509227ef346de");
    }

    #[test]
    fn without_a_registered_url_there_is_nothing_to_compare() {
        let headers = HeaderMap::new();
        assert!(hash_of(&Request { url: "", ..request("GET", "", &headers) }, "").is_err());
    }
}
