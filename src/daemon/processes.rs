//! Who is alive of what was started: for `ps`, and for `kill-all`.

use super::Shell;
use crate::{
    control::{
        Kind, ProcessInfo, ProcessList, ProcessesQuery, Refusal, RefusalCode, Reply, RequestId,
        StateWord,
    },
    engine::{RunId, Slot, State},
    model::{Name, WallTime},
    sys::{
        clock,
        tree::{self, Ours, Process},
    },
};

/// So many processes are listed at most.
pub(super) const LISTED_MAX: usize = 4096;
/// So much of command lines stands in one list, in bytes: an answer has to fit into what is kept
/// for a client, and a control character takes six times its room there.
const COMMANDS_MAX: usize = 256 * 1024;
/// As much of a command line at the least.
const COMMAND_LEAST: usize = 64;

/// A process of ours, and what it is to the programs.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) process: Process,
    pub(super) program: Option<Name>,
    pub(super) kind: Kind,
}

impl Shell {
    /// Everybody who is surely ours, those of a program together.
    pub(super) fn members(&mut self) -> Vec<Member> {
        let all = self.trees.everybody(&self.children);
        let mut all: Vec<Member> = all.into_iter().map(|one| self.member(one)).collect();
        all.extend(self.adopted_members());
        let order = |one: &Member| {
            let (nameless, name) = (one.program.is_none(), one.program.clone());
            (nameless, name, one.kind == Kind::Orphan, one.process.start_time, one.process.pid)
        };
        all.sort_by_cached_key(order);
        all
    }

    fn member(&self, one: Ours) -> Member {
        let Ours { run, is_main, process } = one;
        let run = run.map(RunId);
        let program = run.and_then(|run| self.names_of_runs.get(&run).cloned());
        let kind = match run {
            Some(_) if is_main => Kind::Main,
            Some(run) if self.is_held(run) => Kind::Member,
            Some(_) | None => Kind::Orphan,
        };
        Member { process, program, kind }
    }

    /// Whether a program is about this run now.
    fn is_held(&self, run: RunId) -> bool {
        let slot = self.runs.get(&run).and_then(|id| self.engine.slot(*id));
        slot.is_some_and(|slot| slot.holds(run))
    }

    /// Answers `ps`, by a thread.
    pub(super) fn processes_request(&mut self, id: RequestId, query: &ProcessesQuery) {
        match self.processes(query) {
            Ok(all) => self.answer_apart(id, move || Reply::Processes(Box::new(list(&all)))),
            Err(refusal) => self.reply(id, refusal),
        }
    }

    /// A command line is read from the memory of its process, which may wait for a page of its own:
    /// whoever reads it waits as well, so not the loop.
    pub(super) fn answer_apart(
        &mut self,
        id: RequestId,
        answer: impl FnOnce() -> Reply + Send + 'static,
    ) {
        let Some(control) = self.control.clone() else { return };
        let thread = std::thread::Builder::new().name("processes".into());
        if let Err(why) = thread.spawn(move || control.reply(id, answer())) {
            self.reply(id, no_thread(&why));
        }
    }

    fn processes(&mut self, query: &ProcessesQuery) -> Result<Vec<Member>, Reply> {
        self.proc_is_usable("list the processes")?;
        let wanted: Option<Vec<Name>> = if query.names.is_empty() {
            None
        } else {
            let ids = self.engine.select(&query.names)?;
            let slots = ids.iter().filter_map(|id| self.engine.slot(*id));
            Some(slots.map(|slot| slot.program.name.clone()).collect())
        };
        let mut all = self.members();
        all.retain(|one| {
            let is_wanted = wanted.as_ref().is_none_or(|wanted| {
                one.program.as_ref().is_some_and(|program| wanted.contains(program))
            });
            is_wanted && (!query.orphans || one.kind == Kind::Orphan)
        });
        Ok(all)
    }

    /// Programs without a process that start again by themselves.
    pub(super) fn waiting(&self, all: &[Member]) -> Vec<String> {
        let has_none = |slot: &&Slot| {
            let name = &slot.program.name;
            !all.iter().any(|one| one.program.as_ref() == Some(name) && one.kind == Kind::Main)
        };
        let tried_again =
            |slot: &Slot| matches!(slot.state, State::Fatal { retry_at: Some(_), .. });
        let waits = |slot: &&Slot| (!is_down(slot) || tried_again(slot)) && has_none(slot);
        let waiting = self.engine.programs().filter(waits);
        waiting.map(|slot| slot.program.name.as_str().to_owned()).collect()
    }

