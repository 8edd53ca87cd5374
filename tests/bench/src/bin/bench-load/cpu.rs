//! Cpu: what this process has used of the processors, from the kernel's own account.

use std::time::Duration;

/// `USER_HZ`, which is 100 wherever Linux runs.
const TICKS_PER_S: f64 = 100.0;

pub fn used() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has /proc");
    let ticks = ticks(&stat).expect("user and system time are the 14th and 15th field");
    Duration::from_secs_f64(ticks as f64 / TICKS_PER_S)
}

fn ticks(stat: &str) -> Option<u64> {
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_no_harm() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(46));
        assert_eq!(ticks("7 (a) S 1"), None);
    }
}
