//! The signaller and the watchers of the first document, written as it describes them, with ours.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use super::{INFO, done, finish, left, path, up, written};
use crate::{
    cli::site::{Ran, Site},
    sys_world::until,
};

/// `reboot_semaphore.py`, as the document describes it; the directory is the test's.
const MODULE: &str = r#"
import fcntl, os, time

class RebootSemaphore:
    LOCK_FILE = os.environ['SEMAPHORE_DIR'] + '/lock'
    INFO_FILE = os.environ['SEMAPHORE_DIR'] + '/info'
    _lock_fd = None

    @classmethod
    def signal_reboot(cls, info=None):
        try:
            lock_fd = os.open(cls.LOCK_FILE, os.O_CREAT | os.O_WRONLY, 0o644)
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except IOError:
                os.close(lock_fd)
                return True  # already active
            cls._lock_fd = lock_fd
            if info:
                with open(cls.INFO_FILE, 'w', encoding='utf-8') as f:
                    f.write(f"Demandé par: {info.get('name', 'Unknown')}\n")
                    f.write(f"Node ID: {info.get('node_id', 'Unknown')}\n")
                    f.write(f"Timestamp: {info.get('timestamp', 'Unknown')}\n")
                os.chmod(cls.INFO_FILE, 0o644)
            return True
        except OSError:
            return False

    @classmethod
    def check_reboot_signal(cls):
        if not os.path.exists(cls.LOCK_FILE):
            return False
        lock_fd = os.open(cls.LOCK_FILE, os.O_RDWR)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(lock_fd, fcntl.LOCK_UN)
            return False
        except IOError:
            return True
        finally:
            os.close(lock_fd)

    @classmethod
    def clear_reboot_signal(cls):
        if cls._lock_fd is not None:
            fcntl.flock(cls._lock_fd, fcntl.LOCK_UN)
            os.close(cls._lock_fd)
            cls._lock_fd = None
        for name in (cls.LOCK_FILE, cls.INFO_FILE):
            if os.path.exists(name):
                os.unlink(name)

    @classmethod
    def get_reboot_info(cls):
        try:
            with open(cls.INFO_FILE, encoding='utf-8') as f:
                return f.read()
        except OSError:
            return ''
"#;

/// `rebootpi-watcher.py`, which looks more often than every five seconds and says what it would do.
const WATCHER: &str = r#"
import time
from reboot_semaphore import RebootSemaphore
print('begun', flush=True)
while not RebootSemaphore.check_reboot_signal():
    time.sleep(0.02)
info = RebootSemaphore.get_reboot_info()
RebootSemaphore.clear_reboot_signal()
print('reboot:', info, flush=True)
"#;

/// `rebootpi-watcher.sh`.
const SHELL_WATCHER: &str = r#"
echo begun
while :; do
    if [ -f "$SEMAPHORE_DIR/lock" ] && ! flock -n "$SEMAPHORE_DIR/lock" true; then
        echo "reboot: $(cat "$SEMAPHORE_DIR/info")"
        rm -f "$SEMAPHORE_DIR/lock" "$SEMAPHORE_DIR/info"
        exit 0
    fi
    sleep 0.02
done
"#;

/// The full test of the document, with its heredoc, to the letter.
const FULL_TEST: &str = r#"
python3 << 'EOF'
from reboot_semaphore import RebootSemaphore
import time

info = {
    'name': 'TestComplet',
    'node_id': '0xDEADBEEF',
    'timestamp': time.strftime('%Y-%m-%d %H:%M:%S')
}

RebootSemaphore.signal_reboot(info)
print("🚨 Signal envoyé - système va redémarrer dans 5-10 secondes!")
EOF
"#;

/// The test of the document that does not reboot.
const MANUAL_TEST: &str = r#"
python3 << 'EOF'
from reboot_semaphore import RebootSemaphore
import time

# Signal reboot
info = {
    'name': 'TestManual',
    'node_id': '0xFFFFFFFF',
    'timestamp': time.strftime('%Y-%m-%d %H:%M:%S')
}

if RebootSemaphore.signal_reboot(info):
    print("✅ Signal créé")

    # Vérifier
    if RebootSemaphore.check_reboot_signal():
        print("✅ Signal détecté par check")

    # Nettoyer (pour éviter un reboot réel!)
    RebootSemaphore.clear_reboot_signal()
    print("✅ Signal nettoyé (reboot annulé)")
