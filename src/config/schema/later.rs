//! Users and directories for `install`; shared memory, semaphores, mounts and tasks.

use super::{ALLOW, ENVIRONMENT, Key, Kind, LINES, Object, PATHS, RATE, key, object, one_of};

/// An item of `users`.
pub(crate) const USER: Object = object(
    "a user",
    &[&[
        key("system", Kind::Bool),
        key("home", Kind::Path),
        key("shell", Kind::Path),
        key("groups", Kind::List(&Kind::Line)),
    ]],
);

/// An item of `directories`.
pub(crate) const DIRECTORY: Object = object(
    "a directory",
    &[&[
        key("owner", Kind::User),
        key("group", Kind::Group),
        key("mode", Kind::Mode),
        key("files", Kind::Mode),
        key("optional", Kind::Bool),
        key("at_start", Kind::Bool),
    ]],
);

/// An item of the top level `shm`.
pub(crate) const SHM_RULE: Object = object(
    "a rule of `shm`",
    &[&[
        key("remove", Kind::List(&Kind::ShmPattern)).required(),
        key("when", Kind::List(&Kind::Word(&["start", "stop"]))),
        key("owner", Kind::User),
        key("older_than", Kind::Duration),
        key("dry_run", Kind::Bool),
    ]],
);

/// An item of `semaphores`.
pub(crate) const SEMAPHORE: Object = one_of(
    "a semaphore",
    &[&[
        key("description", Kind::Text),
        key("type", Kind::Word(&["flock", "file"])),
        key("path", Kind::Path).required(),
        key("info_file", Kind::Path),
        key("info_keys", Kind::Map(&Kind::Line)),
        key("allow", ALLOW),
        key("owner", Kind::User),
        key("mode", Kind::Mode),
        key("debounce", Kind::Duration),
        key("poll_interval", Kind::Duration),
        key("probe", Kind::Word(&["auto", "proc-locks", "try-lock"])),
        key("latch", Kind::Bool),
        key("min_uptime", Kind::Duration),
        key("rate_limit", RATE),
        key("delay", Kind::Duration),
        key("window", Kind::OneOf(&[Kind::Window, Kind::List(&Kind::Window)])),
        key("acknowledge", Kind::Word(&["remove", "keep"])),
        key("cases", Kind::List(&Kind::Object(&CASE))),
        key("task", Kind::Task).later(),
        key("action", ACTION),
    ]],
    &["task", "action"],
);

const CASE: Object = one_of(
    "an item of `cases`",
    &[&[
        key("when", Kind::Map(&Kind::Text)).required(),
        key("task", Kind::Task).later(),
        key("action", ACTION),
    ]],
    &["task", "action"],
);

/// What a semaphore does without a task.
const ACTION: Kind = Kind::OneOf(&[Kind::Action, Kind::Object(&END_HOST)]);

const END_HOST: Object = one_of(
    "`action`",
    &[&[key("reboot", Kind::Object(&REBOOT)), key("poweroff", Kind::Object(&POWEROFF))]],
    &["reboot", "poweroff"],
);

/// An item of `mounts`.
pub(crate) const MOUNT: Object = object(
    "a mount",
    &[&[
        key("description", Kind::Text),
        key("what", Kind::Line).required(),
        key("where", Kind::Path).required(),
        key("type", Kind::Line).required(),
        key("options", LINES),
        key("credentials", Kind::Path),
        key("enabled", Kind::Bool),
        key("required", Kind::Bool),
        key("after", Kind::List(&Kind::Dependency)),
        key("start_delay", Kind::Duration),
        key("mount_timeout", Kind::Duration),
        key("guard", Kind::Bool),
        key("adopt", Kind::Bool),
        key("probe", Kind::Object(&MOUNT_PROBE)),
        key("remount", Kind::Object(&REMOUNT)),
        key("unmount", Kind::Object(&UNMOUNT)),
        key("fallback", Kind::Object(&FALLBACK)),
        key("on_switch", SWITCH),
        key("notify", Kind::Object(&NOTIFY)),
    ]],
);

const SWITCH: Kind = Kind::OneOf(&[
    Kind::Line,
    Kind::List(&Kind::Line),
    Kind::Object(&object(
        "`on_switch`",
        &[&[
            key("command", Kind::Command),
            key("restart", PROGRAMS),
            key("reload", PROGRAMS),
            key("task", Kind::Task),
        ]],
    )),
]);

