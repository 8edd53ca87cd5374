//! Compile: judges the handshakes of a source. All mistakes are named at once, each with what to type.
//!
//! It refuses more than it must wherever the source's key is used: a handshake that can be had signed is worse than
//! one that fails.

use std::collections::BTreeMap;

use http::HeaderName;
use serde_json::Value;

use super::pattern::Pattern;
use super::spec::{ChallengeSpec, FollowSpec, JsonSpec, RespondSpec, Wanted, WhenSpec};
use super::template::{Json, Template, is_of_signed_text};
use super::{Body, Challenge, Challenges, Condition, Follow, Respond, Token, preset, preset_names};
use crate::verify::extract::Place;
use crate::verify::spec::Problem;
use crate::verify::{Scheme, mac};
use crate::words::limits::CHALLENGES_MAX;

pub(super) fn compile(
    written: Option<&[(String, ChallengeSpec)]>,
    preset_name: Option<&str>,
    scheme: &Scheme,
) -> Result<Challenges, Vec<Problem>> {
    // A built-in that confirms its subscriptions needs no handshake for it.
    let preset_name = preset_name.filter(|_| !scheme.confirms());
    let own = preset_name.and_then(crate::verify::preset).and_then(|preset| preset.challenge.as_ref());
    let mut judge =
        Judge { scheme, key: "challenge".to_owned(), problems: Vec::new(), for_anybody: Vec::new() };
    let mut challenges = Challenges::default();
    match (written, own) {
        (Some(specs), _) => challenges.list = judge.written(specs, own),
        (None, Some(own)) => match lacks(own).first() {
            Some((key, what)) => {
                let name = preset_name.unwrap_or_default();
                challenges.notes.push(format!(
                    "`{name}` asks for an answer before it sends events, and gets none without {key}; {what}"
                ));
            }
            None => challenges.list = judge.one(own).into_iter().collect(),
        },
        (None, None) => {}
    }
    if !judge.problems.is_empty() {
        return Err(judge.problems);
    }
    challenges.for_anybody = judge.for_anybody;
    Ok(challenges)
}

/// What only the operator can add: its key, and a sentence with what to type.
fn lacks(spec: &ChallengeSpec) -> Vec<(String, String)> {
    let mut lacks = Vec::new();
    let wants_token =
        spec.verify_token.from.is_some() || spec.respond.texts().iter().any(|t| t.contains("+verify_token"));
    if wants_token && spec.verify_token.secret.is_none() {
        let what = "write the token that its page was given: challenge: { verify_token: \"env:NAME\" }";
        lacks.push(("verify_token".to_owned(), what.to_owned()));
    }
    if spec.capture.from.is_some() && spec.capture.file.is_none() {
        let what = "write where its secret is kept: challenge: { capture: { file: secrets/NAME } }, and secrets: \
                    [ \"file:secrets/NAME\" ]";
        lacks.push(("capture.file".to_owned(), what.to_owned()));
    }
    for (place, _) in spec.require.iter().filter(|(_, pattern)| pattern.is_none()) {
        let what = format!("write what is yours: challenge: {{ require: {{ \"{place}\": \"^…$\" }} }}");
        lacks.push((format!("require.{place}"), what));
    }
    for (name, _) in spec.consts.iter().filter(|(_, value)| value.is_none()) {
        let what = format!("write what is yours: challenge: {{ const: {{ {name}: \"…\" }} }}");
        lacks.push((format!("const.{name}"), what));
    }
    lacks
}

impl RespondSpec {
    /// Every text that is a template.
    fn texts(&self) -> Vec<&str> {
        fn below<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
            match value {
                Value::String(text) => texts.push(text),
                Value::Array(items) => items.iter().for_each(|item| below(item, texts)),
                Value::Object(entries) => entries.values().for_each(|item| below(item, texts)),
                _ => {}
            }
        }
        let mut texts: Vec<&str> = self.headers.values().chain(&self.text).map(String::as_str).collect();
        self.json.iter().for_each(|json| below(json, &mut texts));
        texts
    }
}

/// Collects what is wrong. Each method gives None after saying why.
struct Judge<'s> {
    scheme: &'s Scheme,
    /// Of the handshake that is judged, counted from the source: `challenge`, or `challenge.1`.
    key: String,
    problems: Vec<Problem>,
    for_anybody: Vec<Pattern>,
}

const METHODS: [&str; 4] = ["GET", "HEAD", "OPTIONS", "POST"];

