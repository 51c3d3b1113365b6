//! Units: their text, and whose they are.

use expect_test::expect_file;

use super::{SHOP, new_host, site, target, words};
use crate::{
    cli::{
        install::{
            facts::{Activity, Facts, Systemd},
            plan, removal,
            step::Step,
            unit::{self, Target},
        },
        options::InstallArgs,
    },
    model::Site,
};

#[test]
fn the_unit_is_the_recommended_one() {
    let site = site(SHOP);
    let text = unit::service(&site.supervisor, &target(), "/usr/bin/supervisor".as_ref(), &site);
    expect_file!["shop.service"].assert_eq(&text);
}

#[test]
fn the_unit_of_the_package_is_used_where_it_does() {
    let usual = site(SHOP);
    let up = Systemd { activity: Activity::Up, enabled: true, outdated: false };
    let host = |site: &Site| Facts {
        packaged: Some(("mini-supervisor@shop.service".to_owned(), up)),
        ..new_host(site)
    };
    let lines = |plan: &[Step], names: [&str; 2]| -> Vec<String> {
        let text = words(plan);
        let meant = |line: &&str| names.iter().any(|name| line.starts_with(name));
        text.lines().filter(meant).map(str::to_owned).collect()
    };
    let (mut target, mut facts) = (target(), host(&usual));
    facts.choose(&mut target, |target, binary| target.is_plain(&usual, binary));
    let plan = plan::install(&usual, &target, &facts, InstallArgs::default());
    assert_eq!(
        lines(&plan, ["unit", "enable"]),
        [
            "unit: \"mini-supervisor@shop.service of the package\": already there",
            "enable: \"systemctl enable mini-supervisor@shop.service\": already so"
        ]
    );
    let plan = removal::uninstall(&target, &facts, true);
    let stop = "systemctl stop mini-supervisor@shop.service";
    assert_eq!(
        lines(&plan, ["unit", "stop"]),
        [
            format!("stop: \"{stop}\": DO {}", stop.replace("stop", "stop --")),
            "unit: \"mini-supervisor@shop.service\": skipped: it belongs to the package".to_owned()
        ]
    );
    let slow = SHOP.replace("users:", "supervisor: {shutdown_timeout: 5m}\nusers:");
    let slow = site(&slow);
    let (mut target, mut facts) = (Target::new("shop", target.file, &[]), host(&slow));
    facts.choose(&mut target, |target, binary| target.is_plain(&slow, binary));
    let plan = plan::install(&slow, &target, &facts, InstallArgs::default());
    let unit = lines(&plan, ["unit", "unit"]);
    assert!(unit[0].contains("CANNOT: mini-supervisor@shop.service of the package"), "{unit:?}");
    let of = |site: &str, file: &str| Target::new(site, file.into(), &[]).of_package();
    let site = of("site", "/etc/mini-supervisor/site.yaml").map(|(unit, _)| unit);
    assert_eq!(site.as_deref(), Some("mini-supervisor.service"));
    assert_eq!(of("site", "/srv/site.yaml"), None);
    assert_eq!(of("a@b", "/etc/mini-supervisor/a@b.yaml"), None);
}

#[test]
fn odd_names_and_times_reach_the_unit_unharmed() {
    let text = "version: 1
supervisor: {name: a@b, runtime_dir: /srv/run, shutdown_timeout: 1500ms, stop_on_hangup: true}
programs: {web: {command: web, user: root, start_timeout: 10m}}
";
    let site = site(text);
    let set = [("A".to_owned(), "1 $x\"%".to_owned())];
    let target = Target::new("a@b", "/srv/my site.yaml".into(), &set);
    assert_eq!(target.unit, "mini-supervisor-a\\x40b.service");
    let text = unit::service(&site.supervisor, &target, "/opt/s%/supervisor".as_ref(), &site);
    let line = |key: &str| text.lines().find(|line| line.starts_with(key));
    let start = "ExecStart=/opt/s%%/supervisor --daemon --pid-file /srv/run/supervisor.pid \
                 -c \"/srv/my site.yaml\" --set \"A=1 $$x\\\"%%\"";
    assert_eq!(line("ExecStart="), Some(start));
    assert!(line("ExecReload=").unwrap().starts_with("ExecReload=/opt/s%%/supervisor reload -c"));
    assert_eq!(line("TimeoutStopSec="), Some("TimeoutStopSec=12"));
    assert_eq!(line("TimeoutStartSec="), Some("TimeoutStartSec=630"));
    assert_eq!(line("RuntimeDirectory="), None);
    let own = plan::directories(&site, "a@b");
    assert!(own.contains_key(std::path::Path::new("/srv/run")), "{own:?}");
}
