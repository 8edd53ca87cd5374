//! Examine: everything that `config check` finds, found with the tools of the rooms; `run` starts from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::asks::Known;
use crate::config::{self, Report, Request, Secrets, Tools, Validity};
use crate::host::{self, Engine, Grants, Handler};
use crate::intake;
use crate::words::event::Name;
use crate::words::limits;
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

/// A judged configuration and the handlers that were bound on the way.
pub struct Examined {
    pub report: Report,
    /// Enabled ones that loaded; all of them where the report is sound.
    pub handlers: BTreeMap<Name, Arc<Handler>>,
}

pub struct Examination<'a> {
    pub request: &'a Request,
    /// False: `--no-secrets`.
    pub read_secrets: bool,
    /// Where compiled plugins are kept; None: compile and forget.
    pub cache: Option<PathBuf>,
    /// When the daemon first saw a secret below a newer one, where somebody knows.
    pub demoted_at: &'a dyn Fn(&Name, Fingerprint) -> Option<Millis>,
    /// What the plugins of the last run asked for.
    pub known: Known,
}

impl Examination<'_> {
    /// Reads all that the daemon would read at its start. Blocking: plugins are compiled.
    ///
    /// # Errors
    /// Where the WASM engine does not start; whatever is wrong with the configuration is in the report.
    pub fn run(self) -> Result<Examined, host::Error> {
        let loaded = config::load(self.request);
        let engine = Engine::new(host::Options { cache: self.cache, instances_max: limits::INSTANCES_MAX })?;
        let handlers = RefCell::new(BTreeMap::new());
        let bind = |plugin: &Path, grants: Grants| {
            let name = grants.name.clone();
            let (handler, mut problems) = config::bind(&engine, plugin, grants);
            let more = handler.as_ref().and_then(|handler| self.known.warning(&name, handler.plugin()));
            let warning = |message| host::Problem { key: "plugin".to_owned(), message, fatal: false };
            problems.extend(more.map(warning));
            handlers.borrow_mut().extend(handler.map(|handler| (name, Arc::new(handler))));
            problems
        };
        let tools = Tools {
            secrets: self.read_secrets.then(|| Secrets::new(&self.request.environment)),
            now: Millis::now(),
            certificate: &certificate,
            bind: &bind,
            demoted_at: self.demoted_at,
        };
        let report = config::check(loaded, &tools);
        Ok(Examined { report, handlers: handlers.into_inner() })
    }
}

fn certificate(cert: &Path, key: &Path) -> Result<Validity, String> {
    let facts = intake::tls::check(cert, key).map_err(|e| e.to_string())?;
    Ok(Validity { begins: facts.not_before, ends: facts.not_after })
}
