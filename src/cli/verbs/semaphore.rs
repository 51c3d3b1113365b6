//! `semaphore`: what asks for something, and the cancelling of it.

use super::{
    super::{Context, fail::Failure, options::SemaphoreVerb, out::Out, render},
    touched, unexpected,
};
use crate::control::{Reply, Request, SemaphoreName, SemaphoreWord, Targets};

/// Nobody asks.
const CLEAR: u8 = 1;
/// It cannot be told, or whoever asks may not.
const UNKNOWN: u8 = 2;

pub(super) fn run(verb: SemaphoreVerb, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    match verb {
        SemaphoreVerb::Status { name } => status(&name, context, out),
        SemaphoreVerb::Clear { name } => clear(name, context, out),
    }
}

fn status(name: &str, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = format!("show semaphore {name}");
    let names = vec![format!("semaphore:{name}")];
    let request = Request::Status(Targets { names });
    let Reply::Status(site) = context.client()?.ask(&what, &request)? else {
        return Err(unexpected(&what));
    };
    let Some(semaphore) = site.semaphores.first() else { return Err(unexpected(&what)) };
    if out.json {
        out.print_json(semaphore);
    } else {
        out.print(&render::semaphore(semaphore, out.view()));
    }
    Ok(match semaphore.state {
        SemaphoreWord::Raised | SemaphoreWord::Pending | SemaphoreWord::Acting => 0,
        SemaphoreWord::Clear => CLEAR,
        SemaphoreWord::Refused | SemaphoreWord::Unknown => UNKNOWN,
    })
}

fn clear(name: String, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = format!("clear semaphore {name}");
    if context.global.dry_run {
        return touched(&what, vec![format!("semaphore:{name}")], context, out);
    }
    let request = Request::ClearSemaphore(SemaphoreName { name });
    if context.client()?.ask(&what, &request)? != Reply::Done {
        return Err(unexpected(&what));
    }
    if out.json {
        out.print_json(&serde_json::json!({"ok": true}));
    }
    Ok(0)
}
