//! Process: what the kernel knows of one that we started: memory, and time on the processors.

use std::fs;

use serde_json::Value;

/// Resident memory: all of it, and what of it is the program's own and no page of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Memory {
    pub(super) resident: f64,
    pub(super) own: f64,
}

pub(super) fn memory(process: u32) -> Memory {
    Memory::of(&fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default())
}

/// User and system time so far, in microseconds.
pub(super) fn cpu_us(process: u32) -> f64 {
    cpu_us_of(&fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default()).unwrap_or(f64::NAN)
}

impl Memory {
    fn of(status: &str) -> Memory {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
            kib.map_or(f64::NAN, |kib| kib * 1024.0)
        };
        Memory { resident: bytes("VmRSS"), own: bytes("RssAnon") }
    }

    pub(super) fn value(self) -> Value {
        serde_json::json!({"resident_bytes": self.resident, "own_bytes": self.own})
    }
}

fn cpu_us_of(stat: &str) -> Option<f64> {
    // The name, in brackets, may hold anything; a tick is a hundredth of a second wherever Linux runs.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) * 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_the_kernels() {
        let text = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\n";
        assert_eq!(Memory::of(text), Memory { resident: 2_097_152.0, own: 1_048_576.0 });
        assert!(Memory::of("").resident.is_nan());
        assert_eq!(cpu_us_of("7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0"), Some(460_000.0));
    }

    #[test]
    fn this_process_has_both_and_a_missing_one_has_neither() {
        let own = memory(std::process::id());
        assert!(own.resident > own.own && own.own > 0.0, "{own:?}");
        assert!(cpu_us(std::process::id()) >= 0.0);
        assert!(memory(0).resident.is_nan() && cpu_us(0).is_nan());
    }
}
