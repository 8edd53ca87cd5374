//! Memory: has the allocator give back what the daemon freed. It looks for that by itself only while something is being
//! allocated, and an idle daemon allocates nothing: what a flood or a hostile plugin had taken would stay.

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::words::limits::MEMORY_GIVEN_BACK_EVERY;

/// Until `stop`.
pub(super) async fn give_back(stop: CancellationToken) {
    let mut tick = interval(MEMORY_GIVEN_BACK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => collect(),
        }
    }
}

/// Only what has been free for the allocator's own delay: under load this does nothing that it would not do.
#[expect(unsafe_code, reason = "the allocator is in C; the call takes no pointer and has no condition")]
fn collect() {
    // SAFETY: `mi_collect` may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
