//! Compile: judges a spec and turns it into a scheme. All mistakes are named at once.
//!
//! A wrong recipe verifies nothing and looks green, so this refuses more than it must: a body or a timestamp
//! that is not signed, a key that has no meaning beside the others, a secret that is part of nothing.

mod signature;
mod stamp;
#[cfg(test)]
mod tests;

use super::Scheme;
use super::builtin;
use super::extract::Place;
use super::format::{Encoding, Format, Signature};
use super::identify::{Also, Event};
use super::json;
use super::mac::{Decode, Hash, Proof, SecretText};
use super::public::Algorithm;
use super::signed::Template;
use super::spec::{EventSpec, Problem, SignatureSpec, Spec, Texts, TimestampSpec};
use super::stamp::{From, Stamp};

pub(super) fn compile(spec: &Spec, event: &EventSpec) -> Result<Scheme, Vec<Problem>> {
    let mut judge = Judge::default();
    let names = judge.event(event);
    let scheme = match judge.kind(spec) {
        Some(Kind::Signed(kind)) => judge.signed(spec, kind),
        Some(Kind::Bearer(proof)) => judge.bearer(spec, proof),
        Some(Kind::Nothing) => judge.nothing(spec),
        Some(Kind::Builtin(kind)) => judge.builtin(spec, kind),
        None => None,
    };
    match (scheme, names) {
        (Some(scheme), Some(names)) if judge.problems.is_empty() => {
            let also = also(spec, event, &names, &scheme);
            Ok(Scheme { event: names.event().known_by(also), ..scheme })
        }
        _ => Err(judge.problems),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    /// Something is made of the request, with a secret or a private key.
    Signed(Made),
    /// The secret itself travels with the request.
    Bearer(Proof),
    Nothing,
    /// What is not data.
    Builtin(builtin::Kind),
}

#[derive(Clone, Copy)]
enum Made {
    Hmac,
    Hash,
    Public(Algorithm),
}

const KINDS: Words<Kind> = &[
    ("hmac", Kind::Signed(Made::Hmac)),
    ("hash", Kind::Signed(Made::Hash)),
    ("ed25519", Kind::Signed(Made::Public(Algorithm::Ed25519))),
    ("ecdsa-p256", Kind::Signed(Made::Public(Algorithm::EcdsaP256))),
    ("rsa-sha256", Kind::Signed(Made::Public(Algorithm::RsaSha256))),
    ("token", Kind::Bearer(Proof::Token)),
    ("basic", Kind::Bearer(Proof::Basic)),
    ("none", Kind::Nothing),
    ("twilio", Kind::Builtin(builtin::Kind::Twilio)),
    ("adyen", Kind::Builtin(builtin::Kind::Adyen)),
    ("aws-sns", Kind::Builtin(builtin::Kind::Sns)),
    ("plaid", Kind::Builtin(builtin::Kind::Plaid)),
    ("jwt", Kind::Builtin(builtin::Kind::Jwt)),
];
const ALGORITHMS: Words<Hash> = &[("sha256", Hash::Sha256), ("sha512", Hash::Sha512), ("sha1", Hash::Sha1)];
const DECODES: Words<Decode> =
    &[("utf8", Decode::Utf8), ("base64", Decode::Base64), ("hex", Decode::Hex), ("sha1", Decode::Sha1)];

/// The words of a closed set, each with its meaning.
type Words<T> = &'static [(&'static str, T)];

/// Collects what is wrong. Each method gives None after saying why.
#[derive(Default)]
struct Judge {
    problems: Vec<Problem>,
}

impl Judge {
    fn signed(&mut self, spec: &Spec, made: Made) -> Option<Scheme> {
        let proof = self.proof(spec, made);
        let stamp = self.stamp(&spec.timestamp);
        let signature = self.signature(&spec.signature, &spec.timestamp);
        let template = self.template(spec);
        let id = self.optional_place("scheme.id", spec.id.as_deref());
        let secret = self.secret(spec, matches!(made, Made::Public(_)));
        let require = self.require(spec);
        self.knowing(spec, "a scheme that proves something");
        let template = template?;
        self.coverage(spec, &template, stamp.as_ref().and_then(Option::as_ref));
        self.secret_in(&template, made);
        let stamp = stamp?;
        let notes = notes(spec, &template, stamp.as_ref());
        Some(Scheme {
            proof: proof?,
            signature: signature?,
            signed: template,
            stamp,
            id: id?,
            secret: secret?,
            require: require?,
            event: Event::default(),
            notes,
            builtin: None,
        })
    }

