//! The machine of command mode: tables, and a million events in orders that nobody thought of.

use std::time::Duration;

use mini_supervisor::{
    command::{
        Options,
        machine::{Action, Event, Machine},
    },
    model::{Exit, Instant, Signal},
};

fn options() -> Options {
    Options { grace: Options::GRACE, stop_timeout: Some(Duration::from_secs(8)), ..options_off() }
}

/// As tini.
fn options_off() -> Options {
    Options { command: vec!["x".into()], ..Options::default() }
}

fn at(millis: u64) -> Instant {
    Instant::default() + Duration::from_millis(millis)
}

fn event(word: &str) -> Event {
    match word {
        "stopped" => Event::Stopped,
        "nobody" => Event::NobodyLeft,
        "tick" => Event::Deadline,
        "exit" => Event::Exited(Exit::Code(0)),
        _ => match (word.strip_prefix("exit:"), word.strip_prefix("died:")) {
            (Some(code), _) => Event::Exited(Exit::Code(code.parse().unwrap())),
            (_, Some(name)) => {
                Event::Exited(Exit::Signal { signal: Signal::parse(name).unwrap(), core: false })
            }
            _ => Event::Signal(Signal::parse(word).unwrap()),
        },
    }
}

/// Given options; when `MILLIS EVENT; …`; then what is done and the exit code.
fn check(options: &Options, when: &str, then: &str) {
    let mut machine = Machine::default();
    let mut done = Vec::new();
    for step in when.split("; ") {
        let (time, what) = step.split_once(' ').unwrap();
        machine.handle(event(what), at(time.parse().unwrap()), options, &mut done);
    }
    let said: Vec<String> = done.iter().map(|action| format!("{action:?}")).collect();
    let code = machine.code().map_or("goes on".to_owned(), |code| format!("code {code}"));
    let said = [said, vec![code]].concat().join(", ");
    let names = |text: &str| {
        (1..=64).rev().fold(text.to_owned(), |text, number| {
            let signal = Signal::from_number(number).unwrap();
            text.replace(&format!("Signal({number})"), &signal.name())
        })
    };
    assert_eq!(names(&said), then, "{when}");
}

#[test]
fn a_signal_goes_to_the_command_or_to_its_group() {
    check(
        &options(),
        "0 HUP; 1 WINCH; 2 RTMIN+1",
        "ToCommand(HUP), ToCommand(WINCH), ToCommand(RTMIN+1), goes on",
    );
    check(&Options { group: true, ..options() }, "0 HUP", "ToGroup(HUP), goes on");
}

#[test]
fn a_signal_is_rewritten_or_dropped() {
    let rewrite = [(15, Some(Signal::QUIT)), (1, None)].into();
    check(&Options { rewrite, ..options() }, "0 TERM; 1 HUP", "ToCommand(QUIT), goes on");
}

#[test]
fn without_grace_the_end_of_the_command_is_ours() {
    check(&options_off(), "0 exit:7", "code 7");
    check(&options_off(), "0 died:KILL", "code 137");
    check(&Options { map_exit: vec![143, 7], ..options_off() }, "0 exit:7", "code 0");
    check(&Options { map_exit: vec![143, 7], ..options_off() }, "0 died:TERM", "code 0");
}

#[test]
fn what_is_left_behind_is_asked_and_then_killed() {
    let asked = "ToLeftovers(TERM), ToLeftovers(CONT)";
    check(&options(), "0 exit:3; 1 nobody", &format!("{asked}, code 3"));
    check(&options(), "0 exit:3; 1999 tick", &format!("{asked}, goes on"));
    let killed = "TellLeftovers, ToLeftovers(KILL)";
    check(&options(), "0 exit:3; 2000 tick", &format!("{asked}, {killed}, goes on"));
    check(&options(), "0 exit:3; 2000 tick; 2001 nobody", &format!("{asked}, {killed}, code 3"));
    // Whoever was forked meanwhile is killed too, and the unkillable are not waited for.
    check(
        &options(),
        "0 exit:3; 2000 tick; 2050 tick; 2500 tick",
        &format!("{asked}, {killed}, ToLeftovers(KILL), code 3"),
    );
}

#[test]
fn who_asks_again_does_not_wait_for_the_grace() {
    check(
        &options(),
        "0 exit; 10 TERM; 11 nobody",
        "ToLeftovers(TERM), ToLeftovers(CONT), ToLeftovers(KILL), code 0",
    );
    check(&options(), "0 exit; 10 WINCH", "ToLeftovers(TERM), ToLeftovers(CONT), goes on");
}

#[test]
fn a_command_that_does_not_end_in_time_is_killed_with_all_below_it() {
    let late = "ToCommand(TERM), TellLate, KillAll";
    check(&options(), "0 TERM; 7999 tick", "ToCommand(TERM), goes on");
    check(&options(), "0 TERM; 8000 tick", &format!("{late}, goes on"));
    check(
        &options(),
        "0 TERM; 8000 tick; 8001 died:KILL; 8002 nobody",
        &format!("{late}, ToLeftovers(TERM), ToLeftovers(CONT), code 137"),
    );
    // Not even SIGKILL ends it: a disk that does not answer.
    check(&options(), "0 TERM; 8000 tick; 8500 tick", &format!("{late}, code 137"));
    check(&options(), "0 INT; 8000 tick", "ToCommand(INT), TellLate, KillAll, goes on");
    check(
        &options_off(),
        "0 TERM; 60000 tick; 60001 TERM",
        "ToCommand(TERM), ToCommand(TERM), goes on",
    );
}

