//! Who may use whom, where `unsafe` stands, and whether ARCHITECTURE.md names what there is.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{collections::BTreeSet, path::Path};

use super::tidy::sources;

/// Layer → the layers that it may use besides itself. The same table stands in ARCHITECTURE.md.
const LAYERS: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("control", &["model"]),
    ("config", &["model"]),
    ("plan", &["model", "config"]),
    ("engine", &["model", "control", "plan"]),
    ("sys", &["model"]),
    ("command", &["model", "sys"]),
    ("daemon", &["model", "control", "config", "plan", "engine", "sys", "command"]),
    ("cli", &["model", "control", "config", "plan", "engine", "sys", "command", "daemon"]),
];

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// The layers of ours that a text names: `crate::x`, also in `use crate::{x, y::Z}`.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let line = text[..at].rsplit('\n').next().unwrap();
        // `other_crate::` is not ours, and comments may point anywhere.
        if line.trim_start().starts_with("//") || line.ends_with(|c: char| c.is_alphanumeric()) {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let first = |text: &str| {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            text[..end].to_owned()
        };
        if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0, 0);
            for (at, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        found.insert(first(list[start..at].trim_start()));
                        break;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(first(list[start..at].trim_start()));
                        start = at + 1;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(first(rest));
        }
    }
    found.remove("");
    found
}

#[test]
fn imports_are_found_in_lists_too() {
    let text = "use crate::{\n    model::{A, b::C},\n    sys,\n};\nlet x = crate::plan::Plan;\n";
    let expected = ["model", "plan", "sys"].map(String::from);
    assert_eq!(named(text), expected.into());
}

#[test]
fn each_layer_uses_only_those_below_it() {
    let mut wrong = Vec::new();
    for (name, text) in sources("src") {
        let Some((layer, _)) = name.strip_prefix("src/").unwrap().split_once('/') else { continue };
        let row = LAYERS.iter().find(|(known, _)| *known == layer);
        let (_, may) = row.unwrap_or_else(|| panic!("{name}: {layer} is no layer"));
        let layers = named(&text).into_iter();
        let layers = layers.filter(|n| LAYERS.iter().any(|(known, _)| known == n) && n != layer);
        wrong.extend(layers.filter(|n| !may.contains(&n.as_str())).map(|n| format!("{name}: {n}")));
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn the_table_of_layers_is_the_one_of_the_document() {
    for (layer, may) in LAYERS {
        let cell = match layer {
            "model" => "–".to_owned(),
            "daemon" => "all above".to_owned(),
            "cli" => "all".to_owned(),
            _ => may.join(", "),
        };
        let row = format!("| {layer} | {cell} |");
        assert!(ARCHITECTURE.contains(&row), "{row}");
    }
}

#[test]
fn unsafe_stands_in_sys_alone() {
    let word = ["un", "safe"].concat();
    for (name, text) in sources("src").into_iter().filter(|(n, _)| !n.starts_with("src/sys/")) {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            assert!(!words.into_iter().any(|w| w == word), "{name}: {line}");
        }
    }
}

#[test]
fn every_file_and_folder_is_named_in_the_document() {
    let mut missing = BTreeSet::new();
    for (name, _) in sources("src") {
        let name = name.strip_prefix("src/").unwrap();
        let entry = match name.split('/').collect::<Vec<_>>()[..] {
            [file] => format!("`src/{file}`"),
            [layer, "mod.rs"] => format!("### {layer}"),
            [layer, file] => format!("`{layer}/{file}`"),
            [layer, folder, ..] => format!("`{layer}/{folder}/`"),
            [] => continue,
        };
        if !ARCHITECTURE.contains(&entry) {
            missing.insert(entry);
        }
    }
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn every_file_and_folder_that_the_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for word in ARCHITECTURE.split('`').skip(1).step_by(2) {
        let layer = word.split('/').next().unwrap();
        let ours = LAYERS.iter().any(|(known, _)| *known == layer) && word.contains('/');
        let path = if ours { root.join("src").join(word) } else { root.join(word) };
        let is_path = ours || word.starts_with("src/") || word.starts_with("tests/");
        assert!(!is_path || path.exists(), "{word}");
    }
}
