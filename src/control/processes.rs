//! What `ps` and `kill-all` show: processes, and what became of them.

use serde::{Deserialize, Serialize};

use crate::model::WallTime;

/// Parameters of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessesQuery {
    /// Of whom; empty means all.
    #[serde(default)]
    pub names: Vec<String>,
    /// Only what belongs to no living instance of its program.
    #[serde(default)]
    pub orphans: bool,
}

/// Parameters of `kill_all`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillAll {
    /// Only say what would be ended.
    #[serde(default)]
    pub dry_run: bool,
    /// The user was asked, or said `--yes`.
    #[serde(default)]
    pub confirmed: bool,
}

/// How a process came to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The main process of a program, or a command around it.
    Main,
    /// It belongs to a program that is there.
    Member,
    /// A program has left it, and no living instance has it.
    Orphan,
    /// Somebody else has started it, and `single_instance.match` of the program names it; or it is
    /// below one of those.
    Copy,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// The program that it comes from, where that is known.
    pub program: Option<String>,
    /// What it is to that program.
    pub kind: Kind,
    /// Its pid.
    pub pid: u32,
    /// Of its parent.
    pub ppid: u32,
    /// Its real user.
    pub uid: u32,
    /// When it was started, in ticks since boot: with the pid, its identity.
    pub start_ticks: u64,
    /// When it was started.
    pub started_at: WallTime,
    /// For how long it runs, seconds.
    pub age_s: f64,
    /// Processor time so far.
    pub cpu_usage_ns: u64,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// Its command line; empty when it has none to show.
    pub command: Vec<String>,
    /// What it is called.
    pub name: String,
}

/// To processes, and to a `kill_all` that only says what it would end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessList {
    /// Of this document; fields and their types are stable within one version.
    pub schema_version: u32,
    /// A clock that only grows, seconds: between two lists, so much time has passed.
    pub clock_s: f64,
    /// The processes, those of a program together.
    pub processes: Vec<ProcessInfo>,
    /// So many more are not listed.
    #[serde(default)]
    pub unlisted: u64,
    /// To a `kill_all`: programs without a process that would start again by themselves.
    #[serde(default)]
    pub waiting: Vec<String>,
}

/// To a `kill_all`: what became of everybody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KillReport {
    /// Of this document; fields and their types are stable within one version.
    pub schema_version: u32,
    /// These have ended.
    pub ended: Vec<ProcessInfo>,
    /// These are alive.
    pub left: Vec<ProcessInfo>,
    /// So many more have ended, and are not listed.
    #[serde(default)]
    pub unlisted: u64,
    /// Programs that are not down.
    pub programs: Vec<String>,
}
