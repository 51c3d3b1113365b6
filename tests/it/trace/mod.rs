//! The engine as a story: programs, what happens at which time, and what it wants done.
//!
//! A script is a list of words behind a time: `0s boot; 1s exit web 1; 2s gone web; 9s stop web`.
//! Between two times each deadline is delivered when it is due. Children are answered at once (`pid
//! 1, 2, …`) unless the script says `manual`. `exit` ends a main process, `gone` its tree, `end`
//! both; `main` and `nomain` say what is known of its daemon; `web/` is the command beside web;
//! `lock` is a reading of a lock; after `clock` the wall clock goes with the other one.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "helpers of tests"
)]

mod adopted;
mod births;
mod ends;
mod forks;
mod found;
mod hooks;
mod host;
mod kill_all;
mod locks;
mod order;
mod reload;
mod shm;
mod single;
mod stops;
mod summary;
mod windows;
mod wishes;

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use expect_test::Expect;
use mini_supervisor::{
    control::{
        Change, KillAll, Outcome, Peer, ReloadSite, Reply, Request, RequestId, SemaphoreName,
        Shutdown, Targets,
    },
    engine::{
        Action, Actions, Adoptee, Bugs, ChildEvent, Claimed, Engine, Event, FailureClass, Role,
        RunId, SpawnFailure, Surroundings, Told,
    },
    model::*,
};

use crate::site_builder::{name, on, program, site};

struct Story {
    engine: Engine,
    now: Instant,
    wall: i64,
    runs: BTreeMap<String, RunId>,
    pids: u32,
    manual: bool,
    clock: bool,
    requests: u64,
    sites: Vec<Site>,
    text: String,
}

/// Plays `script` on a site of `programs`.
pub(crate) fn play(programs: impl IntoIterator<Item = Program>, script: &str) -> String {
    play_sites(vec![site(programs)], script)
}

/// The same; `load N` reads the N-th site.
pub(crate) fn play_sites(sites: Vec<Site>, script: &str) -> String {
    play_in(false, sites, script)
}

/// The same as process 1 of a container.
fn play_in(is_contained: bool, sites: Vec<Site>, script: &str) -> String {
    let (seed, is_init) = (1, is_contained);
    let around = Surroundings { seed, is_init, is_contained, bugs: Bugs::default() };
    let engine = Engine::new(&sites[0], around, (Instant(0), WallTime(0)));
    let mut story = Story {
        engine,
        now: Instant(0),
        wall: 0,
        runs: BTreeMap::new(),
        pids: 0,
        manual: false,
        clock: false,
        requests: 0,
        sites,
        text: String::new(),
    };
    for part in script.split(';') {
        let mut words = part.split_whitespace().peekable();
        if let Some(at) = words.peek().and_then(|w| moment(w)) {
            words.next();
            story.until(at);
        }
        let words: Vec<&str> = words.collect();
        if !words.is_empty() {
            story.word(&words);
        }
    }
    story.text
}

fn moment(word: &str) -> Option<Instant> {
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(ms) = word.strip_suffix("ms") {
        return number(ms).map(|n| Instant(n * 1_000_000));
    }
    word.strip_suffix('s').and_then(number).map(|n| Instant(n * 1_000_000_000))
}

