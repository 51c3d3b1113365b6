//! What happens between fork and exec: system calls, nothing else.
//!
//! FORK-SAFETY: this runs in a copy of a process with threads (`fork`) or in the very memory of
//! the parent (`vfork`). So nothing here allocates, locks, panics, formats or drops anything that
//! owns; no C library function with state is called, only system calls by number: glibc's own
//! setuid would ask threads to follow that are not here. All signals are blocked from before the
//! fork, and unblocked after every handler is gone. `errno` is the calling thread's, which stands
//! still or is a copy.

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr,
};

use super::{Failure, Identity, Stage, as_is, prepared::Prepared, sandbox::Helper};

/// The set-id calls with ids of 32 bits, which have names of their own where the first ones had 16.
mod ids {
    #[cfg(not(any(target_arch = "x86", target_arch = "arm", target_arch = "m68k")))]
    pub(super) use libc::{
        SYS_getgroups, SYS_getresgid, SYS_getresuid, SYS_setgroups, SYS_setresgid, SYS_setresuid,
        SYS_setuid,
    };
    #[cfg(any(target_arch = "x86", target_arch = "arm", target_arch = "m68k"))]
    pub(super) use libc::{
        SYS_getgroups32 as SYS_getgroups, SYS_getresgid32 as SYS_getresgid,
        SYS_getresuid32 as SYS_getresuid, SYS_setgroups32 as SYS_setgroups,
        SYS_setresgid32 as SYS_setresgid, SYS_setresuid32 as SYS_setresuid,
        SYS_setuid32 as SYS_setuid,
    };
}

/// A system call by number; the error is the errno.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => { call!(libc::$number $(, $argument)*) };
    ($number:path $(, $argument:expr)*) => {{
        // SAFETY: each argument is what the man page of the call asks for; pointers are to memory
        // of `Prepared` or of this stack, which outlives the call.
        let result = unsafe { libc::syscall($number $(, $argument)*) };
        if result == -1 { Err(nix::errno::Errno::last_raw()) } else { Ok(result) }
    }};
}
pub(super) use call;

/// Becomes the program. Returns only when that is impossible; the caller reports and ends the
/// process.
///
/// `report` is the descriptor that the failure will be written to; it must be the first above the
/// child's own.
pub(super) fn become_program(prepared: &Prepared, report: bool) -> Failure {
    match set_up(prepared, report) {
        Ok(()) => execute(prepared),
        Err(failure) => failure,
    }
}

/// Out of the parent's table of descriptors, which its threads go on using: into one of our own
/// with the lower numbers, up to the highest that we need.
pub(super) fn leave_our_descriptors(prepared: &Prepared) -> Result<(), Failure> {
    let unshare = libc::CLOSE_RANGE_UNSHARE;
    at(Stage::Fork, call!(SYS_close_range, prepared.above_descriptors, u32::MAX, unshare))
}

#[expect(clippy::needless_pass_by_value, reason = "a result is given away")]
pub(super) fn at<T>(stage: Stage, result: Result<T, i32>) -> Result<(), Failure> {
    match result {
        Ok(_) => Ok(()),
        Err(errno) => Err((stage, errno)),
    }
}

fn set_up(prepared: &Prepared, report: bool) -> Result<(), Failure> {
    if let Some(ready) = &prepared.as_is {
        as_is::set_up(ready, prepared)?;
        return unblock();
    }
    if prepared.new_session {
        at(Stage::Session, call!(SYS_setsid))?;
    }
    reset_signals();
    // umask(2) cannot fail.
    at(Stage::Preparation, call!(SYS_umask, prepared.umask))?;
    connect(prepared, report)?;
    // With nothing open but what is the child's: the supervisor may have no descriptor to spare.
    schedule(prepared)?;
    if prepared.helper.is_some() {
        return unblock(); // the rest is the helper's
    }
    // After the last descriptor was opened: the limit may be below the number of those that the
    // supervisor has.
    set_limits(prepared)?;
    if let Some(identity) = &prepared.identity {
        change_identity(identity)?;
        verify_identity(identity, &prepared.groups_read)?;
    }
    if prepared.no_capabilities {
        at(Stage::Capabilities, drop_inheritable())?;
    }
    settle(prepared)?;
    if report {
        announce(prepared.first_free());
    }
    unblock()
}

/// The last that is the same with a helper and without.
pub(super) fn settle(prepared: &Prepared) -> Result<(), Failure> {
    if prepared.no_new_privileges {
        at(
            Stage::NoNewPrivileges,
            call!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1_usize, 0_usize, 0_usize, 0_usize),
        )?;
    }
    if let Some(variable) = &prepared.own_pid {
        variable.write(u32::try_from(call!(SYS_getpid).unwrap_or(0)).unwrap_or(0));
    }
    // As the user: root's permission to enter a directory must not be lent.
    at(Stage::WorkingDirectory, call!(SYS_chdir, prepared.working_directory.as_ptr()))
}

