//! From the options to a running loop, and back to an exit code.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsString,
    os::fd::BorrowedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{
    Host, Shell,
    background::{self, Background, Part},
    cgroups::Cgroups,
    children::Nursery,
    command::Entry,
    control::{self, AccessConfig},
    directories,
    door::{self, Door},
    input::{self, Input, Watcher},
    journal::Journal,
    last_words,
    loader::Loader,
    logs, notify,
    place::{self, Place},
};
use crate::{
    config::{Accounts, LoadOptions, Loaded, Source},
    control::{Peer, paths},
    engine::{Actions, Bugs, Engine, Record, Surroundings, What},
    model::{LogLevel, Site, Supervisor},
    sys::{
        SysError, child::Children, clock, memory, mountinfo::HangingMounts, random, reboot, rlimit,
        signals, socket, stdio, subreaper, tree::Trees,
    },
};

/// How to run a site.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The site file; `-` is standard input, `None` the default one.
    pub config: Option<PathBuf>,
    /// Whether to go into the background; `None`: as the file says.
    pub daemon: Option<bool>,
    /// How long that may take; a minute unless given.
    pub start_timeout: Option<Duration>,
    /// Where to write the pid, instead of the file's place.
    pub pid_file: Option<PathBuf>,
    /// Least important level that is logged, instead of the file's.
    pub log_level: Option<LogLevel>,
    /// Overrides of `variables:`.
    pub set: Vec<(String, String)>,
    /// Only print what would be done.
    pub dry_run: bool,
    /// Why it does not come up is one JSON object.
    pub json: bool,
    /// The environment of the process, read once.
    pub environment: BTreeMap<OsString, OsString>,
    /// `$SUPERVISOR_SHUTDOWN_TIMEOUT`: wins over the file.
    pub shutdown_timeout: Option<Duration>,
    /// A command that runs beside the programs and gives the exit code.
    pub command: Option<crate::command::Options>,
}

/// Exit codes of a supervisor that does not come up (the contract, section 3).
pub(super) const EX_CANNOT: u8 = 1;
const EX_FAULT: u8 = 70;
pub(super) const EX_LOCKED: u8 = 73;
const EX_CONFIG: u8 = 78;

/// Missing directories of log files are made below this.
pub(super) const LOGS: &str = "/var/log/mini-supervisor";

/// Why the supervisor does not come up: the exit code and what is printed.
pub(super) struct Refusal(pub(super) u8, pub(super) String);

impl Refusal {
    pub(super) fn cannot(what: &str, cause: impl std::fmt::Display) -> Self {
        Self(EX_CANNOT, format!("supervisor: cannot {what}: {cause}"))
    }

    /// As it is printed.
    fn text(&self, options: &RunOptions) -> String {
        if options.json { self.json() } else { self.1.trim_end().to_owned() }
    }

    /// The same fields as a verb's.
    fn json(&self) -> String {
        let Self(exit, text) = self;
        let code = match *exit {
            EX_LOCKED => "locked",
            EX_CONFIG => "invalid_site",
            _ => "failed",
        };
        let text = text.trim_end();
        let text = text.strip_prefix("supervisor: ").unwrap_or(text);
        let (message, hint) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message, Some(hint)),
            None => (text, None),
        };
        let object = serde_json::json!({"code": code, "message": message, "hint": hint,
                                        "exit": exit});
        object.to_string()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn refused(why: SysError) -> Refusal {
    Refusal(EX_CANNOT, format!("supervisor: {why}"))
}

/// Supervises a site until it is over. The whole of `supervisor -c FILE`.
#[must_use]
pub fn run(options: &RunOptions) -> ExitCode {
    // Before any of it is changed.
    let entry = options.command.as_ref().map(|command| Arc::new(Entry::look(command)));
    signals::reset_inherited();
    stdio::fill();
    stdio::close_on_exec();
    memory::one_arena();
    // Before there is anybody else who would have to come along.
    let cgroups = Cgroups::enter(options.dry_run);
    let result = match background::enter(options) {
        Ok(Part::Starter(result)) => result,
        Ok(Part::Supervisor(background, source)) => {
            let given = Mutex::new((background, source, cgroups));
            beside_the_main_thread(|| {
                let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
                let (source, cgroups) = (given.1.take(), given.2.clone());
                come_up(options, &mut given.0, source, (entry.as_ref(), cgroups))
            })
        }
        Err(refusal) => Err(refusal),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(refusal) => {
            stdio::say(&format!("{}\n", refusal.text(options)));
            last_words::of_refusal(refusal.0, &refusal.1);
            ExitCode::from(refusal.0)
        }
    }
}

