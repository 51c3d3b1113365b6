//! Chance, and sites drawn by it.

use std::{sync::Arc, time::Duration};

use mini_supervisor::model::*;

use super::{
    health::draw_health,
    semaphores::{change_semaphores, draw_semaphores},
    shm::draw_rule,
    single::draw_single,
};
use crate::site_builder::{hook, name, on, program, site};

/// splitmix64: the same numbers for the same seed, everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in `percent` of 100 cases.
    pub(super) fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        let index = usize::try_from(self.below(all.len() as u64)).unwrap();
        all[index]
    }
}

/// How often what goes wrong, in percent; each seed has its own mix and some are zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) spawn_fails: u64,
    pub(super) spawn_late: u64,
    pub(super) ignores: u64,
    pub(super) crashes: u64,
    pub(super) forks: u64,
    pub(super) d_state: u64,
    /// Between fork and exec, until it is killed.
    pub(super) hangs: u64,
    pub(super) stale: u64,
    /// The look for stale files in /dev/shm.
    pub(super) slow_shm: u64,
    /// Somebody else has the lock of a program, or runs it.
    pub(super) duplicates: u64,
    /// A look at the health of a program is not good.
    pub(super) sick: u64,
    /// Does not say that it is ready, or, once it has, that it is alive.
    pub(super) silent: u64,
    /// The supervisor itself is not run for a while.
    pub(super) pauses: u64,
}

impl Faults {
    pub(super) const NONE: Self = Self {
        spawn_fails: 0,
        spawn_late: 0,
        ignores: 0,
        crashes: 0,
        forks: 0,
        d_state: 0,
        hangs: 0,
        stale: 0,
        slow_shm: 0,
        duplicates: 0,
        sick: 0,
        silent: 0,
        pauses: 0,
    };

    pub(super) fn draw(chance: &mut Chance) -> Self {
        let some = |chance: &mut Chance| if chance.is(30) { 0 } else { chance.below(40) };
        Self {
            spawn_fails: some(chance) / 2,
            spawn_late: chance.below(100),
            ignores: some(chance),
            crashes: 1 + chance.below(30),
            forks: some(chance),
            d_state: some(chance) / 2,
            hangs: some(chance) / 8,
            stale: 5 + chance.below(10),
            slow_shm: some(chance),
            duplicates: some(chance),
            sick: chance.of(&[0, 10, 50, 90]),
            silent: some(chance) / 2,
            pauses: if chance.is(80) { 0 } else { 2 },
        }
    }
}

fn seconds(chance: &mut Chance, most: u64) -> Duration {
    Duration::from_millis(chance.below(most * 4) * 250)
}

/// A site of 1 to 30 programs, the later ones needing earlier ones.
pub(super) fn draw_site(chance: &mut Chance) -> Site {
    let count = if chance.is(20) { 1 + chance.below(30) } else { 1 + chance.below(6) };
    let mut site = site((0..count).map(|n| draw_program(n, chance)));
    let of = &mut site.supervisor;
    if chance.is(20) {
        of.shutdown_timeout = Some(Duration::from_millis(chance.below(60_000)));
    }
    if chance.is(3) {
        of.exit_when = Some(ExitWhen::AllExited);
    }
    of.stop_on_hangup = chance.is(3);
    if chance.is(15) {
        site.shm.insert(name("s"), draw_rule(chance));
    }
    only_what_ends(&mut site);
    if chance.is(40) {
        draw_semaphores(&mut site, chance);
    }
    site
}

/// As the reading of a file has it: only what ends can be waited for to be completed.
fn only_what_ends(site: &mut Site) {
    let ends = |target: &Target, site: &Site| match target {
        Target::Program(name) => {
            let of = site.programs.get(name);
            of.is_some_and(|p| matches!(p.kind, ProgramType::Oneshot { .. }))
        }
        _ => false,
    };
    let old = site.clone();
    for p in site.programs.values_mut() {
        let wrong = |d: &Dependency| d.condition == Condition::Completed && !ends(&d.target, &old);
        if ![&p.requires, &p.wants, &p.after].into_iter().flatten().any(wrong) {
            continue;
        }
        let p = Arc::make_mut(p);
        for d in [&mut p.requires, &mut p.wants, &mut p.after].into_iter().flatten() {
            if wrong(d) {
                d.condition = Condition::Ready;
            }
        }
    }
}

