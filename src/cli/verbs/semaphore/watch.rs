//! `semaphore watch`: how semaphores stand, and then what happens to them.

use super::{
    super::{
        super::{Context, client::Seen, fail::Failure, out::Out, render},
        unexpected,
    },
    target,
};
use crate::control::{
    EventsQuery, Reply, Request, SemaphoreStatus, Targets,
    wire::{Id, Message},
};

pub(super) fn watch(name: Option<&str>, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what =
        name.map_or_else(|| "watch semaphores".to_owned(), |n| format!("watch semaphore {n}"));
    let mut events = context.client()?;
    // Followed before it is asked, so that nothing happens between.
    let id = events.send(&Request::Events(EventsQuery { follow: true }))?;
    let mut began = false;
    while !out.is_closed() {
        match events.next(None)? {
            Seen::Message(Message::Lines(Id::Number(n), lines, _)) if n == id => {
                if !began {
                    // What has been is no news: `supervisor events` has it.
                    began = true;
                    begin(name, &what, context, out)?;
                    continue;
                }
                let meant = |of: &str| match (of.strip_prefix("semaphore:"), name) {
                    (Some(of), Some(name)) => of == name,
                    (of, None) => of.is_some(),
                    (None, Some(_)) => false,
                };
                for line in lines.iter().filter(|line| meant(&line.name)) {
                    if out.json {
                        out.print(&(serde_json::to_string(line).unwrap_or_default() + "\n"));
                    } else {
                        out.print(&render::event(line));
                    }
                }
            }
            Seen::Message(Message::Reply(_, Reply::Error(refusal))) => {
                return Err(Failure::refused(&what, refusal));
            }
            Seen::Closed => return Err(events.lost("it has ended")),
            Seen::Message(_) | Seen::Timeout | Seen::Interrupted => {}
        }
    }
    Ok(0)
}

/// How they stand.
fn begin(name: Option<&str>, what: &str, context: &Context, out: &mut Out) -> Result<(), Failure> {
    let mut ask = context.client()?;
    let all: Vec<SemaphoreStatus> = if let Some(name) = name {
        vec![target::status(&mut ask, what, name)?]
    } else {
        let Reply::Status(site) = ask.ask(what, &Request::Status(Targets::default()))? else {
            return Err(unexpected(what));
        };
        site.semaphores
    };
    if all.is_empty() {
        let text = format!("cannot {what}: this site has none");
        return Err(Failure::new(5, "no_such_name", text).hint("see semaphores in site.yaml(5)"));
    }
    if out.json {
        for one in &all {
            out.print(&(serde_json::to_string(one).unwrap_or_default() + "\n"));
        }
    } else {
        out.print(&render::semaphores(&all, out.view()));
    }
    Ok(())
}
