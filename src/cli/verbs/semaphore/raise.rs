//! `semaphore raise`: asks for what a semaphore does, as any signaller would, and waits for it.

use std::time::Duration;

use nix::poll::{PollTimeout, poll};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{
    super::super::{
        Context, client,
        fail::{Failure, USAGE},
        options::RaiseArgs,
        out::{Out, tell},
        render::escape,
    },
    info,
    raised::{NotRaised, Raised},
    target::{self, Target},
    waiting::{Ended, Voice, Waiting},
};
use crate::{
    control::SemaphoreWord,
    model::Holder,
    sys::{clock, local_time, user},
};

/// A raise that is taken for the one before is made again so often.
const AGAIN: usize = 5;
/// How long the supervisor may take to make the file that only it can make.
const MAKING: Duration = Duration::from_secs(2);

pub(super) fn raise(args: &RaiseArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = format!("raise semaphore {}", args.name);
    let (mut target, ask) = target::find(&args.name, &what, context)?;
    if target.is_mere_lock() {
        let text = format!("cannot {what}: it is a mere lock, action: none");
        return Err(Failure::new(USAGE, "usage", text)
            .hint(format!("hold it: supervisor semaphore hold {} -- CMD", args.name)));
    }
    let text = text(&target, &args.info, &what)?;
    if context.global.dry_run {
        return Ok(dry_run(&target, text.as_deref(), out));
    }
    let lost = |e: std::io::Error| Failure::new(1, "failed", format!("cannot {what}: {e}"));
    // Before anything is held or written, so that it is taken back in any case.
    let interrupts = client::caught(&[SIGINT, SIGTERM, SIGHUP]).map_err(lost)?;
    let deadline = args.timeout.map(|time| clock::monotonic() + time);
    let voice = Voice::new(&args.name, out);
    let (base, what) = (target.clone(), what.as_str());
    let mut waiting =
        Waiting { target: &base, what, deadline, interrupts: &interrupts, context, voice };
    let mut follow = match ask.map(|ask| waiting.follow(ask)).transpose()? {
        Some(Ok(follow)) => Some(follow),
        Some(Err(unasked)) => {
            target.unasked = Some(unasked);
            None
        }
        None => None,
    };
    waiting.target = &target;
    if follow.is_some() {
        wait_for_the_file(&target);
    }
    for _ in 0..AGAIN {
        let since = clock::wall();
        let (raised, warning) = match Raised::new(&target, text.as_deref(), what) {
            Ok(raised) => raised,
            Err(why) => return already(&why, &target, what, context, out),
        };
        if let Some(why) = warning {
            tell(&escape(&format!("supervisor: raised without its info file: {why}")));
        }
        let ended = waiting.until_over(&raised, since, follow.take());
        waiting.voice.end();
        match ended {
            Ok(Ended::Accepted | Ended::Removed | Ended::NotDone(_)) => raised.accepted(),
            Ok(_) | Err(_) => raised.take_back(),
        }
        let ended = ended?;
        if !matches!(ended, Ended::Unseen) {
            return report(ended, &target, what, args.timeout, out);
        }
        follow = waiting.after_the_one_before()?;
    }
    let text = format!("cannot {what}: it is served all the time, and not heard anew");
    Err(Failure::new(1, "failed", text))
}

/// The text of the info file, if it has one.
fn text(
    target: &Target,
    given: &[(String, String)],
    what: &str,
) -> Result<Option<String>, Failure> {
    if target.info_file.is_none() {
        if given.is_empty() {
            return Ok(None);
        }
        let text = format!("cannot {what}: it has no info_file that --info could be written to");
        return Err(Failure::new(USAGE, "usage", text));
    }
    let uid = nix::unistd::getuid().as_raw();
    let now = clock::wall();
    let when = now.local(local_time::utc_offset(now));
    let text = info::text(given, &target.info_keys, (&user_name(uid), &when));
    text.map(Some).map_err(|why| Failure::new(USAGE, "usage", format!("cannot {what}: {why}")))
}

fn user_name(uid: u32) -> String {
    let account = user::user_by_id(uid).ok().flatten();
    account.map_or_else(|| format!("uid {uid}"), |account| account.name.to_string())
}