const MOUNT_PROBE: Object = object(
    "`probe`",
    &[&[
        key("tcp", Kind::HostPort),
        key("read", Kind::Bool),
        key("write", Kind::Bool),
        key("min_free", Kind::Size),
        key("interval", Kind::Duration),
        key("timeout", Kind::Duration),
        key("retries", Kind::Int(1, 1000)),
    ]],
);

const REMOUNT: Object = object(
    "`remount`",
    &[&[
        key("policy", Kind::Word(&["auto", "never"])),
        key("delay", Kind::Duration),
        key("max_delay", Kind::Duration),
    ]],
);

const UNMOUNT: Object =
    object("`unmount`", &[&[key("timeout", Kind::Duration), key("lazy", Kind::Bool)]]);

const FALLBACK: Object = object(
    "`fallback`",
    &[&[
        key("path", Kind::Path).required(),
        key("link", Kind::Path),
        key("owner", Kind::User),
        key("sync_back", Kind::Object(&SYNC_BACK)),
    ]],
);

const SYNC_BACK: Object = object(
    "`sync_back`",
    &[&[
        key("enabled", Kind::Bool),
        key("conflict", Kind::Word(&["rename", "keep", "overwrite", "newer"])),
        key("delete", Kind::Bool),
    ]],
);

const NOTIFY: Object =
    object("`notify`", &[&[key("command", Kind::Command).required(), key("user", Kind::User)]]);

/// An item of `tasks`.
pub(crate) const TASK: Object = object(
    "a task",
    &[&[
        key("description", Kind::Text),
        key("enabled", Kind::Bool),
        key("confirm", Kind::OneOf(&[Kind::Line, LINES])),
        key("user", Kind::User),
        key("working_directory", Kind::Path),
        key("environment", ENVIRONMENT),
        key("schedule", Kind::Object(&SCHEDULE)),
        key("concurrency", Kind::Word(&["refuse", "queue"])),
        key("timeout", Kind::Limit),
        key("delay", Kind::Duration),
        key("min_uptime", Kind::Duration),
        key("rate_limit", RATE),
        key("retry", RETRY),
        key("redact", LINES),
        key("steps", Kind::List(&Kind::Object(&STEP))).required(),
    ]],
);

const SCHEDULE: Object = one_of(
    "`schedule`",
    &[&[
        key("every", Kind::Duration),
        key("cron", Kind::Cron),
        key("at_start", Kind::Bool),
        key("jitter", Kind::Duration),
    ]],
    &["every", "cron", "at_start"],
);

const RETRY: Kind = Kind::Object(&object(
    "`retry`",
    &[&[
        key("attempts", Kind::Int(1, 1000)),
        key("delay", Kind::Duration),
        key("max_delay", Kind::Duration),
        key("factor", Kind::Number(1.0, 100.0)),
        key("jitter", Kind::Percent),
    ]],
));

const ACTION_NAMES: &[&str] = &[
    "run",
    "capture",
    "first_of",
    "backup",
    "restore",
    "archive",
    "prune",
    "sync_files",
    "start",
    "stop",
    "restart",
    "reload",
    "signal",
    "mount",
    "unmount",
    "wait_for",
    "notify",
    "reboot",
    "poweroff",
];

const PROGRAMS: Kind = Kind::OneOf(&[Kind::Programs, Kind::List(&Kind::Programs)]);

const FIRST_OF: &[Key] = &[key("first_of", Kind::List(&Kind::Object(&ALTERNATIVE)))];

/// What a step does; exactly one of them.
const ACTIONS: &[Key] = &[
    key("run", Kind::Command),
    key("capture", Kind::Command),
    key("backup", Kind::Object(&BACKUP)),
    key("restore", Kind::Line),
    key("archive", Kind::Object(&ARCHIVE)),
    key("prune", Kind::Object(&PRUNE)),
    key("sync_files", Kind::Object(&SYNC_FILES)),
    key("start", PROGRAMS),
    key("stop", PROGRAMS),
    key("restart", PROGRAMS),
    key("reload", PROGRAMS),
    key("signal", Kind::Object(&SIGNAL)),
    key("mount", Kind::Mount),
    key("unmount", Kind::Mount),
    key("wait_for", Kind::Object(&WAIT_FOR)),
    key("notify", Kind::OneOf(&[Kind::Text, Kind::Object(&NOTIFY)])),
    key("reboot", Kind::Object(&REBOOT)),
    key("poweroff", Kind::Object(&POWEROFF)),
];

