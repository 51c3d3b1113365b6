//! `doctor`: looks at the host, the supervisor and the semaphores of a site, and tries one of its
//! own. Nothing is changed, and nothing is left behind.

mod files;
mod host;
mod trial;

use serde_json::json;

use super::{
    Context,
    fail::NO_SUPERVISOR,
    out::Out,
    render::escape,
    site::{self, Unreadable},
};
use crate::{
    control::{Reply, Request, SiteStatus, Targets, paths},
    model::{Human, Site},
};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    /// It could not be tried.
    Skip,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
struct Check {
    verdict: Verdict,
    /// `/dev/shm`, `semaphore:reboot`.
    what: String,
    text: String,
    /// What to do.
    hint: Option<String>,
}

impl Check {
    fn new(verdict: Verdict, what: &str, text: impl Into<String>) -> Self {
        Self { verdict, what: what.to_owned(), text: text.into(), hint: None }
    }

    fn pass(what: &str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Pass, what, text)
    }

    fn fail(what: &str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, what, text)
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Prints each check as it is made; 1 when one of them fails.
pub(super) fn doctor(context: &Context, out: &mut Out) -> u8 {
    let mut report = Report { all: Vec::new(), out };
    host::checks(&mut report);
    let running = supervisor(context, &mut report);
    let site = site(context, &mut report);
    files::checks(running.as_ref(), site.as_ref(), &mut report);
    files::methods(site.as_ref(), &mut report);
    trial::checks(&mut report);
    let Report { all, out } = report;
    let failed = all.iter().filter(|check| check.verdict == Verdict::Fail).count();
    if out.json {
        let one = |check: &Check| {
            json!({"check": check.what, "verdict": check.verdict.as_str(), "text": check.text,
                   "hint": check.hint})
        };
        let checks: Vec<_> = all.iter().map(one).collect();
        out.print_json(&json!({"schema_version": 1, "ok": failed == 0, "checks": checks}));
    } else {
        let passed = all.iter().filter(|check| check.verdict == Verdict::Pass).count();
        out.print(&format!("{passed} passed, {failed} failed\n"));
    }
    u8::from(failed > 0)
}

struct Report<'a> {
    all: Vec<Check>,
    out: &'a mut Out,
}

impl Report<'_> {
    fn add(&mut self, check: Check) {
        if !self.out.json {
            let Check { verdict, what, text, hint } = &check;
            let word = self.out.view().paint_verdict(*verdict == Verdict::Fail, verdict.as_str());
            self.out.print(&format!("{word}  {}\n", escape(&format!("{what}: {text}"))));
            for line in hint.iter().flat_map(|hint| hint.lines()) {
                self.out.print(&format!("      hint: {}\n", escape(line)));
            }
        }
        self.all.push(check);
    }
}

/// Whether it runs; how it says that the site is.
fn supervisor(context: &Context, report: &mut Report<'_>) -> Option<SiteStatus> {
    let asked = context.client().and_then(|mut client| {
        client.ask("ask the supervisor", &Request::Status(Targets::default()))
    });
    match asked {
        Ok(Reply::Status(status)) => {
            let it = &status.supervisor;
            let uptime = std::time::Duration::try_from_secs_f64(it.uptime_s).unwrap_or_default();
            let text = format!(
                "site {}, pid {}, up for {}, version {}",
                it.name,
                it.pid,
                Human(std::time::Duration::from_secs(uptime.as_secs())),
                it.version
            );
            report.add(match it.state.as_str() {
                "up" => Check::pass("supervisor", text),
                state => Check::fail("supervisor", format!("{text}: it is {state}")),
            });
            Some(*status)
        }
        Ok(_) => {
            report.add(Check::fail("supervisor", "it answers something else"));
            None
        }
        Err(failure) => {
            let text = if failure.exit == NO_SUPERVISOR {
                failure.message
            } else {
                format!("it cannot be asked: {}", failure.message)
            };
            let check = Check::fail("supervisor", text);
            report.add(Check { hint: failure.hint, ..check });
            None
        }
    }
}

/// The site file, if one is named or stands at its default place.
fn site(context: &Context, report: &mut Report<'_>) -> Option<Site> {
    let default = std::path::Path::new(paths::DEFAULT_CONFIG);
    let default = || default.exists().then(|| default.to_owned());
    let file = context.config().or_else(default)?;
    let name = file.display().to_string();
    match site::load(context, &file, true) {
        Ok(loaded) => {
            report.add(Check::pass(&name, "no mistakes"));
            Some(loaded.site)
        }
        Err(Unreadable::File(failure)) => {
            report.add(Check { hint: failure.hint, ..Check::fail(&name, failure.message) });
            None
        }
        Err(Unreadable::Mistakes(findings)) => {
            let count = findings.errors();
            let mistakes = if count == 1 { "mistake" } else { "mistakes" };
            let check = Check::fail(&name, format!("{count} {mistakes}"));
            report.add(check.hint(format!("supervisor -c {name} check lists them")));
            None
        }
    }
}
