//! Draws scenarios at random: scripts of steps in the vocabulary of the recorded ones, without
//! outcomes. The same theme and seed give the same script on every machine.
//!
//! A theme is a table of moves with weights: each move adds a step or a few, by what the script
//! has come to. What no two runs of a real Kafka agree on may be drawn all the same: recording
//! drops it. A move for something that is not built yet is welcome, too; the judge counts its
//! scenarios as not built, and holds whoever builds it to them.

mod administering;
mod calling;
mod compacting;
mod consuming;
mod fetching;
mod lapsing;
mod members;
mod numbering;
mod pending;
mod retaining;
mod script;
mod stable;
mod storing;
mod telling;
mod transacting;

use script::Rng;
pub use script::Script;
use serde_json::Value;

/// Adds to a script.
type Move = fn(&mut Script);

/// A kind of scenario.
pub struct Theme {
    /// The beginning of its scenarios' names.
    pub name: &'static str,
    about: &'static str,
    features: &'static [&'static str],
    /// How many moves there are, at least and at most.
    length: (u64, u64),
    begin: Move,
    moves: &'static [(u64, Move)],
    end: Move,
}

/// Every theme.
pub const THEMES: &[Theme] = &[
    consuming::ALONE,
    members::GROUPS,
    storing::PRODUCERS,
    storing::ADMIN,
    storing::RETENTION,
    transacting::TRANSACTIONS,
    stable::STABLE,
    pending::PENDING,
    numbering::NUMBERS,
    compacting::COMPACTION,
    administering::OFFSETS,
    fetching::FETCH,
    lapsing::LAPSES,
    retaining::RETAINED,
    calling::CALLS,
    telling::CALLBACKS,
];

impl Theme {
    /// The scenario of a seed.
    pub fn draw(&self, seed: u64) -> Value {
        let mut script = Script::new(Rng::new(self.name, seed));
        (self.begin)(&mut script);
        let (least, most) = self.length;
        for _ in 0..script.rng.between(least, most) {
            let next = script.rng.weighted(self.moves);
            next(&mut script);
        }
        (self.end)(&mut script);
        script.into_scenario(&format!("drawn_{}_{seed}", self.name), self.about, self.features)
    }
}
