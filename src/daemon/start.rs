//! From the options to a running loop, and back to an exit code.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsString,
    os::fd::BorrowedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{
    Host, Shell,
    children::Nursery,
    control::{self, AccessConfig},
    directories,
    door::{self, Door},
    input::{self, Input, Watcher},
    journal::Journal,
    loader::Loader,
    logs,
};
use crate::{
    config::{Accounts, LoadOptions, Loaded},
    control::{Peer, paths},
    engine::{Actions, Bugs, Engine, Record, Surroundings, What},
    model::{LogLevel, Site, Supervisor},
    sys::{
        SysError,
        child::Children,
        clock,
        lockfile::{self, InstanceLock, LockError},
        memory,
        mountinfo::HangingMounts,
        random, rlimit, signals, socket, stdio, subreaper,
        tree::Trees,
    },
};

/// How to run a site.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The site file; `-` is standard input, `None` the default one.
    pub config: Option<PathBuf>,
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
}

/// Exit codes of a supervisor that does not come up (the contract, section 3).
const EX_CANNOT: u8 = 1;
const EX_FAULT: u8 = 70;
const EX_LOCKED: u8 = 73;
const EX_CONFIG: u8 = 78;

/// Why the supervisor does not come up: the exit code and what is printed.
struct Refusal(u8, String);

impl Refusal {
    fn cannot(what: &str, cause: impl std::fmt::Display) -> Self {
        Self(EX_CANNOT, format!("supervisor: cannot {what}: {cause}"))
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
fn refused(why: SysError) -> Refusal {
    Refusal(EX_CANNOT, format!("supervisor: {why}"))
}

/// Supervises a site until it is over. The whole of `supervisor -c FILE`.
#[must_use]
pub fn run(options: &RunOptions) -> ExitCode {
    signals::reset_inherited();
    stdio::fill();
    stdio::close_on_exec();
    memory::one_arena();
    match beside_the_main_thread(|| supervise(options)) {
        Ok(code) => ExitCode::from(code),
        Err(refusal) => {
            let text = if options.json { refusal.json() } else { refusal.1.trim_end().to_owned() };
            stdio::say(&format!("{text}\n"));
            ExitCode::from(refusal.0)
        }
    }
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

fn supervise(options: &RunOptions) -> Result<u8, Refusal> {
    // Before anything else is opened: what we were started with may be few.
    let open_files = rlimit::raise_open_files().ok();
    if subreaper::is_init() {
        // A stop that the kernel delivers before there is a handler is lost to process 1. Others
        // it ends, and there is nothing yet that would be left behind.
        signals::install().map_err(refused)?;
    }
    let loader = loader(options);
    let site_read = loader.read().map_err(|why| Refusal(EX_CONFIG, named(why, options)))?;
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
    let signals = signals::install().map_err(refused)?;
    signals::leave_to_another_thread();
    let mut place = Place::make(&site.supervisor, options)?;
    directories::make(&site).map_err(refused)?;
    let pid_file = options.pid_file.as_ref().or(site.supervisor.pid_file.as_ref());
    let _pid_file =
        pid_file.map(|path| lockfile::PidFile::write(path)).transpose().map_err(refused)?;
    if site.supervisor.lock_memory {
        memory::lock_all().map_err(refused)?;
    }
    let (queue, inputs) = unbounded();
    let mut shell = shell(&site, options, (loader, open_files), (&mut place, signals), queue)?;
    drop(site);
    memory::trim();
    Ok(lifetime(&mut shell, &inputs))
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
        shell.end_orphans(inputs);
        shell.record(Record::site(What::SupervisorStopped { code }));
        code
    }));
    let code = run.unwrap_or_else(|_| {
        stdio::say("supervisor: bug: the main loop panicked; ending all programs\n");
        drop(catch_unwind(AssertUnwindSafe(|| shell.emergency(inputs))));
        EX_FAULT
    });
    shell.close();
    code
}

