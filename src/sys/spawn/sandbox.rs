//! Our own binary between the fork and the exec of a program that is kept from something: it has
//! one thread and none of the supervisor's locks, so it may allocate, open and mount, which a child
//! between fork and exec may not. It keeps its pid when it becomes the program: nothing else need
//! know of it.
//!
//! It is executed by a descriptor that was opened when the supervisor first needed it, with the
//! marker of the run as its whole environment (nothing that the file sets for the program may load
//! code into it, for it is still root), and reads what to do from a sealed memfd.

mod capabilities;
mod devices;
mod filters;
mod landlock;
mod mounts;
mod wishes;

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
    process::ExitCode,
    sync::LazyLock,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{Mode, umask},
    },
    unistd::AccessFlags,
};
use serde::{Deserialize, Serialize};

use super::{
    Failure, Identity, SpawnError, SpawnSpec, Stage,
    child::{self, call},
    prepared::{self, Prepared, Strings},
};
use crate::{
    model::{Hardening, Resource, RlimitValue},
    sys::rlimit::Pair,
};

/// Our name when we are to do this: no user types it.
const NAME: &str = "supervisor-hardening";

/// What a program is kept from, and what the supervisor has made for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sandbox {
    /// What the file says.
    pub hardening: Hardening,
    /// What becomes its /tmp and /var/tmp.
    pub tmp: Option<[PathBuf; 2]>,
    /// Directories of its own, which it may write whatever is read-only around them.
    pub writable: Vec<PathBuf>,
}

/// All that is left to be done when the child has its descriptors, its session and its priority.
#[derive(Serialize, Deserialize)]
struct Errand {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    working_directory: OsString,
    umask: u32,
    identity: Option<(u32, u32, Vec<u32>)>,
    rlimits: Vec<(Resource, RlimitValue)>,
    open_files: Option<(u64, u64)>,
    no_new_privileges: bool,
    own_pid: Option<String>,
    sandbox: Sandbox,
}

/// What the child executes first.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) binary: OwnedFd,
    pub(super) errand: OwnedFd,
    pub(super) argv: Strings,
    pub(super) envp: Strings,
}

/// Our binary as it was when we were started, whatever has replaced it since.
static BINARY: LazyLock<Result<OwnedFd, i32>> = LazyLock::new(|| {
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let open = |path: &str| nix::fcntl::open(path, flags, Mode::empty());
    let by_name = || std::env::current_exe().map_err(|_| Errno::ENOENT);
    let opened = open("/proc/self/exe").or_else(|_| open(&by_name()?.to_string_lossy()));
    opened
        .map(super::aside)
        .map_err(|errno| std::io::Error::from(errno).raw_os_error().unwrap_or(0))
});

impl Helper {
    /// For a child whose report has this number.
    pub(super) fn new(spec: &SpawnSpec, report: RawFd) -> Result<Self, SpawnError> {
        let refused = |why: &std::io::Error, what: &str| {
            SpawnError::new(Stage::Preparation, why.raw_os_error().unwrap_or(0), what)
        };
        let binary = BINARY.as_ref().map_err(|errno| {
            SpawnError::new(Stage::Preparation, *errno, "our own binary for its hardening")
        })?;
        let binary = binary.try_clone().map_err(|e| refused(&e, "a descriptor"))?;
        let errand = serde_json::to_vec(&Errand::of(spec))
            .map_err(|_| prepared::invalid("the description of its hardening"))?;
        let errand = sealed(&errand).map_err(|e| refused(&e, "a file in memory"))?;
        let argv = [NAME, &report.to_string()].map(CString::new).into_iter().flatten().collect();
        let marker = |(name, _): &&(OsString, OsString)| {
            name == "SUPERVISOR_RUN" || name == "SUPERVISOR_PROGRAM"
        };
        let marker: Vec<_> = spec.env.iter().filter(marker).cloned().collect();
        let envp = Strings::new(prepared::environment(&marker)?);
        // Both out of the way of the child's.
        let above = report.saturating_add(prepared::RESERVED);
        let (binary, errand) = (prepared::lift(binary, above)?, prepared::lift(errand, above)?);
        Ok(Self { binary, errand, argv: Strings::new(argv), envp })
    }

    pub(super) fn highest(&self) -> RawFd {
        self.binary.as_raw_fd().max(self.errand.as_raw_fd())
    }
}

