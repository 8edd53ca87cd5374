//! Drill: what a simulation changes in the store. Bounds are made small, so that what happens once in a million
//! records happens every other time; or the promise is broken on purpose, to see that it would be noticed.
//!
//! In the daemon a bound is what it is, and nothing can be broken.

/// A bound of work that is done in parts: as it is, but for a drill.
#[cfg(not(test))]
pub(super) const fn bound(usual: usize) -> usize {
    usual
}

#[cfg(test)]
pub(super) use in_tests::{Drill, Mutation, begin, bound, breaks};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    /// Of this thread: a simulation has one for everything.
    #[derive(Clone, Copy, Debug, Default)]
    pub(in crate::store) struct Drill {
        pub bound: Option<usize>,
        pub mutation: Option<Mutation>,
    }

    /// One way to break the promise.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::store) enum Mutation {
        SyncLeftOut,
        AnswerBeforeSync,
        IndexAhead,
        DirSyncLeftOut,
        TailNotCopied,
        ClaimDroppedEarly,
        SecondSyncTrusted,
    }

    thread_local! {
        static DRILL: Cell<Drill> = const { Cell::new(Drill { bound: None, mutation: None }) };
    }

    pub(in crate::store) fn begin(drill: Drill) {
        DRILL.set(drill);
    }

    pub(in crate::store) fn bound(usual: usize) -> usize {
        DRILL.get().bound.map_or(usual, |bound| bound.min(usual))
    }

    pub(in crate::store) fn breaks(mutation: Mutation) -> bool {
        DRILL.get().mutation == Some(mutation)
    }
}
