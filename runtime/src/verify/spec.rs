//! Spec: the scheme language as an operator writes it in YAML, and as `presets.yaml` holds it.

use serde::Deserialize;

/// One scheme as written. `config` deserialises it; `Scheme::compile` judges it.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {}

/// What is wrong with a spec: the key inside it, and a sentence that ends with what to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub message: String,
}
