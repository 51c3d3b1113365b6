//! Panics on demand, to test what follows one. Not part of a release build.
#![cfg(debug_assertions)]

use std::ffi::OsString;

use super::{Shell, logs};

/// The variable that names the thread to panic: `loop`, `logs` or `control`.
const VARIABLE: &str = "SUPERVISOR_TEST_PANIC";

/// Whether `thread` is to panic.
pub(super) fn is_wanted(
    environment: &std::collections::BTreeMap<OsString, OsString>,
    thread: &str,
) -> bool {
    environment.get(&OsString::from(VARIABLE)).is_some_and(|value| value == thread)
}

impl Shell {
    /// Called when SIGUSR1 has arrived.
    #[expect(clippy::panic, reason = "this is what is asked for")]
    pub(super) fn panic_if_asked(&self) {
        let environment = &self.nursery.environment;
        assert!(!is_wanted(environment, "loop"), "asked for by {VARIABLE}");
        if is_wanted(environment, "logs") {
            let reader = |_| panic!("asked for by {VARIABLE}");
            self.logs.query(logs::LogQuery::default(), Box::new(reader));
        }
    }
}
