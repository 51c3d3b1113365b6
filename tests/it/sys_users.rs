//! Users and groups: from the files, by ourselves; NSS is asked for the others, and may not answer.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use mini_supervisor::model::{Exit, Signal};

use crate::{
    sys_world::{World, is_skipped_without_root, until},
    tidy::sources,
};

const PASSWD: &str = "# root:x:5:5::/:/bin/false
+::::::

root:x:0:0:root:/root:/bin/sh
svc:x:61001:61002:a comment,,,:/tmp:
broken:x:1
svc:x:0:0:the first of a name counts:/:/bin/sh
";

const GROUP: &str = "root:x:0:
+:::
main:x:61002:
extra:x:61003:svc
bad:x:-1:svc
more:x:61004:other,svc,
named:x:61005:
";

/// A command that puts our own account files in the place of the host's, for what it executes.
fn in_another_world(world: &World, nsswitch: &str) -> String {
    let files = [("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", nsswitch)];
    for (name, text) in files {
        fs::write(world.path(name), text).unwrap();
    }
    let mounts = files.map(|(name, _)| format!("mount --bind DIR/{name} /etc/{name} && "));
    format!("exec unshare -m sh -c '{}exec \"$@\"' sh", mounts.concat())
}

#[test]
fn users_and_groups_of_the_files_need_no_nss() {
    if is_skipped_without_root() {
        return;
    }
    let strace = Path::new("/usr/bin/strace");
    if !strace.exists() {
        println!("skipped: no strace");
        return;
    }
    let mut world = World::new(
        "programs:\n  svc:\n    command: [/bin/sh, -c, 'grep -E ^[UG] /proc/self/status; echo $HOME; exec sleep 1000']\n    \
         user: svc\n    supplementary_groups: [named]\n    working_directory: /\n",
    );
    fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let outside = in_another_world(&world, "passwd: files systemd\ngroup: files systemd\n");
    world
        .start(1, &format!("{outside} strace -D -f -e trace=openat,open,connect -o DIR/trace RUN"));
    until("it has said who it is", || world.text("log1").contains("| /tmp"));
    let log = world.text("log1");
    let words = log.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Uid: 61001 61001 61001 61001"), "{log}");
    assert!(words.contains("Groups: 61002 61003 61004 61005"), "{log}");
    world.signal(1, Signal::TERM);
    assert_eq!(world.exit(), (Some(1), Exit::Code(0)), "{log}");
    // Neither we nor the program, which asks for nobody.
    let trace = world.text("trace");
    assert!(trace.contains("\"/etc/passwd\"") && trace.contains("\"/etc/group\""), "{trace}");
    for name in ["nsswitch", "libnss", "nscd", "userdb"] {
        assert!(!trace.contains(name), "{name}: {trace}");
    }
}

/// An NSS module that never answers.
const HANGS: &str = "#include <unistd.h>
static int hang(void) { for (;;) pause(); return 0; }
int _nss_hang_getpwnam_r() { return hang(); }
int _nss_hang_getpwuid_r() { return hang(); }
int _nss_hang_getgrnam_r() { return hang(); }
int _nss_hang_initgroups_dyn() { return hang(); }
";

#[test]
fn a_directory_server_that_never_answers_costs_seconds_and_no_program() {
    if is_skipped_without_root() {
        return;
    }
    let mut world = World::new(
        "programs:\n  svc:\n    command: [/bin/sleep, '1000']\n    user: svc\n    \
         working_directory: /\n",
    );
    fs::write(world.path("hang.c"), HANGS).unwrap();
    world.start(1, "exec cc -shared -fPIC -w -o DIR/libnss_hang.so.2 DIR/hang.c");
    if world.exit().1 != Exit::Code(0) {
        println!("skipped: no C compiler");
        return;
    }
    let outside = in_another_world(&world, "passwd: files hang\ngroup: files hang\n");
    world.start(1, &format!("{outside} env LD_LIBRARY_PATH=DIR RUN"));
    until("it runs", || world.text("log1").contains("svc: started (pid"));
    let site = world.text("site.yaml");
    let changed = site.replace("user: svc", "user: nobody-knows");
    let two = changed.replace("  svc:", "  other:\n    command: [a]\n    user: nor-him\n  svc:");
    fs::write(world.path("site.yaml"), two).unwrap();
    world.signal(1, Signal::HUP);
    until("it is asked", || world.text("log1").contains("SIGHUP"));
    // Meanwhile it answers.
    let mut answers = 0;
    while !world.text("log1").contains("no answer within 5 s") {
        world.start(2, "exec BIN -s DIR/run/control.sock status");
        assert_eq!(world.exit(), (Some(2), Exit::Code(0)), "{}", world.text("log1"));
        answers += 1;
    }
    assert!(answers > 10, "{answers}");
    until("it is refused", || world.text("log1").contains("reload refused"));
    let log = world.text("log1");
    assert!(log.contains("cannot look up user no"), "{log}");
    assert_eq!(log.matches("svc: started (pid").count(), 1, "{log}");
    world.signal(1, Signal::TERM);
    assert_eq!(world.exit(), (Some(1), Exit::Code(0)));
}