/// A file in memory with these bytes, at its beginning, which nobody can change.
fn sealed(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let fd = memfd_create(c"hardening", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    std::io::Seek::rewind(&mut file)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

impl Errand {
    fn of(spec: &SpawnSpec) -> Self {
        let identity = spec.identity.as_ref();
        Self {
            argv: spec.argv.clone(),
            env: spec.env.clone(),
            working_directory: spec.working_directory.clone().into(),
            umask: spec.umask,
            identity: identity.map(|i| (i.uid, i.gid, i.groups.clone())),
            rlimits: spec.rlimits.clone(),
            open_files: spec.open_files.map(|Pair { soft, hard }| (soft, hard)),
            no_new_privileges: spec.no_new_privileges,
            own_pid: spec.own_pid.map(str::to_owned),
            sandbox: spec.sandbox.clone().unwrap_or_default(),
        }
    }

    fn into_spec(self) -> (SpawnSpec, Sandbox) {
        let identity = |(uid, gid, groups)| Identity { uid, gid, groups };
        let mut env = self.env;
        // It is that of the program already.
        let pid = || std::process::id().to_string().into();
        env.extend(self.own_pid.map(|name| (name.into(), pid())));
        let spec = SpawnSpec {
            env,
            working_directory: self.working_directory.into(),
            umask: self.umask,
            identity: self.identity.map(identity),
            rlimits: self.rlimits,
            open_files: self.open_files.map(|(soft, hard)| Pair { soft, hard }),
            no_new_privileges: self.no_new_privileges,
            ..SpawnSpec::new(self.argv)
        };
        (spec, self.sandbox)
    }
}

/// Why there is no program.
enum Trouble {
    /// Where any other start may fail as well.
    Stage(Failure),
    /// What only we do: `hardening.private_tmp: cannot …`.
    Text { text: String, errno: i32 },
}

impl Trouble {
    /// A key of `hardening` that cannot be had, what was attempted, and why not.
    fn new(key: &str, doing: impl std::fmt::Display, cause: Errno) -> Self {
        let errno = std::io::Error::from(cause).raw_os_error().unwrap_or(0);
        let cause = std::io::Error::from_raw_os_error(errno);
        let hint = match errno {
            libc::EPERM | libc::EACCES => {
                "; this takes CAP_SYS_ADMIN, which a supervisor that is \
                not root or in a container may not have"
            }
            libc::ENOSYS => "; this takes Linux 5.12, and no filter that hides its calls",
            _ => "",
        };
        Self::Text { text: format!("hardening.{key}: cannot {doing}: {cause}{hint}"), errno }
    }

    /// One that no errno says.
    fn refused(key: &str, why: impl std::fmt::Display) -> Self {
        Self::Text { text: format!("hardening.{key}: {why}"), errno: libc::EINVAL }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Stage(failure)
    }
}

/// Somebody has executed us to do this.
#[derive(Debug)]
pub struct Call {
    report: RawFd,
}

/// Whether these are the words of one who wants a program to be kept from something.
#[must_use]
pub fn asked_for(mut words: impl Iterator<Item = OsString>) -> Option<Call> {
    words.next().filter(|name| name == OsStr::new(NAME))?;
    let report = words.next()?.to_str()?.parse().ok()?;
    Some(Call { report })
}

impl Call {
    /// Becomes the program. Returns only when that is impossible, after it was reported.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let done = std::panic::catch_unwind(|| carry_out(self.report));
        let (stage, errno, text) = match done {
            Ok(Trouble::Stage((stage, errno))) => (stage, errno, String::new()),
            Ok(Trouble::Text { text, errno }) => (Stage::Sandbox, errno, text),
            Err(_) => (Stage::Sandbox, libc::EINVAL, "hardening: a bug of ours".to_owned()),
        };
        let words = [stage.code(), errno].map(i32::to_ne_bytes);
        // In one piece, which a pipe takes whole up to this length (pipe(7)).
        let mut packet: Vec<u8> = words.concat();
        packet.extend_from_slice(text.as_bytes());
        packet.truncate(libc::PIPE_BUF);
        // SAFETY: the bytes are ours, and their length is what is said.
        unsafe { libc::write(self.report, packet.as_ptr().cast(), packet.len()) };
        ExitCode::from(127)
    }
}

fn carry_out(report: RawFd) -> Trouble {
    match prepare(report) {
        // Nothing is opened any more: the filter, if there is one, is the last.
        Ok(prepared) => Trouble::Stage(child::execute(&prepared)),
        Err(trouble) => trouble,
    }
}

fn prepare(report: RawFd) -> Result<Prepared, Trouble> {
    let (spec, sandbox) = errand(report)
        .map_err(|e| Trouble::refused("*", format!("cannot read what is to be done: {e}")))?
        .into_spec();
    let prepared = Prepared::new(spec)
        .map_err(|e| Trouble::Text { text: e.to_string(), errno: e.errno.max(1) })?;
    let hardening = &sandbox.hardening;
    // Places that are made for mounts can be gone through by everybody.
    umask(Mode::from_bits_truncate(0o022));
    let filters = filters::Filters::new(hardening)?;
    let rules = if hardening.mounts() { mounts::make(&sandbox)? } else { None };
    umask(Mode::from_bits_truncate(prepared.umask));
    // std ignores SIGPIPE and handles SIGSEGV.
    child::reset_signals();
    child::set_limits(&prepared)?;
    capabilities::limit(hardening)?;
    if let Some(identity) = &prepared.identity {
        capabilities::keep(hardening)?;
        child::change_identity(identity)?;
        child::verify_identity(identity, &prepared.groups_read)?;
    }
    if prepared.no_capabilities {
        child::at(Stage::Capabilities, child::drop_inheritable())?;
    }
    capabilities::raise(hardening)?;
    child::settle(&prepared)?;
    child::announce(report);
    child::unblock()?;
    if let Some((key, rules)) = rules {
        let refused = |why| Trouble::refused(key, format!("cannot restrict itself: {why}"));
        rules.restrict_self().map_err(refused)?;
    }
    if hardening.filters() {
        executable(&prepared)?;
        filters.put_on()?;
    }
    Ok(prepared)
}

/// A filter may forbid to tell why an exec has failed: so what can be known is known before.
fn executable(prepared: &Prepared) -> Result<(), Failure> {
    let access = |path: &CString| nix::unistd::access(path.as_c_str(), AccessFlags::X_OK);
    let mut errno = Errno::ENOENT;
    for path in &prepared.candidates {
        match access(path) {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(other) => errno = other,
        }
    }
    Err((Stage::Exec, std::io::Error::from(errno).raw_os_error().unwrap_or(libc::ENOENT)))
}

/// Whether this process may make mounts of its own, as far as its capabilities say.
#[must_use]
pub fn may_mount() -> bool {
    /// `CAP_SYS_ADMIN`, the effective one.
    const ADMIN: u32 = 1 << 21;
    let header = [0x2008_0522_u32, 0];
    let mut sets = [[0_u32; 3]; 2];
    let read = call!(SYS_capget, header.as_ptr(), sets.as_mut_ptr());
    let [[effective, ..], _] = sets;
    read.is_ok() && effective & ADMIN != 0
}

/// What is to be done, from the descriptor behind the report's. It and the report end with the
/// exec of the program.
fn errand(report: RawFd) -> std::io::Result<Errand> {
    let number = report.saturating_add(1);
    for fd in [report, number] {
        // SAFETY: touches no memory, and fails where there is no such descriptor (fcntl(2)).
        let set = unsafe { libc::fcntl(fd, libc::F_SETFD, FdFlag::FD_CLOEXEC.bits()) };
        if set == -1 {
            return Err(std::io::Error::last_os_error());
        }
    }
    // SAFETY: it is open, as the loop above has found, and nobody else in this process knows of it.
    let mut file = unsafe { File::from_raw_fd(number) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_name_asks_for_it() {
        let words = |words: &[&str]| asked_for(words.iter().map(OsString::from)).map(|c| c.report);
        assert_eq!(words(&[NAME, "3"]), Some(3));
        assert_eq!(words(&[NAME]), None);
        assert_eq!(words(&["supervisor", "3"]), None);
        assert_eq!(words(&[]), None);
    }

    #[test]
    fn an_errand_comes_back_as_it_was_given() {
        let mut spec = SpawnSpec::new(vec!["/bin/true".into(), "a b".into()]);
        spec.env = vec![("A".into(), "1".into())];
        spec.identity = Some(Identity { uid: 1, gid: 2, groups: vec![3] });
        spec.open_files = Some(Pair { soft: 5, hard: 6 });
        let mut bytes = Vec::new();
        let text = serde_json::to_vec(&Errand::of(&spec)).unwrap();
        File::from(sealed(&text).unwrap()).read_to_end(&mut bytes).unwrap();
        let (back, _) = serde_json::from_slice::<Errand>(&bytes).unwrap().into_spec();
        assert_eq!((&back.argv, &back.env), (&spec.argv, &spec.env));
        assert_eq!((&back.identity, back.open_files), (&spec.identity, spec.open_files));
    }
}