fn loader(options: &RunOptions) -> Loader {
    // Where it was deleted, absolute paths are as good as ever.
    let current_directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let named = options.config.clone();
    let path = match named {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(current_directory.join(path)),
        None => Some(PathBuf::from(paths::DEFAULT_CONFIG)),
    };
    let uid = nix::unistd::geteuid().as_raw();
    let text = |value: &OsString| value.to_str().map(str::to_owned);
    let environment = options.environment.iter().filter_map(|(k, v)| Some((text(k)?, text(v)?)));
    Loader {
        path,
        options: LoadOptions {
            daemon: Some(false),
            uid,
            account: Host.user_by_id(uid),
            current_directory,
            inherit_all: subreaper::is_init(),
            set: options.set.iter().cloned().collect(),
            environment: environment.collect(),
            for_check: false,
        },
    }
}

/// What the supervisor has in its runtime directory, for as long as it lives.
struct Place {
    /// The runtime directory, and where the socket is to be.
    paths: Option<(PathBuf, PathBuf)>,
    lock: Option<InstanceLock>,
    /// Said once, when the log is there.
    warning: Option<String>,
}

impl Place {
    /// Takes the first runtime directory that can be made, and the lock in it.
    fn make(supervisor: &Supervisor, options: &RunOptions) -> Result<Self, Refusal> {
        let environment =
            |name: &str| options.environment.get(&OsString::from(name)).map(PathBuf::from);
        let uid = nix::unistd::geteuid().as_raw();
        let surroundings = paths::Surroundings {
            uid,
            runtime_directory: environment("RUNTIME_DIRECTORY"),
            xdg_runtime_dir: environment("XDG_RUNTIME_DIR"),
            home: environment("HOME"),
        };
        let name = supervisor.name.as_str();
        let candidates =
            paths::runtime_dirs(supervisor.runtime_dir.as_deref(), name, &surroundings);
        let mut why = None;
        for directory in candidates {
            match door::make_directory(&directory) {
                Ok(()) => match InstanceLock::take(&directory.join(door::LOCK)) {
                    Ok(lock) => {
                        let socket = supervisor.control.socket.clone();
                        let socket = socket.unwrap_or_else(|| directory.join(paths::SOCKET));
                        let paths = Some((directory, socket));
                        return Ok(Self { paths, lock: Some(lock), warning: None });
                    }
                    Err(LockError::Held(pid)) => return Err(held(name, pid)),
                    Err(LockError::Unusable(error)) => why = Some(error),
                },
                Err(error) => why = Some(error),
            }
        }
        let why =
            why.map_or_else(|| "no place for it".to_owned(), |error: SysError| error.to_string());
        let warning = format!("no runtime directory, so no control socket and no lock: {why}");
        Ok(Self { paths: None, lock: None, warning: Some(warning) })
    }
}

fn held(name: &str, pid: Option<crate::sys::Pid>) -> Refusal {
    let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("pid {pid}"));
    let text = format!(
        "supervisor: cannot supervise {name}: {who} does so already\n\
         hint: supervisor status; supervisor shutdown ends it"
    );
    Refusal(EX_LOCKED, text)
}

/// What every child is given.
fn nursery(options: &RunOptions, seed: u64, open_files: Option<rlimit::Pair>) -> Nursery {
    Nursery {
        environment: options.environment.clone(),
        instance: format!("{seed:016x}"),
        open_files,
        own: stdio::own(),
    }
}

