//! Secrets seen: since when each of a source's secrets has stood below a newer one. A restart forgets nothing.

use super::codec::{Record, SecretsSeen};
use super::core::Core;
use super::stage::read_secrets;
use super::{Error, keys};
use crate::words::event::Name;
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

pub(super) async fn seen(
    core: &Core,
    source: &Name,
    fingerprints: &[Fingerprint],
    now: Millis,
) -> Result<Vec<Option<Millis>>, Error> {
    let (source, fingerprints) = (source.clone(), fingerprints.to_vec());
    core.change(move |batch| {
        let known =
            batch.stage.get(&keys::secrets(&source))?.map(|value| read_secrets(&value)).transpose()?;
        let known = known.map(|(_, seen)| seen.demoted).unwrap_or_default();
        let demoted = demoted(&known, &fingerprints, now);
        let answer = fingerprints.iter().map(|print| time_of(&demoted, *print)).collect();
        if demoted != known {
            batch.append(&Record::SecretsSeen(SecretsSeen { source, demoted }), 0)?;
        }
        Ok(answer)
    })
    .await
}

/// All but the first stand below a newer one: since now, unless that was known. One that is gone, or first
/// again, is forgotten.
fn demoted(
    known: &[(Fingerprint, Millis)],
    newest_first: &[Fingerprint],
    now: Millis,
) -> Vec<(Fingerprint, Millis)> {
    let Some((first, below)) = newest_first.split_first() else { return Vec::new() };
    let mut demoted: Vec<(Fingerprint, Millis)> = Vec::new();
    for print in below {
        if print != first && time_of(&demoted, *print).is_none() {
            demoted.push((*print, time_of(known, *print).unwrap_or(now)));
        }
    }
    demoted
}

fn time_of(demoted: &[(Fingerprint, Millis)], print: Fingerprint) -> Option<Millis> {
    demoted.iter().find(|(known, _)| *known == print).map(|(_, at)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_keeps_its_time_until_it_is_first_again_or_gone() {
        let [a, b, c] = [1, 2, 3].map(|byte| Fingerprint([byte; 6]));
        let first = demoted(&[], &[a, b], Millis(10));
        assert_eq!(first, [(b, Millis(10))]);
        let second = demoted(&first, &[c, a, b], Millis(20));
        assert_eq!(second, [(a, Millis(20)), (b, Millis(10))]);
        let third = demoted(&second, &[a, c], Millis(30));
        assert_eq!(third, [(c, Millis(30))], "a is first again, b is gone");
        assert_eq!(demoted(&third, &[c, a], Millis(40)), [(a, Millis(40))]);
        assert_eq!(demoted(&third, &[], Millis(40)), []);
    }
}