/// Supervises; whoever waits for us to come up hears of it when we do not.
fn come_up(
    options: &RunOptions,
    background: &mut Option<Background>,
    source: Option<Source>,
    before: (Option<&Arc<Entry>>, Cgroups),
) -> Result<u8, Refusal> {
    let result = supervise(options, background, source, before);
    let Err(refusal) = &result else { return result };
    let Some(background) = background else {
        notify::refused(&options.environment, &refusal.1, refusal.0);
        return result;
    };
    background.starter.say(&format!("{}\n", refusal.text(options)));
    background.starter.ended(refusal.0);
    Ok(refusal.0)
}

/// Does the work in a thread of its own: the main thread is given all orphans, and with no
/// children but those they are found at once ([`crate::sys::tree::Trees`]).
fn beside_the_main_thread(work: impl Fn() -> Result<u8, Refusal> + Sync) -> Result<u8, Refusal> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("loop".into()).spawn_scoped(scope, &work);
        // Without room for a thread the main thread does as well.
        let Ok(thread) = thread else { return work() };
        signals::leave_to_another_thread();
        thread.join().unwrap_or_else(|_| Err(Refusal(EX_FAULT, "supervisor: bug: a panic".into())))
    })
}

fn supervise(
    options: &RunOptions,
    background: &mut Option<Background>,
    source: Option<Source>,
    (entry, cgroups): (Option<&Arc<Entry>>, Cgroups),
) -> Result<u8, Refusal> {
    // Before anything else is opened: what we were started with may be few.
    let open_files = rlimit::raise_open_files().ok();
    if subreaper::is_init() {
        // A stop that the kernel delivers before there is a handler is lost to process 1. Others
        // it ends, and there is nothing yet that would be left behind.
        listen_to_signals(entry)?;
    }
    let loader = loader(options, background.is_some());
    let site_read = loader.read(source).map_err(|why| Refusal(EX_CONFIG, named(why, options)))?;
    if !site_read.warnings.is_empty() {
        stdio::say(&site_read.warnings.lines());
    }
    if options.dry_run {
        stdio::say(&super::dry_run::describe(&site_read.site));
        return Ok(0);
    }
    // Out of a block, so that the rest goes now: the text as written is larger than the site.
    let site = {
        let Loaded { site, .. } = { site_read };
        site
    };
    let signals = listen_to_signals(entry)?;
    signals::leave_to_another_thread();
    let seed = random::number();
    let mut place = Place::make(&site.supervisor, options, &place::mark(seed))?;
    directories::make(&site).map_err(refused)?;
    let pid_file = background::pid_file(options, &site, &loader.options.current_directory);
    let _pid_file = pid_file.as_deref().map(|path| place::claim(path, &site)).transpose()?;
    if site.supervisor.lock_memory {
        memory::lock_all().map_err(refused)?;
    }
    if let Some(background) = background {
        background.settle(&site, &loader)?;
    }
    let (queue, inputs) = unbounded();
    let mut shell =
        shell(&site, options, (loader, open_files, seed), (&mut place, signals), queue)?;
    shell.nursery.entry = entry.map(Arc::clone);
    shell.divide(cgroups);
    if background.is_some() {
        background::refuse_without_socket(&shell).inspect_err(|_| shell.close())?;
    }
    let starter = background.take().map(|background| background.starter);
    shell.manager = notify::Manager::new(&options.environment, starter, clock::monotonic());
    drop(site);
    memory::trim();
    let code = lifetime(&mut shell, &inputs);
    if let Some(entry) = entry {
        entry.give_terminal_back();
    }
    Ok(code)
}

/// Handlers for what means something to us and, where there is a command, for what may to it.
fn listen_to_signals(entry: Option<&Arc<Entry>>) -> Result<BorrowedFd<'static>, Refusal> {
    let signals = signals::install().map_err(refused)?;
    if entry.is_some() {
        signals::hear_the_rest().map_err(refused)?;
    }
    Ok(signals)
}

/// A file that cannot be read is told by us; mistakes in it speak for themselves, by their places.
fn named(why: String, options: &RunOptions) -> String {
    if !why.starts_with("cannot ") {
        return why;
    }
    let hint = match options.config {
        None if !why.contains('\n') => "\nhint: name the site file with -c FILE",
        _ => "",
    };
    format!("supervisor: {why}{hint}")
}

