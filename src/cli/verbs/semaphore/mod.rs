//! `semaphore`: what asks for something, the asking, and the cancelling of it.

mod hold;
mod info;
mod raise;
mod raised;
mod target;
mod waiting;
mod watch;

pub(in crate::cli) use info::pair;

use super::{
    super::{Context, fail::Failure, options::SemaphoreVerb, out::Out, render},
    touched, unexpected,
};
use crate::control::{Reply, Request, SemaphoreName, SemaphoreWord};

/// Nobody asks.
const CLEAR: u8 = 1;
/// It cannot be told, or whoever asks may not.
const UNKNOWN: u8 = 2;

pub(super) fn run(verb: SemaphoreVerb, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    match verb {
        SemaphoreVerb::Status { name } => status(&name, context, out),
        SemaphoreVerb::Clear { name } => clear(name, context, out),
        SemaphoreVerb::Raise(args) => raise::raise(&args, context, out),
        SemaphoreVerb::Hold(args) => hold::hold(args, context, out),
        SemaphoreVerb::Watch { name } => watch::watch(name.as_deref(), context, out),
    }
}

fn status(name: &str, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = format!("show semaphore {name}");
    let semaphore = target::status(&mut context.client()?, &what, name)?;
    if out.json {
        out.print_json(&semaphore);
    } else {
        out.print(&render::semaphore(&semaphore, out.view()));
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
