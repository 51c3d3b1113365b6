//! `health`, for a container's HEALTHCHECK and for scripts.

use serde_json::json;

use super::{
    super::{
        Context,
        fail::{Failure, NO_SUPERVISOR},
        out::Out,
        render::escape,
    },
    unexpected,
};
use crate::control::{ProgramStatus, Reply, Request, SiteStatus, StateWord, Targets};

/// Exit code: a program, or the supervisor, is not running.
const NOT_RUNNING: u8 = 1;
/// Exit code: it is there, and does not answer or is not healthy.
const NOT_RESPONDING: u8 = 2;

/// What is wrong with whom.
struct Complaint {
    exit: u8,
    who: String,
    why: String,
}

impl Complaint {
    fn new(exit: u8, who: &str, why: impl Into<String>) -> Self {
        Self { exit, who: who.to_owned(), why: why.into() }
    }

    fn line(&self) -> String {
        let what = if self.exit == NOT_RUNNING { "running" } else { "responding" };
        format!("ERROR: {} is not {what} ({})\n", escape(&self.who), escape(&self.why))
    }
}

/// Asks for `name`, or for all that should be up: 0 when they are, else 1 or 2.
pub(super) fn health(name: Option<&str>, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let (good, bad) = match ask(name, context) {
        Ok(site) => judge(&site, name),
        Err(failure) if failure.exit == NO_SUPERVISOR => {
            (String::new(), vec![Complaint::new(NOT_RUNNING, "supervisor", failure.message)])
        }
        Err(failure) if failure.code == "lost" => {
            (String::new(), vec![Complaint::new(NOT_RESPONDING, "supervisor", failure.message)])
        }
        Err(failure) => return Err(failure),
    };
    if out.json {
        let one = |c: &Complaint| json!({"name": c.who, "exit": c.exit, "reason": c.why});
        let all: Vec<_> = bad.iter().map(one).collect();
        out.print_json(&json!({"schema_version": 1, "ok": all.is_empty(), "errors": all}));
    } else if bad.is_empty() {
        out.print(&format!("OK: {good}\n"));
    } else {
        out.print(&bad.iter().map(Complaint::line).collect::<String>());
    }
    Ok(bad.iter().map(|complaint| complaint.exit).min().unwrap_or(0))
}

fn ask(name: Option<&str>, context: &Context) -> Result<SiteStatus, Failure> {
    let what = name.map_or_else(|| "ask for the health".into(), |n| format!("ask for {n}"));
    let names = name.map(str::to_owned).into_iter().collect();
    let request = Request::Status(Targets { names });
    let Reply::Status(site) = context.client()?.ask(&what, &request)? else {
        return Err(unexpected(&what));
    };
    Ok(*site)
}

/// What is good, in words, and what is not.
fn judge(site: &SiteStatus, name: Option<&str>) -> (String, Vec<Complaint>) {
    if site.supervisor.state == "stopping" {
        let complaint = Complaint::new(NOT_RUNNING, &site.supervisor.name, "it is being stopped");
        return (String::new(), vec![complaint]);
    }
    let asked = |p: &&ProgramStatus| name.is_some() || p.goal == "up";
    let asked: Vec<_> = site.programs.iter().filter(asked).collect();
    let bad = asked.iter().filter_map(|p| complaint(p, name.is_some())).collect();
    let checked = |p: &&ProgramStatus| p.healthy == Some(true);
    let good = match asked.as_slice() {
        [one] if checked(one) => format!("{} is healthy", escape(&one.name)),
        [one] => format!("{} is running", escape(&one.name)),
        many if many.iter().all(checked) => format!("all {} programs are healthy", many.len()),
        many => format!("all {} programs are running", many.len()),
    };
    (good, bad)
}

fn complaint(program: &ProgramStatus, by_name: bool) -> Option<Complaint> {
    // What has done its work and ended is as it should be, unless somebody asks whether it runs.
    let succeeded = program.exit.is_some_and(|exit| exit.code == Some(0));
    let done = program.state == StateWord::Exited && succeeded && !by_name;
    let (exit, why) = match program.state {
        StateWord::Running if !program.ready => (NOT_RESPONDING, "not ready yet"),
        StateWord::Running => match (program.healthy, &program.health) {
            (Some(true), _) | (None, None) => return None,
            (_, Some(words)) => (NOT_RESPONDING, words.as_str()),
            (Some(false), None) => (NOT_RESPONDING, "unhealthy"),
        },
        StateWord::Exited if done => return None,
        StateWord::Stopped
        | StateWord::Waiting
        | StateWord::Starting
        | StateWord::Backoff
        | StateWord::Stopping
        | StateWord::Exited
        | StateWord::Fatal => {
            let why = format!("{}: {}", program.state.as_str(), program.reason);
            return Some(Complaint::new(NOT_RUNNING, &program.name, why));
        }
    };
    Some(Complaint::new(exit, &program.name, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A site of one program with these fields.
    fn said(fields: &str, name: Option<&str>) -> String {
        let status = format!(
            r#"{{"name": "web", "goal": "up", "pids": [], "restarts": 0, "reason": "why",
                 "waiting_for": [], {fields}}}"#
        );
        let program: ProgramStatus = serde_json::from_str(&status).unwrap();
        let supervisor = crate::control::SupervisorStatus::default();
        let site = SiteStatus {
            schema_version: 1,
            supervisor,
            programs: vec![program],
            mounts: Vec::new(),
            semaphores: Vec::new(),
            tasks: Vec::new(),
        };
        let (good, bad) = judge(&site, name);
        bad.first().map_or(good, Complaint::line)
    }

    #[test]
    fn running_ready_and_healthy_are_three_things() {
        for (fields, expected) in [
            (r#""state": "RUNNING", "ready": true"#, "web is running"),
            (
                r#""state": "RUNNING", "ready": false"#,
                "ERROR: web is not responding (not ready yet)\n",
            ),
            (
                r#""state": "RUNNING", "ready": true, "healthy": false"#,
                "ERROR: web is not responding (unhealthy)\n",
            ),
            (r#""state": "RUNNING", "ready": true, "healthy": true"#, "web is healthy"),
            (
                r#""state": "RUNNING", "ready": true, "health": "not known to be healthy yet""#,
                "ERROR: web is not responding (not known to be healthy yet)\n",
            ),
            (
                r#""state": "RUNNING", "ready": true, "healthy": false,
                   "health": "unhealthy (3 of 3): GET http://h/: 503""#,
                "ERROR: web is not responding (unhealthy (3 of 3): GET http://h/: 503)\n",
            ),
            (
                r#""state": "RUNNING", "ready": true, "healthy": true, "health": "failing""#,
                "web is healthy",
            ),
            (r#""state": "FATAL", "ready": false"#, "ERROR: web is not running (FATAL: why)\n"),
        ] {
            assert_eq!(said(fields, Some("web")), expected);
        }
    }
}