    fn proof(&mut self, spec: &Spec, made: Made) -> Option<Proof> {
        let algorithm = spec.algorithm.as_deref();
        if let Made::Public(public) = made {
            let beside = format!("type: {}", spec.kind.as_deref().unwrap_or_default());
            self.meaningless(&beside, &[("scheme.algorithm", algorithm)]);
            return Some(Proof::Public(public));
        }
        let hash = self.required("scheme.algorithm", algorithm, ALGORITHMS)?;
        Some(if matches!(made, Made::Hash) { Proof::Hash(hash) } else { Proof::Hmac(hash) })
    }

    /// A plain hash that the secret is no part of is anybody's to make; a MAC has it as its key.
    fn secret_in(&mut self, template: &Template, made: Made) {
        const KEY: &str = "scheme.signed";
        match (made, template.secret_at().is_some()) {
            (Made::Hash, false) => {
                self.say(
                    KEY,
                    "the secret is not in it, so anybody could make this hash; write {secret} into it",
                );
            }
            (Made::Hmac | Made::Public(_), true) => {
                self.say(KEY, "only type: hash has the secret in what is signed; remove {secret}");
            }
            _ => {}
        }
    }

    /// Schemes in which the secret itself travels.
    fn bearer(&mut self, spec: &Spec, proof: Proof) -> Option<Scheme> {
        let beside = format!("type: {}", spec.kind.as_deref().unwrap_or_default());
        self.nothing_signed(spec, &beside);
        self.meaningless(&beside, &[("scheme.signature.encoding", spec.signature.encoding.as_deref())]);
        self.meaningless(&beside, &[("scheme.secret.decode", spec.secret.decode.as_deref())]);
        self.knowing(spec, &beside);
        let (from, format, encoding) = match proof {
            Proof::Basic => self.credentials(&spec.signature)?,
            _ => self.token(&spec.signature)?,
        };
        let secret = self.secret(spec, false);
        let require = self.require(spec);
        let signature = Signature { from, format, encoding, stamp_field: None, groups: None };
        let note =
            format!("a {beside} proves who sent a request, not what: whoever sees one can send others")
                .replace("type: ", "");
        Some(Scheme { secret: secret?, require: require?, ..unsigned(proof, signature, note) })
    }

    fn token(&mut self, spec: &SignatureSpec) -> Option<(Vec<Place>, Format, Encoding)> {
        let format = spec.format.as_deref().or(Some("raw"));
        let format = self.format(&SignatureSpec { format: format.map(Into::into), ..spec.clone() });
        if format.as_ref().is_some_and(|format| !matches!(format, Format::Raw | Format::Prefixed(_))) {
            self.say(
                "scheme.signature.format",
                "a token is sent alone; write format: raw or format: prefixed",
            );
        }
        let from = self.signature_from(spec.from.as_ref());
        Some((from?, format?, Encoding::Token))
    }

    /// User and password, in the header that HTTP has for them where no other is named.
    fn credentials(&mut self, spec: &SignatureSpec) -> Option<(Vec<Place>, Format, Encoding)> {
        let format = spec.format.as_deref().filter(|format| *format != "raw");
        let written = [
            ("scheme.signature.format", format),
            ("scheme.signature.prefix", spec.prefix.as_deref()),
            ("scheme.signature.separator", spec.separator.as_deref()),
            ("scheme.signature.assign", spec.assign.as_deref()),
            ("scheme.signature.key", spec.key.as_deref()),
            ("scheme.signature.groups", spec.groups.as_deref()),
        ];
        self.meaningless("type: basic", &written);
        let usual = Texts(vec!["header:Authorization".to_owned()]);
        let from = self.signature_from(Some(spec.from.as_ref().unwrap_or(&usual)));
        Some((from?, Format::Raw, Encoding::Basic))
    }