/// What a 64-bit executable of little-endian words imports (elf(5)); nothing where it is static.
fn imports(file: &[u8]) -> Vec<String> {
    let number = |at: usize, len: usize| -> usize {
        file[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (sections, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    let section = |index: usize| sections + index * size;
    let symbols = (0..count).map(section).find(|at| number(at + 4, 4) == 11); // SHT_DYNSYM
    let Some(symbols) = symbols else { return Vec::new() };
    let names = number(section(number(symbols + 0x28, 4)) + 0x18, 8);
    let (first, bytes) = (number(symbols + 0x18, 8), number(symbols + 0x20, 8));
    let undefined = (first..first + bytes).step_by(24).filter(|at| number(at + 6, 2) == 0);
    let name = |at: usize| {
        let name = file[names + number(at, 4)..].split(|byte| *byte == 0).next().unwrap();
        String::from_utf8_lossy(name).into_owned()
    };
    undefined.map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_binary_asks_nss_only_for_what_the_files_do_not_have_and_for_hosts() {
    let binary = fs::read(env!("CARGO_BIN_EXE_supervisor")).unwrap();
    if binary[..6] != *b"\x7fELF\x02\x01" {
        println!("skipped: not of 64 bits, little-endian");
        return;
    }
    let leads = [
        "getpw",
        "getgr",
        "getsp",
        "initgroups",
        "getaddrinfo",
        "gethostby",
        "getservby",
        "getnetgr",
        "innetgr",
        "__nss",
    ];
    let imports = imports(&binary);
    let mut found: Vec<&str> = imports.iter().map(String::as_str).collect();
    found.retain(|name| leads.iter().any(|lead| name.starts_with(lead)));
    found.retain(|name| *name != "getgroups");
    found.sort_unstable();
    let is_dynamic = !imports.is_empty();
    let allowed = ["getaddrinfo", "getgrnam_r", "getgrouplist", "getpwnam_r", "getpwuid_r"];
    assert_eq!(found, if is_dynamic { &allowed[..] } else { &[] });
    if !is_dynamic && cfg!(target_env = "gnu") {
        let has = |name: &[u8]| binary.windows(name.len()).any(|part| part == name);
        assert!(!has(b"getgrouplist"), "in a static glibc");
    }
}

#[test]
fn one_module_alone_asks_nss_and_is_empty_in_a_static_glibc() {
    let words = ["getgrouplist", "User::from_", "Group::from_", "home_dir(", "initgroups("];
    let wrong = |line: &str| {
        let code = line.trim_start();
        !code.starts_with("//") && words.iter().any(|word| code.contains(word))
    };
    let mut files = Vec::new();
    for (name, text) in sources("src") {
        files.extend(text.lines().any(wrong).then_some(name));
    }
    assert_eq!(files, ["src/sys/user.rs"]);
    let (_, text) = sources("src").into_iter().find(|(name, _)| name == "src/sys/user.rs").unwrap();
    let module =
        "#[cfg(not(all(target_env = \"gnu\", target_feature = \"crt-static\")))]\nmod nss {";
    let (before, after) = text.split_once(module).unwrap();
    let (inside, after) = after.split_once("\n}\n").unwrap();
    assert!(!before.lines().any(wrong) && !after.lines().any(wrong));
    assert!(inside.lines().any(wrong));
}
