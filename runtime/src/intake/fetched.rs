//! Fetched: the keys of one source that are not configured but named by its requests, and fetched from the one host
//! that has them.
//!
//! A request can name any key it likes, before anything is proved. So one question is under way for each name, a name
//! that the host does not know is remembered as such, the questions of a source have a rate, and what is remembered
//! has a bound. Whatever goes wrong, the request is refused: with 401 where the host says that there is no such key,
//! with 503 where that cannot be said.
//!
//! How a question leaves is handed in (`Outward`): the vetted way out is another room's.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use super::refusal::Refused;
use crate::verify::{Ask, Key, NoKey, Scheme, Wanted};
use crate::words::limits::{
    KEY_ABSENT_REMEMBERED, KEY_FAILURE_REMEMBERED, KEY_FETCH_EVERY, KEY_FETCH_TIMEOUT, KEY_FETCHES_BURST,
    KEYS_REMEMBERED_MAX,
};
use crate::words::secret::Secret;
use crate::words::time::Millis;

/// The way out to a pinned host: over TLS alone, to public addresses alone, following nothing.
pub trait Outward: Send + Sync {
    /// One request and its whole answer, or why there is none, in words.
    fn send(&self, ask: Ask) -> Pin<Box<dyn Future<Output = Result<Answered, String>> + Send + '_>>;
}

/// An answer of at most `KEY_ANSWER_BYTES_MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub status: u16,
    pub body: Vec<u8>,
}

/// What a source has for asking, where its scheme asks.
#[derive(Clone)]
pub struct Fetch {
    pub out: Arc<dyn Outward>,
    /// What the host of the keys wants to know us by, by the names that the scheme gives them.
    pub credentials: BTreeMap<String, Secret>,
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("credentials", &self.credentials.keys()).finish_non_exhaustive()
    }
}

/// Everything that one source has learnt.
pub(super) struct Fetched {
    source_name: String,
    state: Mutex<State>,
}

struct State {
    known: HashMap<String, Known>,
    /// Questions that may be asked at once, and since when that is so.
    tokens: f64,
    at: Instant,
}

enum Known {
    /// A question is under way; its answer comes here.
    Asked(watch::Receiver<Option<Found>>),
    Until(Instant, Found),
}

type Found = Result<Arc<Key>, NoKey>;

impl Fetched {
    pub(super) fn new(source_name: &str) -> Arc<Fetched> {
        let state = State { known: HashMap::new(), tokens: f64::from(KEY_FETCHES_BURST), at: Instant::now() };
        Arc::new(Fetched { source_name: source_name.to_owned(), state: Mutex::new(state) })
    }

    /// The key, from memory or from its host. What is waited for is answered to all who wait, and goes on where one of
    /// them does not wait any longer.
    pub(super) async fn key(
        self: &Arc<Self>,
        scheme: &Arc<impl Learns>,
        fetch: &Fetch,
        wanted: Wanted,
        by: Instant,
    ) -> Result<Arc<Key>, Refused> {
        let mut answer = match self.known_or_asked(scheme, fetch, &wanted)? {
            Known::Until(_, found) => return self.told(found),
            Known::Asked(answer) => answer,
        };
        let found = match timeout_at(by, answer.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.clone(),
            Ok(Err(_)) => None,
            Err(_) => Some(Err(NoKey::Unavailable("its host did not answer in time".into()))),
        };
        self.told(found.unwrap_or_else(|| Err(NoKey::Unavailable("it could not be asked for".into()))))
    }

    fn told(&self, found: Found) -> Result<Arc<Key>, Refused> {
        found.map_err(|why| match why {
            NoKey::Unknown(why) => Refused::Signature(crate::verify::Refused::UnknownKey(why)),
            NoKey::Unavailable(why) => Refused::Keys(why),
        })
    }

