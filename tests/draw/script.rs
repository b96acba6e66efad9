//! What a draw is made with: a seeded source of numbers, and the script so far.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers from a seed (SplitMix64).
pub struct Rng(u64);

impl Rng {
    /// The numbers of one scenario.
    pub fn new(theme: &str, seed: u64) -> Rng {
        let name = theme.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Rng(name ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of both ends and all between.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// True so many times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % of.len() as u64).unwrap()].clone()
    }

    /// One of a table of weights.
    pub fn weighted<T: Clone>(&mut self, table: &[(u64, T)]) -> T {
        let total: u64 = table.iter().map(|(weight, _)| weight).sum();
        let mut at = self.next() % total;
        for (weight, one) in table {
            if at < *weight {
                return one.clone();
            }
            at -= weight;
        }
        unreachable!("the weights add up to the total")
    }

    /// Each with a chance of one half, and at least one.
    pub fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        let mut out: Vec<T> =
            of.iter().filter(|_| self.next().is_multiple_of(2)).cloned().collect();
        if out.is_empty() {
            out.push(self.pick(of));
        }
        out
    }
}

/// A topic of the script.
pub struct Topic {
    pub name: &'static str,
    pub partitions: u64,
}

/// What a consumer is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Idle,
    Subscribed,
    Assigned,
}

/// What a transactional producer was last asked for, whatever came of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    New,
    Ready,
    Open,
}

/// A scenario that is being drawn.
pub struct Script {
    pub rng: Rng,
    pub topics: Vec<Topic>,
    /// The consumers that were made and not closed or killed since.
    pub consumers: BTreeMap<&'static str, Standing>,
    /// The transactional producers.
    pub producers: BTreeMap<&'static str, Stage>,
    /// Producers, and the partitions that their present transaction has records in.
    pub sent: BTreeSet<(&'static str, String)>,
    /// Those of them whose topic was deleted and made again since.
    pub made_again: BTreeSet<(&'static str, String)>,
    /// The consumers whose group metadata of some moment is kept.
    pub held: BTreeSet<&'static str>,
    protocol: &'static str,
    configs: Vec<Value>,
    actors: Map<String, Value>,
    steps: Vec<Value>,
    tags: u64,
}

impl Script {
    pub(super) fn new(rng: Rng) -> Script {
        Script {
            rng,
            topics: Vec::new(),
            consumers: BTreeMap::new(),
            producers: BTreeMap::new(),
            sent: BTreeSet::new(),
            made_again: BTreeSet::new(),
            held: BTreeSet::new(),
            protocol: "classic",
            configs: Vec::new(),
            actors: Map::new(),
            steps: Vec::new(),
            tags: 0,
        }
    }

    /// Has consumers with a group use another protocol than the classic one.
    pub fn protocol(&mut self, name: &'static str) {
        self.protocol = name;
    }

    pub fn topic(&mut self, name: &'static str, partitions: u64, config: Value) {
        self.configs.push(json!({"name": name, "partitions": partitions, "config": config}));
        self.topics.push(Topic { name, partitions });
    }

    /// An actor of a kind: `producer`, `consumer`, and whatever the interpreters learn.
    pub fn actor(&mut self, name: &str, kind: &str, config: Value) {
        self.actors.insert(name.into(), json!({"kind": kind, "config": config}));
    }

    pub fn step(&mut self, step: Value) {
        self.steps.push(step);
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// A new name for the outcome of something asynchronous.
    pub fn tag(&mut self) -> String {
        self.tags += 1;
        format!("x{}", self.tags)
    }

    /// A topic, now and then one that does not exist.
    pub fn any_topic(&mut self) -> &'static str {
        if self.rng.chance(4) {
            return "nowhere";
        }
        let names: Vec<&'static str> = self.topics.iter().map(|topic| topic.name).collect();
        self.rng.pick(&names)
    }

    /// Every partition of the topics, as `t-0`.
    pub fn partitions(&self) -> Vec<String> {
        let of = |topic: &Topic| {
            let name = topic.name;
            (0..topic.partitions).map(move |p| format!("{name}-{p}")).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of).collect()
    }

    pub fn any_partition(&mut self) -> String {
        let all = self.partitions();
        self.rng.pick(&all)
    }

    /// A partition by its topic and its number.
    pub fn any_place(&mut self) -> (String, u64) {
        let name = self.any_partition();
        let (topic, partition) = name.rsplit_once('-').unwrap();
        (topic.to_owned(), partition.parse().unwrap())
    }

    /// A consumer that stands like this, if there is one.
    pub fn any_consumer(&mut self, like: impl Fn(Standing) -> bool) -> Option<&'static str> {
        let names: Vec<&'static str> =
            self.consumers.iter().filter(|(_, now)| like(**now)).map(|(name, _)| *name).collect();
        (!names.is_empty()).then(|| self.rng.pick(&names))
    }

    pub(super) fn into_scenario(self, name: &str, about: &str, features: &[&str]) -> Value {
        json!({
            "name": name,
            "features": features,
            "about": about,
            "protocol": self.protocol,
            "topics": self.configs,
            "actors": self.actors,
            "steps": self.steps,
        })
    }
}
