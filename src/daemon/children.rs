//! Program + role → what `sys::spawn` needs: environment, pipes, directories, clean-up.

use std::{collections::BTreeMap, ffi::OsString, os::fd::OwnedFd, path::Path, sync::Arc};

use crate::{
    engine::{EndedAs, FailureClass, Role, RunId, Spawn, SpawnFailure},
    model::{
        Account, Cleanup, Execution, Exit, Inherit, LogTarget, Name, OwnedDirectory, Probe,
        Program, RunAs, Signal,
    },
    sys::{
        SysError, files,
        rlimit::Pair,
        spawn::{self, Identity, Sandbox, SpawnError, SpawnSpec, Stage},
    },
};

/// What every child of this supervisor is given.
#[derive(Debug)]
pub(super) struct Nursery {
    /// The supervisor's own environment, read once.
    pub(super) environment: BTreeMap<OsString, OsString>,
    /// The marker by which escaped processes are recognised.
    pub(super) instance: String,
    /// The limit of open files that the supervisor was started with.
    pub(super) open_files: Option<Pair>,
    /// Duplicates of the supervisor's own standard output and error, for `inherit`.
    pub(super) own: (Option<OwnedFd>, Option<OwnedFd>),
    /// The command of our command line, if there is one.
    pub(super) entry: Option<Arc<super::command::Entry>>,
    /// /tmp of those that have their own.
    pub(super) tmp: super::private_tmp::PrivateTmp,
}

/// A child ready to be spawned, with the ends of its pipes that we read.
pub(super) struct Ready {
    pub(super) spec: SpawnSpec,
    pub(super) pipes: Vec<(crate::daemon::logs::Which, OwnedFd)>,
    /// What it says is no output of the program.
    pub(super) words: Option<super::probes::Words>,
}

/// Variables that are ours and never reach a program, not even by name: it could speak to the
/// service manager for us.
const OURS: [&str; 10] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "FDSTORE",
    "SUPERVISOR_RUN",
    "SUPERVISOR_SOCKET",
];

impl Nursery {
    /// Prepares `spawn` of `program`.
    ///
    /// # Errors
    /// Why it cannot be started, in words for the log and status.
    pub(super) fn prepare(
        &mut self,
        program: &Program,
        spawn: &Spawn,
    ) -> Result<Ready, SpawnFailure> {
        if let Some(entry) = self.entry.as_ref().filter(|_| super::command::is_it(&program.name)) {
            let spec = self.as_it_is(entry, program, spawn);
            return Ok(Ready { spec, pipes: Vec::new(), words: None });
        }
        let (command, user) = command_of(program, spawn);
        let execution = &program.execution;
        let first = match spawn.role {
            Role::Main => program.start_pre.is_empty(),
            Role::StartPre(index) => index == 0,
            Role::StartPost(_)
            | Role::StopPost(_)
            | Role::StopCommand
            | Role::ReloadCommand
            | Role::Probe(_) => false,
        };
        if first {
            prepare_ground(program)?;
        }
        let mut spec = SpawnSpec::new(command.iter().map(OsString::from).collect());
        spec.env = self.environment_of(program, execution, user, spawn)?;
        spec.working_directory.clone_from(&execution.working_directory);
        spec.umask = execution.umask.0;
        spec.identity = identity(user);
        spec.rlimits = execution.rlimits.to_vec();
        spec.open_files = self.open_files;
        spec.nice = execution.nice;
        spec.ionice = execution.ionice;
        spec.oom_score_adj = execution.oom_score_adj;
        spec.cpu_affinity = execution.cpu_affinity.to_vec();
        spec.no_new_privileges = execution.no_new_privileges;
        spec.sandbox = self.sandbox(program, first)?;
        if let Role::Probe(_) = spawn.role {
            let (reader, writer) = pipe()?;
            spec.stdout = copy(Some(&writer))?;
            spec.stderr = Some(writer);
            let words = Some(super::probes::Words::new(reader));
            return Ok(Ready { spec, pipes: Vec::new(), words });
        }
        let pipes = self.streams(program, &mut spec)?;
        Ok(Ready { spec, pipes, words: None })
    }

