//! Who may ask what: the access list of the control socket. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::{Peer, Refusal, RefusalCode, Request};
use crate::model::{Access, Control, Instant, RateLimit};

/// How many rate limits are remembered at most; beyond, those that are not in use are forgotten.
const REMEMBERED: usize = 1024;

/// What a request needs, one each: `status`, `restart:web`, `stop:*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    verb: &'static str,
    /// As typed; `*` for all.
    target: Option<String>,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            Some(target) => write!(f, "{}:{target}", self.verb),
            None => f.write_str(self.verb),
        }
    }
}

/// What `request` needs. All of them have to be permitted; none means that everybody may.
#[must_use]
pub fn actions(request: &Request) -> Vec<Action> {
    let each = |verb, names: &[String]| match names {
        [] => vec![on(verb, "all")],
        names => names.iter().map(|name| on(verb, name)).collect(),
    };
    match request {
        Request::Version(_) => Vec::new(),
        Request::Status(_) => vec![bare("status")],
        Request::Events(_) => vec![bare("events")],
        Request::Logs(query) => each("logs", &query.names),
        Request::Reload(_) => vec![bare("reload")],
        Request::ClearSemaphore(which) => vec![on("clear", &which.name)],
        Request::Processes(query) => each("ps", &query.names),
        Request::KillAll(_) => vec![bare("kill-all")],
        // The raise itself is a lock, which needs nobody's permission but that of its file.
        Request::FollowSemaphore(which) => vec![on("raise", &which.name)],
        Request::Shutdown(_) => vec![bare("shutdown")],
        Request::Start(change) => each("start", &change.names),
        Request::Stop(change) => each("stop", &change.names),
        Request::Restart(change) => each("restart", &change.names),
        Request::ReloadProgram(targets) => each("reload", &targets.names),
        Request::Signal(signal) => each("signal", &signal.names),
        Request::Reset(targets) => each("reset", &targets.names),
    }
}

fn bare(verb: &'static str) -> Action {
    Action { verb, target: None }
}

fn on(verb: &'static str, name: &str) -> Action {
    let target = if name == "all" { "*" } else { name };
    Action { verb, target: Some(target.to_owned()) }
}

/// Whether `peer`, whose groups are `groups` (its primary one is added), may do `action`. Root and
/// the supervisor's own user may do everything. The index of the rule that says so is returned, for
/// its rate limit.
#[must_use]
pub fn permits(
    access: &Control,
    supervisor_uid: u32,
    peer: Peer,
    groups: &[u32],
    action: &Action,
) -> Verdict {
    if peer.uid == 0 || peer.uid == supervisor_uid {
        return Verdict::Yes;
    }
    let rule = access.access.iter().position(|rule| {
        concerns(rule, peer, groups) && rule.actions.iter().any(|p| covers(p, action))
    });
    rule.map_or(Verdict::No, Verdict::By)
}

/// The answer of [`permits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As root or the supervisor's own user.
    Yes,
    /// By this item of `supervisor.control.access`.
    By(usize),
    /// No.
    No,
}

fn concerns(rule: &Access, peer: Peer, groups: &[u32]) -> bool {
    rule.users.contains(&peer.uid)
        || rule.groups.contains(&peer.gid)
        || groups.iter().any(|group| rule.groups.contains(group))
}

/// Whether the pattern of a rule covers an action. A verb alone covers it for every program, but
/// `reload` alone is the reload of the site. A glob in the action is covered when whatever it can
/// stand for is: only a star of the pattern covers it.
fn covers(pattern: &str, action: &Action) -> bool {
    if pattern == "*" {
        return true;
    }
    match (pattern.split_once(':'), &action.target) {
        (None, None) => pattern == action.verb,
        (None, Some(_)) => pattern == action.verb && pattern != "reload",
        (Some(_), None) => false,
        (Some((verb, names)), Some(target)) => {
            let tagged = target.starts_with("tag:");
            verb == action.verb
                && if tagged { names == "*" || names == target } else { star(names, target) }
        }
    }
}

/// Whether `pattern`, in which `*` stands for any text, matches all of `text`. Linear in both.
fn star(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    text.ends_with(last)
}

/// Whether `peer` may make `request`, counting it against the rate limits.
///
/// # Errors
/// A refusal that says who asked what, and which rule would permit it.
pub fn check(
    access: &Control,
    supervisor_uid: u32,
    asker: &Asker<'_>,
    request: &Request,
    limits: &mut RateLimits,
    now: Instant,
) -> Result<(), Refusal> {
    let mut by = Vec::new();
    for action in actions(request) {
        match permits(access, supervisor_uid, asker.peer, asker.groups, &action) {
            Verdict::Yes => {}
            Verdict::By(rule) => by.push(rule),
            Verdict::No => return Err(refused(asker, &action)),
        }
    }
    by.sort_unstable();
    by.dedup();
    if !request.is_change() {
        return Ok(());
    }
    for rule in by {
        let limit = access.access.get(rule).and_then(|rule| rule.rate_limit);
        let Some(limit) = limit else { continue };
        if let Err(wait) = limits.take(rule, asker.peer.uid, limit, now) {
            return Err(too_often(asker, limit, wait));
        }
    }
    Ok(())
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// By the kernel.
    pub peer: Peer,
    /// Its supplementary groups.
    pub groups: &'a [u32],
    /// Its login name, where it is known.
    pub user: Option<&'a str>,
}

impl Asker<'_> {
    fn who(&self) -> String {
        match self.user {
            Some(user) => format!("user {user} (uid {})", self.peer.uid),
            None => format!("uid {}", self.peer.uid),
        }
    }
}

fn refused(asker: &Asker<'_>, action: &Action) -> Refusal {
    let user = asker.user.map_or_else(|| asker.peer.uid.to_string(), str::to_owned);
    Refusal {
        code: RefusalCode::NotPermitted,
        message: format!("{} may not {action}", asker.who()),
        hint: Some(format!(
            "run it as root, or permit it with supervisor.control.access: \
             [{{allow: {{users: [{user}]}}, actions: [\"{action}\"]}}]"
        )),
    }
}

fn too_often(asker: &Asker<'_>, limit: RateLimit, wait: Duration) -> Refusal {
    use crate::model::Human;
    Refusal {
        code: RefusalCode::NotPermitted,
        message: format!(
            "{} has made {} changes in {}, which is all that the site permits",
            asker.who(),
            limit.burst,
            Human(limit.interval)
        ),
        hint: Some(format!("try again in {}", Human(wait.max(Duration::from_millis(1))))),
    }
}

/// How much of each rate limit is used up, by rule and user.
///
/// Each is one moment, the time at which it will be unused again (the generic cell rate algorithm),
/// so a flood costs no memory.
#[derive(Clone, Debug, Default)]
pub struct RateLimits(BTreeMap<(usize, u32), Instant>);

impl RateLimits {
    /// Takes one of `limit` for `uid`.
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn take(
        &mut self,
        rule: usize,
        uid: u32,
        limit: RateLimit,
        now: Instant,
    ) -> Result<(), Duration> {
        if limit.burst == 0 {
            return Err(limit.interval);
        }
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, unused_at| *unused_at > now);
        }
        let unused_at = self.0.entry((rule, uid)).or_insert(now);
        let next = (*unused_at).max(now) + limit.interval / limit.burst;
        let used = next.since(now);
        if used > limit.interval {
            return Err(used.saturating_sub(limit.interval));
        }
        *unused_at = next;
        Ok(())
    }
}
