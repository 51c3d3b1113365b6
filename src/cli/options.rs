//! The command line as types: what is not here is a usage error.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, builder::NonEmptyStringValueParser as NonEmpty};

use crate::model::{LogLevel, Signal};

/// Below the options.
const AFTER: &str = "\
Without a verb the site is supervised, in the foreground unless -d is given.
With a command, the command is run as the init of a container would; with -c too, the programs of
the site run beside it.";

/// Supervise the programs of a site, or speak to a supervisor that runs
#[derive(Debug, Parser)]
#[command(name = "supervisor", bin_name = "supervisor", version)]
#[command(disable_help_subcommand = true)]
#[command(
    override_usage = "supervisor [-c FILE] [OPTIONS]\n       supervisor [-c FILE] [OPTIONS] [--] CMD [ARG…]\n       supervisor [OPTIONS] VERB …"
)]
#[command(after_help = AFTER)]
pub(super) struct CommandLine {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(flatten)]
    pub(super) start: StartOptions,
    /// Validate the site file and end; the same as `check`
    #[arg(short = 't', long)]
    pub(super) test: bool,
    #[command(flatten)]
    pub(super) command: CommandArgs,
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

/// Above the options that only a command has.
const COMMAND: &str = "Options of a command";

/// Options of `supervisor [--] CMD`: those of tini and dumb-init.
#[derive(Args, Debug)]
pub(super) struct CommandArgs {
    /// Signals go to the process group of the command [`$TINI_KILL_PROCESS_GROUP`]
    #[arg(short, long, help_heading = COMMAND)]
    pub(super) group: bool,
    /// Say which orphans are reaped
    #[arg(short, long, help_heading = COMMAND)]
    pub(super) warn: bool,
    /// This exit code becomes 0; may be repeated
    #[arg(short = 'e', long, value_name = "N", help_heading = COMMAND)]
    pub(super) map_exit: Vec<u8>,
    /// How long what the command leaves behind may take to end; 0: as long as nobody waits
    /// [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = COMMAND)]
    pub(super) grace: Option<Duration>,
    /// How long the command may take after SIGTERM or SIGINT, then all is killed; 0: for ever
    /// [default: 8s as process 1, else 0]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = COMMAND)]
    pub(super) stop_timeout: Option<Duration>,
    /// The command gets signal B where we get A; `A:0` drops it
    #[arg(long, value_name = "A:B", value_parser = rewrite, value_delimiter = ',', help_heading = COMMAND)]
    pub(super) rewrite: Vec<(Signal, Option<Signal>)>,
    /// The signal that comes when our parent dies
    #[arg(long, value_name = "SIG", value_parser = signal, help_heading = COMMAND)]
    pub(super) parent_death_signal: Option<Signal>,
}

impl CommandArgs {
    /// An option that is given although there is no command.
    pub(super) fn given(&self) -> Option<&'static str> {
        let Self { group, warn, map_exit, grace, stop_timeout, rewrite, parent_death_signal } =
            self;
        let all = [
            (*group, "--group"),
            (*warn, "--warn"),
            (!map_exit.is_empty(), "--map-exit"),
            (grace.is_some(), "--grace"),
            (stop_timeout.is_some(), "--stop-timeout"),
            (!rewrite.is_empty(), "--rewrite"),
            (parent_death_signal.is_some(), "--parent-death-signal"),
        ];
        all.into_iter().find_map(|(is, name)| is.then_some(name))
    }
}

fn rewrite(text: &str) -> Result<(Signal, Option<Signal>), String> {
    let mistake = || "write TERM:QUIT, 15:3, or TERM:0 to drop it".to_owned();
    let (from, to) = text.split_once(':').ok_or_else(mistake)?;
    let from = Signal::parse(from).ok_or_else(mistake)?;
    if to == "0" {
        return Ok((from, None));
    }
    Signal::parse(to).map(|to| (from, Some(to))).ok_or_else(mistake)
}

/// Options of a start.
#[derive(Args, Clone, Debug)]
pub(super) struct StartOptions {
    /// Go into the background when the site is up; the exit code says whether it is
    #[arg(short, long, conflicts_with = "foreground")]
    pub(super) daemon: bool,
    /// The default; overrides `supervisor.daemon: true`
    #[arg(short = 'n', long)]
    pub(super) foreground: bool,
    /// Write the process id into this file [default: `supervisor.pid_file`]
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// How long the site may take to come up in the background [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) start_timeout: Option<Duration>,
}

/// Above the options that every verb has.
const EVERYWHERE: &str = "Options of every verb";

