//! Everything that a child needs, allocated before there is a child.

use std::{
    ffi::{CString, OsStr, c_char},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    ptr,
};

use super::{
    Cgroup, Identity, SpawnError, SpawnSpec, Stage, as_is, own_pid::OwnPid, sandbox::Helper,
};
use crate::{
    model::{IoNice, Resource},
    sys::rlimit::{Pair, descriptor_limit, kernel_number, kernel_value},
};

/// Where a command is looked for when the environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A child about to be made. Holds the descriptors that the child gets, until it is dropped.
#[derive(Debug)]
pub struct Prepared {
    /// What execve(2) is tried with, in this order.
    pub(super) candidates: Vec<CString>,
    pub(super) argv: Strings,
    pub(super) envp: Strings,
    pub(super) working_directory: CString,
    pub(super) umask: u32,
    pub(super) identity: Option<Identity>,
    /// Resource, soft, hard.
    pub(super) rlimits: Vec<(u32, [u64; 2])>,
    pub(super) nice: Option<i32>,
    pub(super) ioprio: Option<i32>,
    /// The text to write.
    pub(super) oom_score_adj: Option<Vec<u8>>,
    /// A bit mask in the kernel's form.
    pub(super) affinity: Vec<usize>,
    pub(super) no_new_privileges: bool,
    /// Nothing inheritable: a supervisor without privileges alone may hand on what it was given.
    pub(super) no_capabilities: bool,
    /// The child's descriptors by their numbers, 0, 1, 2, … upwards, perhaps with a gap; all of
    /// them above the last of those numbers, so none overwrites another.
    pub(super) descriptors: Vec<(RawFd, OwnedFd)>,
    /// The number behind the highest of them.
    pub(super) above_descriptors: RawFd,
    pub(super) new_session: bool,
    pub(super) cgroup: Option<Cgroup>,
    /// What is executed first, to do the rest.
    pub(super) helper: Option<Helper>,
    /// It is run as if we were not there: of the above only the command and the limits count.
    pub(super) as_is: Option<as_is::Ready>,
    /// A variable with the child's own process id.
    pub(super) own_pid: Option<OwnPid>,
    /// Room to read the groups back.
    pub(super) groups_read: Vec<u32>,
    /// Above every descriptor that can be open, for kernels without `close_range(2)`.
    pub(super) descriptor_limit: i32,
    command: Box<str>,
}

