//! Alarm: timers that nearly never ring, and what is waited for beside them, at next to no cost for each request.
//!
//! Setting a timer and taking it back are two walks to the runtime's wheel, under its lock. So an alarm is not taken
//! back: the next request finds it set to an earlier time than its own, and leaves it. Once in a while it rings too
//! early, looks at the clock, and is set anew.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings at the time that it is asked for, whatever times it was asked for before.
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Not later than any time that is waited for; None once it rang.
    set: Option<Instant>,
}

impl Alarm {
    pub(super) fn new(first: Instant) -> Alarm {
        Alarm { sleep: Box::pin(sleep_until(first)), set: Some(first) }
    }

    /// Ready when it is `time`.
    pub(super) fn poll_at(&mut self, cx: &mut Context<'_>, time: Instant) -> Poll<()> {
        loop {
            let set = match self.set.filter(|set| *set <= time) {
                Some(set) => set,
                None => {
                    self.sleep.as_mut().reset(time);
                    *self.set.insert(time)
                }
            };
            ready!(self.sleep.as_mut().poll(cx));
            if set == time {
                return Poll::Ready(());
            }
            self.set = None;
        }
    }
}

/// A future that is polled when it asks for that, not whenever its neighbours in the same task do. For what is
/// waited for all the time and comes once: a poll costs one look at a flag.
pub(super) struct Seldom<'f, F> {
    future: Pin<&'f mut F>,
    bell: Option<Arc<Bell>>,
}

struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl<'f, F> Seldom<'f, F> {
    pub(super) fn new(future: Pin<&'f mut F>) -> Self {
        Seldom { future, bell: None }
    }
}

impl<F: Future> Future for Seldom<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let known = this.bell.take().filter(|bell| bell.task.will_wake(cx.waker()));
        let fresh = || Arc::new(Bell { rung: AtomicBool::new(true), task: cx.waker().clone() });
        let bell = this.bell.insert(known.unwrap_or_else(fresh));
        if !bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(bell));
        this.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    const STEP: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_at_the_time_asked_for_last() {
        let start = Instant::now();
        let mut alarm = Alarm::new(start + STEP);
        let _ = poll_fn(|cx| Poll::Ready(alarm.poll_at(cx, start + STEP))).await;
        poll_fn(|cx| alarm.poll_at(cx, start + 3 * STEP)).await;
        assert_eq!(start.elapsed(), 3 * STEP, "later than it was set");
        poll_fn(|cx| alarm.poll_at(cx, start + 9 * STEP)).now_or_pending().await;
        poll_fn(|cx| alarm.poll_at(cx, start + 5 * STEP)).await;
        assert_eq!(start.elapsed(), 5 * STEP, "earlier than it was set");
        poll_fn(|cx| alarm.poll_at(cx, start + STEP)).await;
        assert_eq!(start.elapsed(), 5 * STEP, "a time that is past");
    }

    /// Polls once, and forgets.
    trait Once: Future + Sized {
        async fn now_or_pending(self) {
            let mut this = std::pin::pin!(self);
            poll_fn(|cx| {
                let _ = this.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
        }
    }
    impl<F: Future> Once for F {}

    #[tokio::test(start_paused = true)]
    async fn what_is_seldom_is_polled_when_it_asks_and_not_when_its_neighbour_does() {
        let (stop, polls) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), Arc::clone(&polls));
        let waiting = tokio::spawn(async move {
            let mut stopped = std::pin::pin!(stopped.cancelled());
            let mut counted = std::pin::pin!(poll_fn(|cx| {
                counted.fetch_add(1, Ordering::Relaxed);
                stopped.as_mut().poll(cx)
            }));
            let mut seldom = Seldom::new(counted.as_mut());
            let mut neighbours = 0;
            loop {
                tokio::select! {
                    biased;
                    () = &mut seldom => return neighbours,
                    () = sleep(STEP) => neighbours += 1,
                }
            }
        });
        sleep(100 * STEP + STEP / 2).await;
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        stop.cancel();
        assert_eq!((waiting.await.unwrap(), polls.load(Ordering::Relaxed)), (100, 2));
    }

    #[tokio::test]
    async fn what_is_seldom_follows_its_task() {
        let stop = CancellationToken::new();
        let moved = stop.clone();
        let waiting = tokio::spawn(async move {
            let mut stopped = Box::pin(async move { moved.cancelled().await });
            let mut seldom = Seldom::new(stopped.as_mut());
            // Under a waker of another task first.
            let _ = Pin::new(&mut seldom).poll(&mut Context::from_waker(Waker::noop()));
            seldom.await;
        });
        tokio::task::yield_now().await;
        stop.cancel();
        waiting.await.unwrap();
    }
}
