//! Json: picks a few scalars out of a body by their paths, in one pass, without building the tree.
//!
//! What lies beside the paths is skipped without recursion and without being decoded: a text that a provider
//! cut in the middle of an emoji (a lone `\ud83d`) does not cost an event its id. Grammar is still checked to
//! the last byte. Of a key that is there twice the last one counts, since that is what handlers will see.
//!
//! Integers are kept as written; other numbers are no scalars here, as they do not print back exactly.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::skim;
use crate::words::limits::JSON_DEPTH_MAX;

/// Keys of objects, and positions in lists, from the root on: `data.leadId`, `events.0.id`. Empty: the root itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    pub(super) fn parse(text: &str) -> Result<Path, String> {
        if text == "." {
            return Ok(Path(Vec::new()));
        }
        let segments: Vec<String> = text.split('.').map(str::to_owned).collect();
        if segments.iter().any(String::is_empty) {
            return Err(format!(
                "`{text}` is not a path; write keys with dots between them, as json:data.id"
            ));
        }
        if text.contains(['[', ']']) {
            return Err(format!(
                "`{text}`: an element of a list is named by its position, from 0; write json:events.0.id"
            ));
        }
        if segments.len() > JSON_DEPTH_MAX {
            return Err(format!("a path has at most {JSON_DEPTH_MAX} keys"));
        }
        Ok(Path(segments))
    }

    /// Puts a text there, for a body that is made here. A key that is a number makes a list where nothing was.
    pub(super) fn put(&self, document: &mut Value, text: &str) {
        let at = self.0.iter().fold(document, |at, key| match (key.parse::<usize>(), &mut *at) {
            (Ok(position), Value::Array(_) | Value::Null) => element(at, position),
            _ => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                &mut at[key.as_str()]
            }
        });
        *at = Value::String(text.to_owned());
    }
}

/// Nobody makes a longer list of nothing.
const MADE_LIST_MAX: usize = 64;

fn element(at: &mut Value, position: usize) -> &mut Value {
    if !at.is_array() {
        *at = Value::Array(Vec::new());
    }
    let position = position.min(MADE_LIST_MAX);
    let list = at.as_array_mut().expect("it was made one");
    list.resize(list.len().max(position + 1), Value::Null);
    &mut list[position]
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str(".") } else { f.write_str(&self.0.join(".")) }
    }
}

/// Several paths as one tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Picker {
    root: Node,
    paths: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// The paths that end here.
    slots: Vec<usize>,
    children: Vec<(String, Node)>,
}

pub(super) type Picked = Vec<Option<String>>;

impl Picker {
    pub(super) fn new(paths: &[&Path]) -> Picker {
        let mut root = Node::default();
        for (slot, path) in paths.iter().enumerate() {
            path.0.iter().fold(&mut root, |node, key| node.child(key)).slots.push(slot);
        }
        Picker { root, paths: paths.len() }
    }

    /// A scalar or None for each path, in the order of the paths; an error where the body is not JSON.
    pub(super) fn pick(&self, body: &[u8]) -> Result<Picked, serde_json::Error> {
        self.skim(body).map_or_else(|| self.parse(body), Ok)
    }

    /// As `parse`, for nearly every body, in a third of its steps; None for the others.
    pub(super) fn skim(&self, body: &[u8]) -> Option<Picked> {
        skim::skim(&self.root, self.paths, body)
    }

    pub(super) fn parse(&self, body: &[u8]) -> Result<Picked, serde_json::Error> {
        let mut picked = vec![None; self.paths];
        let mut json = serde_json::Deserializer::from_slice(body);
        Pick { node: &self.root, picked: &mut picked }.deserialize(&mut json)?;
        json.end()?;
        Ok(picked)
    }
}

