//! `defaults:` under a program: maps are merged key by key, lists and words replace.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    schema::PROBE_NAMES,
    tree::{Key, Node, Value},
};

/// `over` on top of `base`.
pub(crate) fn merge(base: &Node, over: &Node) -> Node {
    let (Value::Map(below), Value::Map(above)) = (&base.value, &over.value) else {
        return over.clone();
    };
    let mut entries: Vec<(Key, Node)> = Vec::with_capacity(below.len() + above.len());
    let by_key: BTreeMap<&str, &Node> = below.iter().map(|(k, n)| (&*k.text, n)).collect();
    let own: BTreeSet<&str> = above.iter().map(|(k, _)| &*k.text).collect();
    for (key, node) in above {
        let node = policy_as_map(&key.text, node);
        entries.push(match by_key.get(&*key.text) {
            Some(lower) => (key.clone(), merge(&policy_as_map(&key.text, lower), &node)),
            None => (key.clone(), node),
        });
    }
    for (key, node) in below {
        if !own.contains(&*key.text) && !displaced(&key.text, over) {
            entries.push((key.clone(), node.clone()));
        }
    }
    Node { value: Value::Map(entries), ..*over }
}

/// `stop.signals` and `stop.signal` say the same, and a probe looks at one thing: the upper one
/// counts alone.
fn displaced(key: &str, over: &Node) -> bool {
    if PROBE_NAMES.contains(&key) {
        return PROBE_NAMES.iter().any(|other| over.get(other).is_some());
    }
    match key {
        "signals" => over.get("signal").is_some() || over.get("timeout").is_some(),
        "signal" | "timeout" => over.get("signals").is_some(),
        _ => false,
    }
}

/// `restart: always` is `restart: {policy: always}`.
fn policy_as_map(key: &str, node: &Node) -> Node {
    match &node.value {
        Value::Scalar(_) if key == "restart" => {
            let policy = Key { text: "policy".into(), place: node.place, start: node.start };
            Node { value: Value::Map(vec![(policy, node.clone())]), ..*node }
        }
        Value::Null | Value::Scalar(_) | Value::List(_) | Value::Map(_) => node.clone(),
    }
}
