//! Where a site keeps its socket, and where to look for the sockets of running sites. Pure.

use std::path::{Path, PathBuf};

/// The name of the control socket in the runtime directory.
pub const SOCKET: &str = "control.sock";
/// The directory of all sites, in each base directory.
pub const PRODUCT: &str = "mini-supervisor";
/// The site file when nothing else is said.
pub const DEFAULT_CONFIG: &str = "/etc/mini-supervisor/site.yaml";

/// What of the process decides where things are; read once, at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Effective user id.
    pub uid: u32,
    /// `$RUNTIME_DIRECTORY`, set by systemd for its services.
    pub runtime_directory: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

/// The directories to try for the socket, PID file and lock of the site `name`, best first; the
/// first that can be made and written is taken. When none can, the site runs without a control
/// socket.
#[must_use]
pub fn runtime_dirs(
    configured: Option<&Path>,
    name: &str,
    surroundings: &Surroundings,
) -> Vec<PathBuf> {
    if let Some(dir) = configured {
        return vec![dir.to_owned()];
    }
    // systemd separates several directories by colons; the first is ours.
    let given = surroundings.runtime_directory.as_deref().and_then(|dirs| {
        let first = dirs
            .to_str()
            .map_or(dirs, |text| Path::new(text.split(':').next().unwrap_or_default()));
        first.is_absolute().then(|| first.to_owned())
    });
    given.into_iter().chain(bases(surroundings).into_iter().map(|base| base.join(name))).collect()
}

/// The directories in which each running site has a directory of its name.
#[must_use]
pub fn bases(surroundings: &Surroundings) -> Vec<PathBuf> {
    let shm = || PathBuf::from(format!("/dev/shm/{PRODUCT}-{}", surroundings.uid));
    if surroundings.uid == 0 {
        return vec![Path::new("/run").join(PRODUCT), shm()];
    }
    let absolute = |dir: &Option<PathBuf>| dir.clone().filter(|dir| dir.is_absolute());
    let xdg = absolute(&surroundings.xdg_runtime_dir).map(|dir| dir.join(PRODUCT));
    let home = absolute(&surroundings.home).map(|dir| dir.join(".local/state").join(PRODUCT));
    xdg.into_iter().chain(home).chain([shm()]).collect()
}

/// Where a client looks for running sites: its own user's, then the system's.
#[must_use]
pub fn searched(surroundings: &Surroundings) -> Vec<PathBuf> {
    let system = Path::new("/run").join(PRODUCT);
    let mut all = bases(surroundings);
    if !all.contains(&system) {
        all.push(system);
    }
    all
}

/// The name of the site in `file`, unless the file says another: its stem, with what a name cannot
/// have made to `-`.
#[must_use]
pub fn site_name(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '@' | '-');
    let mut name: String = stem.chars().map(|c| if keep(c) { c } else { '-' }).take(64).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "site".clone_into(&mut name);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_directory_falls_back_in_the_documented_order() {
        let user = Surroundings {
            uid: 1000,
            runtime_directory: Some("/run/unit:/run/other".into()),
            xdg_runtime_dir: Some("/run/user/1000".into()),
            home: Some("/home/me".into()),
        };
        let dirs = |at: &Surroundings| {
            runtime_dirs(None, "web", at)
                .iter()
                .map(|d| d.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            dirs(&user),
            [
                "/run/unit",
                "/run/user/1000/mini-supervisor/web",
                "/home/me/.local/state/mini-supervisor/web",
                "/dev/shm/mini-supervisor-1000/web"
            ]
        );
        let root = Surroundings { home: Some("/root".into()), ..Surroundings::default() };
        assert_eq!(dirs(&root), ["/run/mini-supervisor/web", "/dev/shm/mini-supervisor-0/web"]);
        assert_eq!(runtime_dirs(Some(Path::new("/x")), "web", &user), [PathBuf::from("/x")]);
    }

    #[test]
    fn a_site_is_called_after_its_file() {
        assert_eq!(site_name(Path::new("/etc/mini-supervisor/shop.yaml")), "shop");
        assert_eq!(site_name(Path::new("my site.yaml")), "my-site");
        assert_eq!(site_name(Path::new("-")), "site");
    }
}
