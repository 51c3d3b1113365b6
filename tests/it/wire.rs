//! The wire: what is read as a request, what is refused, and that nothing makes it panic.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use mini_supervisor::{
    control::{
        Change, Empty, EventsQuery, KillAll, LogLine, LogsQuery, Outcome, ProcessesQuery,
        ProgramOutcome, Refusal, RefusalCode, ReloadSite, Reply, Request, SemaphoreName,
        SendSignal, Shutdown, StateWord, Targets,
        wire::{self, Call, Id, Message},
    },
    model::{Signal, WallTime},
};
use proptest::{prelude::*, strategy::ValueTree as _};

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(".{0,12}", 0..4)
}

fn time() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((0_u64..1 << 30).prop_map(Duration::from_millis))
}

fn change() -> impl Strategy<Value = Change> {
    let flags = any::<(bool, bool, bool, bool)>();
    (names(), flags, time(), prop::option::of(".{0,8}"), names()).prop_map(
        |(names, (no_wait, force, dry_run, confirmed), timeout, variant, extra_args)| Change {
            names,
            no_wait,
            force,
            dry_run,
            timeout,
            variant,
            confirmed,
            extra_args,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let targets = || names().prop_map(|names| Targets { names });
    let logs = (names(), any::<Option<u32>>(), time(), any::<bool>(), any::<bool>()).prop_map(
        |(names, lines, since, stderr, follow)| LogsQuery { names, lines, since, stderr, follow },
    );
    prop_oneof![
        targets().prop_map(Request::Status),
        change().prop_map(Request::Start),
        change().prop_map(Request::Stop),
        change().prop_map(Request::Restart),
        any::<(bool, bool)>().prop_map(|(dry_run, allow_removal)| {
            Request::Reload(ReloadSite { dry_run, allow_removal })
        }),
        targets().prop_map(Request::ReloadProgram),
        (names(), 1..=64_i32).prop_map(|(names, number)| {
            let signal = Signal::parse(&number.to_string()).unwrap_or(Signal::TERM);
            Request::Signal(SendSignal { signal, names })
        }),
        targets().prop_map(Request::Reset),
        logs.prop_map(Request::Logs),
        any::<bool>().prop_map(|follow| Request::Events(EventsQuery { follow })),
        ".{0,12}".prop_map(|name| Request::ClearSemaphore(SemaphoreName { name })),
        (names(), any::<bool>())
            .prop_map(|(names, orphans)| { Request::Processes(ProcessesQuery { names, orphans }) }),
        any::<(bool, bool)>()
            .prop_map(|(dry_run, confirmed)| { Request::KillAll(KillAll { dry_run, confirmed }) }),
        "[a-z]{1,8}".prop_map(|name| Request::FollowSemaphore(SemaphoreName { name })),
        any::<bool>().prop_map(|force| Request::Shutdown(Shutdown { force })),
        Just(Request::Version(Empty {})),
    ]
}

fn line_of(bytes: &[u8]) -> &[u8] {
    let (end, line) = bytes.split_last().unwrap();
    assert_eq!(*end, b'\n');
    assert!(!line.contains(&b'\n'), "one object is one line");
    line
}

proptest! {
    #[test]
    fn every_request_comes_back_as_it_was_sent(id in any::<u64>(), request in request()) {
        let bytes = wire::encode_request(id, &request);
        let call = wire::decode_request(line_of(&bytes)).unwrap();
        prop_assert_eq!(call, Call { id: Id::Number(id), request });
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(wire::decode_request(&bytes));
        drop(wire::decode_message(&bytes));
    }

    #[test]
    fn a_request_that_is_cut_or_changed_is_a_fault_or_a_request(
        request in request(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let mut bytes = wire::encode_request(7, &request);
        bytes.pop();
        let at = at.index(bytes.len());
        drop(wire::decode_request(&bytes[..at]));
        bytes[at] = with;
        drop(wire::decode_request(&bytes));
    }

    #[test]
    fn text_of_any_kind_survives_in_replies(name in ".{0,20}", reason in ".{0,40}", id in ".{0,9}") {
        let state = StateWord::Fatal;
        let programs = vec![ProgramOutcome { name, ok: false, state, reason }];
        let reply = Reply::Outcome(Outcome { programs, complete: true });
        let bytes = wire::encode_reply(&Id::Text(id.clone()), &reply);
        match wire::decode_message(line_of(&bytes)).unwrap() {
            Message::Reply(got, back) => prop_assert_eq!((got, back), (Id::Text(id), reply)),
            other @ (Message::Progress(..) | Message::Lines(..) | Message::Other) => {
                prop_assert!(false, "{other:?}");
            }
        }
    }
}

/// What a line comes to, in short.
fn verdict(line: &str) -> String {
    match wire::decode_request(line.as_bytes()) {
        Ok(call) => format!("{:?} {}", call.id, call.request.method()),
        Err(fault) => format!("{:?} {} {}", fault.id, fault.code, fault.refusal.message),
    }
}

#[test]
fn each_mistake_in_a_request_has_its_own_words() {
    let rows = [
        ("", "Null -32700 cannot read the request: EOF while parsing a value at column 0"),
        ("x", "Null -32700 cannot read the request: expected value at column 1"),
        ("[]", "Null -32600 cannot read the request: it is a list, which is not supported"),
        (
            r#"{"jsonrpc":"2.0","method":"status"}"#,
            "Null -32600 cannot read the request: it has no id",
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"status"}"#,
            "Null -32600 cannot read the request: it has no id",
        ),
        (
            r#"{"jsonrpc":"1.0","id":1,"method":"status"}"#,
            "Number(1) -32600 cannot read the request: it is not JSON-RPC 2.0",
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"status"}"#, "Number(1) status"),
        (r#"{"jsonrpc":"2.0","id":"a","method":"status","params":{}}"#, "Text(\"a\") status"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"version","params":null}"#, "Number(1) version"),
    ];
    for (line, expected) in rows {
        assert_eq!(verdict(line), expected, "{line}");
    }
}

#[test]
fn what_a_verb_needs_and_does_not_take_is_refused() {
    let rows = [
        (r#"{"jsonrpc":"2.0","id":1,"method":"stop"}"#, "missing field `params`"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{}}"#, "missing field `names`"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{"names":["a"],"x":1}}"#,
            "unknown field `x`",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{"names":["a"],"timeout":-1}}"#,
            "negative",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"signal","params":{"names":["a"]}}"#,
            "missing field `signal`",
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"version","params":{"a":1}}"#, "unknown field `a`"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"status","params":{"names":["a"],"names":["b"]}}"#,
            "duplicate field",
        ),
    ];
    for (line, expected) in rows {
        let fault = wire::decode_request(line.as_bytes()).unwrap_err();
        assert_eq!(fault.code, wire::INVALID_PARAMS, "{line}: {}", fault.refusal.message);
        assert!(fault.refusal.message.contains(expected), "{line}: {}", fault.refusal.message);
        assert_eq!(fault.id, Id::Number(1), "{line}");
    }
    let twice = r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"status"}"#;
    assert!(wire::decode_request(twice.as_bytes()).is_err());
}

