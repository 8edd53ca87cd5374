//! Files: a connection is an open file, and the process may open only so many.
//!
//! Where connections took them all, the journal could not begin its next segment: a flood at the door would stop
//! what is safe already. So connections leave a reserve.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use tracing::warn;

use crate::words::limits::{ACCEPT_PAUSE, FILES_RESERVE};

/// Why no connection can be accepted, as long as that is so. An accept that failed is tried again after
/// `ACCEPT_PAUSE`; one that finds nobody waiting says nothing, so what was noted is forgotten by itself.
#[derive(Default)]
pub(super) struct Blocked(Mutex<Option<(Instant, String)>>);

impl Blocked {
    pub(super) fn note(&self, error: &io::Error, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, no_connection(error)));
    }

    pub(super) fn why(&self, now: Instant) -> Option<String> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, why) = noted.as_ref()?;
        (now.saturating_duration_since(*at) < ACCEPT_PAUSE * 5).then(|| why.clone())
    }
}

/// Mostly for want of file descriptors.
pub(super) fn no_connection(error: &io::Error) -> String {
    format!(
        "no connection can be accepted: {error}; raise `LimitNOFILE` in the unit of systemd (`ulimit -n` before a start \
         by hand), or lower `server.max_connections`"
    )
}

/// As many connections as are wanted, or as the process may open. `run` has raised the limit before.
pub(super) fn connections_max(wanted: usize) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let max = within(files, wanted);
    if max < wanted {
        warn!("{}", advice(files, wanted));
    }
    max
}

fn within(files: usize, wanted: usize) -> usize {
    wanted.min(files - FILES_RESERVE.min(files / 2))
}

fn advice(files: usize, wanted: usize) -> String {
    format!(
        "this process may open {files} files, so {max} connections are taken and not {wanted}; type \
         `ulimit -n {needed}` before the start, or `LimitNOFILE={needed}` in the unit of systemd, or \
         `max_connections: {max}` in `server`",
        max = within(files, wanted),
        needed = wanted.saturating_add(FILES_RESERVE),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blocks_is_told_as_long_as_it_does() {
        let (blocked, now) = (Blocked::default(), Instant::now());
        assert_eq!(blocked.why(now), None);
        blocked.note(&io::Error::from_raw_os_error(24), now);
        assert!(blocked.why(now + ACCEPT_PAUSE * 2).unwrap().contains("`LimitNOFILE`"));
        assert_eq!(blocked.why(now + ACCEPT_PAUSE * 5), None);
    }

    #[test]
    fn connections_leave_a_reserve_of_files() {
        let cases = [
            (1_048_576, 4096, 4096),
            (4096 + 512, 4096, 4096),
            (4096 + 511, 4096, 4095),
            (1024, 4096, 512),
            (1024, 100, 100),
            (256, 4096, 128),
            (1, 4096, 1),
        ];
        for (files, wanted, max) in cases {
            assert_eq!(within(files, wanted), max, "{files} files, {wanted} connections");
        }
    }

    #[test]
    fn the_limit_of_this_process_is_kept() {
        let files = getrlimit(Resource::Nofile).current;
        let most = files.map_or(usize::MAX, |files| within(usize::try_from(files).unwrap(), usize::MAX));
        assert_eq!(connections_max(usize::MAX), most);
        assert_eq!(connections_max(1), 1);
    }

    #[test]
    fn the_operator_reads_what_to_type_and_it_is_enough() {
        let advice = advice(1024, 4096);
        for said in [
            "1024 files",
            "512 connections",
            "`ulimit -n 4608`",
            "`LimitNOFILE=4608`",
            "`max_connections: 512`",
        ] {
            assert!(advice.contains(said), "`{said}` is missing in {advice}");
        }
        assert_eq!(within(4608, 4096), 4096);
    }
}
