//! Plans: a site and a host are given, the steps are looked at.

mod unit;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
};

use expect_test::{Expect, expect};

use super::{
    facts::{Activity, Facts, Place, Systemd, UsersBy, Written},
    hands::Hands,
    plan, removal,
    run::Run,
    step::{Action, State, Step},
    unit::Target,
};
use crate::{
    cli::{fail::Failure, options::InstallArgs, out::Out},
    config::{self, Accounts, LoadOptions, Source},
    model::{Account, Site},
    sys::directory::{Files, Ownership},
};

/// A host where only root is.
struct Nobody;

impl Accounts for Nobody {
    fn user(&self, name: &str) -> Option<Account> {
        (name == "root").then(|| account("root", 0, &[0]))
    }
    fn group(&self, _: &str) -> Option<u32> {
        None
    }
    fn user_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn group_names(&self) -> Vec<String> {
        Vec::new()
    }
}

fn account(name: &str, uid: u32, groups: &[u32]) -> Account {
    Account {
        name: name.into(),
        uid,
        gid: uid,
        groups: groups.into(),
        home: format!("/home/{name}").into(),
        shell: "/bin/sh".into(),
    }
}

const SHOP: &str = "version: 1
users:
  shop: {system: true, home: /srv/shop, groups: [audio, video]}
directories:
  /srv/shop/uploads: {owner: shop, mode: '0775'}
  /srv/shop/conf: {group: shop, mode: '0750', files: '0640'}
  /srv/old: {optional: true}
  /run/shop: {owner: shop}
programs: {web: {command: web, user: shop}}
";

fn site(text: &str) -> Site {
    let options = LoadOptions { for_check: true, ..LoadOptions::default() };
    let source = Source::from_text("/etc/mini-supervisor/shop.yaml", text);
    match config::load(&source, &options, &Nobody) {
        Ok(loaded) => loaded.site,
        Err(found) => panic!("{}", found.lines()),
    }
}

fn target() -> Target {
    Target::new("shop", "/etc/mini-supervisor/shop.yaml".into(), &[])
}

/// A new host with systemd.
fn new_host(site: &Site) -> Facts {
    Facts {
        binary: "/usr/bin/supervisor".into(),
        groups: BTreeMap::from([("audio".into(), 29), ("video".into(), 44)]),
        directories: plan::directories(site, "shop")
            .into_keys()
            .map(|path| (path, Place::Missing))
            .collect(),
        users_by: Some(UsersBy::Shadow),
        nologin: "/usr/sbin/nologin".into(),
        systemd: Some(Systemd::default()),
        ..Facts::default()
    }
}

/// The same after an installation.
fn installed(site: &Site) -> Facts {
    let ids = |owner: Option<&str>| if owner == Some("shop") { 998 } else { 0 };
    let there = plan::directories(site, "shop").into_iter().map(|(path, directory)| {
        let uid = ids(directory.owner.as_deref());
        let gid = directory.group.map_or(uid, |group| ids(Some(&group)));
        let now = Ownership { uid, gid, mode: directory.mode.0 };
        let place =
            if directory.optional { Place::Missing } else { Place::There(now, Files::default()) };
        (path, place)
    });
    let mut facts = Facts {
        accounts: BTreeMap::from([("shop".into(), account("shop", 998, &[998, 29, 44]))]),
        directories: there.collect(),
        systemd: Some(Systemd { enabled: true, ..Systemd::default() }),
        homes: BTreeSet::from([PathBuf::from("/srv/shop")]),
        ..new_host(site)
    };
    facts.groups.insert("shop".into(), 998);
    facts.unit = Written::Text(super::unit::service(
        &site.supervisor,
        &target(),
        "/usr/bin/supervisor".as_ref(),
        site,
    ));
    let text = "# Written by \"supervisor install\" for the site /etc/mini-supervisor/shop.yaml\n\
                d /run/shop 0755 shop shop -\n";
    facts.tmpfiles = Written::Text(text.to_owned());
    facts
}

/// The steps in words: what would be done with which command.
fn words(plan: &[Step]) -> String {
    let mut text = String::new();
    for step in plan {
        for item in &step.items {
            let state = match &item.state {
                State::Already(word) => (*word).to_owned(),
                State::Skipped(why) => format!("skipped: {why}"),
                State::Cannot { cause, hint } => format!("CANNOT: {cause} (hint: {hint})"),
                State::Do(Action::MakeUser { commands, .. }) => {
                    let all: Vec<String> = commands.iter().map(|words| words.join(" ")).collect();
                    format!("DO {}", all.join(" && "))
                }
                State::Do(Action::Command { words, .. }) => format!("DO {}", words.join(" ")),
                State::Do(_) => "DO".to_owned(),
            };
            writeln!(text, "{}: \"{}\": {state}", step.name, item.what).unwrap();
        }
    }
    text
}

