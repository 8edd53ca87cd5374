//! Claims: who is storing an event right now. A second copy waits for the first one's sync and shares its answer.
//!
//! A claim stays after its answer until the index has its key, so that between the two no copy slips through.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::Refused;
use crate::words::digest::Digest;
use crate::words::event::EventRef;

/// Of a source and an event id.
pub(super) type Hash = [u8; 16];

pub(super) fn key_of(source: &str, id: &str) -> Hash {
    let digest = Digest::of_parts(&[source.as_bytes(), id.as_bytes()]);
    *digest.0.first_chunk().expect("a digest has 32 bytes")
}

/// Enough to tell one event's bytes from another's under the same id; not a proof of anything.
pub(super) fn body_hash(bytes: &[u8]) -> u64 {
    let digest = Digest::of(bytes);
    u64::from_le_bytes(*digest.0.first_chunk().expect("a digest has 32 bytes"))
}

/// An event that the ledger has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub event: EventRef,
    pub body_hash: u64,
}

/// What came of a claim. `Abandoned`: its owner went away before it gave the event to the journal; whoever
/// waited for it tries by himself.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Stored(Stored),
    Refused(Refused),
    Abandoned,
}

#[derive(Default)]
pub(super) struct Claim {
    answer: OnceLock<Answer>,
    answered: Notify,
}

impl Claim {
    pub(super) async fn answer(&self) -> Answer {
        loop {
            let mut answered = std::pin::pin!(self.answered.notified());
            answered.as_mut().enable();
            if let Some(answer) = self.answer.get() {
                return answer.clone();
            }
            answered.await;
        }
    }

    fn set(&self, answer: Answer) {
        // A claim is answered once; a second word, as when a job is dropped after its answer, changes nothing.
        let _ = self.answer.set(answer);
        self.answered.notify_waiters();
    }
}

const SHARDS: usize = 64;

/// All claims, by key.
pub(super) struct Claims {
    shards: [Mutex<HashMap<Hash, Arc<Claim>>>; SHARDS],
}

pub(super) enum Entered {
    Mine(Mine),
    Theirs(Arc<Claim>),
}

impl Claims {
    pub(super) fn new() -> Arc<Claims> {
        Arc::new(Claims { shards: std::array::from_fn(|_| Mutex::default()) })
    }

    pub(super) fn enter(self: &Arc<Self>, hash: Hash) -> Entered {
        match self.shard(&hash).entry(hash) {
            std::collections::hash_map::Entry::Occupied(entry) => Entered::Theirs(entry.get().clone()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let claim = entry.insert(Arc::default()).clone();
                Entered::Mine(Mine { claims: self.clone(), hash, claim, open: true })
            }
        }
    }

    /// The index has the key: the claim is not needed any more.
    pub(super) fn release(&self, hash: &Hash, claim: &Arc<Claim>) {
        let mut shard = self.shard(hash);
        if shard.get(hash).is_some_and(|held| Arc::ptr_eq(held, claim)) {
            shard.remove(hash);
        }
    }

    fn shard(&self, hash: &Hash) -> MutexGuard<'_, HashMap<Hash, Arc<Claim>>> {
        self.shards[usize::from(hash[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim of one's own. Dropped without a word, it is abandoned.
pub(super) struct Mine {
    claims: Arc<Claims>,
    pub hash: Hash,
    pub claim: Arc<Claim>,
    open: bool,
}

impl Mine {
    /// Durable. The claim stays until `Claims::release`.
    pub(super) fn stored(mut self, stored: Stored) {
        self.open = false;
        self.claim.set(Answer::Stored(stored));
        #[cfg(test)]
        if super::drill::breaks(super::drill::Mutation::ClaimDroppedEarly) {
            self.claims.release(&self.hash, &self.claim);
        }
    }

    /// The index had the event already, or nothing was kept: the next copy asks for itself.
    pub(super) fn end(mut self, answer: Answer) {
        self.finish(answer);
    }

    fn finish(&mut self, answer: Answer) {
        self.open = false;
        // First out of the map, then the answer: who hears `Abandoned` must not find this claim again.
        self.claims.release(&self.hash, &self.claim);
        self.claim.set(answer);
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        if self.open {
            self.finish(Answer::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine(claims: &Arc<Claims>, hash: Hash) -> Mine {
        match claims.enter(hash) {
            Entered::Mine(mine) => mine,
            Entered::Theirs(_) => panic!("it is taken"),
        }
    }

    fn theirs(claims: &Arc<Claims>, hash: Hash) -> Arc<Claim> {
        match claims.enter(hash) {
            Entered::Theirs(claim) => claim,
            Entered::Mine(_) => panic!("it is free"),
        }
    }

    #[tokio::test]
    async fn a_second_copy_shares_the_answer_until_the_claim_is_released() {
        let claims = Claims::new();
        let hash = key_of("sendpilot", "evt_1");
        let first = mine(&claims, hash);
        let second = theirs(&claims, hash);
        let stored = Stored { event: EventRef { position: 64, ordinal: 0 }, body_hash: 7 };
        let claim = first.claim.clone();
        first.stored(stored);
        assert!(matches!(second.answer().await, Answer::Stored(answer) if answer == stored));
        assert!(matches!(theirs(&claims, hash).answer().await, Answer::Stored(_)));
        claims.release(&hash, &claim);
        drop(mine(&claims, hash));
    }

    #[tokio::test]
    async fn an_abandoned_claim_is_free_again_and_says_so() {
        let claims = Claims::new();
        let hash = key_of("sendpilot", "evt_1");
        let first = mine(&claims, hash);
        let second = theirs(&claims, hash);
        drop(first);
        assert!(matches!(second.answer().await, Answer::Abandoned));
        mine(&claims, hash).end(Answer::Refused(Refused::Busy));
        drop(mine(&claims, hash));
    }

    #[test]
    fn keys_do_not_run_into_each_other() {
        assert_ne!(key_of("a", "bc"), key_of("ab", "c"));
    }
}
