//! Budget: what all requests together may hold at once, as counts: connections, requests, the bytes of bodies.
//!
//! Bytes are counted as they arrive, never by what a `content-length` claims. What was counted is held inside the
//! body's `Bytes`, so it is given back when the last clone is dropped: a sync that is stuck keeps its bodies counted,
//! although their senders were answered 503 long ago.
//!
//! Nobody waits for room: whoever finds none is told to come back. So a room is a number, not a semaphore.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

use crate::words::limits::BODY_COPY_BYTES_MAX;

/// How much of something is held, of at most `max`.
#[derive(Debug)]
pub(super) struct Room {
    held: AtomicUsize,
    max: usize,
}

/// There is no room for so much more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Room {
    pub(super) fn new(max: usize) -> Room {
        Room { held: AtomicUsize::new(0), max }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, amount: usize) -> Result<(), Full> {
        let more = |held: usize| held.checked_add(amount).filter(|held| *held <= self.max);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).map(drop).map_err(|_| Full)
    }

    pub(super) fn give_back(&self, amount: usize) {
        self.held.fetch_sub(amount, Ordering::AcqRel);
    }

    /// As `take`, given back when what is returned is dropped.
    pub(super) fn hold(self: &Arc<Self>, amount: usize) -> Result<Held, Full> {
        self.take(amount)?;
        Ok(Held { room: Arc::clone(self), amount })
    }
}

/// What one holder has of a room. Given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    amount: usize,
}

impl Held {
    pub(super) fn more(&mut self, amount: usize) -> Result<(), Full> {
        self.room.take(amount)?;
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give_back(self.amount);
    }
}

/// A body on its way in.
pub(super) struct Gathering {
    held: Held,
    bytes: Gathered,
}

/// Nearly every body comes as one chunk.
enum Gathered {
    One(Bytes),
    Many(BytesMut),
}

impl Gathering {
    pub(super) fn new(bodies: &Arc<Room>) -> Gathering {
        Gathering { held: Held { room: Arc::clone(bodies), amount: 0 }, bytes: Gathered::One(Bytes::new()) }
    }

    pub(super) fn push(&mut self, chunk: Bytes) -> Result<(), Full> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.held.more(chunk.len())?;
        match &mut self.bytes {
            Gathered::One(first) if first.is_empty() => *first = chunk,
            Gathered::One(first) => {
                let mut many = BytesMut::with_capacity(2 * (first.len() + chunk.len()));
                many.extend_from_slice(first);
                many.extend_from_slice(&chunk);
                self.bytes = Gathered::Many(many);
            }
            Gathered::Many(many) => many.extend_from_slice(&chunk),
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.held.amount
    }

    pub(super) fn finish(self) -> Bytes {
        let held = self.held;
        match self.bytes {
            Gathered::One(bytes) if bytes.is_empty() => bytes,
            // A chunk is a slice of the connection's buffer and would keep all of it until the sync.
            Gathered::One(bytes) if bytes.len() <= BODY_COPY_BYTES_MAX => {
                Bytes::from_owner(Counted { bytes: Box::<[u8]>::from(&*bytes), _held: held })
            }
            Gathered::One(bytes) => Bytes::from_owner(Counted { bytes, _held: held }),
            Gathered::Many(bytes) => Bytes::from_owner(Counted { bytes, _held: held }),
        }
    }
}

struct Counted<B> {
    bytes: B,
    _held: Held,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Counted<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(max: usize) -> Arc<Room> {
        Arc::new(Room::new(max))
    }

    #[test]
    fn a_room_holds_its_max_and_what_was_held_is_given_back() {
        let room = room(3);
        let mut two = room.hold(2).unwrap();
        assert_eq!((room.hold(2).map(drop), two.more(2), room.held()), (Err(Full), Err(Full), 2));
        assert_eq!((two.more(1), room.held(), room.hold(1).map(drop)), (Ok(()), 3, Err(Full)));
        drop(two);
        assert_eq!((room.held(), room.hold(usize::MAX).map(drop)), (0, Err(Full)));
        let whole = room.hold(3).unwrap();
        assert_eq!(room.take(usize::MAX), Err(Full), "a sum that overflows is too much");
        drop(whole);
    }

    #[test]
    fn bytes_are_counted_until_the_last_clone_is_gone() {
        let bodies = room(10);
        let mut gathering = Gathering::new(&bodies);
        gathering.push(Bytes::from_static(b"abc")).unwrap();
        gathering.push(Bytes::from_static(b"defg")).unwrap();
        let body = gathering.finish();
        let clone = body.slice(2..4);
        assert_eq!((&body[..], &clone[..]), (&b"abcdefg"[..], &b"cd"[..]));
        drop(body);
        assert_eq!(bodies.held(), 7);
        drop(clone);
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn one_byte_over_is_refused_and_what_was_taken_is_given_back() {
        let bodies = room(10);
        let mut first = Gathering::new(&bodies);
        first.push(Bytes::from_static(b"0123456")).unwrap();
        let mut second = Gathering::new(&bodies);
        assert_eq!(second.push(Bytes::from_static(b"789a")), Err(Full));
        assert_eq!(second.push(Bytes::from_static(b"789")), Ok(()));
        assert_eq!(bodies.held(), 10);
        drop((first, second));
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn an_empty_body_costs_nothing() {
        let bodies = room(1);
        let mut gathering = Gathering::new(&bodies);
        gathering.push(Bytes::new()).unwrap();
        assert!(gathering.finish().is_empty());
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn a_small_body_lets_go_of_the_buffer_it_came_in_and_a_large_one_is_not_copied() {
        for (bytes, copied) in [(BODY_COPY_BYTES_MAX, true), (BODY_COPY_BYTES_MAX + 1, false)] {
            let chunk = Bytes::from(vec![7; bytes]);
            let came_in = chunk.as_ptr();
            let mut gathering = Gathering::new(&room(bytes));
            gathering.push(chunk).unwrap();
            assert_eq!(gathering.finish().as_ptr() != came_in, copied, "{bytes} bytes");
        }
    }

    proptest! {
        #[test]
        fn a_body_is_its_chunks(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let whole = chunks.concat();
            let bodies = room(whole.len());
            let mut gathering = Gathering::new(&bodies);
            for chunk in chunks {
                gathering.push(chunk.into()).unwrap();
            }
            prop_assert_eq!(gathering.len(), whole.len());
            let body = gathering.finish();
            prop_assert_eq!(&body[..], &whole[..]);
            prop_assert_eq!(bodies.held(), whole.len());
        }
    }
}
