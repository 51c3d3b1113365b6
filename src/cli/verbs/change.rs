//! `start`, `stop`, `restart`: the request, the progress while it waits, the summary.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    time::Duration,
};

use super::{
    super::{
        Context,
        client::{Client, Seen},
        fail::Failure,
        options::{ChangeArgs, RestartArgs, StartArgs, StopArgs},
        out::{Out, tell, tell_over},
        render,
    },
    touched, unexpected,
};
use crate::{
    control::{
        Change, KillReport, LogLine, Outcome, ProgramStatus, Refusal, RefusalCode, Reply, Request,
        StateWord,
        wire::{Id, Message},
    },
    model::Instant,
    sys::clock,
};

pub(super) fn start(args: StartArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let change =
        Change { variant: args.variant, extra_args: args.args, ..change(args.change, context) };
    run("start", Request::Start, change, context, out)
}

pub(super) fn stop(args: StopArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    run("stop", Request::Stop, end(args, context), context, out)
}

pub(super) fn restart(args: RestartArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let change = Change { variant: args.variant, extra_args: args.args, ..end(args.stop, context) };
    run("restart", Request::Restart, change, context, out)
}

fn end(args: StopArgs, context: &Context) -> Change {
    Change { confirmed: args.yes, force: args.force, ..change(args.change, context) }
}

