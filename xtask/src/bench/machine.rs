//! Machine: on what a figure was measured, and when. Nothing that names a machine or a folder.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// By the numbers of statfs(2).
const FILE_SYSTEMS: [(u64, &str); 7] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x794c_7630, "overlayfs"),
    (0xf2f5_2010, "f2fs"),
    (0x6969, "nfs"),
];

pub(super) fn facts(data: &Path) -> Value {
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        "memory_bytes": memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "file_system": file_system(data),
    })
}

/// `2026-11-24`
pub(super) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(since / 86_400)
}

/// One line below a table.
pub(super) fn sentence(result: &Value) -> String {
    let machine = &result["machine"];
    let text = |key: &str| machine[key].as_str().unwrap_or("?").to_owned();
    format!(
        "{}, {} cores ({}), {} of memory, Linux {}, {}.",
        result["date"].as_str().unwrap_or("?"),
        machine["cores"],
        text("processor"),
        super::figures::bytes(machine["memory_bytes"].as_f64().unwrap_or(f64::NAN)),
        text("kernel"),
        text("file_system"),
    )
}

fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or("unknown", |(_, name)| name.trim()).to_owned()
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn file_system(folder: &Path) -> String {
    let Ok(facts) = rustix::fs::statfs(folder) else { return "unknown".to_owned() };
    // The type is signed on some architectures.
    let number = u64::try_from(facts.f_type).unwrap_or_default() & 0xffff_ffff;
    let known = FILE_SYSTEMS.iter().find(|(magic, _)| *magic == number);
    known.map_or_else(|| format!("a file system of type {number:#x}"), |(_, name)| (*name).to_owned())
}

/// Days since 1970-01-01 as a date; the proof is at howardhinnant.github.io/date_algorithms.html (2021).
fn date(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, text) in
            [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_781, "2026-11-24"), (47_541, "2100-03-01")]
        {
            assert_eq!(date(days), text);
        }
    }

    #[test]
    fn the_kernel_says_what_machine_it_is() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(processor(""), "unknown");
        assert_eq!(memory_bytes("MemTotal:       1024 kB\nMemFree: 1 kB\n"), Some(1 << 20));
    }

    #[test]
    fn no_folder_and_no_host_is_told() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let told = facts(folder).to_string();
        assert!(!told.contains(&*folder.to_string_lossy()), "{told}");
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        assert!(
            !sentence(&json!({"machine": facts(folder)})).contains(&format!(" {} ", host.trim())),
            "{told}"
        );
    }
}
