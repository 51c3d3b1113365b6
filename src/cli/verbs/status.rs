//! `status`.

use super::{
    super::{
        Context,
        client::{Client, Seen},
        fail::{Failure, NO_SUPERVISOR, NOT_RUNNING},
        options::StatusArgs,
        out::{Out, tell},
        render,
    },
    unexpected,
};
use crate::control::{
    EventsQuery, LogsQuery, ProcessInfo, ProcessesQuery, ProgramStatus, Reply, Request, SiteStatus,
    StateWord, Targets, Zombies, wire::Message,
};

const WHAT: &str = "show the status";
/// How many lines of its log the page about one program ends with.
const LINES: u32 = 10;

/// How long a parent may take to wait for its dead.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(200);

pub(super) fn status(args: &StatusArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    lsb(show(args, context, out))
}

/// The exit codes of the LSB for status: 3 no supervisor runs, 4 no such name.
fn lsb(result: Result<u8, Failure>) -> Result<u8, Failure> {
    result.map_err(|failure| match (failure.exit, failure.code.as_str()) {
        (NO_SUPERVISOR, _) => Failure { exit: NOT_RUNNING, ..failure },
        (_, "no_such_name") => Failure { exit: 4, ..failure },
        _ => failure,
    })
}

fn show(args: &StatusArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let mut client = context.client()?;
    if !args.watch {
        let site = ask(&mut client, args)?;
        print(&site, args, &mut client, out)?;
        return Ok(code(&site, args));
    }
    // Something happens: show it again. Nothing happens: nothing is asked.
    let mut events = context.client()?;
    events.send(&Request::Events(EventsQuery { follow: true }))?;
    loop {
        let site = ask(&mut client, args)?;
        if Out::is_terminal() && !out.json {
            out.print("\x1b[H\x1b[2J");
        }
        print(&site, args, &mut client, out)?;
        if out.is_closed() {
            return Ok(0);
        }
        let mut changed = false;
        loop {
            // What comes in one go is shown once.
            let wait = changed.then_some(std::time::Duration::from_millis(50));
            match events.next(wait)? {
                Seen::Timeout => break,
                Seen::Closed | Seen::Interrupted => return Ok(code(&site, args)),
                Seen::Message(Message::Reply(_, Reply::Error(refusal))) => {
                    return Err(Failure::refused(WHAT, refusal));
                }
                Seen::Message(_) => changed = true,
            }
        }
    }
}

fn ask(client: &mut Client, args: &StatusArgs) -> Result<SiteStatus, Failure> {
    let request = Request::Status(Targets { names: args.names.clone() });
    let Reply::Status(site) = client.ask(WHAT, &request)? else {
        return Err(unexpected(WHAT));
    };
    Ok(*site)
}

fn code(site: &SiteStatus, args: &StatusArgs) -> u8 {
    let running = site.programs.iter().all(|p| p.state == StateWord::Running);
    if args.names.is_empty() || running { 0 } else { NOT_RUNNING }
}

fn print(
    site: &SiteStatus,
    args: &StatusArgs,
    client: &mut Client,
    out: &mut Out,
) -> Result<(), Failure> {
    if out.json {
        out.print_json(site);
    } else if !args.output.is_empty() {
        out.print(&render::fields(&site.programs, &args.output));
    } else if let ([_], [program]) = (args.names.as_slice(), site.programs.as_slice()) {
        let names = vec![program.name.clone()];
        let query = LogsQuery { names, lines: Some(LINES), ..LogsQuery::default() };
        // Who may see the status need not be allowed to see the log: then there is none here.
        let lines = match client.ask(WHAT, &Request::Logs(query)) {
            Ok(Reply::Lines(lines)) => lines,
            Err(failure) if failure.code == "lost" => return Err(failure),
            Ok(_) | Err(_) => Vec::new(),
        };
        let processes = processes_of(program, client)?;
        out.print(&render::page(program, &processes, &lines, out.view()));
    } else {
        if site.programs.is_empty() && site.semaphores.is_empty() {
            tell("the site has no programs");
        }
        out.print(&render::table(&site.programs, out.view()));
        out.print(&render::semaphores(&site.semaphores, out.view()));
        tell_zombies(site, client)?;
    }
    Ok(())
}

/// Its processes; none where whoever asks may not see them.
fn processes_of(program: &ProgramStatus, client: &mut Client) -> Result<Vec<ProcessInfo>, Failure> {
    let query = ProcessesQuery { names: vec![program.name.clone()], orphans: false };
    match client.ask(WHAT, &Request::Processes(query)) {
        Ok(Reply::Processes(list)) => Ok(list.processes),
        Err(failure) if failure.code == "lost" => Err(failure),
        Ok(_) | Err(_) => Ok(Vec::new()),
    }
}

/// Says which zombies stay: whoever has just died may be waited for in a moment.
fn tell_zombies(site: &SiteStatus, client: &mut Client) -> Result<(), Failure> {
    if site.supervisor.zombies.is_empty() {
        return Ok(());
    }
    let (_never, timer) = crossbeam_channel::bounded::<()>(1);
    timer.recv_timeout(MOMENT).ok();
    let request = Request::Status(Targets { names: Vec::new() });
    let Reply::Status(again) = client.ask(WHAT, &request)? else { return Err(unexpected(WHAT)) };
    for Zombies { parent, name, count } in &again.supervisor.zombies {
        if !site.supervisor.zombies.iter().any(|before| before.parent == *parent) {
            continue;
        }
        let (name, s) = (render::escape(name), if *count == 1 { "" } else { "s" });
        tell(&format!(
            "note: {count} zombie{s} of {name} (pid {parent}), which has not waited for them: no \
             init can reap them while it lives"
        ));
    }
    Ok(())
}
