//! From the death of a program to the first instruction of its next run.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Place,
    contender::{Contender, Who},
    site::Shape,
    stamps::{ms, now},
    table::{Table, percentile},
};

const ROUNDS: usize = 600;

pub(crate) fn measure(place: &Place, table: &Table) {
    for count in [1, 1000] {
        let mut all = table.contenders().map(|who| rounds(place, who, count)).collect::<Vec<_>>();
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let what = format!("SIGKILL to first instruction, {name}, 1 of {count}");
            let mut figures = [None; 3];
            for (figure, rounds) in figures.iter_mut().zip(&mut all) {
                *figure = Some(percentile(rounds, share));
            }
            table.row(&what, "ms", figures);
        }
    }
}

fn rounds(place: &Place, who: Who, count: usize) -> Vec<f64> {
    let one = Contender::start(place, who, count, Shape::Logged);
    one.settle();
    let round = |index| {
        let before = one.stamps.get(index);
        let begin = now();
        kill(Pid::from_raw(before.pid), Signal::SIGKILL).unwrap();
        ms(begin, one.stamps.wait_for_next(index, before).at)
    };
    (0..ROUNDS).map(|number| round(number % count)).collect()
}
