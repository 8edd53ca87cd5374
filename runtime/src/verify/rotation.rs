//! Rotation: when each of a source's secrets ends. Time is an argument.

use std::time::Duration;

use crate::words::time::Millis;

/// One secret of a source's list, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// `until` as configured.
    pub until: Option<Millis>,
    /// When the daemon first saw it below a newer one; None for the first, or where that is not yet known.
    pub demoted_at: Option<Millis>,
}

/// The last moment at which each secret is accepted; None: no end.
///
/// An `until` always counts as written. Without one, the first secret has no end, and one below it ends
/// `window` after it was first seen below a newer one.
pub fn ends(turns: &[Turn], window: Duration) -> Vec<Option<Millis>> {
    turns
        .iter()
        .enumerate()
        .map(|(i, turn)| match (turn.until, i) {
            (Some(until), _) => Some(until),
            (None, 0) => None,
            (None, _) => turn.demoted_at.map(|at| at.plus(window)),
        })
        .collect()
}

pub fn is_live(ends: Option<Millis>, now: Millis) -> bool {
    ends.is_none_or(|end| now <= end)
}
