//! Files as they are on disk: kinds, owners, half-written ones, includes, variables.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    time::Duration,
};

use mini_supervisor::config::{LoadOptions, load, read, read_dotenv, read_stable};

use super::{Host, options};

const SITE: &str = "version: 1\ndefaults: {user: root}\nprograms: {web: {command: x}}\n";

/// Not root, so that owners do not matter.
const USER: u32 = 1000;

fn cause(path: &Path) -> String {
    read(path, USER).unwrap_err().cause
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert!(cause(dir.path()).contains("directory"));
    assert!(cause(Path::new("/dev/zero")).contains("device"));
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(cause(&at("fifo")).contains("FIFO"));
    symlink(at("loop"), at("loop")).unwrap();
    assert!(cause(&at("loop")).contains("symbolic links"));
    assert!(cause(&at("missing")).contains("No such file"));
    fs::write(at("big"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(cause(&at("big")).contains("1 MiB"));
    fs::write(at("latin"), [b'#', 0xe9]).unwrap();
    assert!(cause(&at("latin")).contains("UTF-8"));
}

#[test]
fn a_root_supervisor_trusts_no_file_that_others_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.yaml");
    fs::write(&path, SITE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = read(&path, 0).unwrap_err();
    assert!(error.cause.contains("others may write it") || error.cause.contains("belongs to"));
    assert!(read(&path, USER).is_ok());
}

#[test]
fn a_root_supervisor_trusts_no_directory_that_others_may_write() {
    let ours = nix::unistd::geteuid().as_raw();
    let dir = tempfile::tempdir().unwrap();
    let (below, path) = (dir.path().join("etc"), dir.path().join("etc/site.yaml"));
    fs::create_dir(&below).unwrap();
    fs::write(&path, SITE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    if ours != 0 {
        // Everything of ours could be changed by us, who are not root.
        assert!(read(&path, 0).unwrap_err().cause.contains("belongs to"));
        return;
    }
    // given a mode (or an owner) of the directory of the file; then whether it is trusted
    for (mode, owner, trusted) in [
        (0o755, 0, true),
        (0o775, 0, false),
        (0o757, 0, false),
        (0o777, 0, false),
        (0o1777, 0, true), // as /tmp: others cannot remove or rename what is not theirs
        (0o755, 1000, false),
        (0o1777, 1000, false),
    ] {
        fs::set_permissions(&below, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&below, Some(owner), None).unwrap();
        let found = read(&path, 0);
        assert_eq!(found.is_ok(), trusted, "{mode:o} {owner}");
        if let Err(error) = found {
            let named = format!("others may replace it: {} has owner {owner}", below.display());
            assert!(error.cause.contains(&named), "{}", error.cause);
            assert!(error.hint.unwrap().contains(&below.display().to_string()));
        }
        // The way to it matters, not only its own directory; and a link to it is its way.
        let link = dir.path().join(format!("link-{mode:o}-{owner}"));
        symlink(&path, &link).unwrap();
        assert_eq!(read(&link, 0).is_ok(), trusted, "by a link: {mode:o} {owner}");
    }
    fs::set_permissions(&below, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&below, Some(0), None).unwrap();
    std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
    assert!(read(&path, 0).unwrap_err().cause.contains("belongs to user 1000"));
    assert!(read(&path, USER).is_ok());
}

#[test]
fn a_file_that_is_being_written_is_not_reloaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.yaml");
    fs::write(&path, SITE).unwrap();
    let mut waited = Duration::ZERO;
    assert!(read_stable(&path, USER, |d| waited = d).is_ok());
    assert_eq!(waited, Duration::from_millis(250));
    let error = read_stable(&path, USER, |_| fs::write(&path, "version: 1\n").unwrap());
    assert!(error.unwrap_err().cause.contains("being written"));
    fs::write(&path, SITE.trim_end()).unwrap();
    let error = read_stable(&path, USER, |_| {}).unwrap_err();
    assert!(error.cause.contains("truncated"));
}

#[test]
fn included_files_and_variables_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    write("a.part.yaml", "programs: {db: {command: [x, \"${A}\", \"${B}\", \"${C}\"]}}\n");
    write("env", "\u{feff}# comment\r\nexport B='b # b'\r\nC=c # c\r\nA=file\r\n");
    let head = "version: 1\ninclude: [\"*.part.yaml\"]\nvariables: {A: a, D: \"${A}1\"}\n\
                variable_files: [env]\n";
    let path = write("site.yaml", &format!("{head}programs: {{web: {{command: x}}}}\n"));
    let options = LoadOptions {
        uid: USER,
        account: None,
        set: BTreeMap::from([("A".to_owned(), "set".to_owned())]),
        ..options()
    };
    let loaded = load(&read(&path, USER).unwrap(), &options, &Host);
    let loaded = loaded.unwrap_or_else(|f| panic!("{}", f.lines()));
    assert_eq!(loaded.site.programs["db"].command.join("|"), "x|set|b # b|c");
    write("b.part.yaml", "programs:\n  web: {command: y}\n");
    let found = load(&read(&path, USER).unwrap(), &options, &Host).unwrap_err().lines();
    assert!(found.contains("b.part.yaml:2:3: error: `web` is defined twice"), "{found}");
    write("b.part.yaml", "{}\n");
    write("env", "A=1\nB B=2\n");
    let found = load(&read(&path, USER).unwrap(), &options, &Host).unwrap_err().lines();
    assert!(found.contains("env:2:1: error"), "{found}");
}

#[test]
fn a_dotenv_file_is_read_for_each_start_of_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("env");
    let cause = || read_dotenv(&path).unwrap_err();
    assert!(cause().is_missing(), "{}", cause());
    fs::write(&path, "\u{feff}export A='1 # 2' # c\r\n\r\nB=\"x\"\r\n").unwrap();
    let expected = [("A", "1 # 2"), ("B", "x")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(read_dotenv(&path).unwrap(), expected);
    fs::write(&path, "A=1\nhush hush\n").unwrap();
    assert_eq!(cause().to_string(), format!("{}:2: expected `NAME=value`", path.display()));
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(cause().to_string().contains("1 MiB") && !cause().is_missing());
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(cause().to_string().contains("FIFO"));
}
