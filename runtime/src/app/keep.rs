//! Keep: the plugins and setups of this configuration, put where deliveries find them when they are run again.

use std::path::PathBuf;
use std::time::Duration;

use tracing::{info, warn};

use super::build::Handlers;
use crate::config::Config;
use crate::store::Kept;
use crate::words::digest::Digest;
use crate::words::time::Millis;

/// What nobody used is kept this much longer than a delivery is: its last use is noted by the minute.
const LONGER: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Keeper {
    kept: Kept,
    in_use: Vec<Digest>,
    age: Duration,
}

impl Keeper {
    /// A daemon that cannot keep them runs all the same, and says what that means. Blocking.
    pub fn start(config: &Config, handlers: &Handlers, kept: Kept) -> Keeper {
        // A retry at the end of its days gives a delivery as many again.
        let open = config.store.open_max_age.saturating_mul(2);
        let age = config.store.retain.max_age.max(open).saturating_add(LONGER);
        let mut keeper = Keeper { kept, in_use: Vec::new(), age };
        for (name, handler) in handlers {
            let path = config.handlers.get(name).map(|handler| handler.plugin.clone());
            let kept = keeper
                .keep(&handler.setup().bytes())
                .and_then(|()| keeper.keep_plugin(path, handler.plugin().digest()));
            if let Err(error) = kept {
                warn!(handler = %name, error, "its deliveries cannot be run again from their record alone");
            }
        }
        keeper
    }

    fn keep_plugin(&mut self, path: Option<PathBuf>, digest: Digest) -> Result<(), String> {
        let Some(path) = path else { return Ok(()) };
        let bytes = std::fs::read(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        if Digest::of(&bytes) != digest {
            return Err(format!("`{}` was changed since it was loaded", path.display()));
        }
        self.keep(&bytes)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), String> {
        let digest = self.kept.keep(bytes, Millis::now()).map_err(|error| error.to_string())?;
        self.in_use.push(digest);
        Ok(())
    }

    /// What is in use stays, what no delivery can refer to any more goes. `oldest`: when the oldest part of the journal
    /// was begun; what was in use since then is referred to, whatever the clock says now. Blocking.
    pub fn look(&self, now: Millis, oldest: Millis) {
        let used = self.in_use.iter().try_for_each(|digest| self.kept.touch(*digest, now));
        match used.and_then(|()| self.kept.sweep(now.minus(self.age).min(oldest))) {
            Ok(0) => {}
            Ok(files) => info!(files, "plugins and setups that no delivery refers to any more are deleted"),
            Err(error) => warn!(%error, "kept plugins and setups could not be looked through"),
        }
    }
}
