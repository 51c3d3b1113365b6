//! What a supervisor keeps in memory.

use crate::{
    Place,
    contender::{Contender, Who},
    site::Shape,
    table::Table,
};

pub(crate) fn measure(place: &Place, table: &mut Table) {
    for count in [1, 100, 1000] {
        let pss = |who, shape| {
            let one = Contender::start(place, who, count, shape);
            one.settle();
            one.pss()
        };
        let limit = pss(Who::Limit, Shape::Logged);
        let logged = pss(Who::Ours, Shape::Logged);
        table.row(&format!("PSS, {count} programs, logs in files"), "KiB", logged, Some(limit));
        let silent = pss(Who::Ours, Shape::Silent);
        table.row(&format!("PSS, {count} programs, no logs"), "KiB", silent, Some(limit));
    }
}
