//! The same programs as services of dinit, the quickest rival: measured too where it is installed.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::site::Shape;

/// Whether there is a dinit to compare with.
pub(crate) fn is_installed() -> bool {
    let mut command = Command::new("dinit");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Writes the service directory of `count` probes. Log files are written by the programs
/// themselves: dinit hands them over and captures nothing.
pub(crate) fn write(
    dir: &Path,
    probe: &Path,
    stamps: &Path,
    count: usize,
    shape: Shape,
) -> PathBuf {
    let services = dir.join("services");
    fs::create_dir_all(&services).unwrap();
    fs::create_dir_all(dir.join("log")).unwrap();
    // In order: it loads depth first, to a limited depth.
    let mut boot = "type = internal\n".to_owned();
    for index in 0..count {
        writeln!(boot, "waits-for = p{index}").unwrap();
        let (probe, stamps) = (probe.display(), stamps.display());
        let mut text = format!(
            "type = process\ncommand = {probe} {stamps} {index}\n\
             restart = true\nrestart-delay = 0\nrestart-limit-count = 0\n"
        );
        if shape != Shape::Silent {
            writeln!(text, "logfile = {}/log/p{index}.log", dir.display()).unwrap();
        }
        if shape == Shape::Chain && index > 0 {
            writeln!(text, "depends-on = p{}", index - 1).unwrap();
        }
        fs::write(services.join(format!("p{index}")), text).unwrap();
    }
    fs::write(services.join("boot"), boot).unwrap();
    services
}
