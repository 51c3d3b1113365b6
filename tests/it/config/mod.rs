//! Reading of site files: what loads, what is refused, and in which words.

mod cycles;
mod examples;
mod files;
mod host_end;
mod hostile;
mod mistakes;
mod probes;
mod ready;
mod reload;
mod schema;
mod shown;
mod single;
mod traps;

use std::collections::BTreeMap;

use mini_supervisor::{
    config::{Accounts, Findings, LoadOptions, Loaded, Source, load},
    model::Account,
};

/// A host with a few users.
struct Host;

const USERS: [(&str, u32); 6] = [
    ("root", 0),
    ("www-data", 33),
    ("dietpi", 1001),
    ("pi", 1000),
    ("prismatron", 998),
    ("nobody", 65_534),
];
const GROUPS: [(&str, u32); 8] = [
    ("root", 0),
    ("www-data", 33),
    ("dialout", 20),
    ("tty", 5),
    ("video", 44),
    ("gpio", 993),
    ("i2c", 994),
    ("prismatron", 998),
];

impl Accounts for Host {
    fn user(&self, name: &str) -> Option<Account> {
        let (name, uid) = *USERS.iter().find(|(n, _)| *n == name)?;
        Some(Account {
            name: name.into(),
            uid,
            gid: uid,
            groups: Box::new([uid]),
            home: format!("/home/{name}").into(),
            shell: "/bin/sh".into(),
        })
    }
    fn group(&self, name: &str) -> Option<u32> {
        GROUPS.iter().find(|(n, _)| *n == name).map(|(_, id)| *id)
    }
    fn user_names(&self) -> Vec<String> {
        USERS.iter().map(|(n, _)| (*n).to_owned()).collect()
    }
    fn group_names(&self) -> Vec<String> {
        GROUPS.iter().map(|(n, _)| (*n).to_owned()).collect()
    }
}

fn options() -> LoadOptions {
    LoadOptions {
        uid: 0,
        account: Host.user("root"),
        current_directory: "/srv".into(),
        environment: BTreeMap::from([("FROM_ENV".to_owned(), "env".to_owned())]),
        ..LoadOptions::default()
    }
}

fn read(text: &str) -> Result<Loaded, Findings> {
    load(&Source::from_text("site.yaml", text), &options(), &Host)
}

/// The one-line messages of a text; empty when it loads.
fn lines(text: &str) -> String {
    read(text).err().map(|f| f.lines()).unwrap_or_default()
}

/// `body` as a site of a root supervisor.
fn site(body: &str) -> String {
    format!("version: 1\ndefaults: {{user: root}}\n{body}\n")
}
