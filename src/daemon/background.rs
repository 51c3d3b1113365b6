//! The background: who stays, what it leaves behind, and the last words of the starter.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Shell,
    loader::Loader,
    logs,
    start::{EX_CANNOT, Refusal, RunOptions, refused},
};
use crate::{
    config::{self, LoadOptions, Source},
    model::{Exit, LogTarget, Site},
    sys::{
        SysError,
        daemonize::{self, Fate, Handover, Side, Starter},
        files, signals, stdio, subreaper,
    },
};

/// How long a site may take to come up unless somebody says otherwise.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What the forks, if there were any, have made of this process.
pub(super) enum Part {
    /// It supervises; its starter waits, if there is one. The site file may have been read.
    Supervisor(Option<Background>, Option<Source>),
    /// It ends with this code.
    Starter(Result<u8, Refusal>),
}

/// What only a supervisor in the background has.
pub(super) struct Background {
    pub(super) starter: Handover,
    /// Descriptors of whoever started us, closed when the site file was read (it may be one).
    inherited: Vec<i32>,
}

/// Goes into the background if that is wanted: before there is any thread.
pub(super) fn enter(options: &RunOptions) -> Result<Part, Refusal> {
    if subreaper::is_init() {
        // What the kernel delivers before there is a handler is lost to process 1, and the file may
        // be slow to read.
        signals::install().map_err(refused)?;
    }
    let (wanted, source) = match options.daemon {
        Some(wanted) => (wanted, None),
        None => wanted_by_file(options),
    };
    if !wanted || options.dry_run {
        return Ok(Part::Supervisor(None, source));
    }
    if subreaper::is_init() {
        let text = "supervisor: cannot go into the background: as process 1 its end would end \
                    everything (the container)\nhint: start it without -d, or with -n where the \
                    site says `daemon: true`";
        return Err(Refusal(EX_CANNOT, text.to_owned()));
    }
    let inherited = stdio::inherited();
    match daemonize::fork_twice().map_err(refused)? {
        Side::Daemon(starter) => {
            Ok(Part::Supervisor(Some(Background { starter, inherited }), source))
        }
        Side::Starter(starter) => {
            drop(source);
            Ok(Part::Starter(wait(starter, options.start_timeout.unwrap_or(START_TIMEOUT))))
        }
    }
}

/// Whether the site file wants it, and the file.
fn wanted_by_file(options: &RunOptions) -> (bool, Option<Source>) {
    let load = super::start::load_options(options);
    let path = super::start::site_file(options, &load.current_directory);
    let source = match path {
        Some(path) => config::read(&path, load.uid),
        None => config::read_stdin(),
    };
    // One that cannot be read is said to be so where it is needed.
    let Ok(source) = source else { return (false, None) };
    (config::is_daemon(&source, &load), Some(source))
}

/// What the starter does.
fn wait(mut starter: Starter, within: Duration) -> Result<u8, Refusal> {
    let refusal = |code: u8, why: String, hint: &str| {
        let text = format!("supervisor: cannot start in the background: {why}\nhint: {hint}");
        Err(Refusal(code, text))
    };
    let log = "its log may say more";
    let over = "the site ended before it was up";
    match starter.wait(within) {
        Fate::Up => Ok(0),
        Fate::Ended(code) => Ok(code),
        Fate::Over(code, file) => {
            let hint = file.map_or_else(|| log.to_owned(), |file| format!("its log is {file}"));
            refusal(code.max(EX_CANNOT), over.to_owned(), &hint)
        }
        Fate::Died(None) => refusal(EX_CANNOT, "the daemon ended before it was up".into(), log),
        Fate::Died(Some(exit)) => {
            let code = exit.shell_code();
            let how = match exit {
                Exit::Code(code) => format!("the daemon ended with exit code {code}"),
                Exit::Signal { signal, .. } => format!("{signal} ended the daemon"),
                Exit::OutOfMemory => format!("the daemon was {exit}"),
                Exit::Unknown => format!("the daemon has {exit}"),
            };
            refusal(code.max(EX_CANNOT), format!("{how} before it was up"), log)
        }
        Fate::Late => {
            starter.end();
            let limit = crate::model::Human(within);
            let hint = "--start-timeout gives it longer; `supervisor.ready_when: up` does not wait \
                        for programs";
            refusal(EX_CANNOT, format!("it is not up after {limit}, and was ended"), hint)
        }
        Fate::Told(signal) => {
            starter.end();
            let code = 128_u8.saturating_add(signal.number());
            let hint = "the daemon was ended as well";
            refusal(code, format!("{signal} came before it was up"), hint)
        }
    }
}

