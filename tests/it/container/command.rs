//! A command as the entrypoint's: what an image with tini, and a site beside it, would do.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::engine::{Engine, IMAGE};
use crate::sys_world::until;

/// Says what it is sent, and ends by TERM with 9.
const SAYS: &str = "#!/bin/sh
for s in HUP INT QUIT USR1 USR2 WINCH CONT; do trap \"echo got $s\" $s; done
trap 'echo got TERM; exit 9' TERM
echo ready
while :; do sleep 0.05; done
";

/// The two entrypoints of the documents, as images of their own.
fn images(engine: &Engine) -> [String; 2] {
    let words = [
        ("alone", r#"["supervisor", "--"]"#),
        ("beside", r#"["supervisor", "-c", "/etc/mini-supervisor/site.yaml", "--"]"#),
    ];
    words.map(|(name, entrypoint)| {
        let text =
            format!("FROM {IMAGE}\nENTRYPOINT {entrypoint}\nCMD [\"sh\", \"-c\", \"exit 77\"]\n");
        engine.build(name, &text);
        name.to_owned()
    })
}

/// P6, C2: the words of `docker run`, or those of the image, are the command's; its code is ours.
#[test]
fn the_command_of_the_container_is_run_and_its_code_is_the_containers() {
    let Some(engine) = Engine::start(None) else { return };
    let site = engine.site("beside", "  cache: {command: [sleep, '1000']}");
    for image in images(&engine) {
        let run = |words: &[&str]| engine.run(&[&[&*site, &image], words].concat());
        assert_eq!(run(&[]).code, 77, "{image}: its own CMD");
        for code in [0, 1, 2, 42, 75, 78, 125, 126, 127, 128, 143, 200, 255] {
            let script = format!("exit {code}");
            assert_eq!(run(&["sh", "-c", &script]).code, code, "{image}");
        }
        for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139), ("ABRT", 134)] {
            let script = format!("kill -s {signal} $$");
            assert_eq!(run(&["sh", "-c", &script]).code, code, "{image} {signal}");
        }
        for (command, code) in [("/no/such", 127), ("/etc/passwd", 126), ("/etc", 126)] {
            let ran = run(&[command]);
            assert_eq!(ran.code, code, "{image}: {ran:?}");
            assert!(ran.err.contains(command), "{image}: {ran:?}");
        }
        let ran = run(&[
            "sh",
            "-c",
            "printf '[%s]' \"$@\"; echo; sleep 0.2",
            "sh",
            "a  b",
            "",
            "$X",
            "-c",
        ]);
        assert!(ran.out.contains("[a  b][][$X][-c]\n"), "{image}: {ran:?}");
    }
}

/// C3, C10: signals are the command's, the stop too; who ignores it has less time than the engine.
#[test]
fn signals_of_the_engine_reach_the_command() {
    let Some(engine) = Engine::start(None) else { return };
    let says = format!("-v={}:/says:ro", engine.file("says", SAYS).display());
    let [alone, beside] = images(&engine);
    let container = engine.container(&[&says, &alone, "/says"]);
    container.wait_for("ready");
    for signal in ["HUP", "INT", "QUIT", "USR1", "USR2", "WINCH"] {
        container.signal(signal).wait_for(&format!("got {signal}"));
    }
    assert_eq!(container.stop(), 9);
    let site = engine.site("beside", "  cache: {command: [sleep, '1000']}");
    let container = engine.container(&[&says, &site, &beside, "/says"]);
    container.wait_for("ready").wait_for("cache: started");
    // What has no meaning for a site is passed on.
    container.signal("WINCH").wait_for("got WINCH");
    assert_eq!(container.stop(), 9, "{}", container.logs());
    assert!(container.logs().contains("cache: stopped"));
    for image in [&alone, &beside] {
        let deaf = "trap '' TERM; echo ready; while :; do sleep 1000; done";
        let container = engine.container(&[&site, image, "sh", "-c", deaf]);
        container.wait_for("ready");
        let began = Instant::now();
        // By whom it was killed shows in the time, not in the code.
        assert_eq!(container.stop(), 137, "{image}");
        let took = began.elapsed();
        assert!(took < Duration::from_millis(9_900), "{image}: {took:?}");
    }
}

/// P4, C6: an orphan of the command may clean up, after `docker stop` and after its own end.
#[test]
fn what_the_command_leaves_behind_may_clean_up() {
    let Some(engine) = Engine::start(None) else { return };
    let data = format!("-v={}:/data", engine.folder("data").display());
    let orphan = "(trap 'sleep 0.3; echo CLEANED > /data/done; exit' TERM; touch /data/up; while :; do sleep 0.05; done) 2>/dev/null & while ! test -e /data/up; do sleep 0.05; done; echo ready";
    let ends = format!("{orphan}; exit 6");
    let stays = format!("{orphan}; exec sleep 1000");
    let site = engine.site("beside", "  cache: {command: [sleep, '1000']}");
    let cleaned = || {
        let folder = engine.folder("data");
        let text = fs::read_to_string(folder.join("done")).unwrap_or_default();
        for name in ["done", "up"] {
            fs::remove_file(folder.join(name)).ok();
        }
        text
    };
    let [alone, beside] = images(&engine);
    let ran = engine.run(&[&data, &alone, "sh", "-c", &ends]);
    assert_eq!((ran.code, &*cleaned()), (6, "CLEANED\n"), "{ran:?}");
    let container = engine.container(&[&data, &alone, "sh", "-c", &stays]);
    container.wait_for("ready");
    assert_eq!(container.stop(), 143);
    assert_eq!(cleaned(), "CLEANED\n", "{}", container.logs());
    // Beside a site as well.
    let ran = engine.run(&[&data, &site, &beside, "sh", "-c", &ends]);
    assert_eq!((ran.code, &*cleaned()), (6, "CLEANED\n"), "{ran:?}");
}

