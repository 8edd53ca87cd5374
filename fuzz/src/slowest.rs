//! Slowest: keeps the inputs that took longest, so that they can be looked at without the fuzzer.
//!
//! A processor that others use is slow now and then; so a time counts only when it comes out again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::case::Case;
use crate::check::{Seen, check};

/// Bodies below this say little about what a byte costs.
const LARGE_BYTES: usize = 16 << 10;
const AGAIN: usize = 5;

pub struct Slowest {
    folder: PathBuf,
    /// Of one request.
    request: Duration,
    /// Of a MiB, by what a large body took.
    mib: Duration,
}

impl Slowest {
    pub fn new(folder: PathBuf) -> Slowest {
        fs::create_dir_all(&folder).expect("the folder of the slowest can be made");
        Slowest { folder, request: Duration::ZERO, mib: Duration::ZERO }
    }

    /// Each secret costs a hash of the body, which is nobody's fault: only cases with one count.
    pub fn saw(&mut self, bytes: &[u8], case: &Case, seen: Seen) {
        let body = case.request.body.len();
        if seen.live_keys > 1 || !self.is_slower(seen.took, body) {
            return;
        }
        let again = (0..AGAIN).map(|_| check(case, crate::cpu).took);
        let took = again.min().unwrap_or_default().min(seen.took);
        if self.is_slower(took, body) {
            self.request = self.request.max(took);
            if body >= LARGE_BYTES {
                self.mib = self.mib.max(mib(took, body));
            }
            let name = format!("{:07}us-{body}-bytes", took.as_micros());
            fs::write(self.folder.join(name), bytes).expect("the folder of the slowest can be written to");
        }
    }

    /// By a tenth: the last figures of a time are noise.
    fn is_slower(&self, took: Duration, body: usize) -> bool {
        took > self.request * 11 / 10 || (body >= LARGE_BYTES && mib(took, body) > self.mib * 11 / 10)
    }
}

fn mib(took: Duration, body: usize) -> Duration {
    took.mul_f64(f64::from(1 << 20) / body as f64)
}
