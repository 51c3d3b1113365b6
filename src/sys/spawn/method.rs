//! The two ways to make a child, and how its failure comes back.

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr,
    sync::{
        LazyLock,
        atomic::{AtomicI32, Ordering},
    },
};

use nix::errno::Errno;

use super::{
    Cgroup, SpawnError, Stage,
    child::{self, become_program, leave_our_descriptors},
    prepared::{Prepared, lift},
};
use crate::sys::{Pid, child::LiveChild, error::is_shortage};

/// What the pipe of [`fork`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The child is still on its way.
    Pending,
    /// The child has come so far; there is more to be read, now or later.
    Reached(Stage),
    /// The child goes on without what is named; there is more to be read, now or later.
    Without(SpawnError),
    /// The program runs, or was killed before it could say why not
    /// ([`has_executed`](super::super::tree::has_executed) knows).
    Executed,
    /// There is no program; the child ends by itself with code 127, which means nothing.
    NotExecuted(SpawnError),
}

/// Starts the program and waits until it is executed, with all signals blocked in this thread
/// meanwhile.
///
/// clone(2) with `CLONE_VM | CLONE_VFORK`: no memory is copied, and a failure is known at once.
/// With `CLONE_FILES` neither is the table of descriptors, of which a supervisor of a thousand
/// programs has thousands: the child's first act is to leave it and to take with it only what lies
/// below and among its own.
///
/// # Errors
/// Why there is no program. Then there is no child either: it has been reaped.
pub fn vfork(prepared: &Prepared) -> Result<LiveChild, SpawnError> {
    let stack = Stack::new().map_err(|errno| prepared.error(Stage::Preparation, errno))?;
    let (one_table, stage, errno) = (
        // Who keeps our descriptors has a whole copy of the table.
        *CAN_LEAVE && prepared.as_is.is_none(),
        AtomicI32::new(0),
        AtomicI32::new(0),
    );
    let shared = Shared { prepared, one_table, stage, errno };
    let (pid, errno) = {
        let _blocked = SignalsBlocked::new();
        let table = if one_table { libc::CLONE_FILES } else { 0 };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | table | libc::SIGCHLD;
        let argument = ptr::from_ref(&shared).cast_mut().cast();
        // SAFETY: the stack is ours, unused and large enough for `vfork_child`, which only makes
        // system calls; `shared` outlives the child's use of it, for this thread stands still
        // until the child executes or ends (CLONE_VFORK).
        let pid = unsafe { libc::clone(vfork_child, stack.top(), flags, argument) };
        (pid, Errno::last_raw())
    };
    let Some(pid) = Pid::new(pid) else { return Err(prepared.error(Stage::Fork, errno)) };
    let child = LiveChild::new(pid);
    match Stage::from_code(shared.stage.load(Ordering::Acquire)) {
        None => Ok(child),
        Some(stage) => {
            child.reap_failed();
            Err(prepared.error(stage, shared.errno.load(Ordering::Acquire)))
        }
    }
}

/// What parent and child of [`vfork`] have in common.
struct Shared<'a> {
    prepared: &'a Prepared,
    /// Whether the child begins in our table of descriptors.
    one_table: bool,
    stage: AtomicI32,
    errno: AtomicI32,
}

extern "C" fn vfork_child(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `vfork` passes a pointer to its `Shared`, and stands still.
    let shared = unsafe { &*argument.cast::<Shared<'_>>() };
    let alone = if shared.one_table { leave_our_descriptors(shared.prepared) } else { Ok(()) };
    let (stage, errno) = match alone {
        Ok(()) => become_program(shared.prepared, false),
        Err(failure) => failure,
    };
    shared.errno.store(errno, Ordering::Release);
    shared.stage.store(stage.code(), Ordering::Release);
    // SAFETY: ends this process only; nothing of the shared memory is dropped (_exit(2)).
    unsafe { libc::_exit(127) }
}

/// Whether the kernel lets a child leave a table of descriptors cheaply: `close_range(2)` since
/// Linux 5.9, unless a filter forbids it.
static CAN_LEAVE: LazyLock<bool> = LazyLock::new(|| {
    // SAFETY: closes no descriptor: none has this number.
    unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) == 0 }
});