    fn nothing(&mut self, spec: &Spec) -> Option<Scheme> {
        const BESIDE: &str = "type: none";
        self.nothing_signed(spec, BESIDE);
        let signature = (spec.signature != SignatureSpec::default()).then_some("");
        let secret = (spec.secret != super::spec::SecretSpec::default()).then_some("");
        self.meaningless(BESIDE, &[("scheme.signature", signature), ("scheme.secret", secret)]);
        if spec.i_know_this_is_unauthenticated != Some(true) {
            self.say(
                "scheme.type",
                "type: none takes whatever anybody sends; write i_know_this_is_unauthenticated: true beside it, \
                 or name a preset",
            );
        }
        let require = self.require(spec);
        let signature = nowhere();
        let note = "nothing is proved: whoever knows the path can send events".to_owned();
        Some(Scheme { require: require?, ..unsigned(Proof::Nothing, signature, note) })
    }

    /// Its template is what the scheme covers, so that it is known which of an event's places are signed.
    fn builtin(&mut self, spec: &Spec, kind: builtin::Kind) -> Option<Scheme> {
        let built = builtin::compile(kind, spec, stamp::parse_span, &mut |key, why| self.say(key, why))?;
        let signed = Template::parse(built.covers(), &spec.consts).unwrap_or_default();
        let signature = nowhere();
        Some(Scheme {
            signed,
            notes: built.notes(),
            builtin: Some(built),
            ..unsigned(Proof::Builtin, signature, String::new())
        })
    }

    fn nothing_signed(&mut self, spec: &Spec, beside: &str) {
        let timestamp = (spec.timestamp != TimestampSpec::default()).then_some("");
        let consts = (!spec.consts.is_empty()).then_some("");
        let body_signed = spec.body_signed.map(|_| "");
        let written = [
            ("scheme.algorithm", spec.algorithm.as_deref()),
            ("scheme.signed", spec.signed.as_deref()),
            ("scheme.body_signed", body_signed),
            ("scheme.id", spec.id.as_deref()),
            ("scheme.timestamp", timestamp),
            ("scheme.const", consts),
        ];
        self.meaningless(beside, &written);
    }

    fn knowing(&mut self, spec: &Spec, beside: &str) {
        let written = spec.i_know_this_is_unauthenticated.map(|_| "");
        self.meaningless(beside, &[("scheme.i_know_this_is_unauthenticated", written)]);
    }

    fn kind(&mut self, spec: &Spec) -> Option<Kind> {
        let kind = self.kind_of(spec)?;
        if !matches!(kind, Kind::Builtin(_)) {
            let beside = format!("type: {}", spec.kind.as_deref().unwrap_or_default());
            for key in builtin::written_for_builtins(spec) {
                self.meaningless(&beside, &[(&format!("scheme.{key}"), Some(""))]);
            }
        }
        Some(kind)
    }

    fn kind_of(&mut self, spec: &Spec) -> Option<Kind> {
        if spec.kind.is_none() {
            self.say("scheme.type", "the scheme has no type; write type: hmac or another, or name a preset");
            return None;
        }
        self.required("scheme.type", spec.kind.as_deref(), KINDS)
    }

    // === what is signed ===

