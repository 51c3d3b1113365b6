//! The command line: argv to commands, and what they print.

mod client;
mod doctor;
mod entry;
mod fail;
mod hardening;
mod install;
mod options;
mod out;
mod render;
mod site;
mod tini;
mod usage;
mod verbs;
mod words;

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser as _};

use self::{
    client::Wanted,
    fail::Failure,
    options::{CommandLine, Global, StartOptions, Verb},
    out::Out,
    words::Words,
};
use crate::{
    control::paths::{self, Surroundings},
    daemon::{self, RunOptions},
    model::LogLevel,
    sys::spawn::sandbox,
};

/// What a command knows: the global options and the environment, read once.
#[derive(Clone)]
struct Context {
    global: Global,
    start: StartOptions,
    environment: BTreeMap<OsString, OsString>,
}

/// The definition of the command line: its verbs and options.
#[must_use]
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(sandbox) = sandbox::asked_for(env::args_os()) {
        return sandbox.run();
    }
    let environment: BTreeMap<OsString, OsString> = env::vars_os().collect();
    // Somebody who executes us without any argument, not even our own name, means something else
    // than to start a supervisor.
    let unnamed = env::args_os().next().is_none_or(|name| name.is_empty());
    if unnamed && env::args_os().len() <= 1 {
        let text = "cannot read the command line: it is empty";
        return Failure::new(fail::USAGE, "usage", text).report(&Out::new(false, true));
    }
    let args: Vec<OsString> = env::args_os().collect();
    if let Some((name, words)) = args.split_first().filter(|(name, _)| tini::is_meant(name)) {
        return tini::main(name, words, environment);
    }
    let no_color = environment.get(OsStr::new("NO_COLOR")).is_some_and(|value| !value.is_empty());
    let (ours, command) = divide(&args, &environment);
    let line = match CommandLine::try_parse_from(ours) {
        Ok(line) => line,
        Err(error) => {
            // The command line cannot be read, so neither can its --json: look for the word.
            let json = args.iter().any(|word| word == "--json");
            return usage::report(&error, &mut Out::new(json, no_color));
        }
    };
    let mut out = Out::new(line.global.json, no_color);
    match command {
        Some(words) => entry::run(line, words, environment, &mut out),
        None => run(line, environment, &mut out),
    }
}

/// The words for us, and those of a command, if there is one.
fn divide<'a>(
    args: &'a [OsString],
    environment: &BTreeMap<OsString, OsString>,
) -> (&'a [OsString], Option<&'a [OsString]>) {
    let words = args.get(1..).unwrap_or_default();
    let Words::Command { options, begins, marked } = words::sort(words, &command()) else {
        return (args, None);
    };
    let command = words.get(begins..).unwrap_or_default();
    // A verb that is misspelt starts nothing. In a container it is the image that is wrong, and
    // says so by its exit code.
    let known = |name: &OsString| {
        marked || crate::sys::subreaper::is_init() || entry::is_program(name, environment)
    };
    if !command.first().is_none_or(known) {
        return (args, None);
    }
    (args.get(..=options).unwrap_or_default(), Some(command))
}

/// A verb, or the site in the foreground.
fn run(line: CommandLine, environment: BTreeMap<OsString, OsString>, out: &mut Out) -> ExitCode {
    if let Some(option) = line.command.given() {
        let text = format!("cannot read the command line: {option} is for a command");
        let hint = format!("supervisor {option} … -- CMD");
        return Failure::new(fail::USAGE, "usage", text).hint(hint).report(out);
    }
    let context = Context { global: line.global, start: line.start, environment };
    let verb = if line.test && line.verb.is_none() { Some(Verb::Check) } else { line.verb };
    let Some(verb) = verb else {
        return match context.run_options() {
            Ok(options) => daemon::run(&options),
            Err(failure) => failure.report(out),
        };
    };
    init_log(context.log_level());
    match verbs::run(verb, &context, out) {
        Ok(code) => out.code(code),
        Err(failure) => failure.report(out),
    }
}

