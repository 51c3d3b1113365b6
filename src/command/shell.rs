//! Carries out what the machine of command mode decides.

use std::io::ErrorKind;

use super::{
    Options,
    machine::{Action, Event, Machine},
};
use crate::{
    model::{Exit, Signal},
    sys::{
        Pid,
        child::{self, Children},
        clock, memory,
        signals::Arrived,
        sigwait::{self, Held},
        spawn::{self, AsIs, Prepared, SpawnError, SpawnSpec, Stage},
        stdio, subreaper,
        terminal::{self, Terminal},
        tree::{self, Trees},
    },
};

/// The only run there is.
const RUN: u64 = 1;
/// It cannot be executed; it is not there (the contract, section 3).
const EX_CANNOT: u8 = 126;
const EX_NOT_FOUND: u8 = 127;

/// Runs the command to its end and to the end of what it leaves behind; the exit code.
#[must_use]
pub fn run(options: &Options) -> u8 {
    stdio::fill();
    let held = sigwait::hold();
    if let Err(why) = become_what_was_asked(options) {
        options.voice.fatal(&why);
        return 1;
    }
    let mut children = Children::new();
    let mut trees = Trees::new("");
    if !subreaper::is_init() && child::has_children() {
        // Whoever executed us had children already: they are not the command's.
        trees.spare_the_present();
    }
    let terminal = Terminal::in_our_hands();
    match start(options, &held, terminal.as_ref()) {
        Ok(child) => {
            let name = options.command.first().map(|word| word.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            let pid = child.pid();
            if options.voice.is_tini() {
                options.voice.info(&format!("Spawned child process '{name}' with pid '{pid}'"));
            } else {
                options.voice.info(&format!("started {name} as pid {pid}"));
            }
            children.insert(RUN, child);
            memory::settle();
            let mut shell = Shell { options, held, children, trees, terminal, pid, name };
            shell.until_the_end()
        }
        Err(error) => refused(options, &error),
    }
}

fn become_what_was_asked(options: &Options) -> Result<(), String> {
    if let Some(signal) = options.parent_death_signal {
        subreaper::die_with_parent(signal).map_err(|why| why.to_string())?;
    }
    if options.subreaper && !subreaper::is_init() {
        subreaper::become_subreaper().map_err(|why| why.to_string())?;
    }
    if options.voice.is_tini() && !options.subreaper && !subreaper::is_init() {
        options.voice.warn(
            "Tini is not running as PID 1 and isn't registered as a child subreaper.\n\
             Zombie processes will not be re-parented to Tini, so zombie reaping won't work.\n\
             To fix the problem, use the -s option or set the environment variable \
             TINI_SUBREAPER to register Tini as a child subreaper, or run Tini as PID 1.",
        );
    }
    Ok(())
}

fn start(
    options: &Options,
    held: &Held,
    terminal: Option<&Terminal>,
) -> Result<child::LiveChild, SpawnError> {
    let mut spec = SpawnSpec::new(options.command.clone());
    spec.env = options.environment.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    spec.as_is = Some(AsIs {
        keep: Vec::new(),
        terminal: terminal.map(Terminal::raw),
        ignored: held.ignored.clone(),
    });
    spawn::vfork(&Prepared::new(spec)?)
}

/// The command could not be started.
fn refused(options: &Options, error: &SpawnError) -> u8 {
    let cause = std::io::Error::from_raw_os_error(error.errno);
    let not_found = cause.kind() == ErrorKind::NotFound;
    if options.voice.is_tini() {
        let text = cause.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        options.voice.fatal(&format!("exec {} failed: {text}", error.object));
    } else {
        let what = options.command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
        let hint = if not_found && what.contains('/') {
            "\nhint: the file is missing, or the interpreter that it names"
        } else if not_found {
            "\nhint: it is in no directory of PATH; write its whole path"
        } else if cause.kind() == ErrorKind::PermissionDenied {
            "\nhint: make it executable: chmod +x"
        } else {
            ""
        };
        // That it could not be executed is what we say already.
        let error = if error.stage == Stage::Exec { cause.to_string() } else { error.to_string() };
        options.voice.fatal(&format!("cannot run {what}: {error}{hint}"));
    }
    let denied = cause.kind() == ErrorKind::PermissionDenied;
    if not_found {
        EX_NOT_FOUND
    } else if options.voice.is_tini() && !denied {
        1 // as tini, for any other reason, gives what it gives for its own mistakes
    } else {
        EX_CANNOT
    }
}

struct Shell<'a> {
    options: &'a Options,
    held: Held,
    children: Children,
    trees: Trees,
    terminal: Option<Terminal>,
    pid: Pid,
    name: String,
}