/// What the daemon itself says of an answer, and what could make it more than an answer.
const HEADERS_OF_OURS: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "location",
    "set-cookie",
    "transfer-encoding",
    "upgrade",
    "x-content-type-options",
];

impl Judge<'_> {
    fn written(&mut self, specs: &[(String, ChallengeSpec)], own: Option<&ChallengeSpec>) -> Vec<Challenge> {
        if specs.len() > CHALLENGES_MAX {
            self.say(
                "",
                format!("{} handshakes are written here; write at most {CHALLENGES_MAX}", specs.len()),
            );
        }
        let mut list = Vec::new();
        for (key, spec) in specs.iter().take(CHALLENGES_MAX) {
            self.key.clone_from(key);
            let Some(spec) = self.based(spec, own) else { continue };
            self.tell_lacks(&spec);
            list.extend(self.one(&spec));
        }
        list
    }

    /// Laid over the preset that it names; one that says nothing of its answer, over that of the source's own preset.
    fn based(&mut self, spec: &ChallengeSpec, own: Option<&ChallengeSpec>) -> Option<ChallengeSpec> {
        let base = match &spec.preset {
            Some(name) => match preset(name) {
                None => {
                    let names = preset_names().join(", ");
                    self.say(".preset", format!("there is no handshake `{name}`; write one of {names}"));
                    return None;
                }
                found => found,
            },
            None if spec.respond == RespondSpec::default() => own,
            None => None,
        };
        Some(base.map_or_else(|| spec.clone(), |base| spec.over(base)))
    }

    fn tell_lacks(&mut self, spec: &ChallengeSpec) {
        for (key, what) in lacks(spec) {
            self.say(&format!(".{key}"), format!("this is missing; {what}"));
        }
    }

    /// Everything of one handshake is looked at before the first thing that is wrong ends it.
    fn one(&mut self, spec: &ChallengeSpec) -> Option<Challenge> {
        let verified = spec.verified.unwrap_or(false);
        let when = self.when(&spec.when);
        let require = self.require(&spec.require);
        let token = self.optional_place(".verify_token.from", spec.verify_token.from.as_deref());
        let capture = self.optional_place(".capture.from", spec.capture.from.as_deref());
        let follow = self.follow(&spec.follow);
        let respond = self.respond(&spec.respond, &spec.consts);
        self.unused(spec);
        if verified && spec.capture.from.is_some() {
            self.say(
                ".verified",
                "nothing can be signed with a secret that is only now brought; take verified: true away",
            );
        }
        if !verified && spec.follow.from.is_some() {
            self.say(
                ".follow",
                "a stranger's URL is not called; write verified: true, so that only a signed request is confirmed",
            );
        }
        let (method, conditions) = when?;
        let (require, respond) = (require?, respond?);
        self.keyed(&respond, &require, verified);
        let token = Token { from: token?, secret: None };
        Some(Challenge {
            method,
            conditions,
            require,
            verified,
            token,
            capture: capture?,
            follow: follow?,
            respond,
        })
    }

    // === when ===

    fn when(&mut self, spec: &WhenSpec) -> Option<(&'static str, Vec<Condition>)> {
        let word = spec.method.as_deref().unwrap_or("POST");
        let method = METHODS.into_iter().find(|method| *method == word);
        if method.is_none() {
            self.say(".when.method", format!("`{word}` is not known here; write GET, HEAD, OPTIONS or POST"));
        }
        let query = self.wanted("query", spec.query.as_ref());
        let header = self.wanted("header", spec.header.as_ref());
        let json = self.json_condition(&spec.json);
        if word == "POST" && *spec == (WhenSpec { method: spec.method.clone(), ..WhenSpec::default() }) {
            self.say(
                ".when",
                "every POST would be a handshake, and no event would be one; write what tells it apart, as when: { \
                 header: X-Name } or when: { json: { path: type, equals: ping } }",
            );
        }
        // The body is parsed last, and only where all else holds.
        Some((method?, [query?, header?, json?].into_iter().flatten().collect()))
    }

    fn wanted(&mut self, kind: &str, wanted: Option<&Wanted>) -> Option<Vec<Condition>> {
        let key = format!(".when.{kind}");
        match wanted {
            None => Some(Vec::new()),
            Some(Wanted::There(name)) => {
                Some(vec![Condition::There(self.place(&key, &format!("{kind}:{name}"))?)])
            }
            Some(Wanted::Equal(values)) => {
                let mut conditions = Vec::new();
                for (name, value) in values {
                    let place = self.place(&key, &format!("{kind}:{name}"))?;
                    conditions.push(Condition::Equal(place, value.clone()));
                }
                Some(conditions)
            }
        }
    }

    fn json_condition(&mut self, spec: &JsonSpec) -> Option<Vec<Condition>> {
        let Some(path) = &spec.path else {
            if spec.equals.is_some() {
                self.say(".when.json.path", "this is missing; write the field's keys: path: data.type");
            }
            return Some(Vec::new());
        };
        let place = self.place(".when.json.path", &format!("json:{path}"))?;
        let condition = match &spec.equals {
            None => Condition::There(place),
            Some(Value::String(text)) => Condition::Equal(place, text.clone()),
            Some(Value::Bool(value)) => Condition::Equal(place, value.to_string()),
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
                Condition::Equal(place, number.to_string())
            }
            Some(_) => {
                self.say(
                    ".when.json.equals",
                    "only a text, a whole number, true or false is compared; write one of them",
                );
                return None;
            }
        };
        Some(vec![condition])
    }

    // === what is asked of values ===

    fn require(&mut self, require: &BTreeMap<String, Option<String>>) -> Option<Vec<(Place, Pattern)>> {
        let mut required = Some(Vec::new());
        for (written, pattern) in require {
            let key = format!(".require.{written}");
            let place = self.place(&key, written);
            // One that is missing was told already.
            let pattern = pattern.as_ref().and_then(|pattern| self.pattern(&key, pattern));
            match (place, pattern, &mut required) {
                (Some(place), Some(pattern), Some(required)) => required.push((place, pattern)),
                _ => required = None,
            }
        }
        required
    }

    fn follow(&mut self, spec: &FollowSpec) -> Option<Option<Follow>> {
        let hosts = spec.hosts.as_ref().map(|hosts| hosts.0.as_slice()).unwrap_or_default();
        let Some(from) = &spec.from else {
            if !hosts.is_empty() {
                self.say(
                    ".follow.from",
                    "this is missing; write where the URL is: from: \"json:SubscribeURL\"",
                );
            }
            return Some(None);
        };
        let place = self.place(".follow.from", from);
        if hosts.is_empty() {
            self.say(
                ".follow.hosts",
                "any host could be called; write which: hosts: [ \"^sns\\\\.[a-z0-9-]{1,32}\\\\.amazonaws\\\\.com$\" ]",
            );
        }
        let patterns: Vec<Pattern> =
            hosts.iter().filter_map(|host| self.pattern(".follow.hosts", host)).collect();
        Some(Some(Follow { from: place?, hosts: patterns }))
    }

    // === the answer ===

    fn respond(&mut self, spec: &RespondSpec, consts: &BTreeMap<String, Option<String>>) -> Option<Respond> {
        if *spec == RespondSpec::default() {
            self.say(
                ".respond",
                "what is answered? write respond: { text: \"{query:challenge}\" }, or preset: NAME",
            );
            return None;
        }
        let status = spec.status.unwrap_or(200);
        if !(200..=299).contains(&status) {
            self.say(".respond.status", format!("{status} is no answer of success; write 200"));
        }
        let has_body = spec.text.is_some() || spec.json.is_some();
        if has_body && matches!(status, 204 | 205) {
            self.say(".respond.status", format!("{status} has no body; write 200"));
        }
        let mut headers = Some(Vec::new());
        for (name, text) in &spec.headers {
            let key = format!(".respond.headers.{name}");
            match (self.header(&key, name), self.template(&key, text, consts), &mut headers) {
                (Some(name), Some(template), Some(headers)) => headers.push((name, template)),
                _ => headers = None,
            }
        }
        let body = match (&spec.text, &spec.json) {
            (Some(_), Some(_)) => {
                self.say(".respond.text", "a body is one text or one JSON; take text or json away");
                None
            }
            (Some(text), None) => self.template(".respond.text", text, consts).map(Body::Text),
            (None, Some(json)) => match Json::parse(json, consts) {
                Ok(json) => Some(Body::Json(json)),
                Err(problems) => {
                    problems.into_iter().for_each(|problem| self.say(".respond.json", problem));
                    None
                }
            },
            (None, None) => Some(Body::None),
        };
        Some(Respond { status, headers: headers?, body: body? })
    }

    fn header(&mut self, key: &str, name: &str) -> Option<HeaderName> {
        match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => self.say(key, format!("`{name}` is not a header's name; write one as X-Hook-Secret")),
            Ok(name) if HEADERS_OF_OURS.contains(&name.as_str()) => {
                self.say(key, format!("`{name}` is written by the daemon itself; take it away"));
            }
            Ok(name) => return Some(name),
        }
        None
    }

    fn template(
        &mut self,
        key: &str,
        text: &str,
        consts: &BTreeMap<String, Option<String>>,
    ) -> Option<Template> {
        match Template::parse(text, consts) {
            Ok(template) => Some(template),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.say(key, problem));
                None
            }
        }
    }

    fn unused(&mut self, spec: &ChallengeSpec) {
        let texts = spec.respond.texts();
        for name in spec.consts.keys() {
            if !texts.iter().any(|text| text.contains(&format!("{{const:{name}}}"))) {
                self.say(
                    &format!(".const.{name}"),
                    format!("`respond` does not hold {{const:{name}}}; take it away"),
                );
            }
        }
        let is_used =
            spec.verify_token.from.is_some() || texts.iter().any(|text| text.contains("verify_token"));
        if spec.verify_token.secret.is_some() && !is_used {
            self.say(
                ".verify_token",
                "nothing is compared with it; write where the request shows it: verify_token: { from: \
                 \"query:token\", secret: \"env:NAME\" }",
            );
        }
        if spec.capture.file.is_some() && spec.capture.from.is_none() {
            self.say(
                ".capture.from",
                "this is missing; write where the secret is: from: \"header:X-Hook-Secret\"",
            );
        }
    }

    // === the key ===

    /// The rule that keeps a handshake from signing for strangers.
    fn keyed(&mut self, respond: &Respond, require: &[(Place, Pattern)], verified: bool) {
        let keyed: Vec<(&Place, &str)> = respond.templates().flat_map(Template::keyed).collect();
        if keyed.is_empty() {
            return;
        }
        if !matches!(self.scheme.proof, mac::Proof::Hmac(_)) {
            self.say(
                ".respond",
                "an answer is made with a key, and this source's scheme has none; write a scheme of type: hmac, or \
                 an answer without hmac_…",
            );
        }
        if verified {
            return;
        }
        for (place, written) in keyed {
            let Some((_, pattern)) = require.iter().find(|(required, _)| required.is(place)) else {
                self.say(
                    ".require",
                    format!(
                        "anybody could have `{written}` signed with the source's secret, and with it an event; write \
                         require: {{ \"{written}\": \"^[A-Za-z0-9_-]{{1,128}}$\" }}, or verified: true where the \
                         sender signs its handshake"
                    ),
                );
                continue;
            };
            let why = self.could_be_signed(pattern);
            if let Some(why) = why {
                let key = format!(".require.{written}");
                self.say(&key, format!("{why}; write one as ^[A-Za-z0-9_-]{{1,128}}$"));
            } else {
                self.for_anybody.push(pattern.clone());
            }
        }
    }

    /// Why a text that the pattern lets through could be the signed content of an event.
    fn could_be_signed(&self, pattern: &Pattern) -> Option<String> {
        let alphabet = pattern.alphabet();
        let odd = (0..128).filter(|byte| alphabet.has(*byte)).map(char::from);
        if let Some(odd) = odd.clone().find(|c| is_of_signed_text(*c) || !c.is_ascii_graphic()) {
            return Some(format!("it lets `{odd}` through, as the signed content of an event has it"));
        }
        // A template without a literal, as that of the body alone, leaves it to `signs_for_anybody`.
        let literals = self.scheme.signed.literals();
        let all_let_through = literals.iter().all(|text| text.bytes().all(|byte| alphabet.has(byte)));
        (!literals.is_empty() && all_let_through).then(|| {
            format!(
                "it lets {} through, which stands in what this source's events sign",
                literals.join(" and ")
            )
        })
    }

    // === words ===

    fn place(&mut self, key: &str, text: &str) -> Option<Place> {
        Place::parse(text).map_err(|problem| self.say(key, problem)).ok()
    }

    /// None: something is wrong; Some(None): nothing is written.
    fn optional_place(&mut self, key: &str, text: Option<&str>) -> Option<Option<Place>> {
        match text {
            None => Some(None),
            Some(text) => self.place(key, text).map(Some),
        }
    }

    fn pattern(&mut self, key: &str, text: &str) -> Option<Pattern> {
        Pattern::parse(text).map_err(|problem| self.say(key, problem)).ok()
    }

    fn say(&mut self, below: &str, message: impl Into<String>) {
        let problem = Problem { key: format!("{}{below}", self.key), message: message.into() };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}
