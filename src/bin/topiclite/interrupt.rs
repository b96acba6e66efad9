//! Ctrl-C and SIGTERM: a command that has something to put in order is told, and ends by itself
//! with exit code 130. A second signal ends it at once.

use crate::failure::Outcome;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use topiclite::Error;

/// What a shell expects of a program that was interrupted: 128 and the number of SIGINT.
const CODE: u8 = 130;

/// Whether this process was asked to end.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on signals do not end the process by themselves. `woken` is called at the first
    /// one, on a thread of its own, once [`Interrupt::is_asked`] says so.
    pub fn listen(woken: impl FnOnce() + Send + 'static) -> Outcome<Interrupt> {
        let failed = |error| Error::io(error, "listening for", Path::new("signals"));
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let interrupt = Interrupt::default();
        let asked = interrupt.0.clone();
        let wait = move || {
            let mut woken = Some(woken);
            for _signal in signals.forever() {
                match woken.take() {
                    None => std::process::exit(i32::from(CODE)),
                    Some(woken) => {
                        asked.store(true, Ordering::Release);
                        woken();
                    }
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(failed)?;
        Ok(interrupt)
    }

    /// Whether this process was asked to end.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// The exit code of a command that came to its end in good order.
    pub fn exit_code(&self) -> ExitCode {
        match self.is_asked() {
            true => ExitCode::from(CODE),
            false => ExitCode::SUCCESS,
        }
    }
}

/// Output that would grow a file beyond `RLIMIT_FSIZE` is an error of the write, and no end by
/// SIGXFSZ: the flag that the handler sets is of no interest, but that it is there.
pub fn outlive_file_limit() {
    let flag = Arc::default();
    // Without a handler the process ends as any other would.
    let _unregistered = signal_hook::flag::register(libc::SIGXFSZ, flag);
}

/// Has the first signal run `last` and end the process.
pub fn end_with(last: impl FnOnce() + Send + 'static) -> Outcome<()> {
    Interrupt::listen(move || {
        last();
        std::process::exit(i32::from(CODE));
    })
    .map(drop)
}
