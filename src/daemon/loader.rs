//! Reads the site file, at the start and again at a reload.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{self, Findings, LoadOptions, Loaded, Source},
    model::Site,
};

/// Where the site comes from, and under which circumstances it is read.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    /// The file; `None` is standard input.
    pub(crate) path: Option<PathBuf>,
    /// What the file alone does not say.
    pub(crate) options: LoadOptions,
    /// A command that is one of the programs.
    pub(crate) command: Option<Arc<crate::command::Options>>,
    /// `$SUPERVISOR_SHUTDOWN_TIMEOUT`: wins over the file.
    pub(crate) shutdown_timeout: Option<Duration>,
}

impl Loader {
    /// Reads it for the start, unless it was read already.
    ///
    /// # Errors
    /// All mistakes, rendered.
    pub(crate) fn read(&self, source: Option<Source>) -> Result<Loaded, String> {
        let source = match (source, &self.path) {
            (Some(source), _) => Ok(source),
            (None, Some(path)) => config::read(path, self.options.uid),
            (None, None) => config::read_stdin(),
        };
        let source = source.map_err(|why| with_hint(&why.to_string(), why.hint.as_deref()))?;
        let loaded = self.load(&source)?;
        refuse_unsupported(&loaded.site)?;
        Ok(loaded)
    }

    /// Reads it for a reload: a file that is being written is refused.
    ///
    /// # Errors
    /// All mistakes, rendered.
    pub(crate) fn reload(&self) -> Result<(Site, Vec<String>), String> {
        let Some(path) = &self.path else {
            return Err("the site came from standard input and cannot be read again".to_owned());
        };
        let (_never, timer) = crossbeam_channel::bounded::<()>(1);
        let source = config::read_stable(path, self.options.uid, |pause| {
            timer.recv_timeout(pause).ok();
        });
        let source = source.map_err(|why| with_hint(&why.to_string(), why.hint.as_deref()))?;
        let loaded = self.load(&source)?;
        refuse_unsupported(&loaded.site)?;
        let warnings = loaded.warnings.lines().lines().map(str::to_owned).collect();
        Ok((loaded.site, warnings))
    }

    fn load(&self, source: &Source) -> Result<Loaded, String> {
        let mut loaded = config::load(source, &self.options, &super::Host)
            .map_err(|all: Findings| all.lines())?;
        let supervisor = &mut loaded.site.supervisor;
        supervisor.shutdown_timeout = self.shutdown_timeout.or(supervisor.shutdown_timeout);
        if let Some(command) = &self.command {
            super::command::add(&mut loaded.site, command, &self.options)?;
        }
        Ok(loaded)
    }

    /// The file, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.as_deref().unwrap_or(Path::new("-")).display().to_string()
    }
}

fn with_hint(text: &str, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text.to_owned(),
    }
}

/// The one place where what is validated but cannot be done yet is refused.
fn refuse_unsupported(site: &Site) -> Result<(), String> {
    if site.unsupported.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = site
        .unsupported
        .iter()
        .map(|one| format!("{}: error: {}: not yet supported by this version", one.place, one.key))
        .collect();
    Err(lines.join("\n"))
}
