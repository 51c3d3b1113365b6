//! What no lint looks at: sizes, first lines, words that do not belong.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every Rust file below `folder`, relative to the project, with its text.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

fn all() -> impl Iterator<Item = (String, String)> {
    sources("src").into_iter().chain(sources("tests"))
}

/// Says where `wrong` is true, for each line.
fn lines(
    files: impl Iterator<Item = (String, String)>,
    wrong: impl Fn(&str) -> bool,
) -> Vec<String> {
    files
        .flat_map(|(name, text)| {
            let numbered = text.lines().zip(1..).filter(|(line, _)| wrong(line));
            numbered.map(|(line, n)| format!("{name}:{n}: {line}")).collect::<Vec<_>>()
        })
        .collect()
}

const NOTHING: [String; 0] = [];

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let long = all().filter(|(_, text)| text.lines().count() > 500);
    let long: Vec<_> = long.map(|(name, t)| format!("{name}: {}", t.lines().count())).collect();
    assert_eq!(long, NOTHING);
}

#[test]
fn no_line_is_longer_than_a_hundred_columns() {
    // A string, and a snapshot, is as long as what it shows; everything else can be folded.
    let shows = |line: &str| line.contains('"');
    let long = |line: &str| line.chars().count() > 100 && !shows(line);
    // In tests a string of many lines holds sites and snapshots; rustfmt folds what is code.
    assert_eq!(lines(sources("src").into_iter(), long), NOTHING);
}

#[test]
fn no_line_ends_in_a_blank_or_has_a_tab() {
    assert_eq!(lines(all(), |line| line.ends_with(' ') || line.starts_with('\t')), NOTHING);
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{page}");
        assert_eq!(lines([(page.to_owned(), text)].into_iter(), |l| l.ends_with(' ')), NOTHING);
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    // Put together, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]].map(|halves| halves.concat());
    let marked = |line: &str| words.iter().any(|word| line.split(' ').any(|w| w == word.as_str()));
    assert_eq!(lines(all(), marked), NOTHING);
}

#[test]
fn every_module_begins_with_a_sentence() {
    let bad = all().filter(|(_, text)| !text.starts_with("//! "));
    assert_eq!(bad.map(|(name, _)| name).collect::<Vec<_>>(), NOTHING);
}

#[test]
fn no_test_is_ignored_without_a_reason() {
    let bare = ["#[", "ignore", "]"].concat();
    assert_eq!(lines(all(), |line| line.contains(&bare)), NOTHING);
}

#[test]
fn production_code_neither_prints_nor_unwraps() {
    let words = ["println!", "eprintln!", "print!(", "dbg!", ".unwrap()", ".expect("];
    // Unit tests stand at the end of their file; a file of tests is named so.
    let code = sources("src").into_iter().filter(|(name, _)| !name.ends_with("tests.rs"));
    let code = code.map(|(name, text)| {
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        (name, text.get(..end).unwrap().to_owned())
    });
    let code = code.filter(|(name, _)| !name.contains("/tests/"));
    let wrong = |line: &str| {
        let code = line.trim_start();
        !code.starts_with("//") && words.iter().any(|word| code.contains(word))
    };
    assert_eq!(lines(code, wrong), NOTHING);
}

#[test]
fn documents_keep_their_size() {
    for (page, most) in [("ARCHITECTURE.md", 200), ("CONTRIBUTING.md", 100)] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        assert!(text.lines().count() <= most, "{page}");
    }
}
