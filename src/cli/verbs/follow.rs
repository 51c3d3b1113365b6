//! `logs`, `events`, `shutdown`: what goes on until somebody ends it.

use std::time::Duration;

use super::{
    super::{
        Context,
        client::{Client, Seen},
        fail::Failure,
        options::LogsArgs,
        out::{Out, tell},
        render,
    },
    change::Progress,
};
use crate::control::{
    EventsQuery, LogLine, LogsQuery, Reply, Request, Shutdown, Targets,
    wire::{Id, Message},
};

/// How often a shutdown that lasts looks at what it waits for.
const LOOK: Duration = Duration::from_millis(500);
/// How many lines `logs` shows when it is not said.
const LINES: u32 = 100;

pub(super) fn logs(args: LogsArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let plain = matches!(args.names.as_slice(), [one] if is_one_name(one));
    let request = Request::Logs(LogsQuery {
        names: args.names,
        lines: args.lines.or(if args.since.is_none() { Some(LINES) } else { None }),
        since: args.since,
        stderr: args.stderr,
        follow: args.follow,
    });
    let mut width = 0;
    stream("show the log", &request, context, out, &mut |lines, out| {
        width = lines.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).max(width);
        for line in lines {
            out.print(&render::log_line(line, (!plain).then_some(width)));
        }
    })
}

/// Neither a glob nor a tag nor all: its lines need no name before them.
fn is_one_name(name: &str) -> bool {
    name != "all" && !name.starts_with("tag:") && !name.contains(['*', '?', '['])
}

pub(super) fn events(follow: bool, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let request = Request::Events(EventsQuery { follow });
    stream("show the events", &request, context, out, &mut |lines, out| {
        for line in lines {
            out.print(&render::event(line));
        }
    })
}

/// Prints lines as they come until the reply, the end of the connection, or nobody reads them.
fn stream(
    what: &str,
    request: &Request,
    context: &Context,
    out: &mut Out,
    print: &mut dyn FnMut(&[LogLine], &mut Out),
) -> Result<u8, Failure> {
    let mut client = context.client()?;
    let id = client.send(request)?;
    let mut show = |lines: &[LogLine], out: &mut Out| {
        if out.json {
            for line in lines {
                out.print(&(serde_json::to_string(line).unwrap_or_default() + "\n"));
            }
        } else {
            print(lines, out);
        }
    };
    while !out.is_closed() {
        match client.next(None)? {
            Seen::Message(Message::Lines(Id::Number(n), lines, dropped)) if n == id => {
                if dropped > 0 {
                    tell(&format!(
                        "supervisor: {dropped} lines were dropped: they were not read in time"
                    ));
                }
                show(&lines, out);
            }
            Seen::Message(Message::Reply(Id::Number(n), reply)) if n == id => match reply {
                Reply::Lines(lines) => {
                    show(&lines, out);
                    return Ok(0);
                }
                Reply::Error(refusal) => return Err(Failure::refused(what, refusal)),
                Reply::Done => return Ok(0),
                Reply::Status(_)
                | Reply::Outcome(_)
                | Reply::Reloaded(_)
                | Reply::Processes(_)
                | Reply::Killed(_)
                | Reply::Version(_) => return Err(super::unexpected(what)),
            },
            Seen::Message(_) | Seen::Timeout | Seen::Interrupted => {}
            Seen::Closed => return Err(closed(&client)),
        }
    }
    Ok(0)
}

fn closed(client: &Client) -> Failure {
    client.lost("it has ended")
}

/// Follows the stop until the supervisor is gone.
pub(super) fn shutdown(force: bool, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let what = "shut down";
    let mut client = context.client()?;
    // Who may shut down need not be allowed to see the status: then what lasts is not shown.
    let mut watch = context.client().ok();
    let mut progress = Progress::new(out);
    let id = client.send(&Request::Shutdown(Shutdown { force }))?;
    loop {
        match client.next(Some(LOOK))? {
            Seen::Timeout => {
                let status = Request::Status(Targets::default());
                match watch.as_mut().map(|watch| watch.ask(what, &status)) {
                    Some(Ok(Reply::Status(site))) => progress.take(site.programs),
                    _ => watch = None,
                }
            }
            Seen::Closed => {
                progress.end(true);
                if out.json {
                    out.print_json(&serde_json::json!({"ok": true}));
                }
                return Ok(0);
            }
            Seen::Message(Message::Reply(Id::Number(n), Reply::Error(refusal))) if n == id => {
                return Err(Failure::refused(what, refusal));
            }
            Seen::Message(_) | Seen::Interrupted => {}
        }
    }
}
