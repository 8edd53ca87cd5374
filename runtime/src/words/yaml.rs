//! YAML: a text to a JSON value, with the place of every key, so that a problem can name a line.

use std::collections::BTreeMap;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Document {
    pub value: Value,
    /// By path (`sources.sendpilot.secrets.0`): where the key stands, or the element of a list.
    pub places: BTreeMap<String, Place>,
}

/// Counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct SyntaxError {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

pub fn parse(text: &str) -> Result<Document, SyntaxError> {
    let documents = MarkedYaml::load_from_str(text).map_err(|e| SyntaxError {
        line: e.marker().line(),
        column: e.marker().col() + 1,
        message: e.info().to_owned(),
    })?;
    let mut places = BTreeMap::new();
    let value = match documents.first() {
        None => Value::Null,
        Some(root) => convert(root, "", &mut places)?,
    };
    Ok(Document { value, places })
}

fn place(node: &MarkedYaml<'_>) -> Place {
    Place { line: node.span.start.line(), column: node.span.start.col() + 1 }
}

fn convert(
    node: &MarkedYaml<'_>,
    path: &str,
    places: &mut BTreeMap<String, Place>,
) -> Result<Value, SyntaxError> {
    let bad = |message: &str| {
        let Place { line, column } = place(node);
        SyntaxError { line, column, message: message.to_owned() }
    };
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    Ok(match &node.data {
        YamlData::Value(scalar) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(b) => Value::Bool(*b),
            Scalar::Integer(i) => Value::from(*i),
            Scalar::FloatingPoint(f) => Value::from(f.into_inner()),
            Scalar::String(s) => Value::String(s.to_string()),
        },
        YamlData::Sequence(items) => {
            let mut list = Vec::new();
            for (i, item) in items.iter().enumerate() {
                let path = below(&i.to_string());
                places.insert(path.clone(), place(item));
                list.push(convert(item, &path, places)?);
            }
            Value::Array(list)
        }
        YamlData::Mapping(entries) => {
            let mut map = serde_json::Map::new();
            for (key, item) in entries {
                let YamlData::Value(Scalar::String(name)) = &key.data else {
                    return Err(bad("a key is text; put it in quotes"));
                };
                let path = below(name);
                places.insert(path.clone(), place(key));
                map.insert(name.to_string(), convert(item, &path, places)?);
            }
            Value::Object(map)
        }
        _ => return Err(bad("tags are not used here; take the `!tag` away")),
    })
}
