//! Files made to hurt: refused quickly, without a panic.

#![expect(clippy::format_push_string, reason = "tests")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{lines, site};

/// 0.1 s is what a hostile file may cost on an idle machine in a release build. Tests are built
/// with less optimisation, so this is generous, and the time of this thread alone counts.
const LIMIT: Duration = Duration::from_secs(1);

/// Time that this thread has computed, whatever else the machine does.
pub(super) fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn refused(what: &str, text: &str) {
    let start = spent();
    assert_ne!(lines(text), "", "{what} is refused");
    let cost = spent().saturating_sub(start);
    assert!(cost < LIMIT, "{what}: {cost:?}");
}

#[test]
fn bombs_and_deep_nesting_are_refused_quickly() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let item = format!("*a{}", i - 1);
        laughs.push_str(&format!("a{i}: &a{i} [{}]\n", vec![item; 9].join(", ")));
    }
    refused("billion laughs", &laughs);
    refused("sequences", &"- ".repeat(200_000));
    refused("flow maps", &"{a: ".repeat(50_000));
    refused("brackets", &"[".repeat(100_000));
    refused("a large file", &format!("# {}", "x".repeat(1 << 20)));
    refused("an alias of itself", "a: &a [*a]\n");
    refused("empty", "");
    refused("only a comment", "# nothing\n");
    refused("NUL", &site("programs: {web: {command: [\"a\\0b\"]}}"));
    refused("escape", &site("programs: {\"\\e[31m\": {command: x}}"));
    refused("two documents", "version: 1\n---\nversion: 1\n");
    refused("a tab", "version: 1\nprograms:\n\tweb: {command: x}\n");
}

/// A small site with something of everything that the reader treats specially.
const SEED: &str = "version: 1\nvariables: {A: a, B: \"${A}b\"}\ndefaults: {user: root}\nprograms:\n  \
    web: &w\n    command: [x, \"${B}\", '$$']\n    instances: 2\n    restart: always\n    \
    stop: {signals: [INT, {signal: TERM, wait: 5s}]}\n  db:\n    <<: *w\n    after: [web@ready]\n    \
    umask: \"0022\"\n    logging: {max_line: 4KiB}\n    health: {tcp: \"h:1\"}\n";

fn changed(base: &[u8], mut next: impl FnMut() -> usize) -> String {
    let mut text = base.to_vec();
    for _ in 0..=next() % 3 {
        let at = next() % text.len();
        match next() % 4 {
            0 => text[at] = u8::try_from(next() % 256).unwrap(),
            1 => drop(text.remove(at)),
            2 => {
                let end = text.len().min(at + next() % 40);
                let part = text[at..end].to_vec();
                let to = next() % text.len();
                text.splice(to..to, part);
            }
            _ => text.insert(at, b"{}[]:-&*!|>'\"%@#,?\n\t \0$<~"[next() % 25]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn twenty_thousand_random_changes_of_a_site_never_panic() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap()
    };
    assert_eq!(lines(SEED), "");
    let large = include_str!("sites/prismatron.yaml").as_bytes();
    let start = spent();
    let mut taken = 0;
    for i in 0..20_000 {
        let base = if i % 20 == 0 { large } else { SEED.as_bytes() };
        let text = changed(base, &mut next);
        if let Ok(loaded) = super::read(&text) {
            taken += 1;
            assert!(mini_supervisor::config::show(&loaded, true).len() > 10);
        }
    }
    assert!(taken > 200, "{taken}: nearly all changes break the text itself");
    let cost = spent().saturating_sub(start);
    assert!(cost < 5 * LIMIT, "{cost:?}");
}

#[test]
fn no_bad_name_of_a_user_ever_becomes_a_user() {
    for name in [
        "0day",
        " root",
        "root ",
        "root\\n",
        "-1",
        "65535",
        "4294967295",
        "4294967296",
        "0x0",
        "00",
        "",
        "+0",
        "1e3",
        "root:root",
        "a/b",
        "röot",
        "-root",
        "01",
        "root\\0",
        "1.0",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "ROOT",
        "roo",
        "$user",
        "~",
        "..",
        "root,",
    ] {
        let text = format!("version: 1\nprograms: {{web: {{command: x, user: \"{name}\"}}}}\n");
        refused(name, &text);
    }
}

#[test]
fn sites_that_grow_when_they_are_resolved_are_refused() {
    let mut variables = "variables:\n  V0: xxxxxxxx\n".to_owned();
    for i in 1..40 {
        variables.push_str(&format!("  V{i}: ${{V{0}}}${{V{0}}}\n", i - 1));
    }
    refused("doubling variables", &site(&format!("{variables}programs: {{}}")));
    let mut many = "variables:\n".to_owned();
    for i in (1..20_000).rev() {
        many.push_str(&format!("  V{i}: ${{V{}}}\n", i - 1));
    }
    refused("a chain of variables", &site(&many));
    let list = "x, ".repeat(20_000);
    let mut text = format!("version: 1\ndefaults: {{tags: [{list}]}}\nprograms:\n");
    for i in 0..5000 {
        text.push_str(&format!("  p{i}: {{command: x}}\n"));
    }
    refused("large defaults of many programs", &text);
}