/// The loop, and what follows it.
fn lifetime(shell: &mut Shell, inputs: &Receiver<Input>) -> u8 {
    let run = catch_unwind(AssertUnwindSafe(|| {
        let code = shell.run(inputs);
        let code = shell.code_of_the_command(code);
        shell.end_orphans(inputs);
        shell.all_are_killed();
        shell.record(Record::site(What::SupervisorStopped { code }));
        code
    }));
    let code = run.unwrap_or_else(|_| {
        stdio::say("supervisor: bug: the main loop panicked; ending all programs\n");
        drop(catch_unwind(AssertUnwindSafe(|| shell.emergency(inputs))));
        EX_FAULT
    });
    if let (0, Some(lock)) = (shell.orphans(), &mut shell.lock) {
        lock.clear();
    }
    shell.leave_last_words(code);
    shell.close();
    let log = shell.engine.supervisor().log.file.as_ref().map(|path| path.display().to_string());
    shell.manager.ended(code, log.as_deref());
    code
}

fn loader(options: &RunOptions, daemon: bool) -> Loader {
    let mut load = load_options(options);
    load.daemon = Some(daemon);
    load.journal = background::journal(&load).1;
    load.account = Host.user_by_id(load.uid);
    Loader {
        path: site_file(options, &load.current_directory),
        options: load,
        command: options.command.clone().map(Arc::new),
        shutdown_timeout: options.shutdown_timeout,
    }
}

/// The site file; `None` is standard input.
pub(super) fn site_file(options: &RunOptions, here: &Path) -> Option<PathBuf> {
    match &options.config {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(here.join(path)),
        None => Some(PathBuf::from(paths::DEFAULT_CONFIG)),
    }
}

/// What the file alone does not say; the account is not asked for yet.
pub(super) fn load_options(options: &RunOptions) -> LoadOptions {
    let text = |value: &OsString| value.to_str().map(str::to_owned);
    let environment = options.environment.iter().filter_map(|(k, v)| Some((text(k)?, text(v)?)));
    LoadOptions {
        daemon: None,
        journal: false,
        uid: nix::unistd::geteuid().as_raw(),
        account: None,
        // Where it was deleted, absolute paths are as good as ever.
        current_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        inherit_all: subreaper::is_init() || options.command.is_some(),
        set: options.set.iter().cloned().collect(),
        environment: environment.collect(),
        for_check: false,
    }
}

/// What every child is given.
fn nursery(options: &RunOptions, seed: u64, open_files: Option<rlimit::Pair>) -> Nursery {
    Nursery {
        environment: options.environment.clone(),
        instance: place::mark(seed),
        open_files,
        own: stdio::own(),
        entry: None,
        tmp: super::private_tmp::PrivateTmp::default(),
    }
}

