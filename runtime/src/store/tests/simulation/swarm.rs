//! Swarm: every seed draws its own weather. Some see no crash, some nothing else; so rare things come together.

use std::time::Duration;

use crate::store::journal::simulated::dice::Dice;
use crate::store::{Durability, Options};

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Duplicate,
    Begin,
    Settle,
    Park,
    Rule,
    Effect,
    Hold,
    Lane,
    Retain,
    Write,
    Index,
    Cancel,
    ReadShelf,
    TimePasses,
    ClockJumps,
    DiskFault,
    DiskFills,
    IndexFails,
    CopyIndex,
    Close,
    Kill,
    PowerLoss,
    Check,
}

/// With the weights of a day on which nothing is left out.
const ACTIONS: [(Action, u64); 24] = [
    (Action::Accept, 20),
    (Action::Duplicate, 12),
    (Action::Begin, 14),
    (Action::Settle, 12),
    (Action::Effect, 8),
    (Action::Park, 2),
    (Action::Rule, 5),
    (Action::Hold, 2),
    (Action::Lane, 2),
    (Action::Retain, 4),
    (Action::Write, 24),
    (Action::Index, 10),
    (Action::Cancel, 2),
    (Action::ReadShelf, 3),
    (Action::TimePasses, 8),
    (Action::ClockJumps, 1),
    (Action::DiskFault, 3),
    (Action::DiskFills, 2),
    (Action::IndexFails, 1),
    (Action::CopyIndex, 1),
    (Action::Close, 2),
    (Action::Kill, 2),
    (Action::PowerLoss, 3),
    (Action::Check, 1),
];

#[derive(Clone, Debug)]
pub(super) struct Swarm {
    weights: Vec<u64>,
    pub steps: u64,
    pub segment_bytes: u64,
    pub options: Options,
    pub window: Duration,
    /// The longest that passes at once, in milliseconds.
    pub pass_ms: u64,
    pub ids: u64,
    pub events_max: u64,
    pub padding_max: u64,
    pub handlers: u64,
    pub shelf_keys: u64,
    /// Of work that is done in parts.
    pub bound: Option<usize>,
    /// Percent of the writer's steps in which something happens between write and sync.
    pub between: u64,
    /// Percent of the writer's steps in which the end comes, where it comes at all.
    pub dies: u64,
    /// Percent of starts that do not go well.
    pub rough_starts: u64,
    /// Percent of restarts at which somebody meddles with the index.
    pub meddles: u64,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl Swarm {
    pub(super) fn draw(dice: &mut Dice) -> Swarm {
        let durability = if dice.percent(15) { Durability::ProcessCrash } else { Durability::PowerLoss };
        let mut swarm = Swarm {
            weights: Vec::new(),
            steps: 50 + dice.below(101),
            segment_bytes: of(dice, &[300, 1000, 3000, 10_000, 1 << 20]),
            options: Options {
                path: "/simulated".into(),
                durability,
                retain_age: of(dice, &[HOUR, DAY, DAY * 10, DAY * 1000]),
                retain_bytes: of(dice, &[6000, 30_000, 1 << 30, 1 << 30]),
                open_age_max: of(dice, &[HOUR * 2, DAY * 3, DAY * 1000]),
            },
            window: of(dice, &[Duration::from_secs(60), HOUR, DAY * 7, DAY * 100]),
            pass_ms: of(dice, &[10, 5000, 600_000, 10_000_000, 100_000_000]),
            ids: of(dice, &[2, 6, 25, 10_000]),
            events_max: of(dice, &[1, 1, 3, 5]),
            padding_max: of(dice, &[1, 40, 600, 3000]),
            handlers: 1 + dice.below(3),
            shelf_keys: of(dice, &[1, 3, 8]),
            bound: of(dice, &[None, Some(1), Some(2), Some(5), Some(20)]),
            between: of(dice, &[0, 20, 80]),
            dies: of(dice, &[0, 2, 8]),
            rough_starts: of(dice, &[0, 20, 60]),
            meddles: of(dice, &[0, 20, 60]),
        };
        swarm.weights = ACTIONS.map(|(action, usual)| swarm.weight(dice, action, usual)).to_vec();
        swarm
    }

    fn weight(&self, dice: &mut Dice, action: Action, usual: u64) -> u64 {
        let weight = usual * [0, 1, 1, 4][dice.index(4)];
        match action {
            Action::Accept | Action::Write => weight.max(usual),
            // What was not promised is not asked for.
            Action::PowerLoss | Action::DiskFault if self.promises_less() => 0,
            _ => weight,
        }
    }

    /// Answers do not wait for the disk: they survive the end of the process only.
    pub(super) fn promises_less(&self) -> bool {
        self.options.durability == Durability::ProcessCrash
    }

    pub(super) fn next(&self, dice: &mut Dice) -> Action {
        ACTIONS[dice.weighted(&self.weights)].0
    }
}

fn of<T: Clone>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.index(from.len())].clone()
}
