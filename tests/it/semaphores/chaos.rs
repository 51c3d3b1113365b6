//! Whatever happens to its files, the watcher lives on, and sees no request where there was none.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use mini_supervisor::{
    daemon::semaphores::Told,
    model::{FileId, Level, Watched},
    sys::clock,
};
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::{Bench, Signaller, watched};
use crate::{
    e2e::harness::is_root,
    sys_world::{NAMESPACE, is_inside},
};

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// The files and what was held of them.
struct Chaos {
    dice: Dice,
    directory: PathBuf,
    spare: PathBuf,
    held: BTreeSet<FileId>,
}

impl Chaos {
    /// Any of it may fail, as the file is in another state than it needs.
    fn happens(&mut self) {
        let path = if self.dice.below(3) > 0 { "lock" } else { "info" };
        let path = self.directory.join(path);
        let spare = self.spare.join(format!("{}", self.dice.below(u64::MAX)));
        let (mode, bytes) = (self.dice.below(0o1000) as u32, self.dice.below(1 << 20) as usize);
        match self.dice.below(16) {
            0..=2 => drop(File::create_new(&path)),
            3 => drop(fs::remove_file(&path)),
            4 => {
                File::create(&spare).unwrap();
                drop(fs::rename(&spare, &path));
            }
            // To one of its own: owner and mode of what it leads to are changed below.
            5 => {
                File::create(&spare).unwrap();
                drop(symlink(&spare, &path));
            }
            6 => drop(nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)),
            7 => drop(fs::create_dir(&path)),
            8 => drop(fs::hard_link(&path, &spare)),
            9 => drop(fs::set_permissions(&path, Permissions::from_mode(mode))),
            10 => drop(fs::set_permissions(&path, Permissions::from_mode(0o0))),
            11 => drop(chown(&path, Some(if mode > 0o400 { 65534 } else { 0 }), None)),
            12 => drop(open(&path).map(|mut file| file.write_all(&vec![0xff; bytes]))),
            13 => self.is_held(&path),
            14 => {
                drop(fs::remove_dir(&path));
                drop(fs::remove_file(&path));
            }
            _ => self.directory_goes(&spare),
        }
    }

    /// The whole directory has another name for a moment, or for ever.
    fn directory_goes(&mut self, spare: &Path) {
        fs::rename(&self.directory, spare).unwrap();
        match self.dice.below(3) {
            0 => fs::create_dir(&self.directory).unwrap(),
            1 => {
                symlink(spare, &self.directory).unwrap();
                pause(self.dice.below(3000));
                fs::remove_file(&self.directory).unwrap();
                fs::create_dir(&self.directory).unwrap();
            }
            _ => fs::rename(spare, &self.directory).unwrap(),
        }
    }

    fn is_held(&mut self, path: &Path) {
        let Ok(file) = open(path) else { return };
        let meta = file.metadata().unwrap();
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return };
        self.held.insert(FileId { device: meta.dev(), inode: meta.ino() });
        pause(self.dice.below(20_000));
        drop(lock);
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().write(true).custom_flags(flags.bits()).open(path)
}

/// As the time goes in it; nothing is waited for.
fn pause(micros: u64) {
    crossbeam_channel::never::<()>().recv_timeout(Duration::from_micros(micros)).ok();
}

/// For some seconds; then a real signal is seen.
fn whatever_happens(is_made: bool) {
    let full = std::env::var_os("TESTS_FULL").is_some_and(|value| value == "1");
    let seed = std::env::var_os("SEED").and_then(|seed| seed.to_str()?.parse().ok());
    let seed = seed.unwrap_or_else(|| clock::monotonic().0);
    println!("SEED={seed}");
    let bench = Bench::idle();
    let directory = bench.path("here");
    fs::create_dir(&directory).unwrap();
    fs::create_dir(bench.path("spare")).unwrap();
    let own = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    bench.watch(Watched {
        info_file: Some(directory.join("info")),
        owner: is_made.then_some(own),
        poll_interval: Duration::from_millis(100),
        ..watched(&directory.join("lock"))
    });
    let mut chaos = Chaos {
        dice: Dice(seed),
        directory: directory.clone(),
        spare: bench.path("spare"),
        held: BTreeSet::new(),
    };
    let begin = clock::monotonic();
    let (mut rounds, mut readings, mut raised) = (0_u32, 0_u32, 0_u32);
    while clock::monotonic().since(begin) < Duration::from_secs(if full { 60 } else { 3 }) {
        chaos.happens();
        if chaos.dice.below(4) == 0 {
            pause(chaos.dice.below(4000));
        }
        rounds += 1;
        for (told, _) in bench.told.try_iter() {
            let Told::Seen((_, reading), _) = told else { continue };
            readings += 1;
            if let Level::Raised { file, .. } = reading.level {
                raised += 1;
                assert!(chaos.held.contains(&file), "SEED={seed}: nobody has held {file:?}");
            }
        }
    }
    println!("{rounds} rounds, {readings} readings, {raised} raised, {} held", chaos.held.len());
    assert!(readings > 10 && raised > 0, "it saw nothing of it");
    fs::rename(&directory, bench.path("spare/last")).unwrap();
    fs::create_dir(&directory).unwrap();
    let _signaller = Signaller::python(&directory.join("lock"));
    let inode = fs::metadata(directory.join("lock")).unwrap().ino();
    bench.until(|level| matches!(level, Level::Raised { file, .. } if file.inode == inode));
}

#[test]
fn whatever_happens_to_its_files_it_lives_on_and_sees_no_request_that_is_none() {
    whatever_happens(true);
}

#[test]
fn in_a_pid_namespace_whatever_happens_it_sees_no_request_that_is_none() {
    let test = "semaphores::chaos::\
                in_a_pid_namespace_whatever_happens_it_sees_no_request_that_is_none";
    if is_root() && is_inside(NAMESPACE, test) {
        whatever_happens(false);
    }
}

#[test]
fn without_any_privilege_it_lives_on_and_sees_no_request_that_is_none() {
    let test = "semaphores::chaos::\
                without_any_privilege_it_lives_on_and_sees_no_request_that_is_none";
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    if is_root() && is_inside(nobody, test) {
        whatever_happens(false);
    }
}
