//! Hears: every answer is compared with what the model says it must be.

use super::calls::{Answer, Op, Request, Said};
use super::life::Life;
use crate::store::{Accepted, Receipt, Refused};

impl Life {
    pub(super) fn hear(&mut self) -> Result<(), String> {
        if let Some(found) = self.process().flight().found.take() {
            return Err(found);
        }
        let answers = std::mem::take(&mut self.process().flight().answers);
        for (number, said) in answers {
            let op = self.ops[&number].clone();
            match (said, &op) {
                (Said::Accepted(Ok(receipt)), Op::Accept(request)) => {
                    self.received(number, request, &receipt)?
                }
                (Said::Accepted(Err(refused)), _) => self.refused(number, &refused)?,
                (Said::Changed(answer), _) => self.changed(number, answer)?,
                (Said::Held(Ok(counts)), _) => {
                    let expected = self.held.remove(&number).unwrap_or_default();
                    if counts != expected {
                        return Err(format!("{counts:?} were held and resumed, and it is said {expected:?}"));
                    }
                }
                (Said::Retained(Ok(_)), Op::Retain { old, .. }) => {
                    // One that changed meanwhile may have been passed over, until the next time.
                    let left = old.iter().find(|(id, row)| self.model.rows.get(id) == Some(row));
                    if let Some((id, _)) = left {
                        return Err(format!("{id} is too old, and a retention left it as it was"));
                    }
                }
                (Said::Held(Err(answer)) | Said::Retained(Err(answer)), _) => self.upkeep_failed(answer)?,
                (said, op) => unreachable!("{op} does not answer {said:?}"),
            }
        }
        Ok(())
    }

    fn changed(&mut self, number: u64, answer: Answer) -> Result<(), String> {
        self.note(format!("call {number} is answered {answer:?}"));
        match self.expected.remove(&number) {
            Some(expected) if expected == answer || expected == Answer::Any => Ok(()),
            Some(expected) => Err(format!("call {number} is answered {answer:?}, not {expected:?}")),
            None if answer == Answer::Failed => self.is_stopped(number),
            None => Err(format!("call {number} is answered {answer:?} before the writer came to it")),
        }
    }

    fn upkeep_failed(&mut self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Full if self.was_full => Ok(()),
            Answer::Failed => self.is_stopped(0),
            other => self.excuse(&format!("upkeep failed with {other:?}")),
        }
    }

    fn is_stopped(&mut self, number: u64) -> Result<(), String> {
        let process = self.process();
        match process.core.health.stopped() {
            Some(_) => Ok(()),
            None => Err(format!("call {number} hears that the store failed, and it did not")),
        }
    }

    fn refused(&mut self, number: u64, refused: &Refused) -> Result<(), String> {
        self.note(format!("call {number} is refused: {refused}"));
        let is_right = match refused {
            Refused::DiskFull { .. } => self.was_full || self.was_tight,
            Refused::SizeCap => self.swarm.options.retain_bytes < 1 << 30,
            Refused::Failed(_) => self.process().core.health.stopped().is_some() || self.index_fails,
            Refused::Closing => self.process().closed,
            Refused::Busy | Refused::IndexLag { .. } => false,
        };
        if is_right { Ok(()) } else { Err(format!("call {number} is refused without a reason: {refused}")) }
    }

    fn received(&mut self, number: u64, request: &Request, receipt: &Receipt) -> Result<(), String> {
        self.note(format!("call {number} is accepted: {:?}", receipt.events()));
        if receipt.events().len() != request.events.len() {
            return Err(format!("call {number} brought {} events", request.events.len()));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (want, accepted) in request.events.iter().zip(receipt.events()) {
            let is_first = seen.insert(want.id.clone());
            let key = (request.source.clone(), want.id.clone());
            let known = self.model.keys.get(&key).into_iter().flatten();
            let known = known.rev().find(|known| known.event == accepted.event);
            let Some(known) = known else {
                return Err(format!(
                    "call {number} is told that {} is {}, which it is not",
                    want.id, accepted.event
                ));
            };
            let is_ours = self.written.get(&number) == Some(&known.event.position);
            let expected = Accepted {
                event: known.event,
                duplicate: !(is_ours && is_first),
                body_differs: known.bytes != want.bytes(),
            };
            if *accepted != expected {
                return Err(format!("call {number} is told {accepted:?} of {}, not {expected:?}", want.id));
            }
            let lingers = self.lingering.contains(&number);
            if !is_ours && request.clock >= known.expires && !lingers {
                return Err(format!("call {number}: {} is remembered beyond its window", want.id));
            }
            self.figures.duplicates += u64::from(accepted.duplicate);
        }
        Ok(())
    }
}