    /// What its hardening takes, if it takes more than a system call.
    fn sandbox(&mut self, program: &Program, first: bool) -> Result<Option<Sandbox>, SpawnFailure> {
        let Some(hardening) = &program.execution.hardening else { return Ok(None) };
        let mut sandbox = Sandbox { hardening: (**hardening).clone(), ..Sandbox::default() };
        if hardening.private_tmp {
            let key = |why: SysError| failure(format!("hardening.private_tmp: {why}"));
            sandbox.tmp = Some(self.tmp.get(&program.name, first).map_err(key)?);
        }
        let own = [&program.runtime_directory, &program.state_directory].into_iter().flatten();
        sandbox.writable = own.map(|directory| directory.path.clone()).collect();
        Ok(Some(sandbox))
    }

    /// The command of our command line: with all that we were started with but what is ours.
    fn as_it_is(
        &self,
        entry: &super::command::Entry,
        program: &Program,
        spawn: &Spawn,
    ) -> SpawnSpec {
        let mut spec = SpawnSpec::new(entry.options.command.clone());
        let mut all = self.inherited(&Inherit::All);
        // Sockets that are passed to a service are passed to the command of an image.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(OsString::from) {
            if let Some(value) = self.environment.get(&name) {
                all.insert(name, value.clone());
            }
        }
        all.extend(self.of_the_moment(program, spawn));
        spec.env = all.into_iter().collect();
        spec.open_files = self.open_files;
        spec.as_is = Some(entry.as_is());
        spec
    }

    fn streams(
        &self,
        program: &Program,
        spec: &mut SpawnSpec,
    ) -> Result<Vec<(crate::daemon::logs::Which, OwnedFd)>, SpawnFailure> {
        use crate::daemon::logs::Which;
        let mut pipes = Vec::new();
        match &program.logging.stdout {
            LogTarget::Null => {}
            LogTarget::Inherit => spec.stdout = copy(self.own.0.as_ref())?,
            LogTarget::Console
            | LogTarget::File(_)
            | LogTarget::Stdout
            | LogTarget::Journal
            | LogTarget::Syslog => {
                let (reader, writer) = pipe()?;
                pipes.push((Which::Stdout, reader));
                spec.stdout = Some(writer);
            }
        }
        match &program.logging.stderr {
            LogTarget::Null => {}
            LogTarget::Inherit => spec.stderr = copy(self.own.1.as_ref())?,
            LogTarget::Stdout => spec.stderr = copy(spec.stdout.as_ref())?,
            LogTarget::Console | LogTarget::File(_) | LogTarget::Journal | LogTarget::Syslog => {
                let (reader, writer) = pipe()?;
                pipes.push((Which::Stderr, reader));
                spec.stderr = Some(writer);
            }
        }
        Ok(pipes)
    }

    /// The whole environment of a child: a fixed small set, what is inherited, files, then the
    /// file's own.
    fn environment_of(
        &self,
        program: &Program,
        execution: &Execution,
        user: &RunAs,
        spawn: &Spawn,
    ) -> Result<Vec<(OsString, OsString)>, SpawnFailure> {
        let mut all: BTreeMap<OsString, OsString> = self.inherited(&execution.inherit_environment);
        all.entry("PATH".into()).or_insert_with(|| {
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()
        });
        if let Some(account) = account(user) {
            let Account { name, home, shell, .. } = &**account;
            all.insert("HOME".into(), home.clone().into());
            all.insert("USER".into(), name.as_ref().into());
            all.insert("LOGNAME".into(), name.as_ref().into());
            all.insert("SHELL".into(), shell.clone().into());
        }
        for file in &execution.environment_files {
            match crate::config::read_dotenv(&file.path) {
                Ok(variables) => {
                    all.extend(variables.into_iter().map(|(k, v)| (k.into(), v.into())));
                }
                Err(why) if file.optional && why.is_missing() => {}
                Err(why) => return Err(failure(why.to_string())),
            }
        }
        for (key, value) in &execution.environment {
            all.insert(key.as_ref().into(), value.as_ref().into());
        }
        for (key, value) in variant_of(program, spawn).into_iter().flat_map(|v| &v.environment) {
            all.insert(key.as_ref().into(), value.as_ref().into());
        }
        all.extend(self.of_the_moment(program, spawn));
        Ok(all.into_iter().collect())
    }

    fn inherited(&self, inherit: &Inherit) -> BTreeMap<OsString, OsString> {
        let basic = |key: &OsString| key == "PATH" || key == "LANG";
        let wanted = |key: &OsString| match inherit {
            Inherit::Basic => basic(key),
            Inherit::All => true,
            Inherit::Names(names) => basic(key) || names.iter().any(|name| key == name.as_ref()),
        };
        self.environment
            .iter()
            .filter(|(k, _)| wanted(k) && !OURS.iter().any(|ours| *k == ours))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    /// What only this child has: the marker, and what a `stop_post` command is told.
    fn of_the_moment(&self, program: &Program, spawn: &Spawn) -> Vec<(OsString, OsString)> {
        let marker = format!("{}:{}", self.instance, spawn.run.0);
        let mut some: Vec<(OsString, OsString)> = vec![
            ("SUPERVISOR_RUN".into(), marker.into()),
            ("SUPERVISOR_PROGRAM".into(), program.name.as_str().into()),
        ];
        if let Some(directory) = &program.runtime_directory {
            some.push(("RUNTIME_DIRECTORY".into(), directory.path.clone().into()));
        }
        if let Some(directory) = &program.state_directory {
            some.push(("STATE_DIRECTORY".into(), directory.path.clone().into()));
        }
        if let Some(pid) = spawn.main_pid {
            some.push(("MAINPID".into(), pid.to_string().into()));
        }
        if let Some(EndedAs { result, exit }) = spawn.ended {
            some.push(("SERVICE_RESULT".into(), result.as_str().into()));
            let (code, status) = match exit {
                Some(Exit::Code(code)) => ("exited", code.to_string()),
                Some(Exit::Signal { signal, core: false }) => ("killed", signal.name()),
                Some(Exit::OutOfMemory) => ("killed", Signal::KILL.name()),
                Some(Exit::Signal { signal, core: true }) => ("dumped", signal.name()),
                Some(Exit::Unknown) | None => return some,
            };
            some.push(("EXIT_CODE".into(), code.into()));
            some.push(("EXIT_STATUS".into(), status.into()));
        }
        some
    }
}

