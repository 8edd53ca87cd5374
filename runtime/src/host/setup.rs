//! Setup: a handler as it was configured, without its secrets: what an attempt needs to be run again elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::http::Origin;
use super::{BoundSecret, CallLimits, EffectPolicy, Grants, OriginGrant};
use crate::words::digest::Digest;
use crate::words::event::Name;
use crate::words::secret::Secret;

/// Written as JSON; its digest is that of the JSON, so two handlers set up alike share one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub name: Name,
    pub settings: serde_json::Map<String, serde_json::Value>,
    pub secrets: BTreeMap<String, SecretSetup>,
    pub origins: Vec<OriginGrant>,
    pub networks: Vec<IpNet>,
    pub limits: LimitSetup,
    pub effects: EffectPolicy,
}

/// Of a secret: where it may be sent, and never what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSetup {
    pub to: Vec<String>,
    /// Of a secret that is a URL: the history shows it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The beginning of its path that is granted, where only such are: what stands in for it begins so too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitSetup {
    pub memory_bytes: u64,
    pub timeout_ms: u64,
    pub calls: u32,
    pub call_bytes: u64,
    pub response_bytes: usize,
}

impl Setup {
    pub(super) fn of(grants: &Grants) -> Setup {
        let paths: Vec<&str> =
            grants.origins.iter().flat_map(|grant| &grant.paths).map(String::as_str).collect();
        let secrets =
            grants.secrets.iter().map(|(name, secret)| (name.clone(), SecretSetup::of(secret, &paths)));
        Setup {
            name: grants.name.clone(),
            settings: grants.settings.clone(),
            secrets: secrets.collect(),
            origins: grants.origins.clone(),
            networks: grants.networks.clone(),
            limits: LimitSetup::of(&grants.limits),
            effects: grants.effects,
        }
    }

    /// # Errors
    /// In words: it was not written by `bytes`, or by a later version of it.
    pub fn read(bytes: &[u8]) -> Result<Setup, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("a handler's setup does not read: {error}"))
    }

    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data serialises")
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes())
    }

    /// As the handler was bound, with something else in each secret's place: what is run with it must not be sent.
    pub fn grants(&self) -> Grants {
        let secrets = self.secrets.iter().map(|(name, secret)| (name.clone(), secret.stand_in(name)));
        Grants {
            name: self.name.clone(),
            settings: self.settings.clone(),
            secrets: secrets.collect(),
            origins: self.origins.clone(),
            networks: self.networks.clone(),
            limits: self.limits.limits(),
            effects: self.effects,
        }
    }
}

impl Default for Setup {
    /// Of a plugin that is only described.
    fn default() -> Setup {
        Setup {
            name: Name::new("describe").expect("a name of eight letters"),
            settings: serde_json::Map::new(),
            secrets: BTreeMap::new(),
            origins: Vec::new(),
            networks: Vec::new(),
            limits: LimitSetup::of(&CallLimits::default()),
            effects: EffectPolicy::default(),
        }
    }
}

impl SecretSetup {
    fn of(secret: &BoundSecret, paths: &[&str]) -> SecretSetup {
        let text = std::str::from_utf8(secret.value.expose()).ok();
        let url = text.and_then(|text| url::Url::parse(text.trim_end()).ok());
        let below = url.as_ref().and_then(|url| paths.iter().find(|path| url.path().starts_with(**path)));
        let below = below.map(|path| (*path).to_owned());
        let origin = url.and_then(|url| Origin::of(&url).ok()).map(|origin| origin.to_string());
        SecretSetup { to: secret.to.clone(), origin, below }
    }

    fn stand_in(&self, name: &str) -> BoundSecret {
        let said = format!("in-place-of-the-secret-{name}");
        let below = self.below.as_deref().unwrap_or("/").trim_end_matches('/');
        let value =
            self.origin.as_ref().map_or_else(|| said.clone(), |origin| format!("{origin}{below}/{said}"));
        BoundSecret { value: Secret::new(value), to: self.to.clone() }
    }
}

impl LimitSetup {
    fn of(limits: &CallLimits) -> LimitSetup {
        LimitSetup {
            memory_bytes: limits.memory_bytes,
            timeout_ms: u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX),
            calls: limits.calls,
            call_bytes: limits.call_bytes,
            response_bytes: limits.response_bytes,
        }
    }

    fn limits(&self) -> CallLimits {
        CallLimits {
            memory_bytes: self.memory_bytes,
            timeout: Duration::from_millis(self.timeout_ms),
            calls: self.calls,
            call_bytes: self.call_bytes,
            response_bytes: self.response_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_and_holds_no_secret() {
        let secret = |value: &str, to: &str| BoundSecret { value: Secret::new(value), to: vec![to.into()] };
        let grants = Grants {
            name: Name::new("h").unwrap(),
            settings: serde_json::Map::from_iter([("limit".to_owned(), 5.into())]),
            secrets: BTreeMap::from([
                ("token".to_owned(), secret("pat-very-secret", "https://api.example")),
                (
                    "hook".to_owned(),
                    secret("https://hooks.example/T0/very-secret\n", "https://hooks.example"),
                ),
            ]),
            origins: vec![
                "https://api.example".into(),
                OriginGrant { paths: vec!["/T0/".into()], ..OriginGrant::from("https://hooks.example") },
            ],
            networks: vec!["10.1.0.0/16".parse().unwrap()],
            limits: CallLimits { timeout: Duration::from_millis(1500), ..CallLimits::default() },
            effects: EffectPolicy::default(),
        };
        let setup = Setup::of(&grants);
        let bytes = setup.bytes();
        assert!(!String::from_utf8_lossy(&bytes).contains("very-secret"));
        assert_eq!(Setup::read(&bytes).unwrap(), setup);
        assert_eq!(setup.secrets["hook"].origin.as_deref(), Some("https://hooks.example"));
        let again = setup.grants();
        assert_eq!((&again.origins, again.limits.timeout), (&grants.origins, grants.limits.timeout));
        let hook = String::from_utf8(again.secrets["hook"].value.expose().to_vec()).unwrap();
        assert_eq!(hook, "https://hooks.example/T0/in-place-of-the-secret-hook");
        // What stands in for a URL has its origin, so it is the same setup again.
        assert_eq!(Setup::of(&again).digest(), setup.digest());
        assert!(Setup::read(b"{}").is_err());
    }
}
