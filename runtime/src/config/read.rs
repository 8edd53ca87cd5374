//! Read: from a tree of values to typed fields, going on after each problem so that all are told at once.
//!
//! A field that cannot be read is reported and gets its default, or an empty placeholder; a configuration with an
//! error is never handed out, so a placeholder never leaves the room. The names that a section asks for are the
//! keys that it knows: whatever else stands there is an unknown key.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use super::load::Tree;
use super::problem::{Origin, Problem, Problems};
use super::values::Humane;
use crate::words::event::Name;

pub(super) struct Reader<'a> {
    tree: &'a Tree,
    problems: RefCell<Problems>,
}

/// One value of the tree, with its key path.
#[derive(Clone)]
pub(super) struct Node<'a> {
    reader: &'a Reader<'a>,
    pub(super) key: String,
    pub(super) value: &'a Value,
}

/// One mapping of the tree while its fields are read.
pub(super) struct Fields<'a> {
    reader: &'a Reader<'a>,
    key: String,
    /// None where nobody wrote it: every field is then absent.
    map: Option<&'a Map<String, Value>>,
    asked: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Reader { tree, problems: RefCell::default() }
    }

    pub(super) fn root<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> (T, Problems) {
        let mut fields =
            Fields { reader: self, key: String::new(), map: self.tree.value.as_object(), asked: vec![] };
        let out = read(&mut fields);
        fields.refuse_unknown();
        (out, self.problems.take())
    }
}

impl<'a> Node<'a> {
    pub(super) fn error(&self, message: impl Into<String>) {
        self.reader.problems.borrow_mut().push(Problem::error(self.origin(), self.key.clone(), message));
    }

