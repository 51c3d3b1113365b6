//! What a reload does to a program that is already there.

use crate::model::{Execution, Limit, Logging, Program, Readiness, ReadyBy};

/// How much of a running program a change touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing differs.
    None,
    /// Applied while it runs.
    Live,
    /// Counts from its next start on.
    NextStart,
    /// It must be started again (or, when it is no longer enabled, stopped).
    Restart,
}

/// What differs between `old` and `new`: the farthest-reaching change, and the keys that differ.
///
/// `enabled` counts as a restart when it is switched off, because the program must stop; switched
/// on it counts from the next start. A name or a template that differs is another program: restart.
#[must_use]
pub fn change(old: &Program, new: &Program) -> (Change, Vec<&'static str>) {
    // Exhaustive on purpose: a field that is added must be given its effect here.
    let Program {
        name,
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
        readiness,
        watchdog,
        restart,
        stop,
        reload,
        health,
        essential,
        max_runtime,
        runtime_directory,
        state_directory,
        cleanup,
        shm,
        single_instance,
        logging,
        variants,
    } = old;
    let enabling = if new.enabled { Change::NextStart } else { Change::Restart };
    let mut found = Found::default();
    found.add("name", *name != new.name, Change::Restart);
    found.add("template", *template != new.template, Change::Restart);
    found.add("description", *description != new.description, Change::Live);
    found.add("documentation", *documentation != new.documentation, Change::Live);
    found.add("tags", *tags != new.tags, Change::Live);
    found.add("enabled", *enabled != new.enabled, enabling);
    found.add("autostart", *autostart != new.autostart, Change::NextStart);
    found.add("type", *kind != new.kind, Change::Restart);
    found.add("command", *command != new.command, Change::Restart);
    found.execution(execution, &new.execution);
    found.add("after", *after != new.after, Change::Live);
    found.add("requires", *requires != new.requires, Change::Live);
    found.add("wants", *wants != new.wants, Change::Live);
    found.add("wait_for", *wait_for != new.wait_for, Change::NextStart);
    found.add("start_pre", *start_pre != new.start_pre, Change::NextStart);
    found.add("start_post", *start_post != new.start_post, Change::NextStart);
    found.add("stop_post", *stop_post != new.stop_post, Change::NextStart);
    found.add("start_timeout", *start_timeout != new.start_timeout, Change::Live);
    found.said((readiness.as_deref(), *watchdog), (new.readiness.as_deref(), new.watchdog));
    found.add("restart", *restart != new.restart, Change::Live);
    found.add("stop", *stop != new.stop, Change::Live);
    found.add("reload", *reload != new.reload, Change::Live);
    found.add("health", *health != new.health, Change::Live);
    found.add("essential", *essential != new.essential, Change::Live);
    found.add("max_runtime", *max_runtime != new.max_runtime, Change::Live);
    found.add("runtime_directory", runtime_directory != &new.runtime_directory, Change::Restart);
    found.add("state_directory", *state_directory != new.state_directory, Change::Restart);
    found.add("cleanup", *cleanup != new.cleanup, Change::NextStart);
    found.add("shm", *shm != new.shm, Change::NextStart);
    found.add("single_instance", *single_instance != new.single_instance, Change::NextStart);
    found.logging(logging, &new.logging);
    found.add("variants", *variants != new.variants, Change::Restart);
    (found.change, found.keys)
}

struct Found {
    change: Change,
    keys: Vec<&'static str>,
}

impl Default for Found {
    fn default() -> Self {
        Self { change: Change::None, keys: Vec::new() }
    }
}

impl Found {
    fn add(&mut self, key: &'static str, differs: bool, change: Change) {
        if differs {
            self.change = self.change.max(change);
            self.keys.push(key);
        }
    }

    /// What it says of itself, and by what; one that is only looked at notices nothing of it.
    fn said(&mut self, old: (Option<&Readiness>, Limit), new: (Option<&Readiness>, Limit)) {
        let told = |one: &Readiness| !matches!(one.by, ReadyBy::Probe { .. });
        let told = old.0.is_some_and(told) || new.0.is_some_and(told);
        let change = if told { Change::Restart } else { Change::NextStart };
        self.add("readiness", old.0 != new.0, change);
        self.add("watchdog", old.1 != new.1, Change::Restart);
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
            hardening,
        } = old;
        let differences = [
            ("user", *user != new.user),
            ("umask", *umask != new.umask),
            ("working_directory", *working_directory != new.working_directory),
            ("environment", *environment != new.environment),
            ("environment_files", *environment_files != new.environment_files),
            ("inherit_environment", *inherit_environment != new.inherit_environment),
            ("limits", *rlimits != new.rlimits),
            ("nice", *nice != new.nice),
            ("ionice", *ionice != new.ionice),
            ("oom_score_adj", *oom_score_adj != new.oom_score_adj),
            ("cpu_affinity", *cpu_affinity != new.cpu_affinity),
            (
                "hardening",
                *no_new_privileges != new.no_new_privileges || *hardening != new.hardening,
            ),
        ];
        for (key, differs) in differences {
            self.add(key, differs, Change::Restart);
        }
    }

    /// A target is opened when the program starts; everything else is the writer's own business.
    fn logging(&mut self, old: &Logging, new: &Logging) {
        let Logging { stdout, stderr, timestamps, rotate, max_line, on_full, owner, group, mode } =
            old;
        let differences = [
            ("logging.stdout", *stdout != new.stdout, Change::Restart),
            ("logging.stderr", *stderr != new.stderr, Change::Restart),
            ("logging.timestamps", *timestamps != new.timestamps, Change::Live),
            ("logging.rotate", *rotate != new.rotate, Change::Live),
            ("logging.max_line", *max_line != new.max_line, Change::Live),
            ("logging.on_full", *on_full != new.on_full, Change::Live),
            ("logging.owner", *owner != new.owner, Change::Live),
            ("logging.group", *group != new.group, Change::Live),
            ("logging.mode", *mode != new.mode, Change::Live),
        ];
        for (key, differs, change) in differences {
            self.add(key, differs, change);
        }
    }
}