impl Prepared {
    /// Makes everything ready for one execution of `spec`.
    ///
    /// # Errors
    /// Stage [`Stage::Preparation`]: an empty command, a NUL byte, an id that means "leave as it
    /// is", no descriptor.
    pub fn new(mut spec: SpawnSpec) -> Result<Self, SpawnError> {
        let name = spec.argv.first().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| invalid("an empty command"))?;
        let command: Box<str> = name.to_string_lossy().into();
        let candidates = candidates(name, &spec.env)?;
        let argv = spec.argv.iter().map(|a| c_string(a.as_bytes(), "an argument"));
        let argv: Vec<CString> = argv.collect::<Result<_, _>>()?;
        let own_pid = spec.own_pid.map(OwnPid::new);
        let (as_is, envp) = if let Some(as_is) = spec.as_is.take() {
            let (others, listens) = without_our_listen_pid(&spec.env);
            let ready = as_is::Ready::new(as_is, &candidates, &argv, listens);
            let envp = Strings::with(environment(&others)?, ready.variable());
            (Some(ready), envp)
        } else {
            let variable = own_pid.as_ref().map(OwnPid::as_ptr);
            (None, Strings::with(environment(&spec.env)?, variable))
        };
        let argv = Strings::new(argv);
        let directory = spec.working_directory.as_os_str().as_bytes();
        let identity = spec.identity.clone().map(checked).transpose()?;
        let rlimits = rlimits(&spec);
        let descriptors = if as_is.is_some() {
            Vec::new()
        } else {
            let standard = [spec.stdin.take(), spec.stdout.take(), spec.stderr.take()];
            descriptors(standard, std::mem::take(&mut spec.extra), spec.placed.take())?
        };
        let helper = spec.sandbox.is_some().then(|| Helper::new(&spec, first_free(&descriptors)));
        let helper = helper.transpose()?;
        let highest = descriptors.iter().map(|(_, fd)| fd.as_raw_fd()).max();
        let highest = highest.max(helper.as_ref().map(Helper::highest));
        let groups_read = identity.as_ref().map_or(0, |i| i.groups.len().saturating_add(1));
        Ok(Self {
            candidates,
            argv,
            envp,
            working_directory: c_string(directory, "the working directory")?,
            umask: spec.umask & 0o777,
            groups_read: vec![0; groups_read],
            no_capabilities: identity.is_some() || nix::unistd::geteuid().is_root(),
            identity,
            rlimits,
            nice: spec.nice.map(i32::from),
            ioprio: spec.ionice.map(ioprio),
            oom_score_adj: spec.oom_score_adj.map(|score| score.to_string().into_bytes()),
            affinity: cpu_mask(&spec.cpu_affinity),
            no_new_privileges: spec.no_new_privileges,
            new_session: spec.new_session,
            cgroup: spec.cgroup,
            helper,
            as_is,
            own_pid,
            descriptors,
            above_descriptors: highest.map_or(0, |highest| highest.saturating_add(1)),
            descriptor_limit: descriptor_limit(),
            command,
        })
    }

    /// What the child was doing when it was killed before it could execute.
    #[must_use]
    pub fn killed_at(&self, stage: Stage) -> SpawnError {
        self.error(stage, 0)
    }

    /// Whether the child becomes a user who could not signal us: then it must not be waited for,
    /// see [`super`].
    #[must_use]
    pub fn becomes_another_user(&self) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        self.identity.as_ref().is_some_and(|identity| identity.uid != own)
    }

    /// Whether our own binary is executed first: then only [`super::fork`] knows what came of it.
    #[must_use]
    pub fn has_a_sandbox(&self) -> bool {
        self.helper.is_some()
    }

    /// Whether it begins in a cgroup of its own: then it is not to be made by [`super::vfork`],
    /// which knows of none.
    #[must_use]
    pub fn has_a_cgroup(&self) -> bool {
        self.cgroup.is_some()
    }

    /// The object of an error at this stage, in the user's words.
    pub(super) fn error(&self, stage: Stage, errno: i32) -> SpawnError {
        let object = match stage {
            Stage::WorkingDirectory => self.working_directory.to_string_lossy().into(),
            Stage::Exec => self.command.clone(),
            Stage::Uid => self.identity.as_ref().map_or(0, |i| i.uid).to_string().into(),
            Stage::Gid => self.identity.as_ref().map_or(0, |i| i.gid).to_string().into(),
            Stage::Preparation
            | Stage::Fork
            | Stage::Session
            | Stage::OomScore
            | Stage::Priority
            | Stage::Affinity
            | Stage::Descriptors
            | Stage::Limits
            | Stage::Groups
            | Stage::Verification
            | Stage::Capabilities
            | Stage::NoNewPrivileges
            | Stage::Cgroup
            | Stage::Sandbox => Box::default(),
        };
        SpawnError::new(stage, errno, object)
    }

    /// The number behind the last of the child's descriptors.
    pub(super) fn first_free(&self) -> RawFd {
        first_free(&self.descriptors)
    }
}

fn first_free(descriptors: &[(RawFd, OwnedFd)]) -> RawFd {
    descriptors.last().map_or(0, |(number, _)| number.saturating_add(1))
}

/// Behind them stand the report of `fork`, and what the helper is given: its errand and itself.
pub(super) const RESERVED: RawFd = 3;

/// Strings and the null-terminated array of pointers to them that execve(2) wants.
#[derive(Debug)]
pub(super) struct Strings {
    /// Owns what `pointers` points to: the heap blocks, which do not move when this struct does.
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    pub(super) fn new(owned: Vec<CString>) -> Self {
        Self::with(owned, None)
    }

