//! Words of `hardening`: capabilities, devices, address families, system calls.

use super::{
    diagnostic::nearest,
    values::{Problem, problem},
};
use crate::model::{AddressFamilies, Capability, SystemCallMistake, SystemCallRule};

/// What a word of `hardening` is one of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HardeningWord {
    /// `CAP_NET_RAW`, `~CAP_SYS_ADMIN`.
    Capability,
    /// `/dev/video*:rw`.
    Device,
    /// `AF_INET`, `~AF_PACKET`, `none`.
    AddressFamily,
    /// `@system-service`, `~ptrace:EPERM`.
    SystemCall,
}

impl HardeningWord {
    /// Whether `text` is one.
    pub(crate) fn check(self, text: &str) -> Result<(), Problem> {
        match self {
            Self::Capability => capability(text),
            Self::Device => device(text),
            Self::AddressFamily => address_family(text),
            Self::SystemCall => system_call(text),
        }
    }

    /// What is expected, for messages.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Capability => "a capability like `CAP_NET_RAW`",
            Self::Device => "a device like `/dev/video*`",
            Self::AddressFamily => "an address family like `AF_INET`",
            Self::SystemCall => "a system call, or a group like `@system-service`",
        }
    }
}

/// `CAP_NET_RAW`, `~CAP_SYS_ADMIN`.
fn capability(text: &str) -> Result<(), Problem> {
    let name = text.strip_prefix('~').unwrap_or(text);
    if Capability::parse(name).is_some() {
        return Ok(());
    }
    let found = problem(format!("`{name}` is no capability"));
    let full = format!("CAP_{}", name.to_uppercase().trim_start_matches("CAP_"));
    Err(match nearest(&full, Capability::names()) {
        Some(near) => found.hint(format!("did you mean `{near}`?")),
        None => found.hint("capabilities(7) has their names: `CAP_NET_BIND_SERVICE`"),
    })
}

/// `/dev/video*`, with `:rw` behind it or not.
fn device(text: &str) -> Result<(), Problem> {
    let (pattern, access) = parts(text);
    if !pattern.starts_with("/dev/") || pattern.contains("/../") {
        let found = problem(format!("expected a path below /dev, found `{pattern}`"));
        return Err(found.hint("write `/dev/video*`, or `/dev/i2c-1:rw`"));
    }
    if let Err(why) = glob::Pattern::new(pattern) {
        return Err(problem(format!("`{pattern}` is no pattern: {}", why.msg)));
    }
    match access {
        "rw" => Ok(()),
        "rwm" | "m" | "r" | "w" => {
            let found = problem(format!("`:{access}` cannot be had: a device is there or not"));
            Err(found.hint(format!("write `{pattern}:rw`, and see to its owner and mode")))
        }
        _ => Err(problem(format!("expected `:rw` behind a device, found `:{access}`"))),
    }
}

/// `AF_INET`, `~AF_PACKET`, `none`.
fn address_family(text: &str) -> Result<(), Problem> {
    let name = text.strip_prefix('~').unwrap_or(text);
    if text == "none" || AddressFamilies::number(name).is_some() {
        return Ok(());
    }
    let found = problem(format!("`{name}` is no address family"));
    let full = format!("AF_{}", name.to_uppercase().trim_start_matches("AF_"));
    Err(match nearest(&full, AddressFamilies::names()) {
        Some(near) => found.hint(format!("did you mean `{near}`?")),
        None => found.hint("address_families(7) has their names: `AF_INET`, `AF_UNIX`"),
    })
}

/// `@system-service`, `~@mount:EPERM`, `ptrace`.
fn system_call(text: &str) -> Result<(), Problem> {
    match SystemCallRule::parse(text) {
        Ok(_) => Ok(()),
        Err(SystemCallMistake::Name(name)) => {
            let what = if name.starts_with('@') { "group of system calls" } else { "system call" };
            let found = problem(format!("`{name}` is no {what}"));
            Err(match nearest(name, SystemCallRule::names()) {
                Some(near) => found.hint(format!("did you mean `{near}`?")),
                None => found.hint("`systemd-analyze syscall-filter` lists them"),
            })
        }
        Err(SystemCallMistake::Errno(name)) => {
            let found = problem(format!("`{name}` is no error that a call may return"));
            Err(found.hint("write `:EPERM`, `:ENOSYS`, a number, or `:kill`"))
        }
    }
}

/// A pattern, and what may be done.
fn parts(text: &str) -> (&str, &str) {
    text.rsplit_once(':').unwrap_or((text, "rw"))
}

/// The pattern of a device.
pub(crate) fn device_pattern(text: &str) -> &str {
    parts(text).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_suggested_by_what_was_meant() {
        assert!(capability("CAP_NET_RAW").is_ok() && capability("~CAP_NET_RAW").is_ok());
        for meant in ["net_raw", "CAP_NETRAW", "cap_net_raw"] {
            let hint = capability(meant).unwrap_err().hint.unwrap();
            assert_eq!(hint, "did you mean `CAP_NET_RAW`?", "{meant}");
        }
    }

    #[test]
    fn a_misspelt_call_or_family_is_suggested_too() {
        let hint = |found: Result<(), Problem>| found.unwrap_err().hint.unwrap();
        assert_eq!(hint(system_call("@sytem-service")), "did you mean `@system-service`?");
        assert_eq!(hint(system_call("~ptrac:EPERM")), "did you mean `ptrace`?");
        assert!(hint(system_call("ptrace:EFOO")).contains(":EPERM"));
        assert_eq!(hint(address_family("inet6")), "did you mean `AF_INET6`?");
        assert!(address_family("none").is_ok() && address_family("~AF_PACKET").is_ok());
    }

    #[test]
    fn devices_are_below_dev_and_can_be_read_and_written() {
        for good in ["/dev/i2c-*", "/dev/i2c-*:rw", "/dev/net/tun"] {
            assert_eq!(device(good), Ok(()), "{good}");
        }
        for bad in ["video0", "/etc/passwd", "/dev/x:r", "/dev/x:z", "/dev/[", "/dev/../etc/x"] {
            assert!(device(bad).is_err(), "{bad}");
        }
        assert_eq!(device_pattern("/dev/i2c-*:rw"), "/dev/i2c-*");
    }
}
