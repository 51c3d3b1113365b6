//! Small sites for tests of the engine, built without YAML.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use mini_supervisor::model::*;

/// A name that is known to be good.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A command before, beside or after a program.
pub(crate) fn hook(timeout: Duration) -> Hook {
    let command = Box::new(["true".into()]);
    Hook { command, ignore_failure: false, timeout: Limit::After(timeout), user: None }
}

/// A dependency on the readiness of a program.
pub(crate) fn on(target: &str) -> Dependency {
    Dependency { target: Target::Program(name(target)), condition: Condition::Ready }
}

/// A program with the defaults of the file format, but without jitter.
pub(crate) fn program(text: &str) -> Program {
    let stop = Stop {
        ladder: Box::new([StopStep {
            signal: Signal::TERM,
            wait: Limit::After(Duration::from_secs(10)),
        }]),
        command: None,
        kill_mode: KillMode::Mixed,
        confirm: false,
    };
    Program {
        name: name(text),
        template: None,
        description: None,
        documentation: None,
        tags: Box::default(),
        enabled: true,
        autostart: true,
        kind: ProgramType::Simple,
        command: Box::new(["/bin/true".into()]),
        execution: Arc::new(execution()),
        after: Box::default(),
        requires: Box::default(),
        wants: Box::default(),
        wait_for: Box::default(),
        start_pre: Box::default(),
        start_post: Box::default(),
        stop_post: Box::default(),
        start_timeout: Limit::After(Duration::from_secs(90)),
        readiness: None,
        watchdog: Limit::Never,
        restart: Arc::new(restart()),
        stop: Arc::new(stop),
        reload: None,
        health: None,
        essential: false,
        max_runtime: Limit::Never,
        runtime_directory: None,
        state_directory: None,
        cleanup: Box::default(),
        shm: None,
        single_instance: None,
        logging: Arc::new(logging()),
        variants: BTreeMap::new(),
    }
}

/// The default restart settings, without jitter.
pub(crate) fn restart() -> Restart {
    Restart {
        policy: RestartPolicy::OnFailure,
        delay: Duration::from_millis(500),
        max_delay: Duration::from_secs(30),
        factor: 2.0,
        jitter: 0.0,
        reset_after: Limit::After(Duration::from_secs(30)),
        success_exit_codes: Box::new([0]),
        force_exit_codes: Box::default(),
        prevent_exit_codes: Box::default(),
        start_limit: None,
    }
}

fn execution() -> Execution {
    Execution {
        user: RunAs::Supervisor { account: None },
        umask: Mode(0o022),
        working_directory: PathBuf::from("/"),
        environment: BTreeMap::new(),
        environment_files: Box::default(),
        inherit_environment: Inherit::Basic,
        rlimits: Box::default(),
        nice: None,
        ionice: None,
        oom_score_adj: None,
        cpu_affinity: Box::default(),
        no_new_privileges: true,
        hardening: None,
    }
}

fn rotate() -> Rotate {
    Rotate { max_size: None, every: None, keep: 1, compress: Compress::None, after_reload: false }
}

fn logging() -> Logging {
    Logging {
        stdout: LogTarget::Null,
        stderr: LogTarget::Null,
        timestamps: false,
        rotate: rotate(),
        max_line: Bytes(65536),
        on_full: OnFull::DropOldest,
        owner: None,
        group: None,
        mode: Mode(0o640),
    }
}

/// A site of these programs.
pub(crate) fn site(programs: impl IntoIterator<Item = Program>) -> Site {
    let log = SupervisorLog {
        level: LogLevel::Info,
        file: None,
        format: LogFormat::Text,
        stderr: true,
        owner: None,
        group: None,
        mode: Mode(0o640),
        rotate: rotate(),
        on_full: OnFull::DropOldest,
    };
    let control =
        Control { socket: None, owner: None, group: None, mode: Mode(0o600), access: Box::new([]) };
    Site {
        semaphores: BTreeMap::new(),
        supervisor: Supervisor {
            name: name("site"),
            pid_file: None,
            daemon: false,
            ready_when: ReadyWhen::Up,
            runtime_dir: None,
            state_dir: None,
            log,
            control,
            shutdown_timeout: None,
            exit_when: None,
            stop_on_hangup: false,
            lock_memory: false,
            orphans: Orphans::Adopt,
            redact: Box::default(),
        },
        users: BTreeMap::new(),
        directories: BTreeMap::new(),
        programs: programs.into_iter().map(|p| (p.name.clone(), Arc::new(p))).collect(),
        shm: BTreeMap::new(),
        unsupported: Vec::new(),
    }
}
