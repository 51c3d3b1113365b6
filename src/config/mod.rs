//! Text to [`Site`], all mistakes at once, each with its place.

mod check;
mod diagnostic;
mod dotenv;
mod expand;
mod hardening;
mod load;
mod lower;
mod merge;
mod schema;
mod show;
mod source;
mod tree;
mod values;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use diagnostic::{Colour, Diagnostic, Findings, Place, Severity, SourceFile};
pub use dotenv::{DotenvError, read_dotenv};
pub use load::{is_daemon, load};
pub use show::show;
pub use source::{Fingerprint, Source, SourceError, read, read_stable, read_stdin};

use crate::model::{Account, Name, Site};

/// The accounts of the host. The caller says where they come from.
pub trait Accounts {
    /// The account with this login name, its groups included.
    fn user(&self, name: &str) -> Option<Account>;
    /// The account with this id.
    fn user_by_id(&self, uid: u32) -> Option<Account> {
        self.user_names().iter().filter_map(|n| self.user(n)).find(|a| a.uid == uid)
    }
    /// The id of the group with this name.
    fn group(&self, name: &str) -> Option<u32>;
    /// All login names, for suggestions.
    fn user_names(&self) -> Vec<String>;
    /// All names of groups, for suggestions.
    fn group_names(&self) -> Vec<String>;
}

/// What the file alone does not say.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Whether the supervisor goes into the background; `None`: as the file says.
    pub daemon: Option<bool>,
    /// Standard error is the journal's, which keeps it in the background too.
    pub journal: bool,
    /// The effective user id of the supervisor; 0 is a root supervisor.
    pub uid: u32,
    /// The account that the supervisor runs as, when it is known.
    pub account: Option<Account>,
    /// Where the supervisor was started; absolute. Relative paths of a site from standard input.
    pub current_directory: PathBuf,
    /// Programs inherit the whole environment unless they say otherwise (PID 1, command mode).
    pub inherit_all: bool,
    /// `--set NAME=VALUE`; wins over everything.
    pub set: BTreeMap<String, String>,
    /// The supervisor's environment: variables that nothing else sets.
    pub environment: BTreeMap<String, String>,
    /// Only checking: users that the file itself declares count as known.
    pub for_check: bool,
}

impl LoadOptions {
    /// Where the log files of the site `name` are, unless it says otherwise.
    #[must_use]
    pub fn log_directory(&self, name: &Name) -> PathBuf {
        if self.uid == 0 {
            return Path::new("/var/log/mini-supervisor").join(name.as_str());
        }
        self.state_home().join("mini-supervisor").join(name.as_str()).join("log")
    }

    /// What the site `name` keeps over a reboot, unless it says otherwise.
    #[must_use]
    pub fn state_directory(&self, name: &Name) -> PathBuf {
        let base = if self.uid == 0 { PathBuf::from("/var/lib") } else { self.state_home() };
        base.join("mini-supervisor").join(name.as_str())
    }

    fn state_home(&self) -> PathBuf {
        let given = self.environment.get("XDG_STATE_HOME").map(PathBuf::from);
        let home = || self.account.as_ref().map_or(Path::new("/"), |a| &a.home);
        given.filter(|p| p.is_absolute()).unwrap_or_else(|| home().join(".local/state"))
    }
}

/// A site that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The site.
    pub site: Site,
    /// What a human should look at.
    pub warnings: Findings,
    /// The file, variables resolved, for [`show`].
    written: Written,
}

/// What was read, before it was resolved.
#[derive(Clone, Debug)]
struct Written {
    root: tree::Node,
    /// With `defaults:` merged in, instances multiplied.
    programs: BTreeMap<Name, tree::Node>,
}

/// The JSON Schema of a site file, for editors.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schema::json_schema()
}