impl Background {
    /// The site was read, the lock and the PID file are ours. Leaves what the starter had: its
    /// directory, its descriptors, and standard input, output and error once the logs are open.
    pub(super) fn settle(&mut self, site: &Site, loader: &Loader) -> Result<(), Refusal> {
        match make_log_directory(site, &loader.options) {
            // The logs try again, and what is supervised needs no disk.
            Err(why) if is_of_disk(&why) => {
                self.starter.say(&format!("supervisor: {why}; it is tried again\n"));
            }
            made => made.map_err(refused)?,
        }
        if let Err(why) = logs::try_own_log(&site.supervisor.log, super::start::LOGS) {
            self.starter.say(&format!("supervisor: {why}; it is tried again\n"));
        }
        stdio::close(&std::mem::take(&mut self.inherited));
        std::env::set_current_dir("/")
            .map_err(|why| Refusal::cannot("change to the directory /", why))?;
        stdio::to_null(journal(&loader.options)).map_err(refused)
    }
}

/// Which of standard output and error go to the journal, and so stay as they are.
pub(super) fn journal(options: &LoadOptions) -> (bool, bool) {
    options.environment.get("JOURNAL_STREAM").map_or((false, false), |s| stdio::are_journal(s))
}

/// The directory of the log files, where the site uses it.
fn make_log_directory(site: &Site, options: &LoadOptions) -> Result<(), SysError> {
    let directory = options.log_directory(&site.supervisor.name);
    let targets = site.programs.values().flat_map(|p| [&p.logging.stdout, &p.logging.stderr]);
    let paths = targets.filter_map(|target| match target {
        LogTarget::File(path) => Some(&**path),
        LogTarget::Inherit
        | LogTarget::Null
        | LogTarget::Journal
        | LogTarget::Syslog
        | LogTarget::Stdout
        | LogTarget::Console => None,
    });
    let mut all = paths.chain(site.supervisor.log.file.as_deref());
    if all.any(|path: &Path| path.parent() == Some(&*directory)) {
        files::make_own_dir(&directory, 0o755, options.uid)?;
    }
    Ok(())
}

/// Whether a disk is at fault: it is full, or cannot be written any more.
fn is_of_disk(error: &SysError) -> bool {
    matches!(error.errno(), Some(libc::EROFS | libc::ENOSPC | libc::EDQUOT | libc::EIO))
}

/// In the background a supervisor that nobody could ask is not up.
pub(super) fn refuse_without_socket(shell: &Shell) -> Result<(), Refusal> {
    if shell.control.is_some() {
        return Ok(());
    }
    let events = shell.journal.events();
    let why = events.iter().find(|line| line.text.contains("no control socket"));
    let why = why.map_or("no control socket", |line| &*line.text);
    let hint = "supervisor.runtime_dir and supervisor.control.socket say where it is";
    let text = format!("supervisor: cannot start in the background: {why}\nhint: {hint}");
    Err(Refusal(EX_CANNOT, text))
}

/// The PID file that is wanted; where it is relative, to the directory of the start.
pub(super) fn pid_file(options: &RunOptions, site: &Site, here: &Path) -> Option<PathBuf> {
    let given = options.pid_file.as_ref().map(|path| here.join(path));
    given.or_else(|| site.supervisor.pid_file.clone())
}
