//! Probes of `health` and `readiness` that cannot work, and what they mean in `defaults`.

use expect_test::expect;

use super::mistakes::program;

#[test]
fn a_probe_that_cannot_work_is_refused() {
    program("health: {http: 'https://h/x'}", expect![[r#""#]]);
    program("health: {http: 'http://h:x/'}", expect![[r#""#]]);
    program(
        "health: {log: beat}\n    logging: {stdout: 'null', stderr: inherit}",
        expect![[r#""#]],
    );
    program("health: {tcp: 'h:1'}\n    type: oneshot", expect![[r#""#]]);
    program("health: {tcp: 'h:1', interval: 10ms}", expect![[r#""#]]);
    program("health: {tcp: 'h:1', timeout: 0}", expect![[r#""#]]);
    program("health: {tcp: 'h:1', file: x}", expect![[r#""#]]);
    program("readiness: {log: ready, interval: 5s}", expect![[r#""#]]);
    program("readiness: {tcp: 'h:1', retries: 5}", expect![[r#""#]]);
    program("readiness: {tcp: 'h:1'}\n    type: notify", expect![[r#""#]]);
}
