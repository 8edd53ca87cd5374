//! Queue: the deliveries of one lane that are in memory, by due time. Bounded; the earliest stay.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio::time::Instant;

use crate::store::OpenDelivery;
use crate::words::event::DeliveryId;
use crate::words::time::Millis;

/// Waiting deliveries by due time, and the names of those that run. No clock: the time is an argument.
#[derive(Default)]
pub struct Queue {
    capacity: usize,
    waiting: BTreeMap<(Millis, DeliveryId), OpenDelivery>,
    due: HashMap<DeliveryId, Millis>,
    /// And since when.
    running: HashMap<DeliveryId, Instant>,
    /// Of those that wait.
    suspects: usize,
    /// The index holds open deliveries that are not here.
    overflow: bool,
}

impl Queue {
    pub fn new(capacity: usize) -> Queue {
        Queue { capacity, ..Queue::default() }
    }

    /// Adds a delivery, or moves one that waits already. Where the queue is full the latest one goes.
    pub fn put(&mut self, delivery: OpenDelivery) {
        if self.running.contains_key(&delivery.id) {
            return;
        }
        if self.would_be_the_first_to_go(&delivery) {
            self.overflow = true;
            return;
        }
        if let Some(old) = self.due.insert(delivery.id.clone(), delivery.due) {
            self.take(&(old, delivery.id.clone()));
        }
        self.suspects += usize::from(is_suspect(&delivery));
        self.waiting.insert((delivery.due, delivery.id.clone()), delivery);
        if self.waiting.len() > self.capacity {
            let (latest, _) = self.waiting.last_key_value().expect("it is over its capacity, so not empty");
            let latest = latest.clone();
            self.take(&latest);
            self.due.remove(&latest.1);
            self.overflow = true;
        }
    }

    /// Under a backlog each new delivery is later than all that wait here.
    fn would_be_the_first_to_go(&self, delivery: &OpenDelivery) -> bool {
        let is_full = self.waiting.len() >= self.capacity;
        let last = self.waiting.last_key_value().filter(|_| is_full);
        last.is_some_and(|((due, id), _)| (*due, id) < (delivery.due, &delivery.id))
            && !self.due.contains_key(&delivery.id)
    }

    /// Takes the earliest delivery that is due. Suspects are passed over where `with_suspects` is false.
    pub fn lease(&mut self, now: Millis, since: Instant, with_suspects: bool) -> Option<OpenDelivery> {
        let key = self.first(with_suspects).filter(|(due, _)| *due <= now)?.clone();
        let delivery = self.take(&key).expect("it was found just now");
        self.due.remove(&delivery.id);
        self.running.insert(delivery.id.clone(), since);
        Some(delivery)
    }

    fn take(&mut self, key: &(Millis, DeliveryId)) -> Option<OpenDelivery> {
        let taken = self.waiting.remove(key)?;
        self.suspects -= usize::from(is_suspect(&taken));
        Some(taken)
    }

    /// Whether anything is due, suspect or not.
    pub fn is_due(&self, now: Millis) -> bool {
        self.first(true).is_some_and(|(due, _)| *due <= now)
    }

    pub fn has_suspects(&self) -> bool {
        self.suspects > 0
    }

    /// What has run for longest, and since when.
    pub fn oldest_running(&self) -> Option<(&DeliveryId, Instant)> {
        let running = self.running.iter().map(|(id, since)| (id, *since));
        running.min_by_key(|(_, since)| *since)
    }

    /// The lease has ended.
    pub fn release(&mut self, id: &DeliveryId) {
        self.running.remove(id);
    }

    /// When the earliest delivery that may be leased is due.
    pub fn next_due(&self, with_suspects: bool) -> Option<Millis> {
        self.first(with_suspects).map(|(due, _)| *due)
    }

    fn first(&self, with_suspects: bool) -> Option<&(Millis, DeliveryId)> {
        let may_run = |delivery: &OpenDelivery| with_suspects || !is_suspect(delivery);
        self.waiting.iter().find(|(_, delivery)| may_run(delivery)).map(|(key, _)| key)
    }

    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.waiting.len())
    }

    pub fn len(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The names that a look into the index must leave out.
    pub fn known(&self) -> HashSet<DeliveryId> {
        self.due.keys().chain(self.running.keys()).cloned().collect()
    }

    /// Whether the index is known to hold more, and there is room worth a look.
    pub fn wants_refill(&self) -> bool {
        self.overflow && self.room() >= self.capacity / 2
    }

    pub fn refilled(&mut self, more_remain: bool) {
        self.overflow = more_remain;
    }
}

