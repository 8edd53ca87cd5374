//! Effects: what one attempt does to the world, written into the ledger before it is done.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};

use crate::host;
use crate::store::{self, CallRoom, HeldEffects, Ledger, OpenDelivery, StoredEvent};
use crate::words::digest::Digest;
use crate::words::event::{DeliveryId, Name};
use crate::words::time::Millis;

type Written = future::Shared<BoxFuture<'static, Result<(), Arc<store::Error>>>>;

/// That the attempt has begun is written once, before its first call leaves, and not at all where it makes none and
/// ends. Three of these without an end park a delivery.
pub struct LedgerEffects {
    ledger: Ledger,
    delivery: DeliveryId,
    shown: String,
    /// What idempotency keys follow from in the first round, and in the one that `past` finds, where it is a later one.
    first_root: String,
    later_root: OnceLock<String>,
    /// Source, time and id of the event.
    of: (Name, Millis, String),
    number: u32,
    started_at: Millis,
    plugin: Digest,
    /// It has calls of earlier attempts, perhaps.
    was_tried: bool,
    /// Goes on where who asked first is gone: a guest whose time was over meanwhile.
    begun: OnceLock<Written>,
    failed: Mutex<Option<Arc<store::Error>>>,
    /// For the answer of the call in flight; an attempt has one at a time.
    room: Mutex<Option<CallRoom>>,
    /// For what the attempt holds of earlier ones.
    held: Mutex<Option<HeldEffects>>,
}

impl LedgerEffects {
    /// `shown`: the delivery as text, the attempt's number, and when it begins.
    pub fn of(
        ledger: Ledger,
        (delivery, event): (&OpenDelivery, &StoredEvent),
        (shown, number, started_at): (&str, u32, Millis),
        plugin: Digest,
    ) -> LedgerEffects {
        LedgerEffects {
            first_root: host::root(shown, event.source.as_str(), event.received_at, &event.id, 0),
            of: (event.source.clone(), event.received_at, event.id.clone()),
            later_root: OnceLock::new(),
            ledger,
            delivery: delivery.id.clone(),
            shown: shown.to_owned(),
            number,
            started_at,
            plugin,
            was_tried: number > 1,
            begun: OnceLock::new(),
            failed: Mutex::default(),
            room: Mutex::default(),
            held: Mutex::default(),
        }
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    pub async fn begin_once(&self) -> Result<(), Arc<store::Error>> {
        let begin = || {
            let (ledger, id, number, plugin) =
                (self.ledger.clone(), self.delivery.clone(), self.number, self.plugin);
            let begin = async move { Ok(ledger.begin(&id, number, plugin, Millis::now()).await?) };
            begin.boxed().shared()
        };
        self.begun.get_or_init(begin).clone().await
    }

    /// False where nobody asked.
    pub async fn has_begun(&self) -> Result<bool, Arc<store::Error>> {
        match self.begun.get() {
            Some(begun) => begun.clone().await.map(|()| true),
            None => Ok(false),
        }
    }

    /// What the store said when it stopped a call.
    pub fn failure(&self, why: &str) -> Arc<store::Error> {
        let failed = lock(&self.failed).clone();
        failed.unwrap_or_else(|| Arc::new(store::Error::Effect(self.delivery.clone(), why.to_owned())))
    }

    /// Of what is held of earlier attempts: an attempt that runs again would otherwise wait for itself, or for its turn
    /// with what those hold out for who have it.
    pub fn let_go(&self) {
        *lock(&self.held) = None;
    }

    /// Nothing leaves whose answer could not be written down.
    async fn make_room(&self) -> Result<(), String> {
        // Of the call before, which has its answer.
        *lock(&self.room) = None;
        let room = self.ledger.room_for_call().await;
        let room = room.map_err(|refused| Arc::new(store::Error::DiskFull(refused.to_string())));
        *lock(&self.room) = Some(self.told(room)?);
        Ok(())
    }

    fn told<T>(&self, result: Result<T, Arc<store::Error>>) -> Result<T, String> {
        result.map_err(|error| {
            let why = error.to_string();
            *lock(&self.failed) = Some(error);
            why
        })
    }
}

impl host::Effects for LedgerEffects {
    fn delivery(&self) -> &str {
        &self.shown
    }

    fn root(&self) -> &str {
        self.later_root.get().unwrap_or(&self.first_root)
    }

    fn attempt(&self) -> u32 {
        self.number
    }

    fn started_at(&self) -> Millis {
        self.started_at
    }

    fn past(&self) -> host::EffectFuture<'_, host::Before> {
        Box::pin(async move {
            // Also of this attempt, where it runs again since its shelf was changed by another.
            if !self.was_tried && self.begun.get().is_none() {
                return Ok(host::Before::default());
            }
            self.let_go();
            let held = self.told(self.ledger.hold_effects(&self.delivery).await.map_err(Arc::new))?;
            *lock(&self.held) = Some(held);
            let noted = self.told(self.ledger.effects(&self.delivery).await.map_err(Arc::new))?;
            if noted.round > 0 {
                let (source, at, id) = &self.of;
                let _ = self.later_root.set(host::root(&self.shown, source.as_str(), *at, id, noted.round));
            }
            Ok(host::Before { entries: noted.entries, up_to: noted.up_to })
        })
    }

    fn begin(&self) -> host::EffectFuture<'_, ()> {
        Box::pin(async move {
            self.make_room().await?;
            self.told(self.begin_once().await)
        })
    }

    /// Both are asked for before either is waited for, so that one sync carries them.
    fn note(&self, entry: Bytes, is_intent: bool) -> host::EffectFuture<'_, ()> {
        Box::pin(async move {
            if is_intent {
                self.make_room().await?;
            }
            let note = async {
                let (entry, now) = ((entry, is_intent), Millis::now());
                let noted = self.ledger.note_effect(&self.delivery, self.number, entry, now);
                noted.await.map_err(Arc::new)
            };
            let (begun, noted) = future::join(self.begin_once(), note).await;
            if !is_intent {
                *lock(&self.room) = None;
            }
            self.told(begun.and(noted))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
