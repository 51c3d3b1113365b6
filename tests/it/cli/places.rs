//! Which supervisor is meant, and supervisors that are hard to reach.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    process::Command,
};

use nix::sys::signal::{Signal, kill};

use super::site::{Ran, Site, bare};
use crate::sys_world::until;

const ONE: &str = "  one: {command: [sleep, \"1000\"]}";

/// Sites of an ordinary user, which are found in this directory.
struct Home {
    dir: tempfile::TempDir,
    sites: Vec<Site>,
}

impl Home {
    /// As another user when we are root: root's sites are in /run, where no test writes.
    fn command(&self, args: &[&str]) -> Command {
        let (program, home) = (env!("CARGO_BIN_EXE_supervisor"), self.dir.path());
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]);
            command
        } else {
            Command::new(program)
        };
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("XDG_RUNTIME_DIR", home);
        command
    }

    fn start(&mut self, name: &str) {
        let site = Site::written(ONE);
        let text = format!("version: 1\nsupervisor: {{name: {name}}}\nprograms:\n{ONE}\n");
        fs::write(site.file(), text).unwrap();
        Self::open(site.dir.path());
        let file = site.file();
        let command = self.command(&["-c", file.to_str().unwrap()]);
        self.sites.push(site.started_by(command));
    }

    /// So that the other user can use it.
    fn open(path: &std::path::Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        if nix::unistd::geteuid().is_root() {
            let nobody = Some(65_534.into());
            nix::unistd::chown(path, nobody, None).unwrap();
        }
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }
}

#[test]
fn the_only_site_that_runs_is_meant_and_of_several_all_are_listed() {
    let mut home = Home { dir: tempfile::tempdir().unwrap(), sites: Vec::new() };
    Home::open(home.dir.path());
    // Where the locks of programs are kept is no site.
    let locks = home.dir.path().join("mini-supervisor/.instances/control.sock");
    fs::create_dir_all(&locks).unwrap();
    Home::open(locks.parent().unwrap().parent().unwrap());
    let none = home.run(&["stop", "one"]);
    assert_eq!(none.code, Some(7), "{none:?}");
    home.start("alpha");
    let only = home.run(&["version"]);
    assert!(only.out.contains("site alpha, pid "), "{only:?}");
    home.start("beta");
    let socket = |name: &str| home.dir.path().join("mini-supervisor").join(name);
    let several = home.run(&["status"]);
    assert_eq!(several.code, Some(2));
    assert_eq!(
        several.err,
        format!(
            "supervisor: cannot choose a supervisor: several run\n\
             hint: say which with -c FILE or one of:\n\
             hint:   -s {}/control.sock\nhint:   -s {}/control.sock\n",
            socket("alpha").display(),
            socket("beta").display()
        )
    );
    let beta = socket("beta").join("control.sock");
    let beta = home.run(&["version", "-s", beta.to_str().unwrap()]);
    assert!(beta.out.contains("site beta, pid "), "{beta:?}");
    let alpha = home.sites[0].file();
    let alpha = home.run(&["version", "-c", alpha.to_str().unwrap()]);
    assert!(alpha.out.contains("site alpha, pid "), "{alpha:?}");
    // One that has ended is not among those that run.
    assert_eq!(home.sites[0].end(), Some(0));
    let left = home.run(&["version"]);
    assert!(left.out.contains("site beta, pid "), "{left:?}");
}

#[test]
fn what_is_wrong_with_the_way_to_a_supervisor_is_said() {
    let run = |args: &[&str]| -> Ran { bare(args).output().unwrap().into() };
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for path in [stale, dir.path().join("none")] {
        let path = path.to_str().unwrap();
        let ran = run(&["stop", "a", "-s", path]);
        assert_eq!(ran.code, Some(7));
        assert_eq!(
            ran.err,
            format!(
                "supervisor: no supervisor is running for this site: nobody listens on {path}\n\
                 hint: start it with: supervisor -c FILE\n"
            )
        );
    }
    let long = format!("/tmp/{}", "x".repeat(110));
    let ran = run(&["stop", "a", "-s", &long]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.ends_with("File name too long (os error 36)\n"), "{ran:?}");
    let ran = run(&["stop", "a", "-c", "/nowhere/site.yaml"]);
    assert_eq!(ran.code, Some(7));
    assert!(ran.err.ends_with("hint: there is no file /nowhere/site.yaml\n"), "{ran:?}");
}

