//! What a reload does to a program, for each kind of key.

use mini_supervisor::plan::reload::{Change, change};

use super::{read, site};

#[test]
fn each_key_has_its_effect() {
    for (keys, effect, names) in [
        ("", Change::None, vec![]),
        ("description: d", Change::Live, vec!["description"]),
        ("restart: always", Change::Live, vec!["restart"]),
        ("logging: {rotate: {keep: 9}}", Change::Live, vec!["logging.rotate"]),
        ("start_pre: [y]", Change::NextStart, vec!["start_pre"]),
        ("single_instance: true", Change::NextStart, vec!["single_instance"]),
        ("autostart: false", Change::NextStart, vec!["autostart"]),
        ("enabled: false", Change::Restart, vec!["enabled"]),
        ("environment: {A: b}", Change::Restart, vec!["environment"]),
        ("logging: {stdout: inherit}", Change::Restart, vec!["logging.stdout"]),
        ("type: oneshot, tags: [t]", Change::Restart, vec!["tags", "type"]),
    ] {
        let load = |keys: &str| {
            let text = site(&format!("programs: {{web: {{command: x, {keys}}}}}"));
            read(&text).unwrap().site.programs["web"].clone()
        };
        assert_eq!(change(&load(""), &load(keys)), (effect, names), "{keys}");
    }
    assert!(Change::None < Change::Live && Change::NextStart < Change::Restart);
}
