//! Results: what was measured, as files that outlive the run and can be rendered later.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::machine;
use super::site::Site;
use crate::workspace::Workspace;
use crate::{OrTrouble as _, Result};

/// Writes `value` as `name.json`, with the machine and the date.
pub(super) fn save(site: &Site<'_>, name: &str, mut value: Value) -> Result<Value> {
    value["machine"] = machine::facts(&site.data);
    value["date"] = machine::today().into();
    let folder = folder(&site.workspace);
    fs::create_dir_all(&folder).or_trouble("the folder of the results cannot be made")?;
    let text = serde_json::to_string_pretty(&value).expect("a value is JSON") + "\n";
    // By way of a rename: an interrupted run leaves the old result or the new one, whole.
    let (half, path) = (folder.join(format!("{name}.json.new")), folder.join(format!("{name}.json")));
    fs::write(&half, text)
        .and_then(|()| fs::rename(&half, &path))
        .or_trouble(format!("`{name}.json` cannot be written"))?;
    Ok(value)
}

/// None where it was not measured yet.
pub(super) fn read(workspace: &Workspace, name: &str) -> Option<Value> {
    let text = fs::read_to_string(folder(workspace).join(format!("{name}.json"))).ok()?;
    serde_json::from_str(&text).ok()
}

pub(super) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("bench/results")
}

/// `value["a"]["b"]` by `a.b`; NaN where it is not there.
pub(super) fn number(value: &Value, path: &str) -> f64 {
    path.split('.').fold(value, |value, key| &value[key]).as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_path() {
        let value = serde_json::json!({"a": {"b": 1.5}});
        assert_eq!(number(&value, "a.b"), 1.5);
        assert!(number(&value, "a.c").is_nan());
    }
}
