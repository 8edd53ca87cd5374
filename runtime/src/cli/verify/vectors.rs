//! Vectors: judges recorded requests by the schemes that are shipped, one line of JSON for each.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::super::failure::Failure;
use super::super::screen::Screen;
use super::super::{Ended, Result};
use crate::verify::vectors::judge;

pub(super) fn run(file: &Path, screen: &Screen) -> Result {
    let text = std::fs::read(file).map_err(|e| Failure::unreadable(file, &e))?;
    let vectors: Vec<Value> = serde_json::from_slice(&text)
        .map_err(|e| Failure::failed(format!("`{}` is no JSON array of vectors: {e}", file.display())))?;
    let mut lines = String::new();
    let mut tally = Tally::default();
    for vector in &vectors {
        let judgement = judge(vector);
        tally.count(vector.get("valid").and_then(Value::as_bool), judgement.valid);
        let line = serde_json::to_string(&judgement).expect("five plain fields are JSON");
        writeln!(lines, "{line}").expect("a String takes all text");
    }
    screen.data(&lines)?;
    screen.say(&tally.in_words());
    Ok(if tally.as_marked == tally.marked { Ended::Well } else { Ended::Badly })
}

/// How the judgements compare with what the vectors say of themselves.
#[derive(Default)]
struct Tally {
    marked: usize,
    as_marked: usize,
    /// Without a mark: nothing to compare with.
    unmarked: usize,
    /// Of those that are not as marked: not judged at all.
    unjudged: usize,
}

impl Tally {
    fn count(&mut self, marked: Option<bool>, judged: Option<bool>) {
        match (marked, judged) {
            (None, _) => self.unmarked += 1,
            (Some(_), None) => {
                self.marked += 1;
                self.unjudged += 1;
            }
            (Some(marked), Some(judged)) => {
                self.marked += 1;
                self.as_marked += usize::from(marked == judged);
            }
        }
    }

    fn in_words(&self) -> String {
        let mut words = format!("{} of {} as marked", self.as_marked, self.marked);
        if self.unjudged > 0 {
            let _ = write!(words, "; {} could not be judged", self.unjudged);
        }
        if self.unmarked > 0 {
            let _ = write!(words, "; {} without a mark", self.unmarked);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_marked_is_counted() {
        let mut tally = Tally::default();
        for (marked, judged) in [
            (Some(true), Some(true)),
            (Some(false), Some(false)),
            (Some(true), Some(false)),
            (Some(true), None),
            (None, Some(true)),
        ] {
            tally.count(marked, judged);
        }
        assert_eq!(tally.in_words(), "2 of 4 as marked; 1 could not be judged; 1 without a mark");
    }
}