/// Should it hang now, it does not hang in the directory.
pub(super) fn announce(report: RawFd) {
    // No errno: not a failure.
    let words = [Stage::Exec.code(), 0];
    let _lost = call!(SYS_write, report, words.as_ptr(), size_of_val(&words));
    // With nobody to read it there is a SIGPIPE now, waiting to be unblocked: being ignored
    // for a moment takes it away (signal(7)).
    set_action(libc::SIGPIPE, libc::SIG_IGN);
    set_action(libc::SIGPIPE, libc::SIG_DFL);
}

pub(super) fn set_limits(prepared: &Prepared) -> Result<(), Failure> {
    for (resource, limit) in &prepared.rlimits {
        let no_old = ptr::null_mut::<u64>();
        at(Stage::Limits, call!(SYS_prlimit64, 0, *resource, limit.as_ptr(), no_old))?;
    }
    Ok(())
}

/// An empty mask, after every handler is gone.
pub(super) fn unblock() -> Result<(), Failure> {
    let none = 0_u64;
    at(
        Stage::Preparation,
        call!(
            SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&none),
            ptr::null_mut::<u64>(),
            8_usize
        ),
    )
}

/// Every signal to its default, the two of glibc included. KILL and STOP refuse, and are so anyway.
pub(super) fn reset_signals() {
    for signal in 1_i32..=64 {
        set_action(signal, libc::SIG_DFL);
    }
}

pub(super) fn set_action(signal: i32, action: libc::sighandler_t) {
    // The kernel's struct sigaction: the action; no flags, no restorer, an empty mask.
    let mut words = [0_usize; 8];
    let [first, ..] = &mut words;
    *first = action;
    let _refused =
        call!(SYS_rt_sigaction, signal, words.as_ptr(), ptr::null_mut::<usize>(), 8_usize);
}

fn schedule(prepared: &Prepared) -> Result<(), Failure> {
    if let Some(score) = &prepared.oom_score_adj {
        at(Stage::OomScore, write_oom_score(score))?;
    }
    if let Some(nice) = prepared.nice {
        at(Stage::Priority, call!(SYS_setpriority, 0, 0, nice))?;
    }
    if let Some(ioprio) = prepared.ioprio {
        at(Stage::Priority, call!(SYS_ioprio_set, 1, 0, ioprio))?;
    }
    if !prepared.affinity.is_empty() {
        let bytes = prepared.affinity.len().wrapping_mul(size_of::<usize>());
        at(Stage::Affinity, call!(SYS_sched_setaffinity, 0, bytes, prepared.affinity.as_ptr()))?;
    }
    Ok(())
}

fn write_oom_score(score: &[u8]) -> Result<(), i32> {
    let path = c"/proc/self/oom_score_adj";
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    let fd = call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0)?;
    let written = call!(SYS_write, fd, score.as_ptr(), score.len());
    call!(SYS_close, fd)?;
    written.map(drop)
}

/// Moves this process into the cgroup of this directory.
pub(super) fn enter_cgroup(directory: &OwnedFd) -> Result<(), i32> {
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    let file = c"cgroup.procs".as_ptr();
    let fd = call!(SYS_openat, directory.as_raw_fd(), file, flags, 0)?;
    let written = call!(SYS_write, fd, c"0".as_ptr(), 1_usize);
    call!(SYS_close, fd)?;
    written.map(drop)
}

/// 0, 1, 2 and the declared ones in their places, the report behind them, everything else closed:
/// so that a child that hangs before its exec keeps no lock, pipe or socket of the supervisor's
/// open.
fn connect(prepared: &Prepared, report: bool) -> Result<(), Failure> {
    let mut next = 0_i32;
    for (number, fd) in &prepared.descriptors {
        // The present numbers are all above the new ones (`Prepared`): none is overwritten before
        // its turn.
        at(Stage::Descriptors, call!(SYS_dup3, fd.as_raw_fd(), *number, 0))?;
        if next < *number {
            let last = number.wrapping_sub(1).cast_unsigned();
            close_between(next, last, *number);
        }
        next = number.wrapping_add(1);
    }
    if report {
        next = next.wrapping_add(1);
    }
    if let Some(helper) = &prepared.helper {
        // The report and the errand go through its exec, the binary itself does not.
        let report = next.wrapping_sub(1);
        at(Stage::Descriptors, call!(SYS_fcntl, report, libc::F_SETFD, 0))?;
        at(Stage::Descriptors, call!(SYS_dup3, helper.errand.as_raw_fd(), next, 0))?;
        next = next.wrapping_add(1);
        let itself = helper.binary.as_raw_fd();
        at(Stage::Descriptors, call!(SYS_dup3, itself, next, libc::O_CLOEXEC))?;
        next = next.wrapping_add(1);
    }
    close_between(next, u32::MAX, prepared.descriptor_limit);
    Ok(())
}

