//! Queue: the deliveries of one lane that are in memory, by due time. Bounded; the earliest stay.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::store::OpenDelivery;
use crate::words::event::DeliveryId;
use crate::words::time::Millis;

/// Waiting deliveries by due time, and the names of those that run. No clock: the time is an argument.
#[derive(Default)]
pub struct Queue {
    capacity: usize,
    waiting: BTreeMap<(Millis, DeliveryId), OpenDelivery>,
    due: HashMap<DeliveryId, Millis>,
    running: HashSet<DeliveryId>,
    /// The index holds open deliveries that are not here.
    overflow: bool,
}

impl Queue {
    pub fn new(capacity: usize) -> Queue {
        Queue { capacity, ..Queue::default() }
    }

    /// Adds a delivery, or moves one that waits already. Where the queue is full the latest one goes.
    pub fn put(&mut self, delivery: OpenDelivery) {
        if self.running.contains(&delivery.id) {
            return;
        }
        if let Some(old) = self.due.insert(delivery.id.clone(), delivery.due) {
            self.waiting.remove(&(old, delivery.id.clone()));
        }
        self.waiting.insert((delivery.due, delivery.id.clone()), delivery);
        if self.waiting.len() > self.capacity {
            let ((_, latest), _) = self.waiting.pop_last().expect("it is over its capacity, so not empty");
            self.due.remove(&latest);
            self.overflow = true;
        }
    }

    /// Takes the earliest delivery that is due. Suspects are passed over where `with_suspects` is false.
    pub fn lease(&mut self, now: Millis, with_suspects: bool) -> Option<OpenDelivery> {
        let key = self.first(with_suspects).filter(|(due, _)| *due <= now)?.clone();
        let delivery = self.waiting.remove(&key).expect("it was found just now");
        self.due.remove(&delivery.id);
        self.running.insert(delivery.id.clone());
        Some(delivery)
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
        self.due.keys().chain(&self.running).cloned().collect()
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
        assert_eq!(queue.lease(Millis(9), true), None);
        assert_eq!(queue.next_due(true), Some(Millis(10)));
        let order: Vec<u64> =
            std::iter::from_fn(|| queue.lease(Millis(20), true)).map(|d| d.id.event.position).collect();
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
        assert_eq!(queue.lease(Millis(99), true).unwrap().due, Millis(10));
        assert_eq!(queue.lease(Millis(99), true).unwrap().due, Millis(20));
        assert_eq!(queue.lease(Millis(99), true), None, "30 waits in the index");
        assert!(queue.wants_refill());
    }

    #[test]
    fn a_running_delivery_is_not_leased_twice_and_a_moved_one_waits_once() {
        let mut queue = Queue::new(8);
        queue.put(delivery(1, 50, 0));
        queue.put(delivery(1, 10, 0));
        assert_eq!(queue.len(), 1);
        let leased = queue.lease(Millis(10), true).unwrap();
        queue.put(delivery(1, 10, 0));
        assert_eq!(queue.lease(Millis(99), true), None);
        queue.release(&leased.id);
        queue.put(delivery(1, 10, 0));
        assert!(queue.lease(Millis(99), true).is_some());
    }

    #[test]
    fn a_suspect_that_must_wait_does_not_hold_up_others() {
        let mut queue = Queue::new(8);
        queue.put(delivery(1, 1, 1));
        queue.put(delivery(3, 3, 0));
        assert_eq!(queue.next_due(false), Some(Millis(3)));
        assert_eq!(queue.lease(Millis(9), false).unwrap().id.event.position, 3);
        assert_eq!(queue.lease(Millis(9), false), None);
        assert_eq!(queue.next_due(false), None);
        assert_eq!(queue.lease(Millis(9), true).unwrap().id.event.position, 1);
    }
}
