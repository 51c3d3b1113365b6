//! Checked trees to the model: every default of the format is here.

pub(crate) mod cycle;
mod hardening;
mod host;
mod host_end;
mod logging;
mod policy;
mod probe;
mod program;
pub(crate) mod read;
mod readiness;
pub(crate) mod reference;
mod semaphore;
mod shm;
mod single;
mod supervisor;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Accounts, LoadOptions, check::Names, diagnostic::Findings};
use crate::model::{Account, Execution, Logging, Name, Restart, Stop};

pub(crate) use host::{directories, users};
pub(crate) use program::{cpu_list, ionice, program};
pub(crate) use semaphore::semaphores;
pub(crate) use shm::rules as shm;
pub(crate) use supervisor::supervisor;

/// What lowering a program needs to know of everything else.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a LoadOptions,
    pub(crate) accounts: &'a dyn Accounts,
    pub(crate) names: &'a Names,
    /// Directory of the site file; absolute.
    pub(crate) directory: &'a Path,
    pub(crate) site: &'a Name,
    pub(crate) daemon: bool,
    /// Instances by the name of their template.
    pub(crate) instances: &'a BTreeMap<String, Vec<Name>>,
    pub(crate) found: &'a mut Findings,
    pub(crate) pool: &'a mut Pool,
}

/// Parts that programs have in common, each kept once.
#[derive(Default)]
pub(crate) struct Pool {
    executions: Vec<Arc<Execution>>,
    restarts: Vec<Arc<Restart>>,
    stops: Vec<Arc<Stop>>,
    loggings: Vec<Arc<Logging>>,
    accounts: Vec<Arc<Account>>,
}

/// An equal value that is already kept, or `value`. Only the newest are compared: programs that
/// have much in common mostly stand together, and a site of thousands must load in a second.
fn intern<T: PartialEq>(kept: &mut Vec<Arc<T>>, value: T) -> Arc<T> {
    if let Some(same) = kept.iter().rev().take(16).find(|k| ***k == value) {
        return Arc::clone(same);
    }
    let shared = Arc::new(value);
    kept.push(Arc::clone(&shared));
    shared
}

/// `path` made absolute: `~` is `home`, anything relative is below `base`.
pub(crate) fn absolute(path: &str, base: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_path_buf(),
        (Some(rest), Some(home)) if rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => base.join(path),
    }
}

/// `names` as a set of text.
pub(crate) fn texts(names: impl IntoIterator<Item = impl AsRef<str>>) -> BTreeSet<String> {
    names.into_iter().map(|n| n.as_ref().to_owned()).collect()
}

impl Context<'_> {
    /// Where logs of programs are, unless they say otherwise.
    pub(crate) fn log_directory(&self) -> PathBuf {
        self.options.log_directory(self.site)
    }

    /// Where `runtime_directory` and `state_directory` are made: an unprivileged supervisor has its
    /// own places, as a systemd user manager does.
    fn owned_base(&self, key: &str, system: &Path) -> PathBuf {
        if self.options.uid == 0 {
            return system.to_path_buf();
        }
        if key == "state_directory" {
            return self.options.state_home();
        }
        let given = self.options.environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
        let fallback = || self.options.state_home().join("mini-supervisor/run");
        given.filter(|p| p.is_absolute()).unwrap_or_else(fallback)
    }
}
