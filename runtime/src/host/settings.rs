//! Settings as a guest reads them: prepared once for each handler, borrowed by every call.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::SettingKind;

#[derive(Debug, Default)]
pub(super) struct Settings {
    texts: BTreeMap<String, String>,
    all: String,
}

impl Settings {
    pub(super) fn new(values: &Map<String, Value>) -> Settings {
        let texts = values.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        Settings { texts, all: Value::Object(values.clone()).to_string() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// One JSON object.
    pub(super) fn all(&self) -> &str {
        if self.all.is_empty() { "{}" } else { &self.all }
    }
}

/// Scalars as text, the rest as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A manifest's default, as the value that an operator would have written.
pub(super) fn parse_default(kind: SettingKind, text: &str) -> Result<Value, &'static str> {
    let json = serde_json::from_str::<Value>(text).ok();
    match (kind, json) {
        (SettingKind::Secret, _) => Err("a secret has no default"),
        (SettingKind::Text, _) => Ok(Value::String(text.to_owned())),
        (SettingKind::Number, Some(number @ Value::Number(_))) => Ok(number),
        (SettingKind::Number, _) => Err("is not a number"),
        (SettingKind::Boolean, Some(flag @ Value::Bool(_))) => Ok(flag),
        (SettingKind::Boolean, _) => Err("is neither true nor false"),
        (SettingKind::Json, Some(value)) => Ok(value),
        (SettingKind::Json, None) => Err("is not JSON"),
    }
}

/// An operator's value as its setting's kind wants it, or what to write instead.
pub(super) fn fit(kind: SettingKind, key: &str, value: &Value) -> Result<Value, String> {
    match (kind, value) {
        (SettingKind::Text, Value::String(_))
        | (SettingKind::Number, Value::Number(_))
        | (SettingKind::Boolean, Value::Bool(_)) => Ok(value.clone()),
        (SettingKind::Text, Value::Number(_) | Value::Bool(_)) => {
            Err(format!("is a {}, not text; quote it: {key}: \"{value}\"", name_of(value)))
        }
        (SettingKind::Text, _) => Err(format!("is a {}, not text; write {key}: \"…\"", name_of(value))),
        (SettingKind::Number, _) => Err(format!("is a {}, not a number; write {key}: 5", name_of(value))),
        (SettingKind::Boolean, _) => {
            Err(format!("is a {}, not a boolean; write {key}: true or {key}: false", name_of(value)))
        }
        // JSON in a string, as it comes from an environment variable.
        (SettingKind::Json, Value::String(text)) => serde_json::from_str(text)
            .map_err(|error| format!("is text that is no JSON ({error}); write it as YAML or as JSON")),
        (SettingKind::Json, other) => Ok(other.clone()),
        (SettingKind::Secret, _) => Err("is a secret".into()),
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_guest_reads_scalars_as_text_and_the_rest_as_json() {
        let Value::Object(values) =
            json!({"t": "a\"b", "n": 1.5, "b": true, "l": [1, "x"], "o": {"k": null}})
        else {
            unreachable!()
        };
        let settings = Settings::new(&values);
        let read = |key| settings.get(key).unwrap();
        assert_eq!([read("t"), read("n"), read("b")], ["a\"b", "1.5", "true"]);
        assert_eq!([read("l"), read("o")], ["[1,\"x\"]", "{\"k\":null}"]);
        assert_eq!(settings.get("absent"), None);
        assert_eq!(serde_json::from_str::<Value>(settings.all()).unwrap(), Value::Object(values));
        assert_eq!(Settings::default().all(), "{}");
    }

    #[test]
    fn kinds_are_checked() {
        use SettingKind::*;
        for (kind, value) in
            [(Text, json!("x")), (Number, json!(5)), (Boolean, json!(false)), (Json, json!([1]))]
        {
            assert_eq!(fit(kind, "k", &value).unwrap(), value);
        }
        assert_eq!(fit(Json, "k", &json!("{\"a\":1}")).unwrap(), json!({"a": 1}));
        for (kind, value, expected) in [
            (Text, json!(5), "quote it: k: \"5\""),
            (Text, json!([1]), "is a list, not text"),
            (Number, json!("5"), "is a text, not a number"),
            (Boolean, json!("yes"), "write k: true"),
            (Json, json!("{a"), "no JSON"),
        ] {
            let refused = fit(kind, "k", &value).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn defaults_are_of_their_kind() {
        use SettingKind::*;
        assert_eq!(parse_default(Text, "5").unwrap(), json!("5"));
        assert_eq!(parse_default(Number, "5").unwrap(), json!(5));
        assert_eq!(parse_default(Boolean, "true").unwrap(), json!(true));
        assert_eq!(parse_default(Json, "{\"a\":1}").unwrap(), json!({"a": 1}));
        for (kind, text) in [(Number, "five"), (Boolean, "1"), (Json, "{"), (Secret, "x")] {
            assert!(parse_default(kind, text).is_err());
        }
    }
}
