//! The top level and `supervisor:`.

use super::{
    ALLOW, Key, Kind, LINES, MOUNT, Object, PROGRAM, RATE, ROTATE, SEMAPHORE, TASK, TEXTS, key,
    object,
};
use crate::config::schema::later::{DIRECTORY, SHM_RULE, USER};

/// The top level.
pub(crate) const SITE: Object = object(
    "a site",
    &[&[
        key("version", Kind::Int(1, 1)).required(),
        key("supervisor", Kind::Object(&SUPERVISOR)),
        key("variables", Kind::Map(&Kind::Text)),
        key("variable_files", Kind::List(&VARIABLE_FILE)),
        key("include", LINES),
        key("defaults", Kind::Object(&PROGRAM)),
        key("users", Kind::Map(&Kind::Object(&USER))),
        key("directories", Kind::Map(&Kind::Object(&DIRECTORY))),
        key("programs", Kind::Names(&Kind::Object(&PROGRAM))),
        key("shm", Kind::Names(&Kind::Object(&SHM_RULE))),
        key("semaphores", Kind::Names(&Kind::Object(&SEMAPHORE))),
        key("mounts", Kind::Names(&Kind::Object(&MOUNT))).later(),
        key("tasks", Kind::Names(&Kind::Object(&TASK))).later(),
    ]],
);

pub(crate) const VARIABLE_FILE: Kind = Kind::OneOf(&[
    Kind::Path,
    Kind::Object(&object(
        "a file of variables",
        &[&[key("path", Kind::Path).required(), key("optional", Kind::Bool)]],
    )),
]);

const FILE: &[Key] =
    &[key("owner", Kind::User), key("group", Kind::Group), key("mode", Kind::Mode)];

/// `supervisor:`.
pub(crate) const SUPERVISOR: Object = object(
    "`supervisor`",
    &[&[
        key("name", Kind::Name),
        key("pid_file", Kind::Path),
        key("daemon", Kind::Bool),
        key("ready_when", Kind::Word(&["up", "programs"])),
        key("runtime_dir", Kind::Path),
        key("state_dir", Kind::Path),
        key("log", Kind::Object(&LOG)),
        key("control", Kind::Object(&CONTROL)),
        key("shutdown_timeout", Kind::Duration),
        key("exit_when", Kind::Word(&["essential", "all-exited", "stopped"])),
        key("stop_on_hangup", Kind::Bool),
        key("lock_memory", Kind::Bool),
        key("orphans", Kind::Word(&["adopt", "kill"])),
        key("redact", TEXTS),
        key("watchdog", Kind::Object(&WATCHDOG)).later(),
    ]],
);

const LOG: Object = object(
    "`log`",
    &[
        FILE,
        &[
            key("level", Kind::Word(&["error", "warn", "info", "debug", "trace"])),
            key("file", Kind::Path),
            key("format", Kind::Word(&["full", "text", "json"])),
            key("stderr", Kind::Bool),
            key("rotate", ROTATE),
            key("on_full", Kind::Word(&["drop-oldest", "block"])),
        ],
    ],
);

const CONTROL: Object = object(
    "`control`",
    &[FILE, &[key("socket", Kind::Path), key("access", Kind::List(&Kind::Object(&ACCESS)))]],
);

const ACCESS: Object = object(
    "an item of `access`",
    &[&[key("allow", ALLOW).required(), key("actions", LINES).required(), key("rate_limit", RATE)]],
);

const WATCHDOG: Object = object(
    "`watchdog`",
    &[&[
        key("device", Kind::Path).required(),
        key("timeout", Kind::Duration),
        key("optional", Kind::Bool),
    ]],
);