const WHEN_STATE: Kind = Kind::Word(&["running", "stopped"]);

const COMMON: &[Key] = &[
    key("name", Kind::Name),
    key("enabled", Kind::Bool),
    key("when", Kind::OneOf(&[Kind::Line, Kind::Map(&Kind::Text)])),
    key("if_was", WHEN_STATE),
    key("delay", Kind::Duration),
    key("settle", Kind::Duration),
    key("timeout", Kind::Limit),
    key("retry", RETRY),
    key("on_failure", Kind::Word(&["abort", "continue"])),
];

const STEP: Object = one_of(
    "a step",
    &[ACTIONS, FIRST_OF, COMMON, &[key("undo", Kind::Object(&UNDO))]],
    ACTION_NAMES,
);
const UNDO: Object = one_of("`undo`", &[ACTIONS, COMMON], ACTION_NAMES);
const ALTERNATIVE: Object = one_of("an item of `first_of`", &[ACTIONS, COMMON], ACTION_NAMES);

const BACKUP: Object = object(
    "`backup`",
    &[&[
        key("paths", PATHS).required(),
        key("to", Kind::Path).required(),
        key("keep", Kind::Int(1, 10_000)),
        key("verify", Kind::Bool),
    ]],
);

const ARCHIVE: Object = object(
    "`archive`",
    &[&[
        key("paths", PATHS).required(),
        key("to", Kind::Path).required(),
        key("mode", Kind::Mode),
        key("keep", Kind::Int(1, 10_000)),
    ]],
);

const PRUNE: Object = object(
    "`prune`",
    &[&[
        key("paths", PATHS).required(),
        key("match", Kind::Glob),
        key("older_than", Kind::Duration),
        key("keep", Kind::Int(0, 1_000_000)),
        key("same_filesystem", Kind::Bool),
        key("dry_run", Kind::Bool),
    ]],
);

const SYNC_FILES: Object = object(
    "`sync_files`",
    &[&[
        key("from", Kind::Path).required(),
        key("to", Kind::Path).required(),
        key("requires", Kind::OneOf(&[Kind::Dependency, Kind::List(&Kind::Dependency)])),
        key("conflict", Kind::Word(&["rename", "keep", "overwrite", "newer"])),
        key("delete", Kind::Bool),
    ]],
);

const SIGNAL: Object = object(
    "`signal`",
    &[&[key("program", Kind::Program).required(), key("signal", Kind::Signal).required()]],
);

const WAIT_FOR: Object = object(
    "`wait_for`",
    &[&[
        key("program", Kind::Program),
        key("state", Kind::Word(&["running", "ready", "healthy", "stopped"])),
        key("http", Kind::Url),
        key("tcp", Kind::HostPort),
        key("file", Kind::Path),
        key("mount", Kind::Mount),
        key("attempts", Kind::Int(1, 10_000)),
        key("delay", Kind::Duration),
        key("step", Kind::Duration),
        key("max_delay", Kind::Duration),
        key("timeout", Kind::Limit),
    ]],
);

const REBOOT: Object = object("`reboot`", &[&[REBOOT_METHODS], HOST_END]);
const POWEROFF: Object = object("`poweroff`", &[&[POWEROFF_METHODS], HOST_END]);

const REBOOT_METHODS: Key = key(
    "methods",
    Kind::List(&Kind::Word(&["systemctl", "shutdown", "reboot", "syscall", "sysrq"])),
);
const POWEROFF_METHODS: Key = key(
    "methods",
    Kind::List(&Kind::Word(&["systemctl", "shutdown", "poweroff", "syscall", "sysrq"])),
);

const HOST_END: &[Key] = &[
    key("timeout", Kind::Duration),
    key("grace", Kind::Duration),
    key("retry", Kind::Object(&object("`retry`", &[&[key("delay", Kind::Duration)]]))),
    key("sysrq", Kind::Object(&SYSRQ)),
    key("stop_programs", Kind::Bool),
    key("dry_run", Kind::Bool),
];

const SYSRQ: Object =
    object("`sysrq`", &[&[key("sequence", Kind::Line), key("wait", Kind::Duration)]]);
