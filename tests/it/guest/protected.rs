//! fs.protected_regular, with which root cannot open files of others in /dev/shm as it is used to (proc_sys_fs(5)).

use super::machine::{Guest, Plan};

/// `known` is made for its user, `free` is whose it is who comes first.
const SITE: &str = r#"
version: 1
supervisor: {runtime_dir: /run/sv}
defaults: {user: root}
programs:
  web: {command: [sleep, '1000']}
semaphores:
  known:
    path: /dev/shm/known.lock
    info_file: /dev/shm/known.info
    info_keys: {name: Demandé par}
    allow: {users: [bot]}
    mode: "0644"
    action: restart:web
  free:
    path: /dev/shm/free.lock
    allow: {users: [bot, other]}
    action: restart:web
"#;

/// As the signaller of the first document, in a shell: locks, then writes who asks.
const SIGNALLER: &str = r#"
exec 9>"$1"
flock -n 9 || exit 1
[ -z "$2" ] || printf 'Demandé par: Tigro\n' >"$2"
echo "held $1"
read -r line
"#;

/// A guest with this value, in which the supervisor does not run yet.
fn guest(value: u32) -> Option<Guest> {
    let plan = Plan::new()?.file("/etc/site.yaml", SITE).command("/usr/bin/flock");
    let mut guest = plan.script("/bin/hold", SIGNALLER).boot();
    guest.sh(&format!("sysctl -w fs.protected_regular={value}"));
    Some(guest)
}

/// A user holds the lock until [`let_go`]; the semaphore may have been raised before.
fn hold(guest: &mut Guest, user: &str, files: &str, times: usize) {
    guest.sh("rm -f /run/go; mkfifo /run/go; sleep 1000 >/run/go & echo $! >/run/holder");
    guest.sh(&format!("su {user} -c 'hold {files}' </run/go >/dev/console 2>&1 &"));
    guest.wait_for_count(&format!("held {}", files.split(' ').next().unwrap()), times);
}

fn let_go(guest: &mut Guest) {
    guest.sh("kill $(cat /run/holder)");
}

/// That it was raised so often, and each time the program was restarted.
fn acted(guest: &Guest, name: &str, times: usize) {
    guest.wait_for_count(&format!("semaphore:{name}: does restart:web"), times);
    assert_eq!(guest.said(&format!("semaphore:{name}: raised by ")).len(), times);
}

fn state_of(guest: &mut Guest, name: &str) -> i32 {
    guest.run(&format!("supervisor -c /etc/site.yaml semaphore status {name}")).code
}

/// Files of the signallers are there before we look: no request until somebody holds them.
fn signallers_first(value: u32) {
    let Some(mut guest) = guest(value) else { return };
    guest.sh("su bot -c 'touch /dev/shm/known.lock'; su other -c 'touch /dev/shm/free.lock'");
    // This is what flock(1) and a shell run into, as root.
    let opened = guest.run("for f in known free; do : >>/dev/shm/$f.lock; done").code;
    assert_eq!(opened == 0, value == 0, "{value}: {opened}");
    guest.start("supervisor -c /etc/site.yaml");
    for name in ["known", "free"] {
        guest.wait_for("armed", |line| line.contains(&format!("semaphore:{name}: armed")));
        assert_eq!(state_of(&mut guest, name), 1, "{name} is not clear");
    }
    hold(&mut guest, "bot", "/dev/shm/known.lock /dev/shm/known.info", 1);
    acted(&guest, "known", 1);
    guest.wait_for("who", |line| {
        line.contains("semaphore:known: raised by ") && line.contains("uid 1000")
    });
    let_go(&mut guest);
    hold(&mut guest, "other", "/dev/shm/free.lock", 1);
    acted(&guest, "free", 1);
    let_go(&mut guest);
    finish(guest, 2);
}

