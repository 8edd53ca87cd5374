//! Redact: takes values out of a record, wherever they went: a delivery shows what it shows without showing whom.
//!
//! A value is named by its place in the event's body. What a handler made of it carries it on: so its text is looked for
//! everywhere, in the requests, the answers, the shelf and the log, in any case, also as JSON and as a URL spell it. What
//! is still there then (in bytes that are no text, say) refuses the whole.

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

use super::Error;
use super::record::{Blob, Record};
use crate::host::rewrite_intent;
use crate::words::attempt::{Attempt, Outcome};
use crate::words::digest::Digest;
use crate::words::effect::{Asked, Entry, Ruled, Said, Waiting};
use crate::words::tape::Read;

/// A shorter text is taken out where the pointer says, and not looked for elsewhere: it is in too much.
const LOOKED_FOR_BYTES_MIN: usize = 4;

impl Record {
    /// Takes out what the pointers (RFC 6901) name in the event's body: texts wherever they went, numbers and flags in
    /// their place.
    ///
    /// # Errors
    /// The body is no JSON, or has nothing there; a text is still in the record afterwards.
    pub fn redact(&mut self, pointers: &[String]) -> Result<(), Error> {
        if pointers.is_empty() {
            return Ok(());
        }
        let Blob::Text(text) = &self.event.body else {
            return Err(Error::Redaction("the event's body is no text; nothing in it has a name".into()));
        };
        let mut body: Value = serde_json::from_str(text)
            .map_err(|error| Error::Redaction(format!("the event's body is no JSON: {error}")))?;
        let mut words = Vec::new();
        for pointer in pointers {
            let value = body.pointer_mut(pointer).ok_or_else(|| {
                Error::Redaction(format!("the event's body has no `{pointer}`; type one as /data/email"))
            })?;
            replace(value, &mut words);
        }
        let words = Words::new(&words)?;
        words.out_of_value(&mut body);
        self.event.body = Blob::Text(body.to_string());
        self.everywhere(&words)?;
        self.redacted.extend(pointers.iter().cloned());
        match self.still_has(&words)? {
            false => Ok(()),
            true => Err(Error::Redaction(
                "something of what is to be taken out is still in the record, in a spelling or in bytes that are not \
                 looked through; nothing was written"
                    .into(),
            )),
        }
    }

    fn still_has(&self, words: &Words) -> Result<bool, Error> {
        let bytes = self.effects.iter().map(|line| line.bytes.bytes()).collect::<Result<Vec<_>, _>>()?;
        let is_in_bytes = bytes.iter().any(|bytes| words.finder.is_match(bytes.as_ref()));
        Ok(is_in_bytes || words.finder.is_match(&self.to_json()))
    }

    fn everywhere(&mut self, words: &Words) -> Result<(), Error> {
        let event = &mut self.event;
        event.query = event.query.as_deref().map(|text| words.out_of(text));
        event.id = words.out_of(&event.id);
        words.out_of_pairs(&mut event.headers);
        words.out_of_pairs(&mut event.attributes);
        for line in &mut self.effects {
            let bytes = line.bytes.bytes()?;
            line.bytes = match &mut line.entry {
                Entry::Intent(intent) => {
                    let change = |text: &str| words.out_of(text);
                    Blob::of(&rewrite_intent(intent, &bytes, &change).map_err(Error::Unreadable)?)
                }
                entry => {
                    words.out_of_entry(entry);
                    words.out_of_blob(&line.bytes)
                }
            };
        }
        self.attempts.iter_mut().for_each(|attempt| words.out_of_attempt(attempt));
        Ok(())
    }
}

/// Text becomes other text, numbers and flags become nothing, and what holds others holds the same keys.
fn replace(value: &mut Value, words: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let known = words.iter().position(|word| word.eq_ignore_ascii_case(text));
            let at = known.unwrap_or_else(|| {
                words.push(text.clone());
                words.len() - 1
            });
            *text = stand_in(at + 1);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, words)),
        Value::Object(values) => values.values_mut().for_each(|value| replace(value, words)),
        other => *other = Value::Null,
    }
}

fn stand_in(number: usize) -> String {
    format!("redacted-{number}")
}

/// What is looked for, in every spelling, and what comes in its place.
struct Words {
    finder: AhoCorasick,
    stand_ins: Vec<String>,
}

