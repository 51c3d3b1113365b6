//! A program, and `defaults:`.

use super::supervisor::VARIABLE_FILE;
use super::{
    ENVIRONMENT, Key, Kind, LINES, Object, PATHS, PROBE_NAMES, PROBE_TIMES, PROBES, ROTATE, TEXTS,
    key, object, one_of,
};
use crate::config::hardening::HardeningWord;

const DEPENDENCIES: Kind = Kind::List(&Kind::Dependency);
const CODES: Kind = Kind::List(&Kind::Int(0, 255));
const HOOKS: Kind = Kind::List(&Kind::OneOf(&[Kind::Line, Kind::List(&Kind::Text), HOOK]));
const CAPABILITIES: Kind = Kind::List(&Kind::Hardening(HardeningWord::Capability));
const FALSE: &[&str] = &["false"];

/// A program.
pub(crate) const PROGRAM: Object = object("a program", &[WHAT, WHO, WHEN, HOW, ENVIRONS, LATER]);

const WHAT: &[Key] = &[
    key("command", Kind::Command).required(),
    key("description", Kind::Text),
    key("documentation", Kind::Text),
    key("tags", Kind::List(&Kind::Name)),
    key("enabled", Kind::Bool),
    key("autostart", Kind::Bool),
    key("type", Kind::Word(&["simple", "notify", "forking", "oneshot"])),
    key("pid_file", Kind::Path),
    key("remain", Kind::Bool),
    key("instances", Kind::OneOf(&[Kind::Int(1, 1000), Kind::Names(&ENVIRONMENT)])),
    key("variants", Kind::Names(&Kind::Object(&VARIANT))),
    key("essential", Kind::Bool),
    key("max_runtime", Kind::Limit),
];

const WHO: &[Key] = &[
    key("user", Kind::User),
    key("group", Kind::Group),
    key("supplementary_groups", Kind::List(&Kind::Group)),
    key("umask", Kind::Mode),
    key("working_directory", Kind::Path),
    key("environment", ENVIRONMENT),
    key("environment_files", Kind::List(&VARIABLE_FILE)),
    key("inherit_environment", Kind::OneOf(&[Kind::Bool, LINES])),
];

const WHEN: &[Key] = &[
    key("after", DEPENDENCIES),
    key("requires", DEPENDENCIES),
    key("wants", DEPENDENCIES),
    key("wait_for", Kind::List(&Kind::OneOf(&[Kind::Word(&["network"]), Kind::Object(&WAIT_FOR)]))),
    key("start_pre", HOOKS),
    key("start_post", HOOKS),
    key("stop_post", HOOKS),
    key("start_timeout", Kind::Limit),
    key("readiness", Kind::Object(&READINESS)),
    key("watchdog", Kind::Limit),
    key("restart", Kind::OneOf(&[POLICY, Kind::Object(&RESTART)])),
    key("stop", Kind::Object(&STOP)),
    key("reload", Kind::Object(&RELOAD)),
    key("health", Kind::OneOf(&[Kind::Word(&["none"]), Kind::Object(&HEALTH)])),
];

const HOW: &[Key] = &[
    key("limits", Kind::Object(&LIMITS)),
    key("nice", Kind::Int(-20, 19)),
    key("ionice", Kind::IoNice),
    key("oom_score_adj", Kind::Int(-1000, 1000)),
    key("cpu_affinity", Kind::OneOf(&[Kind::Cpus, Kind::List(&Kind::Int(0, 8191))])),
    key("hardening", Kind::Object(&HARDENING)),
];

const ENVIRONS: &[Key] = &[
    key("runtime_directory", Kind::OneOf(&[Kind::Line, OWNED_DIRECTORY])),
    key("state_directory", Kind::OneOf(&[Kind::Line, OWNED_DIRECTORY])),
    key("cleanup", Kind::List(&Kind::Object(&CLEANUP))),
    key("shm", Kind::Object(&SHM)),
    key("single_instance", Kind::OneOf(&[Kind::Bool, Kind::Object(&SINGLE_INSTANCE)])),
    key("logging", Kind::Object(&LOGGING)),
];

