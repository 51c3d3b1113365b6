//! Everything is to end: in order first, then what the shell finds.

use expect_test::expect;

use super::{check, db_and_web};

#[test]
fn the_programs_are_stopped_in_order_and_then_the_rest_is_ended() {
    check(
        db_and_web(),
        "0s boot; 1s kill-all; 2s kill-all --yes; 3s end web 0; 4s end db 0; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            1s   reply 1: end every process of the site? []
            2s kill-all (asked by uid 0, pid 0)
            2s   note who is there for 2
            2s web: stopping (asked)
            2s   SIGTERM to main of web
            3s   SIGKILL to tree of web
            3s web: stopped
            3s db: stopping (asked)
            3s   SIGTERM to main of db
            4s   SIGKILL to tree of db
            4s db: stopped
            4s   end the rest for 2
            4s db STOPPED, web STOPPED
        "#]],
    );
}

#[test]
fn it_goes_on_without_its_client() {
    check(
        db_and_web(),
        "0s boot; 2s kill-all --yes; client-gone; 3s end web 0; 4s end db 0; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            2s kill-all (asked by uid 0, pid 0)
            2s   note who is there for 1
            2s web: stopping (asked)
            2s   SIGTERM to main of web
            3s   SIGKILL to tree of web
            3s web: stopped
            3s db: stopping (asked)
            3s   SIGTERM to main of db
            4s   SIGKILL to tree of db
            4s db: stopped
            4s   end the rest for 1
            4s db STOPPED, web STOPPED
        "#]],
    );
}

#[test]
fn what_does_not_go_down_is_not_waited_for_longer_than_a_stop_of_the_site() {
    check(
        db_and_web(),
        "0s boot; 2s kill-all --yes; 3s end web 0; 93s state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            2s kill-all (asked by uid 0, pid 0)
            2s   note who is there for 1
            2s web: stopping (asked)
            2s   SIGTERM to main of web
            3s   SIGKILL to tree of web
            3s web: stopped
            3s db: stopping (asked)
            3s   SIGTERM to main of db
            13s db: still alive, sending SIGKILL
            13s   SIGKILL to tree of db
            14s   SIGKILL to tree of db
            16s   SIGKILL to tree of db
            20s   SIGKILL to tree of db
            28s   SIGKILL to tree of db
            28s db: has processes that outlive SIGKILL; waiting for them
            44s   SIGKILL to tree of db
            76s   SIGKILL to tree of db
            92s   end the rest for 1
            93s db STOPPING, web STOPPED
        "#]],
    );
}

#[test]
fn while_the_site_stops_it_is_refused_and_a_stop_meanwhile_answers_by_its_end() {
    check(
        db_and_web(),
        "0s boot; 1s kill-all --yes; term; kill-all --yes; 2s end web 0; 3s end db 0",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            1s kill-all (asked by uid 0, pid 0)
            1s   note who is there for 1
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            1s stopping the site (signal)
            1s   reply 2: the supervisor is stopping []
            2s   SIGKILL to tree of web
            2s web: stopped
            2s db: stopping (shutdown)
            2s   SIGTERM to main of db
            3s   SIGKILL to tree of db
            3s db: stopped
            3s   end the rest for 1
            3s   EXIT 0
        "#]],
    );
}
