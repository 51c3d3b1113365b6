//! Exit codes, and what cannot be executed.

use super::inits::{ALL, Init, Names, PLACES, Place, possible};

/// C2: every code, as it was given.
#[test]
fn all_256_exit_codes_are_those_of_the_command() {
    if !possible() {
        return;
    }
    let names = Names::new();
    for code in 0..=255 {
        let script = format!("exit {code}");
        for init in ALL {
            // The others are not in question: a few of their codes are enough.
            let few = [0, 1, 126, 127, 128, 143, 255].contains(&code);
            for place in PLACES {
                let whole = init == Init::Ours || init == Init::Tini && place == Place::Pid1;
                if whole || few {
                    let ran = names.run(init, place, &[], &["sh", "-c", &script]);
                    assert_eq!(ran.code, code, "{init:?} {place:?}: {ran:?}");
                }
            }
        }
    }
}

/// C2: a death by a signal is 128 and its number.
#[test]
fn a_command_that_dies_by_a_signal_gives_128_and_its_number() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let deadly = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30];
    for number in deadly.into_iter().chain([31, 34, 50, 64]) {
        let script = format!(
            "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), {number})"
        );
        let command = ["python3", "-SEc", &script];
        // Python ignores SIGPIPE and SIGXFSZ.
        let shell = format!("ulimit -c 0; kill -{number} $$");
        let command = if [13, 25].contains(&number) { ["sh", "-c", &shell] } else { command };
        for place in PLACES {
            let codes = ALL.map(|init| names.run(init, place, &[], &command).code);
            assert_eq!(codes, [128 + number; 5], "{place:?} {ALL:?}");
        }
    }
}

/// C2: not there is 127, not executable 126; who has no interpreter is run by /bin/sh.
#[test]
fn what_cannot_be_executed_has_tinis_code() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let plain = names.file("plain", "exit 9\n", 0o755);
    let denied = names.file("denied", "#!/bin/sh\n", 0o644);
    let lost = names.file("lost", "#!/nonexistent/interpreter\n", 0o755);
    let empty = names.file("empty", "", 0o755);
    let below = format!("{plain}/below");
    let folder = names.path("");
    for (command, code) in [
        ("/nonexistent/command", 127),
        ("no-such-command", 127),
        (&*lost, 127),
        (&*denied, 126),
        (&*folder, 126),
        (&*plain, 9),
        (&*empty, 0),
    ] {
        for place in PLACES {
            for init in [Init::Tini, Init::AsTini, Init::Ours] {
                let ran = names.run(init, place, &[], &[command]);
                assert_eq!(ran.code, code, "{init:?} {command}: {ran:?}");
                let told = code < 126 || ran.err.contains(command);
                assert!(told, "{init:?} does not name it: {ran:?}");
            }
        }
    }
    // For any other reason tini has the code of its own mistakes.
    for (init, code) in [(Init::Tini, 1), (Init::AsTini, 1), (Init::Ours, 126)] {
        assert_eq!(names.run(init, Place::Pid1, &[], &[&below]).code, code, "{init:?}");
    }
}

/// C1: words arrive as they are.
#[test]
fn words_are_passed_verbatim() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let words = ["a  b", "", "$HOME", "-x", "--", "\"'\\", "é\u{1}"];
    let print = ["sh", "-c", "for w; do printf '[%s]' \"$w\"; done", "sh"];
    let wanted: String = words.map(|word| format!("[{word}]")).concat();
    for init in ALL {
        let ran = names.run(init, Place::Pid1, &[], &[&print[..], &words].concat());
        assert_eq!((ran.code, &*ran.out), (0, &*wanted), "{init:?}");
    }
}
