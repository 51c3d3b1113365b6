//! The socket: who may, and what hostile or slow clients can do (nothing).

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use mini_supervisor::control::{
    Empty, RefusalCode, Reply, Request, StateWord, Targets, wire::MAX_REQUEST_BYTES,
};

use super::{
    client::Client,
    harness::{PATIENCE, Plan, change, is_root, program, skip},
};

const SLEEP: &str = "  one: {command: [sleep, '1000']}\n  two: {command: [sleep, '1000']}";

#[test]
fn the_socket_is_the_owners_alone() {
    let mut site = Plan::new(SLEEP).start();
    site.all_running();
    let meta = site.socket().metadata().unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(site.end(), 0);
}

#[test]
fn a_client_that_no_rule_knows_is_refused_and_the_ruled_may_what_is_ruled() {
    if !is_root() {
        return skip("not root: cannot connect as somebody else");
    }
    let mut site = Plan::new(SLEEP)
        .supervisor("control: {mode: '0666', access: [{allow: {users: [daemon]}, actions: [status, 'restart:one']}]}")
        .start();
    site.all_running();
    let socket = site.socket();
    let as_user = |uid: u32, request: Request| {
        nix::unistd::seteuid(uid.into()).unwrap();
        let client = Client::connect(&socket);
        nix::unistd::seteuid(0.into()).unwrap();
        let mut client = client.unwrap();
        client.send(&request).unwrap();
        client.reply(PATIENCE).unwrap()
    };
    let refused = |reply: Reply| match reply {
        Reply::Error(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    };
    for request in [
        Request::Status(Targets::default()),
        Request::Stop(change(&["one"])),
        Request::Shutdown(mini_supervisor::control::Shutdown { force: true }),
    ] {
        let refusal = refused(as_user(65534, request));
        assert_eq!(refusal.code, RefusalCode::NotPermitted);
        assert!(refusal.message.contains("65534"), "{}", refusal.message);
    }
    assert!(matches!(as_user(1, Request::Status(Targets::default())), Reply::Status(_)));
    let Reply::Outcome(outcome) = as_user(1, Request::Restart(change(&["one"]))) else { panic!() };
    assert!(outcome.programs[0].ok);
    assert_eq!(
        refused(as_user(1, Request::Restart(change(&["two"])))).code,
        RefusalCode::NotPermitted
    );
    assert_eq!(
        refused(as_user(1, Request::Stop(change(&["one"])))).code,
        RefusalCode::NotPermitted
    );
    assert_eq!(site.end(), 0);
}

#[test]
fn garbage_is_answered_or_closed_and_the_next_client_is_served() {
    let mut site = Plan::new(SLEEP).start();
    let before = site.all_running();
    let socket = site.socket();
    let deep = format!("{}{}", "[".repeat(60_000), "\n");
    let cases: [&[u8]; 9] = [
        b"\n\n\n",
        b"garbage\n",
        b"\0\0\0\0\n",
        b"\xff\xfe{\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"explode\"}\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stop\",\"params\":{\"names\":7}}\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"stop\",\"params\":{}}\n",
        b"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"version\"}\n",
        deep.as_bytes(),
    ];
    for bytes in cases {
        let mut client = Client::connect(&socket).unwrap();
        client.raw(bytes).unwrap();
        if bytes != b"\n\n\n" {
            let line = client.line(PATIENCE).unwrap();
            assert!(line.starts_with(b"{") && line.windows(5).any(|five| five == b"error"));
        }
    }
    let after = site.status();
    for one in &before.programs {
        assert_eq!(program(&after, &one.name).pid, one.pid);
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn the_longest_request_is_64_kib() {
    let mut site = Plan::new(SLEEP).start();
    let request = |length: usize| {
        let head = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"version\"";
        let mut text = head.to_owned();
        text.push_str(&" ".repeat(length - head.len() - 1));
        text.push_str("}\n");
        text
    };
    let mut client = Client::connect(&site.socket()).unwrap();
    client.raw(request(MAX_REQUEST_BYTES).as_bytes()).unwrap();
    assert!(matches!(client.reply(PATIENCE), Some(Reply::Version(_))));
    // Writing may be cut off: the rest of it is read by nobody.
    client.raw(request(MAX_REQUEST_BYTES + 1).as_bytes()).ok();
    match client.reply(PATIENCE) {
        None => {}
        Some(Reply::Error(refusal)) => assert_eq!(refusal.code, RefusalCode::BadRequest),
        Some(other) => panic!("{other:?}"),
    }
    assert!(matches!(site.version(), Reply::Version(_)));
    assert_eq!(site.end(), 0);
}

#[test]
fn silent_and_slow_clients_delay_nobody() {
    let mut site = Plan::new(SLEEP).start();
    let mut slow: Vec<Client> =
        (0..100).filter_map(|_| Client::connect(&site.socket()).ok()).collect();
    for client in &mut slow {
        client.raw(b"{\"jsonrpc\"").ok();
    }
    // One that asks for everything and reads nothing.
    let mut greedy = Client::connect(&site.socket()).unwrap();
    for _ in 0..2_000 {
        if greedy.send(&Request::Status(Targets::default())).is_err() {
            break;
        }
    }
    let began = std::time::Instant::now();
    let mut fresh = Client::connect(&site.socket()).unwrap();
    fresh.send(&Request::Version(Empty {})).unwrap();
    assert!(matches!(fresh.reply(PATIENCE), Some(Reply::Version(_))));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let outcome = site.restart(&["one"]);
    assert!(outcome.programs[0].ok);
    drop(slow);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_command_goes_on_when_its_client_goes_away() {
    let mut site = Plan::new("  deaf: {command: [DIR/deaf], stop: {timeout: 400ms}}")
        .script("deaf", "trap '' TERM; echo ready; while :; do sleep 1; done")
        .start();
    site.stdout.wait_for("its trap", |line| line.contains("ready"));
    let mut client = Client::connect(&site.socket()).unwrap();
    client.send(&Request::Stop(change(&["deaf"]))).unwrap();
    site.wait_state("deaf", StateWord::Stopping);
    drop(client);
    site.wait_state("deaf", StateWord::Stopped);
    assert_eq!(site.end(), 0);
}

#[test]
fn no_such_name_says_which_is_near() {
    let mut site = Plan::new("  webserver: {command: [sleep, '1000']}").start();
    match site.ask(&Request::Stop(change(&["webservr"]))) {
        Reply::Error(refusal) => {
            assert_eq!(refusal.code, RefusalCode::NoSuchName);
            assert!(refusal.hint.unwrap().contains("webserver"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(site.end(), 0);
}
