//! Random sites: acyclic dependencies, every policy, timeouts from nothing to long.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use mini_supervisor::model::{
    Awaited, Bytes, Compress, Condition, Control, Dependency, Execution, ExitWhen, Hook, Inherit,
    KillMode, Limit, LimitAction, LogFormat, LogLevel, LogTarget, Logging, Mode, Name, OnFull,
    Orphans, Program, ProgramType, Reload, Restart, RestartPolicy, Rotate, RunAs, Signal, Site,
    StartLimit, Stop, StopStep, Supervisor, SupervisorLog, Target, WaitFor,
};

/// Numbers from a seed (splitmix64): the same seed, the same numbers, for ever.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in `percent` of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }

    fn ms(&mut self, choices: &[u64]) -> Duration {
        Duration::from_millis(self.pick(choices))
    }
}

fn name(index: u64) -> Name {
    Name::new(&format!("p{index:02}")).unwrap()
}

fn hooks(random: &mut Random) -> Box<[Hook]> {
    if !random.chance(15) {
        return Box::default();
    }
    (0..=random.below(2))
        .map(|_| Hook {
            command: Box::new(["hook".into()]),
            ignore_failure: random.chance(50),
            timeout: Limit::After(random.ms(&[100, 1000, 10_000])),
            user: None,
        })
        .collect()
}

fn restart(random: &mut Random) -> Restart {
    let policies = [
        RestartPolicy::Never,
        RestartPolicy::OnFailure,
        RestartPolicy::OnFailure,
        RestartPolicy::OnAbnormal,
        RestartPolicy::Always,
        RestartPolicy::Always,
    ];
    let actions =
        [LimitAction::Retry, LimitAction::Retry, LimitAction::GiveUp, LimitAction::GiveUp];
    let delay = random.ms(&[0, 1, 100, 500, 2000]);
    Restart {
        policy: random.pick(&policies),
        delay,
        max_delay: delay + random.ms(&[0, 1000, 30_000]),
        factor: random.pick(&[1.0, 2.0, 3.5]),
        jitter: random.pick(&[0.0, 0.2, 1.0]),
        reset_after: random.pick(&[Limit::Never, Limit::After(Duration::from_secs(30))]),
        success_exit_codes: Box::new([0, 7]),
        force_exit_codes: Box::new([11]),
        prevent_exit_codes: Box::new([12]),
        start_limit: random.chance(85).then(|| StartLimit {
            burst: u32::try_from(1 + random.below(8)).unwrap(),
            interval: random.ms(&[1000, 60_000, 300_000]),
            action: random.pick(&actions),
            retry_every: random.ms(&[1000, 300_000]),
        }),
    }
}

fn stop(random: &mut Random) -> Stop {
    let steps = 1 + random.below(2);
    let ladder = (0..steps)
        .map(|_| StopStep {
            signal: random.pick(&[Signal::TERM, Signal::TERM, Signal::INT, Signal::QUIT]),
            wait: Limit::After(random.ms(&[0, 50, 1000, 10_000])),
        })
        .collect();
    Stop {
        ladder,
        command: random.chance(10).then(|| Box::from(["stop".into()])),
        kill_mode: random.pick(&[
            KillMode::Mixed,
            KillMode::Mixed,
            KillMode::Group,
            KillMode::Process,
        ]),
        confirm: false,
    }
}

fn logging() -> Logging {
    Logging {
        stdout: LogTarget::Null,
        stderr: LogTarget::Null,
        timestamps: false,
        rotate: rotate(),
        max_line: Bytes(16_384),
        on_full: OnFull::DropOldest,
        owner: None,
        group: None,
        mode: Mode(0o640),
    }
}

fn rotate() -> Rotate {
    Rotate { max_size: None, every: None, keep: 5, compress: Compress::None, after_reload: false }
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
    }
}