/// Its last attempt ended with the process.
pub fn is_suspect(delivery: &OpenDelivery) -> bool {
    delivery.begun_without_end > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::event::{EventRef, Name};

    fn delivery(position: u64, due: u64, begun: u32) -> OpenDelivery {
        OpenDelivery {
            id: DeliveryId {
                event: EventRef { position, ordinal: 0 },
                subscription: Name::new("s").unwrap(),
            },
            handler: Name::new("h").unwrap(),
            due: Millis(due),
            accepted_at: Millis(0),
            attempts: 0,
            begun_without_end: begun,
        }
    }

    #[test]
    fn leases_by_due_time_and_never_early() {
        let mut queue = Queue::new(8);
        for (position, due) in [(1, 30), (2, 10), (3, 20)] {
            queue.put(delivery(position, due, 0));
        }
        assert_eq!(queue.lease(Millis(9), Instant::now(), true), None);
        assert_eq!(queue.next_due(true), Some(Millis(10)));
        let order: Vec<u64> = std::iter::from_fn(|| queue.lease(Millis(20), Instant::now(), true))
            .map(|d| d.id.event.position)
            .collect();
        assert_eq!(order, [2, 3]);
        assert_eq!((queue.running(), queue.len()), (2, 3));
    }

    #[test]
    fn a_full_queue_keeps_the_earliest_and_knows_that_there_is_more() {
        let mut queue = Queue::new(2);
        for due in [30, 10, 20] {
            queue.put(delivery(due, due, 0));
        }
        assert_eq!(queue.room(), 0);
        assert!(!queue.wants_refill(), "no room yet");
        assert_eq!(queue.lease(Millis(99), Instant::now(), true).unwrap().due, Millis(10));
        assert_eq!(queue.lease(Millis(99), Instant::now(), true).unwrap().due, Millis(20));
        assert_eq!(queue.lease(Millis(99), Instant::now(), true), None, "30 waits in the index");
        assert!(queue.wants_refill());
    }

    #[test]
    fn a_running_delivery_is_not_leased_twice_and_a_moved_one_waits_once() {
        let mut queue = Queue::new(8);
        queue.put(delivery(1, 50, 0));
        queue.put(delivery(1, 10, 0));
        assert_eq!(queue.len(), 1);
        let leased = queue.lease(Millis(10), Instant::now(), true).unwrap();
        queue.put(delivery(1, 10, 0));
        assert_eq!(queue.lease(Millis(99), Instant::now(), true), None);
        queue.release(&leased.id);
        queue.put(delivery(1, 10, 0));
        assert!(queue.lease(Millis(99), Instant::now(), true).is_some());
    }

    #[test]
    fn a_suspect_that_must_wait_does_not_hold_up_others() {
        let mut queue = Queue::new(8);
        queue.put(delivery(1, 1, 1));
        queue.put(delivery(3, 3, 0));
        assert_eq!(queue.next_due(false), Some(Millis(3)));
        assert_eq!(queue.lease(Millis(9), Instant::now(), false).unwrap().id.event.position, 3);
        assert_eq!(queue.lease(Millis(9), Instant::now(), false), None);
        assert_eq!(queue.next_due(false), None);
        assert_eq!(queue.lease(Millis(9), Instant::now(), true).unwrap().id.event.position, 1);
    }

    #[test]
    fn suspects_are_counted_while_they_wait() {
        let mut queue = Queue::new(2);
        queue.put(delivery(1, 1, 1));
        queue.put(delivery(1, 2, 0));
        assert!(!queue.has_suspects(), "it has moved, and is none any more");
        queue.put(delivery(2, 3, 2));
        assert!(queue.has_suspects());
        queue.put(delivery(3, 1, 0));
        assert!(!queue.has_suspects(), "the queue was full, and it was the latest");
        queue.put(delivery(5, 9, 1));
        assert!(!queue.has_suspects(), "it was too late for a full queue");
        queue.put(delivery(4, 0, 1));
        assert_eq!(queue.lease(Millis(9), Instant::now(), true).unwrap().id.event.position, 4);
        assert!(!queue.has_suspects(), "it runs");
    }

    #[test]
    fn what_has_run_for_longest_is_known() {
        let mut queue = Queue::new(2);
        assert!(queue.oldest_running().is_none());
        let first = Instant::now();
        queue.put(delivery(1, 1, 0));
        queue.put(delivery(2, 2, 0));
        queue.lease(Millis(9), first + std::time::Duration::from_secs(5), true).unwrap();
        let second = queue.lease(Millis(9), first, true).unwrap();
        assert_eq!(queue.oldest_running(), Some((&second.id, first)));
    }
}