/// Options that may stand before or after the verb.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(super) struct Global {
    /// Site file; `-` is standard input
    /// [default: `$SUPERVISOR_CONFIG`, else /etc/mini-supervisor/site.yaml]
    #[arg(short, long, global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Control socket of the supervisor to speak to [default: `$SUPERVISOR_SOCKET`]
    #[arg(short, long, global = true, help_heading = EVERYWHERE, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(short, long, global = true, help_heading = EVERYWHERE, value_name = "LEVEL", value_parser = level)]
    pub(super) log_level: Option<LogLevel>,
    /// Log errors only
    #[arg(short, long, global = true, help_heading = EVERYWHERE, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Log more
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub(super) verbose: bool,
    /// Override an entry of `variables:`
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(super) set: Vec<(String, String)>,
    /// Print what would be done, do nothing
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(super) dry_run: bool,
    /// Print JSON
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Validate the site file: all mistakes at once
    Check,
    /// Show the state of the programs; with one name, all about it
    Status(StatusArgs),
    /// Start programs
    Start(StartArgs),
    /// Stop programs
    Stop(StopArgs),
    /// Stop and start programs; starts what is stopped
    Restart(RestartArgs),
    /// Read the site file again and apply the difference; with names, let programs reload
    #[command(visible_alias = "update")]
    Reload(ReloadArgs),
    /// Read the site file again and print the difference
    Reread,
    /// Send a signal to programs
    Signal(SignalArgs),
    /// Forget failures and the start limit
    Reset(Names),
    /// Print the process id of a program, or of the supervisor
    Pid {
        /// Names, `'glob*'`, `tag:T` or `all`
        #[arg(value_parser = NonEmpty::new())]
        name: Option<String>,
    },
    /// Say whether a program, or all that should be up, is running: 0, else 1 or 2
    Health {
        /// Names, `'glob*'`, `tag:T` or `all`
        #[arg(value_parser = NonEmpty::new())]
        name: Option<String>,
    },
    /// Show the processes of the programs, and what these have left behind
    Ps(PsArgs),
    /// Show lines of the programs' output
    #[command(visible_alias = "tail")]
    Logs(LogsArgs),
    /// Show what happened
    Events {
        /// Go on with what happens
        #[arg(short, long)]
        follow: bool,
    },
    /// Ask for something by a semaphore, hold it, look at it, or cancel what is asked for
    Semaphore {
        #[command(subcommand)]
        verb: SemaphoreVerb,
    },
    /// Look at the host, the supervisor and the semaphores, and say what is wrong
    Doctor,
    /// Stop all programs and the supervisor
    Shutdown {
        /// Kill at once
        #[arg(long)]
        force: bool,
    },
    /// Stop all programs and end what they have left behind: lists them first and asks
    KillAll {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Make the users, directories and systemd unit of the site
    Install(InstallArgs),
    /// Stop the site and remove its systemd unit; users and data stay
    Uninstall,
    /// Print the site as it was understood, with all defaults
    ShowConfig {
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Print the JSON Schema of site files
    Schema,
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version of this command, and of the supervisor that runs
    Version,
}

#[derive(Debug, Subcommand)]
pub(super) enum SemaphoreVerb {
    /// Say whether it is raised, by whom, and what for: 0 raised, 1 clear, 2 it cannot be told
    Status {
        /// Its name
        #[arg(value_parser = NonEmpty::new())]
        name: String,
    },
    /// Cancel what is asked for, and remove its files
    Clear {
        /// Its name
        #[arg(value_parser = NonEmpty::new())]
        name: String,
    },
    /// Ask for what it does, and wait until that is accepted
    Raise(RaiseArgs),
    /// Hold its lock while a command runs; the exit code is that of the command
    Hold(HoldArgs),
    /// Show how it stands, and then what happens to it
    Watch {
        /// Its name; without, all of them
        #[arg(value_parser = NonEmpty::new())]
        name: Option<String>,
    },
}

#[derive(Args, Clone, Debug)]
pub(super) struct RaiseArgs {
    /// Its name
    #[arg(value_parser = NonEmpty::new())]
    pub(super) name: String,
    /// A line for its info file; may be repeated. The name of whoever asks and the time are added
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::verbs::info)]
    pub(super) info: Vec<(String, String)>,
    /// Take it back when it is not accepted in so long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct HoldArgs {
    /// A semaphore whose `action` is `none`, or the path of a lock file
    #[arg(value_parser = NonEmpty::new())]
    pub(super) name: String,
    /// Do not wait for another holder
    #[arg(long, conflicts_with = "timeout")]
    pub(super) no_wait: bool,
    /// Wait for another holder at most so long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// The exit code when another one holds it
    #[arg(short = 'E', long, value_name = "N", default_value_t = 1)]
    pub(super) conflict_exit_code: u8,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<std::ffi::OsString>,
}