#[test]
fn a_second_sigterm_kills_at_once() {
    check(&options(), "0 TERM; 200 TERM", "ToCommand(TERM), KillAll, goes on");
    // timeout(1) says it twice.
    check(
        &options(),
        "0 TERM; 1 TERM; 99 TERM",
        "ToCommand(TERM), ToCommand(TERM), ToCommand(TERM), goes on",
    );
    // An interrupt is what interactive programs live with.
    check(&options(), "0 INT; 200 INT", "ToCommand(INT), ToCommand(INT), goes on");
}

#[test]
fn what_is_left_behind_has_no_more_time_than_the_whole_stop() {
    let asked = "ToCommand(TERM), ToLeftovers(TERM), ToLeftovers(CONT)";
    check(&options(), "0 TERM; 7900 exit; 8099 tick", &format!("{asked}, goes on"));
    check(
        &options(),
        "0 TERM; 7900 exit; 8100 tick",
        &format!("{asked}, TellLeftovers, ToLeftovers(KILL), goes on"),
    );
}

#[test]
fn who_is_stopped_by_the_terminal_gives_it_back_and_gets_it_again() {
    let job = Options { job_control: true, ..options() };
    check(&job, "0 stopped; 5 CONT", "Suspend, Resume, goes on");
    check(&job, "0 CONT", "ToCommand(CONT), goes on");
    check(&options(), "0 stopped", "goes on");
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One life of a command: what must hold whatever happens. Events and whether it was killed.
fn live(seed: u64) -> u64 {
    let mut dice = seed;
    let mut options = options();
    options.grace = Duration::from_millis(random(&mut dice) % 3 * 1000);
    options.stop_timeout = [None, Some(Duration::from_secs(8))][random(&mut dice) as usize % 2];
    options.job_control = random(&mut dice).is_multiple_of(2);
    options.group = random(&mut dice).is_multiple_of(2);
    let mut machine = Machine::default();
    let (mut now, mut events, mut alive, mut left) = (0, 0, true, random(&mut dice) % 4);
    let (mut asked_at, mut exited_at) = (None, None);
    let mut code = 0;
    while machine.code().is_none() {
        let due = machine.deadline();
        let mut out = Vec::new();
        let event = match random(&mut dice) % 10 {
            0..4 => {
                let number = [1, 2, 3, 10, 15, 18, 28, 37][random(&mut dice) as usize % 8];
                Event::Signal(Signal::from_number(number).unwrap())
            }
            4 if alive => Event::Stopped,
            5 if alive && random(&mut dice).is_multiple_of(20) => {
                code = (random(&mut dice) % 256) as u8;
                Event::Exited(Exit::Code(code))
            }
            6 if !alive && left == 0 => Event::NobodyLeft,
            _ => {
                // Time passes; never over a deadline.
                let step = random(&mut dice) % 2000;
                now = due.map_or(now + step, |due| {
                    (now + step).min(due.since(at(0)).as_millis() as u64)
                });
                Event::Deadline
            }
        };
        let term = event == Event::Signal(Signal::TERM) || event == Event::Signal(Signal::INT);
        machine.handle(event, at(now), &options, &mut out);
        events += 1;
        if term && alive && options.stop_timeout.is_some() {
            asked_at = asked_at.or(Some(now));
        }
        for action in out {
            match action {
                Action::ToCommand(_) | Action::ToGroup(_) | Action::KillAll | Action::Resume => {
                    assert!(alive, "seed {seed}: a dead command is signalled: {action:?}");
                    assert_eq!(
                        matches!(action, Action::ToGroup(_)),
                        options.group && matches!(action, Action::ToGroup(_)),
                        "seed {seed}"
                    );
                }
                Action::ToLeftovers(signal) => {
                    assert!(matches!(event, Event::Exited(_)) || !alive, "seed {seed}: too early");
                    if signal == Signal::KILL && !random(&mut dice).is_multiple_of(3) {
                        left = 0;
                    }
                }
                Action::Suspend => assert!(options.job_control && alive, "seed {seed}"),
                Action::TellLate | Action::TellLeftovers => {}
            }
            if action == Action::KillAll {
                assert!(asked_at.is_some(), "seed {seed}: killed without having been asked");
                left = 0;
            }
        }
        if matches!(event, Event::Exited(_)) {
            (alive, exited_at) = (false, Some(now));
        }
        // Bounded: it never waits for ever for what is left, nor for what it was told to end.
        if let Some(exited) = exited_at {
            let most = options.grace.as_millis() as u64 + 500;
            assert!(now <= exited + most, "seed {seed}: leftovers are waited for too long");
        } else if let Some(asked) = asked_at {
            assert!(now <= asked + 8500, "seed {seed}: the command is waited for too long");
        }
        assert!(events < 100_000, "seed {seed}: no end");
    }
    let end = machine.code().unwrap();
    assert!(end == code || (alive && end == 137), "seed {seed}: code {end} for {code}");
    // Nothing comes after the end.
    let mut out = Vec::new();
    machine.handle(Event::Signal(Signal::TERM), at(now), &options, &mut out);
    assert_eq!((out, machine.deadline()), (vec![], None), "seed {seed}");
    events
}

#[test]
fn over_a_million_events_it_ends_once_in_time_and_signals_nobody_else() {
    let (mut events, mut seed) = (0, 1);
    while events < 1_000_000 {
        events += live(seed);
        seed += 1;
    }
}
