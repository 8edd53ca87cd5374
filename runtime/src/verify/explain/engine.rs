//! Engine: what the explanation and a sample's proof ask of a scheme beyond `verify`.
//!
//! Everything that knows the inside of a scheme is here, so that the language can grow without the rest of this folder.

use super::Case;
use crate::verify::format::Group;
use crate::verify::signed::{Claimed, Template};
use crate::verify::stamp::{self, Unit};
use crate::verify::{Claim, Key, Refused, Request, Scheme, Verified};
use crate::words::secret::Secret;
use crate::words::time::Millis;

impl Scheme {
    fn claims(&self, request: &Request<'_>) -> Option<Claim> {
        if self.proves_nothing() || self.builtin.is_some() { None } else { self.claim(request).ok() }
    }

    fn stamp_of(&self, request: &Request<'_>, group: &Group) -> Option<stamp::Read> {
        self.stamp.as_ref()?.read(request, group.stamp.as_deref()).ok()
    }

    /// Whether a key made it, and then whether it is accepted at this time: age is judged by itself.
    ///
    /// # Errors
    /// Why it is not genuine.
    pub(in crate::verify) fn judged(
        &self,
        request: Request<'_>,
        keys: &[Key],
        now: Millis,
    ) -> Result<(Verified, bool), Refused> {
        let refused = match self.verify(request, keys, now) {
            Ok(verified) => return Ok((verified, true)),
            Err(refused) => refused,
        };
        let good = times_of(&refused, now).into_iter().find_map(|at| self.verify(request, keys, at).ok());
        good.map(|verified| (verified, false)).ok_or(refused)
    }

    /// The timestamp as the request writes it.
    pub(in crate::verify) fn claimed_stamp(&self, request: &Request<'_>) -> Option<String> {
        let claim = self.claims(request)?;
        Some(self.stamp_of(request, &claim.first)?.text)
    }

    /// The id that is signed, as the request writes it.
    pub(in crate::verify) fn claimed_id(&self, request: &Request<'_>) -> Option<String> {
        self.claims(request)?.id
    }

    /// The secret's bytes as the scheme takes them; of a built-in scheme as they are.
    pub(in crate::verify) fn decoded(&self, secret: &Secret) -> Result<Vec<u8>, String> {
        match &self.builtin {
            Some(_) => self.key(secret, None).map(|_| secret.expose().to_vec()),
            None => self.secret.decode(secret.expose()),
        }
    }

    /// A key of bytes that are decoded already; None where they cannot be one.
    pub(in crate::verify) fn key_of(&self, bytes: &[u8]) -> Option<Key> {
        if bytes.is_empty() {
            return None;
        }
        if self.builtin.is_some() {
            return self.key(&Secret::new(bytes), None).ok();
        }
        let fingerprint = Secret::new(bytes).fingerprint();
        Some(Key { fingerprint, ends: None, secret_bytes: bytes.len(), ready: self.proof.ready(bytes).ok()? })
    }

    /// Whether this key made the signature, however old it is.
    pub(in crate::verify) fn proves(&self, request: Request<'_>, key: &Key) -> bool {
        let verdict = self.verify(request, std::slice::from_ref(key), Millis(0));
        matches!(
            verdict,
            Ok(_) | Err(Refused::Stale { .. } | Refused::Expired { .. } | Refused::NotYet { .. })
        )
    }

    /// Whether the scheme is data, so that it can be told by its text.
    pub(in crate::verify) fn is_data(&self) -> bool {
        self.builtin.is_none()
    }

    /// Bytes of a signature, least and most.
    pub(in crate::verify) fn proof_bytes(&self) -> (usize, usize) {
        self.proof.lengths()
    }
}

/// When a genuine request was good that is not any more, or not yet: as near as a refusal tells, to the second.
fn times_of(refused: &Refused, now: Millis) -> Vec<Millis> {
    let at = |s: i64| Millis(now.0.saturating_add_signed(s.saturating_mul(1000)));
    match refused {
        Refused::Stale { age_s, .. } => vec![at(-age_s), at(1 - age_s)],
        Refused::Expired { ago_s } => {
            let ago = i64::try_from(*ago_s).unwrap_or(i64::MAX);
            vec![at(-ago), at(-ago - 1)]
        }
        Refused::NotYet { in_s } => {
            let ahead = i64::try_from(*in_s).unwrap_or(i64::MAX - 1);
            vec![at(ahead), at(ahead + 1)]
        }
        _ => Vec::new(),
    }
}

/// The time that a text says in a unit of the language.
pub(in crate::verify) fn parsed(unit: &str, text: &str) -> Option<Millis> {
    let unit = match unit {
        "s" => Unit::Seconds,
        "ms" => Unit::Millis,
        "rfc3339" => Unit::Rfc3339,
        "http-date" => Unit::HttpDate,
        _ => return None,
    };
    unit.parse(text)
}

/// The bytes that one name of the template stands for in this request; the secret's are none.
pub(super) fn resolved(scheme: &Scheme, name: &str, case: &Case<'_>) -> Result<Vec<u8>, String> {
    if !scheme.is_data() {
        return Err("this is known to the built-in scheme alone".to_owned());
    }
    let template =
        Template::parse(&format!("{{{name}}}"), &case.spec.consts).map_err(|problems| problems.join("; "))?;
    let said = |refused: Refused| refused.to_string();
    let claim = scheme.claim(&case.request).map_err(said)?;
    let stamp = match &scheme.stamp {
        Some(stamp) => Some(stamp.read(&case.request, claim.first.stamp.as_deref()).map_err(said)?),
        None => None,
    };
    let claimed = Claimed { stamp: stamp.as_ref(), id: claim.id.as_deref() };
    let pieces = template.resolve(&case.request, claimed).map_err(said)?;
    Ok(pieces.iter().flat_map(|piece| piece.bytes(b"").to_vec()).collect())
}

#[cfg(test)]
impl Scheme {
    /// How many signatures would be compared; None: the request is refused before that.
    pub(super) fn candidates(&self, request: &Request<'_>) -> Option<usize> {
        let read = self.signature.read(request, self.proof).ok()?;
        Some(std::iter::once(&read.first).chain(&read.others).map(|group| group.candidates.len()).sum())
    }
}