fn dry_run(target: &Target, text: Option<&str>, out: &mut Out) -> u8 {
    let (name, path) = (&target.name, target.path.display());
    let verb = match target.kind {
        crate::model::SemaphoreKind::Flock => "lock",
        crate::model::SemaphoreKind::File => "make",
    };
    out.print(&escape(&format!("would {verb} {path}, which asks for {} ({name})", target.action)));
    out.print("\n");
    for line in text.unwrap_or_default().lines() {
        out.print(&format!("  {}\n", escape(line)));
    }
    0
}

/// A file that has to be another user's is made by the supervisor, after it was removed as well.
fn wait_for_the_file(target: &Target) {
    let end = clock::monotonic() + MAKING;
    while target.making.owner.is_some() && !target.path.exists() && clock::monotonic() < end {
        poll(&mut [], PollTimeout::from(20_u8)).unwrap_or_default();
    }
}

/// It is raised, but not by us.
fn already(
    why: &NotRaised,
    target: &Target,
    what: &str,
    context: &Context,
    out: &mut Out,
) -> Result<u8, Failure> {
    let by = match why {
        NotRaised::Failed(failure) => return Err(failure.clone()),
        NotRaised::ByFile(uid) => format!("the file of {}", user_name(*uid)),
        NotRaised::ByHolders(holders) => match holders.as_slice() {
            [] => "somebody who cannot be seen from here".to_owned(),
            holders => holders.iter().map(in_words).collect::<Vec<_>>().join(", "),
        },
    };
    let asked = (target.unasked.is_none()).then(|| context.client().ok()).flatten();
    let status = asked.and_then(|mut ask| target::status(&mut ask, what, &target.name).ok());
    let state = status.as_ref().map(|status| status.state);
    if let (Some(SemaphoreWord::Refused), Some(status)) = (state, &status) {
        let text = format!("cannot {what}: it is held by {by}: {}", status.reason);
        return Err(Failure::new(4, "refused", text)
            .hint("whoever may open its file may hold it: see owner and mode in site.yaml(5)"));
    }
    let served = state == Some(SemaphoreWord::Raised);
    if out.json {
        let holders = match &why {
            NotRaised::ByHolders(holders) => holders.as_slice(),
            NotRaised::ByFile(_) | NotRaised::Failed(_) => &[],
        };
        let one = |h: &Holder| json!({"pid": h.pid, "uid": h.uids[0], "command": &*h.command});
        out.print_json(&json!({
            "schema_version": 1, "name": target.name, "result": "already_raised",
            "action": target.action, "served": served,
            "holders": holders.iter().map(one).collect::<Vec<_>>(),
        }));
    } else {
        let served = if served { "; that was served" } else { "" };
        out.print(&format!(
            "{}\n",
            escape(&format!("{}: already raised by {by}{served}", target.name))
        ));
    }
    Ok(0)
}

/// `pid 12 (bot, python3 main.py)`.
pub(super) fn in_words(holder: &Holder) -> String {
    let [uid, ..] = holder.uids;
    format!("pid {} ({}, {})", holder.pid, user_name(uid), holder.command)
}

fn report(
    ended: Ended,
    target: &Target,
    what: &str,
    timeout: Option<Duration>,
    out: &mut Out,
) -> Result<u8, Failure> {
    let fail = |exit: u8, code: &str, why: String| {
        Err(Failure::new(exit, code, format!("cannot {what}: {why}")))
    };
    let by_supervisor = matches!(ended, Ended::Accepted);
    match ended {
        Ended::Accepted | Ended::Removed => {}
        Ended::NotDone(why) => return fail(1, "failed", why),
        Ended::Refused(why) => return fail(4, "refused", format!("refused: {why}")),
        Ended::Cancelled(why) => return fail(1, "cancelled", format!("cancelled: {why}")),
        Ended::Foreign(why) => return fail(1, "foreign", why),
        Ended::Interrupted => {
            return fail(1, "interrupted", "interrupted; it is taken back".into());
        }
        Ended::TimedOut | Ended::Unseen => {
            let time = crate::model::Human(timeout.unwrap_or_default());
            let text = format!("not accepted within {time}; it is taken back");
            return fail(1, "timeout", text);
        }
    }
    if out.json {
        out.print_json(&json!({
            "schema_version": 1, "name": target.name, "result": "accepted",
            "action": target.action,
        }));
    } else if by_supervisor {
        out.print(&escape(&format!("{}: accepted: {}", target.name, target.action)));
        out.print("\n");
    } else {
        out.print(&escape(&format!("{}: accepted: its file was removed", target.name)));
        out.print("\n");
    }
    Ok(0)
}
