//! The Debian package: built, looked at by lintian and piuparts, and used in a Debian as a user would.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{debian, locked, possible, run, top};

const BUILDS: [&str; 4] = ["dpkg-buildpackage", "dh", "debootstrap", "lintian"];

/// Debian 12 and 13.
const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// The package, and one with a higher version.
struct Packages {
    old: String,
    new: String,
}

/// When the youngest file below `path` was written.
fn youngest(path: &Path) -> SystemTime {
    let meta = fs::metadata(path).unwrap();
    if !meta.is_dir() {
        return meta.modified().unwrap();
    }
    let inside = fs::read_dir(path).unwrap().map(|entry| youngest(&entry.unwrap().path()));
    inside.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Builds them, unless that was done.
fn packages() -> Packages {
    let folder = top().join("target/full/packages");
    let path = |version: &str| folder.join(format!("mini-supervisor_{version}_amd64.changes"));
    let (old, new) = (env!("CARGO_PKG_VERSION"), "99.0.0");
    let binary = env!("CARGO_BIN_EXE_supervisor");
    locked("packages.lock", || {
        let made_of = ["packaging", "man", "examples", "README.md", "CHANGELOG.md", binary];
        let since = made_of.map(|part| youngest(&top().join(part))).into_iter().max().unwrap();
        let is_fresh =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.modified().unwrap() > since);
        for version in [old, new] {
            if !is_fresh(&path(version)) {
                let to = folder.to_str().unwrap();
                run(&["packaging/build-deb", "--binary", binary, "--version", version, to]);
            }
        }
    });
    let text = |version| path(version).with_extension("deb").to_str().unwrap().to_owned();
    Packages { old: text(old), new: text(new) }
}

/// What a script of `tests/packaging` prints, run in this Debian.
fn script(suite: &str, name: &str, arguments: &[&str]) -> String {
    let script = format!("tests/packaging/{name}");
    let root = debian(suite);
    run(&[&["tests/packaging/root", &root, &script], arguments].concat())
}

#[test]
fn the_package_is_built_and_lintian_finds_neither_errors_nor_warnings() {
    if !possible(&BUILDS) {
        return;
    }
    let changes = packages().old.replace(".deb", ".changes");
    run(&["lintian", "--allow-root", "--fail-on", "error,warning", &changes]);
}

#[test]
fn the_package_is_the_same_whenever_it_is_built() {
    if !possible(&BUILDS) {
        return;
    }
    let old = packages().old;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    let build = "umask 077; exec packaging/build-deb --binary \"$1\" \"$2\"";
    run(&["sh", "-c", build, "build", env!("CARGO_BIN_EXE_supervisor"), to]);
    let again = folder.path().join(Path::new(&old).file_name().unwrap());
    assert!(fs::read(&old).unwrap() == fs::read(&again).unwrap(), "another package");
}

#[test]
fn it_is_installed_upgraded_removed_and_purged_without_a_trace() {
    if possible(&BUILDS) {
        let packages = packages();
        for suite in SUITES {
            script(suite, "lifecycle", &[&packages.old, &packages.new]);
        }
    }
}

#[test]
fn it_is_installed_beside_the_supervisor_of_debian() {
    if possible(&BUILDS) {
        script("bookworm", "beside", &[&packages().old]);
    }
}

#[test]
fn piuparts_finds_nothing_that_it_leaves() {
    if possible(&[&BUILDS[..], &["piuparts"]].concat()) {
        let (package, root) = (packages().old, debian("bookworm"));
        run(&["piuparts", "-d", "bookworm", "-e", &root, "--no-eatmydata", &package]);
    }
}

/// Enabled and not started, started with a site, upgraded, removed, booted, purged.
fn below_systemd(suite: &str) {
    if possible(&[&BUILDS[..], &["systemd-nspawn"]].concat()) {
        let packages = packages();
        let said = script(suite, "booted", &[&packages.old, &packages.new]);
        assert!(said.ends_with("== purged while it runs\n"), "{said}");
    }
}

#[test]
fn below_systemd_252_a_site_starts_at_boot_and_an_upgrade_stops_no_program() {
    below_systemd("bookworm");
}

#[test]
fn below_systemd_257_a_site_starts_at_boot_and_an_upgrade_stops_no_program() {
    below_systemd("trixie");
}

#[test]
fn systemd_252_and_257_understand_every_line_of_the_units() {
    if possible(&BUILDS) {
        let package = packages().old;
        for (suite, version) in SUITES.into_iter().zip(["252", "257"]) {
            let said = script(suite, "verify", &[&package]);
            assert!(said.starts_with(&format!("systemd {version} ")), "{said}");
        }
    }
}