impl Shell<'_> {
    fn until_the_end(&mut self) -> u8 {
        let mut machine = Machine::default();
        loop {
            if let Some(code) = machine.code() {
                self.give_terminal_back();
                return code;
            }
            let patience = machine.deadline().map(|at| at.since(clock::monotonic()));
            match self.held.next(patience) {
                Some(arrived) if arrived.signal == Signal::CHLD => {}
                Some(arrived) => {
                    self.tell_arrived(arrived);
                    self.feed(&mut machine, Event::Signal(arrived.signal));
                }
                None => self.feed(&mut machine, Event::Deadline),
            }
            // After whatever has come: deaths that come together are one signal.
            self.reap(&mut machine);
            if machine.is_leaving() && self.nobody_is_left() {
                self.feed(&mut machine, Event::NobodyLeft);
            }
        }
    }

    fn feed(&mut self, machine: &mut Machine, event: Event) {
        let mut actions = Vec::new();
        machine.handle(event, clock::monotonic(), self.options, &mut actions);
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::ToCommand(signal) => {
                self.children.signal_main(RUN, signal).ok();
            }
            Action::ToGroup(signal) => {
                self.children.signal_group(RUN, signal).ok();
            }
            Action::ToLeftovers(signal) => self.signal_leftovers(signal),
            Action::KillAll => {
                self.children.signal_group(RUN, Signal::KILL).ok();
                self.trees.signal_tree(&self.children, RUN, Signal::KILL);
                self.signal_leftovers(Signal::KILL);
            }
            Action::Suspend => {
                if let Some(terminal) = &self.terminal {
                    terminal.take_back(self.pid);
                }
                child::stop_ourselves();
            }
            Action::Resume => {
                if let Some(terminal) = &self.terminal {
                    terminal.give(self.pid);
                }
                self.children.signal_group(RUN, Signal::CONT).ok();
            }
            Action::TellLate => {
                let time = self.options.stop_timeout.unwrap_or_default();
                let text = format!("{} still runs {time:?} after it was asked to end", self.name);
                self.options.voice.warn(&format!("{text}: killing it and all below it"));
            }
            Action::TellLeftovers => {
                let time = self.options.grace;
                let text = format!("what {} left behind still runs after {time:?}", self.name);
                self.options.voice.warn(&format!("{text}: killing it"));
            }
        }
    }

    fn signal_leftovers(&self, signal: Signal) {
        if subreaper::is_init() {
            child::signal_everybody(signal);
        } else {
            self.trees.signal_all_strangers(&self.children, signal);
        }
    }

    fn reap(&mut self, machine: &mut Machine) {
        // Who is stopped without a shell above would stay so: nobody would continue us.
        let stopped = self.children.peek_stopped(RUN).is_some();
        if stopped && self.terminal.is_some() && terminal::has_shell_above() {
            self.feed(machine, Event::Stopped);
        }
        while let Some(peeked) = self.children.peek_exited() {
            self.children.reap(peeked);
            match peeked.run {
                Some(_) => {
                    self.tell_exited(peeked.exit);
                    self.feed(machine, Event::Exited(peeked.exit));
                }
                None => self.tell_reaped(peeked.pid),
            }
        }
    }

    fn nobody_is_left(&self) -> bool {
        let with_proc = self.trees.is_usable() && !subreaper::is_init();
        !child::has_children() || with_proc && self.trees.all_strangers(&self.children).is_empty()
    }

    fn give_terminal_back(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.pid);
        }
    }

    fn tell_arrived(&self, arrived: Arrived) {
        if self.options.voice.is_tini() {
            self.options.voice.debug(&format!("Passing signal: '{}'", arrived.signal));
        } else {
            let name = Pid::new(arrived.pid).and_then(tree::name_of);
            self.options.voice.info(&arrived.in_words(name.as_deref()));
        }
    }

    fn tell_exited(&self, exit: Exit) {
        match (self.options.voice.is_tini(), exit) {
            (true, Exit::Code(code)) => {
                let text = format!("Main child exited normally (with status '{code}')");
                self.options.voice.info(&text);
            }
            (true, Exit::Signal { signal, .. }) => {
                let text = format!("Main child exited with signal (with signal '{signal}')");
                self.options.voice.info(&text);
            }
            (true, Exit::OutOfMemory | Exit::Unknown) | (false, _) => {
                self.options.voice.info(&format!("{}: {exit}", self.name));
            }
        }
    }

    fn tell_reaped(&self, pid: Pid) {
        let text = if self.options.voice.is_tini() {
            format!("Reaped zombie process with pid={pid}")
        } else {
            format!("reaped pid {pid}, for which nobody waited")
        };
        if self.options.warn {
            self.options.voice.warn(&text);
        } else {
            self.options.voice.debug(&text);
        }
    }
}
