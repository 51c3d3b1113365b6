//! What whoever raises a semaphore says: the lines of its info file.

use std::collections::BTreeMap;

use crate::model::INFO_BYTES;

/// As the reader cuts them.
const KEY_CHARS: usize = 64;
const VALUE_CHARS: usize = 512;
/// Of whoever asks, and of when, unless they are given.
const NAME: &str = "name";
const TIMESTAMP: &str = "timestamp";

/// `KEY=VALUE`, of which one line of the file can be made.
pub(in crate::cli) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() {
        return Err("write KEY=VALUE".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("a line end or another control character would forge a line".to_owned());
    }
    if key.contains(':') {
        return Err("a key ends at its first colon".to_owned());
    }
    if key.chars().count() > KEY_CHARS || value.chars().count() > VALUE_CHARS {
        return Err(format!("a key has at most {KEY_CHARS} characters, a value {VALUE_CHARS}"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The text of the file: `given` under the keys that `keys` has for our names, and who asks and
/// when, unless that is among them.
///
/// # Errors
/// A key is given twice, or all of it is longer than what is read.
pub(super) fn text(
    given: &[(String, String)],
    keys: &BTreeMap<String, String>,
    (who, when): (&str, &str),
) -> Result<String, String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (key, value) in given {
        // Ours, or the one that stands in the file.
        let ours = keys.iter().find(|(_, theirs)| *theirs == key).map_or(key, |(ours, _)| ours);
        if lines.iter().any(|(other, _)| other == ours) {
            return Err(format!("--info {key} is given twice"));
        }
        lines.push((ours.clone(), value.clone()));
    }
    let mut add = |at: usize, key: &str, value: &str| {
        if keys.contains_key(key) && !lines.iter().any(|(other, _)| other == key) {
            lines.insert(at.min(lines.len()), (key.to_owned(), value.to_owned()));
        }
    };
    add(0, NAME, who);
    add(usize::MAX, TIMESTAMP, when);
    let is_timed = lines.iter().any(|(key, _)| key.eq_ignore_ascii_case(TIMESTAMP));
    if !is_timed {
        lines.push(("Timestamp".to_owned(), when.to_owned()));
    }
    let line = |(key, value): (String, String)| {
        let key = keys.get(&key).unwrap_or(&key);
        format!("{key}: {value}\n")
    };
    let text: String = lines.into_iter().map(line).collect();
    if text.len() > INFO_BYTES {
        return Err(format!("all --info together is longer than {INFO_BYTES} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(given: &[&str], keys: &[(&str, &str)]) -> Result<String, String> {
        let given: Result<Vec<_>, _> = given.iter().map(|text| pair(text)).collect();
        let keys = keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        text(&given?, &keys, ("alice", "2026-01-01 10:00:00"))
    }

    const BOT: [(&str, &str); 3] =
        [("name", "Demandé par"), ("node_id", "Node ID"), ("timestamp", "Timestamp")];

    #[test]
    fn the_file_is_that_of_the_bot() {
        let expected = "Demandé par: Bot\nNode ID: 0xFF\nTimestamp: 2026-01-01 10:00:00\n";
        assert_eq!(written(&["node_id=0xFF", "name=Bot"], &BOT).as_deref(), {
            Ok("Node ID: 0xFF\nDemandé par: Bot\nTimestamp: 2026-01-01 10:00:00\n")
        });
        assert_eq!(written(&["name=Bot", "node_id=0xFF"], &BOT).as_deref(), Ok(expected));
        assert_eq!(written(&["Demandé par=Bot", "Node ID=0xFF"], &BOT).as_deref(), Ok(expected));
        let unsaid = "Demandé par: alice\nTimestamp: 2026-01-01 10:00:00\n";
        assert_eq!(written(&[], &BOT).as_deref(), Ok(unsaid));
    }

    #[test]
    fn other_keys_are_written_as_they_are_and_the_time_is_never_missing() {
        let text = written(&["Reason=watchdog", "a=b=c"], &[]);
        let expected = "Reason: watchdog\na: b=c\nTimestamp: 2026-01-01 10:00:00\n";
        assert_eq!(text.as_deref(), Ok(expected));
        assert_eq!(written(&["Timestamp=now"], &BOT).as_deref(), {
            Ok("Demandé par: alice\nTimestamp: now\n")
        });
    }

    #[test]
    fn what_would_forge_a_line_is_refused() {
        for bad in ["x", "=y", "a\nb=c", "a=b\nc", "a=\u{1b}[2J", "a=b\u{85}c", "a:b=c"] {
            assert!(written(&[bad], &BOT).is_err(), "{bad:?}");
        }
        assert!(written(&[&format!("a={}", "v".repeat(513))], &BOT).is_err());
        assert!(written(&["name=a", "Demandé par=b"], &BOT).is_err());
        let many: Vec<String> = (0..20).map(|n| format!("k{n}={}", "v".repeat(400))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(written(&many, &BOT).unwrap_err().contains("4096 bytes"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        use crate::model::{FileId, Info, InfoFile};
        let text = written(&["name=Bot ☃", "reason=a: b"], &BOT).unwrap();
        let file = FileId { device: 1, inode: 2 };
        let from = InfoFile { file, modified_ns: 3, uid: 4, is_private: true };
        let info =
            Info::parse(from, text.as_bytes(), &BOT.map(|(k, v)| (k.into(), v.into())).into());
        let fields: Vec<_> = info.fields.iter().map(|(k, v)| (&**k, &**v)).collect();
        let expected =
            [("name", "Bot ☃"), ("reason", "a: b"), ("timestamp", "2026-01-01 10:00:00")];
        assert_eq!((fields.as_slice(), &info.damage), (&expected[..], &None));
    }
}
