//! Everything at once: up, killed and back, down.

use crate::{
    Place,
    contender::{Contender, Who},
    site::Shape,
    table::{Table, median},
};

const ROUNDS: usize = 5;

/// The medians of all rounds of one, in ms.
struct Figures {
    launch: f64,
    launch_cpu: f64,
    back: f64,
    back_cpu: f64,
    stop: f64,
    tree: f64,
}

pub(crate) fn measure(place: &Place, table: &mut Table) {
    for (count, shape, name) in [(1000, Shape::Logged, "1000"), (100, Shape::Chain, "chain of 100")]
    {
        let ours = rounds(place, Who::Ours, count, shape);
        let limit = rounds(place, Who::Limit, count, shape);
        let mut row = |what: &str, pick: fn(&Figures) -> f64| {
            table.row(&format!("{name}: {what}"), "ms", pick(&ours), Some(pick(&limit)));
        };
        row("start to all running", |f| f.launch);
        row("start to all running, its own CPU", |f| f.launch_cpu);
        if shape != Shape::Chain {
            row("all killed to all back", |f| f.back);
            row("all killed to all back, its own CPU", |f| f.back_cpu);
        }
        row("SIGTERM to all down", |f| f.stop);
        row("CPU of the whole life with all programs", |f| f.tree);
    }
}

fn rounds(place: &Place, who: Who, count: usize, shape: Shape) -> Figures {
    let all: Vec<Figures> = (0..ROUNDS).map(|_| round(place, who, count, shape)).collect();
    let of = |pick: fn(&Figures) -> f64| median(all.iter().map(pick).collect());
    Figures {
        launch: of(|f| f.launch),
        launch_cpu: of(|f| f.launch_cpu),
        back: of(|f| f.back),
        back_cpu: of(|f| f.back_cpu),
        stop: of(|f| f.stop),
        tree: of(|f| f.tree),
    }
}

fn round(place: &Place, who: Who, count: usize, shape: Shape) -> Figures {
    let one = Contender::start(place, who, count, shape);
    let launch = one.launch;
    one.settle();
    let launch_cpu = one.cpu();
    let (mut back, mut back_cpu) = (0.0, 0.0);
    if shape != Shape::Chain {
        back = one.kill_all();
        one.settle();
        back_cpu = one.cpu() - launch_cpu;
    }
    let (stop, tree) = one.stop();
    Figures { launch, launch_cpu, back, back_cpu, stop, tree }
}