    fn template(&mut self, spec: &Spec) -> Option<Template> {
        const KEY: &str = "scheme.signed";
        let Some(text) = spec.signed.as_deref() else {
            self.say(KEY, "what is signed? write signed: \"{timestamp}.{body}\"");
            return None;
        };
        for name in spec.consts.keys().filter(|name| !text.contains(&format!("{{const:{name}}}"))) {
            self.say(
                &format!("scheme.const.{name}"),
                format!("`signed` does not hold {{const:{name}}}; remove this"),
            );
        }
        match Template::parse(text, &spec.consts) {
            Ok(template) => Some(template),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.say(KEY, problem));
                None
            }
        }
    }

    /// Everything that is checked must be signed, and everything that is signed must be there.
    fn coverage(&mut self, spec: &Spec, template: &Template, stamp: Option<&Stamp>) {
        match (template.has_body(), spec.body_signed) {
            (false, None | Some(true)) => self.say(
                "scheme.signed",
                "the body is not signed, so anybody could change it; write {body} into it, or body_signed: false \
                 where the sender does not sign it",
            ),
            (true, Some(false)) => {
                self.say("scheme.body_signed", "the body is signed; remove body_signed: false");
            }
            _ => {}
        }
        match (template.has_id(), spec.id.is_some()) {
            (true, false) => {
                self.say("scheme.id", "`signed` holds {id}; write where it is: id: \"header:X-Id\"")
            }
            (false, true) => {
                self.say(
                    "scheme.id",
                    "`signed` does not hold {id}; remove this (event.id names the event's id)",
                );
            }
            _ => {}
        }
        let is_covered = template.has_timestamp()
            || stamp.is_some_and(|stamp| match &stamp.from {
                From::Place(place) => is_signed(place, spec, template),
                From::Field => false,
            });
        match (spec.timestamp != TimestampSpec::default(), is_covered, spec.timestamp.signed) {
            (false, true, _) => {
                self.say(
                    "scheme.timestamp",
                    "`signed` holds {timestamp}; write timestamp: { from: \"header:X\", … }",
                );
            }
            (true, false, None | Some(true)) if stamp.is_some() => self.say(
                "scheme.signed",
                "the timestamp is not signed, so it proves nothing; write {timestamp} into it, \
                 or timestamp: { signed: false }",
            ),
            (true, true, Some(false)) => {
                self.say("scheme.timestamp.signed", "the timestamp is signed; remove signed: false");
            }
            _ => {}
        }
    }

    fn secret(&mut self, spec: &Spec, is_public: bool) -> Option<SecretText> {
        let decode = match spec.secret.decode.as_deref() {
            None => Some(Decode::Utf8),
            word => self.required("scheme.secret.decode", word, DECODES),
        };
        Some(SecretText { strip_prefix: spec.secret.strip_prefix.clone(), decode: decode?, is_public })
    }

    fn require(&mut self, spec: &Spec) -> Option<Vec<(Place, String)>> {
        let mut require = Vec::new();
        for (text, value) in &spec.require {
            let key = format!("scheme.require.{text}");
            require.push((self.place(&key, text)?, value.clone()));
        }
        Some(require)
    }

    // === event ===

    fn event(&mut self, spec: &EventSpec) -> Option<Names> {
        let nowhere = Texts::default();
        let ids = self.names("event.id", spec.id.as_ref().unwrap_or(&nowhere));
        let kinds = self.names("event.type", spec.kind.as_ref().unwrap_or(&nowhere));
        // As `tolerance: none` does, it takes back what a preset says.
        let each = spec.each.as_deref().filter(|each| *each != "none").map(|each| self.each(each));
        let (ids, kinds) = (ids?, kinds?);
        if each.is_some()
            && ids.iter().flat_map(Place::parts).any(|place| !matches!(place, Place::Json { .. }))
        {
            self.say(
                "event.id",
                "with `each` every event needs an id of its own; write places within an element, as json:id",
            );
        }
        let each = match each {
            Some(each) => Some(each?),
            None => None,
        };
        Some(Names { ids, kinds, each })
    }

    fn each(&mut self, text: &str) -> Option<json::Path> {
        const KEY: &str = "event.each";
        match self.place(KEY, text)? {
            Place::Json { path, .. } => Some(path),
            _ => {
                self.say(
                    KEY,
                    "only a list in JSON has elements; write each: \"json:events\", json:. for the body, or none",
                );
                None
            }
        }
    }

    // === words ===

    fn places(&mut self, key: &str, texts: &Texts) -> Option<Vec<Place>> {
        self.read(key, texts, Place::parse)
    }

    /// Places of an event, which may be joined.
    fn names(&mut self, key: &str, texts: &Texts) -> Option<Vec<Place>> {
        self.read(key, texts, Place::parse_joined)
    }

    fn read(
        &mut self,
        key: &str,
        texts: &Texts,
        parse: fn(&str) -> Result<Place, String>,
    ) -> Option<Vec<Place>> {
        let is_list = texts.0.len() > 1;
        let places = texts.0.iter().enumerate().map(|(at, text)| {
            let key = if is_list { format!("{key}.{at}") } else { key.to_owned() };
            parse(text).map_err(|problem| self.say(&key, problem)).ok()
        });
        // Collected first, so that every wrong place is named.
        let places: Vec<Option<Place>> = places.collect();
        places.into_iter().collect()
    }

    fn place(&mut self, key: &str, text: &str) -> Option<Place> {
        Place::parse(text).map_err(|problem| self.say(key, problem)).ok()
    }

    fn optional_place(&mut self, key: &str, text: Option<&str>) -> Option<Option<Place>> {
        match text {
            Some(text) => self.place(key, text).map(Some),
            None => Some(None),
        }
    }

    fn text(&mut self, key: &str, text: Option<&str>, example: &str) -> Option<String> {
        let text = text.filter(|text| !text.is_empty());
        if text.is_none() {
            let name = key.rsplit('.').next().unwrap_or(key);
            self.say(key, format!("it is missing or empty; write {name}: \"{example}\""));
        }
        text.map(str::to_owned)
    }

    fn required<T: Copy>(&mut self, key: &str, word: Option<&str>, words: Words<T>) -> Option<T> {
        let meaning = words.iter().find(|(known, _)| Some(*known) == word).map(|(_, meaning)| *meaning);
        if meaning.is_none() {
            self.unknown(key, word, words);
        }
        meaning
    }

    fn unknown<T>(&mut self, key: &str, word: Option<&str>, words: Words<T>) {
        let what = match word {
            Some(word) => format!("`{word}` is not known here"),
            None => "it is missing".to_owned(),
        };
        self.say(key, format!("{what}; write {}", listing(words)));
    }

    /// A key that does nothing would let its writer believe that it did.
    fn meaningless(&mut self, beside: &str, written: &[(&str, Option<&str>)]) {
        for (key, _) in written.iter().filter(|(_, value)| value.is_some()) {
            self.say(key, format!("it has no meaning with {beside}; remove it"));
        }
    }

    fn say(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { key: key.to_owned(), message: message.into() });
    }
}

