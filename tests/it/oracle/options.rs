//! tini's options and variables, given to tini and to ours.

use super::{
    differences::differs,
    inits::{Init, Names, PLACES, Place, Running, possible, send},
    signals::LISTEN,
};
use crate::sys_world::until;

const BOTH: [Init; 3] = [Init::Tini, Init::AsTini, Init::Ours];

/// C7: `-e`, as often as wanted.
#[test]
fn exit_codes_are_mapped_to_success() {
    if !possible() {
        return;
    }
    let names = Names::new();
    for init in BOTH {
        for (options, script, code) in [
            (&["-e", "143"][..], "kill -15 $$", 0),
            (&["-e", "143"], "exit 143", 0),
            (&["-e", "143"], "exit 144", 144),
            (&["-e", "7", "-e", "9"], "exit 7", 0),
            (&["-e", "7", "-e", "9"], "exit 9", 0),
            (&["-e", "7", "-e", "9"], "exit 8", 8),
            (&["-e", "255"], "exit 255", 0),
            (&["-e", "0"], "exit 0", 0),
        ] {
            let ran = names.run(init, Place::Pid1, options, &["sh", "-c", script]);
            assert_eq!(ran.code, code, "{init:?} {options:?} {script}: {ran:?}");
        }
        for options in
            [&["-e", "256"][..], &["-e", "x"], &["-e", "-1"], &["-p", "SIGNOPE"], &["-Z"]]
        {
            let ran = names.run(init, Place::Pid1, options, &["true"]);
            let usage = if differs("Options", init) { 2 } else { 1 };
            assert_eq!(ran.code, usage, "{init:?} {options:?}: {ran:?}");
        }
    }
}

/// C7: `-g` and its variable.
#[test]
fn signals_go_to_the_group_when_asked() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let script = "import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {15})
child = os.fork()
if child:
    os.write(1, b'ready\\n')
signal.sigwait({15})
os.write(1, b'parent\\n' if child else b'child\\n')
if child:
    os.waitpid(child, os.WNOHANG)
";
    for init in BOTH {
        for (options, variable, heard) in
            [(&["-g"][..], false, true), (&[], true, true), (&[], false, false)]
        {
            // As process 1 the init takes the child with it: who hears is waited for.
            let script = script.replace("os.WNOHANG", if heard { "0" } else { "os.WNOHANG" });
            let command = ["python3", "-SEc", &script];
            // What is left behind is not asked, so that who hears it was sent it.
            let more: &[&str] = if init == Init::Ours { &["--grace", "0"] } else { &[] };
            let options = [options, more].concat();
            let mut command = names.command(init, Place::Pid1, &options, &command);
            if variable {
                command.env("TINI_KILL_PROCESS_GROUP", "1");
            }
            let mut running = Running::of(command, Place::Pid1);
            running.signal(15);
            running.lines.wait_for("the parent", |line| line == "parent");
            if heard {
                let end = running.lines.wait_for("the child", |line| line == "child");
                assert_eq!(end, "child");
            }
            assert_eq!(running.code(), 0, "{init:?}");
            assert_eq!(running.count("child"), usize::from(heard), "{init:?} {options:?}");
        }
    }
}

/// C7: `-s` and its variable; ours adopts unasked.
#[test]
fn orphans_are_adopted_when_asked() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let script =
        "(sh -c 'read x < '$0'; read a b c parent rest < /proc/self/stat; echo parent $parent' &)
echo ready; exec sleep 1000";
    for init in BOTH {
        for (options, variable) in [(&["-s"][..], false), (&[], true), (&[], false)] {
            let gate = names.path(&format!("gate-{init:?}-{}-{variable}", options.len()));
            nix::unistd::mkfifo(&*gate, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
            // Where it is the rule there is no option; the letter is another one's.
            let options = if init == Init::Ours { &[] } else { options };
            let mut command =
                names.command(init, Place::Below, options, &["sh", "-c", script, &gate]);
            if variable {
                command.env("TINI_SUBREAPER", "");
            }
            let running = Running::of(command, Place::Below);
            std::fs::write(&gate, "go\n").unwrap();
            let line = running.lines.wait_for("the parent", |line| line.starts_with("parent "));
            let adopted = line != "parent 1";
            let always = differs("Orphans when not process 1", init);
            let wanted = always || variable || !options.is_empty();
            assert_eq!(adopted, wanted, "{init:?} {options:?} {variable}: {line}");
        }
    }
}

