//! The units that the tests start, as the documents recommend them.

use super::machine::Machine;

/// How systemd is told that the supervisor is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Exec,
    Forking,
    Notify,
}

/// All that can be used.
pub(super) const KINDS: &[Kind] = &[Kind::Exec, Kind::Forking, Kind::Notify];

/// Where the PID file of a site is.
pub(super) fn pid_file(name: &str) -> String {
    format!("/run/mini-supervisor/{name}/supervisor.pid")
}

/// The unit that the package has for one more site, of this name.
pub(super) fn shipped(machine: &Machine, name: &str) -> String {
    let text = include_str!("../../../packaging/systemd/mini-supervisor@.service");
    machine.unit("mini-supervisor@.service", text);
    format!("mini-supervisor@{name}.service")
}

/// Makes `NAME.service` for the site `NAME`; `more` ends its section `[Service]`.
pub(super) fn unit(machine: &Machine, kind: Kind, name: &str, more: &str) -> String {
    let pid_file = pid_file(name);
    let start = match kind {
        Kind::Exec => "Type=exec\nExecStart=/usr/bin/supervisor".to_owned(),
        Kind::Notify => "Type=notify\nExecStart=/usr/bin/supervisor".to_owned(),
        Kind::Forking => format!(
            "Type=forking\nPIDFile={pid_file}\n\
             ExecStart=/usr/bin/supervisor --daemon --pid-file {pid_file}"
        ),
    };
    let text = format!(
        "[Unit]
StartLimitIntervalSec=0
[Service]
{start} -c /etc/mini-supervisor/{name}.yaml
ExecReload=/bin/kill -HUP $MAINPID
RuntimeDirectory=mini-supervisor/{name}
KillMode=mixed
NotifyAccess=all
Restart=on-failure
RestartSec=100ms
RestartPreventExitStatus=78
TimeoutStartSec=60
TimeoutStopSec=60
OOMPolicy=continue
{more}
"
    );
    let unit = format!("{name}.service");
    machine.unit(&unit, &text);
    unit
}
