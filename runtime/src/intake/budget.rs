//! Budget: the bytes that all bodies together may hold, from the wire until the ledger lets go of them.
//!
//! Bytes are counted as they arrive, never by what a `content-length` claims. The permit lives inside the body's
//! `Bytes`, so it is given back when the last clone is dropped: a sync that is stuck keeps its bodies counted,
//! although their senders were answered 503 long ago.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    bytes_max: usize,
}

/// There is no room for the next chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Bodies {
    pub(super) fn new(bytes_max: usize) -> Self {
        Bodies { room: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn in_flight(&self) -> usize {
        self.bytes_max - self.room.available_permits()
    }

    pub(super) fn gather(&self) -> Gathering<'_> {
        Gathering { bodies: self, permit: None, bytes: Gathered::One(Bytes::new()) }
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Full> {
        let bytes = u32::try_from(bytes).map_err(|_| Full)?;
        Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| Full)
    }
}

/// A body on its way in.
pub(super) struct Gathering<'a> {
    bodies: &'a Bodies,
    permit: Option<OwnedSemaphorePermit>,
    bytes: Gathered,
}

/// Nearly every body comes as one chunk, which is kept as it is and never copied.
enum Gathered {
    One(Bytes),
    Many(BytesMut),
}

impl Gathering<'_> {
    pub(super) fn push(&mut self, chunk: Bytes) -> Result<(), Full> {
        if chunk.is_empty() {
            return Ok(());
        }
        let more = self.bodies.take(chunk.len())?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
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
        match &self.bytes {
            Gathered::One(bytes) => bytes.len(),
            Gathered::Many(bytes) => bytes.len(),
        }
    }

    pub(super) fn finish(self) -> Bytes {
        let bytes = match self.bytes {
            Gathered::One(bytes) => bytes,
            Gathered::Many(bytes) => bytes.freeze(),
        };
        match self.permit {
            Some(permit) => Bytes::from_owner(Counted { bytes, _permit: permit }),
            None => bytes,
        }
    }
}

struct Counted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_counted_until_the_last_clone_is_gone() {
        let bodies = Bodies::new(10);
        let mut gathering = bodies.gather();
        gathering.push(Bytes::from_static(b"abc")).unwrap();
        gathering.push(Bytes::from_static(b"defg")).unwrap();
        let body = gathering.finish();
        let clone = body.slice(2..4);
        assert_eq!((&body[..], &clone[..]), (&b"abcdefg"[..], &b"cd"[..]));
        drop(body);
        assert_eq!(bodies.in_flight(), 7);
        drop(clone);
        assert_eq!(bodies.in_flight(), 0);
    }

    #[test]
    fn one_byte_over_is_refused_and_what_was_taken_is_given_back() {
        let bodies = Bodies::new(10);
        let mut first = bodies.gather();
        first.push(Bytes::from_static(b"0123456")).unwrap();
        let mut second = bodies.gather();
        assert_eq!(second.push(Bytes::from_static(b"789a")), Err(Full));
        assert_eq!(second.push(Bytes::from_static(b"789")), Ok(()));
        assert_eq!(bodies.in_flight(), 10);
        drop((first, second));
        assert_eq!(bodies.in_flight(), 0);
    }

    #[test]
    fn an_empty_body_costs_nothing() {
        let bodies = Bodies::new(1);
        let mut gathering = bodies.gather();
        gathering.push(Bytes::new()).unwrap();
        assert!(gathering.finish().is_empty());
        assert_eq!(bodies.in_flight(), 0);
    }

    proptest! {
        #[test]
        fn a_body_is_its_chunks(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let whole = chunks.concat();
            let bodies = Bodies::new(whole.len());
            let mut gathering = bodies.gather();
            for chunk in chunks {
                gathering.push(chunk.into()).unwrap();
            }
            prop_assert_eq!(gathering.len(), whole.len());
            let body = gathering.finish();
            prop_assert_eq!(&body[..], &whole[..]);
            prop_assert_eq!(bodies.in_flight(), whole.len());
        }
    }
}
