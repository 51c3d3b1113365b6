//! Site files for the measurements.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// What the programs of a site have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Each with a log file that the supervisor writes.
    Logged,
    /// Output thrown away.
    Silent,
    /// As `Logged`, and each requires the one before it.
    Chain,
}

/// Writes the site file of `count` probes.
pub(crate) fn write(
    dir: &Path,
    probe: &Path,
    stamps: &Path,
    count: usize,
    shape: Shape,
) -> PathBuf {
    let mut text = format!(
        "version: 1\n\
         supervisor: {{runtime_dir: {dir}/run, state_dir: {dir}/state, log: {{level: warn}}}}\n\
         defaults:\n  user: self\n  restart: {{policy: always, delay: 0, start_limit: none}}\n\
         programs:\n",
        dir = dir.display()
    );
    fs::create_dir_all(dir.join("log")).unwrap();
    for index in 0..count {
        let (probe, stamps) = (probe.display(), stamps.display());
        writeln!(text, "  p{index}:\n    command: [{probe}, {stamps}, \"{index}\"]").unwrap();
        let log = match shape {
            Shape::Silent => "null".into(),
            Shape::Logged | Shape::Chain => format!("{}/log/p{index}.log", dir.display()),
        };
        writeln!(text, "    logging: {{stdout: \"{log}\", stderr: stdout}}").unwrap();
        if shape == Shape::Chain && index > 0 {
            writeln!(text, "    requires: [p{}]", index - 1).unwrap();
        }
    }
    let path = dir.join("site.yaml");
    fs::write(&path, text).unwrap();
    path
}