    /// And one more, which the caller owns.
    fn with(owned: Vec<CString>, one_more: Option<*const c_char>) -> Self {
        let ends = std::iter::once(ptr::null());
        let pointers = owned.iter().map(|s| s.as_ptr()).chain(one_more).chain(ends).collect();
        Self { _owned: owned, pointers }
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

pub(super) fn invalid(what: &str) -> SpawnError {
    SpawnError::new(Stage::Preparation, libc::EINVAL, what)
}

fn c_string(bytes: &[u8], what: &str) -> Result<CString, SpawnError> {
    CString::new(bytes).map_err(|_| invalid(&format!("{what} with a NUL byte")))
}

/// A variable.
type Variable = (std::ffi::OsString, std::ffi::OsString);

/// All variables but a `LISTEN_PID` that means us, and whether there was one: the sockets that
/// systemd passes are then the child's (`sd_listen_fds(3)`).
fn without_our_listen_pid(env: &[Variable]) -> (Vec<Variable>, bool) {
    let own = std::process::id().to_string();
    let is_ours = |(name, value): &&Variable| name == "LISTEN_PID" && *value == *own;
    let others = env.iter().filter(|one| !is_ours(one)).cloned().collect();
    (others, env.iter().any(|one| is_ours(&one)))
}

pub(super) fn environment(env: &[Variable]) -> Result<Vec<CString>, SpawnError> {
    let entry = |(name, value): &Variable| {
        let text = [name.as_bytes(), b"=", value.as_bytes()].concat();
        c_string(&text, "a variable")
    };
    env.iter().map(entry).collect()
}

/// The paths that execvp(3) would try: every directory of PATH, an empty one meaning the working
/// directory.
fn candidates(name: &OsStr, env: &[Variable]) -> Result<Vec<CString>, SpawnError> {
    let name = name.as_bytes();
    if name.contains(&b'/') {
        return Ok(vec![c_string(name, "the command")?]);
    }
    let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_bytes());
    let directories = path.unwrap_or(DEFAULT_PATH).split(|b| *b == b':');
    directories
        .map(|directory| {
            let directory = if directory.is_empty() { b"." } else { directory };
            c_string(&[directory, b"/", name].concat(), "the command")
        })
        .collect()
}

fn checked(mut identity: Identity) -> Result<Identity, SpawnError> {
    if identity.uid == u32::MAX || identity.gid == u32::MAX || identity.groups.contains(&u32::MAX) {
        return Err(invalid("user or group 4294967295"));
    }
    // The kernel hands them back sorted: so they can be compared.
    identity.groups.sort_unstable();
    identity.groups.dedup();
    Ok(identity)
}

pub(super) fn rlimits(spec: &SpawnSpec) -> Vec<(u32, [u64; 2])> {
    let declared = spec.rlimits.iter().any(|(resource, _)| *resource == Resource::Nofile);
    let original = spec.open_files.filter(|_| !declared);
    let original =
        original.map(|Pair { soft, hard }| (kernel_number(Resource::Nofile), [soft, hard]));
    let named = spec.rlimits.iter().map(|(resource, value)| {
        let value = kernel_value(*value);
        (kernel_number(*resource), [value, value])
    });
    original.into_iter().chain(named).collect()
}

/// Class in the upper bits, level in the lower 13 (`ioprio_set(2)`).
fn ioprio(value: IoNice) -> i32 {
    let (class, level) = match value {
        IoNice::Realtime(level) => (1, level),
        IoNice::BestEffort(level) => (2, level),
        IoNice::Idle => (3, 0),
    };
    (class << 13) | i32::from(level)
}

fn cpu_mask(cpus: &[u16]) -> Vec<usize> {
    let bits = usize::try_from(usize::BITS).unwrap_or(32);
    let words = cpus.iter().map(|cpu| usize::from(*cpu) / bits + 1).max().unwrap_or(0);
    let mut mask = vec![0_usize; words];
    for cpu in cpus.iter().map(|cpu| usize::from(*cpu)) {
        if let Some(word) = mask.get_mut(cpu / bits) {
            *word |= 1 << (cpu % bits);
        }
    }
    mask
}

/// Descriptors for 0, 1, 2, 3, … and for a number that is named, in the order of these numbers;
/// their present ones are above all of those.
fn descriptors(
    standard: [Option<OwnedFd>; 3],
    extra: Vec<OwnedFd>,
    placed: Option<(u16, OwnedFd)>,
) -> Result<Vec<(RawFd, OwnedFd)>, SpawnError> {
    let standard = standard.into_iter().map(|fd| fd.map_or_else(dev_null, Ok));
    let named = placed.as_ref().map(|(number, _)| RawFd::from(*number));
    let numbers = (0..).filter(|number| Some(*number) != named);
    let all = standard.chain(extra.into_iter().map(Ok));
    let mut all: Vec<(RawFd, OwnedFd)> = numbers
        .zip(all)
        .map(|(number, fd)| Ok((number, fd?)))
        .collect::<Result<_, SpawnError>>()?;
    all.extend(placed.map(|(number, fd)| (RawFd::from(number), fd)));
    all.sort_unstable_by_key(|(number, _)| *number);
    let above = first_free(&all).saturating_add(RESERVED);
    all.into_iter().map(|(number, fd)| Ok((number, lift(fd, above)?))).collect()
}

fn dev_null() -> Result<OwnedFd, SpawnError> {
    let file = std::fs::File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).map_err(|e| {
        SpawnError::new(Stage::Preparation, e.raw_os_error().unwrap_or(0), "/dev/null")
    })
}

