//! What the bot of the first document asks of whoever keeps it running.

use mini_supervisor::control::StateWord;

use super::{harness::Plan, processes::verb};

/// S0-22.
#[test]
fn without_a_start_limit_a_program_is_started_again_however_often_it_fails() {
    let text = "  watcher: {command: [sh, -c, 'exit 1'], restart: {policy: always, delay: 1ms, \
                factor: 1, jitter: 0%, start_limit: none}}";
    let mut site = Plan::new(text).start();
    site.wait_for("its thirtieth start", |status| status.programs[0].restarts >= 30);
    assert_ne!(site.program("watcher").state, StateWord::Fatal);
    site.end();
}

/// S0-24, S0-39.
#[test]
fn a_working_directory_that_is_not_there_is_named_and_nothing_of_the_program_runs() {
    let text = "  bot: {command: [sh, -c, 'echo ran'], working_directory: DIR/none, \
                restart: {policy: never}}";
    let mut site = Plan::new(text).start();
    let bot = site.wait_for("it is given up", |status| {
        matches!(status.programs[0].state, StateWord::Fatal | StateWord::Exited)
    });
    let reason = &bot.programs[0].reason;
    let what = format!("entering directory {}: No such file", site.path("none").display());
    assert!(reason.contains(&what), "{reason}");
    assert_eq!(site.stdout.all(), Vec::<String>::new());
    site.end();
}

/// S0-26, S0-38.
#[test]
fn the_page_of_what_has_failed_has_its_last_lines_and_where_to_read_more() {
    let text = "  bot: {command: [sh, -c, 'echo one; echo no module named meshtastic >&2; exit 1'], \
                description: Meshtastic bot, documentation: 'https://example.org/bot', \
                restart: {policy: never}}";
    let mut site = Plan::new(text).start();
    site.wait_for("its end", |status| status.programs[0].state == StateWord::Exited);
    site.stdout.wait_for("its words", |line| line.contains("no module named meshtastic"));
    let page = verb(&site, &["status", "bot"]).out;
    for what in ["Meshtastic bot", "https://example.org/bot", "no module named meshtastic"] {
        assert!(page.contains(what), "{what}: {page}");
    }
    let logs = verb(&site, &["logs", "bot", "-n", "50"]).out;
    assert!(logs.contains("one") && logs.contains("no module named meshtastic"), "{logs}");
    site.end();
}
