//! What a supervisor keeps in memory.

use crate::{
    Place,
    contender::{Contender, Who},
    site::Shape,
    table::Table,
};

pub(crate) fn measure(place: &Place, table: &Table) {
    for count in [1, 100, 1000] {
        let pss = |who, shape| {
            let one = Contender::start(place, who, count, shape);
            one.settle();
            Some(one.pss())
        };
        let limit = pss(Who::Limit, Shape::Logged);
        for (shape, name) in [(Shape::Logged, "logs in files"), (Shape::Silent, "no logs")] {
            let dinit = table.rival.then(|| pss(Who::Dinit, shape)).flatten();
            let figures = [pss(Who::Ours, shape), limit, dinit];
            table.row(&format!("PSS, {count} programs, {name}"), "KiB", figures);
        }
    }
}