impl Node {
    fn child(&mut self, key: &str) -> &mut Node {
        let at = self.children.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
            self.children.push((key.to_owned(), Node::default()));
            self.children.len() - 1
        });
        &mut self.children[at].1
    }

    pub(super) fn is_end(&self) -> bool {
        self.children.is_empty()
    }

    /// The element at a position of a list.
    pub(super) fn at(&self, position: usize) -> Option<&Node> {
        if self.children.is_empty() { None } else { self.get(position.to_string().as_bytes()) }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Node> {
        self.children.iter().find(|(name, _)| name.as_bytes() == key).map(|(_, node)| node)
    }

    pub(super) fn set(&self, picked: &mut Picked, text: &str) {
        for slot in &self.slots {
            picked[*slot] = Some(text.to_owned());
        }
    }

    pub(super) fn clear(&self, picked: &mut Picked) {
        for slot in &self.slots {
            picked[*slot] = None;
        }
        for (_, child) in &self.children {
            child.clear(picked);
        }
    }
}

struct Pick<'n, 'p> {
    node: &'n Node,
    picked: &'p mut Picked,
}

impl<'de> DeserializeSeed<'de> for Pick<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Pick<'_, '_> {
    fn set<E>(self, text: &str) -> Result<(), E> {
        self.node.set(self.picked, text);
        Ok(())
    }
}

