//! Who may ask what: the access list of the control socket.

use std::time::Duration;

use mini_supervisor::{
    control::{
        Change, Empty, KillAll, Peer, ProcessesQuery, RefusalCode, ReloadSite, Request, SendSignal,
        Shutdown, Targets,
        access::{Asker, RateLimits, actions, check},
    },
    model::{Access, Control, Instant, RateLimit, Signal},
};

const OURS: u32 = 990;

fn rule(users: &[u32], groups: &[u32], actions: &[&str]) -> Access {
    Access {
        users: users.into(),
        groups: groups.into(),
        actions: actions.iter().map(|a| (*a).into()).collect(),
        rate_limit: None,
    }
}

fn control(access: Vec<Access>) -> Control {
    Control {
        socket: None,
        owner: None,
        group: None,
        mode: mini_supervisor::model::Mode(0o600),
        access: access.into(),
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn stop(of: &[&str]) -> Request {
    Request::Stop(Change { names: names(of), ..Change::default() })
}

fn start(of: &[&str]) -> Request {
    Request::Start(Change { names: names(of), ..Change::default() })
}

fn processes(of: &[&str]) -> Request {
    Request::Processes(ProcessesQuery { names: names(of), orphans: false })
}

fn may(control: &Control, uid: u32, groups: &[u32], request: &Request) -> bool {
    let asker = Asker { peer: Peer { pid: 1, uid, gid: 7 }, groups, user: None };
    let limits = &mut RateLimits::default();
    check(control, OURS, &asker, request, limits, Instant::default()).is_ok()
}

#[test]
fn root_and_the_supervisors_own_user_may_do_everything_and_others_nothing() {
    let none = control(Vec::new());
    for request in [stop(&["all"]), Request::Shutdown(Shutdown { force: true })] {
        assert!(may(&none, 0, &[], &request));
        assert!(may(&none, OURS, &[], &request));
        assert!(!may(&none, 65_534, &[0], &request));
        // The uid that once overflowed a signed number is nobody special.
        assert!(!may(&none, 4_000_000_000, &[], &request));
        assert!(!may(&none, u32::MAX, &[], &request));
    }
    let version = Request::Version(Empty {});
    assert!(may(&none, 65_534, &[], &version), "whoever is here may ask for the version");
    assert!(!may(&none, 65_534, &[], &Request::Status(Targets::default())));
}

#[test]
fn each_pattern_covers_what_it_says_and_no_more() {
    let rows: &[(&str, Request, bool)] = &[
        ("*", stop(&["all"]), true),
        ("status", Request::Status(Targets::default()), true),
        ("status", stop(&["web"]), false),
        ("stop", stop(&["web"]), true),
        ("stop", stop(&["all"]), true),
        ("stop", start(&["web"]), false),
        ("stop:web", stop(&["web"]), true),
        ("stop:web", stop(&["web2"]), false),
        ("stop:web", stop(&["web", "db"]), false),
        ("stop:web", stop(&["all"]), false),
        ("stop:web", stop(&["w*"]), false),
        ("stop:web", stop(&["*"]), false),
        ("stop:web", stop(&["tag:web"]), false),
        ("stop:web*", stop(&["web2"]), true),
        ("stop:web*", stop(&["web*"]), true),
        ("stop:web*", stop(&["w*"]), false),
        ("stop:web*", stop(&["tag:web"]), false),
        ("stop:tag:a", stop(&["tag:a"]), true),
        ("stop:tag:*", stop(&["tag:a"]), false),
        ("stop:*", stop(&["tag:a"]), true),
        ("stop:*", stop(&["all"]), true),
        ("stop:a*b*c", stop(&["a-b-c"]), true),
        ("stop:a*b*c", stop(&["a-c-b"]), false),
        ("stop:?", stop(&["w"]), false),
        ("reload", Request::Reload(ReloadSite::default()), true),
        ("reload", Request::ReloadProgram(Targets { names: names(&["web"]) }), false),
        ("reload:web", Request::ReloadProgram(Targets { names: names(&["web"]) }), true),
        ("reload:*", Request::Reload(ReloadSite::default()), false),
        (
            "signal:web",
            Request::Signal(SendSignal { signal: Signal::HUP, names: names(&["web"]) }),
            true,
        ),
        ("shutdown", Request::Shutdown(Shutdown::default()), true),
        ("stop", Request::Shutdown(Shutdown::default()), false),
        ("ps", processes(&[]), true),
        ("ps:web", processes(&["web"]), true),
        ("ps:web", processes(&[]), false),
        ("status", processes(&["web"]), false),
        ("kill-all", Request::KillAll(KillAll::default()), true),
        ("stop", Request::KillAll(KillAll::default()), false),
        ("stop:*", Request::KillAll(KillAll { dry_run: true, confirmed: false }), false),
        ("", stop(&[""]), false),
    ];
    for (pattern, request, expected) in rows {
        let control = control(vec![rule(&[1000], &[], &[pattern])]);
        assert_eq!(may(&control, 1000, &[], request), *expected, "{pattern} {request:?}");
        assert!(!may(&control, 1001, &[], request), "of somebody else: {pattern}");
    }
}

#[test]
fn groups_count_whether_primary_or_supplementary() {
    let control = control(vec![rule(&[], &[44], &["status"]), rule(&[], &[7], &["stop:web"])]);
    let status = Request::Status(Targets::default());
    assert!(may(&control, 1000, &[1, 44], &status));
    assert!(!may(&control, 1000, &[1, 45], &status));
    assert!(may(&control, 1000, &[], &stop(&["web"])), "7 is the primary group");
}

#[test]
fn several_rules_add_up() {
    let control =
        control(vec![rule(&[1000], &[], &["stop:web"]), rule(&[1000], &[], &["stop:db"])]);
    assert!(may(&control, 1000, &[], &stop(&["web", "db"])));
    assert!(!may(&control, 1000, &[], &stop(&["web", "db", "mail"])));
}

#[test]
fn a_refusal_names_who_what_and_the_rule_that_would_permit_it() {
    let peer = Peer { pid: 9, uid: 1000, gid: 1000 };
    let asker = Asker { peer, groups: &[], user: Some("ann") };
    let limits = &mut RateLimits::default();
    let none = control(Vec::new());
    let request = stop(&["web"]);
    let refusal = check(&none, OURS, &asker, &request, limits, Instant::default()).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotPermitted);
    assert_eq!(refusal.message, "user ann (uid 1000) may not stop:web");
    assert_eq!(
        refusal.hint.unwrap(),
        "run it as root, or permit it with supervisor.control.access: \
         [{allow: {users: [ann]}, actions: [\"stop:web\"]}]"
    );
    assert_eq!(actions(&stop(&["all"]))[0].to_string(), "stop:*");
}

#[test]
fn a_rate_limit_gives_a_burst_and_then_one_now_and_then() {
    let second = Duration::from_secs(1);
    let mut only = rule(&[1000, 1001], &[], &["stop", "status"]);
    only.rate_limit = Some(RateLimit { burst: 3, interval: second * 30 });
    let control = control(vec![only]);
    let limits = &mut RateLimits::default();
    let mut ask = |uid: u32, at: u64, request: &Request| {
        let asker = Asker { peer: Peer { pid: 1, uid, gid: 7 }, groups: &[], user: None };
        let now = Instant::default() + second * u32::try_from(at).unwrap();
        check(&control, OURS, &asker, request, limits, now)
    };
    let web = stop(&["web"]);
    let given: Vec<bool> = [0, 0, 0, 0, 9, 10, 11, 20, 30, 100, 100, 100, 100]
        .map(|at| ask(1000, at, &web).is_ok())
        .into();
    let expected = [
        true, true, true, false, // the burst
        false, true, false, true, true, // one in ten seconds
        true, true, true, false, // and the burst again
    ];
    assert_eq!(given, expected);
    assert!(ask(1001, 100, &web).is_ok(), "each user has a limit of its own");
    assert!(ask(1000, 100, &Request::Status(Targets::default())).is_ok(), "looking is no change");
    let dry = Request::Stop(Change { names: names(&["web"]), dry_run: true, ..Change::default() });
    assert!(ask(1000, 100, &dry).is_ok());
    let refusal = ask(1000, 100, &web).unwrap_err();
    assert_eq!(
        refusal.message,
        "uid 1000 has made 3 changes in 30s, which is all that the site permits"
    );
    assert_eq!(refusal.hint.unwrap(), "try again in 10s");
}

#[test]
fn a_burst_of_none_permits_nothing_and_a_flood_costs_no_memory() {
    let limits = &mut RateLimits::default();
    let interval = Duration::from_secs(60);
    let none = RateLimit { burst: 0, interval };
    assert!(limits.take(0, 1, none, Instant::default()).is_err());
    let one = RateLimit { burst: 1, interval };
    for uid in 0..5000 {
        let now = Instant::default() + Duration::from_secs(u64::from(uid));
        assert!(limits.take(0, uid, one, now).is_ok());
    }
}
