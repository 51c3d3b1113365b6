//! `ps` and `kill-all`: who is alive of what the supervisor has started, and the end of all of it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{
        Context,
        client::Client,
        fail::{Failure, NO_SUPERVISOR},
        options::PsArgs,
        out::{Out, tell},
        render,
    },
    change::{Ended, agreed, can_be_asked, wait},
    unexpected, unsupervised,
};
use crate::control::{KillAll, KillReport, ProcessList, ProcessesQuery, Reply, Request};

/// For how long the processor is measured before everybody is ended.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often they are shown at the most.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn ps(args: PsArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = "list the processes";
    let request = Request::Processes(ProcessesQuery { names: args.names, orphans: args.orphans });
    let mut client = context.client()?;
    if args.watch {
        return watch(&mut client, what, &request, args.interval.max(SHORTEST), out);
    }
    let (list, shares) = measured(&mut client, what, &request, args.interval)?;
    if list.processes.is_empty() && !out.json {
        tell(if args.orphans { "no orphans" } else { "no processes" });
        return Ok(0);
    }
    print(&list, &shares, out);
    Ok(0)
}

fn print(list: &ProcessList, shares: &BTreeMap<u32, f64>, out: &mut Out) {
    if out.json {
        out.print_json(&with_shares(list, shares));
    } else {
        out.print(&render::processes(list, shares, out.view()));
    }
}

/// Until nobody reads it, or the supervisor is gone.
fn watch(
    client: &mut Client,
    what: &str,
    request: &Request,
    interval: Duration,
    out: &mut Out,
) -> Result<u8, Failure> {
    let mut before = ask(client, what, request)?;
    while !out.is_closed() {
        pause(interval);
        let now = ask(client, what, request)?;
        let shares = render::shares(&before, &now);
        if Out::is_terminal() && !out.json {
            out.print("\x1b[H\x1b[2J");
        }
        print(&now, &shares, out);
        before = now;
    }
    Ok(0)
}

fn pause(time: Duration) {
    let (_never, timer) = crossbeam_channel::bounded::<()>(1);
    timer.recv_timeout(time).ok();
}

/// Asks twice: how much of a processor somebody uses is seen in a while only.
fn measured(
    client: &mut Client,
    what: &str,
    request: &Request,
    interval: Duration,
) -> Result<(ProcessList, BTreeMap<u32, f64>), Failure> {
    let first = ask(client, what, request)?;
    if interval.is_zero() || first.processes.is_empty() {
        let shares = render::shares(&ProcessList::default(), &first);
        return Ok((first, shares));
    }
    pause(interval);
    let second = ask(client, what, request)?;
    let shares = render::shares(&first, &second);
    Ok((second, shares))
}

fn ask(client: &mut Client, what: &str, request: &Request) -> Result<ProcessList, Failure> {
    let Reply::Processes(list) = client.ask(what, request)? else {
        return Err(unexpected(what));
    };
    Ok(*list)
}

/// The list, with `cpu_percent` in each process.
fn with_shares(list: &ProcessList, shares: &BTreeMap<u32, f64>) -> serde_json::Value {
    let mut document = serde_json::to_value(list).unwrap_or_default();
    let all = document.get_mut("processes").and_then(serde_json::Value::as_array_mut);
    for (value, one) in all.into_iter().flatten().zip(&list.processes) {
        let share = shares.get(&one.pid).copied().unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("cpu_percent".to_owned(), ((share * 10.0).round() / 10.0).into());
        }
    }
    document
}

pub(super) fn kill_all(yes: bool, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = "kill all";
    let mut client = match context.client() {
        Ok(client) => client,
        Err(failure) if failure.exit == NO_SUPERVISOR => {
            return unsupervised::kill_all(failure, yes, context, out);
        }
        Err(failure) => return Err(failure),
    };
    let preview = Request::KillAll(KillAll { dry_run: true, confirmed: false });
    let (list, shares) = measured(&mut client, what, &preview, INTERVAL)?;
    if list.processes.is_empty() && list.waiting.is_empty() {
        return Ok(nothing(out));
    }
    if show(&list, &shares, context, out) {
        return Ok(0);
    }
    client.catch_interrupts().map_err(|e| client.lost(&e.to_string()))?;
    if !yes && !agreed_to(&list, Some(&client), out) {
        return Err(refused());
    }
    let order = Request::KillAll(KillAll { dry_run: false, confirmed: true });
    match wait(&mut client, &order, what, out)? {
        Ended::Killed(report) => finish(&report, out),
        Ended::Refused(refusal) => Err(Failure::refused(what, refusal)),
        Ended::Outcome(_) => Err(unexpected(what)),
        Ended::Detached => {
            Err(Failure::new(1, "detached", "the operation continues").hint("see supervisor ps"))
        }
    }
}

/// Nobody is there, which is what was asked for.
pub(super) fn nothing(out: &mut Out) -> u8 {
    if out.json {
        out.print_json(&KillReport { schema_version: 1, ..KillReport::default() });
    } else {
        tell("nothing to kill");
    }
    0
}

/// Lists who is to end; whether that was all that was asked for.
pub(super) fn show(
    list: &ProcessList,
    shares: &BTreeMap<u32, f64>,
    context: &Context,
    out: &mut Out,
) -> bool {
    let dry_run = context.global.dry_run;
    if out.json {
        if dry_run {
            out.print_json(&with_shares(list, shares));
        }
        return dry_run;
    }
    if !list.processes.is_empty() {
        out.print(&render::processes(list, shares, out.view()));
    }
    for name in &list.waiting {
        out.print(&format!("{}: no process, would start by itself\n", render::escape(name)));
    }
    dry_run
}

/// Asks; what nobody was shown nobody is asked about.
pub(super) fn agreed_to(list: &ProcessList, client: Option<&Client>, out: &Out) -> bool {
    !out.json && agreed("", &question(list), client)
}

pub(super) fn refused() -> Failure {
    let why = if can_be_asked() { "" } else { ", and there is no terminal to ask on" };
    let text = format!("cannot kill all: not confirmed{why}");
    Failure::new(1, "needs_confirmation", text).hint("say --yes to do it")
}

fn question(list: &ProcessList) -> String {
    let all = u64::try_from(list.processes.len()).unwrap_or(u64::MAX).saturating_add(list.unlisted);
    match all {
        0 => "stop these programs?".to_owned(),
        1 => "end this process?".to_owned(),
        n => format!("end these {n} processes?"),
    }
}

/// 0 only when nothing is left.
pub(super) fn finish(report: &KillReport, out: &mut Out) -> Result<u8, Failure> {
    let is_done = report.left.is_empty() && report.programs.is_empty();
    if out.json {
        out.print_json(report);
        return Ok(u8::from(!is_done));
    }
    out.print(&render::killed(report));
    if is_done {
        return Ok(0);
    }
    let text = format!("cannot kill all: still there: {}", render::left(report));
    Err(Failure::new(1, "left", text).hint("supervisor ps shows them; supervisor status says why"))
}
