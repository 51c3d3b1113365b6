//! What a supervisor does while nothing happens: nothing.

use std::{thread, time::Duration};

use crate::{Place, contender::Contender, site::Shape, table::Table};

pub(crate) fn measure(place: &Place, table: &Table) {
    let (mut switches, mut cpu) = ([None; 3], [None; 3]);
    for (index, who) in table.contenders().enumerate() {
        let one = Contender::start(place, who, 100, Shape::Logged);
        one.settle();
        let before = (one.switches(), one.cpu());
        thread::sleep(Duration::from_secs(30));
        switches[index] = Some((one.switches() - before.0) as f64);
        cpu[index] = Some(one.cpu() - before.1);
    }
    table.row("idle 30 s, 100 programs: context switches", "", switches);
    table.row("idle 30 s, 100 programs: CPU", "ms", cpu);
}