impl Story {
    fn until(&mut self, at: Instant) {
        let mut turns = 0;
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= at) {
            self.now = self.now.max(due);
            self.give(Event::Deadline);
            turns += 1;
            assert!(turns < 1000, "a busy loop at {:?}:\n{}", self.now, self.text);
        }
        self.now = at;
    }

    fn give(&mut self, event: Event) {
        let mut events = vec![event];
        while !events.is_empty() {
            let mut out = Actions::new();
            let wall = if self.clock { self.wall_time() } else { WallTime(self.wall) };
            self.engine.handle(events.remove(0), self.now, wall, &mut out);
            for action in out.drain() {
                self.act(action, &mut events);
            }
        }
    }

    fn line(&mut self, line: &str) {
        let ms = self.now.0 / 1_000_000;
        let at =
            if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") };
        writeln!(self.text, "{at} {line}").unwrap();
    }

    fn act(&mut self, action: Action, events: &mut Vec<Event>) {
        let of = |story: &Self, id| story.engine.slot(id).unwrap().program.name.to_string();
        let line = match action {
            Action::Spawn(spawn) => {
                let who = of(self, spawn.program);
                let key = if spawn.role == Role::Main { who.clone() } else { format!("{who}/") };
                self.runs.insert(key, spawn.run);
                if !self.manual {
                    self.pids += 1;
                    let what = ChildEvent::Spawned { pid: self.pids };
                    events.push(Event::Child { program: spawn.program, run: spawn.run, what });
                }
                let variant = spawn.variant.map_or(String::new(), |(v, args)| {
                    let args: String = args.iter().map(|arg| format!(" {arg}")).collect();
                    format!(" as {v}{args}")
                });
                format!("  spawn {who} {}{variant}", spawn.role)
            }
            Action::Signal { program, signal, scope, .. } => {
                let scope = format!("{scope:?}").to_lowercase();
                format!("  {signal} to {scope} of {}", of(self, program))
            }
            Action::Tidy { program, run, moment } => {
                let who = program.map_or("site".to_owned(), |id| of(self, id));
                self.runs.insert(format!("{who} shm"), run);
                if !self.manual {
                    events.push(Event::Tidied { program, run });
                }
                format!("  tidy {who} {moment:?}")
            }
            Action::TidyNoMore(_) => "  tidy no more".to_owned(),
            Action::Claim { program, run } => {
                let who = of(self, program);
                self.runs.insert(format!("{who} lock"), run);
                if !self.manual {
                    events.push(Event::Claimed { program, run, what: Claimed::Free });
                }
                format!("  lock {who}")
            }
            Action::Adopt { program, run } => {
                let who = of(self, program);
                self.runs.insert(who.clone(), run);
                format!("  adopt the copy of {who}")
            }
            Action::EndCopies { program, signal, .. } => {
                format!("  {signal} to copies of {}", of(self, program))
            }
            Action::Sign { program, pid } => format!("  sign {} {pid}", of(self, program)),
            Action::Unclaim(program) => format!("  unlock {}", of(self, program)),
            Action::Record(record) => record.to_string(),
            Action::Reply(id, reply) => format!("  reply {}: {}", id.0, reply_text(&reply)),
            Action::Await { program, index, .. } => {
                format!("  await {} wait_for[{index}]", of(self, program))
            }
            Action::AwaitNothing(program) => format!("  await nothing for {}", of(self, program)),
            Action::Exit(code) => format!("  EXIT {code}"),
            Action::Load { .. } => "  load".to_owned(),
            Action::Forget(who) => format!("  forget {who}"),
            Action::Reconfigure(program) => format!("  reconfigure {}", of(self, program)),
            Action::ReopenLogs => "  reopen".to_owned(),
            Action::KillAllBegins(id) => format!("  note who is there for {}", id.0),
            Action::EndTheRest(id) => format!("  end the rest for {}", id.0),
            Action::Watch(name, _) => format!("  watch semaphore:{name}"),
            Action::Unwatch(name) => format!("  unwatch semaphore:{name}"),
            Action::Acknowledge { watched, .. } => {
                format!("  acknowledge {}", watched.path.display())
            }
            Action::FindMain { program, .. } => format!("  find {}", of(self, program)),
            Action::EndHost { run, method, end } => {
                self.runs.insert("host".to_owned(), run);
                format!("  {} by {}", end.goal, method.as_str(end.goal))
            }
            Action::EndHostNoMore(_) => "  no more of that method".to_owned(),
            Action::Remember { semaphore, keep, .. } => {
                format!("  remember semaphore:{semaphore}, {keep} times")
            }
            Action::Progress(..) | Action::RemoveRuntime(_) => return,
        };
        self.line(&line);
    }

    fn word(&mut self, words: &[&str]) {
        match words {
            ["boot"] => self.give(Event::Boot),
            ["term"] => self.give(Event::Told(Told::Stop)),
            ["quit"] => self.give(Event::Told(Told::Quit)),
            ["hup"] => self.give(Event::Told(Told::Reload)),
            ["wall", hours] => self.wall += hours.parse::<i64>().unwrap() * 3_600_000,
            ["clock"] => self.clock = true,
            ["zone"] => self.give(Event::Zone(Arc::new(windows::zone()))),
            ["asks"] => {
                let all: Vec<String> =
                    self.engine.semaphore_statuses(self.now).map(|s| s.reason).collect();
                self.line(&all.join("; "));
            }
            ["manual"] => self.manual = true,
            ["auto"] => self.manual = false,
            ["spawned", who] => {
                self.pids += 1;
                self.child(who, ChildEvent::Spawned { pid: self.pids });
            }
            ["fails", who, class] => {
                let class = match *class {
                    "EAGAIN" => FailureClass::Resources,
                    "ETXTBSY" => FailureClass::Busy,
                    _ => FailureClass::Own,
                };
                let text = words[2].into();
                let failure = SpawnFailure { text, class, code: 127 };
                self.child(who, ChildEvent::SpawnFailed(failure));
            }
            ["exit", who, how] => {
                self.child(who, ChildEvent::Exited(exit(how)));
                self.child(who, ChildEvent::Reaped);
            }
            ["main", who, pid] => {
                self.child(who, ChildEvent::Main { pid: pid.parse().unwrap() });
            }
            ["works"] => self.give(Event::HostAnswered(self.runs["host"], Ok(()))),
            ["refuses", why] => {
                self.give(Event::HostAnswered(self.runs["host"], Err((*why).into())));
            }
            ["seen", who, rest @ ..] => {
                self.give(Event::Seen((name(who), crate::semaphore::reading(rest))));
            }
            ["nomain", who, why] => self.child(who, ChildEvent::NoMain((*why).into())),
            ["gone", who] => self.child(who, ChildEvent::TreeEmpty),
            ["end", who, how] => {
                self.child(who, ChildEvent::Exited(exit(how)));
                self.child(who, ChildEvent::Reaped);
                self.child(who, ChildEvent::TreeEmpty);
            }
            ["lock", which, what] => self.give(Event::Seen((name(which), locks::reading(what)))),
            ["tidied", who] => {
                let run = self.runs[&format!("{who} shm")];
                let program = self.engine.names().get(*who).copied();
                self.give(Event::Tidied { program, run });
            }
            ["locked", who, how, words @ ..] => {
                let (run, program) = (self.runs[&format!("{who} lock")], self.engine.names()[*who]);
                let text: Arc<str> = words.join(" ").into();
                let what = match *how {
                    "taken" => Claimed::Taken(text),
                    "copies" => Claimed::Copies(text),
                    "copy" => Claimed::Copy(text),
                    "adopted" => {
                        let age = Duration::from_secs(10);
                        Claimed::Adopted(Adoptee { pid: 7, age, who: text })
                    }
                    "failed" => Claimed::Failed(text),
                    _ => Claimed::Free,
                };
                self.give(Event::Claimed { program, run, what });
            }
            ["true", who, index] => {
                let slot = self.engine.slot(self.engine.names()[*who]).unwrap();
                let (program, attempt) = (slot.id, slot.history.attempts);
                let index = index.parse().unwrap();
                self.give(Event::Condition { program, attempt, index });
            }
            ["load", number, rest @ ..] => {
                self.give(Event::Loaded {
                    request: Some(RequestId(100)),
                    site: Arc::new(self.sites[number.parse::<usize>().unwrap()].clone()),
                    dry_run: rest.contains(&"dry"),
                    allow_removal: rest.contains(&"allow"),
                    warnings: Vec::new(),
                });
            }
            ["bad", lines @ ..] => {
                let why = lines.join(" ").replace(" | ", "\n");
                self.give(Event::NotLoaded { request: Some(RequestId(100)), why });
            }
            ["client-gone"] => self.give(Event::RequestGone(RequestId(self.requests))),
            ["state"] => {
                let states: Vec<String> = self
                    .engine
                    .programs()
                    .map(|s| format!("{} {}", s.program.name, s.word().as_str()))
                    .collect();
                self.line(&states.join(", "));
            }
            ["summary"] => {
                let up = self.engine.has_come_up(ReadyWhen::Programs);
                let up = match (up, self.engine.is_coming_up()) {
                    (true, false) => "up",
                    (false, true) => "coming up",
                    (false, false) => "not coming up",
                    (true, true) => "up and coming up",
                };
                self.line(&format!("{} [{up}]", self.engine.summary(self.now, self.wall_time())));
            }
            [verb, names @ ..] => self.request(verb, names),
            [] => {}
        }
    }

    /// The wall clock goes with the other one, besides what the script adds.
    fn wall_time(&self) -> WallTime {
        WallTime(self.wall + i64::try_from(self.now.0 / 1_000_000).unwrap())
    }

    fn request(&mut self, verb: &str, words: &[&str]) {
        let names = words.iter().filter(|w| !w.contains('=') && !w.starts_with("--"));
        let names: Vec<String> = names.map(|w| (*w).to_owned()).collect();
        let value = |key| words.iter().find_map(|w| w.strip_prefix(key));
        let change = Change {
            names: names.clone(),
            no_wait: words.contains(&"--no-wait"),
            force: words.contains(&"--force"),
            dry_run: words.contains(&"--dry-run"),
            timeout: value("timeout=").map(|n| Duration::from_secs(n.parse().unwrap())),
            variant: value("variant=").map(str::to_owned),
            extra_args: value("args=").map(str::to_owned).into_iter().collect(),
            ..Change::default()
        };
        let request = match verb {
            "start" => Request::Start(change),
            "stop" => Request::Stop(change),
            "restart" => Request::Restart(change),
            "reset" => Request::Reset(Targets { names }),
            "reload" => Request::ReloadProgram(Targets { names }),
            "reread" => Request::Reload(ReloadSite { dry_run: true, ..ReloadSite::default() }),
            "kill-all" => {
                let (dry_run, confirmed) = (false, words.contains(&"--yes"));
                Request::KillAll(KillAll { dry_run, confirmed })
            }
            "clear" => {
                Request::ClearSemaphore(SemaphoreName { name: words.first().unwrap().to_string() })
            }
            "shutdown" => Request::Shutdown(Shutdown { force: change.force }),
            other => panic!("no word of a script: {other}"),
        };
        self.requests += 1;
        self.give(Event::Request { id: RequestId(self.requests), peer: Peer::default(), request });
    }

    fn child(&mut self, who: &str, what: ChildEvent) {
        let run = self.runs[who];
        let program = self.engine.names()[&name(who.trim_end_matches('/'))];
        self.give(Event::Child { program, run, what });
    }
}

