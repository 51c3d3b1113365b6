//! What the plan needs to know of the host. Looking changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{hands, plan, unit::Target};
use crate::{
    model::{Account, Exit, Site},
    sys::{
        directory::{self, Files, Ownership},
        user,
    },
};

/// How long systemd may take to say how the unit is.
const PATIENCE: Duration = Duration::from_secs(10);

/// The host, as far as it concerns a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// This program.
    pub(super) binary: PathBuf,
    /// Users that the site names, as far as they exist.
    pub(super) accounts: BTreeMap<Box<str>, Account>,
    /// Groups that the site names, as far as they exist.
    pub(super) groups: BTreeMap<Box<str>, u32>,
    /// Home directories of users that exist.
    pub(super) homes: BTreeSet<PathBuf>,
    /// Directories that the site names.
    pub(super) directories: BTreeMap<PathBuf, Place>,
    /// How users are made here.
    pub(super) users_by: Option<UsersBy>,
    /// The shell of who may not log in.
    pub(super) nologin: PathBuf,
    /// systemd, when it runs here.
    pub(super) systemd: Option<Systemd>,
    /// The unit of the package for this site, when there is one.
    pub(super) packaged: Option<(String, Systemd)>,
    /// The unit as it stands there.
    pub(super) unit: Written,
    /// The same of tmpfiles.d.
    pub(super) tmpfiles: Written,
}

/// What is at the path of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Missing,
    There(Ownership, Files),
    /// Why it cannot be used, or looked at.
    Unusable(String),
}

/// Which commands there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsersBy {
    /// useradd(8), usermod(8).
    Shadow,
    /// adduser and addgroup of busybox.
    Busybox,
}

/// systemd, and what it knows of our unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Systemd {
    pub(super) activity: Activity,
    pub(super) enabled: bool,
    /// The file is newer than what systemd goes by.
    pub(super) outdated: bool,
}

/// Whether a unit runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Activity {
    #[default]
    Down,
    Failed,
    Up,
}

/// A file that we write, or that somebody else has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Written {
    #[default]
    Missing,
    Text(String),
    /// What it is instead of a file, or why it cannot be read.
    Unusable(String),
}

impl Facts {
    pub(super) fn gather(site: Option<&Site>, target: &Target, name: &str) -> Self {
        let booted = Path::new("/run/systemd/system").is_dir();
        let systemctl = booted.then(|| hands::find("systemctl")).flatten();
        let shells = ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false"];
        let nologin = shells.into_iter().find(|path| Path::new(path).exists());
        let mut facts = Self {
            binary: binary(),
            users_by: users_by(),
            nologin: nologin.unwrap_or("/bin/false").into(),
            systemd: systemctl.is_some().then(|| systemd(&target.unit)),
            packaged: systemctl.is_some().then(|| packaged(target)).flatten(),
            unit: written(&target.unit_file),
            tmpfiles: written(&target.tmpfiles),
            ..Self::default()
        };
        if let Some(site) = site {
            facts.of_site(site, name);
        }
        facts
    }

    /// Takes the unit of the package where there is one and none of ours. For an installation it
    /// has to do for the site.
    pub(super) fn choose(&mut self, target: &mut Target, does: impl Fn(&Target, &Path) -> bool) {
        if self.unit != Written::Missing || !does(target, &self.binary) {
            return;
        }
        if let Some((unit, state)) = self.packaged.take() {
            target.unit = unit;
            target.packaged = true;
            self.systemd = Some(state);
        }
    }

    fn of_site(&mut self, site: &Site, name: &str) {
        let directories = plan::directories(site, name);
        let owners = directories.values().filter_map(|d| d.owner.as_deref());
        for name in site.users.keys().map(|name| &**name).chain(owners) {
            if let Ok(Some(account)) = user::user(name) {
                self.accounts.insert(name.into(), account);
            }
        }
        let groups = site.users.values().flat_map(|user| &user.groups).map(|name| &**name);
        let groups = groups.chain(directories.values().filter_map(|d| d.group.as_deref()));
        let owners = directories.values().filter_map(|d| d.owner.as_deref());
        for name in groups.chain(owners).chain(site.users.keys().map(|name| &**name)) {
            if let Ok(Some(gid)) = user::group(name) {
                self.groups.insert(name.into(), gid);
            }
        }
        let homes = site.users.values().filter_map(|user| user.home.as_deref());
        self.homes = homes.filter(|home| home.exists()).map(Path::to_path_buf).collect();
        for (path, wanted) in directories {
            let place = match directory::look(&path) {
                Ok(None) => Place::Missing,
                Ok(Some(there)) => {
                    let count = |mode: crate::model::Mode| directory::count_files(&path, mode.0);
                    match wanted.files.map_or(Ok(Files::default()), count) {
                        Ok(files) => Place::There(there, files),
                        Err(e) => Place::Unusable(e.cause.to_string()),
                    }
                }
                Err(e) => Place::Unusable(e.cause.to_string()),
            };
            self.directories.insert(path, place);
        }
    }
}

/// This program; after an upgrade, the one that stands in its place.
fn binary() -> PathBuf {
    let Ok(path) = std::env::current_exe() else { return "/usr/bin/supervisor".into() };
    let text = path.to_string_lossy().into_owned();
    text.strip_suffix(" (deleted)").map_or(path, PathBuf::from)
}

fn users_by() -> Option<UsersBy> {
    if hands::find("useradd").is_some() && hands::find("usermod").is_some() {
        return Some(UsersBy::Shadow);
    }
    let target = fs::canonicalize(hands::find("adduser")?).ok()?;
    let busybox = target.file_name().is_some_and(|name| name.to_string_lossy().contains("busybox"));
    busybox.then_some(UsersBy::Busybox)
}

/// What the package brings along for this site.
fn packaged(target: &Target) -> Option<(String, Systemd)> {
    let (unit, file) = target.of_package()?;
    let mut places = ["/usr/lib/systemd/system", "/lib/systemd/system"].into_iter();
    places.any(|dir| Path::new(dir).join(&file).is_file()).then(|| {
        let state = systemd(&unit);
        (unit, state)
    })
}

/// What systemd says; what it does not say is taken as to be done.
fn systemd(unit: &str) -> Systemd {
    let properties = "--property=ActiveState,UnitFileState,NeedDaemonReload";
    let words = ["systemctl", "show", properties, "--", unit].map(str::to_owned);
    let Ok(finished) = hands::run(&words, PATIENCE) else { return Systemd::default() };
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let is = |line: &str| text.lines().any(|l| l == line);
    let answered = finished.exit == Some(Exit::Code(0));
    let activity = match () {
        () if !answered || is("ActiveState=inactive") => Activity::Down,
        () if is("ActiveState=failed") => Activity::Failed,
        () => Activity::Up,
    };
    Systemd {
        activity,
        enabled: answered && is("UnitFileState=enabled"),
        outdated: answered && is("NeedDaemonReload=yes"),
    }
}

fn written(path: &Path) -> Written {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Written::Missing,
        Err(e) => Written::Unusable(e.to_string()),
        Ok(meta) if meta.is_symlink() => {
            let target = fs::read_link(path).unwrap_or_default();
            Written::Unusable(format!("it is a link to {}", target.display()))
        }
        Ok(meta) if !meta.is_file() => Written::Unusable("it is no file".to_owned()),
        Ok(_) => match fs::read(path) {
            Ok(bytes) => Written::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Err(e) => Written::Unusable(e.to_string()),
        },
    }
}
