//! The only door to locks, atomics and threads.
//!
//! Everything that is shared between threads is built from what is named here, so that the same
//! code runs on the operating system's primitives and, under `cfg(loom)`, on loom's models.
//! Locks that others are taken inside of have a [`Rank`], asserted in tests.
//! Locks do not poison: a panic inside a lock surfaces when its thread is joined.

mod rank;

pub use rank::{Rank, ranked_lock, ranked_mutex};

#[cfg(not(loom))]
mod primitives {
    pub use super::rank::{Condvar, Mutex, MutexGuard, RwLock};
    pub use std::sync::atomic::{
        AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
        fence,
    };
    pub use std::sync::{Arc, OnceLock, Weak};

    pub mod thread {
        pub use std::thread::{JoinHandle, Thread, current, park, park_timeout};

        /// Starts a thread with a name that shows in debuggers and profiles.
        pub fn spawn_named<T: Send + 'static>(
            name: &str,
            body: impl FnOnce() -> T + Send + 'static,
        ) -> std::io::Result<JoinHandle<T>> {
            std::thread::Builder::new().name(name.to_owned()).spawn(body)
        }

        /// How many threads can run at once; 1 when that is unknown.
        pub fn parallelism() -> usize {
            static COUNT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
            *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
        }
    }

    /// Tells the processor that this is a spin loop.
    pub fn spin_loop() {
        std::hint::spin_loop();
    }
}

#[cfg(loom)]
mod primitives {
    pub use loom::sync::atomic::{
        AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
        fence,
    };
    pub use std::sync::{Arc, OnceLock, Weak};

    /// The guard, in a shape that [`Condvar::wait`] can give up and take back.
    #[derive(Debug)]
    pub struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> std::ops::Deref for MutexGuard<'_, T> {
        type Target = T;

        #[allow(clippy::expect_used)]
        fn deref(&self) -> &T {
            self.0.as_ref().expect("only empty inside wait")
        }
    }

    impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
        #[allow(clippy::expect_used)]
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("only empty inside wait")
        }
    }

    pub type RwLockReadGuard<'a, T> = loom::sync::RwLockReadGuard<'a, T>;
    pub type RwLockWriteGuard<'a, T> = loom::sync::RwLockWriteGuard<'a, T>;

    /// loom's mutex in the shape of parking_lot's.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        #[allow(clippy::expect_used)]
        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("a model that panics has failed already")))
        }

        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }
    }

    /// loom's read-write lock in the shape of parking_lot's.
    #[derive(Debug, Default)]
    pub struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn new(value: T) -> RwLock<T> {
            RwLock(loom::sync::RwLock::new(value))
        }

        #[allow(clippy::expect_used)]
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect("a model that panics has failed already")
        }

        #[allow(clippy::expect_used)]
        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect("a model that panics has failed already")
        }
    }

    /// loom's condition variable in the shape of parking_lot's.
    #[derive(Debug, Default)]
    pub struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub fn new() -> Condvar {
            Condvar(loom::sync::Condvar::new())
        }

        #[allow(clippy::expect_used)]
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.0.take().expect("only empty inside wait");
            guard.0 = Some(self.0.wait(held).expect("a model that panics has failed already"));
        }

        pub fn notify_all(&self) -> usize {
            self.0.notify_all();
            0
        }
    }

    pub mod thread {
        pub use loom::thread::{JoinHandle, Thread, current, park};

        pub fn park_timeout(_: std::time::Duration) {
            loom::thread::park();
        }

        pub fn spawn_named<T: Send + 'static>(
            _: &str,
            body: impl FnOnce() -> T + Send + 'static,
        ) -> std::io::Result<JoinHandle<T>> {
            Ok(loom::thread::spawn(body))
        }

        pub fn parallelism() -> usize {
            1
        }
    }

    pub fn spin_loop() {
        loom::thread::yield_now();
    }
}

pub use primitives::*;