/// The supervisor looks before there is anything.
fn supervisor_first(value: u32) {
    let Some(mut guest) = guest(value) else { return };
    guest.start("supervisor -c /etc/site.yaml");
    for name in ["known", "free"] {
        guest.wait_for("armed", |line| line.contains(&format!("semaphore:{name}: armed")));
    }
    assert_eq!(guest.sh("stat -c '%U %a' /dev/shm/known.lock"), "bot 644");
    let other = guest.run("su other -c ': >>/dev/shm/known.lock'").code;
    assert_ne!(other, 0, "somebody else can open it");
    hold(&mut guest, "bot", "/dev/shm/known.lock /dev/shm/known.info", 1);
    acted(&guest, "known", 1);
    let_go(&mut guest);
    // It was removed when it was served, and is made again.
    guest.sh(
        "until [ \"$(stat -c '%U %a' /dev/shm/known.lock)\" = 'bot 644' ]; do usleep 50000; done",
    );
    guest.sh("su bot -c 'touch /dev/shm/free.lock'");
    assert_eq!(state_of(&mut guest, "free"), 1, "it merely exists");
    hold(&mut guest, "bot", "/dev/shm/free.lock", 1);
    acted(&guest, "free", 1);
    let_go(&mut guest);
    finish(guest, 2);
}

/// Nothing else has happened to the program, and the supervisor ends well.
fn finish(mut guest: Guest, restarts: usize) {
    guest.wait_for_count("web: started", 1 + restarts);
    guest.sh("supervisor -c /etc/site.yaml shutdown");
    assert_eq!(guest.said("web: started").len(), 1 + restarts);
    for trouble in ["cannot be told", "no longer ours", "refused"] {
        assert_eq!(guest.said(trouble), [""; 0]);
    }
}

#[test]
fn where_root_may_open_files_of_others_those_of_signallers_are_seen() {
    signallers_first(0);
}

#[test]
fn where_root_may_not_open_files_of_others_those_of_signallers_are_seen() {
    signallers_first(1);
}

#[test]
fn nor_in_directories_of_a_group_and_those_of_signallers_are_seen() {
    signallers_first(2);
}

#[test]
fn where_root_may_open_files_of_others_signallers_may_come_later() {
    supervisor_first(0);
}

#[test]
fn where_root_may_not_open_files_of_others_signallers_may_come_later() {
    supervisor_first(1);
}

#[test]
fn nor_in_directories_of_a_group_and_signallers_may_come_later() {
    supervisor_first(2);
}

/// S0-08: whether we or somebody else has made the file, and although `O_CREAT` is refused to root.
#[test]
fn the_verb_raises_whoever_has_made_the_file() {
    let Some(mut guest) = guest(0) else { return };
    guest.start("supervisor -c /etc/site.yaml");
    for name in ["known", "free"] {
        guest.wait_for_count(&format!("semaphore:{name}: armed"), 1);
    }
    let mut times = 0;
    for value in 0..=2 {
        guest.sh(&format!("sysctl -w fs.protected_regular={value}"));
        times += 1;
        raise(&mut guest, "root", "known", 2 * times - 1);
        raise(&mut guest, "bot", "known", 2 * times);
        guest.sh("su other -c 'touch /dev/shm/free.lock'");
        raise(&mut guest, "root", "free", 2 * times - 1);
        raise(&mut guest, "bot", "free", 2 * times);
    }
    finish(guest, 12);
}

/// It is accepted, once, and then nobody asks any more.
fn raise(guest: &mut Guest, user: &str, name: &str, times: usize) {
    let verb = format!("supervisor -c /etc/site.yaml semaphore raise --timeout 60s {name}");
    guest.sh(&format!("su {user} -c '{verb}'"));
    acted(guest, name, times);
    let status = format!("supervisor -c /etc/site.yaml semaphore status {name}");
    guest.sh(&format!("until {status} >/dev/null; [ $? = 1 ]; do usleep 50000; done"));
}
