//! Clock: the time that a guest sees, which is the same each time an attempt is run from its record.
//!
//! It stands still while the guest computes. It moves by what the host did for the guest: a call takes as long as it
//! took, a sleep as long as was asked for, and a look at the clock 1 us. The wall clock begins where the attempt began,
//! and where an earlier attempt made a call that happened, at the beginning of that attempt until this one has asked
//! for that call again: so a text with the time in it is the same text.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::words::time::Millis;

/// A look at the clock.
const READING_NS: u64 = 1000;

/// How a guest's sleeps pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host) enum Sleeps {
    /// As long as they are.
    Real,
    /// At once, as far as the attempt's time goes: what is run again or simulated waits for nobody.
    Skipped { up_to: Duration },
}

#[derive(Clone)]
pub(in crate::host) struct Clock(Arc<Mutex<Inner>>);

struct Inner {
    sleeps: Sleeps,
    wall: Millis,
    /// Since the attempt began.
    now_ns: u64,
    /// Ends of the sleeps that somebody waits for at this moment.
    awaited: Vec<u64>,
}

impl Clock {
    pub(in crate::host) fn new(wall: Millis, sleeps: Sleeps) -> Clock {
        Clock(Arc::new(Mutex::new(Inner { sleeps, wall, now_ns: 0, awaited: Vec::new() })))
    }

    /// From now on the wall clock shows what it showed in an attempt that began then.
    pub(in crate::host) fn show(&self, wall: Millis) {
        self.lock().wall = wall;
    }

    /// A call took so long.
    pub(in crate::host) fn pass(&self, took: Duration) {
        let mut inner = self.lock();
        inner.now_ns = inner.now_ns.saturating_add(nanos(took));
    }

    /// Since the attempt began, as the guest sees it.
    pub(in crate::host) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.lock().now_ns)
    }

    fn read(&self) -> u64 {
        let mut inner = self.lock();
        inner.now_ns = inner.now_ns.saturating_add(READING_NS);
        inner.now_ns
    }

    fn read_wall(&self) -> Duration {
        let since = Duration::from_nanos(self.read());
        Duration::from_millis(self.lock().wall.0).saturating_add(since)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

// === sleeping ===

/// A moment that a guest may wait for, of which it is not known yet whether it does.
struct Sleep {
    clock: Clock,
    until_ns: u64,
    /// It let others run, once.
    has_yielded: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Sleep {
    /// Of several sleeps that are waited for together the first one ends, and the others with it only where their time
    /// has come: which, must not depend on how busy the machine is. So the clock moves for the nearest one alone.
    async fn ready(&mut self) {
        let _awaited = Awaited::new(self);
        // A guest that asks again and again whether it is over yet does not ask for ever.
        let is_over = self.clock.read() >= self.until_ns;
        if !is_over || !self.has_yielded {
            // All that are waited for together are known behind this, and a guest that polls in a loop gives way.
            self.has_yielded = true;
            tokio::task::yield_now().await;
        }
        let left = self.until_ns.saturating_sub(self.clock.lock().now_ns);
        if left == 0 {
            return;
        }
        let left = Duration::from_nanos(left);
        match self.clock.wait(self.until_ns, left) {
            Wait::Not => {}
            Wait::Until(end) => tokio::time::sleep_until(end).await,
            // The attempt's time ends it.
            Wait::ForEver => std::future::pending().await,
        }
        if !self.clock.move_to_nearest(self.until_ns) {
            // Another one that is waited for beside it ends first, and the wait of both with it.
            std::future::pending().await
        }
    }
}

impl Clock {
    fn wait(&self, until_ns: u64, left: Duration) -> Wait {
        match self.lock().sleeps {
            Sleeps::Skipped { up_to } if until_ns <= nanos(up_to) => Wait::Not,
            Sleeps::Skipped { .. } => Wait::ForEver,
            Sleeps::Real => Instant::now().checked_add(left).map_or(Wait::ForEver, Wait::Until),
        }
    }

    /// False: an earlier one is waited for.
    fn move_to_nearest(&self, until_ns: u64) -> bool {
        let mut inner = self.lock();
        let is_nearest = inner.awaited.iter().all(|other| *other >= until_ns);
        if is_nearest {
            inner.now_ns = inner.now_ns.max(until_ns);
        }
        is_nearest
    }
}

/// For a moment that a guest sleeps to.
enum Wait {
    Not,
    Until(Instant),
    ForEver,
}

struct Awaited {
    clock: Clock,
    until_ns: u64,
}

impl Awaited {
    fn new(sleep: &Sleep) -> Awaited {
        sleep.clock.lock().awaited.push(sleep.until_ns);
        Awaited { clock: sleep.clock.clone(), until_ns: sleep.until_ns }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut inner = self.clock.lock();
        if let Some(at) = inner.awaited.iter().position(|until| *until == self.until_ns) {
            inner.awaited.swap_remove(at);
        }
    }
}

// === as WASI has it ===

/// What `wasi:clocks` works on.
pub(in crate::host) struct ClockView<'a> {
    pub(in crate::host) clock: &'a Clock,
    pub(in crate::host) table: &'a mut ResourceTable,
}

pub(in crate::host) struct HasClock;

impl HasData for HasClock {
    type Data<'a> = ClockView<'a>;
}

impl monotonic_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(READING_NS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let sleep = Sleep { clock: self.clock.clone(), until_ns: when, has_yielded: false };
        let sleep = self.table.push(sleep)?;
        subscribe(self.table, sleep)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now_ns = self.clock.lock().now_ns;
        self.subscribe_instant(now_ns.saturating_add(duration))
    }
}

