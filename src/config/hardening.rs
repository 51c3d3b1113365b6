//! Words of `hardening`: capabilities and devices.

use super::{
    diagnostic::nearest,
    values::{Problem, problem},
};
use crate::model::Capability;

/// `CAP_NET_RAW`, `~CAP_SYS_ADMIN`.
pub(crate) fn capability(text: &str) -> Result<(), Problem> {
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
pub(crate) fn device(text: &str) -> Result<(), Problem> {
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
