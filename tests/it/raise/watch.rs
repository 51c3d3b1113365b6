//! `semaphore watch`.

use super::up;
use crate::cli::site::json;

#[test]
fn how_it_stands_comes_first_and_then_what_happens_to_it_alone() {
    let site = up("action: 'restart:web'");
    site.expect(0, &["semaphore", "raise", "ask"]);
    let mut all = site.follow(&["semaphore", "watch"]);
    let mut one = site.follow(&["semaphore", "watch", "ask", "--json"]);
    let first = all.line();
    assert!(
        first.starts_with("semaphore:ask        CLEAR     armed, last raised today"),
        "{first}"
    );
    let state = json(&one.line());
    assert_eq!(state["name"], "ask");
    assert_eq!(state["state"], "CLEAR");
    site.expect(0, &["semaphore", "raise", "ask"]);
    // Nothing of web, which was restarted, nor of before.
    for event in ["semaphore.raised", "semaphore.acted", "semaphore.cleared"] {
        let line = all.line();
        assert!(line.contains(&format!("{event:<20} semaphore:ask: ")), "{line}");
        let line = json(&one.line());
        assert_eq!(line["source"], event);
        assert_eq!(line["name"], "semaphore:ask");
    }
}

#[test]
fn without_such_a_semaphore_or_a_supervisor_that_is_said() {
    let mut site = up("action: 'restart:web'");
    let none = site.expect(5, &["semaphore", "watch", "aks"]);
    assert!(none.err.contains("hint: there are: ask"), "{none:?}");
    let mut follower = site.background(&["semaphore", "watch"]);
    let mut byte = [0];
    std::io::Read::read_exact(follower.stdout.as_mut().unwrap(), &mut byte).unwrap();
    site.expect(0, &["shutdown"]);
    site.supervisor.take().unwrap().wait().unwrap();
    assert_eq!(super::finish(follower).code, Some(1), "its supervisor is gone");
    site.expect(7, &["semaphore", "watch"]);
}