/// Directories and stale files, before the first child of an attempt.
fn prepare_ground(program: &Program) -> Result<(), SpawnFailure> {
    let own = |cause: SysError| failure(cause.to_string());
    let owner = ids(&program.execution.user);
    let directories = [&program.runtime_directory, &program.state_directory];
    for OwnedDirectory { path, mode } in directories.into_iter().flatten() {
        files::make_owned_dir(path, mode.0, owner.0, owner.1).map_err(own)?;
    }
    for item in &program.cleanup {
        let _removed = match item {
            Cleanup::Socket(path) => files::remove_stale_socket(path),
            Cleanup::File(path) => files::remove_regular_file(path, owner.0),
        }
        .map_err(own)?;
    }
    Ok(())
}

/// The command of this role, and as whom.
fn command_of<'a>(program: &'a Program, spawn: &Spawn) -> (Vec<String>, &'a RunAs) {
    let user = &program.execution.user;
    let hook = match spawn.role {
        Role::StartPre(index) => program.start_pre.get(index),
        Role::StartPost(index) => program.start_post.get(index),
        Role::StopPost(index) => program.stop_post.get(index),
        Role::Main | Role::StopCommand | Role::ReloadCommand | Role::Probe(_) => None,
    };
    let words = |list: &[Box<str>]| list.iter().map(ToString::to_string).collect::<Vec<String>>();
    if let Some(hook) = hook {
        return (words(&hook.command), hook.user.as_ref().unwrap_or(user));
    }
    let command = match spawn.role {
        Role::StopCommand => program.stop.command.as_deref().map(words),
        Role::ReloadCommand => match &program.reload {
            Some(crate::model::Reload::Command(command)) => Some(words(command)),
            Some(crate::model::Reload::Signal(_)) | None => None,
        },
        Role::Probe(of) => match crate::engine::probe_of(program, of) {
            Some(Probe::Command(command)) => Some(words(command)),
            Some(
                Probe::Http(_) | Probe::Tcp(_) | Probe::Socket(_) | Probe::File(_) | Probe::Log(_),
            )
            | None => None,
        },
        Role::Main | Role::StartPre(_) | Role::StartPost(_) | Role::StopPost(_) => None,
    };
    let mut command = command.unwrap_or_else(|| words(&program.command));
    if spawn.role == Role::Main {
        if let Some(variant) = variant_of(program, spawn) {
            command.extend(words(&variant.args));
        }
        if let Some((_, extra)) = &spawn.variant {
            command.extend(extra.iter().cloned());
        }
    }
    (command, user)
}

