//! Waiting until a raise is accepted: by the events of the supervisor, else by what becomes of the
//! file.

use std::{
    io::IsTerminal as _,
    os::{fd::AsFd as _, unix::net::UnixStream},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{
    super::super::{
        Context,
        client::{Client, Seen},
        fail::Failure,
        out::{Out, tell, tell_over},
        render::{self, escape},
    },
    raised::Raised,
    target::{self, Target, Unasked},
};
use crate::{
    control::{
        Empty, LogLine, Reply, Request, SemaphoreName, SemaphoreStatus, SemaphoreWord,
        wire::{Id, Message},
    },
    model::{Human, Instant, WallTime},
    sys::clock,
};

/// How often a line on a terminal is drawn anew, and it is looked whether somebody takes notice.
const TICK: Duration = Duration::from_secs(1);
/// How long it may take until it is said that the supervisor is waited for.
const SETTLED: Duration = Duration::from_millis(300);

/// What became of it.
#[derive(Debug)]
pub(super) enum Ended {
    Accepted,
    /// Its file was removed, which is the word of whoever cannot be asked.
    Removed,
    /// Accepted, but it cannot be done.
    NotDone(String),
    Refused(String),
    Cancelled(String),
    /// In its place is something that the supervisor does not trust.
    Foreign(String),
    TimedOut,
    Interrupted,
    /// It is taken for the raise before, which was served: nobody hears of ours.
    Unseen,
}

/// What is waited for, and for how long.
pub(super) struct Waiting<'a> {
    pub(super) target: &'a Target,
    pub(super) what: &'a str,
    pub(super) deadline: Option<Instant>,
    pub(super) interrupts: &'a UnixStream,
    pub(super) context: &'a Context,
    pub(super) voice: Voice,
}

/// The events of a supervisor, and a second connection for questions.
pub(super) struct Follow {
    events: Client,
    id: u64,
    ask: Client,
}

/// How the following went.
enum Way {
    Over(Ended),
    /// The supervisor has ended.
    Lost,
}