fn init_log(level: Option<LogLevel>) {
    let filter = match level.unwrap_or(LogLevel::Warn) {
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warn => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
        LogLevel::Trace => log::LevelFilter::Trace,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(filter).parse_default_env();
    if builder.try_init().is_err() {
        log::debug!("the log is already set up");
    }
}

impl Context {
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from)
    }

    fn log_level(&self) -> Option<LogLevel> {
        let global = &self.global;
        global
            .log_level
            .or(global.quiet.then_some(LogLevel::Error))
            .or(global.verbose.then_some(LogLevel::Debug))
    }

    /// The site file that was named, by option or environment.
    fn config(&self) -> Option<PathBuf> {
        self.global.config.clone().or_else(|| self.path("SUPERVISOR_CONFIG"))
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            uid: nix::unistd::geteuid().as_raw(),
            runtime_directory: self.path("RUNTIME_DIRECTORY"),
            xdg_runtime_dir: self.path("XDG_RUNTIME_DIR"),
            home: self.path("HOME"),
        }
    }

    fn run_options(&self) -> Result<RunOptions, Failure> {
        Ok(RunOptions {
            config: self.config(),
            daemon: (self.start.daemon || self.start.foreground).then_some(self.start.daemon),
            start_timeout: self.start.start_timeout,
            pid_file: self.start.pid_file.clone(),
            log_level: self.log_level(),
            set: self.global.set.clone(),
            dry_run: self.global.dry_run,
            json: self.global.json,
            environment: self.environment.clone(),
            shutdown_timeout: entry::stop_budget(&self.environment)?,
            command: None,
        })
    }

    /// Connects to the supervisor that is meant.
    fn client(&self) -> Result<client::Client, Failure> {
        let surroundings = self.surroundings();
        let socket = self.global.socket.clone().or_else(|| {
            let by_option = self.global.config.is_some();
            self.path("SUPERVISOR_SOCKET").filter(|_| !by_option)
        });
        let config = self.config();
        let sockets = match (&socket, &config) {
            (None, Some(file)) => self.sockets_of(file, &surroundings),
            _ => Vec::new(),
        };
        client::Client::find(&Wanted { socket, config, sockets, surroundings })
    }

    /// Where the socket of the site in `file` can be. A file that cannot be read now may still have
    /// a supervisor that runs: its name is guessed then.
    fn sockets_of(&self, file: &std::path::Path, surroundings: &Surroundings) -> Vec<PathBuf> {
        let Whereabouts { socket, name, dir } = self.whereabouts_of(file);
        if let Some(socket) = socket {
            return vec![socket];
        }
        let dirs = Self::dirs(file, name, dir.as_deref(), surroundings);
        dirs.into_iter().map(|dir| dir.join(paths::SOCKET)).collect()
    }

    fn whereabouts_of(&self, file: &std::path::Path) -> Whereabouts {
        match site::load(self, file, true) {
            Ok(loaded) => Whereabouts {
                socket: loaded.site.supervisor.control.socket.clone(),
                name: Some(loaded.site.supervisor.name.to_string()),
                dir: loaded.site.supervisor.runtime_dir.clone(),
            },
            Err(_) => whereabouts(file),
        }
    }

    /// Where the runtime directory of the site in `file` can be.
    fn runtime_dirs_of(&self, file: &std::path::Path) -> Vec<PathBuf> {
        let surroundings = self.surroundings();
        let Whereabouts { name, dir, .. } = self.whereabouts_of(file);
        Self::dirs(file, name, dir.as_deref(), &surroundings)
    }

    fn dirs(
        file: &std::path::Path,
        name: Option<String>,
        dir: Option<&std::path::Path>,
        surroundings: &Surroundings,
    ) -> Vec<PathBuf> {
        let name = name.unwrap_or_else(|| paths::site_name(file));
        let mut dirs = paths::runtime_dirs(dir, &name, surroundings);
        if dir.is_none() {
            dirs.push(std::path::Path::new("/run").join(paths::PRODUCT).join(&name));
        }
        dirs.dedup();
        dirs
    }
}

/// What of a site file says where its socket is.
#[derive(Default)]
struct Whereabouts {
    socket: Option<PathBuf>,
    name: Option<String>,
    dir: Option<PathBuf>,
}

/// The same from a file with mistakes, so that a supervisor can still be told to stop.
fn whereabouts(file: &std::path::Path) -> Whereabouts {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let root: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
    let Some(supervisor) = root.get("supervisor") else { return Whereabouts::default() };
    let text = |key: &str| supervisor.get(key).and_then(serde_yaml::Value::as_str);
    // A relative path is relative to the file, as in a file without mistakes.
    let base = file.parent().unwrap_or(std::path::Path::new("."));
    let socket = supervisor.get("control").and_then(|control| control.get("socket"));
    Whereabouts {
        socket: socket.and_then(serde_yaml::Value::as_str).map(|path| base.join(path)),
        name: text("name").map(str::to_owned),
        dir: text("runtime_dir").map(|path| base.join(path)),
    }
}
