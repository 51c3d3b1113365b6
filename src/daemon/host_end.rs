//! The methods that end the host, carried out: commands as children, the others in threads, as
//! what they do may hang on a disk that has failed.

use std::{ffi::OsString, os::fd::OwnedFd, sync::Arc, thread};

use crossbeam_channel::bounded;

use super::{
    Shell, children,
    input::{self, Input},
};
use crate::{
    engine::{Event, RunId},
    model::{Exit, HostEnd, LogLevel, Method, Semaphore, Signal},
    sys::{
        child::Peeked,
        reboot,
        spawn::{self, Prepared, Report, SpawnSpec},
        subreaper,
    },
};

/// Where their commands are looked for, whatever our own PATH is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Why no command is tried as process 1.
const WE_ARE_INIT: &str = "it asks process 1, which is this supervisor";
/// So much is told of what a command has said.
const MOST: usize = 300;

/// A command that is to end the host.
pub(super) struct Asked {
    prepared: Prepared,
    /// What came of its exec.
    report: OwnedFd,
    /// What it says.
    words: Option<OwnedFd>,
}

impl Shell {
    pub(super) fn end_host(&mut self, run: RunId, method: Method, end: &Arc<HostEnd>) {
        let begun = match method {
            Method::Syscall => self.by_syscall(run, end),
            Method::SysRq => self.by_sysrq(run, end),
            // It would ask us, by a signal that ends us: the kernel panics when process 1 ends.
            Method::Systemctl | Method::Shutdown | Method::Command if subreaper::is_init() => {
                Err(WE_ARE_INIT.into())
            }
            Method::Systemctl | Method::Shutdown | Method::Command => {
                self.by_command(run, method.command(end.goal).unwrap_or_default())
            }
        };
        if let Err(why) = begun {
            self.results.push_back(Event::HostAnswered(run, Err(why)));
        }
    }

    /// Its command is no longer waited for. A thread cannot be ended; its answer comes too late.
    pub(super) fn leave_host(&mut self, run: RunId) {
        if self.asked.remove(&run).is_some() {
            self.children.signal_group(children::key(run), Signal::KILL).ok();
        }
    }

    fn by_command(&mut self, run: RunId, words: &[&str]) -> Result<(), Arc<str>> {
        let told = |e: &dyn std::fmt::Display| Arc::<str>::from(e.to_string());
        let (words_end, writer) = children::pipe().map_err(|e| Arc::clone(&e.text))?;
        let argv = words.iter().map(OsString::from).collect();
        let env = vec![("PATH".into(), PATH.into()), ("LANG".into(), "C.UTF-8".into())];
        let stdout = writer.try_clone().ok();
        let spec = SpawnSpec { env, stdout, stderr: Some(writer), ..SpawnSpec::new(argv) };
        let prepared = Prepared::new(spec).map_err(|e| told(&e))?;
        // Never by vfork: a disk that hangs would hold up the loop, and the methods that need none.
        let (child, report) = spawn::fork(&prepared).map_err(|e| told(&e))?;
        self.children.insert(children::key(run), child);
        self.asked.insert(run, Asked { prepared, report, words: Some(words_end) });
        Ok(())
    }

    fn by_syscall(&self, run: RunId, end: &Arc<HostEnd>) -> Result<(), Arc<str>> {
        let (goal, limit) = (end.goal, end.timeout);
        let kept = self.memory.written();
        self.in_a_thread(run, move || {
            if let Some(kept) = kept {
                kept.recv_timeout(limit / 2).ok();
            }
            let (done, is_done) = bounded(1);
            let writing = thread::Builder::new().name("sync".into()).spawn(move || {
                reboot::write_all();
                done.send(()).ok();
            });
            if writing.is_ok() {
                // A disk that does not take it is no reason to stay.
                is_done.recv_timeout(limit / 2).ok();
            }
            Err(reboot::end_host(goal).to_string().into())
        })
    }