/// The same open file under a number that is at least `above`.
pub(super) fn lift(fd: OwnedFd, above: RawFd) -> Result<OwnedFd, SpawnError> {
    if fd.as_raw_fd() >= above { Ok(fd) } else { duplicate(&fd, above) }
}

/// A descriptor that stays open, under a number out of the way of those that children are given:
/// so the part of the table that a child takes with it ([`super::vfork`]) stays small. Where the
/// limit allows no such number it stays where it is.
#[must_use]
pub fn aside(fd: OwnedFd) -> OwnedFd {
    /// More than are open for anything but programs.
    const ASIDE: RawFd = 64;
    duplicate(&fd, ASIDE).unwrap_or(fd)
}

fn duplicate(fd: &OwnedFd, above: RawFd) -> Result<OwnedFd, SpawnError> {
    // SAFETY: `fd` is open, and F_DUPFD_CLOEXEC touches no memory of ours (fcntl(2)).
    let raw = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
    if raw < 0 {
        let errno = nix::errno::Errno::last_raw();
        return Err(SpawnError::new(Stage::Preparation, errno, "a descriptor"));
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_a_slash_is_looked_for_in_the_path() {
        let env = vec![("PATH".into(), "/a::/b".into())];
        let found = candidates(OsStr::new("x"), &env).unwrap();
        assert_eq!(found, [c"/a/x".to_owned(), c"./x".to_owned(), c"/b/x".to_owned()]);
        let found = candidates(OsStr::new("bin/x"), &env).unwrap();
        assert_eq!(found, [c"bin/x".to_owned()]);
        assert_eq!(candidates(OsStr::new("x"), &[]).unwrap().len(), 6);
    }

    #[test]
    fn what_cannot_be_executed_is_refused_before_there_is_a_child() {
        for (argv, what) in [
            (vec![], "an empty command"),
            (vec!["".into()], "an empty command"),
            (vec!["/bin/true".into(), "a\0b".into()], "an argument with a NUL byte"),
        ] {
            let error = Prepared::new(SpawnSpec::new(argv)).unwrap_err();
            assert_eq!((error.stage, &*error.object), (Stage::Preparation, what));
        }
    }

    #[test]
    fn minus_one_is_no_user() {
        let mut spec = SpawnSpec::new(vec!["/bin/true".into()]);
        spec.identity = Some(Identity { uid: u32::MAX, gid: 0, groups: vec![] });
        assert_eq!(Prepared::new(spec).unwrap_err().stage, Stage::Preparation);
    }

    #[test]
    fn cpus_become_bits() {
        assert_eq!(cpu_mask(&[]), Vec::<usize>::new());
        assert_eq!(cpu_mask(&[0, 2]), vec![5]);
        assert_eq!(cpu_mask(&[64]).last(), Some(&1));
    }
}