/// C4, C5: with `-it` the command has the terminal, as under the engine's own init.
#[test]
fn on_a_terminal_the_command_has_the_foreground() {
    let Some(engine) = Engine::start(None) else { return };
    let [alone, _] = images(&engine);
    let script =
        "trap 'echo interrupted; exit 5' INT; tty; echo ready; while :; do sleep 0.05; done";
    for words in [&[&*alone][..], &["--init", IMAGE], &["--init", &alone]] {
        let command = [words, &["sh", "-c", script]].concat();
        let mut terminal = engine.terminal(&command);
        terminal.wait_for("/dev/pts/0").wait_for("ready").types("\u{3}");
        let (code, text) = terminal.wait_for("interrupted").end();
        assert_eq!(code, Some(5), "{words:?}: {text}");
    }
    // A shell below has job control: ^Z is its business.
    let mut terminal = engine.terminal(&[&alone, "sh", "-i"]);
    terminal.wait_for("# ").types("sleep 1000\n").wait_for("1000\r\n");
    until("it runs", || engine.ok(&["ps", "-q"]).lines().count() == 1);
    let id = engine.ok(&["ps", "-q"]);
    let commands =
        || engine.ok(&["exec", &id, "sh", "-c", "cat /proc/[0-9]*/cmdline"]).replace('\0', " ");
    until("sleep runs", || commands().contains("sleep 1000"));
    terminal.types("\u{1a}").wait_for("Stopped").types("exit 4\n");
    terminal.wait_for("You have stopped jobs").types("exit 4\n");
    let (code, text) = terminal.end();
    assert_eq!(code, Some(4), "{text}");
    // Without -t there is none.
    let ran = engine.run(&[&alone, "sh", "-c", "tty; exit 3"]);
    assert_eq!((ran.code, &*ran.out), (3, "not a tty\n"));
    let ran = engine.run(&["-t", &alone, "tty"]);
    assert_eq!((ran.code, &*ran.out), (0, "/dev/pts/0\r\n"));
}

/// P8: as confined as it gets.
#[test]
fn a_command_needs_no_rights_no_name_and_no_place_to_write() {
    let Some(engine) = Engine::start(None) else { return };
    let site = engine.site("beside", "  cache: {command: [sleep, '1000']}");
    let confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"];
    for image in images(&engine) {
        for user in ["--user=1000", "--user=123456:0"] {
            let words = [user, &site, &image, "sh", "-c", "id; exit 4"];
            let ran = engine.run(&[&confined[..], &words].concat());
            let uid = user.trim_start_matches("--user=").split(':').next().unwrap();
            assert_eq!(ran.code, 4, "{ran:?}");
            assert!(ran.out.contains(&format!("uid={uid}")), "{ran:?}");
            let quiet = image == "beside" || ran.err.is_empty();
            assert!(quiet, "nothing is missing for a command alone: {ran:?}");
        }
    }
}

/// C8: the engine's own init, replaced.
#[test]
fn the_engine_takes_the_binary_for_its_init() {
    if !crate::outside::possible(&["dockerd"]) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("ms-init-").tempdir().unwrap();
    let path = dir.path().join("docker-init");
    fs::copy(crate::outside::BINARY, &path).unwrap();
    let Some(engine) = Engine::start(Some(path.to_str().unwrap())) else { return };
    for (script, code) in [("exit 12", 12), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        assert_eq!(engine.run(&["--init", IMAGE, "sh", "-c", script]).code, code, "{script}");
    }
    assert_eq!(engine.run(&["--init", IMAGE, "/no/such"]).code, 127);
    let script = "(setsid true &); echo ready; while :; do sleep 0.05; done";
    let container = engine.container(&["--init", IMAGE, "sh", "-c", script]);
    container.wait_for("ready");
    let first = container.exec(&["cat", "/proc/1/cmdline"]).out;
    assert!(first.starts_with("/sbin/docker-init\0--\0sh\0"), "{first:?}");
    let size = container.exec(&["sh", "-c", "ls -lL /proc/1/exe"]).out;
    let ours = fs::metadata(crate::outside::BINARY).unwrap().len().to_string();
    assert!(size.contains(&ours), "not our binary: {size}");
    until("no zombie", || {
        !container.exec(&["sh", "-c", "cat /proc/[0-9]*/stat"]).out.contains(") Z ")
    });
    assert_eq!(container.stop(), 143);
}

/// P11: where Kubernetes reads why a container has ended.
#[test]
fn the_last_words_are_in_the_termination_log() {
    let Some(engine) = Engine::start(None) else { return };
    let log = engine.file("last", "");
    let mount = format!("-v={}:/dev/termination-log", log.display());
    let site = engine.site(
        "fails",
        "  main: {command: [sh, -c, 'exit 7'], essential: true, restart: {policy: never}}",
    );
    let ran = engine.run(&[&mount, &site, IMAGE, "supervisor"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("main") && text.contains('7') && text.len() <= 4096, "{text:?}");
    fs::write(&log, "").unwrap();
    let broken = engine.site("broken", "  main: {comand: [sh]}");
    assert_eq!(engine.run(&[&mount, &broken, IMAGE, "supervisor"]).code, 78);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("comand"), "{text:?}");
}