    fn known_or_asked(
        self: &Arc<Self>,
        scheme: &Arc<impl Learns>,
        fetch: &Fetch,
        wanted: &Wanted,
    ) -> Result<Known, Refused> {
        let name = format!("{} {}", wanted.url, wanted.key_id);
        let now = Instant::now();
        let mut state = self.lock();
        match state.known.get(&name) {
            Some(Known::Until(until, found)) if now < *until => {
                return Ok(Known::Until(*until, found.clone()));
            }
            Some(Known::Asked(answer)) if answer.has_changed().is_ok() => {
                return Ok(Known::Asked(answer.clone()));
            }
            _ => {}
        }
        let ask = scheme.scheme().ask(wanted, &fetch.credentials).map_err(Refused::Keys)?;
        state.make_room(&name, now)?;
        state.take(now)?;
        let (answer, found) = watch::channel(None);
        state.known.insert(name.clone(), Known::Asked(found.clone()));
        drop(state);
        let (this, scheme, fetch, wanted) =
            (Arc::clone(self), Arc::clone(scheme), fetch.clone(), wanted.clone());
        tokio::spawn(async move {
            let found = this.ask(scheme.scheme(), &fetch, &wanted, ask).await;
            this.remember(name, &wanted, &found);
            let _ = answer.send(Some(found));
        });
        Ok(Known::Asked(found))
    }

    async fn ask(&self, scheme: &Scheme, fetch: &Fetch, wanted: &Wanted, ask: Ask) -> Found {
        let (source, url, key_id) = (&self.source_name, &wanted.url, &wanted.key_id);
        let answered = match timeout(KEY_FETCH_TIMEOUT, fetch.out.send(ask)).await {
            Ok(answered) => answered.map_err(NoKey::Unavailable),
            Err(_) => Err(NoKey::Unavailable("its host did not answer in time".into())),
        };
        let found = answered
            .and_then(|answered| scheme.learn(wanted, answered.status, &answered.body, Millis::now()));
        match &found {
            Ok(key) => info!(source, url, key_id, fingerprint = %key.fingerprint, "a key was fetched"),
            Err(NoKey::Unknown(why)) => {
                info!(source, url, key_id, why, "a request named a key that there is not")
            }
            Err(NoKey::Unavailable(why)) => warn!(source, url, key_id, why, "a key cannot be fetched"),
        }
        found.map(Arc::new)
    }

    fn remember(&self, name: String, wanted: &Wanted, found: &Found) {
        let span = match found {
            Ok(_) => wanted.lifetime,
            Err(NoKey::Unknown(_)) => KEY_ABSENT_REMEMBERED,
            Err(NoKey::Unavailable(_)) => KEY_FAILURE_REMEMBERED,
        };
        self.lock().known.insert(name, Known::Until(Instant::now() + span, found.clone()));
    }

    /// Visits a URL that a genuine request asks to have visited.
    pub(super) async fn visit(&self, fetch: &Fetch, ask: Ask, by: Instant) -> Result<(), Refused> {
        self.lock().take(Instant::now())?;
        let by = by.min(Instant::now() + KEY_FETCH_TIMEOUT);
        let why = match timeout_at(by, fetch.out.send(ask)).await {
            Ok(Ok(Answered { status: 200..=299, .. })) => return Ok(()),
            Ok(Ok(Answered { status, .. })) => format!("the answer was {status}"),
            Ok(Err(why)) => why,
            Err(_) => "there was no answer in time".to_owned(),
        };
        Err(Refused::Unconfirmed(why))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.lock().known.len()
    }
}

