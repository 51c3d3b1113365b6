//! Everything at once: up, killed and back, down.

use crate::{
    Place,
    contender::{Contender, Who},
    site::Shape,
    table::{Table, median},
};

const ROUNDS: usize = 5;

/// All rounds of one, in ms.
#[derive(Default)]
struct Figures {
    launch: Vec<f64>,
    launch_cpu: Vec<f64>,
    back: Vec<f64>,
    back_cpu: Vec<f64>,
    stop: Vec<f64>,
    tree: Vec<f64>,
}

pub(crate) fn measure(place: &Place, table: &Table) {
    for (count, shape, name) in [(1000, Shape::Logged, "1000"), (100, Shape::Chain, "chain of 100")]
    {
        // In turns, so that a noisy minute hits all of them.
        let mut all = [Figures::default(), Figures::default(), Figures::default()];
        for _ in 0..ROUNDS {
            for (who, figures) in table.contenders().zip(&mut all) {
                round(place, who, count, shape, figures);
            }
        }
        let row = |what: &str, pick: fn(&Figures) -> &Vec<f64>| {
            let figures = all.each_ref().map(|f| Some(median(pick(f).clone())));
            table.row(&format!("{name}: {what}"), "ms", figures);
        };
        row("start to all running", |f| &f.launch);
        row("start to all running, its own CPU", |f| &f.launch_cpu);
        if shape != Shape::Chain {
            row("all killed to all back", |f| &f.back);
            row("all killed to all back, its own CPU", |f| &f.back_cpu);
        }
        row("SIGTERM to all down", |f| &f.stop);
        row("CPU of the whole life with all programs", |f| &f.tree);
    }
}

fn round(place: &Place, who: Who, count: usize, shape: Shape, figures: &mut Figures) {
    let one = Contender::start(place, who, count, shape);
    figures.launch.push(one.launch);
    one.settle();
    let launch_cpu = one.cpu();
    figures.launch_cpu.push(launch_cpu);
    if shape != Shape::Chain {
        figures.back.push(one.kill_all());
        one.settle();
        figures.back_cpu.push(one.cpu() - launch_cpu);
    }
    let (stop, tree) = one.stop();
    figures.stop.push(stop);
    figures.tree.push(tree);
}