impl Words {
    fn new(words: &[String]) -> Result<Words, Error> {
        let (mut spellings, mut stand_ins) = (Vec::new(), Vec::new());
        for (at, word) in words.iter().enumerate().filter(|(_, word)| word.len() >= LOOKED_FOR_BYTES_MIN) {
            let json = Value::from(word.as_str()).to_string();
            let url: String = url::form_urlencoded::byte_serialize(word.as_bytes()).collect();
            let percent = url.replace('+', "%20");
            for spelling in [json.trim_matches('"').to_owned(), url, percent, word.clone()] {
                spellings.push(spelling);
                stand_ins.push(stand_in(at + 1));
            }
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(true)
            .build(&spellings)
            .map_err(|error| Error::Redaction(error.to_string()))?;
        Ok(Words { finder, stand_ins })
    }

    fn out_of(&self, text: &str) -> String {
        self.finder.replace_all(text, &self.stand_ins)
    }

    fn out_of_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.out_of(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.out_of_value(value)),
            Value::Object(values) => values.values_mut().for_each(|value| self.out_of_value(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn out_of_pairs(&self, pairs: &mut [(String, String)]) {
        pairs.iter_mut().for_each(|(_, value)| *value = self.out_of(value));
    }

    fn out_of_blob(&self, blob: &Blob) -> Blob {
        match blob {
            Blob::Text(text) => Blob::Text(self.out_of(text)),
            other => other.clone(),
        }
    }

    fn out_of_entry(&self, entry: &mut Entry) {
        match entry {
            Entry::Response(response) => {
                match &mut response.said {
                    Said::Answer { headers, .. } => self.out_of_pairs(headers),
                    Said::Broken { why, .. } | Said::NotSent { why, .. } | Said::Unknown { why } => {
                        *why = self.out_of(why);
                    }
                    Said::TooLarge { .. } => {}
                }
                response.asked.iter_mut().for_each(|asked| self.out_of_asked(asked));
            }
            Entry::Waiting(Waiting::Changed { asked, .. })
            | Entry::Ruled(Ruled { on: Waiting::Changed { asked, .. }, .. }) => self.out_of_asked(asked),
            Entry::Waiting(Waiting::Unknown { .. })
            | Entry::Ruled(Ruled { on: Waiting::Unknown { .. }, .. })
            | Entry::Intent(_)
            | Entry::Disowned { .. } => {}
        }
    }

    /// What was asked is not in the record, so its digest cannot be made anew; as it is, it would tell who guessed right.
    fn out_of_asked(&self, asked: &mut Asked) {
        asked.place = self.out_of(&asked.place);
        asked.key = asked.key.as_deref().map(|key| self.out_of(key));
        asked.digest = Digest::of_parts(&[b"redacted", asked.method.as_bytes(), asked.place.as_bytes()]);
    }

    fn out_of_attempt(&self, attempt: &mut Attempt) {
        for call in &mut attempt.calls {
            call.target = self.out_of(&call.target);
            call.key = call.key.as_deref().map(|key| self.out_of(key));
            call.error = call.error.as_deref().map(|error| self.out_of(error));
            // Of what it was asked for before; what it is now stands beside its intent.
            call.digest = None;
        }
        for line in &mut attempt.logs {
            line.message = self.out_of(&line.message);
            self.out_of_pairs(&mut line.fields);
        }
        match &mut attempt.outcome {
            Outcome::Done { note } | Outcome::Skipped { note } => {
                *note = note.as_deref().map(|note| self.out_of(note));
            }
            Outcome::Failed { reason, .. } => *reason = self.out_of(reason),
        }
        for read in attempt.tape.iter_mut().flat_map(|tape| &mut tape.reads) {
            match read {
                Read::Value { key, value } => {
                    *key = self.out_of(key);
                    let text = value.as_ref().and_then(|value| std::str::from_utf8(value).ok());
                    if let Some(text) = text.map(|text| self.out_of(text)) {
                        *value = Some(text.into());
                    }
                }
                Read::Keys { prefix, after, keys, .. } => {
                    *prefix = self.out_of(prefix);
                    *after = after.as_deref().map(|after| self.out_of(after));
                    keys.iter_mut().for_each(|key| *key = self.out_of(key));
                }
                Read::Failed { why } => *why = self.out_of(why),
                Read::Bytes { .. } => {}
            }
        }
    }
}