impl State {
    /// A question, where the rate allows one.
    fn take(&mut self, now: Instant) -> Result<(), Refused> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let refilled = self.tokens + passed / KEY_FETCH_EVERY.as_secs_f64();
        self.tokens = refilled.min(f64::from(KEY_FETCHES_BURST));
        self.at = now;
        if self.tokens < 1.0 {
            return Err(Refused::Keys(format!(
                "{KEY_FETCHES_BURST} were asked for just now, and one more is every {} s",
                KEY_FETCH_EVERY.as_secs()
            )));
        }
        self.tokens -= 1.0;
        Ok(())
    }

    /// Ended entries go first, then those that hold no key, then the key that ends first.
    fn make_room(&mut self, name: &str, now: Instant) -> Result<(), Refused> {
        if self.known.len() < KEYS_REMEMBERED_MAX || self.known.contains_key(name) {
            return Ok(());
        }
        self.known.retain(|_, known| match known {
            Known::Asked(answer) => answer.has_changed().is_ok(),
            Known::Until(until, _) => now < *until,
        });
        if self.known.len() < KEYS_REMEMBERED_MAX {
            return Ok(());
        }
        let order = |known: &Known| match known {
            Known::Until(until, found) => Some((found.is_ok(), *until)),
            Known::Asked(_) => None,
        };
        let first = self.known.iter().filter_map(|(name, known)| Some((order(known)?, name))).min();
        match first.map(|(_, name)| name.clone()) {
            Some(name) => drop(self.known.remove(&name)),
            None => return Err(Refused::Keys(format!("{KEYS_REMEMBERED_MAX} are asked for already"))),
        }
        Ok(())
    }
}

/// Whoever holds the scheme that says what to ask and what was answered.
pub(super) trait Learns: Send + Sync + 'static {
    fn scheme(&self) -> &Scheme;
}

impl Learns for super::Source {
    fn scheme(&self) -> &Scheme {
        &self.scheme
    }
}