impl wall_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = self.clock.read_wall();
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: u32::try_from(READING_NS).unwrap_or(u32::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn sleep(clock: &Clock, until_ns: u64) -> Sleep {
        Sleep { clock: clock.clone(), until_ns, has_yielded: false }
    }

    fn clock(sleeps: Sleeps) -> Clock {
        Clock::new(Millis(5_000), sleeps)
    }

    fn on_paused_time<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test)
    }

    #[test]
    fn it_moves_by_what_the_host_did_and_by_nothing_else() {
        let clock = clock(Sleeps::Real);
        assert_eq!((clock.read(), clock.read()), (1_000, 2_000));
        clock.pass(Duration::from_millis(30));
        assert_eq!(clock.read(), 30_003_000);
        assert_eq!(clock.read_wall(), Duration::from_millis(5_030) + Duration::from_nanos(4_000));
        clock.show(Millis(9_000));
        assert_eq!(clock.read_wall().as_millis(), 9_030);
    }

    #[test]
    fn of_sleeps_that_are_waited_for_together_the_first_one_ends() {
        for sleeps in [Sleeps::Real, Sleeps::Skipped { up_to: Duration::from_secs(1) }] {
            for order in [[1_000_000, 1_001_000], [1_001_000, 1_000_000]] {
                let clock = clock(sleeps);
                let mut two = order.map(|until_ns| sleep(&clock, until_ns));
                let [first, second] = &mut two;
                let ended = on_paused_time(async {
                    tokio::select! { () = first.ready() => order[0], () = second.ready() => order[1] }
                });
                assert_eq!((ended, clock.elapsed().as_nanos()), (1_000_000, 1_000_000), "{order:?}");
                assert!(clock.lock().awaited.is_empty());
            }
        }
    }

    #[test]
    fn a_sleep_beyond_the_attempt_never_ends_where_sleeps_are_skipped() {
        let clock = clock(Sleeps::Skipped { up_to: Duration::from_secs(1) });
        let mut long = sleep(&clock, 2_000_000_000);
        let ended =
            on_paused_time(async { tokio::time::timeout(Duration::from_secs(3600), long.ready()).await });
        assert!(ended.is_err());
        let mut short = sleep(&clock, 1_000_000_000);
        on_paused_time(short.ready());
        assert_eq!(clock.elapsed(), Duration::from_secs(1));
        on_paused_time(sleep(&clock, 1).ready());
        assert_eq!(clock.elapsed(), Duration::from_secs(1) + Duration::from_nanos(READING_NS));
    }

    #[test]
    fn who_only_asks_whether_it_is_over_is_told_so_in_the_end() {
        let clock = clock(Sleeps::Real);
        let mut short = sleep(&clock, 5 * READING_NS);
        let asked = (1..).find(|_| std::pin::pin!(short.ready()).now_or_never().is_some()).unwrap();
        assert_eq!(asked, 5);
    }
}
