//! A probe as it is written in a site.

use super::{
    tree::{Item, Map},
    words::{duration, path, text, texts, word},
};
use crate::model::{HealthCheck, OnUnhealthy, Probe};

/// `health`.
pub(super) fn health(health: &HealthCheck) -> Map {
    let mut map = Map::default();
    let (key, value) = probe(&health.probe);
    map.add(key, value);
    map.add("interval", duration(health.interval));
    map.add("timeout", duration(health.timeout));
    map.add("retries", word(health.retries));
    map.add("start_period", duration(health.start_period));
    map.add(
        "on_failure",
        word(match health.on_failure {
            OnUnhealthy::Restart => "restart",
            OnUnhealthy::Stop => "stop",
            OnUnhealthy::None => "none",
        }),
    );
    map
}

/// Its key and the value of that.
pub(super) fn probe(probe: &Probe) -> (&'static str, Item) {
    match probe {
        Probe::Http(url) => ("http", text(url.as_str())),
        Probe::Tcp(address) => ("tcp", text(&**address)),
        Probe::Socket(file) => ("socket", path(file)),
        Probe::Command(words) => ("command", texts(words)),
        Probe::File(file) => ("file", path(file)),
        Probe::Log(line) => ("log", text(&**line)),
    }
}
