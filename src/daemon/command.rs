//! The command of `supervisor -c FILE -- CMD`: a program beside those of the file, essential, run
//! as if we were not there.

use std::{os::fd::RawFd, sync::Arc};

use serde_json::json;

use crate::{
    command::Options,
    config::{self, LoadOptions, Source},
    model::{KillMode, Limit, Name, Program, Signal, Site, StopStep},
    sys::{sigwait, spawn::AsIs, stdio, terminal::Terminal},
};

/// Its name among the programs.
pub(super) const NAME: &str = "command";

/// The command, and what of our start it is to keep.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) options: Options,
    /// The descriptors that we were started with, above 2.
    kept: Vec<RawFd>,
    ignored: Vec<Signal>,
    terminal: Option<Terminal>,
}

impl Entry {
    /// Looks at what we were started with: before anything is opened, ignored or closed.
    pub(super) fn look(options: &Options) -> Self {
        Self {
            options: options.clone(),
            kept: stdio::inherited(),
            ignored: sigwait::inherited_ignored(),
            terminal: Terminal::in_our_hands(),
        }
    }

    /// How its child is made.
    pub(super) fn as_is(&self) -> AsIs {
        AsIs {
            keep: self.kept.clone(),
            terminal: self.terminal.as_ref().map(Terminal::raw),
            ignored: self.ignored.clone(),
        }
    }

    /// After its end.
    pub(super) fn give_terminal_back(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.regain();
        }
    }

    /// What it is told of a signal to us that means nothing to us.
    pub(super) fn forwarded(&self, signal: Signal) -> Option<Signal> {
        self.options.rewritten(signal)
    }
}

/// Whether `name` is that of the command.
pub(super) fn is_it(name: &Name) -> bool {
    name.as_str() == NAME
}

/// Puts the command among the programs of the site.
///
/// # Errors
/// Why that cannot be, in words.
pub(super) fn add(site: &mut Site, options: &Options, load: &LoadOptions) -> Result<(), String> {
    let program = program(options, load)?;
    if site.programs.contains_key(&program.name) {
        return Err(format!(
            "cannot run {}: a program of the site is called {NAME}\nhint: give it another name",
            shown(options)
        ));
    }
    site.programs.insert(program.name.clone(), Arc::new(program));
    Ok(())
}

fn shown(options: &Options) -> String {
    options.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
}

/// As the file would have it, so that each default is the one of the file.
fn program(options: &Options, load: &LoadOptions) -> Result<Program, String> {
    let words: Option<Vec<Box<str>>> =
        options.command.iter().map(|word| Some(word.to_str()?.into())).collect();
    let Some(words) = words else {
        let text = "its words are no UTF-8, which a site needs";
        return Err(format!("cannot run {}: {text}", shown(options)));
    };
    let site = json!({
        "version": 1,
        "programs": {NAME: {
            "description": "the command of the command line",
            "command": [NAME],
            "user": "self",
            "essential": true,
            "inherit_environment": true,
            "restart": "never",
            "logging": {"stdout": "inherit", "stderr": "inherit"},
            // As anything that was here before us: it may use set-user-id programs.
            "hardening": {"no_new_privileges": false},
        }},
    });
    let source = Source::from_text("-", &site.to_string());
    let load = LoadOptions { inherit_all: true, ..load.clone() };
    let loaded = config::load(&source, &load, &super::Host).map_err(|all| all.lines())?;
    let program = loaded.site.programs.into_values().next();
    let program = program.ok_or_else(|| format!("cannot run {}", shown(options)))?;
    let mut program = Arc::unwrap_or_clone(program);
    program.command = words.into();
    let mut stop = Arc::unwrap_or_clone(program.stop);
    for StopStep { signal, wait } in &mut stop.ladder {
        *signal = options.rewritten(*signal).unwrap_or(Signal::CONT);
        *wait = options.stop_timeout.map_or(*wait, Limit::After);
    }
    // What it leaves behind is nobody's: it has its time to clean up at the end of all.
    stop.kill_mode = KillMode::Process;
    program.stop = Arc::new(stop);
    Ok(program)
}
