//! Daemon: the running daemon, asked over the socket in its data directory.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::failure::Failure;
use super::{ConfigFiles, Result, setup};
use crate::admin::{SOCKET_NAME, socket, view};
use crate::words::limits;

/// Which daemon is meant.
#[derive(Clone, Debug, Args)]
pub(super) struct Place {
    #[command(flatten)]
    pub(super) files: ConfigFiles,
    /// The daemon's data directory, instead of reading `store.path` from the configuration.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Place {
    pub(super) fn data_dir(&self) -> Result<PathBuf> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => setup::data_dir(&self.files.config),
        }
    }

    /// A directory was named, and not a configuration: it may be a copy that no daemon has.
    pub(super) fn names_data(&self) -> bool {
        self.data_dir.is_some()
    }

    pub(super) async fn connect(&self) -> Result<Daemon> {
        Daemon::connect(&self.data_dir()?.join(SOCKET_NAME), &self.run_command()).await
    }

    /// What starts the daemon that is meant.
    pub(super) fn run_command(&self) -> String {
        let command = setup::run_command(&self.files.config);
        match &self.data_dir {
            Some(dir) => format!("{command} --data-dir {}", dir.display()),
            None => command,
        }
    }
}

/// An open connection. Requests go one after another.
pub(super) struct Daemon {
    path: PathBuf,
    run_command: String,
    answer_bytes_max: usize,
    http: SendRequest<Empty<Bytes>>,
}

impl Daemon {
    pub(super) async fn connect(path: &Path, run_command: &str) -> Result<Daemon> {
        let absent = |e: io::Error| unreachable(path, run_command, &e);
        let stream = socket::connect(path).await.map_err(absent)?;
        let (http, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| absent(io::Error::other(e)))?;
        // Ends with the connection; its error comes out of the next request.
        tokio::spawn(connection);
        Ok(Daemon {
            path: path.to_owned(),
            run_command: run_command.to_owned(),
            answer_bytes_max: limits::API_ANSWER_BYTES_MAX,
            http,
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str, query: &Query) -> Result<T> {
        let answer = self.ask(Method::GET, &query.after(path)).await?;
        answer.read()
    }

    pub(super) async fn post<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        let answer = self.ask(Method::POST, path).await?;
        answer.read()
    }

    pub(super) async fn post_with<T: DeserializeOwned>(&mut self, path: &str, query: &Query) -> Result<T> {
        let answer = self.ask(Method::POST, &query.after(path)).await?;
        answer.read()
    }

    /// Hands on an answer as it comes, however long it is.
    pub(super) async fn stream(
        &mut self,
        path: &str,
        query: &Query,
        mut to: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let response = self.send(Method::GET, &query.after(path)).await?;
        let status = response.status();
        if !status.is_success() {
            let body = Limited::new(response.into_body(), self.answer_bytes_max).collect().await;
            let body = body.map_err(|e| Failure::failed(e.to_string()))?.to_bytes();
            return Err(Answer { status, body }.problem());
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|e| Failure::failed(format!("the daemon broke off: {e}; its log says why")))?;
            frame.data_ref().map_or(Ok(()), |data| to(data))?;
        }
        Ok(())
    }

    async fn ask(&mut self, method: Method, target: &str) -> Result<Answer> {
        let response = self.send(method, target).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), self.answer_bytes_max).collect().await;
        let body = body.map_err(|e| self.lost(&e))?.to_bytes();
        Ok(Answer { status, body })
    }

    fn lost(&self, e: &dyn std::fmt::Display) -> Failure {
        unreachable(&self.path, &self.run_command, &io::Error::other(e.to_string()))
    }

    async fn send(&mut self, method: Method, target: &str) -> Result<http::Response<hyper::body::Incoming>> {
        let request = Request::builder().method(method).uri(target).header(http::header::HOST, "longshore");
        let request = request.body(Empty::new()).map_err(|e| Failure::failed(e.to_string()))?;
        let ready = self.http.ready().await;
        ready.map_err(|e| self.lost(&e))?;
        let sent = self.http.send_request(request).await;
        sent.map_err(|e| self.lost(&e))
    }
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    fn read<T: DeserializeOwned>(&self) -> Result<T> {
        if !self.status.is_success() {
            return Err(self.problem());
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            Failure::failed(format!(
                "the daemon answers in another way than this command understands: {e}; use the same version of both"
            ))
        })
    }

    fn problem(&self) -> Failure {
        match serde_json::from_slice::<view::Problem>(&self.body) {
            Ok(problem) => Failure::Failed { message: problem.error, type_this: problem.type_this },
            Err(_) => Failure::failed(format!("the daemon answers {}", self.status)),
        }
    }
}

