//! `tests/coverage.tsv` names tests that exist.

use std::{fs, path::Path};

/// The text of every Rust file below `directory`.
fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_test_that_the_coverage_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests/it"), &mut files);
    let table = fs::read_to_string(root.join("tests/coverage.tsv")).unwrap();
    let mut missing = Vec::new();
    let mut last = String::new();
    for line in table.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (number, tests) = line.split_once('\t').unwrap_or_else(|| panic!("no tab: {line}"));
        assert!(number != last, "{number} stands twice");
        number.clone_into(&mut last);
        for test in tests.split(", ") {
            let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
            let file = module.rsplit("::").find(|part| *part != "tests").unwrap_or("");
            let here = |(path, text): &(String, String)| {
                path.contains(file) && text.contains(&format!("fn {name}("))
            };
            if !files.iter().any(here) {
                missing.push(format!("{number}: {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}
