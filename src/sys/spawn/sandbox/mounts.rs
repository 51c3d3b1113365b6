//! A mount namespace of its own (`mount_namespaces(7)`), and in it what [`super::wishes`] says.
//!
//! All mounts are slaves of those outside: what is mounted here is seen by nobody else, and what is
//! mounted outside later appears here where the mount above it is shared.
//!
//! Everything that stays as it is, is cloned before anything is changed and attached again in its
//! turn: so it keeps the flags that it had, of each mount below it.

use std::{
    ffi::{CStr, CString, OsStr},
    fs,
    io::ErrorKind,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use ::landlock::RulesetCreated;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::{
    Sandbox, Trouble,
    child::call,
    devices::{self, Node},
    landlock,
    wishes::{self, Deed, Wish},
};

/// `OPEN_TREE_CLONE`, and `O_CLOEXEC` as `open_tree(2)` has it.
const CLONE: libc::c_uint = 1 | libc::O_CLOEXEC.cast_unsigned();
/// `AT_RECURSIVE`.
const RECURSIVE: libc::c_uint = 0x8000;
/// `MOVE_MOUNT_F_EMPTY_PATH`.
const FROM_DESCRIPTOR: libc::c_uint = 4;
/// `MOUNT_ATTR_RDONLY`.
const READ_ONLY: u64 = 1;

/// A wish, and the mounts that it takes, made before anything was changed.
struct Ready {
    wish: Wish,
    directory: bool,
    /// What is attached: the path as it was, what it becomes, or a file that is nothing.
    mount: Option<OwnedFd>,
    /// Of a /dev.
    nodes: Vec<Node>,
}

/// Rules of Landlock, and the key to name where they cannot be had.
type Rules = Option<(&'static str, RulesetCreated)>;

/// Makes the namespace and all that is in it. Where that is not allowed it gives rules instead, to
/// be put on at the end.
pub(super) fn make(sandbox: &Sandbox) -> Result<Rules, Trouble> {
    let wishes = wishes::all(sandbox);
    let first = wishes.first().map_or("*", |wish| wish.key);
    let mounts = match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => true,
        Err(Errno::EPERM) => false,
        Err(why) => return Err(Trouble::new(first, "make a mount namespace", why)),
    };
    if mounts {
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING)
            .map_err(|e| Trouble::new(first, "hide its mounts from others", e))?;
    }
    let wishes = wishes.into_iter().filter_map(|wish| real(wish).transpose());
    let wishes =
        wishes::in_order(wishes.collect::<Result<_, _>>()?).map_err(|(wish, hidden)| {
            let (path, hidden) = (wish.path.display(), hidden.display());
            Trouble::refused(wish.key, format!("{path} is below {hidden}, which is hidden"))
        })?;
    if !mounts {
        return Ok(Some((first, landlock::prepare(&wishes)?)));
    }
    let mut masks = masks(&wishes)?;
    let ready = wishes.into_iter().map(|wish| ready(wish, &mut masks));
    let ready = ready.collect::<Result<Vec<_>, _>>()?;
    for one in &ready {
        carry_out(one)?;
    }
    // Directories that are empty but for what was attached in them: nothing can be made there.
    for Ready { wish, .. } in &ready {
        if matches!(wish.deed, Deed::Empty | Deed::Devices(_)) {
            set_read_only(wish, 0)?;
        }
    }
    Ok(None)
}

const NOTHING: Option<&str> = None;

/// The wish with the real path, without links; `None` where it is missing and may be.
fn real(wish: Wish) -> Result<Option<Wish>, Trouble> {
    match fs::canonicalize(&wish.path) {
        Ok(path) => Ok(Some(Wish { path, ..wish })),
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            if wish.optional {
                return Ok(None);
            }
            let path = wish.path.display();
            let text = format!("{path} is not there; write `-{path}` if it may be missing");
            Err(Trouble::refused(wish.key, text))
        }
        Err(why) => Err(failed(&wish, "look at", &why)),
    }
}

fn failed(wish: &Wish, doing: &str, why: &std::io::Error) -> Trouble {
    let errno = Errno::from_raw(why.raw_os_error().unwrap_or(0));
    Trouble::new(wish.key, format!("{doing} {}", wish.path.display()), errno)
}

/// A file that nobody may open, for each file that is hidden. Made in a file system over a
/// directory that is seen again at once: a clone of it holds it.
fn masks(wishes: &[Wish]) -> Result<Vec<OwnedFd>, Trouble> {
    let hidden = |wish: &&Wish| wish.deed == Deed::Hide && !wish.path.is_dir();
    let hidden: Vec<&Wish> = wishes.iter().filter(hidden).collect();
    let Some(first) = hidden.first() else { return Ok(Vec::new()) };
    let refused = |e: Errno| Trouble::new(first.key, "make an empty file", e);
    let places = ["/run", "/tmp", "/dev"].map(Path::new).into_iter();
    let Some(place) = places.into_iter().find(|place| place.is_dir()) else {
        return Err(refused(Errno::ENOENT));
    };
    mount_tmpfs(place, "mode=0700,size=4k").map_err(refused)?;
    let file = place.join("mask");
    let made = nix::sys::stat::mknod(
        &file,
        nix::sys::stat::SFlag::S_IFREG,
        nix::sys::stat::Mode::empty(),
        0,
    );
    let clone = |_| clone(&file).and_then(|fd| read_only(fd.as_raw_fd(), c"", 0).map(|()| fd));
    let clones = made.and_then(|()| hidden.iter().map(clone).collect::<Result<Vec<_>, _>>());
    umount2(place, MntFlags::MNT_DETACH).map_err(refused)?;
    clones.map_err(refused)
}

