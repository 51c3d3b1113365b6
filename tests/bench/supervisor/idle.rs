//! What a supervisor does while nothing happens: nothing.

use std::{thread, time::Duration};

use crate::{
    Place,
    contender::{Contender, Who},
    site::Shape,
    table::Table,
};

pub(crate) fn measure(place: &Place, table: &mut Table) {
    let ours = Contender::start(place, Who::Ours, 100, Shape::Logged);
    ours.settle();
    let (switches, cpu) = (ours.switches(), ours.cpu());
    thread::sleep(Duration::from_secs(30));
    let switches = ours.switches() - switches;
    table.row("idle 30 s, 100 programs: context switches", "", switches as f64, Some(0.0));
    table.row("idle 30 s, 100 programs: CPU", "ms", ours.cpu() - cpu, Some(0.0));
}