fn exit(how: &str) -> Exit {
    match how {
        "OOM" => return Exit::OutOfMemory,
        "?" => return Exit::Unknown,
        _ => {}
    }
    how.parse().map_or_else(
        |_| Exit::Signal { signal: Signal::parse(how).unwrap(), core: false },
        Exit::Code,
    )
}

fn reply_text(reply: &Reply) -> String {
    match reply {
        Reply::Outcome(Outcome { programs, complete }) => {
            let one = |p: &mini_supervisor::control::ProgramOutcome| {
                let not = if p.ok { "" } else { "not " };
                format!("{} {} ({not}ok)", p.name, p.state.as_str())
            };
            let all: Vec<String> = programs.iter().map(one).collect();
            format!("{}{}", all.join(", "), if *complete { "" } else { ", incomplete" })
        }
        Reply::Error(refusal) => {
            format!("{} [{}]", refusal.message, refusal.hint.as_deref().unwrap_or(""))
        }
        Reply::Reloaded(difference) => format!("{difference:?}").replace("Difference ", ""),
        Reply::Done => "done".to_owned(),
        Reply::Status(_)
        | Reply::Version(_)
        | Reply::Processes(_)
        | Reply::Killed(_)
        | Reply::Lines(_) => "?".to_owned(),
    }
}

pub(crate) fn check(programs: impl IntoIterator<Item = Program>, script: &str, then: Expect) {
    then.assert_eq(&play(programs, script));
}

pub(crate) fn with(mut p: Program, change: impl FnOnce(&mut Program)) -> Program {
    change(&mut p);
    p
}

pub(crate) fn stop(p: &mut Program, change: impl FnOnce(&mut Stop)) {
    change(Arc::make_mut(&mut p.stop));
}

pub(crate) fn again(p: &mut Program, change: impl FnOnce(&mut Restart)) {
    change(Arc::make_mut(&mut p.restart));
}

pub(crate) fn limit(burst: u32, action: LimitAction) -> Option<StartLimit> {
    let interval = Duration::from_secs(300);
    Some(StartLimit { burst, interval, action, retry_every: Duration::from_secs(60) })
}

pub(crate) fn db_and_web() -> [Program; 2] {
    [program("db"), with(program("web"), |p| p.requires = Box::new([on("db")]))]
}

/// Waits five seconds for a file.
pub(crate) fn waiter() -> Program {
    with(program("web"), |p| {
        p.wait_for = Box::new([WaitFor {
            what: Awaited::File("/x".into()),
            timeout: Limit::After(Duration::from_secs(5)),
        }]);
    })
}
