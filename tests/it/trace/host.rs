//! The way to a reboot.

use std::{sync::Arc, time::Duration};

use expect_test::{Expect, expect};
use mini_supervisor::model::{
    Case, Deed, ExitWhen, HostEnd, HostGoal, Limit, Method, Semaphore, Site, SysRq,
};

use super::{db_and_web, play_in, stop, with};
use crate::site_builder::{name, program, site};

fn end(goal: HostGoal, methods: &[Method]) -> HostEnd {
    HostEnd {
        goal,
        methods: methods.into(),
        timeout: Duration::from_secs(5),
        grace: Duration::from_secs(90),
        retry: Duration::from_secs(30),
        sysrq: SysRq { sequence: "sub".into(), wait: Duration::from_secs(2) },
        stops_programs: methods.first() != Some(&Method::SysRq),
        dry_run: false,
    }
}

/// One whose methods are a command and reboot(2), with an emergency beside it.
fn reboots(change: impl FnOnce(&mut Semaphore, &mut HostEnd)) -> Semaphore {
    let mut reboot = end(HostGoal::Reboot, &[Method::Systemctl, Method::Syscall]);
    let mut semaphore = crate::semaphore::settings(|_| {});
    change(&mut semaphore, &mut reboot);
    semaphore.deed = Deed::EndHost(Arc::new(reboot));
    semaphore
}

fn asking(semaphores: &[Semaphore]) -> Site {
    let mut site = site([program("web")]);
    for one in semaphores {
        site.semaphores.insert(one.name.clone(), Arc::new(one.clone()));
    }
    site
}

fn of_two(mut site: Site) -> Site {
    site.programs = self::site(db_and_web()).programs;
    site
}

fn check(site: Site, script: &str, then: Expect) {
    then.assert_eq(&play_in(false, vec![site], script));
}