const LATER: &[Key] = &[
    key("resources", Kind::Object(&RESOURCES)).later(),
    key("safe_mode", Kind::Object(&SAFE_MODE)).later(),
    key("sockets", Kind::List(&Kind::Object(&SOCKET))).later(),
];

pub(crate) const POLICY: Kind = Kind::Word(&["never", "on-failure", "on-abnormal", "always"]);

const VARIANT: Object = object(
    "a variant",
    &[&[
        key("args", TEXTS),
        key("environment", ENVIRONMENT),
        key("default", Kind::Bool),
        key("extra_args", Kind::Word(&["allow", "refuse"])),
    ]],
);

const WAIT_FOR: Object = one_of(
    "an item of `wait_for`",
    &[&[
        key("network", Kind::OneOf(&[Kind::Word(&["true"])])),
        key("file", Kind::Path),
        key("tcp", Kind::HostPort),
        key("socket", Kind::Path),
        key("timeout", Kind::Limit),
    ]],
    &["network", "file", "tcp", "socket"],
);

const HOOK: Kind = Kind::Object(&object(
    "a hook",
    &[&[
        key("command", Kind::Command).required(),
        key("ignore_failure", Kind::Bool),
        key("timeout", Kind::Limit),
        key("user", Kind::User),
    ]],
));

pub(crate) const RESTART: Object = object(
    "`restart`",
    &[&[
        key("policy", POLICY),
        key("delay", Kind::Duration),
        key("max_delay", Kind::Duration),
        key("factor", Kind::Number(1.0, 100.0)),
        key("jitter", Kind::Percent),
        key("reset_after", Kind::Limit),
        key("success_exit_codes", CODES),
        key("force_exit_codes", CODES),
        key("prevent_exit_codes", CODES),
        key("start_limit", Kind::OneOf(&[Kind::Word(&["none"]), Kind::Object(&START_LIMIT)])),
    ]],
);

const START_LIMIT: Object = object(
    "`start_limit`",
    &[&[
        key("burst", Kind::Int(1, 1_000_000)),
        key("interval", Kind::Duration),
        key("action", Kind::Word(&["retry", "give-up", "exit", "safe-mode"])),
        key("retry_every", Kind::Duration),
    ]],
);

const STOP: Object = object(
    "`stop`",
    &[&[
        key("signal", Kind::Signal),
        key("command", Kind::Command),
        key("timeout", Kind::Limit),
        key("kill_mode", Kind::Word(&["mixed", "group", "process"])),
        key("signals", Kind::List(&Kind::OneOf(&[Kind::Signal, Kind::Object(&STOP_STEP)]))),
        key("confirm", Kind::Bool),
    ]],
);

const STOP_STEP: Object = object(
    "an item of `signals`",
    &[&[key("signal", Kind::Signal).required(), key("wait", Kind::Limit)]],
);

const RELOAD: Object = one_of(
    "`reload`",
    &[&[key("signal", Kind::Signal), key("command", Kind::Command)]],
    &["signal", "command"],
);

const UNLIMITED: Kind = Kind::Word(&["unlimited"]);
const COUNT: Kind = Kind::OneOf(&[UNLIMITED, Kind::Int(0, i64::MAX)]);
const BYTES: Kind = Kind::OneOf(&[UNLIMITED, Kind::Size]);

const LIMITS: Object = object(
    "`limits`",
    &[&[
        key("nofile", COUNT),
        key("nproc", COUNT),
        key("core", BYTES),
        key("stack", BYTES),
        key("memlock", BYTES),
        key("fsize", BYTES),
        key("memory_max", Kind::Size).later(),
        key("cpu_quota", Kind::Percent).later(),
        key("tasks_max", Kind::Int(1, 4_194_304)).later(),
        key("best_effort", Kind::Bool),
    ]],
);

