//! One function a verb.

mod change;
mod follow;
mod health;
mod processes;
mod semaphore;
mod status;
mod touched;
mod unsupervised;

pub(super) use semaphore::pair as info;
use serde_json::json;

use super::{
    Context,
    fail::{Failure, NO_SUPERVISOR},
    install,
    options::{ReloadArgs, Verb},
    out::Out,
    render, site,
};
use crate::control::{
    Empty, Outcome, ProgramOutcome, ProgramStatus, ReloadSite, Reply, Request, SendSignal,
    StateWord, Targets,
};

/// Does what `verb` says; the exit code.
pub(super) fn run(verb: Verb, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    match verb {
        Verb::Check => site::check(context, out),
        Verb::ShowConfig { origin } => site::show(context, origin, out),
        Verb::Schema => Ok(site::schema(out)),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut super::command(), "supervisor", &mut script);
            out.print(&String::from_utf8_lossy(&script));
            Ok(0)
        }
        Verb::Status(args) => status::status(&args, context, out),
        Verb::Start(args) => change::start(args, context, out),
        Verb::Stop(args) => change::stop(args, context, out),
        Verb::Restart(args) => change::restart(args, context, out),
        Verb::Reload(args) => reload(args, context, out),
        Verb::Reread => {
            reload_site(ReloadSite { dry_run: true, allow_removal: true }, context, out)
        }
        Verb::Signal(args) => {
            let make = |names| Request::Signal(SendSignal { signal: args.signal, names });
            simple("signal", args.names.names, make, context, out)
        }
        Verb::Reset(args) => {
            let make = |names| Request::Reset(Targets { names });
            simple("reset", args.names, make, context, out)
        }
        Verb::Pid { name } => pid(name.as_deref(), context, out),
        Verb::Health { name } => health::health(name.as_deref(), context, out),
        Verb::Ps(args) => processes::ps(args, context, out),
        Verb::KillAll { yes } => processes::kill_all(yes, context, out),
        Verb::Logs(args) => follow::logs(args, context, out),
        Verb::Events { follow } => follow::events(follow, context, out),
        Verb::Shutdown { .. } if context.global.dry_run => {
            touched("shut down", Vec::new(), context, out)
        }
        Verb::Shutdown { force } => follow::shutdown(force, context, out),
        Verb::Version => version(context, out),
        Verb::Semaphore { verb } => semaphore::run(verb, context, out),
        Verb::Doctor => Ok(super::doctor::doctor(context, out)),
        Verb::Install(args) => install::install(args, context, out),
        Verb::Uninstall => install::uninstall(context, out),
    }
}

/// `shutdown`, for those who do more than that.
pub(super) fn shutdown(context: &Context, out: &mut Out) -> Result<u8, Failure> {
    follow::shutdown(false, context, out)
}

/// What is done at once and has no answer but that it is done.
fn simple(
    verb: &str,
    names: Vec<String>,
    make: impl FnOnce(Vec<String>) -> Request,
    context: &Context,
    out: &mut Out,
) -> Result<u8, Failure> {
    let what = format!("{verb} {}", names.join(" "));
    if context.global.dry_run {
        return touched(&what, names, context, out);
    }
    if context.client()?.ask(&what, &make(names))? != Reply::Done {
        return Err(unexpected(&what));
    }
    if out.json {
        out.print_json(&json!({"ok": true}));
    }
    Ok(0)
}

/// A reply that the request does not have: the other side is another version.
fn unexpected(what: &str) -> Failure {
    Failure::new(1, "protocol", format!("cannot {what}: the reply is not of the kind asked for"))
        .hint(super::client::OTHER_VERSION)
}

fn reload(args: ReloadArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    if args.names.is_empty() {
        let dry_run = context.global.dry_run;
        return reload_site(
            ReloadSite { dry_run, allow_removal: args.allow_removal },
            context,
            out,
        );
    }
    let make = |names| Request::ReloadProgram(Targets { names });
    simple("reload", args.names, make, context, out)
}

fn reload_site(request: ReloadSite, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = "reload the site";
    let Reply::Reloaded(difference) = context.client()?.ask(what, &Request::Reload(request))?
    else {
        return Err(unexpected(what));
    };
    for warning in difference.warnings.iter().flat_map(|text| text.lines()) {
        super::out::tell(&render::escape(warning));
    }
    if out.json {
        out.print_json(&difference);
    } else {
        out.print(&render::difference(&difference));
    }
    Ok(0)
}

/// What a change would touch, as `start --dry-run` prints it: with no names, what is up.
fn touched(
    what: &str,
    names: Vec<String>,
    context: &Context,
    out: &mut Out,
) -> Result<u8, Failure> {
    let all = names.is_empty();
    let Reply::Status(site) = context.client()?.ask(what, &Request::Status(Targets { names }))?
    else {
        return Err(unexpected(what));
    };
    let is_down = |s| matches!(s, StateWord::Stopped | StateWord::Exited | StateWord::Fatal);
    let programs = site.programs.into_iter().filter(|p| !all || !is_down(p.state));
    let one = |p: ProgramStatus| ProgramOutcome {
        name: p.name,
        ok: true,
        state: p.state,
        reason: String::new(),
    };
    Ok(change::finish(&Outcome { programs: programs.map(one).collect(), complete: true }, out))
}

fn pid(name: Option<&str>, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = name.map_or_else(|| "show the pid".to_owned(), |n| format!("show the pid of {n}"));
    let request =
        Request::Status(Targets { names: name.iter().map(ToString::to_string).collect() });
    let Reply::Status(site) = context.client()?.ask(&what, &request)? else {
        return Err(unexpected(&what));
    };
    if name.is_none() {
        let pid = site.supervisor.pid;
        if out.json {
            out.print_json(&json!({"schema_version": 1, "pid": pid}));
        } else {
            out.print(&format!("{pid}\n"));
        }
        return Ok(0);
    }
    if out.json {
        let pids = site.programs.iter().map(|p| json!({"name": p.name, "pid": p.pid}));
        out.print_json(&json!({"schema_version": 1, "pids": pids.collect::<Vec<_>>()}));
    } else {
        for pid in site.programs.iter().filter_map(|program| program.pid) {
            out.print(&format!("{pid}\n"));
        }
    }
    let down = site.programs.iter().filter(|program| program.pid.is_none());
    let down: Vec<&str> = down.map(|program| program.name.as_str()).collect();
    if down.is_empty() {
        return Ok(0);
    }
    let text = format!("cannot {what}: not running: {}", down.join(", "));
    Err(Failure::new(1, "not_running", text).hint("supervisor status says why"))
}

fn version(context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let ours = env!("CARGO_PKG_VERSION");
    let what = "ask the supervisor for its version";
    let theirs = match context.client() {
        Ok(mut client) => {
            let Reply::Version(info) = client.ask(what, &Request::Version(Empty {}))? else {
                return Err(unexpected(what));
            };
            Some(info)
        }
        // Which version is installed can be asked whether or not one runs.
        Err(failure) if failure.exit == NO_SUPERVISOR => None,
        Err(failure) => return Err(failure),
    };
    if out.json {
        out.print_json(&json!({"schema_version": 1, "version": ours, "supervisor": theirs}));
        return Ok(0);
    }
    out.print(&format!("supervisor {ours}\n"));
    match theirs {
        Some(info) => {
            let (name, version) = (render::escape(&info.name), render::escape(&info.version));
            out.print(&format!("running: {version}, site {name}, pid {}\n", info.pid));
        }
        None => out.print("running: none\n"),
    }
    Ok(0)
}