fn shell(
    site: &Site,
    options: &RunOptions,
    (loader, open_files): (Loader, Option<rlimit::Pair>),
    (place, signals): (&mut Place, BorrowedFd<'static>),
    queue: Sender<Input>,
) -> Result<Shell, Refusal> {
    let fail = |what: &'static str| move |why: std::io::Error| Refusal::cannot(what, why);
    let started = (clock::monotonic(), clock::wall());
    let seed = random::number();
    let nursery = nursery(options, seed, open_files);
    subreaper::become_subreaper().map_err(refused)?;
    let logs = log_thread(site, options, &queue).map_err(fail("start the log thread"))?;
    let watcher = Watcher::start(queue.clone(), signals).map_err(fail("start a thread"))?;
    let journald = options.environment.contains_key(&OsString::from("JOURNAL_STREAM"));
    let level = options.log_level.unwrap_or(site.supervisor.log.level);
    let journal = Journal::new(
        logs.clone(),
        level,
        site.supervisor.log.format,
        (journald, stdio::stderr_is_terminal()),
    );
    let around = Surroundings { seed, is_init: subreaper::is_init(), bugs: Bugs::default() };
    let mut shell = Shell {
        engine: Engine::new(site, around, started),
        results: VecDeque::new(),
        actions: Actions::new(),
        queue: queue.clone(),
        children: Children::new(),
        runs: BTreeMap::new(),
        dying: BTreeSet::new(),
        doomed: BTreeSet::new(),
        after_reap: BTreeMap::new(),
        unreported: BTreeMap::new(),
        stillborn: BTreeSet::new(),
        trees: Trees::new(&nursery.instance),
        nursery,
        mounts: HangingMounts::new(),
        logs,
        journal,
        control: None,
        door: None,
        conditions: None,
        watcher,
        config: Some(loader.name()),
        loader,
        followers: BTreeSet::new(),
        refusals: super::requests::Refusals::default(),
        log_level: options.log_level,
        started: started.0,
        unclear: None,
        passed_over: false,
        exit: None,
    };
    if let Some(warning) = &place.warning {
        shell.note(LogLevel::Warn, warning.as_str());
    }
    if !shell.trees.is_usable() {
        let text = "no usable /proc: processes that leave the group of their program are not found";
        shell.note(LogLevel::Warn, text);
    }
    if let Some(text) = open_files.and_then(|limit| too_few_files(limit, site)) {
        shell.note(LogLevel::Warn, text);
    }
    listen(&mut shell, &site.supervisor, place, queue);
    Ok(shell)
}

/// What to say when so few files may be open that some programs will not start.
fn too_few_files(limit: rlimit::Pair, site: &Site) -> Option<String> {
    // Our own, and room for clients and for the one that is being started; two pipes a program.
    let programs = site.programs.len();
    let needed = u64::try_from(programs.saturating_mul(2).saturating_add(32)).unwrap_or(u64::MAX);
    (limit.hard < needed).then(|| {
        format!(
            "only {} files may be open, and {programs} programs need about {needed}: raise the \
             hard limit (ulimit -Hn, LimitNOFILE=)",
            limit.hard
        )
    })
}

fn log_thread(
    site: &Site,
    options: &RunOptions,
    queue: &Sender<Input>,
) -> std::io::Result<logs::LogHandle> {
    let (stdout, stderr) = stdio::own();
    let reports = queue.clone();
    let end = LastWord::new("logs", queue);
    let alive = Arc::clone(&end.armed);
    let (handle, _thread) = logs::start(logs::Options {
        stdout,
        stderr,
        no_color: options
            .environment
            .get(&OsString::from("NO_COLOR"))
            .is_some_and(|v| !v.is_empty()),
        make_below: Some(PathBuf::from("/var/log/mini-supervisor")),
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

/// Something that a thread holds for as long as it lives: its end, by a panic too, is told to the
/// loop.
struct LastWord {
    thread: &'static str,
    queue: Sender<Input>,
    /// There is such a thread.
    armed: Arc<AtomicBool>,
}

impl LastWord {
    fn new(thread: &'static str, queue: &Sender<Input>) -> Self {
        Self { thread, queue: queue.clone(), armed: Arc::default() }
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        if self.armed.load(Ordering::Relaxed) {
            input::send(&self.queue, Input::ThreadLost(self.thread));
        }
    }
}

/// The control socket. Without it the site runs all the same, and says so.
fn listen(shell: &mut Shell, supervisor: &Supervisor, place: &mut Place, queue: Sender<Input>) {
    let Some((directory, path)) = place.paths.take() else { return };
    let (mode, owner) = door::settings(&supervisor.control);
    let listener = socket::listen_on(&path, mode, owner);
    let end = LastWord::new("control", &queue);
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
            let lock = place.lock.take();
            shell.door = Some(Door { bound, settings: (mode, owner), lock, directory });
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
