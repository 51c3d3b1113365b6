//! Doing what the plan says: commands, directories, files.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    step::{Action, Whose},
    unit,
};
use crate::{
    cli::{Context, out::Out, verbs},
    config::Accounts as _,
    daemon,
    model::Exit,
    sys::{
        command::{self, Finished},
        directory::{self, Ownership},
        files, user,
    },
};

/// Where commands are looked for, whatever our own PATH is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a command that makes an account may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a command's complaints that are shown.
const LINES: usize = 3;

/// Whoever carries out actions: the host, or a test.
pub(super) trait Hands {
    /// Does it. A failure is told without naming the action.
    fn perform(&mut self, action: &Action) -> Result<(), String>;
}

/// This host.
pub(super) struct Host<'a> {
    context: &'a Context,
}

impl<'a> Host<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context }
    }
}

impl Hands for Host<'_> {
    fn perform(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::MakeUser { name, commands } => make_user(name, commands),
            Action::Command { words, limit } => succeed(words, *limit),
            Action::MakeDirectory { path, whose } => {
                directory::make(path, ownership(whose)?).map(drop).map_err(|e| cause(&e))
            }
            Action::SetDirectory { path, whose, from } => {
                let from: Vec<u32> = from
                    .iter()
                    .filter_map(|name| daemon::Host.user(name))
                    .map(|account| account.uid)
                    .collect();
                directory::set(path, ownership(whose)?, &from).map(drop).map_err(|e| cause(&e))
            }
            Action::SetFiles { path, mode } => {
                directory::set_files(path, mode.0).map(drop).map_err(|e| cause(&e))
            }
            Action::Write { path, text } => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(|e| e.to_string())?;
                }
                files::replace_file(path, text.as_bytes(), 0o644).map_err(|e| cause(&e))
            }
            Action::Remove { path } => remove(path),
            Action::Shutdown => {
                // What it prints is about the programs that stop, and goes to standard error.
                let mut out = Out::new(false, true);
                verbs::shutdown(self.context, &mut out).map(drop).map_err(|f| f.message)
            }
        }
    }
}

/// Why, without what: that stands before it.
fn cause(error: &crate::sys::SysError) -> String {
    error.cause.to_string()
}

fn make_user(name: &str, commands: &[Vec<String>]) -> Result<(), String> {
    for words in commands {
        let made = succeed(words, PATIENCE);
        // Somebody was faster.
        if made.is_err() && user::user(name) != Ok(None) {
            return Ok(());
        }
        made.map_err(|why| format!("{}: {why}", words.first().map_or("", String::as_str)))?;
    }
    Ok(())
}

/// Somebody may have replaced it since we looked.
fn remove(path: &Path) -> Result<(), String> {
    let text = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| e.to_string())?,
    };
    if unit::written_for(&String::from_utf8_lossy(&text)).is_none() {
        return Err("it is not ours any more".to_owned());
    }
    files::remove_regular_file(path, 0).map(drop).map_err(|e| cause(&e))
}

/// Runs a command, which has to succeed.
fn succeed(words: &[String], limit: Duration) -> Result<(), String> {
    let finished = run(words, limit)?;
    let Some(exit) = finished.exit else {
        return Err(format!("it did not end within {} s and was killed", limit.as_secs()));
    };
    if exit == Exit::Code(0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    let lines: Vec<&str> =
        said.lines().map(str::trim).filter(|l| !l.is_empty()).take(LINES).collect();
    if lines.is_empty() {
        Err(exit.to_string())
    } else {
        Err(format!("{exit}: {}", lines.join("; ")))
    }
}

/// Runs a command to its end, whatever that is.
pub(super) fn run(words: &[String], limit: Duration) -> Result<Finished, String> {
    let fixed =
        [("PATH", PATH), ("LANG", "C.UTF-8"), ("SYSTEMD_PAGER", ""), ("SYSTEMD_COLORS", "0")];
    let env = fixed.map(|(name, value)| (name.into(), value.into()));
    let argv: Vec<OsString> = words.iter().map(Into::into).collect();
    command::run(argv, env.into(), limit).map_err(|e| cause(&e))
}

/// The file of a command.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let mut places = PATH.split(':').map(|dir| Path::new(dir).join(name));
    places.find(|path| {
        fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

fn ownership(whose: &Whose) -> Result<Ownership, String> {
    daemon::Host.ownership(Some(&whose.owner), whose.group.as_deref(), whose.mode)
}
