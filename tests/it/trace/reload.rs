//! A new site for a running machine.

use expect_test::expect;
use mini_supervisor::model::*;

use super::{again, limit, play_sites, with};
use crate::site_builder::{program, site};

#[test]
fn a_reload_touches_only_what_changed() {
    let old = [program("gone"), program("same"), program("web")];
    let new = [
        program("new"),
        program("same"),
        with(program("web"), |p| p.command = Box::new(["/bin/false".into()])),
    ];
    let script = "0s boot; 1s load 1 dry; 2s load 1; end gone TERM; end web TERM; state; 3s load 1";
    expect![[r#"
        0s supervising 3 programs
        0s   spawn gone command
        0s   spawn same command
        0s   spawn web command
        0s gone: started (pid 1)
        0s gone: ready
        0s same: started (pid 2)
        0s same: ready
        0s web: started (pid 3)
        0s web: ready
        1s   reply 100: { added: ["new"], removed: ["gone"], restarted: [("web", ["command"])], next_start: [], live: [], supervisor: [], dry_run: true, warnings: [] }
        2s   reconfigure web
        2s web: stopping (its settings changed)
        2s   SIGTERM to main of web
        2s gone: stopping (removed from the site)
        2s   SIGTERM to main of gone
        2s   spawn new command
        2s reloaded: 1 added, 1 removed, 1 restarted, 0 changed
        2s   reply 100: { added: ["new"], removed: ["gone"], restarted: [("web", ["command"])], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        2s new: started (pid 4)
        2s new: ready
        2s   SIGKILL to tree of gone
        2s gone: stopped
        2s   forget gone
        2s   SIGKILL to tree of web
        2s   spawn web command
        2s web: started (pid 5)
        2s web: ready
        2s new RUNNING, same RUNNING, web RUNNING
        3s reloaded: 0 added, 0 removed, 0 restarted, 0 changed
        3s   reply 100: { added: [], removed: [], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
    "#]].assert_eq(&play_sites(vec![site(old), site(new)], script));
}

#[test]
fn a_reload_that_removes_most_of_what_runs_needs_a_word() {
    let old = [program("a"), program("b"), program("c")];
    let script =
        "0s boot; 1s load 1; 2s load 1 allow; state; 3s load 0; end a TERM; end b TERM; state";
    expect![[r#"
        0s supervising 3 programs
        0s   spawn a command
        0s   spawn b command
        0s   spawn c command
        0s a: started (pid 1)
        0s a: ready
        0s b: started (pid 2)
        0s b: ready
        0s c: started (pid 3)
        0s c: ready
        1s reload refused, nothing changed: the new site has no more place for 2 of 3 running programs (a, b); if that is meant: supervisor reload --allow-removal
        1s   reply 100: the new site has no more place for 2 of 3 running programs (a, b); if that is meant: supervisor reload --allow-removal [nothing was changed; the site goes on as it was]
        2s a: stopping (removed from the site)
        2s   SIGTERM to main of a
        2s b: stopping (removed from the site)
        2s   SIGTERM to main of b
        2s reloaded: 0 added, 2 removed, 0 restarted, 0 changed
        2s   reply 100: { added: [], removed: ["a", "b"], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        2s a STOPPING, b STOPPING, c RUNNING
        3s reloaded: 2 added, 0 removed, 0 restarted, 0 changed
        3s   reply 100: { added: ["a", "b"], removed: [], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        3s   SIGKILL to tree of a
        3s   spawn a command
        3s a: started (pid 4)
        3s a: ready
        3s   SIGKILL to tree of b
        3s   spawn b command
        3s b: started (pid 5)
        3s b: ready
        3s a RUNNING, b RUNNING, c RUNNING
    "#]].assert_eq(&play_sites(vec![site(old), site([program("c")])], script));
}

#[test]
fn a_program_disabled_in_backoff_stays_down() {
    let off = with(program("web"), |p| p.enabled = false);
    let script = "0s boot; 1s end web 1; load 1; 9s state; load 0; state";
    expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s web: exit 1 after 1s
        1s   SIGKILL to tree of web
        1s web: exit 1; attempt 2 in 0.5s
        1s   reconfigure web
        1s web: stopped
        1s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        1s   reply 100: { added: [], removed: [], restarted: [], next_start: [("web", ["enabled"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        9s web STOPPED
        9s   reconfigure web
        9s   spawn web command
        9s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        9s   reply 100: { added: [], removed: [], restarted: [], next_start: [("web", ["enabled"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        9s web: started (pid 2)
        9s web: ready
        9s web RUNNING
    "#]].assert_eq(&play_sites(vec![site([program("web")]), site([off])], script));
}

#[test]
fn a_given_up_program_gets_a_chance_with_new_settings() {
    let bad = with(program("web"), |p| again(p, |r| r.start_limit = limit(1, LimitAction::GiveUp)));
    let good = with(bad.clone(), |p| p.command = Box::new(["/bin/good".into()]));
    let script = "0s boot; 1s end web 1; state; load 1; state";
    expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s web: exit 1 after 1s
        1s   SIGKILL to tree of web
        1s web: given up (exit 1; too many starts)
        1s web FATAL
        1s   reconfigure web
        1s   spawn web command
        1s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        1s   reply 100: { added: [], removed: [], restarted: [], next_start: [("web", ["command"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        1s web: started (pid 2)
        1s web: ready again
        1s web RUNNING
    "#]].assert_eq(&play_sites(vec![site([bad]), site([good])], script));
}

#[test]
fn a_removed_program_that_still_stops_starts_again_when_it_is_back() {
    let old = [program("a"), program("b")];
    let script = "0s boot; 1s load 1; state; stop b; start b; 2s load 0; state; 3s exit b TERM; \
                  state; gone b; state";
    expect![[r#"
        0s supervising 2 programs
        0s   spawn a command
        0s   spawn b command
        0s a: started (pid 1)
        0s a: ready
        0s b: started (pid 2)
        0s b: ready
        1s b: stopping (removed from the site)
        1s   SIGTERM to main of b
        1s reloaded: 0 added, 1 removed, 0 restarted, 0 changed
        1s   reply 100: { added: [], removed: ["b"], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        1s a RUNNING, b STOPPING
        1s   reply 1: b is no longer in the site; it is being stopped []
        1s   reply 2: b is no longer in the site; it is being stopped []
        2s reloaded: 1 added, 0 removed, 0 restarted, 0 changed
        2s   reply 100: { added: ["b"], removed: [], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        2s a RUNNING, b STOPPING
        3s   SIGKILL to tree of b
        3s a RUNNING, b STOPPING
        3s   spawn b command
        3s b: started (pid 3)
        3s b: ready
        3s a RUNNING, b RUNNING
    "#]].assert_eq(&play_sites(vec![site(old), site([program("a")])], script));
}

#[test]
fn a_removed_program_that_comes_back_without_autostart_stays_down() {
    let old = [program("a"), program("b")];
    let new = [program("a"), with(program("b"), |p| p.autostart = false)];
    let sites = vec![site(old), site([program("a")]), site(new)];
    let script = "0s boot; 1s load 1; 2s load 2; 3s end b TERM; state";
    expect![[r#"
        0s supervising 2 programs
        0s   spawn a command
        0s   spawn b command
        0s a: started (pid 1)
        0s a: ready
        0s b: started (pid 2)
        0s b: ready
        1s b: stopping (removed from the site)
        1s   SIGTERM to main of b
        1s reloaded: 0 added, 1 removed, 0 restarted, 0 changed
        1s   reply 100: { added: [], removed: ["b"], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        2s   reconfigure b
        2s reloaded: 1 added, 0 removed, 0 restarted, 0 changed
        2s   reply 100: { added: ["b"], removed: [], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        3s   SIGKILL to tree of b
        3s b: stopped
        3s a RUNNING, b STOPPED
    "#]].assert_eq(&play_sites(sites, script));
}

#[test]
fn every_mistake_of_a_refused_site_is_in_the_log() {
    let lines: Vec<String> =
        (1..=23).map(|n| format!("site.yaml:{n}:1: error: no such key")).collect();
    let script = format!(
        "0s bad {} | hint: see site.yaml(5); bad x.yaml: is a directory | hint: y; bad",
        lines.join(" | ")
    );
    expect![[r#"
        0s reload refused, nothing changed: site.yaml:1:1: error: no such key
        0s reload refused, nothing changed: site.yaml:2:1: error: no such key
        0s reload refused, nothing changed: site.yaml:3:1: error: no such key
        0s reload refused, nothing changed: site.yaml:4:1: error: no such key
        0s reload refused, nothing changed: site.yaml:5:1: error: no such key
        0s reload refused, nothing changed: site.yaml:6:1: error: no such key
        0s reload refused, nothing changed: site.yaml:7:1: error: no such key
        0s reload refused, nothing changed: site.yaml:8:1: error: no such key
        0s reload refused, nothing changed: site.yaml:9:1: error: no such key
        0s reload refused, nothing changed: site.yaml:10:1: error: no such key
        0s reload refused, nothing changed: site.yaml:11:1: error: no such key
        0s reload refused, nothing changed: site.yaml:12:1: error: no such key
        0s reload refused, nothing changed: site.yaml:13:1: error: no such key
        0s reload refused, nothing changed: site.yaml:14:1: error: no such key
        0s reload refused, nothing changed: site.yaml:15:1: error: no such key
        0s reload refused, nothing changed: site.yaml:16:1: error: no such key
        0s reload refused, nothing changed: site.yaml:17:1: error: no such key
        0s reload refused, nothing changed: site.yaml:18:1: error: no such key
        0s reload refused, nothing changed: site.yaml:19:1: error: no such key
        0s reload refused, nothing changed: site.yaml:20:1: error: no such key
        0s reload refused, nothing changed: and 3 more mistakes; see supervisor check
        0s   reply 100: site.yaml:1:1: error: no such key
        site.yaml:2:1: error: no such key
        site.yaml:3:1: error: no such key
        site.yaml:4:1: error: no such key
        site.yaml:5:1: error: no such key
        site.yaml:6:1: error: no such key
        site.yaml:7:1: error: no such key
        site.yaml:8:1: error: no such key
        site.yaml:9:1: error: no such key
        site.yaml:10:1: error: no such key
        site.yaml:11:1: error: no such key
        site.yaml:12:1: error: no such key
        site.yaml:13:1: error: no such key
        site.yaml:14:1: error: no such key
        site.yaml:15:1: error: no such key
        site.yaml:16:1: error: no such key
        site.yaml:17:1: error: no such key
        site.yaml:18:1: error: no such key
        site.yaml:19:1: error: no such key
        site.yaml:20:1: error: no such key
        site.yaml:21:1: error: no such key
        site.yaml:22:1: error: no such key
        site.yaml:23:1: error: no such key
        hint: see site.yaml(5) [nothing was changed; the site goes on as it was]
        0s reload refused, nothing changed: x.yaml: is a directory (hint: y)
        0s   reply 100: x.yaml: is a directory
        hint: y [nothing was changed; the site goes on as it was]
        0s reload refused, nothing changed: the site file is invalid
        0s   reply 100:  [nothing was changed; the site goes on as it was]
    "#]]
    .assert_eq(&play_sites(vec![site([])], &script));
}