/// `hex, base64 or base64url`
fn listing<T>(words: Words<T>) -> String {
    let named: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    match named.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => named.concat(),
    }
}

/// Of a scheme that has no signature, or reads it in a way of its own.
fn nowhere() -> Signature {
    Signature {
        from: Vec::new(),
        format: Format::Raw,
        encoding: Encoding::Token,
        stamp_field: None,
        groups: None,
    }
}

/// A scheme in which nothing of the request is signed.
fn unsigned(proof: Proof, signature: Signature, note: String) -> Scheme {
    Scheme {
        proof,
        signature,
        signed: Template::default(),
        stamp: None,
        id: None,
        secret: SecretText::default(),
        require: Vec::new(),
        event: Event::default(),
        notes: vec![note],
        builtin: None,
    }
}

// === what an event is known by ===

/// `event:`, its places read.
struct Names {
    ids: Vec<Place>,
    kinds: Vec<Place>,
    each: Option<json::Path>,
}

impl Names {
    fn event(self) -> Event {
        Event::new(self.ids, self.kinds, self.each)
    }
}

/// Whoever captured a request can send it again under another id, where the id is not signed.
fn also(spec: &Spec, event: &EventSpec, names: &Names, scheme: &Scheme) -> Also {
    let is_made = !matches!(scheme.proof, Proof::Token | Proof::Basic | Proof::Nothing);
    let is_signed =
        names.ids.iter().flat_map(Place::parts).all(|place| is_signed(place, spec, &scheme.signed));
    match event.dedupe_body {
        Some(false) => Also::Nothing,
        Some(true) => Also::Body,
        None if !is_made => Also::Nothing,
        None if !scheme.signed.has_body() && (names.ids.is_empty() || !is_signed) => Also::Signed,
        None if !is_signed => Also::Body,
        None => Also::Nothing,
    }
}

/// Whether what is at a place cannot be changed without the signature.
fn is_signed(place: &Place, spec: &Spec, template: &Template) -> bool {
    let is_id = || {
        template.has_id()
            && spec.id.as_deref().and_then(|id| Place::parse(id).ok()).is_some_and(|id| id.is(place))
    };
    let in_body = matches!(place, Place::Json { .. } | Place::Form(_)) && template.has_body();
    let in_query = matches!(place, Place::Query(_)) && template.needs_url();
    in_body || in_query || template.holds(place) || is_id()
}

fn notes(spec: &Spec, template: &Template, stamp: Option<&Stamp>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |applies: bool, text: &str| {
        if applies {
            notes.push(text.to_owned());
        }
    };
    note(
        template.is_ambiguous(),
        "`signed` joins two values with nothing between them, so their border is not signed",
    );
    note(
        template.secret_at() == Some(0),
        "a plain hash that begins with the secret can be continued by whoever has seen one; take the sender's HMAC \
         where it has one",
    );
    note(spec.body_signed == Some(false), "the body is not signed: whoever captured a request can change it");
    note(
        stamp.is_some_and(|stamp| stamp.window.is_none()),
        "`tolerance: none` accepts a signature of any age",
    );
    note(
        spec.timestamp.signed == Some(false),
        "the timestamp is not signed: whoever captured a request can send it again at any time",
    );
    notes
}