/// Starts the program without waiting for it: the pipe says what came of it ([`read_report`]).
///
/// # Errors
/// Why there is no child.
pub fn fork(prepared: &Prepared) -> Result<(LiveChild, OwnedFd), SpawnError> {
    let flags = nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK;
    let (reader, writer) = nix::unistd::pipe2(flags).map_err(|e| {
        SpawnError::new(Stage::Preparation, std::io::Error::from(e).raw_os_error().unwrap_or(0), "")
    })?;
    let (writer, place) = if prepared.as_is.is_some() {
        let place = writer.as_raw_fd();
        (writer, place)
    } else {
        let place = prepared.first_free();
        (lift(writer, place.saturating_add(1))?, place)
    };
    let blocked = SignalsBlocked::new();
    let (pid, is_in_cgroup) = twin(prepared);
    if pid == 0 {
        if !is_in_cgroup {
            enter_late(prepared, writer.as_raw_fd());
        }
        fork_child(prepared, writer.as_raw_fd(), place);
    }
    let errno = Errno::last_raw();
    drop(blocked);
    match Pid::new(pid) {
        Some(pid) => Ok((LiveChild::new(pid), reader)),
        None => Err(prepared.error(Stage::Fork, errno)),
    }
}

/// Makes the child: 0 in it, and whether it is in its cgroup. Kernels that can do so (clone3(2),
/// Linux 5.7) have it begin its life there.
fn twin(prepared: &Prepared) -> (i32, bool) {
    /// `CLONE_INTO_CGROUP`.
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    if let Some(Cgroup { directory, moved: false }) = &prepared.cgroup {
        let directory = u64::from(directory.as_raw_fd().cast_unsigned());
        let at_death = u64::from(libc::SIGCHLD.cast_unsigned());
        // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
        // tls, set_tid, set_tid_size, cgroup. A copy of all our memory, as of fork(2).
        let words = [INTO_CGROUP, 0, 0, 0, at_death, 0, 0, 0, 0, 0, directory];
        // SAFETY: the arguments are as long as is said. The child only makes system calls until it
        // executes or ends (`fork_child`): the C library need not know of it.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, words.as_ptr(), size_of_val(&words)) };
        // Whatever else it is (an old kernel, a filter, a cgroup that was removed), the child can
        // try for itself.
        if pid >= 0 || is_shortage(Errno::last_raw()) {
            return (i32::try_from(pid).unwrap_or(-1), true);
        }
    }
    // SAFETY: the child only makes system calls until it executes or ends (`fork_child`).
    (unsafe { libc::fork() }, false)
}

/// In the child, before anything else: into its cgroup. What keeps it out is told as a number below
/// zero, as it is no failure.
fn enter_late(prepared: &Prepared, report: RawFd) {
    let Some(cgroup) = &prepared.cgroup else { return };
    let Err(errno) = child::enter_cgroup(&cgroup.directory) else { return };
    let words = [Stage::Cgroup.code(), errno.wrapping_neg()];
    // SAFETY: `words` is 8 bytes long, and a pipe takes them whole (pipe(7)).
    unsafe { libc::syscall(libc::SYS_write, report, words.as_ptr(), size_of_val(&words)) };
}

