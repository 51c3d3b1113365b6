//! The info file of a semaphore: who asks and why, in lines that anybody may have written.

use std::{collections::BTreeMap, sync::Arc};

use super::{FileId, Info};

/// No more of an info file than this is read, in bytes.
pub const INFO_BYTES: usize = 4096;
/// Nor more lines than this.
const FIELDS: usize = 64;
/// Nor more of a key, in characters.
const KEY_CHARS: usize = 64;
/// Nor more of a value.
const VALUE_CHARS: usize = 512;

/// What the file system says of an info file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoFile {
    /// Which file.
    pub file: FileId,
    /// When it was written.
    pub modified_ns: i128,
    /// Who owns it.
    pub uid: u32,
    /// Nobody else may write it.
    pub is_private: bool,
}

impl Info {
    /// Reads the bytes of an info file; `keys` are our names and the keys that stand for them.
    ///
    /// Never fails: what makes no sense is left out, and told in [`Info::damage`].
    #[must_use]
    pub fn parse(from: InfoFile, bytes: &[u8], keys: &BTreeMap<Box<str>, Box<str>>) -> Self {
        let InfoFile { file, modified_ns, uid, is_private } = from;
        let mut damage: Vec<&str> = Vec::new();
        if bytes.len() > INFO_BYTES {
            damage.push("longer than 4 KiB");
        }
        let bytes = bytes.get(..INFO_BYTES).unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        if matches!(text, std::borrow::Cow::Owned(_)) {
            damage.push("not UTF-8");
        }
        let mut fields = Vec::new();
        for line in text.strip_prefix('\u{feff}').unwrap_or(&text).lines() {
            let line = line.trim();
            let Some((key, value)) = line.split_once(':').filter(|_| !line.is_empty()) else {
                if !line.is_empty() {
                    damage.push("lines without a colon");
                }
                continue;
            };
            if fields.len() == FIELDS {
                damage.push("more than 64 lines");
                break;
            }
            let (key, value) = (key.trim(), value.trim());
            let ours = keys.iter().find(|(_, theirs)| &***theirs == key);
            let key = ours.map_or_else(|| escaped(key, KEY_CHARS), |(name, _)| name.to_string());
            fields.push((key.into(), escaped(value, VALUE_CHARS).into()));
        }
        damage.dedup();
        let damage = (!damage.is_empty()).then(|| Arc::from(damage.join(", ")));
        Self { file, modified_ns, uid, is_private, fields, damage }
    }
}

/// Text of others, for a line of ours: nothing in it moves the cursor, begins a line or turns the
/// direction of the writing; at most `most` characters.
#[must_use]
pub fn escaped(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut length = 0_usize;
    for c in text.chars() {
        let piece: String = if c.is_control() {
            c.escape_default().collect()
        } else if is_invisible(c) {
            c.escape_unicode().collect()
        } else {
            c.into()
        };
        length = length.saturating_add(piece.chars().count());
        if length > most {
            break;
        }
        out.push_str(&piece);
    }
    out
}

/// Marks of direction, separators of lines, the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Info {
        let file = FileId { device: 1, inode: 2 };
        let from = InfoFile { file, modified_ns: 3, uid: 4, is_private: true };
        let keys = [("name", "Demandé par"), ("node_id", "Node ID"), ("timestamp", "Timestamp")];
        Info::parse(from, bytes, &keys.map(|(k, v)| (k.into(), v.into())).into())
    }

    fn fields(info: &Info) -> Vec<(&str, &str)> {
        info.fields.iter().map(|(k, v)| (&**k, &**v)).collect()
    }

    #[test]
    fn the_file_of_the_bot_is_read_under_our_names() {
        let text = "Demandé par: Tigro\nNode ID: 0x16fad3dc\nTimestamp: 2025-12-05 10:20:30\n";
        let expected =
            [("name", "Tigro"), ("node_id", "0x16fad3dc"), ("timestamp", "2025-12-05 10:20:30")];
        let info = parse(text.as_bytes());
        assert_eq!((fields(&info), &info.damage), (expected.to_vec(), &None));
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let info = parse(windows.as_bytes());
        assert_eq!((fields(&info), &info.damage), (expected.to_vec(), &None));
    }

    #[test]
    fn what_would_forge_a_line_or_turn_the_writing_is_escaped() {
        let info = parse("a\u{1b}[2J: x\u{202e}y\u{7}\nKey: v\u{2028}w\n".as_bytes());
        let expected = [("a\\u{1b}[2J", "x\\u{202e}y\\u{7}"), ("Key", "v\\u{2028}w")];
        assert_eq!(fields(&info), expected);
    }

    #[test]
    fn damage_is_told_and_the_rest_is_read() {
        let info = parse(b"no colon\nName: \xff\n");
        assert_eq!(fields(&info), [("Name", "\u{fffd}")]);
        assert_eq!(info.damage.as_deref(), Some("not UTF-8, lines without a colon"));
        let info = parse("a: b\n".repeat(2000).as_bytes());
        assert_eq!(info.fields.len(), 64);
        assert_eq!(info.damage.as_deref(), Some("longer than 4 KiB, more than 64 lines"));
        let info = parse(format!("{}: {}", "k".repeat(200), "v".repeat(900)).as_bytes());
        assert_eq!(info.fields[0].0.len(), 64);
        assert_eq!(info.fields[0].1.len(), 512);
    }

    proptest! {
        #[test]
        fn any_bytes_give_few_short_fields_without_control_characters(
            bytes in proptest::collection::vec(any::<u8>(), 0..6000),
        ) {
            let info = parse(&bytes);
            prop_assert!(info.fields.len() <= FIELDS);
            for (key, value) in &info.fields {
                prop_assert!(key.chars().count() <= KEY_CHARS);
                prop_assert!(value.chars().count() <= VALUE_CHARS);
                prop_assert!(!key.chars().chain(value.chars()).any(char::is_control));
            }
        }

        #[test]
        fn what_is_written_as_lines_is_read(lines in proptest::collection::vec(
            ("[a-z]{1,20}", "[a-zA-Z0-9 ]{0,40}"), 0..40,
        )) {
            let text: String = lines.iter().flat_map(|(k, v)| [k, ": ", v, "\n"]).collect();
            let info = parse(text.as_bytes());
            prop_assert_eq!(info.fields.len(), lines.len());
            for ((key, value), (k, v)) in info.fields.iter().zip(&lines) {
                prop_assert_eq!((&**key, &**value), (k.as_str(), v.trim()));
            }
        }
    }
}
