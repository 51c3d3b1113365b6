//! The texts of the files that `install` writes for systemd, and how we know them again. Pure.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    control::paths::PRODUCT,
    model::{Limit, Site, Supervisor},
};

/// Before the path of the site file, in the first line of what we write. Without it a file is
/// somebody else's.
const MARK: &str = "# Written by \"supervisor install\" for the site ";
/// More than `shutdown_timeout`, so that we end ourselves before systemd does it.
const MARGIN: Duration = Duration::from_secs(10);
/// `shutdown_timeout` when nothing is said (and we are not PID 1).
const SHUTDOWN: Duration = Duration::from_secs(90);

/// How long a start may take in seconds, unless a program needs longer.
const START: &str = "120";

/// What is installed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `shop`.
    pub(super) site: String,
    /// The site file, absolute, on one line.
    pub(super) file: PathBuf,
    /// `mini-supervisor-shop.service`.
    pub(super) unit: String,
    /// Where the unit stands.
    pub(super) unit_file: PathBuf,
    /// Where directories that vanish at a boot are declared.
    pub(super) tmpfiles: PathBuf,
    /// The unit is the package's: it is used, and neither written nor removed.
    pub(super) packaged: bool,
    /// `--set` of the command line, which the service needs too.
    set: Vec<(String, String)>,
}

impl Target {
    pub(super) fn new(site: &str, file: PathBuf, set: &[(String, String)]) -> Self {
        // `@` would make it an instance of a template (systemd.unit(5)).
        let stem = format!("{PRODUCT}-{}", site.replace('@', "\\x40"));
        let unit = format!("{stem}.service");
        Self {
            site: site.to_owned(),
            file,
            unit_file: Path::new("/etc/systemd/system").join(&unit),
            tmpfiles: Path::new("/etc/tmpfiles.d").join(format!("{stem}.conf")),
            unit,
            packaged: false,
            set: set.to_vec(),
        }
    }

    /// The unit of the package for this site, and the file that it comes from.
    pub(super) fn of_package(&self) -> Option<(String, String)> {
        let site = &self.site;
        let place = Path::new("/etc").join(PRODUCT).join(format!("{site}.yaml"));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        match &**site {
            _ if self.file != place || !site.chars().all(plain) => None,
            "site" => Some((format!("{PRODUCT}.service"), format!("{PRODUCT}.service"))),
            _ => Some((format!("{PRODUCT}@{site}.service"), format!("{PRODUCT}@.service"))),
        }
    }

    /// Whether the unit of the package does all that the site needs.
    pub(super) fn is_plain(&self, site: &Site, binary: &Path) -> bool {
        let supervisor = &site.supervisor;
        let (run, _) = runtime_dir(supervisor);
        self.set.is_empty()
            && binary == Path::new("/usr/bin/supervisor")
            && run == Path::new("/run").join(PRODUCT).join(&self.site)
            && supervisor.shutdown_timeout.is_none_or(|time| time <= SHUTDOWN)
            && start_timeout(site) == START
    }

    fn head(&self) -> String {
        format!("{MARK}{}\n", self.file.display())
    }
}

/// The site file for which we have written this text; `None`: it is not ours.
pub(super) fn written_for(text: &str) -> Option<&Path> {
    text.lines().next()?.strip_prefix(MARK).map(Path::new)
}

/// The runtime directory, and its path below /run when systemd can make it.
pub(super) fn runtime_dir(supervisor: &Supervisor) -> (PathBuf, Option<String>) {
    let given = supervisor.runtime_dir.clone();
    let dir =
        given.unwrap_or_else(|| Path::new("/run").join(PRODUCT).join(supervisor.name.as_str()));
    let below = dir.strip_prefix("/run").ok().and_then(Path::to_str).map(str::to_owned);
    let below = below.filter(|path| !path.is_empty());
    (dir, below)
}

/// The unit. Nothing in it is newer than systemd 252, and nothing makes a mount namespace: what the
/// site mounts would be seen by nobody else.
pub(super) fn service(
    supervisor: &Supervisor,
    target: &Target,
    binary: &Path,
    site: &Site,
) -> String {
    let (run, below) = runtime_dir(supervisor);
    let pid_file = run.join("supervisor.pid");
    let this = |more: &[&str]| {
        let mut words = vec![binary.display().to_string()];
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words.extend(["-c".to_owned(), target.file.display().to_string()]);
        let set = target.set.iter().map(|(name, value)| format!("{name}={value}"));
        words.extend(set.flat_map(|pair| ["--set".to_owned(), pair]));
        words.iter().map(|word| argument(word)).collect::<Vec<_>>().join(" ")
    };
    let start = this(&["--daemon", "--pid-file", &pid_file.display().to_string()]);
    // Not a signal: so systemctl says when the file is invalid.
    let reload = this(&["reload"]);
    let stop = supervisor.shutdown_timeout.unwrap_or(SHUTDOWN).saturating_add(MARGIN);
    let directory = below.map(|below| {
        format!(
            "RuntimeDirectory={}\nRuntimeDirectoryMode=0755\nRuntimeDirectoryPreserve=no\n",
            argument(&below)
        )
    });
    let mut text = target.head();
    // Writing to a string cannot fail.
    write!(
        text,
        "# Changes are lost with the next one: make them by systemctl edit {unit}
[Unit]
Description=Site {site} (mini-supervisor)
Documentation=man:supervisor(8) man:site.yaml(5)
After=network-online.target local-fs.target remote-fs-pre.target
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=forking
PIDFile={pid_file}
{directory}ExecStart={start}
ExecReload={reload}
KillMode=mixed
NotifyAccess=all
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2 78
TimeoutStartSec={wait}
TimeoutStopSec={stop}
WatchdogSec=60
OOMPolicy=continue
Delegate=yes
LimitNOFILE=1024:524288

[Install]
WantedBy=multi-user.target
",
        unit = target.unit,
        site = target.site,
        pid_file = pid_file.display().to_string().replace('%', "%%"),
        directory = directory.unwrap_or_default(),
        wait = start_timeout(site),
        stop = seconds(stop),
    )
    .ok();
    text
}

/// Long enough for the slowest program.
fn start_timeout(site: &Site) -> String {
    let longest =
        site.programs.values().map(|program| program.start_timeout).max_by_key(
            |limit| match limit {
                Limit::After(time) => *time,
                Limit::Never => Duration::MAX,
            },
        );
    match longest {
        Some(Limit::Never) => "infinity".to_owned(),
        Some(Limit::After(time)) if time > Duration::from_secs(90) => {
            seconds(time.saturating_add(Duration::from_secs(30)))
        }
        Some(Limit::After(_)) | None => START.to_owned(),
    }
}

/// Rounded up.
fn seconds(time: Duration) -> String {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).to_string()
}

/// A word as systemd.service(5) reads it back: no specifier, no variable, one word.
fn argument(word: &str) -> String {
    let word = word.replace('%', "%%").replace('$', "$$");
    quoted(&word)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%$,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A line of tmpfiles.d(5): a directory with its mode, owner and group.
pub(super) struct Line<'a> {
    pub(super) path: &'a Path,
    pub(super) mode: crate::model::Mode,
    pub(super) owner: &'a str,
    pub(super) group: String,
}

/// The file for systemd-tmpfiles(8).
pub(super) fn tmpfiles(target: &Target, lines: &[Line<'_>]) -> String {
    let mut text = target.head();
    for line in lines {
        let path = quoted(&line.path.display().to_string().replace('%', "%%"));
        writeln!(text, "d {path} {} {} {} -", line.mode, line.owner, line.group).ok();
    }
    text
}
