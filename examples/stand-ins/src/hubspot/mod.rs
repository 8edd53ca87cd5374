//! HubSpot: contacts upserted in a batch, and notes.
//!
//! The two calls that `crm-sync` makes, as the reference describes them (read 2026-11):
//! <https://developers.hubspot.com/docs/api-reference/legacy/crm/objects/contacts/batch/upsert-contacts>,
//! <https://developers.hubspot.com/docs/api-reference/crm-notes-v3/guide> and
//! <https://developers.hubspot.com/docs/api-reference/error-handling>.

mod contacts;
mod notes;
mod portal;
mod refusal;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::desk::{self, Desk, Fault, Received};
use crate::exchange::{Answer, Request};
use crate::random;
use portal::Portal;
pub use portal::PortalSetup;
use refusal::Refusal;

/// A running stand-in for HubSpot; dropping it ends it.
pub struct HubSpot {
    desk: Desk,
    portal: Arc<Mutex<Portal>>,
    token: String,
}

impl HubSpot {
    /// On a free loopback port, with a portal that is prepared for `crm-sync`.
    pub async fn start(token: &str) -> HubSpot {
        let setup = PortalSetup::default();
        HubSpot::open(desk::anywhere(), token, &setup).await.expect("loopback has a free port")
    }

    pub async fn open(address: SocketAddr, token: &str, setup: &PortalSetup) -> io::Result<HubSpot> {
        let portal = Arc::new(Mutex::new(Portal::new(setup)));
        let (judged, expected) = (Arc::clone(&portal), token.to_owned());
        let judge = move |request: &Request| judge(&mut lock(&judged), &expected, request);
        let desk = Desk::open(address, Box::new(judge)).await?;
        Ok(HubSpot { desk, portal, token: token.to_owned() })
    }

    /// A token that nobody knows beforehand.
    pub fn random_token() -> String {
        format!("stand-in-token-{}", random::word(24))
    }

    /// `http://127.0.0.1:port`: the origin to grant.
    pub fn url(&self) -> &str {
        self.desk.url()
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// Everything that has come, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.desk.received()
    }

    /// Everything that has come, once `count` requests have. Put your own deadline around it.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.desk.wait_for(count).await
    }

    /// Faults are used up in the order in which they were set.
    pub fn fail_next(&self, fault: Fault) {
        self.desk.fail_next(fault).expect("the fault is one that can be answered");
    }

    /// The contacts that the portal has now, as the API shows them.
    pub fn contacts(&self) -> Vec<Value> {
        lock(&self.portal).contacts()
    }

    /// The notes that the portal has now, each with the ids of its contacts under `contacts`.
    pub fn notes(&self) -> Vec<Value> {
        lock(&self.portal).notes()
    }
}

fn lock(portal: &Mutex<Portal>) -> MutexGuard<'_, Portal> {
    portal.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judge(portal: &mut Portal, token: &str, request: &Request) -> Answer {
    let answered = admit(token, request).and_then(|body| match request.path.as_str() {
        contacts::PATH => contacts::upsert(portal, &body),
        notes::PATH => notes::create(portal, &body),
        _ => Err(Refusal::not_found()),
    });
    answered.unwrap_or_else(Refusal::answer)
}

/// What every call must have, whatever it asks for: an address, a token, a method and a JSON body.
fn admit(token: &str, request: &Request) -> Result<Value, Refusal> {
    if ![contacts::PATH, notes::PATH].contains(&request.path.as_str()) {
        return Err(Refusal::not_found());
    }
    if request.bearer() != Some(token) {
        return Err(Refusal::unauthenticated());
    }
    if request.method != "POST" {
        return Err(Refusal::method_not_allowed());
    }
    if request.media_type().as_deref() != Some("application/json") {
        return Err(Refusal::unsupported_media_type());
    }
    serde_json::from_slice(&request.body).map_err(|e| Refusal::not_json(&e))
}