    pub(super) fn proc_is_usable(&self, what: &str) -> Result<(), Reply> {
        if self.trees.is_usable() {
            return Ok(());
        }
        Err(Reply::Error(Refusal {
            code: RefusalCode::Failed,
            message: format!("without a usable /proc nobody can {what}"),
            hint: Some("mount /proc in the PID namespace of the supervisor".to_owned()),
        }))
    }
}

/// Whether nothing of a program is alive, nor about to be.
pub(super) fn is_down(slot: &Slot) -> bool {
    matches!(slot.word(), StateWord::Stopped | StateWord::Exited | StateWord::Fatal)
}

pub(super) fn no_thread(why: &std::io::Error) -> Reply {
    Reply::Error(Refusal {
        code: RefusalCode::Failed,
        message: format!("cannot start a thread that looks at the processes: {why}"),
        hint: None,
    })
}

pub(super) fn list(all: &[Member]) -> ProcessList {
    ProcessList {
        schema_version: 1,
        clock_s: clock::since_boot().as_secs_f64(),
        processes: infos(all),
        unlisted: u64::try_from(all.len().saturating_sub(LISTED_MAX)).unwrap_or(u64::MAX),
        waiting: Vec::new(),
    }
}

/// What is shown of these, as far as there is room.
pub(super) fn infos(all: &[Member]) -> Vec<ProcessInfo> {
    let mut infos: Vec<ProcessInfo> = all.iter().take(LISTED_MAX).filter_map(info).collect();
    let room = COMMANDS_MAX.checked_div(infos.len()).unwrap_or_default().max(COMMAND_LEAST);
    for one in &mut infos {
        shorten(&mut one.command, room);
    }
    infos
}

/// Leaves so many bytes of a command line.
fn shorten(command: &mut Vec<String>, room: usize) {
    let mut left = room;
    for (index, word) in command.iter_mut().enumerate() {
        let Some(rest) = left.checked_sub(word.len().saturating_add(1)) else {
            let mut end = left.min(word.len());
            while !word.is_char_boundary(end) {
                end = end.saturating_sub(1);
            }
            word.truncate(end);
            word.push('…');
            command.truncate(index.saturating_add(1));
            return;
        };
        left = rest;
    }
}

fn info(one: &Member) -> Option<ProcessInfo> {
    process_info(&one.process, one.program.as_ref(), one.kind)
}

/// What is shown of a process; `None` when it is gone.
#[must_use]
pub fn process_info(process: &Process, program: Option<&Name>, kind: Kind) -> Option<ProcessInfo> {
    let portrait = tree::portrait(process)?;
    let age = clock::since_boot().saturating_sub(process.started_after_boot());
    let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Some(ProcessInfo {
        program: program.map(|name| name.as_str().to_owned()),
        kind,
        pid: process.pid.number(),
        ppid: process.parent(),
        uid: portrait.uid,
        start_ticks: process.start_time,
        started_at: WallTime(clock::wall().0.saturating_sub(millis)),
        age_s: age.as_secs_f64(),
        cpu_usage_ns: process.cpu_ns,
        memory_bytes: process.memory_bytes,
        command: portrait.command,
        name: portrait.name,
    })
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn a_command_line_is_cut_between_characters_and_so_that_it_is_seen() {
        let cut = |words: &[&str], room| {
            let mut command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            shorten(&mut command, room);
            command
        };
        assert_eq!(cut(&["sleep", "1000"], 11), ["sleep", "1000"]);
        assert_eq!(cut(&["sleep", "1000", "x"], 10), ["sleep", "1000…"]);
        assert_eq!(cut(&["sleep", "1000"], 5), ["sleep…"]);
        assert_eq!(cut(&["größe"], 3), ["gr…"]);
        assert_eq!(cut(&["a", "b"], 0), ["…"]);
        assert_eq!(cut(&[], 0), [""; 0]);
        assert_eq!(cut(&["", "", ""], 2), ["", "", "…"]);
    }
}