fn shell(
    site: &Site,
    options: &RunOptions,
    (loader, open_files, seed): (Loader, Option<rlimit::Pair>, u64),
    (place, signals): (&mut Place, BorrowedFd<'static>),
    queue: Sender<Input>,
) -> Result<Shell, Refusal> {
    let fail = |what: &'static str| move |why: std::io::Error| Refusal::cannot(what, why);
    let started = (clock::monotonic(), clock::wall());
    let nursery = nursery(options, seed, open_files);
    subreaper::become_subreaper().map_err(refused)?;
    let logs = log_thread(site, options, &queue).map_err(fail("start the log thread"))?;
    let watcher = Watcher::start(queue.clone(), signals).map_err(fail("start a thread"))?;
    let level = options.log_level.unwrap_or(site.supervisor.log.level);
    let to = (loader.options.journal, stdio::stderr_is_terminal());
    let journal = Journal::new(logs.clone(), level, &site.supervisor.log, to);
    let (is_init, is_contained) = (subreaper::is_init(), reboot::is_contained());
    let around = Surroundings { seed, is_init, is_contained, bugs: Bugs::default() };
    let mut shell = Shell {
        engine: Engine::new(site, around, started),
        results: VecDeque::new(),
        actions: Actions::new(),
        queue: queue.clone(),
        children: Children::new(),
        runs: BTreeMap::new(),
        names_of_runs: BTreeMap::new(),
        killings: super::kill_all::Killings::default(),
        dying: BTreeSet::new(),
        doomed: BTreeSet::new(),
        after_reap: BTreeMap::new(),
        unreported: BTreeMap::new(),
        stillborn: BTreeSet::new(),
        sought: BTreeMap::new(),
        asked: BTreeMap::new(),
        probes: super::probes::Probes::new(),
        memory: super::memory::Memory::default(),
        trees: Trees::new(&nursery.instance),
        nursery,
        cgroups: Cgroups::default(),
        mounts: HangingMounts::new(),
        logs,
        journal,
        control: None,
        door: None,
        lock: place.lock.take(),
        conditions: None,
        semaphores: None,
        watcher,
        notes: super::notes::Notes::default(),
        manager: notify::Manager::new(&BTreeMap::new(), None, started.0),
        config: Some(loader.name()),
        loader,
        sweeps: super::shm::Sweeps::default(),
        claims: super::single::Claims::default(),
        adopted: BTreeMap::new(),
        followers: BTreeMap::new(),
        refusals: super::requests::Refusals::default(),
        log_level: options.log_level,
        started: started.0,
        unclear: None,
        passed_over: false,
        exit: None,
    };
    say_what_is_missing(&mut shell, place, open_files, site);
    listen(&mut shell, &site.supervisor, place, queue);
    Ok(shell)
}

fn say_what_is_missing(
    shell: &mut Shell,
    place: &Place,
    open_files: Option<rlimit::Pair>,
    site: &Site,
) {
    if let Some(warning) = &place.warning {
        shell.note(LogLevel::Warn, warning.as_str());
    }
    if !shell.trees.is_usable() {
        let text = "no usable /proc: processes that leave the group of their program are not found";
        shell.note(LogLevel::Warn, text);
    }
    if let Some(text) = open_files.and_then(|limit| place::too_few_files(limit, site)) {
        shell.note(LogLevel::Warn, text);
    }
    if let Some(text) = shell.engine.warning_of_budget() {
        shell.note(LogLevel::Warn, text);
    }
}

fn log_thread(
    site: &Site,
    options: &RunOptions,
    queue: &Sender<Input>,
) -> std::io::Result<logs::LogHandle> {
    let (stdout, stderr) = stdio::own();
    let no_color = options.environment.get(&OsString::from("NO_COLOR"));
    let reports = queue.clone();
    let end = input::LastWord::new("logs", queue);
    let alive = Arc::clone(&end.armed);
    let (handle, _thread) = logs::start(logs::Options {
        stdout,
        stderr,
        no_color: no_color.is_some_and(|value| !value.is_empty()),
        make_below: Some(PathBuf::from(LOGS)),
        journal: PathBuf::from("/run/systemd/journal/socket"),
        syslog: PathBuf::from("/dev/log"),
        patience: logs::PATIENCE,
        touch: None,
        report: Box::new(move |report| {
            let _held_until_the_thread_ends = &end;
            input::send(&reports, Input::Log(report));
        }),
    })?;
    alive.store(true, Ordering::Relaxed);
    handle.own_log(site.supervisor.log.clone());
    Ok(handle)
}

/// The control socket. Without it the site runs all the same, and says so.
fn listen(shell: &mut Shell, supervisor: &Supervisor, place: &mut Place, queue: Sender<Input>) {
    let Some((directory, path)) = place.paths.take() else { return };
    let (mode, owner) = door::settings(&supervisor.control);
    let listener = socket::listen_on(&path, mode, owner);
    let end = input::LastWord::new("control", &queue);
    let alive = Arc::clone(&end.armed);
    #[cfg(debug_assertions)]
    let to_panic = super::fault::is_wanted(&shell.nursery.environment, "control");
    let deliver = move |event| {
        let _held_until_the_thread_ends = &end;
        #[cfg(debug_assertions)]
        assert!(!to_panic, "asked for");
        input::send(&queue, Input::Control(event));
    };
    let served = listener.map_err(|why| why.to_string()).and_then(|(listener, bound)| {
        let handle = control::serve(listener, access(supervisor), deliver);
        handle.map(|handle| (handle, bound)).map_err(|why| why.to_string())
    });
    match served {
        Ok((handle, bound)) => {
            alive.store(true, Ordering::Relaxed);
            handle.watch(path);
            shell.control = Some(handle);
            shell.door = Some(Door { bound, settings: (mode, owner), directory });
        }
        Err(why) => shell.note(LogLevel::Warn, format!("no control socket: {why}")),
    }
}

pub(super) fn access(supervisor: &Supervisor) -> AccessConfig {
    AccessConfig {
        control: supervisor.control.clone(),
        supervisor_uid: nix::unistd::geteuid().as_raw(),
        // What the process has, not what its user could have; the files where no kernel says it.
        groups: Arc::new(|connection: BorrowedFd<'_>, peer: Peer| {
            socket::peer_groups(connection).unwrap_or_else(|_| {
                Host.user_by_id(peer.uid).map_or_else(|| vec![peer.gid], |a| a.groups.to_vec())
            })
        }),
        user_name: Arc::new(|uid| Host.user_by_id(uid).map(|account| account.name.into())),
    }
}