fn check_install(site: &Site, facts: &Facts, expected: &Expect) {
    expected.assert_eq(&words(&plan::install(site, &target(), facts, InstallArgs::default())));
}

#[test]
fn on_a_new_host_everything_is_made() {
    let site = site(SHOP);
    check_install(
        &site,
        &new_host(&site),
        &expect![[r#"
            users: "make user shop (system, home /srv/shop)": DO useradd --system --home-dir /srv/shop --create-home --shell /usr/sbin/nologin --user-group -- shop
            users: "add shop to audio, video": DO usermod --append --groups audio,video -- shop
            permissions: "": skipped: no directory is there yet
            directories: "make /run/shop (shop 0755)": DO
            directories: "/srv/old": skipped: not there, and declared as optional
            directories: "make /srv/shop/conf (root:shop 0750)": DO
            directories: "make /srv/shop/uploads (shop 0775)": DO
            directories: "make /var/lib/mini-supervisor/shop (root 0755)": DO
            directories: "make /var/log/mini-supervisor/shop (root 0755)": DO
            unit: "write /etc/systemd/system/mini-supervisor-shop.service": DO
            privileges: "": skipped: nothing for sudo: supervisor.control.access would let others than root do something
            tmpfiles: "write /etc/tmpfiles.d/mini-supervisor-shop.conf": DO
            reload: "systemctl daemon-reload": DO systemctl daemon-reload
            enable: "systemctl enable mini-supervisor-shop.service": DO systemctl enable -- mini-supervisor-shop.service
        "#]],
    );
}

#[test]
fn the_second_time_there_is_nothing_to_do() {
    let site = site(SHOP);
    check_install(
        &site,
        &installed(&site),
        &expect![[r#"
            users: "user shop (home /home/shop is left as it is)": already there
            users: "shop in audio, video": already there
            permissions: "/run/shop (shop 0755)": already so
            permissions: "/srv/shop/conf (root:shop 0750)": already so
            permissions: "/srv/shop/uploads (shop 0775)": already so
            permissions: "/var/lib/mini-supervisor/shop (root 0755)": already so
            permissions: "/var/log/mini-supervisor/shop (root 0755)": already so
            directories: "/srv/old": skipped: not there, and declared as optional
            unit: "/etc/systemd/system/mini-supervisor-shop.service": already there
            privileges: "": skipped: nothing for sudo: supervisor.control.access would let others than root do something
            tmpfiles: "/etc/tmpfiles.d/mini-supervisor-shop.conf": already there
            reload: "systemctl daemon-reload": not needed
            enable: "systemctl enable mini-supervisor-shop.service": already so
        "#]],
    );
}

#[test]
fn without_systemd_users_and_directories_are_made_all_the_same() {
    let site = site(SHOP);
    let facts = Facts {
        systemd: None,
        users_by: Some(UsersBy::Busybox),
        homes: BTreeSet::from([PathBuf::from("/srv/shop")]),
        ..new_host(&site)
    };
    check_install(
        &site,
        &facts,
        &expect![[r#"
            users: "make user shop (system, home /srv/shop)": DO addgroup -S shop && adduser -S -D -h /srv/shop -H -s /usr/sbin/nologin -G shop shop
            users: "add shop to audio": DO addgroup shop audio
            users: "add shop to video": DO addgroup shop video
            permissions: "": skipped: no directory is there yet
            directories: "make /run/shop (shop 0755)": DO
            directories: "/srv/old": skipped: not there, and declared as optional
            directories: "make /srv/shop/conf (root:shop 0750)": DO
            directories: "make /srv/shop/uploads (shop 0775)": DO
            directories: "make /var/lib/mini-supervisor/shop (root 0755)": DO
            directories: "make /var/log/mini-supervisor/shop (root 0755)": DO
            unit: "": skipped: systemd does not run here
            privileges: "": skipped: nothing for sudo: supervisor.control.access would let others than root do something
            tmpfiles: "": skipped: systemd does not run here
            reload: "": skipped: systemd does not run here
            enable: "": skipped: systemd does not run here
        "#]],
    );
    let text = plan::next_steps(&target(), &facts, false);
    assert!(text.contains("supervisor -d -c /etc/mini-supervisor/shop.yaml"), "{text}");
}

#[test]
fn what_is_wrong_is_found_before_anything_is_changed() {
    let site = site(SHOP);
    let mut facts = new_host(&site);
    facts.groups.remove("video");
    let place =
        |uid| Place::There(Ownership { uid, gid: 0, mode: 0o755 }, Files { others: 2, left: 0 });
    facts.directories.insert("/srv/shop/uploads".into(), place(1000));
    facts.directories.insert("/srv/shop/conf".into(), place(0));
    let file = Place::Unusable("it is no directory".to_owned());
    facts.directories.insert("/run/shop".into(), file);
    facts.unit = Written::Text("[Unit]\nDescription=by hand\n".to_owned());
    facts.tmpfiles = Written::Unusable("it is a link to /dev/null".to_owned());
    check_install(
        &site,
        &facts,
        &expect![[r#"
            users: "make user shop (system, home /srv/shop)": DO useradd --system --home-dir /srv/shop --create-home --shell /usr/sbin/nologin --user-group -- shop
            users: "add shop to video": CANNOT: there is no group video (hint: groupadd --system video, or remove it from users.shop.groups)
            users: "add shop to audio": DO usermod --append --groups audio -- shop
            permissions: "/run/shop": CANNOT: it is no directory (hint: what stands in the way is not removed by us)
            permissions: "/srv/shop/conf (root:shop 0750)": DO
            permissions: "2 files in /srv/shop/conf (0640)": DO
            permissions: "/srv/shop/uploads (shop 0775)": CANNOT: it belongs to uid 1000, whom the site does not declare (hint: declare its owner, or chown 1000 /srv/shop/uploads)
            directories: "/srv/old": skipped: not there, and declared as optional
            directories: "make /var/lib/mini-supervisor/shop (root 0755)": DO
            directories: "make /var/log/mini-supervisor/shop (root 0755)": DO
            unit: "write /etc/systemd/system/mini-supervisor-shop.service": CANNOT: it was not written by supervisor install (hint: look at /etc/systemd/system/mini-supervisor-shop.service, and move it away if nobody needs it)
            privileges: "": skipped: nothing for sudo: supervisor.control.access would let others than root do something
            tmpfiles: "write /etc/tmpfiles.d/mini-supervisor-shop.conf": CANNOT: it is a link to /dev/null (hint: look at /etc/tmpfiles.d/mini-supervisor-shop.conf, and move it away if nobody needs it)
            reload: "systemctl daemon-reload": not needed
            enable: "systemctl enable mini-supervisor-shop.service": DO systemctl enable -- mini-supervisor-shop.service
        "#]],
    );
    let (failure, done, _) = carried_out(&site, &facts, usize::MAX);
    let failure = failure.unwrap();
    assert_eq!(done, [""; 0]);
    assert!(failure.message.starts_with("cannot install shop: step 1 of 8 (users): add shop to"));
    assert!(failure.hint.unwrap().ends_with("\nnothing was changed"));
}

#[test]
fn a_user_of_the_site_gives_up_a_directory_and_a_stranger_does_not() {
    let site = site(
        "version: 1\nusers: {shop: {}}\ndirectories: {/srv/src: {mode: '0755'}}\nprograms: {}\n",
    );
    let mut facts = installed(&site);
    let place = |uid| Place::There(Ownership { uid, gid: 0, mode: 0o755 }, Files::default());
    let mut item = |uid| {
        facts.directories.insert("/srv/src".into(), place(uid));
        let plan = plan::install(&site, &target(), &facts, InstallArgs::default());
        let text = words(&plan);
        text.lines().find(|line| line.contains("/srv/src")).unwrap().to_owned()
    };
    assert!(item(0).ends_with("already so"));
    assert!(item(998).ends_with("DO"));
    assert!(item(1000).contains("CANNOT: it belongs to uid 1000"));
}

#[test]
fn a_unit_of_another_site_or_of_somebody_else_is_not_overwritten() {
    let site = site(SHOP);
    let mut facts = installed(&site);
    let mut unit = |text: &str| {
        facts.unit = Written::Text(text.to_owned());
        let plan = plan::install(&site, &target(), &facts, InstallArgs::default());
        let removal = removal::uninstall(&target(), &facts, false);
        let of = |plan: &[Step]| {
            words(plan).lines().find(|l| l.starts_with("unit: ")).unwrap().to_owned()
        };
        (of(&plan), of(&removal))
    };
    let mark = "# Written by \"supervisor install\" for the site ";
    let (put, away) = unit(&format!("{mark}/etc/mini-supervisor/shop.yaml\n[Unit]\n"));
    assert!(put.contains("anew\": DO") && away.ends_with(": DO"), "{put}\n{away}");
    for other in [format!("{mark}/srv/shop.yaml\n"), format!("\n{mark}x\n"), String::new()] {
        let (put, away) = unit(&other);
        assert!(put.contains("CANNOT") && away.contains("CANNOT"), "{put}\n{away}");
    }
}

#[test]
fn what_was_installed_is_removed_and_users_and_data_stay() {
    let site = site(SHOP);
    let mut facts = installed(&site);
    facts.systemd = Some(Systemd { activity: Activity::Up, enabled: true, outdated: false });
    let plan = removal::uninstall(&target(), &facts, true);
    expect![[r#"
        stop: "systemctl stop mini-supervisor-shop.service": DO systemctl stop -- mini-supervisor-shop.service
        disable: "systemctl disable mini-supervisor-shop.service": DO systemctl disable -- mini-supervisor-shop.service
        unit: "remove /etc/systemd/system/mini-supervisor-shop.service": DO
        privileges: "": skipped: nothing for sudo was written
        tmpfiles: "remove /etc/tmpfiles.d/mini-supervisor-shop.conf": DO
        reload: "systemctl daemon-reload": DO systemctl daemon-reload
    "#]].assert_eq(&words(&plan));
    expect![[r#"
        kept:
            /etc/mini-supervisor/shop.yaml
            user shop
            /run/shop
            /srv/shop/conf
            /srv/shop/uploads
            /var/lib/mini-supervisor/shop
            /var/log/mini-supervisor/shop
    "#]]
    .assert_eq(&removal::kept(Some(&site), &target(), &facts));
    let plan = removal::uninstall(&target(), &new_host(&site), false);
    expect![[r#"
        stop: "": it does not run
        disable: "": it is not enabled
        unit: "/etc/systemd/system/mini-supervisor-shop.service": not there
        privileges: "": skipped: nothing for sudo was written
        tmpfiles: "/etc/tmpfiles.d/mini-supervisor-shop.conf": not there
        reload: "systemctl daemon-reload": not needed
    "#]]
    .assert_eq(&words(&plan));
}

#[test]
fn how_a_supervisor_is_stopped_depends_on_who_started_it() {
    let site = site(SHOP);
    let stop = |facts: &Facts, running| {
        let plan = removal::uninstall(&target(), facts, running);
        words(&plan).lines().next().unwrap().to_owned()
    };
    let by_hand = Facts { unit: Written::Missing, ..installed(&site) };
    assert!(stop(&by_hand, true).contains("skipped: a supervisor of this site runs that no unit"));
    let without = Facts { systemd: None, ..by_hand };
    assert_eq!(stop(&without, true), "stop: \"stop the supervisor of the site\": DO");
    assert_eq!(stop(&without, false), "stop: \"\": it does not run");
}

/// Hands that fail at the n-th action.
struct Clumsy {
    left: usize,
}

impl Hands for Clumsy {
    fn perform(&mut self, _: &Action) -> Result<(), String> {
        if self.left == 0 {
            return Err("Read-only file system".to_owned());
        }
        self.left = self.left.saturating_sub(1);
        Ok(())
    }
}

/// What became of a plan whose action number `good` fails: the failure, what it says was done, and
/// how many steps there were.
fn carried_out(site: &Site, facts: &Facts, good: usize) -> (Option<Failure>, Vec<String>, usize) {
    let plan = plan::install(site, &target(), facts, InstallArgs { no_enable: false, now: true });
    let steps = plan.len();
    let mut hands = Clumsy { left: good };
    let run = Run { verb: "install", name: "shop", plan, dry: false };
    let failure = run.carry_out(&mut hands, None, &mut Out::new(true, true)).err();
    let hint = failure.as_ref().and_then(|f| f.hint.clone()).unwrap_or_default();
    let done = hint.lines().next().and_then(|line| line.strip_prefix("done before: "));
    let done = done.map(|done| done.split("; ").map(str::to_owned).collect());
    (failure, done.unwrap_or_default(), steps)
}

#[test]
fn it_stops_at_whichever_action_fails_and_names_all_that_was_done() {
    let site = site(SHOP);
    let facts = new_host(&site);
    let plan = plan::install(&site, &target(), &facts, InstallArgs { no_enable: false, now: true });
    let actions: Vec<(usize, &str)> = plan
        .iter()
        .enumerate()
        .flat_map(|(at, step)| step.items.iter().map(move |item| (at + 1, item)))
        .filter(|(_, item)| matches!(item.state, State::Do(_)))
        .map(|(number, item)| (number, &*item.what))
        .collect();
    for (n, (number, what)) in actions.iter().enumerate() {
        let (failure, done, steps) = carried_out(&site, &facts, n);
        let failure = failure.unwrap();
        let (name, rest) = (plan[number - 1].name, &plan[*number..]);
        assert_eq!(
            failure.message,
            format!(
                "cannot install shop: step {number} of {steps} ({name}): {what}: Read-only file system"
            )
        );
        let before: Vec<&str> = actions[..n].iter().map(|(_, what)| *what).collect();
        assert_eq!(done, before);
        let rest: Vec<&str> = rest.iter().map(|step| step.name).collect();
        let rest = if rest.is_empty() { "nothing".to_owned() } else { rest.join(", ") };
        let hint = failure.hint.unwrap();
        assert_eq!(hint.lines().nth(1), Some(&*format!("not done: {rest}")));
        assert_eq!(failure.exit, 1);
    }
    assert_eq!(carried_out(&site, &facts, actions.len()).0, None);
    assert_eq!(actions.len(), 12);
}