fn unreachable(path: &Path, run_command: &str, error: &io::Error) -> Failure {
    let at = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::failed(format!("`{at}` is not yours to open: ask as the user that runs the daemon"))
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::NoDaemon {
            message: format!("no daemon answers at {at}"),
            type_this: run_command.to_owned(),
        },
        _ => Failure::NoDaemon {
            message: format!("the daemon at {at} hung up: {error}"),
            type_this: run_command.to_owned(),
        },
    }
}

/// The part of a target after `?`.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    pub(super) fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Query {
        self.0.extend(value.map(|value| (name, value.to_string())));
        self
    }

    fn after(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        format!("{path}?{query}")
    }
}

/// Stands in for a daemon: what it answers to each `METHOD target`, and what it was asked.
#[cfg(test)]
pub(super) mod fake {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tempfile::TempDir;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    pub(in crate::cli) struct Fake {
        pub(in crate::cli) daemon: Daemon,
        asked: Arc<Mutex<Vec<String>>>,
        _folder: TempDir,
    }

    impl Fake {
        pub(in crate::cli) async fn answering(
            answers: impl FnMut(&str) -> (u16, Value) + Send + 'static,
        ) -> Fake {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(SOCKET_NAME);
            let listener = UnixListener::bind(&path).unwrap();
            let asked = Arc::default();
            tokio::spawn(serve(listener, answers, Arc::clone(&asked)));
            let daemon = Daemon::connect(&path, "longshore run").await.unwrap();
            Fake { daemon, asked, _folder: folder }
        }

        pub(in crate::cli) fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    async fn serve(
        listener: UnixListener,
        mut answers: impl FnMut(&str) -> (u16, Value),
        asked: Arc<Mutex<Vec<String>>>,
    ) {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        while let Some(question) = question(&mut stream).await {
            let (status, body) = answers(&question);
            asked.lock().unwrap().push(question);
            let body = body.to_string();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    async fn question(stream: &mut BufReader<UnixStream>) -> Option<String> {
        let mut first = String::new();
        stream.read_line(&mut first).await.ok().filter(|&n| n > 0)?;
        let mut header = String::new();
        while stream.read_line(&mut header).await.unwrap() > 2 {
            header.clear();
        }
        Some(first.trim_end().trim_end_matches(" HTTP/1.1").to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_daemon_says_what_to_type_and_ends_with_3() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET_NAME);
        let failure = Daemon::connect(&path, "longshore run --config a.yaml").await.err().unwrap();
        assert_eq!(failure.exit_code(), 3);
        assert_eq!(
            failure.to_string(),
            format!("no daemon answers at {}\n  type: longshore run --config a.yaml", path.display())
        );
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_it() {
        let mut fake = fake::Fake::answering(|_| (200, "x".repeat(100).into())).await;
        fake.daemon.answer_bytes_max = 50;
        let failure = fake.daemon.get::<String>("/stat", &Query::default()).await.unwrap_err();
        assert!(failure.to_string().contains("length limit exceeded"), "{failure}");
    }

    #[test]
    fn queries_are_encoded() {
        let query =
            Query::default().with("id", Some("a b&c")).with("type", None::<String>).with("limit", Some(5));
        assert_eq!(query.after("/events"), "/events?id=a+b%26c&limit=5");
        assert_eq!(Query::default().after("/stat"), "/stat");
    }

    #[test]
    fn a_problem_is_told_in_its_own_words() {
        let body = Bytes::from(r#"{"error":"no event `1f`","type_this":"longshore events list"}"#);
        let failure = Answer { status: StatusCode::NOT_FOUND, body }.read::<String>().unwrap_err();
        assert_eq!(failure.to_string(), "no event `1f`\n  type: longshore events list");
        let failure =
            Answer { status: StatusCode::BAD_GATEWAY, body: Bytes::new() }.read::<String>().unwrap_err();
        assert_eq!(failure.to_string(), "the daemon answers 502 Bad Gateway");
    }
}