/// The variant asked for, or the default one.
fn variant_of<'a>(program: &'a Program, spawn: &Spawn) -> Option<&'a crate::model::Variant> {
    match &spawn.variant {
        Some((name, _)) => program.variants.get(name),
        None => program.variants.values().find(|variant| variant.default),
    }
}

fn account(user: &RunAs) -> Option<&Arc<Account>> {
    match user {
        RunAs::Supervisor { account } => account.as_ref(),
        RunAs::Account(account) => Some(account),
    }
}

fn identity(user: &RunAs) -> Option<Identity> {
    match user {
        RunAs::Supervisor { .. } => None,
        RunAs::Account(account) => {
            Some(Identity { uid: account.uid, gid: account.gid, groups: account.groups.to_vec() })
        }
    }
}

/// Owner and group of what is made for it.
pub(super) fn ids(user: &RunAs) -> (u32, u32) {
    match user {
        RunAs::Supervisor { .. } => {
            (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
        }
        RunAs::Account(account) => (account.uid, account.gid),
    }
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), SpawnFailure> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(no_room)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(no_room)?;
    Ok((spawn::aside(reader), writer))
}

fn copy(fd: Option<&OwnedFd>) -> Result<Option<OwnedFd>, SpawnFailure> {
    fd.map(|fd| fd.try_clone().map_err(no_room)).transpose()
}

pub(super) fn no_room(cause: impl Into<std::io::Error>) -> SpawnFailure {
    let text = format!("making a pipe: {}", cause.into()).into();
    SpawnFailure { text, class: FailureClass::Resources, code: 126 }
}

fn failure(text: String) -> SpawnFailure {
    SpawnFailure { text: text.into(), class: FailureClass::Own, code: 126 }
}

/// A spawn that went wrong, as the engine counts it.
pub(super) fn classify(error: &SpawnError) -> SpawnFailure {
    let class = if error.is_text_busy() {
        FailureClass::Busy
    } else if error.is_transient() {
        FailureClass::Resources
    } else {
        FailureClass::Own
    };
    let not_found =
        std::io::Error::from_raw_os_error(error.errno).kind() == std::io::ErrorKind::NotFound;
    // A path of `hardening` that is missing is not a command that is missing.
    let code = if not_found && error.stage != Stage::Sandbox { 127 } else { 126 };
    SpawnFailure { text: error.to_string().into(), class, code }
}

/// A child that was killed before it could execute, as the engine counts it.
pub(super) fn killed(at: &SpawnError) -> SpawnFailure {
    failure(format!("killed while {at}"))
}

/// Removes the runtime directory of a program that is down.
///
/// # Errors
/// What stood in the way.
pub(super) fn remove_runtime(path: &Path) -> Result<(), SysError> {
    files::remove_dir_tree(path)
}

/// A run as the registry of `sys` knows it.
pub(super) fn key(run: RunId) -> u64 {
    run.0
}

/// For the names of streams in logs.
pub(super) fn colour(name: &Name) -> u8 {
    name.as_str().bytes().fold(7, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte))
}
