//! A request as a stand-in judges it, and the answer it gives.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn new(parts: &Parts, body: Bytes) -> Request {
        Request {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: headers(parts),
            body,
        }
    }

    /// The media type without its parameters, lower-case; `None` where the header is missing.
    pub(crate) fn media_type(&self) -> Option<String> {
        let value = self.headers.get(header::CONTENT_TYPE.as_str())?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// The token of `Authorization: Bearer …`.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.headers.get(header::AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// A repeated header is one line here, its values joined as RFC 9110 allows.
fn headers(parts: &Parts) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.to_string())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    headers
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, body: &str) -> Answer {
        let headers = vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        Answer { status, headers, body: body.to_owned() }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Answer {
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Answer { status, headers, body: body.to_string() }
    }

    /// The response, or what is wrong with it: a fault may have asked for a header that is none.
    pub(crate) fn response(&self) -> Result<Response, String> {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).map_err(|_| format!("{} is not a status", self.status))?;
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).map_err(|_| format!("`{name}` is not a header name"))?;
            let value =
                HeaderValue::try_from(value).map_err(|_| format!("`{value}` is not a header value"))?;
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.response().unwrap_or_else(|why| (StatusCode::INTERNAL_SERVER_ERROR, why).into_response())
    }
}