    /// What stands below it, for a problem that was found there.
    pub(super) fn below(&self, path: &[String]) -> Node<'a> {
        let key = path.iter().fold(self.key.clone(), |key, segment| format!("{key}.{segment}"));
        Node { key, ..self.clone() }
    }

    /// The value of one of its keys, where it is a mapping that has it; an empty one counts as not written.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Node { reader: self.reader, key: format!("{}.{name}", self.key), value })
    }

    pub(super) fn origin(&self) -> Origin {
        self.reader.tree.origin(&self.key)
    }

    /// What a relative path written here counts from.
    pub(super) fn base(&self) -> &'a Path {
        self.reader.tree.base(&self.key)
    }

    /// Reads it by `parse`, or reports why not.
    pub(super) fn read<T>(&self, parse: impl FnOnce(&Node<'a>) -> Result<T, String>) -> Option<T> {
        parse(self).map_err(|why| self.error(why)).ok()
    }

    /// Its fields, where it is a mapping; else says so, with `example` for what to type.
    pub(super) fn fields<T>(&self, example: &str, read: impl FnOnce(&mut Fields<'a>) -> T) -> Option<T> {
        let map = match self.value {
            Value::Object(map) => Some(map),
            Value::Null => None,
            other => {
                self.error(format!("a mapping is expected here, not {}; type `{example}`", kind(other)));
                return None;
            }
        };
        let mut fields = Fields { reader: self.reader, key: self.key.clone(), map, asked: vec![] };
        let out = read(&mut fields);
        fields.refuse_unknown();
        Some(out)
    }

    /// Its elements, where it is a list of at most `most`; what cannot be read is reported and left out.
    pub(super) fn list<T>(
        &self,
        most: usize,
        example: &str,
        read: impl Fn(&Node<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Array(values) = self.value else {
            self.error(format!("a list is expected here, not {}; type `{example}`", kind(self.value)));
            return None;
        };
        if values.len() > most {
            self.error(format!("{} are written here, and {most} are the most; take some away", values.len()));
        }
        let node = |(i, value)| Node { reader: self.reader, key: format!("{}.{i}", self.key), value };
        Some(values.iter().take(most).enumerate().map(node).filter_map(|node| read(&node)).collect())
    }
}

impl<'a> Node<'a> {
    /// Its entries, where it is a mapping of at most `most`.
    fn entries(&self, name: &str, most: usize) -> Vec<(String, Node<'a>)> {
        let Value::Object(entries) = self.value else {
            let found = kind(self.value);
            self.error(format!("names are expected here, not {found}; type `{name}: {{ a-name: {{ … }} }}`"));
            return Vec::new();
        };
        if entries.len() > most {
            self.error(format!(
                "{} are written here, and {most} are the most; take some away",
                entries.len()
            ));
        }
        let node = |(entry, value): (&String, &'a Value)| {
            (entry.clone(), Node { reader: self.reader, key: format!("{}.{entry}", self.key), value })
        };
        entries.iter().take(most).map(node).collect()
    }
}

impl<'a> Fields<'a> {
    /// A field that somebody wrote; an empty value counts as not written.
    pub(super) fn node(&mut self, name: &'static str) -> Option<Node<'a>> {
        self.asked.push(name);
        let value = self.map?.get(name).filter(|value| !value.is_null())?;
        Some(Node { reader: self.reader, key: self.below(name), value })
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Node<'a>) -> Result<T, String>,
    ) -> Option<T> {
        self.node(name)?.read(parse)
    }

    pub(super) fn or<T>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&Node<'a>) -> Result<T, String>,
    ) -> T {
        self.optional(name, parse).unwrap_or(default)
    }

    /// A field without a default; `type_this` completes "…; type".
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        type_this: &str,
        parse: impl FnOnce(&Node<'a>) -> Result<T, String>,
    ) -> Option<T> {
        match self.node(name) {
            Some(node) => node.read(parse),
            None => {
                self.missing(name, type_this);
                None
            }
        }
    }

    pub(super) fn missing(&self, name: &str, type_this: &str) {
        let key = self.below(name);
        let problem = Problem::error(
            self.reader.tree.origin(&key),
            key,
            format!("this is missing; type `{type_this}`"),
        );
        self.reader.problems.borrow_mut().push(problem);
    }

    /// A humane value inside its range.
    pub(super) fn within<T: Humane>(
        &mut self,
        name: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        self.optional_within(name, range).unwrap_or(default)
    }

    pub(super) fn optional_within<T: Humane>(
        &mut self,
        name: &'static str,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        self.optional(name, |node| {
            let value = T::parse(node.value)?;
            if range.contains(&value) {
                return Ok(value);
            }
            let (least, most) = (range.start().show(), range.end().show());
            Err(format!("{} is out of range; type a value from {least} to {most}", value.show()))
        })
    }

    pub(super) fn choice<T: Clone>(&mut self, name: &'static str, default: T, choices: &[(&str, T)]) -> T {
        self.or(name, default, |node| {
            let found = node.value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
            found.map(|(_, value)| value.clone()).ok_or_else(|| {
                let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
                format!("{} is none of the choices; type {}", echo(node.value), words.join(" or "))
            })
        })
    }

    /// A section inside this one; where nobody wrote it, all its fields are absent.
    pub(super) fn section<T>(&mut self, name: &'static str, read: impl Fn(&mut Fields<'a>) -> T) -> T {
        let example = format!("{name}: {{ … }}");
        let read_it = self.node(name).and_then(|node| node.fields(&example, &read));
        read_it.unwrap_or_else(|| {
            read(&mut Fields { reader: self.reader, key: self.below(name), map: None, asked: vec![] })
        })
    }

    /// A list that may be left out.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        most: usize,
        example: &str,
        read: impl Fn(&Node<'a>) -> Option<T>,
    ) -> Vec<T> {
        self.node(name).and_then(|node| node.list(most, example, read)).unwrap_or_default()
    }

    /// A list with at least one element.
    pub(super) fn required_list<T>(
        &mut self,
        name: &'static str,
        most: usize,
        example: &str,
        read: impl Fn(&Node<'a>) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.node(name) else {
            self.missing(name, example);
            return Vec::new();
        };
        if node.value.as_array().is_some_and(Vec::is_empty) {
            node.error(format!("this list is empty; type `{example}`"));
        }
        node.list(most, example, read).unwrap_or_default()
    }

    /// A mapping whose keys the operator chooses for a plugin: the names of its secrets.
    pub(super) fn entries<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&Node<'a>) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let Some(node) = self.node(name) else { return BTreeMap::new() };
        node.entries(name, most).into_iter().filter_map(|(entry, node)| Some((entry, read(&node)?))).collect()
    }

    /// A mapping of names to sections: sources, handlers, subscriptions. Entries with a bad name are
    /// reported, their fields too, and left out.
    pub(super) fn named<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&mut Fields<'a>) -> T,
    ) -> BTreeMap<Name, T> {
        let Some(node) = self.node(name) else { return BTreeMap::new() };
        let mut out = BTreeMap::new();
        for (entry, node) in node.entries(name, most) {
            let entry_name =
                node.read(|_| Name::new(&entry).map_err(|e| format!("{e}; type `{}`", as_name(&entry))));
            let section = node.fields(&format!("{entry}: {{ … }}"), &read);
            if let (Some(entry_name), Some(section)) = (entry_name, section) {
                out.insert(entry_name, section);
            }
        }
        out
    }

    /// What relative paths of this section count from, where it has none of its own.
    pub(super) fn base(&self) -> &'a Path {
        self.reader.tree.base(&self.key)
    }

    fn below(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    fn refuse_unknown(self) {
        let Some(map) = self.map else { return };
        for name in map.keys().filter(|name| !self.asked.contains(&name.as_str())) {
            let key = self.below(name);
            let message = unknown(name, &self.asked);
            let problem = Problem::error(self.reader.tree.origin(&key), key, message);
            self.reader.problems.borrow_mut().push(problem);
        }
    }
}

/// "this key is unknown" with the nearest known one, or all of them.
pub(super) fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("this key is unknown; type `{near}`"),
        None => {
            let mut message = "this key is unknown here; type one of ".to_owned();
            for (i, key) in known.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                let _ = write!(message, "{comma}`{key}`");
            }
            message
        }
    }
}

/// The known word that was probably meant: at most a third of its letters are wrong.
pub fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What a YAML value is, for "… is expected here, not a list".
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// A value in a message: short, and never called for anything that may be a secret.
pub(super) fn echo(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let short: String = text.chars().take(60).collect();
            let more = if short.len() < text.len() { "…" } else { "" };
            format!("`{short}{more}`")
        }
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        other => kind(other).to_owned(),
    }
}

/// The nearest text that would be a name.
pub(super) fn as_name(text: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' => c,
        _ => '-',
    };
    let name: String = text.chars().map(letter).take(crate::words::event::NAME_BYTES_MAX).collect();
    let name = name.trim_matches(['-', '_']);
    if name.is_empty() { "a-name".to_owned() } else { name.to_owned() }
}
