//! Where we do on purpose what tini does not; supervisor(8) has the same table.

use super::{
    inits::{Init, Place},
    signals::Fate,
};

/// What the manual page says, a row each, and whether it is so under the name `tini` too.
///
/// Each has a test in this folder.
const ROWS: [(&str, bool); 10] = [
    ("What is left behind", false),
    ("A second SIGTERM", false),
    ("A command that ignores SIGTERM", false),
    ("Orphans when not process 1", false),
    ("Options", false),
    ("ABRT, TRAP and SYS", true),
    ("A job in the background", true),
    ("Closed standard input", true),
    ("The terminal afterwards", true),
    ("Idle", true),
];

/// Whether the behaviour of this row is ours.
pub(super) fn differs(row: &str, init: Init) -> bool {
    let (_, also_as_tini) = ROWS.iter().find(|(name, _)| *name == row).unwrap();
    init == Init::Ours || init == Init::AsTini && *also_as_tini
}

/// Signals whose fate below tini (first) is another than below ours (second).
pub(super) type Differences = Vec<(i32, Fate, Fate)>;

/// SIGTRAP, SIGABRT and SIGSYS are faults only when the kernel says so; somebody may send them.
pub(super) fn signals(init: Init, place: Place) -> Differences {
    use Fate::{Deadly, Forwarded, Lost};
    assert!(differs("ABRT, TRAP and SYS", init));
    let below_tini = if place == Place::Pid1 { Lost } else { Deadly };
    [5, 6, 31].map(|number| (number, below_tini, Forwarded)).to_vec()
}

#[test]
fn the_manual_page_has_every_difference_from_tini_and_no_other() {
    let page = include_str!("../../../man/supervisor.8");
    let start = page.find(".Ss Differences from tini\n").expect("no such section") + 3;
    let end = page[start..].find("\n.S").map_or(page.len(), |end| start + end);
    let (ours, both) = page[start..end].split_once("Under the name").expect("no second part");
    let rows = |text: &'static str| text.lines().filter_map(|line| line.strip_prefix(".It "));
    let ours = rows(ours).map(|row| (row, false));
    let all: Vec<_> = ours.chain(rows(both).map(|row| (row, true))).collect();
    assert_eq!(all, ROWS);
}