impl Waiting<'_> {
    /// Follows the supervisor that `ask` speaks to, if it lets us; else why not.
    pub(super) fn follow(&self, ask: Client) -> Result<Result<Follow, Unasked>, Failure> {
        let mut events = self.context.client()?;
        let lost =
            |e: std::io::Error| Failure::new(1, "lost", format!("cannot {}: {e}", self.what));
        events.interrupted_by(self.interrupts).map_err(lost)?;
        let name = self.target.name.clone();
        let id = events.send(&Request::FollowSemaphore(SemaphoreName { name }))?;
        // Its answer comes after the refusal to follow, if there is one.
        let begun = events.send(&Request::Version(Empty {}))?;
        let mut follow = Follow { events, id, ask };
        loop {
            match follow.events.next(Some(TICK * 10))? {
                Seen::Message(Message::Reply(Id::Number(n), Reply::Error(_))) if n == id => {
                    return Ok(Err(Unasked::Forbidden));
                }
                Seen::Message(Message::Reply(Id::Number(n), _)) if n == begun => {
                    return Ok(Ok(follow));
                }
                Seen::Message(_) => {}
                Seen::Timeout | Seen::Interrupted | Seen::Closed => {
                    return Err(follow.events.lost("it does not answer"));
                }
            }
        }
    }

    /// Waits until it is over.
    pub(super) fn until_over(
        &mut self,
        raised: &Raised<'_>,
        since: WallTime,
        mut follow: Option<Follow>,
    ) -> Result<Ended, Failure> {
        loop {
            if let Some(mut follow) = follow.take() {
                match self.by_events(&mut follow, since)? {
                    Way::Over(ended) => return Ok(ended),
                    Way::Lost => {
                        self.voice.say("the supervisor has ended: waiting for another one");
                    }
                }
            }
            match self.by_file(raised)? {
                Ok(ended) => return Ok(ended),
                Err(found) => follow = Some(found),
            }
        }
    }

    /// Waits until the raise before ours is over.
    pub(super) fn after_the_one_before(&mut self) -> Result<Option<Follow>, Failure> {
        let mut ask = self.context.client()?;
        loop {
            let status = target::status(&mut ask, self.what, &self.target.name)?;
            if status.state != SemaphoreWord::Raised || self.left() == Some(Duration::ZERO) {
                return Ok(self.follow(ask)?.ok());
            }
            poll(&mut [], PollTimeout::from(50_u8)).unwrap_or_default();
        }
    }

    fn by_events(&mut self, follow: &mut Follow, since: WallTime) -> Result<Way, Failure> {
        let subject = format!("semaphore:{}", self.target.name);
        let mut heard = self.show(follow, false)?;
        // What is accepted at once is no news while it is not.
        let mut tick = Some(SETTLED);
        loop {
            let patience = [tick, self.left()].into_iter().flatten().min();
            match follow.events.next(patience)? {
                Seen::Message(Message::Lines(Id::Number(n), lines, _)) if n == follow.id => {
                    let of_it = |line: &&LogLine| line.name == subject && line.at >= since;
                    for line in lines.iter().filter(of_it) {
                        heard = true;
                        if let Some(ended) = over(line) {
                            let ended = follow.whether_done(ended, &subject, self)?;
                            return Ok(Way::Over(ended));
                        }
                    }
                    self.show(follow, false)?;
                }
                Seen::Timeout if self.left() == Some(Duration::ZERO) => {
                    return Ok(Way::Over(Ended::TimedOut));
                }
                Seen::Timeout => {
                    let status = target::status(&mut follow.ask, self.what, &self.target.name)?;
                    if !heard && is_served(&status) {
                        // Ours, if it was done since: of one that started meanwhile.
                        let ours = status.last_raised.is_some_and(|at| at >= since);
                        return Ok(Way::Over(if ours { Ended::Accepted } else { Ended::Unseen }));
                    }
                    self.show(follow, true)?;
                    tick = (!heard || self.voice.live).then_some(TICK);
                }
                Seen::Interrupted => return Ok(Way::Over(Ended::Interrupted)),
                Seen::Closed => return Ok(Way::Lost),
                Seen::Message(_) => {}
            }
        }
    }

    /// Shows how it stands, `late` also if there is nothing to tell; whether it is pending.
    fn show(&mut self, follow: &mut Follow, late: bool) -> Result<bool, Failure> {
        let status = target::status(&mut follow.ask, self.what, &self.target.name)?;
        let is_pending = status.state == SemaphoreWord::Pending;
        if is_pending || late {
            self.voice.say(&pending(&status));
        }
        Ok(is_pending)
    }

    /// Until the file is removed or replaced, or a supervisor is found.
    fn by_file(&mut self, raised: &Raised<'_>) -> Result<Result<Ended, Follow>, Failure> {
        let path = &self.target.path;
        self.voice.say(match self.target.unasked {
            Some(Unasked::Forbidden) => {
                "raised; the supervisor may not be asked: waiting until its file is removed"
            }
            Some(Unasked::NoneRuns) | None => {
                "raised; no supervisor runs: waiting until its file is removed"
            }
        });
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_CREATE;
        let directory = path.parent().unwrap_or(path);
        // Where the kernel does not tell, it is looked at every second.
        let watched = inotify.as_ref().filter(|i| i.add_watch(directory, gone).is_ok());
        loop {
            if !raised.is_there() {
                return Ok(Ok(Ended::Removed));
            }
            if self.left() == Some(Duration::ZERO) {
                return Ok(Ok(Ended::TimedOut));
            }
            let mut fds = vec![PollFd::new(self.interrupts.as_fd(), PollFlags::POLLIN)];
            fds.extend(watched.map(|i| PollFd::new(i.as_fd(), PollFlags::POLLIN)));
            let patience = self.left().map_or(TICK, |left| left.min(TICK));
            let patience = PollTimeout::try_from(patience + Duration::from_millis(1));
            // EINTR: whatever came is ready at the next turn.
            poll(&mut fds, patience.unwrap_or(PollTimeout::MAX)).unwrap_or_default();
            if fds.first().and_then(PollFd::any) == Some(true) {
                return Ok(Ok(Ended::Interrupted));
            }
            drop(fds);
            watched.map(Inotify::read_events);
            if self.target.unasked != Some(Unasked::Forbidden)
                && raised.is_there()
                && let Ok(ask) = self.context.client()
                && let Ok(follow) = self.follow(ask)?
            {
                return Ok(Err(follow));
            }
        }
    }

    fn left(&self) -> Option<Duration> {
        self.deadline.map(|at| at.since(clock::monotonic()))
    }
}

