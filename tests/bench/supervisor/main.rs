//! What supervising costs: each figure beside that of a bare C loop that does the least possible, and that
//! of dinit where it is installed.
//!
//! `cargo bench --bench supervisor [-- idle memory restart launch]`; as root or as anybody.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a measurement, not a part of the product"
)]

mod contender;
mod dinit;
mod idle;
mod launch;
mod memory;
mod restart;
mod site;
mod stamps;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use self::table::Table;

/// The compiled helpers and a directory for everything else.
struct Place {
    dir: tempfile::TempDir,
    /// For the stamps: memory, so that no disk takes part.
    shared: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let shared = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), shared }
    }

    fn probe(&self) -> PathBuf {
        self.dir.path().join("probe")
    }

    fn limit(&self) -> PathBuf {
        self.dir.path().join("limit")
    }

    /// Compiles the helpers; false without a C compiler.
    fn compile(&self) -> bool {
        let sources = [("probe", include_str!("probe.c")), ("limit", include_str!("limit.c"))];
        sources.iter().all(|(name, text)| {
            let source = self.dir.path().join(format!("{name}.c"));
            fs::write(&source, text).unwrap();
            let mut cc = Command::new("cc");
            cc.args(["-O2", "-static", "-o"]).arg(self.dir.path().join(name)).arg(&source);
            cc.status().is_ok_and(|status| status.success())
        })
    }
}

type Part = fn(&Place, &Table);

fn main() {
    let place = Place::new();
    if !place.compile() {
        println!("skipped: no C compiler `cc` that links statically");
        return;
    }
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let table = Table::new(dinit::is_installed());
    let parts: [(&str, Part); 4] = [
        ("restart", restart::measure),
        ("launch", launch::measure),
        ("memory", memory::measure),
        ("idle", idle::measure),
    ];
    for (name, measure) in parts {
        if chosen.is_empty() || chosen.iter().any(|one| one == name) {
            measure(&place, &table);
        }
    }
}