const HARDENING: Object = object(
    "`hardening`",
    &[&[
        key("no_new_privileges", Kind::Bool),
        key("private_tmp", Kind::Bool),
        key("protect_system", Kind::Word(&["strict", "full", "true", "false"])),
        key("protect_home", Kind::Word(&["true", "false", "read-only", "tmpfs"])),
        key("protect_kernel_tunables", Kind::Bool),
        key("protect_kernel_modules", Kind::Bool),
        key("protect_control_groups", Kind::Bool),
        key("read_write_paths", PATHS),
        key("read_only_paths", PATHS),
        key("inaccessible_paths", PATHS),
        key(
            "devices",
            Kind::OneOf(&[Kind::List(&Kind::Hardening(HardeningWord::Device)), Kind::Word(FALSE)]),
        ),
        key("capabilities", CAPABILITIES),
        key("ambient_capabilities", CAPABILITIES),
        key(
            "restrict_address_families",
            Kind::List(&Kind::Hardening(HardeningWord::AddressFamily)),
        ),
        key("system_call_filter", Kind::List(&Kind::Hardening(HardeningWord::SystemCall))),
    ]],
);

const OWNED_DIRECTORY: Kind = Kind::Object(&object(
    "a directory",
    &[&[key("name", Kind::Line).required(), key("mode", Kind::Mode)]],
));

const CLEANUP: Object = one_of(
    "an item of `cleanup`",
    &[&[key("socket", Kind::Path), key("file", Kind::Path)]],
    &["socket", "file"],
);

const LOGGING: Object = object(
    "`logging`",
    &[&[
        key("stdout", Kind::Output),
        key("stderr", Kind::Output),
        key("timestamps", Kind::Bool),
        key("rotate", ROTATE),
        key("max_line", Kind::Size),
        key("on_full", Kind::Word(&["drop-oldest", "block"])),
        key("owner", Kind::User),
        key("group", Kind::Group),
        key("mode", Kind::Mode),
        key("log_files", Kind::List(&Kind::Path)).later(),
    ]],
);

const READINESS: Object = one_of(
    "`readiness`",
    &[
        PROBES,
        &[
            key("notify", Kind::Word(&["true"])),
            key("fd", Kind::Int(3, 1023)),
            key("interval", Kind::Duration),
            key("timeout", Kind::Limit),
        ],
    ],
    &["http", "tcp", "socket", "command", "file", "log", "notify", "fd"],
);

pub(crate) const TASK_ACTION: Kind =
    Kind::Object(&object("an action", &[&[key("task", Kind::Task).required().later()]]));

const HEALTH: Object = one_of(
    "`health`",
    &[
        PROBES,
        PROBE_TIMES,
        &[key("on_failure", Kind::OneOf(&[Kind::Word(&["restart", "stop", "none"]), TASK_ACTION]))],
    ],
    PROBE_NAMES,
);

const SHM: Object = object(
    "`shm`",
    &[&[
        key("remove", Kind::List(&Kind::ShmPattern)).required(),
        key("when", Kind::List(&Kind::Word(&["pre-start", "post-stop"]))),
        key("owner", Kind::User),
        key("older_than", Kind::Duration),
        key("dry_run", Kind::Bool),
    ]],
);

const SINGLE_INSTANCE: Object = object(
    "`single_instance`",
    &[&[
        key("lock_file", Kind::Path),
        key("pid_file", Kind::Path),
        key("match", Kind::Object(&object("`match`", &[&[key("argv", Kind::Line).required()]]))),
        key("on_duplicate", Kind::Word(&["refuse", "adopt", "replace"])),
    ]],
);

const RESOURCES: Object = object(
    "`resources`",
    &[&[
        key("interval", Kind::Duration),
        key("cpu_max", Kind::Percent),
        key("memory_max", Kind::Size),
        key("for", Kind::Duration),
        key("action", Kind::OneOf(&[Kind::Word(&["notify", "restart", "stop"]), TASK_ACTION])),
    ]],
);

const SAFE_MODE: Object =
    object("`safe_mode`", &[&[key("environment", ENVIRONMENT), key("args", TEXTS)]]);

const SOCKET: Object = object(
    "an item of `sockets`",
    &[&[
        key("listen", Kind::Line).required(),
        key("owner", Kind::User),
        key("group", Kind::Group),
        key("mode", Kind::Mode),
    ]],
);