else:
    print("❌ Erreur création signal")
EOF
"#;

/// `sh -c SCRIPT`, beside the module.
fn original(site: &Site, script: &str) -> Command {
    let modules = path(site, "run-modules");
    fs::create_dir_all(&modules).unwrap();
    fs::write(modules.join("reboot_semaphore.py"), MODULE).unwrap();
    fs::write(modules.join("watcher.py"), WATCHER).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PYTHONPATH", &modules).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("SEMAPHORE_DIR", site.dir.path()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ran(mut command: Command) -> Ran {
    command.output().unwrap().into()
}

/// One of them that goes on, and has said that it does.
fn begun(site: &Site, script: &str) -> Child {
    let mut child = original(site, script).spawn().unwrap();
    let mut word = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
    assert_eq!(&word, b"begun\n");
    child
}

#[test]
fn our_raise_is_seen_and_accepted_by_the_watchers_of_the_document() {
    for script in ["exec python3 \"$PYTHONPATH/watcher.py\"", SHELL_WATCHER] {
        let site = written(&format!("{INFO}, action: 'restart:web'"));
        let watcher = begun(&site, script);
        let args = ["semaphore", "raise", "ask", "--info", "name=Bot", "--info", "node_id=0xFF"];
        let ran = site.expect(0, &args);
        assert_eq!(ran.out, "ask: accepted: its file was removed\n");
        let saw = finish(watcher);
        let expected = "reboot: Demandé par: Bot\nNode ID: 0xFF\nTimestamp: 2";
        assert!(saw.code == Some(0) && saw.out.starts_with(expected), "{saw:?}");
        assert_eq!(left(&site), ["run-modules"]);
    }
}

#[test]
fn the_full_test_of_the_document_does_what_it_says() {
    let site = up(&format!("{INFO}, action: 'restart:web'"));
    let ran = ran(original(&site, FULL_TEST));
    let said = "🚨 Signal envoyé - système va redémarrer dans 5-10 secondes!\n";
    assert_eq!((ran.code, &*ran.out, &*ran.err), (Some(0), said, ""));
    site.wait_log("semaphore:ask: does restart:web");
    // It writes its info file after it has locked, and is gone at once. Seen by its lock, both files
    // are removed; seen by what it wrote, the lock file stays, which somebody may be about to lock.
    until("its info file is gone", || !path(&site, "info").exists());
    assert_eq!(done(&site), 1);
}

#[test]
fn the_test_of_the_document_that_cancels_does_nothing() {
    let site = up(&format!("{INFO}, debounce: 2s, action: 'restart:web'"));
    let ran = ran(original(&site, MANUAL_TEST));
    let said = "✅ Signal créé\n✅ Signal détecté par check\n✅ Signal nettoyé (reboot annulé)\n";
    assert_eq!((ran.code, &*ran.out, &*ran.err), (Some(0), said, ""));
    // What would have been done by now, had it been a request: another one takes as long.
    site.expect(0, &["semaphore", "raise", "ask"]);
    assert_eq!(done(&site), 1, "{}", site.log());
    until("both files are gone", || left(&site) == ["run-modules"]);
}

#[test]
fn the_signaller_of_the_document_finds_ours_active_and_the_other_way_round() {
    let site = written(&format!("{INFO}, action: 'restart:web'"));
    let first = site.background(&["semaphore", "raise", "ask", "--info", "name=first"]);
    until("it is raised", || left(&site) == ["info", "lock"]);
    let script = "python3 -c \"from reboot_semaphore import RebootSemaphore as R
print(R.signal_reboot({'name': 'second'}), R.check_reboot_signal(), R.get_reboot_info())\"";
    let second = ran(original(&site, script));
    assert!(second.out.starts_with("True True Demandé par: first\n"), "{second:?}");
    fs::remove_file(path(&site, "lock")).unwrap();
    assert_eq!(finish(first).code, Some(0));
    let holds = "exec python3 -c \"from reboot_semaphore import RebootSemaphore as R
R.signal_reboot({'name': 'bot'}); print('begun', flush=True); import time; time.sleep(1000)\"";
    let bot = begun(&site, holds);
    let ours = site.expect(0, &["semaphore", "raise", "ask"]).out;
    let who = format!("ask: already raised by pid {} (", bot.id());
    assert!(ours.starts_with(&who), "{ours}");
    super::signal(&bot, nix::sys::signal::Signal::SIGTERM);
    finish(bot);
}
