//! What becomes the /tmp and /var/tmp of a program: directories that are made before the first
//! command of each attempt, shared by all its commands, and removed when nothing of it is alive.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    model::Name,
    sys::{SysError, files, random},
};

/// The directories of all programs that have some.
#[derive(Debug, Default)]
pub(super) struct PrivateTmp {
    of: BTreeMap<Name, [PathBuf; 2]>,
}

impl PrivateTmp {
    /// Those of this program; new ones for the first command of an attempt.
    ///
    /// # Errors
    /// They cannot be made, or the old ones not be removed.
    pub(super) fn get(&mut self, name: &Name, first: bool) -> Result<[PathBuf; 2], SysError> {
        if first {
            self.remove(name)?;
        }
        if let Some(made) = self.of.get(name) {
            return Ok(made.clone());
        }
        // Below a directory that is root's alone: whoever else could reach it may write there.
        let outer = format!("supervisor-{name}-{:016x}", random::number());
        let outer = ["/tmp", "/var/tmp"].map(|base| Path::new(base).join(&outer));
        let own = nix::unistd::geteuid().as_raw();
        let group = nix::unistd::getegid().as_raw();
        // Remembered first: one that is half made is removed as well.
        let inner = outer.clone().map(|outer| outer.join("tmp"));
        self.of.insert(name.clone(), inner.clone());
        for (outer, inner) in outer.iter().zip(&inner) {
            files::make_owned_dir(outer, 0o700, own, group)?;
            files::make_owned_dir(inner, 0o1777, own, group)?;
        }
        Ok(inner)
    }

    /// Removes those of this program, if it has some.
    ///
    /// # Errors
    /// What stood in the way of the first that could not be removed.
    pub(super) fn remove(&mut self, name: &Name) -> Result<(), SysError> {
        let all = self.of.remove(name).into_iter().flatten();
        let outer = all.filter_map(|inner| inner.parent().map(Path::to_path_buf));
        let removed: Vec<_> = outer.map(|outer| files::remove_dir_tree(&outer)).collect();
        removed.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_has_fresh_ones_and_its_end_leaves_none() {
        let name = Name::new("one").unwrap();
        let mut tmp = PrivateTmp::default();
        let first = tmp.get(&name, true).unwrap();
        std::fs::write(first[0].join("x"), "x").unwrap();
        assert_eq!(tmp.get(&name, false).unwrap(), first);
        let second = tmp.get(&name, true).unwrap();
        assert!(!first[0].exists() && second[1].is_dir());
        tmp.remove(&name).unwrap();
        assert!(second.iter().all(|path| !path.parent().unwrap().exists()));
        tmp.remove(&name).unwrap();
    }
}