/// One program, which may depend on those with a lower number.
pub(super) fn program(index: u64, random: &mut Random) -> Program {
    let mut lists: [Vec<Dependency>; 3] = Default::default();
    let conditions = [Condition::Ready, Condition::Ready, Condition::Started, Condition::Completed];
    for _ in 0..random.below(3) {
        if index == 0 {
            break;
        }
        let target = Target::Program(name(random.below(index)));
        let list = usize::try_from(random.below(3)).unwrap();
        let condition = if list == 0 && random.chance(70) {
            Condition::Ready
        } else {
            random.pick(&conditions)
        };
        lists[list].push(Dependency { target, condition });
    }
    let [requires, wants, after] = lists.map(Vec::into_boxed_slice);
    let wait_for = if random.chance(10) {
        let timeout = Limit::After(random.ms(&[1000, 60_000]));
        Box::from([WaitFor { what: Awaited::Network, timeout }])
    } else {
        Box::default()
    };
    let oneshot = random.chance(15);
    Program {
        name: name(index),
        template: None,
        description: None,
        documentation: None,
        tags: Box::new([if random.chance(50) { "even".into() } else { "odd".into() }]),
        enabled: !random.chance(5),
        autostart: !random.chance(15),
        kind: if oneshot {
            ProgramType::Oneshot { remain: random.chance(50) }
        } else {
            ProgramType::Simple
        },
        command: Box::new(["run".into()]),
        execution: Arc::new(execution()),
        after,
        requires,
        wants,
        wait_for,
        start_pre: hooks(random),
        start_post: hooks(random),
        stop_post: hooks(random),
        start_timeout: Limit::After(random.ms(&[100, 5000, 90_000])),
        restart: Arc::new(restart(random)),
        stop: Arc::new(stop(random)),
        reload: random.pick(&[
            None,
            Some(Reload::Signal(Signal::HUP)),
            Some(Reload::Command(Box::from(["reload".into()]))),
        ]),
        essential: random.chance(1),
        max_runtime: if random.chance(5) {
            Limit::After(random.ms(&[1000, 100_000]))
        } else {
            Limit::Never
        },
        runtime_directory: None,
        state_directory: None,
        cleanup: Box::default(),
        logging: Arc::new(logging()),
        variants: BTreeMap::new(),
    }
}

/// A whole site.
pub(super) fn site(random: &mut Random) -> Site {
    let most = if random.chance(20) { 30 } else { 8 };
    let count = 1 + random.below(most);
    let programs =
        (0..count).map(|index| (name(index), Arc::new(program(index, random)))).collect();
    Site {
        supervisor: Supervisor {
            name: Name::new("sim").unwrap(),
            pid_file: None,
            daemon: false,
            runtime_dir: None,
            state_dir: None,
            log: SupervisorLog {
                level: LogLevel::Info,
                file: None,
                format: LogFormat::Text,
                stderr: true,
                owner: None,
                group: None,
                mode: Mode(0o640),
                rotate: rotate(),
                on_full: OnFull::DropOldest,
            },
            control: Control {
                socket: None,
                owner: None,
                group: None,
                mode: Mode(0o600),
                access: Box::default(),
            },
            shutdown_timeout: Some(Duration::from_secs(random.pick(&[1, 8, 90]))),
            exit_when: random.chance(3).then_some(ExitWhen::AllExited),
            stop_on_hangup: false,
            lock_memory: false,
            orphans: Orphans::Adopt,
            redact: Box::default(),
        },
        programs,
        unsupported: Vec::new(),
    }
}

/// The same site with some programs changed, gone or new.
pub(super) fn mutated(site: &Site, random: &mut Random) -> Site {
    let mut site = site.clone();
    for _ in 0..random.below(3) {
        let index = random.below(12);
        let new = program(index, random);
        // A dependency on what is gone is not accepted by `config`: keep it closed.
        let known = |d: &Dependency| match &d.target {
            Target::Program(target) => site.programs.contains_key(target),
            Target::Mount(_) | Target::Semaphore(_) | Target::Task(_) | Target::Network => true,
        };
        let all = new.requires.iter().chain(&*new.wants).chain(&*new.after).all(known);
        if all {
            site.programs.insert(new.name.clone(), Arc::new(new));
        }
    }
    if random.chance(20) {
        let last = site.programs.keys().next_back().cloned();
        let used = |gone: &Name| {
            let names = |list: &[Dependency]| {
                list.iter().any(|d| d.target == Target::Program(gone.clone()))
            };
            site.programs.values().any(|p| names(&p.requires) || names(&p.wants) || names(&p.after))
        };
        if let Some(last) = last.filter(|last| !used(last) && site.programs.len() > 1) {
            site.programs.remove(&last);
        }
    }
    site
}