#[test]
fn a_socket_that_somebody_removes_is_made_again_and_a_replaced_one_left_alone() {
    let site = Site::up(ONE);
    let socket = site.socket();
    let mut follower = site.follow(&["events", "-f"]);
    follower.until(|line| line.contains("supervisor.started"));
    for _ in 0..3 {
        fs::remove_file(&socket).unwrap();
        follower.until(|line| line.contains("it was made again"));
        assert_eq!(mode(&socket), 0o600);
        site.expect(0, &["restart", "one"]);
        follower.until(|line| line.contains("program.ready"));
    }
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    follower.until(|line| line.contains("control.sock to 0666"));
    let other = site.dir.path().join("other");
    fs::write(&other, "not yours").unwrap();
    fs::rename(&other, &socket).unwrap();
    follower.until(|line| line.contains("somebody has replaced"));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "not yours");
    fs::remove_file(&socket).unwrap();
    kill(site.pid(), Signal::SIGHUP).unwrap();
    follower.until(|line| line.contains("it was made again"));
    site.expect(0, &["status", "one"]);
    // The whole runtime directory, as a cleaner of /run would: the lock is taken again, too.
    let gone = site.dir.path().join("gone");
    fs::rename(socket.parent().unwrap(), &gone).unwrap();
    fs::remove_dir_all(gone).unwrap();
    follower.until(|line| line.contains("it was made again"));
    site.expect(73, &[]);
    site.expect(0, &["shutdown"]);
    assert!(!socket.exists());
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn without_descriptors_for_clients_it_goes_on_and_recovers() {
    let site = Site::written(ONE);
    let file = site.file();
    // Programs get the limit that the supervisor was given; it has raised its own to the hard one.
    let mut command = Command::new("prlimit");
    command.args(["--nofile=40:40", env!("CARGO_BIN_EXE_supervisor"), "-c"]).arg(file);
    let site = site.started_by(command);
    site.wait_state("one", "RUNNING");
    let pid = site.expect(0, &["pid", "one"]).out;
    let clients: Vec<UnixStream> =
        (0..60).filter_map(|_| UnixStream::connect(site.socket()).ok()).collect();
    assert!(clients.len() > 40, "the kernel takes them");
    let turned_away = site.run(&["status"]);
    assert_eq!(turned_away.code, Some(1), "{turned_away:?}");
    kill(site.pid(), Signal::SIGHUP).unwrap();
    site.wait_log("reload");
    drop(clients);
    // A pause in which nobody is accepted may have to pass first.
    until("it answers again", || site.run(&["status"]).code == Some(0));
    assert_eq!(site.expect(0, &["pid", "one"]).out, pid);
    site.expect(0, &["restart", "one"]);
}

#[test]
fn descriptors_that_a_client_sends_are_not_kept() {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let site = Site::up(ONE);
    site.wait_state("one", "RUNNING");
    let open = || fs::read_dir(format!("/proc/{}/fd", site.pid())).unwrap().count();
    let mut stream = UnixStream::connect(site.socket()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut answered = || {
        stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"version\"}\n").unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains("\"result\""), "{line}");
    };
    answered();
    let before = open();
    let file = fs::File::open("/dev/null").unwrap();
    let fds = [file.as_raw_fd(); 100];
    let flood = UnixStream::connect(site.socket()).unwrap();
    for _ in 0..50 {
        let (text, fds) = ([std::io::IoSlice::new(b" ")], [ControlMessage::ScmRights(&fds)]);
        sendmsg::<()>(flood.as_raw_fd(), &text, &fds, MsgFlags::empty(), None).unwrap();
    }
    flood.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    (&flood).read_to_end(&mut rest).unwrap();
    drop(flood);
    answered();
    until("only ours are open", || open() == before);
}
