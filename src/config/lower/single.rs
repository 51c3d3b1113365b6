//! `single_instance`: a program that runs once at the most.

use std::path::{Path, PathBuf};

use super::{Context, read};
use crate::{
    config::{
        diagnostic::{Diagnostic, Place},
        tree::Node,
    },
    model::{OnDuplicate, SingleInstance},
};

/// What `program` says of it; `path` makes a path of it absolute.
pub(super) fn instance(
    program: &Node,
    path: &dyn Fn(&str) -> PathBuf,
    context: &mut Context<'_>,
) -> Option<Box<SingleInstance>> {
    let node = program.get("single_instance").filter(|n| n.text() != Some("false"))?;
    let file = |key: &str| node.get(key).and_then(Node::text).map(path);
    let pattern = node.get("match").and_then(|m| m.get("argv"));
    if let Some((place, word)) = pattern.and_then(|n| Some((n.place, n.text()?))) {
        check_word(program, place, word, context);
    }
    let (lock_file, pid_file) = (file("lock_file"), file("pid_file"));
    check_files(program, node, lock_file.as_deref(), pid_file.as_deref(), path, context);
    if let Some((key, _)) = node.entry("on_duplicate").filter(|_| node.get("match").is_none()) {
        let text = "`on_duplicate` is about copies that `match` finds, and there is no `match`";
        let hint = "add `match: {argv: WORD}`; without one, whoever holds the lock is refused";
        context.found.push(Diagnostic::error("contradiction", key.place, text).hint(hint));
    }
    check_adopt(program, node, context);
    let on_duplicate = match node.get("on_duplicate").and_then(Node::text) {
        Some("adopt") => OnDuplicate::Adopt,
        Some("replace") => OnDuplicate::Replace,
        _ => OnDuplicate::Refuse,
    };
    let argv = pattern.and_then(Node::text).map(Into::into);
    Some(Box::new(SingleInstance { lock_file, pid_file, argv, on_duplicate }))
}

/// What is adopted is no child, and was started by nobody's rules.
fn check_adopt(program: &Node, node: &Node, context: &mut Context<'_>) {
    let Some(place) =
        node.get("on_duplicate").filter(|word| word.text() == Some("adopt")).map(|word| word.place)
    else {
        return;
    };
    let text = match program.get("type").and_then(Node::text) {
        Some("oneshot") => {
            "`adopt` does not go with `type: oneshot`: how a copy ends that was adopted is not to \
             be known, so it would never be done"
        }
        Some("forking") => {
            "`adopt` does not go with `type: forking`: whether a copy is the command that starts \
             the daemon, or the daemon, is not to be known"
        }
        _ if is_heard(program) => {
            "`adopt` does not go with what a program says of itself (`type: notify`, `watchdog`, \
             `readiness` or `health` by `notify`, `fd` or `log`): a copy that was started by hand \
             is not heard"
        }
        _ => return,
    };
    let found = Diagnostic::error("contradiction", place, text);
    context.found.push(found.hint("`refuse` names the copy, `replace` ends it first"));
}

/// Whether it is to tell something by what only we give it at its start.
fn is_heard(program: &Node) -> bool {
    let by = |key: &str, by: &str| program.get(key).is_some_and(|node| node.get(by).is_some());
    program.get("type").and_then(Node::text) == Some("notify")
        || program.get("watchdog").is_some_and(|node| node.text() != Some("none"))
        || ["notify", "fd", "log"].iter().any(|one| by("readiness", one) || by("health", one))
}

/// A word that is of many programs would have their processes refused, or even ended.
fn check_word(program: &Node, place: Place, word: &str, context: &mut Context<'_>) {
    if SingleInstance::is_interpreter(word) {
        let text = format!("`{word}` runs other programs, which are no copies of this one");
        let found = Diagnostic::error("bad-value", place, text);
        context.found.push(found.hint("name what it runs, like `launch_robot.py`"));
        return;
    }
    let command = program.get("command").map(read::command).unwrap_or_default();
    let own = command.iter().any(|arg| SingleInstance::names(word.as_bytes(), arg.as_bytes()));
    if !own && !command.is_empty() {
        let text = format!(
            "`{word}` is no argument of the program's own command, nor the last part of one: what \
             is started with that command by hand is not found"
        );
        context.found.push(Diagnostic::error("bad-match", place, text).warning());
    }
}

/// Each file is for one thing.
fn check_files(
    program: &Node,
    node: &Node,
    lock_file: Option<&Path>,
    pid_file: Option<&Path>,
    path: &dyn Fn(&str) -> PathBuf,
    context: &mut Context<'_>,
) {
    let place = |key: &str| node.get(key).map_or(node.place, |n| n.place);
    let mut wrong = |key: &str, text: &str| {
        context.found.push(Diagnostic::error("shared-file", place(key), text));
    };
    if lock_file.is_some() && lock_file == pid_file {
        wrong("pid_file", "the lock and the pid need a file each: this is the `lock_file`");
    }
    let own = program.get("pid_file").and_then(Node::text).map(path);
    if own.is_some() {
        for (key, file) in [("lock_file", lock_file), ("pid_file", pid_file)] {
            if file == own.as_deref() {
                wrong(key, "this file is written by the program itself: it is its `pid_file`");
            }
        }
    }
}