fn ready(wish: Wish, masks: &mut Vec<OwnedFd>) -> Result<Ready, Trouble> {
    let directory = wish.path.is_dir();
    let mut nodes = Vec::new();
    let mount = match &wish.deed {
        Deed::Hide if directory => None,
        Deed::Hide => masks.pop(),
        Deed::Empty => None,
        Deed::Close if wish.path == Path::new("/") => None,
        Deed::Close | Deed::Keep => Some(cloned(&wish, &wish.path)?),
        Deed::Bind(from) => Some(cloned(&wish, from)?),
        Deed::Devices(patterns) => {
            for path in devices::wanted(patterns) {
                nodes.push(Node { mount: cloned(&wish, &path)?, directory: path.is_dir(), path });
            }
            None
        }
    };
    Ok(Ready { wish, directory, mount, nodes })
}

fn cloned(wish: &Wish, path: &Path) -> Result<OwnedFd, Trouble> {
    clone(path).map_err(|e| Trouble::new(wish.key, format!("take {}", path.display()), e))
}

fn carry_out(ready: &Ready) -> Result<(), Trouble> {
    let Ready { wish, directory, mount, nodes } = ready;
    let refused = |e: Errno| Trouble::new(wish.key, format!("mount {}", wish.path.display()), e);
    match &wish.deed {
        Deed::Hide if *directory => mount_tmpfs(&wish.path, "mode=0000,size=4k")
            .and_then(|()| attribute(&wish.path, 0))
            .map_err(refused)?,
        Deed::Empty => mount_tmpfs(&wish.path, "mode=0755,size=4m").map_err(refused)?,
        Deed::Devices(_) => {
            mount_tmpfs(&wish.path, "mode=0755,size=4m").map_err(refused)?;
            for node in nodes {
                make_place(&node.path, node.directory).map_err(|e| failed(wish, "make", &e))?;
                attach(&node.mount, &node.path).map_err(refused)?;
            }
            devices::link().map_err(|e| failed(wish, "make links in", &e))?;
        }
        Deed::Hide | Deed::Bind(_) | Deed::Keep | Deed::Close => {
            if let Some(mount) = mount {
                make_place(&wish.path, *directory).map_err(|e| failed(wish, "make", &e))?;
                attach(mount, &wish.path).map_err(refused)?;
            }
            if wish.deed == Deed::Close {
                set_read_only(wish, RECURSIVE)?;
            }
        }
    }
    Ok(())
}

fn set_read_only(wish: &Wish, flags: libc::c_uint) -> Result<(), Trouble> {
    let doing = || format!("make {} read-only", wish.path.display());
    attribute(&wish.path, flags).map_err(|e| Trouble::new(wish.key, doing(), e))
}

/// Where something is attached: it may be below what has just been mounted empty.
fn make_place(path: &Path, directory: bool) -> std::io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    if directory {
        return fs::create_dir_all(path);
    }
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::File::create_new(path).map(drop)
}

fn mount_tmpfs(path: &Path, options: &str) -> Result<(), Errno> {
    let flags =
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_STRICTATIME;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options))
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(OsStr::as_bytes(path.as_os_str())).map_err(|_| Errno::EINVAL)
}

/// The tree at `path`, as it is, attached nowhere.
fn clone(path: &Path) -> Result<OwnedFd, Errno> {
    let path = c_path(path)?;
    let fd = call!(SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), CLONE | RECURSIVE);
    let fd = RawFd::try_from(fd.map_err(Errno::from_raw)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(tree: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let path = c_path(path)?;
    let (from, to) = (c"".as_ptr(), path.as_ptr());
    call!(SYS_move_mount, tree.as_raw_fd(), from, libc::AT_FDCWD, to, FROM_DESCRIPTOR)
        .map(drop)
        .map_err(Errno::from_raw)
}

fn attribute(path: &Path, flags: libc::c_uint) -> Result<(), Errno> {
    read_only(libc::AT_FDCWD, &c_path(path)?, flags)
}

/// Read-only, by `mount_setattr(2)`.
fn read_only(at: RawFd, path: &CStr, flags: libc::c_uint) -> Result<(), Errno> {
    // struct mount_attr: set, clear, propagation, user namespace.
    let words = [READ_ONLY, 0, 0, 0];
    let empty = if path.is_empty() { libc::AT_EMPTY_PATH.cast_unsigned() } else { 0 };
    let (flags, size) = (flags | empty, size_of_val(&words));
    call!(SYS_mount_setattr, at, path.as_ptr(), flags, words.as_ptr(), size)
        .map(drop)
        .map_err(Errno::from_raw)
}
