//! `semaphore hold`: a command that runs while a lock is ours, so that scripts exclude each other.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;

use super::{
    super::super::{
        Context,
        fail::{Failure, USAGE},
        options::HoldArgs,
        out::{Out, tell},
        render::escape,
    },
    raise::in_words,
    raised::failure,
    target::{self, Target},
};
use crate::{
    command::{self, Options, Voice},
    model::{Holder, SemaphoreKind},
    sys::{
        flock::{self, Making, NotTaken, Taken},
        subreaper,
    },
};

pub(super) fn hold(args: HoldArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = format!("hold {}", args.name);
    let target = lock(&args.name, &what, context)?;
    if context.global.dry_run {
        let line = shell_words::join(args.command.iter().map(|word| word.to_string_lossy()));
        out.print(&escape(&format!("would lock {} and run {line}", target.path.display())));
        out.print("\n");
        return Ok(0);
    }
    let taken = match flock::take(&target.path, target.making) {
        Err(NotTaken::Held(_)) if !args.no_wait => wait(&target, args.timeout, context),
        taken => taken,
    };
    let taken = taken.map_err(|why| match &why {
        NotTaken::Held(holders) => {
            let text = format!("cannot {what}: {}", held(holders));
            Failure::new(args.conflict_exit_code, "held", text)
        }
        NotTaken::Strange(_) | NotTaken::Failed(_) => failure(&target, &what, &why),
    })?;
    let init = subreaper::is_init();
    let verbosity = match (context.global.quiet, context.global.verbose) {
        (true, _) => 0,
        (_, true) => 2,
        _ => 1,
    };
    let options = Options {
        command: args.command,
        environment: context.environment.clone(),
        job_control: !init,
        // What it leaves behind is left alone, as flock(1) does.
        grace: Duration::ZERO,
        voice: Voice::Ours { verbosity },
        ..Options::default()
    };
    let code = command::run(&options);
    drop::<Taken>(taken);
    Ok(code)
}

/// The lock that is meant: of a semaphore that does nothing, or a file.
fn lock(name: &str, what: &str, context: &Context) -> Result<Target, Failure> {
    if name.contains('/') {
        return Ok(Target::of_path(PathBuf::from(name)));
    }
    let (target, _) = target::find(name, what, context)?;
    if target.kind == SemaphoreKind::File {
        let text = format!("cannot {what}: it is a file that asks by being there, and no lock");
        return Err(Failure::new(USAGE, "usage", text));
    }
    if !target.is_mere_lock() {
        let text = format!("cannot {what}: whoever holds it asks for {}", target.action);
        return Err(Failure::new(USAGE, "usage", text).hint(format!(
            "supervisor semaphore raise {name} asks for it; a lock for scripts has action: none, \
             or is the path of a file: ./{name}.lock"
        )));
    }
    Ok(target)
}

/// Until it is ours, or the time is over.
fn wait(target: &Target, timeout: Option<Duration>, context: &Context) -> Result<Taken, NotTaken> {
    let (path, making) = (target.path.clone(), target.making);
    if !context.global.quiet {
        match flock::take(&path, making) {
            Err(NotTaken::Held(holders)) => {
                tell(&escape(&format!(
                    "supervisor: waiting for {}: {}",
                    target.name,
                    held(&holders)
                )));
            }
            other => return other,
        }
    }
    let Some(timeout) = timeout else { return flock::wait(&path, making) };
    within(timeout, &path, making)
}

/// flock(2) has no timeout: another thread waits. When its time is over it ends with us.
fn within(timeout: Duration, path: &Path, making: Making) -> Result<Taken, NotTaken> {
    let (tell, told) = bounded(1);
    let asked = path.to_owned();
    let waiting = thread::Builder::new().name("lock".into()).spawn(move || {
        // Nobody listens any more: the lock is let go.
        tell.send(flock::wait(&asked, making)).unwrap_or_default();
    });
    let waiting = waiting.map_err(NotTaken::Failed)?;
    match told.recv_timeout(timeout) {
        Ok(taken) => {
            // One thread alone may hold signals back for the command.
            waiting.join().unwrap_or_default();
            taken
        }
        Err(_) => flock::take(path, making),
    }
}

fn held(holders: &[Holder]) -> String {
    match holders {
        [] => "it is held by somebody who cannot be seen from here".to_owned(),
        all => format!("it is held by {}", all.iter().map(in_words).collect::<Vec<_>>().join(", ")),
    }
}
