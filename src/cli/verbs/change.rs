//! `start`, `stop`, `restart`: the request, the progress while it waits, the summary.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use super::{
    super::{
        Context,
        client::{Client, Seen},
        fail::Failure,
        options::{ChangeArgs, StopArgs},
        out::{Out, tell, tell_over},
        render,
    },
    unexpected,
};
use crate::{
    control::{
        Change, Outcome, ProgramStatus, Refusal, RefusalCode, Reply, Request, StateWord,
        wire::{Id, Message},
    },
    model::Instant,
    sys::clock,
};

pub(super) fn start(args: ChangeArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    run("start", Request::Start, change(args, context), context, out)
}

pub(super) fn stop(args: StopArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let change = Change { confirmed: args.yes, ..change(args.change, context) };
    run("stop", Request::Stop, change, context, out)
}

pub(super) fn restart(args: StopArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let change = Change { confirmed: args.yes, ..change(args.change, context) };
    run("restart", Request::Restart, change, context, out)
}

fn change(args: ChangeArgs, context: &Context) -> Change {
    Change {
        names: args.names.names,
        no_wait: args.no_wait,
        force: args.force,
        dry_run: context.global.dry_run,
        timeout: args.timeout,
        variant: args.variant,
        confirmed: false,
        extra_args: Vec::new(),
    }
}

fn run(
    verb: &str,
    make: fn(Change) -> Request,
    change: Change,
    context: &Context,
    out: &mut Out,
) -> Result<u8, Failure> {
    let what = format!("{verb} {}", change.names.join(" "));
    let no_wait = change.no_wait;
    let mut client = context.client()?;
    client.catch_interrupts().map_err(|e| client.lost(&e.to_string()))?;
    let first = wait(&mut client, &make(change.clone()), &what, out)?;
    let ended = match first {
        Ended::Refused(refusal) if refusal.code == RefusalCode::NeedsConfirmation => {
            if !agreed(&refusal) {
                let text = format!("cannot {what}: not confirmed: {}", refusal.message);
                return Err(Failure::new(1, "needs_confirmation", text).hint("say --yes to do it"));
            }
            wait(&mut client, &make(Change { confirmed: true, ..change }), &what, out)?
        }
        ended @ (Ended::Refused(_) | Ended::Outcome(_) | Ended::Detached) => ended,
    };
    match ended {
        Ended::Refused(refusal) => Err(Failure::refused(&what, refusal)),
        Ended::Detached => {
            Err(Failure::new(1, "detached", "the operation continues")
                .hint("see supervisor status"))
        }
        Ended::Outcome(outcome) => {
            let code = finish(&outcome, out);
            if no_wait && !outcome.complete {
                return Ok(0); // it was begun, which is all that was asked
            }
            if !outcome.complete && code != 0 && !out.json {
                tell("hint: the operation continues; see supervisor status");
            }
            Ok(code)
        }
    }
}

/// Prints what became of each program; 0 only if all is as was asked.
pub(super) fn finish(outcome: &Outcome, out: &mut Out) -> u8 {
    if out.json {
        out.print_json(outcome);
    } else {
        out.print(&render::outcome(outcome, out.view()));
    }
    u8::from(outcome.programs.iter().any(|program| !program.ok))
}

enum Ended {
    Outcome(Outcome),
    Refused(Refusal),
    Detached,
}

fn wait(client: &mut Client, request: &Request, what: &str, out: &Out) -> Result<Ended, Failure> {
    let id = client.send(request)?;
    let mut progress = Progress::new(out);
    let ended = loop {
        match client.next(progress.tick())? {
            Seen::Timeout => progress.redraw(),
            Seen::Interrupted => break Ended::Detached,
            Seen::Closed => {
                progress.clear();
                return Err(client.lost("it has closed the connection"));
            }
            Seen::Message(Message::Progress(Id::Number(n), programs)) if n == id => {
                progress.take(programs);
            }
            Seen::Message(Message::Reply(Id::Number(n), reply)) if n == id => match reply {
                Reply::Outcome(outcome) => break Ended::Outcome(outcome),
                Reply::Error(refusal) => break Ended::Refused(refusal),
                Reply::Done => {
                    break Ended::Outcome(Outcome { complete: true, ..Outcome::default() });
                }
                Reply::Status(_) | Reply::Reloaded(_) | Reply::Version(_) | Reply::Lines(_) => {
                    progress.clear();
                    return Err(unexpected(what));
                }
            },
            Seen::Message(_) => {}
        }
    };
    progress.clear();
    Ok(ended)
}

/// Asks on the terminal; without one the answer is no.
fn agreed(refusal: &Refusal) -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let question = format!("{} [y/N] ", render::escape(&refusal.message));
    let mut answer = String::new();
    let mut stderr = std::io::stderr().lock();
    let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    asked.is_ok()
        && std::io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// What is waited for, on standard error: one line that is rewritten on a terminal, where the
/// seconds are counted here; one line a change elsewhere.
struct Progress {
    live: bool,
    quiet: bool,
    programs: BTreeMap<String, (ProgramStatus, Instant)>,
    drawn: bool,
}

impl Progress {
    fn new(out: &Out) -> Self {
        let live = std::io::stderr().is_terminal();
        Self { live: live && !out.json, quiet: out.json, programs: BTreeMap::new(), drawn: false }
    }

    fn tick(&self) -> Option<Duration> {
        (self.live && !self.programs.is_empty()).then_some(Duration::from_secs(1))
    }

    fn take(&mut self, programs: Vec<ProgramStatus>) {
        let now = clock::monotonic();
        for program in programs {
            let before = self.programs.get(&program.name);
            let news = before
                .is_none_or(|(old, _)| old.state != program.state || old.reason != program.reason);
            if news && !self.live && !self.quiet {
                tell(&render::waiting(&program, Duration::ZERO));
            }
            self.programs.insert(program.name.clone(), (program, now));
        }
        self.redraw();
    }

    fn redraw(&mut self) {
        if !self.live {
            return;
        }
        let now = clock::monotonic();
        let under_way = |(p, _): &&(ProgramStatus, Instant)| {
            matches!(
                p.state,
                StateWord::Starting | StateWord::Stopping | StateWord::Waiting | StateWord::Backoff
            )
        };
        let mut open = self.programs.values().filter(under_way);
        let text = open.next().map(|(p, at)| render::waiting(p, now.since(*at)));
        let more = open.count();
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        match text {
            Some(text) => {
                self.drawn = true;
                tell_over(&format!("{text}{more}"));
            }
            None => self.clear(),
        }
    }

    fn clear(&mut self) {
        if self.drawn {
            tell_over("");
            self.drawn = false;
        }
    }
}
