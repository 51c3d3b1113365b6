//! The control thread under fuzz, with rules, and when nothing happens.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{fs, io::Write as _, net::Shutdown, thread, time::Duration};

use mini_supervisor::{
    control::{Empty, Request, wire},
    daemon::control::ControlEvent,
};

use crate::control::{access, answering, ask, silent, until_closed};

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).unwrap()).unwrap()
    }
}

#[test]
fn fifty_thousand_lines_of_garbage_harm_nobody() {
    const PIECES: [&[u8]; 12] = [
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"version\"}",
        b"{\"jsonrpc\":\"2.0\",",
        b"\"id\":18446744073709551616,",
        b"\"method\":\"stop\"}",
        b"[[[[",
        b"}}",
        b"\0",
        b"\xff\xfe",
        b"\"params\":{\"names\":[null]}}",
        b"\\u0000",
        b"-1e999",
        b" ",
    ];
    let served = answering();
    let mut numbers = Numbers(0x5eed_1234);
    for _ in 0..500 {
        let mut stream = served.connect();
        let mut text = Vec::new();
        for _ in 0..100 {
            for _ in 0..numbers.below(6) {
                text.extend_from_slice(PIECES[numbers.below(PIECES.len())]);
            }
            text.push(b'\n');
        }
        // The first line that is no JSON ends it, so the rest may find nobody.
        if stream.write_all(&text).and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() {
            until_closed(stream);
        }
    }
    served.round();
}

#[test]
fn an_idle_control_thread_does_not_wake_up() {
    let served = silent(access(Vec::new()));
    let clients: Vec<_> = (0..10).map(|_| served.connect()).collect();
    let (id, ids) = crossbeam_channel::bounded(1);
    // The thread tells who it is by the thread that delivers an event.
    let switches = || -> u64 {
        let mut sum = 0;
        for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
            let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if comm.trim() == "control" {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                let counts = status.lines().filter(|l| l.contains("ctxt_switches"));
                sum += counts
                    .filter_map(|l| l.split_whitespace().last()?.parse::<u64>().ok())
                    .sum::<u64>();
            }
        }
        sum
    };
    // Other tests of this process have such threads too: one quiet second of several is enough.
    let quiet = (0..10).any(|_| {
        let before = switches();
        ids.recv_timeout(Duration::from_secs(1)).ok();
        switches() == before
    });
    assert!(quiet);
    drop((clients, id.send(())));
}

#[test]
fn a_flood_does_not_hold_up_others() {
    let served = answering();
    let mut flood = served.connect();
    let request = Request::Version(Empty {});
    let all: Vec<u8> = (0..20_000).flat_map(|id| wire::encode_request(id, &request)).collect();
    let mut reader = flood.try_clone().unwrap();
    let read = move || drop(std::io::copy(&mut reader, &mut std::io::sink()));
    let reader = thread::Builder::new().spawn(read).unwrap();
    let write = move || {
        drop(flood.write_all(&all));
        drop(flood.shutdown(Shutdown::Write));
    };
    let writer = thread::Builder::new().spawn(write).unwrap();
    for _ in 0..20 {
        assert!(served.round() < Duration::from_secs(2));
    }
    writer.join().unwrap();
    reader.join().unwrap();
}

#[test]
fn who_is_gone_before_the_answer_is_reported_once() {
    let served = silent(access(Vec::new()));
    let mut stream = served.connect();
    stream.write_all(&ask()).unwrap();
    let Ok(ControlEvent::Request { id, .. }) = served.events.recv_timeout(Duration::from_secs(9))
    else {
        panic!("no request");
    };
    drop(stream);
    let gone = served.events.recv_timeout(Duration::from_secs(9)).unwrap();
    assert_eq!(gone, ControlEvent::Gone(id));
    served.handle.reply(id, mini_supervisor::control::Reply::Done);
    assert!(served.events.is_empty());
}