#[test]
fn programs_go_first_and_then_each_method_is_tried_once() {
    check(
        of_two(asking(&[reboots(|_, _| {})])),
        "0s boot; seen x free; 1s seen x held 1000; summary; 2s end web TERM; 3s end db TERM; \
         4s refuses EIO; 5s works; summary; 94s summary; 95s; seen x free; 96s term",
        expect![[r#"
            0s supervising 2 programs
            0s   watch semaphore:x
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            0s semaphore:x: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: stops 2 programs first, within 1m30s
            1s web: stopping (the host goes down)
            1s   SIGTERM to main of web
            1s reboot: stops 2 programs first; 1/2 running; stopping: db, web [up]
            2s   SIGKILL to tree of web
            2s web: stopped
            2s db: stopping (the host goes down)
            2s   SIGTERM to main of db
            3s   SIGKILL to tree of db
            3s db: stopped
            3s semaphore:x: reboot: tries systemctl
            3s   reboot by systemctl
            4s semaphore:x: reboot: systemctl has failed: EIO
            4s semaphore:x: reboot: tries syscall
            4s   reboot by syscall
            5s semaphore:x: reboot: syscall has accepted; the host has 1m30s to go down
            5s   acknowledge /dev/shm/x.lock
            5s reboot: syscall has accepted; waits for the host to go down; 0/0 running [up]
            94s reboot: syscall has accepted; waits for the host to go down; 0/0 running [up]
            95s semaphore:x: reboot: the host is still up 1m30s after syscall had accepted
            95s semaphore:x: reboot: none of its methods has worked (systemctl, syscall); 2 programs started again; tried again in 30s, unless it is cleared or no longer asked for
            95s   spawn db command
            95s web: waiting for db (starting)
            95s db: started (pid 3)
            95s db: ready
            95s   spawn web command
            95s web: started (pid 4)
            95s web: ready
            95s semaphore:x: clear
            96s stopping the site (signal)
            96s web: stopping (shutdown)
            96s   SIGTERM to main of web
        "#]],
    );
}

#[test]
fn a_method_that_does_not_answer_is_left() {
    check(
        asking(&[reboots(|_, end| end.stops_programs = false)]),
        "0s boot; seen x free; 1s seen x held 1000; 6s; 7s works",
        expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:x
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:x: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: tries systemctl
            1s   reboot by systemctl
            6s   no more of that method
            6s semaphore:x: reboot: systemctl has failed: no answer within 5s
            6s semaphore:x: reboot: tries syscall
            6s   reboot by syscall
            7s semaphore:x: reboot: syscall has accepted; the host has 1m30s to go down
            7s   acknowledge /dev/shm/x.lock
        "#]],
    );
}

#[test]
fn where_none_has_worked_the_programs_are_back_and_it_is_tried_again() {
    check(
        asking(&[reboots(|_, _| {})]),
        "0s boot; seen x free; 1s seen x held 1000; end web TERM; refuses a; \
         2s refuses b; state; summary; 32s refuses c; refuses d; state; 40s seen x free; 70s state",
        expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:x
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:x: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: stops 1 program first, within 1m30s
            1s web: stopping (the host goes down)
            1s   SIGTERM to main of web
            1s   SIGKILL to tree of web
            1s web: stopped
            1s semaphore:x: reboot: tries systemctl
            1s   reboot by systemctl
            1s semaphore:x: reboot: systemctl has failed: a
            1s semaphore:x: reboot: tries syscall
            1s   reboot by syscall
            2s semaphore:x: reboot: syscall has failed: b
            2s semaphore:x: reboot: none of its methods has worked (systemctl, syscall); 1 program started again; tried again in 30s, unless it is cleared or no longer asked for
            2s   spawn web command
            2s web: started (pid 2)
            2s web: ready
            2s web RUNNING
            2s reboot: no method has worked; tried again; 1/1 running [up]
            32s semaphore:x: reboot: tries systemctl
            32s   reboot by systemctl
            32s semaphore:x: reboot: systemctl has failed: c
            32s semaphore:x: reboot: tries syscall
            32s   reboot by syscall
            32s semaphore:x: reboot: syscall has failed: d
            32s semaphore:x: reboot: none of its methods has worked (systemctl, syscall); tried again in 30s, unless it is cleared or no longer asked for
            32s web RUNNING
            40s semaphore:x: clear
            62s semaphore:x: reboot: not tried again, as nobody asks for it any more
            70s web RUNNING
        "#]],
    );
}

#[test]
fn what_its_programs_hold_up_is_killed_and_what_cannot_be_is_left() {
    let mut site = asking(&[reboots(|_, _| {})]);
    let forever = |p: &mut _| stop(p, |s| s.ladder[0].wait = Limit::Never);
    site.programs.insert(name("web"), Arc::new(with(program("web"), forever)));
    check(
        site,
        "0s boot; seen x free; 1s seen x held 1000; 89s; 91s; state",
        expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:x
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:x: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: stops 1 program first, within 1m30s
            1s web: stopping (the host goes down)
            1s   SIGTERM to main of web
            89s semaphore:x: reboot: 1 program not ended in time: killed
            89s web: still alive, sending SIGKILL
            89s   SIGKILL to tree of web
            90s   SIGKILL to tree of web
            91s semaphore:x: reboot: goes on, although SIGKILL does not end 1 program
            91s semaphore:x: reboot: tries systemctl
            91s   reboot by systemctl
            91s web STOPPING
        "#]],
    );
}

#[test]
fn clearing_it_takes_it_back_as_long_as_we_are_there() {
    check(
        of_two(asking(&[reboots(|_, _| {})])),
        "0s boot; seen x free; 1s seen x held 1000; 2s end web TERM; start web; hup; 3s clear x; \
         4s end db TERM; 5s state",
        expect![[r#"
            0s supervising 2 programs
            0s   watch semaphore:x
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            0s semaphore:x: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: stops 2 programs first, within 1m30s
            1s web: stopping (the host goes down)
            1s   SIGTERM to main of web
            2s   SIGKILL to tree of web
            2s web: stopped
            2s db: stopping (the host goes down)
            2s   SIGTERM to main of db
            2s   reply 1: the host is about to go down []
            2s reload refused, nothing changed: the host is about to go down
            3s semaphore clear x (asked by uid 0, pid 0)
            3s   acknowledge /dev/shm/x.lock
            3s semaphore:x: reboot: cancelled; 2 programs started again
            3s web: waiting for db (stopping)
            3s   reply 2: done
            4s   SIGKILL to tree of db
            4s   spawn db command
            4s db: started (pid 3)
            4s db: ready
            4s   spawn web command
            4s web: started (pid 4)
            4s web: ready
            5s db RUNNING, web RUNNING
        "#]],
    );
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    check(
        asking(&[reboots(|_, end| end.dry_run = true)]),
        "0s boot; seen x free; 1s seen x held 1000; 9s state",
        expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:x
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:x: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: would stop 1 program and try systemctl, syscall (dry_run)
            1s   acknowledge /dev/shm/x.lock
            9s web RUNNING
        "#]],
    );
}

#[test]
fn an_emergency_stops_nothing_and_overtakes_what_waits_for_programs() {
    let emergency = reboots(|semaphore, end| {
        semaphore.name = name("now");
        *end = self::end(HostGoal::Reboot, &[Method::SysRq]);
    });
    check(
        asking(&[reboots(|_, _| {}), emergency]),
        "0s boot; seen x free; seen now free; 1s seen x held 1000; 2s seen now held 0; \
         3s seen now free; seen now held 0; 11s",
        expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:now
            0s   watch semaphore:x
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:x: armed
            0s semaphore:now: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: stops 1 program first, within 1m30s
            1s web: stopping (the host goes down)
            1s   SIGTERM to main of web
            2s semaphore:now: raised by bot (pid 77, uid 0)
            2s semaphore:now: does reboot
            2s semaphore:now: reboot: tries sysrq
            2s   reboot by sysrq
            3s semaphore:now: clear
            3s semaphore:now: raised by bot (pid 77, uid 0)
            3s semaphore:now: does reboot
            3s semaphore:now: cannot do reboot: semaphore:now has begun a reboot already
            11s web: still alive, sending SIGKILL
            11s   SIGKILL to tree of web
            11s   no more of that method
            11s semaphore:now: reboot: sysrq has failed: no answer within 5s
            11s semaphore:now: reboot: none of its methods has worked (sysrq); 1 program started again; tried again in 30s, unless it is cleared or no longer asked for
        "#]],
    );
}

#[test]
fn what_the_info_file_says_chooses_the_case_and_is_waited_for() {
    let cases = |semaphore: &mut Semaphore, _: &mut HostEnd| {
        let deed = Deed::EndHost(Arc::new(end(HostGoal::Reboot, &[Method::SysRq])));
        let when = Box::new([("name".into(), "Tigro".into())]);
        semaphore.cases = Box::new([Case { when, deed }]);
    };
    // Written after the lock is taken; by somebody who may not; not at all.
    for (script, then) in [
        (
            "0s boot; seen x free; 1s seen x held 1000; 1200ms seen x held 1000 info 5 1000",
            expect![[r#"
                0s supervising 0 programs
                0s   watch semaphore:x
                0s semaphore:x: armed
                1s semaphore:x: raised by bot (pid 77, uid 1000); acts in 1s (waits for the info file)
                1200ms semaphore:x: who has raised it says name=Tigro
                1200ms semaphore:x: does reboot
                1200ms semaphore:x: reboot: tries sysrq
                1200ms   reboot by sysrq
            "#]],
        ),
        (
            "0s boot; seen x free; 1s seen x held 1000 info 5 1001; 2s",
            expect![[r#"
                0s supervising 0 programs
                0s   watch semaphore:x
                0s semaphore:x: armed
                1s semaphore:x: raised by bot (pid 77, uid 1000): name=Tigro; acts in 1s (waits for the info file)
                2s semaphore:x: does reboot
                2s semaphore:x: reboot: tries systemctl
                2s   reboot by systemctl
            "#]],
        ),
        (
            "0s boot; seen x free; 1s seen x held 1000; 2s",
            expect![[r#"
                0s supervising 0 programs
                0s   watch semaphore:x
                0s semaphore:x: armed
                1s semaphore:x: raised by bot (pid 77, uid 1000); acts in 1s (waits for the info file)
                2s semaphore:x: does reboot
                2s semaphore:x: reboot: tries systemctl
                2s   reboot by systemctl
            "#]],
        ),
    ] {
        let mut site = asking(&[reboots(cases)]);
        site.programs.clear();
        check(site, script, then);
    }
}

#[test]
fn a_container_ends_instead_and_its_files_are_removed_first() {
    for (goal, then) in [
        (
            HostGoal::Reboot,
            expect![[r#"
                0s supervising 1 program
                0s   watch semaphore:x
                0s   spawn web command
                0s web: started (pid 1)
                0s web: ready
                0s semaphore:x: armed
                1s semaphore:x: raised by bot (pid 77, uid 1000)
                1s semaphore:x: does reboot
                1s semaphore:x: reboot: this is a container: it ends with code 75 for its restart policy
                1s   acknowledge /dev/shm/x.lock
                1s stopping the site (a reboot was asked for)
                1s web: stopping (shutdown)
                1s   SIGTERM to main of web
                1s   SIGKILL to tree of web
                1s web: stopped
                1s   EXIT 75
            "#]],
        ),
        (
            HostGoal::PowerOff,
            expect![[r#"
                0s supervising 1 program
                0s   watch semaphore:x
                0s   spawn web command
                0s web: started (pid 1)
                0s web: ready
                0s semaphore:x: armed
                1s semaphore:x: raised by bot (pid 77, uid 1000)
                1s semaphore:x: does poweroff
                1s semaphore:x: poweroff: this is a container: it ends with code 0 for its restart policy
                1s   acknowledge /dev/shm/x.lock
                1s stopping the site (a power-off was asked for)
                1s web: stopping (shutdown)
                1s   SIGTERM to main of web
                1s   SIGKILL to tree of web
                1s web: stopped
                1s   EXIT 0
            "#]],
        ),
    ] {
        let site = asking(&[reboots(|_, end| end.goal = goal)]);
        let script = "0s boot; seen x free; 1s seen x held 1000; end web TERM";
        then.assert_eq(&play_in(true, vec![site], script));
    }
}

#[test]
fn a_site_that_ends_with_its_programs_does_not_end_by_that() {
    let mut site = asking(&[reboots(|_, _| {})]);
    site.supervisor.exit_when = Some(ExitWhen::AllExited);
    let essential = with(program("web"), |p| p.essential = true);
    site.programs.insert(name("web"), Arc::new(essential));
    check(
        site,
        "0s boot; seen x free; 1s seen x held 1000; end web TERM; 2s works",
        expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:x
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:x: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: stops 1 program first, within 1m30s
            1s web: stopping (the host goes down)
            1s   SIGTERM to main of web
            1s   SIGKILL to tree of web
            1s web: stopped
            1s semaphore:x: reboot: tries systemctl
            1s   reboot by systemctl
            2s semaphore:x: reboot: systemctl has accepted; the host has 1m30s to go down
            2s   acknowledge /dev/shm/x.lock
        "#]],
    );
}

#[test]
fn a_stop_on_the_way_down_is_an_ordinary_stop() {
    check(
        asking(&[reboots(|_, _| {})]),
        "0s boot; seen x free; 1s seen x held 1000; 2s term; end web TERM",
        expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:x
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:x: armed
            1s semaphore:x: raised by bot (pid 77, uid 1000)
            1s semaphore:x: does reboot
            1s semaphore:x: reboot: stops 1 program first, within 1m30s
            1s web: stopping (the host goes down)
            1s   SIGTERM to main of web
            2s stopping the site (signal)
            2s   SIGKILL to tree of web
            2s web: stopped
            2s   EXIT 0
        "#]],
    );
}
