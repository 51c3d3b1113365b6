//! The two serial lines of a guest: what it says, and the shell that does what the test asks for.

use std::{
    io::Write as _,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use crate::{e2e::lines::Lines, outside::Ran, sys_world::until};

use super::machine::PATIENCE;

/// What the kernel says when it goes down, and how a guest has ended by it.
const ENDS: [(&str, End); 4] = [
    ("reboot: Restarting system", End::Rebooted),
    ("sysrq: Resetting", End::Reset),
    ("reboot: Power down", End::PoweredOff),
    ("Kernel panic", End::Panicked),
];

/// How a guest goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By reboot(2).
    Rebooted,
    /// By SysRq b.
    Reset,
    /// By reboot(2) or SysRq o.
    PoweredOff,
    /// The kernel gave up, as when process 1 ends.
    Panicked,
}

/// How the guest goes down by this line of its console.
pub(super) fn end_of(line: &str) -> Option<End> {
    ENDS.into_iter().find(|(words, _)| line.contains(words)).map(|(_, end)| end)
}

/// The shell in the guest, a script of which runs at a time.
pub(super) struct Shell {
    stream: UnixStream,
    lines: Lines,
    /// What was read of it until now.
    read: usize,
    /// Scripts that were sent and nobody has waited for.
    sent: usize,
}

impl Shell {
    /// As soon as the machine connects.
    pub(super) fn accept(listener: &UnixListener, lives: &mut impl FnMut() -> bool) -> Self {
        listener.set_nonblocking(true).unwrap();
        let mut stream = None;
        until("the machine connects", || {
            assert!(lives(), "no machine");
            stream = listener.accept().ok();
            stream.is_some()
        });
        let stream = stream.unwrap().0;
        stream.set_nonblocking(false).unwrap();
        let lines = Lines::read(stream.try_clone().unwrap());
        Self { stream, lines, read: 0, sent: 0 }
    }

    /// Waits until it takes scripts, after a boot.
    pub(super) fn wait_ready(&mut self) {
        self.sent = 0;
        self.up_to("== ready");
    }

    /// What it says before this line.
    fn up_to(&mut self, prefix: &str) -> (Vec<String>, String) {
        let read = self.read;
        let (said, last) = self.lines.watch(PATIENCE, prefix, |lines, _| {
            let new = lines.get(read..)?;
            let at = new.iter().position(|line| line.starts_with(prefix))?;
            Some((new[..at].to_vec(), new[at].clone()))
        });
        self.read += said.len() + 1;
        (said, last)
    }

    /// Runs a script to its end.
    pub(super) fn run(&mut self, script: &str) -> Ran {
        for _ in 0..std::mem::take(&mut self.sent) {
            self.up_to("== ended ");
        }
        self.write(script);
        let (said, last) = self.up_to("== ended ");
        let code = last["== ended ".len()..].trim().parse().unwrap();
        let out = said.iter().map(|line| format!("{}\n", line.trim_end())).collect();
        Ran { code, out, err: String::new() }
    }

    /// Has it run a script that may not end.
    pub(super) fn send(&mut self, script: &str) {
        self.sent += 1;
        self.write(script);
    }

    fn write(&mut self, script: &str) {
        assert!(script.lines().all(|line| line != "."), "{script}");
        write!(self.stream, "{script}\n.\n").unwrap();
    }
}

/// What of the guest runs [`Shell`]s scripts; executed by its init before all else.
pub(super) const AGENT: &str = r#"
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty raw -echo
echo
echo '== ready'
while read -r line; do
  if [ "$line" = . ]; then
    sh -ec "$script" </dev/null
    code=$?
    echo
    echo "== ended $code"
    script=
  else
    script="$script$line
"
  fi
done
"#;

/// Where the second line of a machine is for us.
pub(super) fn listen(folder: &Path) -> UnixListener {
    UnixListener::bind(folder.join("shell.sock")).unwrap()
}
