//! Handler: a plugin and what it was granted, ready to be called.

use std::sync::Arc;

use super::grant::Grant;
use super::{Engine, Grants, Handler, Plugin, Problem, engine};

pub(super) struct Inner {
    pub(super) engine: Arc<engine::Inner>,
    pub(super) plugin: Plugin,
    pub(super) grant: Arc<Grant>,
}

pub(super) fn bind(
    engine: &Engine,
    plugin: Plugin,
    grants: Grants,
) -> Result<(Handler, Vec<Problem>), Vec<Problem>> {
    let engine = Arc::clone(&engine.inner);
    let (grant, warnings) =
        Grant::new(&engine.network, plugin.manifest(), plugin.inner.memory_initial, grants)?;
    let inner = Inner { engine, plugin, grant: Arc::new(grant) };
    Ok((Handler { inner: Arc::new(inner) }, warnings))
}