/// What `p` needs of the earlier ones.
fn draw_edges(p: &mut Program, n: u64, chance: &mut Chance) {
    for earlier in 0..n {
        if chance.below(n) >= 2 {
            continue;
        }
        let mut to = on(&format!("p{earlier:02}"));
        to.condition = chance.of(&[
            Condition::Ready,
            Condition::Ready,
            Condition::Ready,
            Condition::Healthy,
            Condition::Started,
            Condition::Started,
            Condition::Completed,
        ]);
        let list = match chance.below(4) {
            0 | 1 => &mut p.requires,
            2 => &mut p.wants,
            _ => &mut p.after,
        };
        *list = list.iter().cloned().chain([to]).collect();
    }
}

fn draw_settings(p: &mut Program, chance: &mut Chance) {
    p.command = Box::new([chance.of(&["/bin/a", "/bin/b"]).into()]);
    if chance.is(15) {
        p.template = Some(name("i"));
    }
    if chance.is(15) {
        p.tags = Box::new(["t".into()]);
    }
    if chance.is(30) {
        Arc::make_mut(&mut p.execution).umask = Mode(0o077);
    }
    p.essential = chance.is(1);
}

/// Program number `n`.
pub(super) fn draw_program(n: u64, chance: &mut Chance) -> Program {
    let mut p = program(&format!("p{n:02}"));
    draw_edges(&mut p, n, chance);
    draw_settings(&mut p, chance);
    p.autostart = !chance.is(10);
    if chance.is(15) {
        p.kind = ProgramType::Oneshot { remain: chance.is(50) };
    }
    if !matches!(p.kind, ProgramType::Oneshot { .. }) {
        draw_readiness(&mut p, chance);
    }
    draw_hooks(&mut p, chance);
    p.health = draw_health(&p, chance);
    p.start_timeout = Limit::After(Duration::from_secs(1) + seconds(chance, 60));
    if chance.is(15) {
        p.max_runtime = Limit::After(Duration::from_secs(1) + seconds(chance, 100));
    }
    if chance.is(15) {
        let timeout = Limit::After(seconds(chance, 30));
        p.wait_for = Box::new([WaitFor { what: Awaited::File("/x".into()), timeout }]);
    }
    if chance.is(20) {
        p.reload = Some(Reload::Command(Box::new(["x".into()])));
    }
    draw_policies(&mut p, chance);
    p
}

fn draw_readiness(p: &mut Program, chance: &mut Chance) {
    if chance.is(25) {
        let by = match chance.below(10) {
            0..=4 => ReadyBy::Notify,
            5..=6 => ReadyBy::Fd(3),
            _ => ReadyBy::Probe {
                probe: Probe::Tcp("localhost:1".into()),
                interval: Duration::from_secs(chance.of(&[1, 5])),
            },
        };
        let own = chance.is(30);
        let timeout = own.then(|| Limit::After(Duration::from_secs(1) + seconds(chance, 60)));
        p.readiness = Some(Box::new(Readiness { by, timeout }));
    }
    if chance.is(10) {
        p.watchdog = Limit::After(Duration::from_secs(10) + seconds(chance, 50));
    }
}

fn draw_hooks(p: &mut Program, chance: &mut Chance) {
    let hooks = |chance: &mut Chance| -> Box<[Hook]> {
        let n = if chance.is(75) { 0 } else { 1 + chance.below(2) };
        (0..n)
            .map(|_| Hook {
                ignore_failure: chance.is(30),
                ..hook(seconds(chance, 20) + Duration::from_secs(1))
            })
            .collect()
    };
    p.start_pre = hooks(chance);
    p.start_post = hooks(chance);
    p.stop_post = hooks(chance);
    p.shm = chance.is(20).then(|| Box::new(draw_rule(chance)));
    let ends = matches!(p.kind, ProgramType::Oneshot { .. });
    p.single_instance =
        draw_single(chance).filter(|one| !ends || one.on_duplicate != OnDuplicate::Adopt);
    // Nobody can hear what was started by hand.
    if p.single_instance.as_ref().is_some_and(|one| one.on_duplicate == OnDuplicate::Adopt) {
        p.watchdog = Limit::Never;
        p.readiness = p.readiness.take().filter(|of| matches!(of.by, ReadyBy::Probe { .. }));
    }
}