/// Until when a request that must be answered by `answer_by` may wait for a key.
pub(super) fn wait_by(answer_by: Instant, reserve: Duration) -> Instant {
    answer_by.checked_sub(reserve).unwrap_or(answer_by)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::verify;
    use crate::words::limits::KEY_LIFETIME;

    /// A scheme that asks Plaid's host.
    struct Plaid(Scheme);

    impl Learns for Plaid {
        fn scheme(&self) -> &Scheme {
            &self.0
        }
    }

    fn plaid() -> Arc<Plaid> {
        let preset = verify::preset("plaid").unwrap();
        Arc::new(Plaid(Scheme::compile(&preset.scheme, &preset.event).unwrap()))
    }

    /// Answers by the name of the key that is asked for, after a time; what it cannot say never comes.
    struct Host {
        asked: AtomicUsize,
        takes: Duration,
        status: u16,
        body: Option<String>,
    }

    impl Host {
        fn new(takes: Duration, status: u16, body: impl Into<String>) -> Arc<Host> {
            Arc::new(Host { asked: AtomicUsize::new(0), takes, status, body: Some(body.into()) })
        }

        /// One that has a key of any name that begins with `good`.
        fn good(takes: Duration) -> Arc<Host> {
            Arc::new(Host { asked: AtomicUsize::new(0), takes, status: 200, body: None })
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    impl Outward for Host {
        fn send(&self, ask: Ask) -> Pin<Box<dyn Future<Output = Result<Answered, String>> + Send + '_>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                tokio::time::sleep(self.takes).await;
                if let Some(body) = &self.body {
                    return Ok(Answered { status: self.status, body: body.clone().into_bytes() });
                }
                let asked: Value = serde_json::from_slice(&ask.json.unwrap()).unwrap();
                let kid = asked["key_id"].as_str().unwrap();
                let (status, body) = if kid.starts_with("good") {
                    (
                        200,
                        json!({"key": {
                            "alg": "ES256", "crv": "P-256", "kid": kid, "kty": "EC", "use": "sig", "expired_at": null,
                            "x": "hKXLGIjWvCBv-cP5euCTxl8g9GLG9zHo_3pO5NN1DwQ",
                            "y": "shhexqPB7YffGn6fR6h2UhTSuCtPmfzQJ6ENVIoO4Ys",
                        }}),
                    )
                } else {
                    (400, json!({"error_code": "INVALID_WEBHOOK_VERIFICATION_KEY_ID"}))
                };
                Ok(Answered { status, body: body.to_string().into_bytes() })
            })
        }
    }

    fn fetch(host: &Arc<Host>) -> Fetch {
        let credentials = ["client_id", "secret"].map(|name| (name.to_owned(), Secret::new("x")));
        Fetch { out: Arc::clone(host) as Arc<dyn Outward>, credentials: credentials.into() }
    }

    fn wanted(key_id: &str) -> Wanted {
        Wanted { url: "https://keys.example/".into(), key_id: key_id.into(), lifetime: KEY_LIFETIME }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    async fn ask(fetched: &Arc<Fetched>, host: &Arc<Host>, key_id: &str) -> Result<Arc<Key>, Refused> {
        fetched.key(&plaid(), &fetch(host), wanted(key_id), Instant::now() + seconds(8)).await
    }

    async fn reason(fetched: &Arc<Fetched>, host: &Arc<Host>, key_id: &str) -> &'static str {
        match ask(fetched, host, key_id).await {
            Ok(_) => "key",
            Err(refused) => refused.row().reason,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_asked_for_once_and_again_when_its_time_is_over() {
        let (fetched, host) = (Fetched::new("s"), Host::good(seconds(1)));
        let (a, b) = tokio::join!(ask(&fetched, &host, "good"), ask(&fetched, &host, "good"));
        assert_eq!(a.unwrap().fingerprint, b.unwrap().fingerprint);
        assert_eq!(host.asked(), 1, "two requests, one question");
        tokio::time::advance(KEY_LIFETIME - seconds(2)).await;
        assert_eq!(reason(&fetched, &host, "good").await, "key");
        assert_eq!(host.asked(), 1);
        tokio::time::advance(seconds(3)).await;
        assert_eq!(reason(&fetched, &host, "good").await, "key");
        assert_eq!(host.asked(), 2);
        // Another key is another question.
        assert_eq!(reason(&fetched, &host, "good-2").await, "key");
        assert_eq!(host.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_no_such_key_is_remembered_for_a_while() {
        let (fetched, host) = (Fetched::new("s"), Host::good(seconds(0)));
        for _ in 0..3 {
            assert_eq!(reason(&fetched, &host, "bad").await, "unknown-key");
        }
        assert_eq!(host.asked(), 1);
        tokio::time::advance(KEY_ABSENT_REMEMBERED).await;
        assert_eq!(reason(&fetched, &host, "bad").await, "unknown-key");
        assert_eq!(host.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_answers_nonsense_is_left_alone_for_a_moment() {
        for (status, body) in [
            (500, "broken"),
            (404, ""),
            (302, "elsewhere"),
            (200, "<html>"),
            (200, "{\"key\":{}}"),
            (200, "{\"key\":{\"kid\":\"other\"}}"),
            (429, "{}"),
        ] {
            let (fetched, host) = (Fetched::new("s"), Host::new(seconds(0), status, body));
            assert_eq!(reason(&fetched, &host, "good").await, "keys", "{status} {body}");
            assert_eq!(reason(&fetched, &host, "good").await, "keys", "{status} {body}");
            assert_eq!(host.asked(), 1, "{status} {body}");
            tokio::time::advance(KEY_FAILURE_REMEMBERED).await;
            assert_eq!(reason(&fetched, &host, "good").await, "keys", "{status} {body}");
            assert_eq!(host.asked(), 2, "{status} {body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_host_keeps_nobody_longer_than_its_time() {
        let (fetched, host) = (Fetched::new("s"), Host::good(seconds(3600)));
        let began = Instant::now();
        let (one, other) = tokio::join!(reason(&fetched, &host, "good"), reason(&fetched, &host, "good"));
        assert_eq!((one, other), ("keys", "keys"));
        assert_eq!(began.elapsed(), KEY_FETCH_TIMEOUT);
        assert_eq!(host.asked(), 1);
        // Nor longer than its answer may wait.
        tokio::time::advance(KEY_FAILURE_REMEMBERED).await;
        let (began, by) = (Instant::now(), Instant::now() + seconds(2));
        let refused = fetched.key(&plaid(), &fetch(&host), wanted("good"), by).await.err().unwrap();
        assert_eq!((refused.row().status, began.elapsed()), (503, seconds(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_goes_on_where_nobody_waits_for_it() {
        let (fetched, host) = (Fetched::new("s"), Host::good(seconds(3)));
        let by = Instant::now() + seconds(1);
        let (plaid, fetch) = (plaid(), fetch(&host));
        assert!(fetched.key(&plaid, &fetch, wanted("good"), by).await.is_err());
        // A request whose connection ended is dropped with what it waited for.
        let dropped = timeout(seconds(1), fetched.key(&plaid, &fetch, wanted("good"), by + seconds(9)));
        assert!(dropped.await.is_err());
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(reason(&fetched, &host, "good").await, "key");
        assert_eq!(host.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_made_up_names_is_no_flood_of_questions() {
        let (fetched, host) = (Fetched::new("s"), Host::good(seconds(0)));
        assert_eq!(reason(&fetched, &host, "good").await, "key");
        let mut told = BTreeMap::new();
        for n in 0..1000 {
            *told.entry(reason(&fetched, &host, &format!("bad-{n}")).await).or_insert(0) += 1;
            assert_eq!(reason(&fetched, &host, "good").await, "key", "a key that is known is used");
        }
        let burst = usize::try_from(KEY_FETCHES_BURST).unwrap();
        assert_eq!(told, BTreeMap::from([("unknown-key", burst - 1), ("keys", 1001 - burst)]));
        assert_eq!(host.asked(), burst);
        tokio::time::advance(KEY_FETCH_EVERY).await;
        assert_eq!(reason(&fetched, &host, "bad-x").await, "unknown-key");
        assert_eq!(reason(&fetched, &host, "bad-y").await, "keys");
        assert_eq!(host.asked(), burst + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_has_a_bound_and_a_good_key_stays() {
        let (fetched, host) = (Fetched::new("s"), Host::good(seconds(0)));
        assert_eq!(reason(&fetched, &host, "good").await, "key");
        for n in 0..2 * KEYS_REMEMBERED_MAX {
            // Each is still remembered when the next is asked for.
            fetched.lock().tokens = 1.0;
            assert_eq!(reason(&fetched, &host, &format!("bad-{n}")).await, "unknown-key");
            assert!(fetched.remembered() <= KEYS_REMEMBERED_MAX, "{}", fetched.remembered());
        }
        let asked = host.asked();
        assert_eq!(reason(&fetched, &host, "good").await, "key");
        assert_eq!(host.asked(), asked);
        for n in 0..KEYS_REMEMBERED_MAX {
            fetched.lock().tokens = 1.0;
            assert_eq!(reason(&fetched, &host, &format!("good-{n}")).await, "key");
            assert!(fetched.remembered() <= KEYS_REMEMBERED_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_asked_for_nobody_is_asked_anew() {
        let (fetched, host) = (Fetched::new("s"), Host::good(seconds(1)));
        let mut waiting = Vec::new();
        for n in 0..KEYS_REMEMBERED_MAX {
            fetched.lock().tokens = 1.0;
            let (plaid, fetch, by) = (plaid(), fetch(&host), Instant::now());
            waiting.push(fetched.key(&plaid, &fetch, wanted(&format!("good-{n}")), by).await.is_err());
            // What asks runs by itself.
            tokio::task::yield_now().await;
        }
        fetched.lock().tokens = 1.0;
        assert_eq!(reason(&fetched, &host, "good").await, "keys");
        assert_eq!((host.asked(), waiting.len()), (KEYS_REMEMBERED_MAX, KEYS_REMEMBERED_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_visit_succeeds_or_says_why_not() {
        let visit = |takes: u64, status: u16| async move {
            let (fetched, host) = (Fetched::new("s"), Host::new(seconds(takes), status, ""));
            let ask = Ask { url: "https://sns.example/".into(), json: None };
            let visited = fetched.visit(&fetch(&host), ask, Instant::now() + seconds(8)).await;
            visited.map_err(|refused| (refused.row().status, refused.to_string()))
        };
        assert_eq!(visit(0, 200).await, Ok(()));
        for (takes, status, words) in
            [(0, 403, "the answer was 403"), (0, 302, "the answer was 302"), (60, 200, "no answer in time")]
        {
            let (told, why) = visit(takes, status).await.unwrap_err();
            assert!(told == 503 && why.contains(words), "{why}");
        }
    }
}
