//! From the options to a running loop, and back to an exit code.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{
    Host, Shell,
    children::Nursery,
    control::{self, AccessConfig},
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
        SysError, child::Children, clock, files, lockfile, memory, mountinfo::HangingMounts,
        random, rlimit, signals, socket, stdio, subreaper, tree::Trees,
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
}

/// Supervises a site until it is over. The whole of `supervisor -c FILE`.
#[must_use]
pub fn run(options: &RunOptions) -> ExitCode {
    signals::reset_inherited();
    stdio::fill();
    stdio::close_on_exec();
    memory::one_arena();
    match supervise(options) {
        Ok(code) => ExitCode::from(code),
        Err(Refusal(code, text)) => {
            stdio::say(&format!("{text}\n"));
            ExitCode::from(code)
        }
    }
}

fn supervise(options: &RunOptions) -> Result<u8, Refusal> {
    let loader = loader(options)?;
    let loaded = loader.read().map_err(|why| Refusal(EX_CONFIG, why))?;
    if !loaded.warnings.is_empty() {
        stdio::say(&loaded.warnings.lines());
    }
    if options.dry_run {
        stdio::say(&super::dry_run::describe(&loaded.site));
        return Ok(0);
    }
    let Loaded { site, .. } = loaded;
    let place = Place::make(&site.supervisor, options)?;
    let pid_file = options.pid_file.as_ref().or(site.supervisor.pid_file.as_ref());
    let _pid_file = pid_file
        .map(|path| lockfile::PidFile::write(path))
        .transpose()
        .map_err(|why| Refusal(EX_CANNOT, format!("supervisor: {why}")))?;
    if site.supervisor.lock_memory {
        memory::lock_all().map_err(|why| Refusal(EX_CANNOT, format!("supervisor: {why}")))?;
    }
    let (queue, inputs) = unbounded();
    let mut shell = shell(&site, options, loader, &place, queue)?;
    drop(site);
    memory::trim();
    Ok(lifetime(&mut shell, &inputs))
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

fn loader(options: &RunOptions) -> Result<Loader, Refusal> {
    let current_directory = std::env::current_dir()
        .map_err(|why| Refusal::cannot("find the current directory", why))
        .unwrap_or_else(|_| PathBuf::from("/"));
    let named = options.config.clone();
    let path = match named {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(current_directory.join(path)),
        None => Some(PathBuf::from(paths::DEFAULT_CONFIG)),
    };
    let uid = nix::unistd::geteuid().as_raw();
    let text = |value: &OsString| value.to_str().map(str::to_owned);
    let environment = options.environment.iter().filter_map(|(k, v)| Some((text(k)?, text(v)?)));
    Ok(Loader {
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
    })
}

/// What the supervisor has in its runtime directory, for as long as it lives.
struct Place {
    socket: Option<PathBuf>,
    _lock: Option<lockfile::InstanceLock>,
    /// Said once, when the log is there.
    warning: Option<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            drop(std::fs::remove_file(socket));
        }
    }
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
        let gid = nix::unistd::getegid().as_raw();
        let mut why = None;
        for directory in candidates {
            match files::make_owned_dir(&directory, 0o755, uid, gid) {
                Ok(()) => match lockfile::InstanceLock::take(&directory.join("supervisor.lock")) {
                    Ok(lock) => {
                        let socket = supervisor.control.socket.clone();
                        let socket = socket.unwrap_or_else(|| directory.join(paths::SOCKET));
                        return Ok(Self { socket: Some(socket), _lock: Some(lock), warning: None });
                    }
                    Err(lockfile::LockError::Held(pid)) => return Err(held(name, pid)),
                    Err(lockfile::LockError::Unusable(error)) => why = Some(error),
                },
                Err(error) => why = Some(error),
            }
        }
        let why =
            why.map_or_else(|| "no place for it".to_owned(), |error: SysError| error.to_string());
        let warning = format!("no runtime directory, so no control socket and no lock: {why}");
        Ok(Self { socket: None, _lock: None, warning: Some(warning) })
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

