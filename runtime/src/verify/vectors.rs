//! TEMP
pub fn judge(_: &str) -> Result<Vec<serde_json::Value>, String> { Ok(vec![]) }
