//! What a reload changes for one program: nothing, at once, at its next start, or a restart.

use crate::model::{Execution, Logging, Program};

/// The strongest consequence of the differences between two settings of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// They are equal.
    None,
    /// In force at once.
    Live,
    /// In force from its next start on.
    NextStart,
    /// The running process cannot have it: restarted.
    Restart,
}

/// What differs between `old` and `new`: the strongest consequence, and the keys.
///
/// Both sides are taken apart completely, so a new key cannot be forgotten here.
#[must_use]
pub fn change(old: &Program, new: &Program) -> (Change, Vec<&'static str>) {
    let Program {
        name: _,
        template,
        description,
        documentation,
        tags,
        enabled,
        autostart,
        kind,
        command,
        execution,
        after,
        requires,
        wants,
        wait_for,
        start_pre,
        start_post,
        stop_post,
        start_timeout,
        restart,
        stop,
        reload,
        essential,
        max_runtime,
        runtime_directory,
        state_directory,
        cleanup,
        logging,
        variants,
    } = old;
    let mut found = Found::default();
    found.note(Change::Live, "instances", *template != new.template);
    found.note(Change::Live, "description", *description != new.description);
    found.note(Change::Live, "documentation", *documentation != new.documentation);
    found.note(Change::Live, "tags", *tags != new.tags);
    found.note(Change::NextStart, "enabled", *enabled != new.enabled);
    found.note(Change::NextStart, "autostart", *autostart != new.autostart);
    found.note(Change::Restart, "type", *kind != new.kind);
    found.note(Change::Restart, "command", *command != new.command);
    found.note(Change::Live, "after", *after != new.after);
    found.note(Change::Live, "requires", *requires != new.requires);
    found.note(Change::Live, "wants", *wants != new.wants);
    found.note(Change::NextStart, "wait_for", *wait_for != new.wait_for);
    found.note(Change::NextStart, "start_pre", *start_pre != new.start_pre);
    found.note(Change::NextStart, "start_post", *start_post != new.start_post);
    found.note(Change::Live, "stop_post", *stop_post != new.stop_post);
    found.note(Change::Live, "start_timeout", *start_timeout != new.start_timeout);
    found.note(Change::Live, "restart", *restart != new.restart);
    found.note(Change::Live, "stop", *stop != new.stop);
    found.note(Change::Live, "reload", *reload != new.reload);
    found.note(Change::Live, "essential", *essential != new.essential);
    found.note(Change::Live, "max_runtime", *max_runtime != new.max_runtime);
    let runtime = *runtime_directory != new.runtime_directory;
    found.note(Change::Restart, "runtime_directory", runtime);
    found.note(Change::Restart, "state_directory", *state_directory != new.state_directory);
    found.note(Change::NextStart, "cleanup", *cleanup != new.cleanup);
    found.note(Change::Restart, "variants", *variants != new.variants);
    found.execution(execution, &new.execution);
    found.logging(logging, &new.logging);
    (found.strongest, found.keys)
}

struct Found {
    strongest: Change,
    keys: Vec<&'static str>,
}

impl Default for Found {
    fn default() -> Self {
        Self { strongest: Change::None, keys: Vec::new() }
    }
}

impl Found {
    fn note(&mut self, change: Change, key: &'static str, differs: bool) {
        if differs {
            self.strongest = self.strongest.max(change);
            self.keys.push(key);
        }
    }

    fn execution(&mut self, old: &Execution, new: &Execution) {
        let Execution {
            user,
            umask,
            working_directory,
            environment,
            environment_files,
            inherit_environment,
            rlimits,
            nice,
            ionice,
            oom_score_adj,
            cpu_affinity,
            no_new_privileges,
        } = old;
        let inherit = *inherit_environment != new.inherit_environment;
        let privileges = *no_new_privileges != new.no_new_privileges;
        self.note(Change::Restart, "user", *user != new.user);
        self.note(Change::Restart, "umask", *umask != new.umask);
        let directory = *working_directory != new.working_directory;
        self.note(Change::Restart, "working_directory", directory);
        self.note(Change::Restart, "environment", *environment != new.environment);
        let files = *environment_files != new.environment_files;
        self.note(Change::Restart, "environment_files", files);
        self.note(Change::Restart, "inherit_environment", inherit);
        self.note(Change::Restart, "limits", *rlimits != new.rlimits);
        self.note(Change::Restart, "nice", *nice != new.nice);
        self.note(Change::Restart, "ionice", *ionice != new.ionice);
        self.note(Change::Restart, "oom_score_adj", *oom_score_adj != new.oom_score_adj);
        self.note(Change::Restart, "cpu_affinity", *cpu_affinity != new.cpu_affinity);
        self.note(Change::Restart, "no_new_privileges", privileges);
    }

    fn logging(&mut self, old: &Logging, new: &Logging) {
        let Logging { stdout, stderr, timestamps, rotate, max_line, on_full, owner, group, mode } =
            old;
        let targets = *stdout != new.stdout || *stderr != new.stderr;
        self.note(Change::Restart, "logging", targets);
        self.note(Change::Live, "logging.timestamps", *timestamps != new.timestamps);
        self.note(Change::Live, "logging.rotate", *rotate != new.rotate);
        self.note(Change::Live, "logging.max_line", *max_line != new.max_line);
        self.note(Change::Live, "logging.on_full", *on_full != new.on_full);
        let file = *owner != new.owner || *group != new.group || *mode != new.mode;
        self.note(Change::NextStart, "logging.owner", file);
    }
}