/// C7: `-p`.
#[test]
fn the_death_of_the_parent_is_a_signal_when_asked() {
    if !possible() {
        return;
    }
    let names = Names::new();
    for init in BOTH {
        // The init's parent is a shell that is not process 1.
        let option = if init == Init::Ours { "--parent-death-signal" } else { "-p" };
        let mut words = names.words(init, &[option, "SIGUSR1"]);
        words.extend(LISTEN.map(str::to_owned));
        let mut command = crate::outside::tied(&["unshare", "--pid", "--fork", "--kill-child"]);
        command.args(["--mount-proc", "sh", "-c", "sh -c '\"$@\"; exit' sh \"$@\"; sleep 1000"]);
        command.arg("sh").args(words).env_clear().env("PATH", "/usr/bin:/bin");
        let running = Running::of(command, Place::Below);
        // It is the shell in the middle that was found.
        send(running.init, 9);
        running.lines.wait_for("the signal", |line| line == "got 10");
    }
}

/// C7, C8: what is printed and not run.
#[test]
fn it_says_what_it_is() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let out = |program: &str, words: &[&str], variable: Option<&str>| -> crate::outside::Ran {
        let mut command = std::process::Command::new(program);
        command.args(words).env_clear().env("PATH", "/usr/bin:/bin");
        command.envs(variable.map(|value| ("TINI_VERBOSITY", value)));
        command.output().unwrap().into()
    };
    for name in ["tini", "docker-init"] {
        let ours = names.path(name);
        for program in ["/usr/bin/tini", &ours] {
            let version = out(program, &["--version"], None);
            assert!(
                version.code == 0 && version.out.starts_with("tini version 0.19.0"),
                "{version:?}"
            );
            for (words, code) in [(&["-h"][..], 0), (&["-l"], 0), (&[], 1), (&["-s"], 1)] {
                let ran = out(program, words, None);
                assert_eq!(ran.code, code, "{program} {words:?}: {ran:?}");
                assert!(!(ran.out + &ran.err).is_empty(), "{program} {words:?}");
            }
            let lines = |words: &[&str], variable| {
                let ran = out(program, &[words, &["--", "true"]].concat(), variable);
                assert_eq!(ran.code, 0, "{ran:?}");
                // Not process 1: that is a warning.
                let text = ran.out + &ran.err;
                let has = |word: &str| text.contains(&format!("[{word}"));
                (has("WARN"), has("INFO"), text.is_empty())
            };
            assert_eq!(lines(&[], None), (true, false, false), "{program}");
            assert_eq!(lines(&["-s"], None), (false, false, true), "{program}");
            assert_eq!(lines(&["-v"], None), (true, true, false), "{program}");
            assert_eq!(lines(&["-vvv"], None), (true, true, false), "{program}");
            assert_eq!(lines(&[], Some("0")), (false, false, true), "{program}");
            assert_eq!(lines(&[], Some("2")), (true, true, false), "{program}");
        }
    }
}

/// C7: `-w`.
#[test]
fn a_warning_names_what_is_reaped_when_asked() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let script = "(setsid true &); echo ready; exec sleep 1000";
    for init in BOTH {
        for place in PLACES {
            let adopt = place == Place::Below && init != Init::Ours;
            let options: &[&str] = if adopt { &["-s", "-w"] } else { &["-w"] };
            let running = names.start(init, place, options, &["sh", "-c", script]);
            until("a warning", || {
                let lines = running.errors.all();
                lines.iter().any(|line| line.to_lowercase().contains("reaped"))
            });
        }
    }
}
