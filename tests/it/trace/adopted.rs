//! A copy of a program that was started by hand is adopted.

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use mini_supervisor::model::{OnDuplicate, RestartPolicy};

use super::{check, play_sites, single::alone, with};
use crate::site_builder::{hook, site};

/// Up by adoption at 20 s; it has run for 10 s then.
const ADOPTED: &str = "0s manual; boot; 20s locked robot copy already running (pid 7); \
                       locked robot adopted pid 7, x.py, started by uid 1; ";

#[test]
fn the_one_copy_is_adopted_and_nothing_is_run_before_or_beside_it() {
    check(
        [with(alone(OnDuplicate::Adopt), |p| {
            p.start_pre = Box::new([hook(Duration::from_secs(5))]);
            p.start_post = Box::new([hook(Duration::from_secs(5))]);
        })],
        &format!("{ADOPTED}state; 25s stop robot; 26s exit robot ?; state; 27s gone robot; state"),
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            20s   adopt the copy of robot
            20s   sign robot 7
            20s robot: adopted, not started by the supervisor: pid 7, x.py, started by uid 1; its output is not ours
            20s robot: ready
            20s robot RUNNING
            25s stop robot (asked by uid 0, pid 0)
            25s robot: stopping (asked)
            25s   SIGTERM to main of robot
            26s   SIGKILL to tree of robot
            26s robot STOPPING
            27s   SIGKILL to tree of robot
            27s   unlock robot
            27s robot: stopped
            27s   reply 1: robot STOPPED (ok)
            27s robot STOPPED
        "#]],
    );
}

#[test]
fn the_end_of_an_adopted_copy_is_neither_success_nor_failure() {
    for (policy, again) in [
        (RestartPolicy::Always, true),
        (RestartPolicy::OnFailure, true),
        (RestartPolicy::OnAbnormal, true),
        (RestartPolicy::Never, false),
    ] {
        let robot = with(alone(OnDuplicate::Adopt), |p| {
            Arc::make_mut(&mut p.restart).policy = policy;
        });
        let script = format!("{ADOPTED}25s end robot ?; state; auto; 26s state");
        let text = play_sites(vec![site([robot])], &script);
        let ended = "25s robot: ended after 15s; its exit status is not known, because it was \
                     adopted\n";
        assert!(text.contains(ended), "{policy:?}: {text}");
        let words = "25s robot: ended, exit status not known; attempt 2 in 0.5s";
        assert_eq!(text.contains(words), again, "{policy:?}: {text}");
        let words = "25s robot: ended, not started again (restart policy)";
        assert_eq!(text.contains(words), !again, "{policy:?}: {text}");
        assert_eq!(text.contains("  spawn robot command"), again, "{policy:?}: {text}");
        assert_eq!(text.contains("26s robot EXITED"), !again, "{policy:?}: {text}");
    }
}

