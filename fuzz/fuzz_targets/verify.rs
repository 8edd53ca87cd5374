//! Verify: libFuzzer's bytes as cases. What came of them is counted in `counts.json` of `LONGSHORE_FUZZ`, and the slowest
//! are kept beside it.

#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use longshore_fuzz::case::Case;
use longshore_fuzz::check::{End, Seen, check};
use longshore_fuzz::slowest::Slowest;

/// `server.max_body` of the bar: what a request may take is said of this size.
const BODY_BYTES_MAX: usize = 1 << 20;
const WRITTEN_EVERY: u64 = 1 << 14;

struct Book {
    folder: PathBuf,
    runs: u64,
    ends: BTreeMap<End, u64>,
    slowest: Slowest,
}

static BOOK: LazyLock<Mutex<Book>> = LazyLock::new(|| {
    let folder = PathBuf::from(std::env::var_os("LONGSHORE_FUZZ").unwrap_or_else(|| "fuzz-out".into()));
    let slowest = Slowest::new(folder.join("slowest"));
    Mutex::new(Book { folder, runs: 0, ends: BTreeMap::new(), slowest })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let case = Case::read(bytes, BODY_BYTES_MAX);
    let seen = check(&case, longshore_fuzz::cpu);
    BOOK.lock().expect("one thread runs").note(bytes, &case, seen);
});

impl Book {
    fn note(&mut self, bytes: &[u8], case: &Case, seen: Seen) {
        self.runs += 1;
        *self.ends.entry(seen.end).or_default() += 1;
        self.slowest.saw(bytes, case, seen);
        if self.runs % WRITTEN_EVERY == 0 {
            let ends: BTreeMap<String, u64> =
                self.ends.iter().map(|(end, count)| (format!("{end:?}"), *count)).collect();
            let text = serde_json::json!({"runs": self.runs, "ends": ends}).to_string();
            std::fs::write(self.folder.join("counts.json"), text).expect("the folder can be written to");
        }
    }
}