impl Follow {
    /// What is accepted may turn out to be impossible at once: that is told right behind.
    fn whether_done(
        &mut self,
        ended: Ended,
        subject: &str,
        waiting: &Waiting<'_>,
    ) -> Result<Ended, Failure> {
        if !matches!(ended, Ended::Accepted) {
            return Ok(ended);
        }
        // An answer comes after all that was told before the question.
        target::status(&mut self.ask, waiting.what, &waiting.target.name)?;
        while let Seen::Message(message) = self.events.next(Some(Duration::ZERO))? {
            let Message::Lines(_, lines, _) = message else { continue };
            let failed = |line: &LogLine| line.name == subject && line.source == "semaphore.failed";
            if let Some(line) = lines.into_iter().find(failed) {
                return Ok(Ended::NotDone(line.text));
            }
        }
        Ok(ended)
    }
}

/// What an event ends it with.
fn over(line: &LogLine) -> Option<Ended> {
    let text = |prefix: &str| line.text.strip_prefix(prefix).unwrap_or(&line.text).to_owned();
    match line.source.as_str() {
        "semaphore.acted" => Some(Ended::Accepted),
        "semaphore.refused" => Some(Ended::Refused(text("refused: "))),
        "semaphore.cancelled" => Some(Ended::Cancelled(text("cancelled: "))),
        "semaphore.foreign" => {
            Some(Ended::Foreign(text("nothing is done, as it is no longer ours: ")))
        }
        _ => None,
    }
}

/// It was done, and we hold it, of which nobody has told: it was done for the one before us.
fn is_served(status: &SemaphoreStatus) -> bool {
    let own = std::process::id();
    status.state == SemaphoreWord::Raised && status.holders.iter().any(|one| one.pid == own)
}

/// `raised; restart:web in 2s (debounce)`.
fn pending(status: &SemaphoreStatus) -> String {
    match (status.state, status.next_in_s, &status.waits_for) {
        (SemaphoreWord::Pending, Some(left), Some(why)) => {
            let left = Duration::try_from_secs_f64(left).unwrap_or_default();
            // Whole seconds, as they are counted down.
            let half = Duration::from_millis(500);
            let left = Duration::from_secs((left + half).as_secs().max(1));
            format!("raised; {} in {} ({why})", status.action, Human(left))
        }
        (SemaphoreWord::Unknown, ..) => {
            format!("raised; the supervisor cannot tell: {}", status.reason)
        }
        _ => "raised; waiting for the supervisor".to_owned(),
    }
}

/// What is said meanwhile, on standard error: one line that is written over on a terminal, else a
/// line whenever it is another one.
pub(super) struct Voice {
    name: String,
    live: bool,
    quiet: bool,
    /// Without its time, which changes always.
    said: String,
    drawn: bool,
}

impl Voice {
    pub(super) fn new(name: &str, out: &Out) -> Self {
        let live = std::io::stderr().is_terminal() && !out.json;
        Self { name: name.into(), live, quiet: out.json, said: String::new(), drawn: false }
    }

    fn say(&mut self, text: &str) {
        // That it is pending is said once, whatever is left of the time.
        let kind = text.split(" in ").next().unwrap_or_default();
        if self.live {
            self.over(text);
        } else if !self.quiet && kind != self.said {
            tell(&escape(&format!("{}: {text}", self.name)));
        }
        kind.clone_into(&mut self.said);
    }

    fn over(&mut self, text: &str) {
        let view = render::View { width: Out::stderr_width(), ..render::View::default() };
        tell_over(&view.cut(1, &escape(&format!("{}: {text}", self.name))));
        self.drawn = true;
    }

    pub(super) fn end(&mut self) {
        if self.drawn {
            tell_over("");
            self.drawn = false;
        }
    }
}
