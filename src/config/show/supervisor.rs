//! `supervisor:` as it is written in a site. Owners and rights are taken from the file as they are.

use super::{
    tree::{Item, Map},
    words::{duration, mode, path, size, texts, word},
};
use crate::model::{
    Compress, ExitWhen, LogFormat, LogLevel, OnFull, Orphans, ReadyWhen, Rotate, Supervisor,
    SupervisorLog,
};

pub(super) fn supervisor(s: &Supervisor) -> Map {
    let mut map = Map::default();
    map.add("name", Item::Text(s.name.to_string()));
    map.add_some("pid_file", s.pid_file.as_deref().map(path));
    map.add("daemon", word(s.daemon));
    map.add(
        "ready_when",
        word(match s.ready_when {
            ReadyWhen::Up => "up",
            ReadyWhen::Programs => "programs",
        }),
    );
    map.add_some("runtime_dir", s.runtime_dir.as_deref().map(path));
    map.add_some("state_dir", s.state_dir.as_deref().map(path));
    map.add("log", Item::Map(log(&s.log)));
    let mut control = Map::default();
    control.add_some("socket", s.control.socket.as_deref().map(path));
    control.add("mode", mode(s.control.mode));
    map.add("control", Item::Map(control));
    map.add_some("shutdown_timeout", s.shutdown_timeout.map(duration));
    map.add_some(
        "exit_when",
        s.exit_when.map(|w| {
            word(match w {
                ExitWhen::Essential => "essential",
                ExitWhen::AllExited => "all-exited",
                ExitWhen::Stopped => "stopped",
            })
        }),
    );
    map.add("stop_on_hangup", word(s.stop_on_hangup));
    map.add("lock_memory", word(s.lock_memory));
    map.add(
        "orphans",
        word(match s.orphans {
            Orphans::Adopt => "adopt",
            Orphans::Kill => "kill",
        }),
    );
    map.add("redact", texts(&s.redact));
    map
}

fn log(log: &SupervisorLog) -> Map {
    let mut map = Map::default();
    map.add(
        "level",
        word(match log.level {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }),
    );
    map.add_some("file", log.file.as_deref().map(path));
    map.add(
        "format",
        word(match log.format {
            LogFormat::Full => "full",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }),
    );
    map.add("stderr", word(log.stderr));
    map.add("mode", mode(log.mode));
    map.add("rotate", Item::Map(rotate(&log.rotate)));
    map.add("on_full", on_full(log.on_full));
    map
}

pub(super) fn rotate(rotate: &Rotate) -> Map {
    let mut map = Map::default();
    map.add("max_size", rotate.max_size.map_or_else(|| word("none"), size));
    map.add("every", rotate.every.map_or_else(|| word("none"), duration));
    map.add("keep", word(rotate.keep));
    map.add(
        "compress",
        word(match rotate.compress {
            Compress::None => "none",
            Compress::Delayed => "delayed",
            Compress::Gzip => "gzip",
        }),
    );
    map
}

pub(super) fn on_full(on_full: OnFull) -> Item {
    word(match on_full {
        OnFull::DropOldest => "drop-oldest",
        OnFull::Block => "block",
    })
}