fn draw_policies(p: &mut Program, chance: &mut Chance) {
    let restart = Arc::make_mut(&mut p.restart);
    restart.policy = chance.of(&[
        RestartPolicy::Never,
        RestartPolicy::OnFailure,
        RestartPolicy::OnFailure,
        RestartPolicy::OnAbnormal,
        RestartPolicy::Always,
        RestartPolicy::Always,
    ]);
    restart.delay = Duration::from_millis(chance.of(&[100, 500, 1000, 5000]));
    restart.jitter = chance.of(&[0.0, 0.2]);
    restart.factor = chance.of(&[1.0, 1.5, 2.0]);
    restart.reset_after = Limit::After(seconds(chance, 30));
    if chance.is(60) {
        restart.start_limit = Some(StartLimit {
            burst: u32::try_from(1 + chance.below(6)).unwrap(),
            interval: Duration::from_secs(1 + chance.below(300)),
            action: chance.of(&[LimitAction::Retry, LimitAction::Retry, LimitAction::GiveUp]),
            retry_every: Duration::from_secs(1 + chance.below(300)),
        });
    }
    let stop = Arc::make_mut(&mut p.stop);
    let rungs = 1 + chance.below(2);
    stop.ladder = (0..rungs)
        .map(|_| StopStep {
            signal: chance.of(&[Signal::TERM, Signal::INT]),
            wait: Limit::After(Duration::from_secs(1) + seconds(chance, 10)),
        })
        .collect();
    stop.kill_mode =
        chance.of(&[KillMode::Mixed, KillMode::Mixed, KillMode::Group, KillMode::Process]);
    if chance.is(10) {
        stop.command = Some(Box::new(["x".into()]));
    }
}

/// What a new version of the file may say.
pub(super) fn change_site(old: &Site, chance: &mut Chance) -> Site {
    let mut new = old.clone();
    let names: Vec<Name> = old.programs.keys().cloned().collect();
    for (n, key) in (0_u64..).zip(&names) {
        let kind = chance.below(24);
        if kind > 5 {
            continue;
        }
        let p = Arc::make_mut(new.programs.get_mut(key).unwrap());
        match kind {
            0 => {
                let drawn = draw_program(n, chance);
                let known = |d: &Dependency| match &d.target {
                    Target::Program(to) => old.programs.contains_key(to),
                    _ => true,
                };
                let keep =
                    |list: &[Dependency]| list.iter().filter(|d| known(d)).cloned().collect();
                *p = Program {
                    name: key.clone(),
                    requires: keep(&drawn.requires),
                    wants: keep(&drawn.wants),
                    after: keep(&drawn.after),
                    ..drawn
                };
            }
            1 => p.enabled = !p.enabled,
            2 => draw_policies(p, chance),
            3 => draw_hooks(p, chance),
            4 => p.health = draw_health(p, chance),
            _ => draw_settings(p, chance),
        }
    }
    // The last one is needed by nobody: it may go and come back.
    if chance.is(20) && names.len() > 1 {
        new.programs.remove(names.last().unwrap());
    }
    let next = name(&format!("p{:02}", names.len()));
    if chance.is(20) && names.len() < 30 {
        let p = program(next.as_str());
        new.programs.insert(next, Arc::new(p));
    }
    if chance.is(10) {
        new.shm = std::iter::once((name("s"), draw_rule(chance))).collect();
    }
    only_what_ends(&mut new);
    if !new.semaphores.is_empty() || chance.is(3) {
        change_semaphores(&mut new, chance);
    }
    new
}