/// Closes what is open from `first` to `last`, and in any case below `end`.
fn close_between(first: i32, last: u32, end: i32) {
    if call!(SYS_close_range, first, last, 0).is_err() {
        // Before Linux 5.9, or forbidden by a filter.
        for fd in first..end {
            let _not_open = call!(SYS_close, fd);
        }
    }
}

/// Groups first: after the user is changed they could not be.
pub(super) fn change_identity(identity: &Identity) -> Result<(), Failure> {
    let Identity { uid, gid, groups } = identity;
    at(Stage::Groups, call!(ids::SYS_setgroups, groups.len(), groups.as_ptr()))?;
    at(Stage::Gid, call!(ids::SYS_setresgid, *gid, *gid, *gid))?;
    at(Stage::Uid, call!(ids::SYS_setresuid, *uid, *uid, *uid))
}

/// No capability is handed on over an exec, be it inheritable or ambient (capabilities(7)).
pub(super) fn drop_inheritable() -> Result<(), i32> {
    // struct __user_cap_header_struct: version 3, this process. Then, for the lower and the upper
    // 32 capabilities each: effective, permitted, inheritable.
    let header = [0x2008_0522_u32, 0];
    let mut sets = [[0_u32; 3]; 2];
    call!(SYS_capget, header.as_ptr(), sets.as_mut_ptr())?;
    let [[_, _, low], [_, _, high]] = &mut sets;
    if (*low, *high) == (0, 0) {
        return Ok(()); // what is not inheritable is not ambient either
    }
    (*low, *high) = (0, 0);
    call!(SYS_capset, header.as_ptr(), sets.as_ptr()).map(drop)
}

/// Whether the kernel says the same, and whether root is out of reach.
pub(super) fn verify_identity(identity: &Identity, room: &[u32]) -> Result<(), Failure> {
    let wrong = (Stage::Verification, libc::EPERM);
    let (mut real, mut effective, mut saved) = (0_u32, 0_u32, 0_u32);
    let (r, e, s) = (&raw mut real, &raw mut effective, &raw mut saved);
    at(Stage::Verification, call!(ids::SYS_getresuid, r, e, s))?;
    if [real, effective, saved] != [identity.uid; 3] {
        return Err(wrong);
    }
    let (r, e, s) = (&raw mut real, &raw mut effective, &raw mut saved);
    at(Stage::Verification, call!(ids::SYS_getresgid, r, e, s))?;
    if [real, effective, saved] != [identity.gid; 3] {
        return Err(wrong);
    }
    // One more than we set fits: a longer list is noticed. Nobody else reads or writes this memory.
    let count = call!(ids::SYS_getgroups, room.len(), room.as_ptr().cast_mut());
    let count = count.map_err(|errno| (Stage::Verification, errno))?;
    let same = usize::try_from(count) == Ok(identity.groups.len())
        && room.iter().zip(&identity.groups).all(|(is, wanted)| is == wanted);
    let root_again = identity.uid != 0 && call!(ids::SYS_setuid, 0).is_ok();
    if same && !root_again { Ok(()) } else { Err(wrong) }
}

/// As execvp(3), but what is no executable is given to a shell only where that was asked for.
pub(super) fn execute(prepared: &Prepared) -> Failure {
    if let Some(Helper { argv, envp, .. }) = &prepared.helper {
        // By its descriptor: so it is the binary that runs, whatever is on the disk by now, and
        // /proc is not needed.
        let (binary, path) = (prepared.first_free().wrapping_add(2), c"".as_ptr());
        let (argv, envp) = (argv.as_ptr(), envp.as_ptr());
        let tried = call!(SYS_execveat, binary, path, argv, envp, libc::AT_EMPTY_PATH);
        return (Stage::Sandbox, tried.err().unwrap_or(libc::ENOEXEC));
    }
    let mut errno = libc::ENOENT;
    let only = prepared.candidates.len() == 1;
    for (index, path) in prepared.candidates.iter().enumerate() {
        let tried =
            call!(SYS_execve, path.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr());
        let script = prepared.as_is.as_ref().and_then(|ready| ready.scripts.get(index));
        match (tried, script) {
            // As execvp(3) does, and so every shell and every init.
            (Err(libc::ENOEXEC), Some(argv)) => {
                let shell = c"/bin/sh".as_ptr();
                let tried = call!(SYS_execve, shell, argv.as_ptr(), prepared.envp.as_ptr());
                return (Stage::Exec, tried.err().unwrap_or(libc::ENOEXEC));
            }
            (tried, _) => match tried {
                // A directory that may not be searched hides nothing behind it, but is the better
                // reason in the end.
                Err(libc::EACCES) => errno = libc::EACCES,
                // There is nowhere else to look.
                Err(other) if only => return (Stage::Exec, other),
                // Not here; execve(2) never returns without an error.
                Ok(_)
                | Err(
                    libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT,
                ) => {}
                Err(other) => return (Stage::Exec, other),
            },
        }
    }
    (Stage::Exec, errno)
}