fn change(args: ChangeArgs, context: &Context) -> Change {
    Change {
        names: args.names.names,
        no_wait: args.no_wait,
        dry_run: context.global.dry_run,
        timeout: args.timeout,
        ..Change::default()
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
            let dry_run = make(Change { dry_run: true, ..change.clone() });
            let touched =
                if can_be_asked() { processes_of(&mut client, &dry_run) } else { String::new() };
            if !agreed(&touched, &refusal.message, Some(&client)) {
                let text = format!("cannot {what}: not confirmed: {}", refusal.message);
                return Err(Failure::new(1, "needs_confirmation", text).hint("say --yes to do it"));
            }
            wait(&mut client, &make(Change { confirmed: true, ..change }), &what, out)?
        }
        ended @ (Ended::Refused(_) | Ended::Outcome(_) | Ended::Killed(_) | Ended::Detached) => {
            ended
        }
    };
    match ended {
        Ended::Refused(refusal) => Err(Failure::refused(&what, refusal)),
        Ended::Killed(_) => Err(unexpected(&what)),
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

/// How a change has ended.
pub(super) enum Ended {
    Outcome(Outcome),
    Killed(Box<KillReport>),
    Refused(Refusal),
    /// Somebody has interrupted the waiting.
    Detached,
}

/// Sends a change and shows what it waits for.
pub(super) fn wait(
    client: &mut Client,
    request: &Request,
    what: &str,
    out: &Out,
) -> Result<Ended, Failure> {
    let id = client.send(request)?;
    let mut progress = Progress::new(out);
    let ended = loop {
        match client.next(progress.tick())? {
            Seen::Timeout => progress.due(),
            Seen::Interrupted => break Ended::Detached,
            Seen::Closed => {
                progress.clear();
                return Err(client.lost("it has closed the connection"));
            }
            Seen::Message(Message::Progress(Id::Number(n), programs)) if n == id => {
                progress.take(programs);
            }
            Seen::Message(Message::Lines(Id::Number(n), lines, _)) if n == id => {
                progress.note(&lines);
            }
            Seen::Message(Message::Reply(Id::Number(n), reply)) if n == id => match reply {
                Reply::Outcome(outcome) => break Ended::Outcome(outcome),
                Reply::Error(refusal) => break Ended::Refused(refusal),
                Reply::Done => {
                    break Ended::Outcome(Outcome { complete: true, ..Outcome::default() });
                }
                Reply::Killed(report) => break Ended::Killed(report),
                Reply::Status(_)
                | Reply::Reloaded(_)
                | Reply::Processes(_)
                | Reply::Version(_)
                | Reply::Lines(_) => {
                    progress.clear();
                    return Err(unexpected(what));
                }
            },
            Seen::Message(_) => {}
        }
    };
    let is_complete = match &ended {
        Ended::Outcome(outcome) => outcome.complete,
        Ended::Killed(_) => true,
        Ended::Refused(_) | Ended::Detached => false,
    };
    progress.end(is_complete);
    Ok(ended)
}

/// What a change would end; without that list the question is still a question.
fn processes_of(client: &mut Client, dry_run: &Request) -> String {
    let view = render::View { width: Out::stderr_width(), ..render::View::default() };
    touched::list(client, dry_run, view).unwrap_or_default()
}

/// Whether there is somebody at a terminal.
pub(super) fn can_be_asked() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks on the terminal; without one the answer is no, as it is for Ctrl-C and Ctrl-D.
///
/// `list` stands above the question.
pub(super) fn agreed(list: &str, question: &str, client: Option<&Client>) -> bool {
    if !can_be_asked() {
        return false;
    }
    let question = format!("{list}{} [y/N] ", render::escape(question));
    let mut answer = String::new();
    let mut stderr = std::io::stderr().lock();
    let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    drop(stderr);
    let can_read = |client: &Client| client.can_read(std::io::stdin().as_fd());
    if asked.is_ok() && client.is_none_or(can_read) {
        std::io::stdin().read_line(&mut answer).ok();
    }
    if !answer.ends_with('\n') {
        tell(""); // the terminal has no line end of an answer
    }
    matches!(answer.trim(), "y" | "Y" | "yes")
}

/// How long a state lasts before it is said where lines stay: what is over sooner is no news.
const SETTLED: Duration = Duration::from_millis(200);

/// What is waited for, on standard error: one line that is rewritten on a terminal, where the
/// seconds are counted here; one line a state that lasts elsewhere.
pub(super) struct Progress {
    live: bool,
    quiet: bool,
    programs: BTreeMap<String, Waited>,
    drawn: bool,
}

/// A program that is waited for.
struct Waited {
    status: ProgramStatus,
    /// When that was so.
    at: Instant,
    /// Since when it is in this state.
    since: Instant,
    said: bool,
}

impl Waited {
    fn is_under_way(&self) -> bool {
        matches!(
            self.status.state,
            StateWord::Starting | StateWord::Stopping | StateWord::Waiting | StateWord::Backoff
        )
    }
}

impl Progress {
    pub(super) fn new(out: &Out) -> Self {
        let live = std::io::stderr().is_terminal();
        Self { live: live && !out.json, quiet: out.json, programs: BTreeMap::new(), drawn: false }
    }

    /// When something is to be printed although nothing comes.
    fn tick(&self) -> Option<Duration> {
        let mut open = self.programs.values().filter(|program| program.is_under_way());
        if self.live {
            return open.next().map(|_| Duration::from_secs(1));
        }
        open.any(|program| !program.said && !self.quiet).then_some(SETTLED)
    }

    pub(super) fn take(&mut self, programs: Vec<ProgramStatus>) {
        let now = clock::monotonic();
        for status in programs {
            let name = status.name.clone();
            let before = self.programs.get(&name).filter(|old| {
                old.status.state == status.state && old.status.reason == status.reason
            });
            let (since, said) = before.map_or((now, false), |old| (old.since, old.said));
            self.programs.insert(name, Waited { status, at: now, since, said });
        }
        self.due();
    }

    /// What else is waited for, now that the programs are as they are to be.
    fn note(&mut self, lines: &[LogLine]) {
        self.clear();
        self.programs.clear();
        for line in lines.iter().filter(|_| !self.quiet) {
            tell(&render::escape(&line.text));
        }
    }

    /// Prints what there is to print now.
    fn due(&mut self) {
        if self.live {
            self.redraw();
        } else {
            self.say(SETTLED);
        }
    }

    /// Says what has been so for `least` and was not said.
    fn say(&mut self, least: Duration) {
        let now = clock::monotonic();
        for program in self.programs.values_mut() {
            if program.said || self.quiet || !program.is_under_way() {
                continue;
            }
            if now.since(program.since) >= least {
                program.said = true;
                tell(&render::waiting(&program.status, now.since(program.at)));
            }
        }
    }

    fn redraw(&mut self) {
        let now = clock::monotonic();
        let mut open = self.programs.values().filter(|program| program.is_under_way());
        let text = open.next().map(|p| render::waiting(&p.status, now.since(p.at)));
        let more = open.count();
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        match text {
            Some(text) => {
                self.drawn = true;
                // A line that wraps cannot be written over.
                let view = render::View { width: Out::stderr_width(), ..render::View::default() };
                tell_over(&view.cut(1, &format!("{text}{more}")));
            }
            None => self.clear(),
        }
    }

    /// At the end; what is still waited for is said if it was not.
    pub(super) fn end(&mut self, complete: bool) {
        self.clear();
        if !self.live && !complete {
            self.say(Duration::ZERO);
        }
    }

    fn clear(&mut self) {
        if self.drawn {
            tell_over("");
            self.drawn = false;
        }
    }
}