fn fork_child(prepared: &Prepared, report: RawFd, place: RawFd) -> ! {
    // Whoever keeps our descriptors has the report where it is. FORK-SAFETY: dup3, write and _exit
    // are system calls; see `child`.
    let moved = if report == place {
        0
    } else {
        // SAFETY: both are numbers of this process; the report is above `place`, which is nobody's
        // source.
        unsafe { libc::syscall(libc::SYS_dup3, report, place, libc::O_CLOEXEC) }
    };
    let (stage, errno) = if moved < 0 {
        (Stage::Descriptors, Errno::last_raw())
    } else {
        become_program(prepared, true)
    };
    let words = [stage.code(), errno];
    let target = if moved < 0 { report } else { place };
    // SAFETY: `words` is 8 bytes long, and a pipe takes them whole (pipe(7)).
    unsafe { libc::syscall(libc::SYS_write, target, words.as_ptr(), size_of_val(&words)) };
    // SAFETY: ends this process only (_exit(2)).
    unsafe { libc::_exit(127) }
}

/// Reads, without waiting, what the child of [`fork`] reports. `prepared` is what it was made from.
///
/// Ask this before believing an exit: a child that could not execute ends with code 127 after it
/// has said why.
#[must_use]
pub fn read_report(pipe: &OwnedFd, prepared: &Prepared) -> Report {
    let mut bytes = [0_u8; 8];
    loop {
        return match nix::unistd::read(pipe, &mut bytes) {
            Ok(8) => {
                let [stage, errno] = words(bytes);
                let stage = Stage::from_code(stage).unwrap_or(Stage::Preparation);
                match errno {
                    0 => Report::Reached(stage),
                    ..0 => Report::Without(prepared.error(stage, errno.wrapping_neg())),
                    1.. if stage == Stage::Sandbox => {
                        let error = SpawnError::new(stage, errno, text_behind(pipe));
                        Report::NotExecuted(error)
                    }
                    1.. => Report::NotExecuted(prepared.error(stage, errno)),
                }
            }
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Report::Pending,
            Ok(_) | Err(_) => Report::Executed,
        };
    }
}

/// What the helper wrote behind its numbers, in the same write: it is there, and it is the last.
fn text_behind(pipe: &OwnedFd) -> Box<str> {
    let mut bytes = [0_u8; libc::PIPE_BUF];
    let length = nix::unistd::read(pipe, &mut bytes).unwrap_or(0);
    String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into()
}

/// The two numbers that the child wrote.
fn words(bytes: [u8; 8]) -> [i32; 2] {
    let mut words = bytes.chunks_exact(4).filter_map(|half| half.try_into().ok());
    [(); 2].map(|()| words.next().map_or(0, i32::from_ne_bytes))
}

/// All signals blocked in this thread, glibc's own included, until it is dropped.
struct SignalsBlocked {
    before: u64,
}

impl SignalsBlocked {
    fn new() -> Self {
        let (all, mut before) = (u64::MAX, 0_u64);
        set_mask(&raw const all, &raw mut before);
        Self { before }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        set_mask(&raw const self.before, ptr::null_mut());
    }
}

fn set_mask(new: *const u64, old: *mut u64) {
    // SAFETY: both point to the 8 bytes of a kernel signal set, or are null (rt_sigprocmask(2)).
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, 8_usize) };
}

/// A stack for the child of [`vfork`], with a page below that may not be touched.
struct Stack {
    base: *mut libc::c_void,
}

impl Stack {
    const GUARD: usize = 64 * 1024;
    const SIZE: usize = Self::GUARD + 128 * 1024;

    fn new() -> Result<Self, i32> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel likes (mmap(2)).
        let base = unsafe { libc::mmap(ptr::null_mut(), Self::SIZE, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last_raw());
        }
        let stack = Self { base };
        // SAFETY: the lowest pages of the mapping just made; nobody uses them.
        if unsafe { libc::mprotect(base, Self::GUARD, libc::PROT_NONE) } == -1 {
            return Err(Errno::last_raw());
        }
        Ok(stack)
    }

    fn top(&self) -> *mut libc::c_void {
        // The end of the mapping, page-aligned, so aligned for a stack (clone(2): it grows down).
        self.base.wrapping_byte_add(Self::SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the child that used it has executed or ended.
        unsafe { libc::munmap(self.base, Self::SIZE) };
    }
}
