//! What a change would end, process by process: shown before it is asked whether that is meant.

use std::{fmt::Write as _, time::Duration};

use super::super::{client::Client, fail::Failure, render};
use crate::{
    control::{ProgramStatus, Reply, Request, Targets},
    model::Human,
    sys::{Pid, tree},
};

/// More processes of one program are counted, not listed.
const LISTED: usize = 30;

/// The programs that `dry_run` names, with their processes; what cannot be told is left out.
pub(super) fn list(
    client: &mut Client,
    dry_run: &Request,
    view: render::View,
) -> Result<String, Failure> {
    let Reply::Outcome(outcome) = client.ask("list", dry_run)? else { return Ok(String::new()) };
    let names: Vec<String> = outcome.programs.into_iter().map(|program| program.name).collect();
    if names.is_empty() {
        return Ok(String::new());
    }
    let request = Request::Status(Targets { names });
    let Reply::Status(status) = client.ask("list", &request)? else { return Ok(String::new()) };
    let mut text = String::new();
    for program in &status.programs {
        text += &render::table(std::slice::from_ref(program), view);
        text += &processes(program, view);
    }
    Ok(text)
}

/// Pid, processor time, memory and command of each.
fn processes(program: &ProgramStatus, view: render::View) -> String {
    let mut text = String::new();
    let mut found = 0_usize;
    for number in &program.pids {
        let pid = i32::try_from(*number).ok().and_then(Pid::new);
        let Some(one) = pid.and_then(tree::process) else { continue };
        found = found.saturating_add(1);
        if found > LISTED {
            continue;
        }
        let cpu = Human(Duration::from_nanos(one.process.cpu_ns)).to_string();
        let memory = render::size(one.process.memory_bytes);
        let line = format!("{number:>9}  {cpu:>6} CPU  {memory:>8}  {}", one.command);
        // Writing to a string cannot fail.
        writeln!(text, "{}", view.cut(0, &render::escape(&line))).ok();
    }
    if found > LISTED {
        writeln!(text, "           and {} more", found.saturating_sub(LISTED)).ok();
    }
    text
}