    fn by_sysrq(&mut self, run: RunId, end: &Arc<HostEnd>) -> Result<(), Arc<str>> {
        let keys = end.sysrq.keys(subreaper::is_init());
        if keys.len() < end.sysrq.sequence.len() {
            let text = "sysrq: the keys e and i are left out: they would end us before the last";
            self.note(LogLevel::Warn, text);
        }
        let wait = end.sysrq.wait;
        self.in_a_thread(run, move || {
            reboot::press(&keys, wait).map_err(|e| Arc::from(e.to_string()))
        })
    }

    fn in_a_thread(
        &self,
        run: RunId,
        work: impl FnOnce() -> Result<(), Arc<str>> + Send + 'static,
    ) -> Result<(), Arc<str>> {
        let queue = self.queue.clone();
        let answer = move || {
            let event = Event::HostAnswered(run, work());
            input::send(&queue, Input::Event(Box::new(event)));
        };
        let started = thread::Builder::new().name("host-end".into()).spawn(answer);
        started.map(drop).map_err(|e| format!("no thread can be had: {e}").into())
    }

    /// A child has ended; whether it was one of ours, which nobody waits for but us.
    pub(super) fn host_command_ended(&mut self, run: RunId, peeked: Peeked) -> bool {
        let Some(asked) = self.asked.remove(&run) else { return false };
        let answer = asked.answer(peeked.exit);
        self.results.push_back(Event::HostAnswered(run, answer));
        self.drain_results();
        true
    }

    /// Says what cannot work of the methods that a semaphore may need one day.
    pub(super) fn look_at_methods(&mut self, semaphore: &Semaphore) {
        if reboot::is_contained() {
            return;
        }
        for end in semaphore.ends_of_host() {
            let (goal, missing) = (end.goal, obstacles(end));
            let why: Vec<String> =
                missing.iter().map(|(method, why)| format!("{method} ({why})")).collect();
            let (name, why) = (&semaphore.name, why.join(", "));
            if missing.len() == end.methods.len() {
                let text = format!("semaphore:{name}: no method can {goal} this host: {why}");
                self.note(LogLevel::Error, text);
            } else if !missing.is_empty() {
                let text =
                    format!("semaphore:{name}: not every method can {goal} this host: {why}");
                self.note(LogLevel::Info, text);
            }
        }
    }
}

impl Asked {
    fn answer(self, exit: Exit) -> Result<(), Arc<str>> {
        let why = loop {
            match spawn::read_report(&self.report, &self.prepared) {
                Report::NotExecuted(error) => return Err(error.to_string().into()),
                Report::Reached(_) | Report::Without(_) => {}
                Report::Pending | Report::Executed if exit == Exit::Code(0) => return Ok(()),
                Report::Pending | Report::Executed => break exit.to_string(),
            }
        };
        let mut bytes = [0_u8; 4096];
        let read = self.words.as_ref().and_then(|fd| nix::unistd::read(fd, &mut bytes).ok());
        let said = String::from_utf8_lossy(bytes.get(..read.unwrap_or(0)).unwrap_or_default());
        let line = said.lines().map(str::trim).find(|line| !line.is_empty());
        let line = line.map(|line| line.escape_debug().take(MOST).collect::<String>());
        Err(line.map_or(why.clone(), |line| format!("{why}: {line}")).into())
    }
}

/// The methods that cannot work here, by what can be told without trying.
pub(crate) fn obstacles(end: &HostEnd) -> Vec<(&'static str, String)> {
    let is_root = nix::unistd::geteuid().is_root();
    let obstacle = |method: Method| match method {
        Method::Syscall => reboot::why_not_reboot().map(str::to_owned),
        Method::SysRq => reboot::why_not_press(),
        Method::Systemctl | Method::Shutdown | Method::Command => {
            let name = method.command(end.goal)?.first()?;
            if subreaper::is_init() {
                Some(WE_ARE_INIT.to_owned())
            } else if !reboot::is_command(name, PATH) {
                Some("not found".to_owned())
            } else if method == Method::Systemctl && !reboot::is_systemd() {
                Some("systemd does not run here".to_owned())
            } else if !is_root && !reboot::is_systemd() {
                Some("for root alone".to_owned())
            } else {
                None
            }
        }
    };
    let with = |method: &Method| Some((method.as_str(end.goal), obstacle(*method)?));
    end.methods.iter().filter_map(with).collect()
}
