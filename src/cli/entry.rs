//! A command on our command line: `supervisor [OPTIONS] [--] CMD [ARG…]`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use super::{
    Context, Verb,
    fail::{self, Failure},
    options::{CommandArgs, CommandLine},
    out::Out,
};
use crate::{
    command::{self, Options, Voice},
    daemon,
    sys::subreaper,
};

/// Whether a program of this name can be executed, as execvp(3) looks for it.
pub(super) fn is_program(name: &OsStr, environment: &BTreeMap<OsString, OsString>) -> bool {
    let executable = |path: &Path| {
        path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
    };
    if name.as_bytes().contains(&b'/') {
        return executable(Path::new(name));
    }
    let path = environment.get(OsStr::new("PATH"));
    path.is_some_and(|path| std::env::split_paths(path).any(|dir| executable(&dir.join(name))))
}

/// Runs the command, alone or beside the programs of a site.
pub(super) fn run(
    line: CommandLine,
    words: &[OsString],
    environment: BTreeMap<OsString, OsString>,
    out: &mut Out,
) -> ExitCode {
    let options = options(&line, words, &environment);
    let context = Context { global: line.global, start: line.start, environment };
    match options {
        Err(failure) => failure.report(out),
        Ok(_) if line.test => match super::verbs::run(Verb::Check, &context, out) {
            Ok(code) => out.code(code),
            Err(failure) => failure.report(out),
        },
        Ok(command) if context.config().is_some() => match context.run_options() {
            Ok(run) => {
                let (command, daemon) = (Some(command), Some(false));
                daemon::run(&daemon::RunOptions { daemon, command, ..run })
            }
            Err(failure) => failure.report(out),
        },
        Ok(options) if context.global.dry_run => {
            let words = options.command.iter().map(|word| word.to_string_lossy());
            let line = shell_words::join(words);
            out.print(&format!("run {line}\n"));
            out.code(0)
        }
        Ok(options) => {
            ExitCode::from(command::run(&Options { environment: context.environment, ..options }))
        }
    }
}

fn options(
    line: &CommandLine,
    words: &[OsString],
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Options, Failure> {
    if words.is_empty() {
        let text = "cannot read the command line: no command behind --";
        return Err(Failure::new(fail::USAGE, "usage", text)
            .hint("supervisor -- CMD ARG…; without a command, leave the -- away"));
    }
    if line.start.daemon {
        let text = "cannot read the command line: a command is run in the foreground, without -d";
        return Err(Failure::new(fail::USAGE, "usage", text)
            .hint("put it among the programs of a site to run it in the background"));
    }
    let init = subreaper::is_init();
    let mut options = Options {
        command: words.to_vec(),
        grace: Options::GRACE,
        subreaper: true,
        job_control: !init,
        ..Options::default()
    };
    let verbosity = super::tini::of_environment(&mut options, environment);
    options.subreaper = true;
    let budget = stop_budget(environment)?;
    let CommandArgs { group, warn, map_exit, grace, stop_timeout, rewrite, parent_death_signal } =
        &line.command;
    options.group |= group;
    options.warn = *warn;
    options.map_exit.clone_from(map_exit);
    options.grace = grace.unwrap_or(options.grace);
    options.stop_timeout =
        stop_timeout.or(budget).or(init.then_some(Options::STOP_TIMEOUT)).filter(|t| !t.is_zero());
    options.rewrite = rewrite.iter().map(|(from, to)| (from.number(), *to)).collect();
    options.parent_death_signal = *parent_death_signal;
    let verbosity = match (line.global.quiet, line.global.verbose) {
        (true, _) => 0,
        (_, true) => verbosity.saturating_add(1),
        _ => verbosity,
    };
    options.voice = Voice::Ours { verbosity };
    Ok(options)
}

/// `$SUPERVISOR_SHUTDOWN_TIMEOUT`: the budget of a stop where there is no file to change.
pub(super) fn stop_budget(
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Option<Duration>, Failure> {
    let Some(value) = environment.get(OsStr::new("SUPERVISOR_SHUTDOWN_TIMEOUT")) else {
        return Ok(None);
    };
    let read = super::options::duration(&value.to_string_lossy());
    read.map(Some).map_err(|why| {
        let text = format!("cannot read $SUPERVISOR_SHUTDOWN_TIMEOUT: {why}");
        Failure::new(fail::USAGE, "usage", text)
    })
}