impl<'de> Visitor<'de> for Pick<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(&value.to_string())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(&value.to_string())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(&value.to_string())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.set(text)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for position in 0.. {
            let is_there = match self.node.at(position) {
                Some(node) => items.next_element_seed(Pick { node, picked: self.picked })?.is_some(),
                None => items.next_element::<IgnoredAny>()?.is_some(),
            };
            if !is_there {
                break;
            }
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(wanted) = entries.next_key_seed(Wanted(self.node))? {
            match wanted {
                Some(node) => {
                    node.clear(self.picked);
                    entries.next_value_seed(Pick { node, picked: self.picked })?;
                }
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a key and says which child it is, without keeping it.
struct Wanted<'n>(&'n Node);

impl<'de, 'n> DeserializeSeed<'de> for Wanted<'n> {
    type Value = Option<&'n Node>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Wanted<'n> {
    type Value = Option<&'n Node>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(key.as_bytes()))
    }
}

// === the elements of a list ===

/// Where each element of the list at `path` lies in the body, in their order.
///
/// # Errors
/// In words: not JSON, no list there.
pub(super) fn elements(path: &Path, body: &[u8]) -> Result<Vec<Range<usize>>, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let found = Elements { path: &path.0 }.deserialize(&mut json);
    let found = found.and_then(|found| json.end().map(|()| found));
    let found = found.map_err(|why| format!("body is not JSON: {why}"))?;
    let found = found.ok_or_else(|| format!("there is no list at JSON field `{path}`"))?;
    let range = |raw: &&RawValue| {
        let from = raw.get().as_ptr() as usize - body.as_ptr() as usize;
        from..from + raw.get().len()
    };
    Ok(found.iter().map(range).collect())
}

/// The rest of the way to a list.
#[derive(Clone, Copy)]
struct Elements<'p> {
    path: &'p [String],
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Option<Vec<&'de RawValue>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Option<Vec<&'de RawValue>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else {
            let mut found = Vec::new();
            while let Some(raw) = items.next_element::<&RawValue>()? {
                found.push(raw);
            }
            return Ok(Some(found));
        };
        let mut found = None;
        for position in 0.. {
            if position.to_string() == *wanted {
                match items.next_element_seed(Elements { path: rest })? {
                    Some(inner) => found = inner,
                    None => break,
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }
    /// Of a key that is there twice the last one counts, as for `Picker`.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
            match self.path.split_first() {
                Some((wanted, rest)) if key == wanted.as_str() => {
                    found = entries.next_value_seed(Elements { path: rest })?;
                }
                _ => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn pick(paths: &[&str], body: &str) -> Option<Picked> {
        let paths: Vec<Path> = paths.iter().map(|text| Path::parse(text).unwrap()).collect();
        Picker::new(&paths.iter().collect::<Vec<_>>()).pick(body.as_bytes()).ok()
    }

    fn one(path: &str, body: &str) -> Option<String> {
        pick(&[path], body).unwrap().remove(0)
    }

    #[test]
    fn scalars_are_picked_as_written() {
        assert_eq!(one("a", r#"{"a":"x"}"#).as_deref(), Some("x"));
        assert_eq!(one("a.b", r#"{"c":[1],"a":{"x":{},"b":"y"}}"#).as_deref(), Some("y"));
        assert_eq!(one("a", r#"{"a":18446744073709551615}"#).as_deref(), Some("18446744073709551615"));
        assert_eq!(one("a", r#"{"a":-3}"#).as_deref(), Some("-3"));
        assert_eq!(one("a", r#"{"a":true}"#).as_deref(), Some("true"));
        assert_eq!(one("a", "{\"\\u0061\":\"\\u00e9\\n\"}").as_deref(), Some("é\n"));
    }

    #[test]
    fn what_is_no_scalar_is_none() {
        for body in [
            r#"{"a":null}"#,
            r#"{"a":{}}"#,
            r#"{"a":["x"]}"#,
            r#"{"a":1.5}"#,
            r#"{"a":1e3}"#,
            r#"{"a":18446744073709551616}"#,
            r#"{"b":"x"}"#,
            r#"{"a":{"a":"x"}}"#,
            "[]",
            "\"a\"",
            "7",
        ] {
            assert_eq!(one("a", body), None, "{body}");
        }
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(one("a", r#"{"a":"first","a":"last"}"#).as_deref(), Some("last"));
        assert_eq!(one("a", r#"{"a":"first","a":null}"#), None);
        assert_eq!(one("a.b", r#"{"a":{"b":"first"},"a":{"c":1}}"#), None);
        assert_eq!(one("a.b", r#"{"a":{"b":"first"},"a":7}"#), None);
    }

    #[test]
    fn one_pass_serves_several_paths() {
        let picked = pick(&["t", "d.i", "t", "d", "d.i.x"], r#"{"d":{"i":1},"t":"a"}"#).unwrap();
        assert_eq!(picked, [Some("a".into()), Some("1".into()), Some("a".into()), None, None]);
    }

    #[test]
    fn what_is_not_json_is_an_error_to_the_last_byte() {
        for body in [
            "",
            "x",
            r#"{"a":"x""#,
            r#"{"a":"x"} {}"#,
            r#"{"a":"x",}"#,
            "a=b",
            r#"{"a":"x","b":tru}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(pick(&["a"], body), None, "{body}");
        }
    }

    #[test]
    fn what_lies_beside_the_path_cannot_hurt() {
        let deep = format!(r#"{{"x":{}{},"a":"id"}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(one("a", &deep).as_deref(), Some("id"));
        assert_eq!(one("a", r#"{"x":"cut \ud83d","a":"id"}"#).as_deref(), Some("id"));
        let bytes = b"{\"x\":\"\xff\xfe\",\"a\":\"id\"}";
        let path = Path::parse("a").unwrap();
        assert_eq!(Picker::new(&[&path]).pick(bytes).unwrap(), [Some("id".into())]);
    }

    #[test]
    fn paths_are_checked() {
        for bad in ["", "a..b", ".a", "a.", "events[].id", "[0]"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
        assert!(Path::parse(&vec!["a"; JSON_DEPTH_MAX].join(".")).is_ok());
        assert!(Path::parse(&vec!["a"; JSON_DEPTH_MAX + 1].join(".")).is_err());
        let deepest = vec!["a"; JSON_DEPTH_MAX].join(".");
        let body = format!("{}\"x\"{}", r#"{"a":"#.repeat(JSON_DEPTH_MAX), "}".repeat(JSON_DEPTH_MAX));
        assert_eq!(one(&deepest, &body).as_deref(), Some("x"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ab\\\\\"\u{e9}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[ab]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn naive(value: &Value, path: &str) -> Option<String> {
        match path.split('.').try_fold(value, |value, key| value.get(key).filter(|_| value.is_object()))? {
            Value::String(text) => Some(text.clone()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(number) if !number.is_f64() => Some(number.to_string()),
            _ => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn picking_is_what_a_tree_would_give(value in any_json()) {
            let body = value.to_string();
            let paths = ["a", "b", "a.a", "a.b", "ab.b", "a.b.a"];
            let expected: Picked = paths.iter().map(|path| naive(&value, path)).collect();
            prop_assert_eq!(pick(&paths, &body), Some(expected));
        }

        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let path = Path::parse("a.b").unwrap();
            let _ = Picker::new(&[&path]).pick(&body);
        }
    }
}