#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct InstallArgs {
    /// Do not start the site at boot
    #[arg(long)]
    pub(super) no_enable: bool,
    /// Start the site
    #[arg(long)]
    pub(super) now: bool,
}

#[derive(Args, Debug)]
pub(super) struct Names {
    /// Names, `'glob*'`, `tag:T` or `all`
    #[arg(required = true, value_name = "NAME", value_parser = NonEmpty::new())]
    pub(super) names: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct PsArgs {
    /// Names, `'glob*'`, `tag:T` or `all`
    #[arg(value_name = "NAME", value_parser = NonEmpty::new())]
    pub(super) names: Vec<String>,
    /// Only what belongs to no living instance of its program
    #[arg(long)]
    pub(super) orphans: bool,
    /// Show them again and again, measured in between
    #[arg(short, long)]
    pub(super) watch: bool,
    /// Measure the processor for so long; 0: say what each has used in its whole life
    #[arg(short, long, value_name = "TIME", value_parser = duration, default_value = "500ms")]
    pub(super) interval: Duration,
}

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// Names, `'glob*'`, `tag:T` or `all`
    #[arg(value_name = "NAME", value_parser = NonEmpty::new())]
    pub(super) names: Vec<String>,
    /// Show it again whenever something changes
    #[arg(short, long)]
    pub(super) watch: bool,
    /// Print these fields, tab-separated: name, state, goal, pid, uptime, ready, healthy, restarts,
    /// exit, reason, cpu, memory
    #[arg(short, long, value_name = "A,B,C", value_delimiter = ',')]
    #[arg(hide_possible_values = true)]
    pub(super) output: Vec<super::render::Field>,
}

/// What all changes have in common.
#[derive(Args, Debug)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    pub(super) names: Names,
    /// Do not wait for the end
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Wait at most so long; the operation continues
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
}

#[derive(Args, Debug)]
pub(super) struct StartArgs {
    #[command(flatten)]
    pub(super) change: ChangeArgs,
    /// Start this variant
    #[arg(long, value_name = "NAME")]
    pub(super) variant: Option<String>,
    /// Further arguments of the variant, where it allows them
    #[arg(last = true, value_name = "ARG", requires = "variant")]
    pub(super) args: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct StopArgs {
    #[command(flatten)]
    pub(super) change: ChangeArgs,
    /// Do not wait for dependants, nor ask; begin at SIGKILL
    #[arg(long)]
    pub(super) force: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

#[derive(Args, Debug)]
pub(super) struct RestartArgs {
    #[command(flatten)]
    pub(super) stop: StopArgs,
    /// Start this variant
    #[arg(long, value_name = "NAME")]
    pub(super) variant: Option<String>,
    /// Further arguments of the variant, where it allows them
    #[arg(last = true, value_name = "ARG", requires = "variant")]
    pub(super) args: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct ReloadArgs {
    /// Programs that are to reload themselves; without, the site file is read again
    #[arg(value_name = "NAME", value_parser = NonEmpty::new())]
    pub(super) names: Vec<String>,
    /// Even when more than half of the running programs would be removed
    #[arg(long)]
    pub(super) allow_removal: bool,
}

#[derive(Args, Debug)]
pub(super) struct SignalArgs {
    /// `HUP`, `SIGHUP`, `1`, `RTMIN+3`
    #[arg(value_name = "SIG", value_parser = signal)]
    pub(super) signal: Signal,
    #[command(flatten)]
    pub(super) names: Names,
}

#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    /// Names, `'glob*'`, `tag:T` or `all`
    #[arg(value_name = "NAME", value_parser = NonEmpty::new())]
    pub(super) names: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    pub(super) follow: bool,
    /// At most so many lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) lines: Option<u32>,
    /// Nothing older than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) since: Option<Duration>,
    /// Standard error only
    #[arg(long)]
    pub(super) stderr: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() {
        Err("write NAME=VALUE".to_owned())
    } else {
        Ok((name.into(), value.into()))
    }
}

fn level(text: &str) -> Result<LogLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(LogLevel::Error),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err("error, warn, info, debug or trace".to_owned()),
    }
}

fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text).ok_or_else(|| "write HUP, SIGHUP or 1".to_owned())
}

/// Reads `500ms`, `10s`, `1h30m`: each number has a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("write a number and a unit: {text}s or {text}m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, after) = rest.split_at(end);
        let number: u64 =
            number.parse().map_err(|_| "write a number and a unit: 10s".to_owned())?;
        let stop = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(stop);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" | "sec" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err("the units are ms, s, m, h, d, w".to_owned()),
        };
        sum = sum.saturating_add(Duration::from_millis(number.saturating_mul(millis)));
        rest = next;
    }
    if text.is_empty() { Err("write a number and a unit: 10s".to_owned()) } else { Ok(sum) }
}