#[test]
fn an_unknown_verb_is_told_the_verbs() {
    for method in ["supervisor.supervisord.options", "Status", "", "__proto__", "status "] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":3,"method":"{method}"}}"#);
        let fault = wire::decode_request(line.as_bytes()).unwrap_err();
        assert_eq!((fault.id, fault.code), (Id::Number(3), wire::NO_SUCH_METHOD), "{method}");
        let hint = fault.refusal.hint.unwrap();
        assert!(hint.contains("status, start, stop, restart, reload"), "{hint}");
    }
}

#[test]
fn every_verb_of_the_list_is_a_request_and_the_reverse() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let tree = request().new_tree(&mut runner).unwrap();
        seen.insert(tree.current().method());
    }
    assert_eq!(seen, wire::METHODS.into_iter().collect());
}

#[test]
fn a_request_may_be_long_and_deep_but_not_too_long_nor_too_deep() {
    let named = |n: usize| {
        let name = "a".repeat(n);
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"status","params":{{"names":["{name}"]}}}}"#)
    };
    let around = named(0).len();
    let longest = named(wire::MAX_REQUEST_BYTES - around);
    assert_eq!(verdict(&longest), "Number(1) status");
    let longer = named(wire::MAX_REQUEST_BYTES - around + 1);
    assert!(verdict(&longer).contains("longer than 65536 bytes"));
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(60_000 / open.len());
        assert!(verdict(&deep).contains("nested deeper than 8 levels"), "{open}");
    }
    let text = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"status"}}"#, "[".repeat(100));
    assert!(wire::decode_request(text.as_bytes()).is_ok(), "brackets in a text nest nothing");
    let id = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"status"}}"#, "i".repeat(129));
    assert!(verdict(&id).contains("its id is too long"));
}

#[test]
fn notifications_and_refusals_come_back_as_they_were_sent() {
    let line = LogLine {
        at: WallTime(1_700_000_000_123),
        name: "web".to_owned(),
        source: "stderr".to_owned(),
        text: "\u{1b}[31mred\u{0}".to_owned(),
    };
    let bytes = wire::encode_lines(&Id::Number(5), std::slice::from_ref(&line), 42);
    let lines = wire::decode_message(line_of(&bytes)).unwrap();
    assert_eq!(lines, Message::Lines(Id::Number(5), vec![line], 42));
    for code in [
        RefusalCode::NoSuchName,
        RefusalCode::NotPermitted,
        RefusalCode::InvalidSite,
        RefusalCode::Failed,
        RefusalCode::BadRequest,
        RefusalCode::NeedsConfirmation,
        RefusalCode::ShuttingDown,
    ] {
        for hint in [None, Some("do this".to_owned())] {
            let refusal = Refusal { code, message: "no".to_owned(), hint };
            let reply = Reply::Error(refusal);
            let bytes = wire::encode_reply(&Id::Number(1), &reply);
            let back = wire::decode_message(line_of(&bytes)).unwrap();
            assert_eq!(back, Message::Reply(Id::Number(1), reply));
        }
    }
    let later = br#"{"jsonrpc":"2.0","method":"weather","params":{"sun":true}}"#;
    assert_eq!(wire::decode_message(later).unwrap(), Message::Other);
    assert!(wire::decode_message(br#"{"jsonrpc":"2.0"}"#).is_err());
}