fn shell(
    site: &Site,
    options: &RunOptions,
    loader: Loader,
    place: &Place,
    queue: Sender<Input>,
) -> Result<Shell, Refusal> {
    let fail = |what: &'static str| move |why: std::io::Error| Refusal::cannot(what, why);
    let started = (clock::monotonic(), clock::wall());
    let seed = random::number();
    let instance = format!("{seed:016x}");
    let open_files = rlimit::raise_open_files().ok();
    if !subreaper::is_init() {
        subreaper::become_subreaper()
            .map_err(|why| Refusal(EX_CANNOT, format!("supervisor: {why}")))?;
    }
    let signals =
        signals::install().map_err(|why| Refusal(EX_CANNOT, format!("supervisor: {why}")))?;
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
        trees: Trees::new(&instance),
        runs: BTreeMap::new(),
        dying: BTreeSet::new(),
        doomed: BTreeSet::new(),
        unreported: BTreeMap::new(),
        stillborn: BTreeSet::new(),
        nursery: Nursery {
            environment: options.environment.clone(),
            instance,
            open_files,
            own: stdio::own(),
        },
        mounts: HangingMounts::new(),
        logs,
        journal,
        control: None,
        conditions: None,
        watcher,
        config: Some(loader.name()),
        loader,
        followers: BTreeSet::new(),
        refusals: super::requests::Refusals::default(),
        log_level: options.log_level,
        started: started.0,
        exit: None,
    };
    if let Some(warning) = &place.warning {
        shell.note(LogLevel::Warn, warning.as_str());
    }
    shell.control = listen(&mut shell, &site.supervisor, place, queue);
    Ok(shell)
}

fn log_thread(
    site: &Site,
    options: &RunOptions,
    queue: &Sender<Input>,
) -> std::io::Result<logs::LogHandle> {
    let (stdout, stderr) = stdio::own();
    let queue = queue.clone();
    let reports = queue.clone();
    let (handle, thread) = logs::start(logs::Options {
        stdout,
        stderr,
        no_color: options.environment.contains_key(&OsString::from("NO_COLOR")),
        make_below: log_base(site),
        journal: PathBuf::from("/run/systemd/journal/socket"),
        syslog: PathBuf::from("/dev/log"),
        report: Box::new(move |report| input::send(&reports, Input::Log(report))),
    })?;
    handle.own_log(site.supervisor.log.clone());
    // Its end is noticed by a thread that does nothing else: it costs no more than its stack.
    drop(thread);
    Ok(handle)
}

/// Below which directory missing directories of log files are made.
fn log_base(_: &Site) -> Option<PathBuf> {
    Some(PathBuf::from("/var/log/mini-supervisor"))
}

/// The control socket. Without it the site runs all the same, and says so.
fn listen(
    shell: &mut Shell,
    supervisor: &Supervisor,
    place: &Place,
    queue: Sender<Input>,
) -> Option<control::ControlHandle> {
    let path = place.socket.as_ref()?;
    let settings = &supervisor.control;
    let listener = socket::listen_on(path, settings.mode.0, (settings.owner, settings.group));
    let served = listener.map_err(|why| why.to_string()).and_then(|listener| {
        let deliver = move |event| input::send(&queue, Input::Control(event));
        control::serve(listener, access(supervisor), deliver).map_err(|why| why.to_string())
    });
    match served {
        Ok(handle) => Some(handle),
        Err(why) => {
            shell.note(LogLevel::Warn, format!("no control socket: {why}"));
            None
        }
    }
}

pub(super) fn access(supervisor: &Supervisor) -> AccessConfig {
    AccessConfig {
        control: supervisor.control.clone(),
        supervisor_uid: nix::unistd::geteuid().as_raw(),
        groups: Arc::new(|_: std::os::fd::BorrowedFd<'_>, peer: Peer| {
            Host.user_by_id(peer.uid).map_or_else(|| vec![peer.gid], |a| a.groups.to_vec())
        }),
        user_name: Arc::new(|uid| Host.user_by_id(uid).map(|account| account.name.into())),
    }
}