#[test]
fn what_was_adopted_is_stopped_and_started_as_ours_by_a_restart_or_new_settings() {
    let new = with(alone(OnDuplicate::Adopt), |p| p.command = Box::new(["/bin/b".into()]));
    let sites = vec![site([alone(OnDuplicate::Adopt)]), site([new])];
    let script = format!(
        "{ADOPTED}25s load 1; 26s end robot ?; locked robot free; auto; spawned robot; \
                          27s restart robot; end robot 0"
    );
    expect![[r#"
        0s supervising 1 program
        0s   lock robot
        20s   adopt the copy of robot
        20s   sign robot 7
        20s robot: adopted, not started by the supervisor: pid 7, x.py, started by uid 1; its output is not ours
        20s robot: ready
        25s   reconfigure robot
        25s robot: stopping (its settings changed)
        25s   SIGTERM to main of robot
        25s reloaded: 0 added, 0 removed, 1 restarted, 0 changed
        25s   reply 100: { added: [], removed: [], restarted: [("robot", ["command"])], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        26s   SIGKILL to tree of robot
        26s   unlock robot
        26s   lock robot
        26s   spawn robot command
        26s   sign robot 1
        26s robot: started (pid 1)
        26s robot: ready
        27s restart robot (asked by uid 0, pid 0)
        27s robot: stopping (restart)
        27s   SIGTERM to main of robot
        27s   SIGKILL to tree of robot
        27s   unlock robot
        27s   lock robot
        27s   spawn robot command
        27s   sign robot 2
        27s robot: started (pid 2)
        27s robot: ready
        27s   reply 1: robot RUNNING (ok)
    "#]].assert_eq(&play_sites(sites, &script));
}

#[test]
fn a_copy_that_is_gone_when_it_is_to_be_adopted_is_looked_for_again() {
    check(
        [alone(OnDuplicate::Adopt)],
        "0s manual; boot; locked robot copy already running (pid 7); 1s locked robot free; auto; \
         spawned robot; state; end robot 0; stop robot; start robot; state",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            0s   adopt the copy of robot
            1s   spawn robot command
            1s   sign robot 1
            1s robot: started (pid 1)
            1s robot: ready
            1s robot RUNNING
            1s robot: exit 0 after 0s
            1s   SIGKILL to tree of robot
            1s   unlock robot
            1s robot: ended, not started again
            1s stop robot (asked by uid 0, pid 0)
            1s   reply 1: robot STOPPED (ok)
            1s start robot (asked by uid 0, pid 0)
            1s   lock robot
            1s   spawn robot command
            1s   sign robot 2
            1s robot: started (pid 2)
            1s robot: ready
            1s   reply 2: robot RUNNING (ok)
            1s robot RUNNING
        "#]],
    );
}

#[test]
fn of_several_copies_none_is_adopted() {
    check(
        [alone(OnDuplicate::Adopt)],
        "0s manual; boot; locked robot copies already running, 2 copies (pid 7, pid 8); 9s state; \
         start robot; locked robot taken already running (pid 7); state",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            0s   unlock robot
            0s robot: not started: already running, 2 copies (pid 7, pid 8)
            9s robot FATAL
            9s start robot (asked by uid 0, pid 0)
            9s   lock robot
            9s   unlock robot
            9s robot: not started: already running (pid 7)
            9s   reply 1: robot FATAL (not ok)
            9s robot FATAL
        "#]],
    );
}

#[test]
fn an_adopted_copy_that_ignores_its_stop_is_killed_with_all_that_it_has_started() {
    check(
        [with(alone(OnDuplicate::Adopt), |p| {
            p.stop_post = Box::new([hook(Duration::from_secs(5))]);
        })],
        &format!(
            "{ADOPTED}25s term; 36s exit robot ?; 37s gone robot; spawned robot/; end robot/ 0"
        ),
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            20s   adopt the copy of robot
            20s   sign robot 7
            20s robot: adopted, not started by the supervisor: pid 7, x.py, started by uid 1; its output is not ours
            20s robot: ready
            25s stopping the site (signal)
            25s robot: stopping (shutdown)
            25s   SIGTERM to main of robot
            35s robot: still alive, sending SIGKILL
            35s   SIGKILL to tree of robot
            36s   SIGKILL to tree of robot
            36s   SIGKILL to tree of robot
            37s   SIGKILL to tree of robot
            37s   spawn robot stop_post[0]
            37s   SIGKILL to tree of robot
            37s   unlock robot
            37s robot: stopped
            37s   EXIT 0
        "#]],
    );
}

#[test]
fn a_stop_before_a_copy_is_adopted_leaves_it_alone() {
    check(
        [alone(OnDuplicate::Adopt)],
        "0s manual; boot; locked robot copy already running (pid 7); stop robot; \
         locked robot adopted pid 7; state",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            0s   adopt the copy of robot
            0s stop robot (asked by uid 0, pid 0)
            0s   unlock robot
            0s robot: stopped
            0s   reply 1: robot STOPPED (ok)
            0s robot STOPPED
        "#]],
    );
}
