//! Reading beside an owner that appends, rolls, trims, makes and deletes topics, and after it was
//! killed: an attached broker sees a prefix of what was written, with the right bytes, or the
//! typed error of what is gone. It changes nothing, and goes on when another owner takes over.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "attached/follower.rs"]
mod follower;
#[path = "attached/owner.rs"]
mod owner;
#[allow(dead_code)] // The command that repeats a seed is of another suite.
#[path = "crash/scale.rs"]
mod scale;

use follower::Follower;
use owner::Owner;
use std::sync::atomic::{AtomicBool, Ordering};
use topiclite::storage::sim::Random;

/// The owner is a thread of this process.
#[test]
fn beside_an_owner_in_this_process_only_a_prefix_is_seen() {
    let _turn = scale::turn();
    let calls = scale::rounds(1500, 30_000, 1_000_000);
    let first = scale::only_seed().unwrap_or(1);
    for seed in first..first + 2 {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let mut owner = Owner::open(&dir, seed);
        let mut follower = Follower::attach(&dir);
        let over = AtomicBool::new(false);
        let mut owner = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let ended = Ended(&over);
                for _ in 0..calls {
                    owner.call(&mut std::io::sink());
                }
                drop(ended);
                owner
            });
            while !over.load(Ordering::Acquire) {
                follower.look();
            }
            work.join().unwrap()
        });
        assert!(follower.looks() > 1);
        follower.look();
        follower.sees_exactly(&owner);
        // What a killed owner leaves, and what its heir makes of it.
        let ends = owner.ends().clone();
        drop(owner);
        follower.look();
        owner = Owner::open(&dir, seed + 100);
        assert_eq!(owner.ends(), &ends, "seed {seed}");
        follower.look();
        for _ in 0..200 {
            owner.call(&mut std::io::sink());
        }
        follower.look();
        follower.sees_exactly(&owner);
        owner.close();
        follower.look();
        follower.changed_nothing();
        println!("beside a thread, seed {seed}: {calls} calls, {follower}");
    }
}

/// Says that the owner is done, also when it panicked.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The owner is another process, killed at a random moment, several times on one directory; the
/// attached broker stays.
#[test]
fn beside_an_owner_that_is_killed_only_a_prefix_is_seen() {
    const LIVES: u64 = 5;
    if owner::is_child() {
        return;
    }
    let _turn = scale::turn();
    let kills = scale::rounds(10, 150, 5000);
    let first = scale::only_seed().unwrap_or(1);
    let mut done = 0;
    for seed in first.. {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        // There is something to attach to.
        Owner::open(&dir, seed).close();
        let mut follower = Follower::attach(&dir);
        for life in 0..LIVES {
            let mut random = Random::new(seed * 1000 + life);
            let mut child = owner::Child::start(&dir, random.next());
            let appends = random.below(400);
            let killer = std::thread::spawn(move || {
                child.work(appends);
                child.kill()
            });
            while !killer.is_finished() {
                follower.look();
            }
            let acked = killer.join().unwrap();
            follower.look();
            let seen = follower.ends();
            let what = format!("seed {seed}, life {life}");
            for (place, end) in &acked {
                assert!(seen.get(place) >= Some(end), "{what}: {place:?} {seen:?}, acked {end}");
            }
            // Nothing happens, so nothing more is seen: no prepared bytes, no torn batch.
            follower.look();
            assert_eq!(follower.ends(), seen, "{what}");
            let heir = Owner::open(&dir, random.next());
            assert_eq!(heir.ends(), &seen, "{what}: what was seen is what an owner recovers");
            follower.look();
            assert_eq!(follower.ends(), seen, "{what}");
            done += 1;
        }
        follower.changed_nothing();
        println!("beside a child, seed {seed}: {done} kills, {follower}");
        if done >= kills || scale::only_seed().is_some() {
            break;
        }
    }
}
