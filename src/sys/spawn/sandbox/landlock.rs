//! The same without mounts, where those are not allowed: Landlock (landlock(7)), which takes no
//! privilege. It knows only what may be done below a path, so what is to be closed or hidden is
//! left out, and everything beside it is named: what is made later in a directory that had to be
//! taken apart for that is out of reach.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ::landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, path_beneath_rules,
};

use super::{
    Trouble,
    wishes::{Deed, Wish},
};

/// Linux 6.2: before, truncate(2) was not among what can be forbidden.
const NEEDED: ABI = ABI::V3;

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    Nothing,
    Reading,
    Everything,
}

/// The rules, made while everything can still be looked at; they hold from
/// [`RulesetCreated::restrict_self`] on.
pub(super) fn prepare(wishes: &[Wish]) -> Result<RulesetCreated, Trouble> {
    let mut rights = BTreeMap::new();
    for wish in wishes {
        let right = match wish.deed {
            Deed::Hide => Right::Nothing,
            Deed::Close => Right::Reading,
            Deed::Keep => Right::Everything,
            Deed::Empty | Deed::Devices(_) | Deed::Bind(_) => {
                let why = "this takes mounts, and so CAP_SYS_ADMIN, which a supervisor that is not \
                    root or in a container may not have";
                return Err(Trouble::refused(wish.key, why));
            }
        };
        rights.insert(wish.path.as_path(), right);
    }
    let mut grants = Vec::new();
    let children = |path: &Path| children(path);
    grant(Path::new("/"), Right::Everything, None, &rights, &children, &mut grants);
    let key = wishes.first().map_or("*", |wish| wish.key);
    rules(&grants).map_err(|why| {
        let hint = "mounts are not allowed here, and Landlock as of Linux 6.2 is not to be had";
        Trouble::refused(key, format!("{why}; {hint}"))
    })
}

fn rules(grants: &[(PathBuf, Right)]) -> Result<RulesetCreated, ::landlock::RulesetError> {
    let all = AccessFs::from_all(NEEDED);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)?
        .create()?;
    let wanted = [(Right::Reading, AccessFs::from_read(NEEDED)), (Right::Everything, all)];
    for (right, access) in wanted {
        let paths = grants.iter().filter(|(_, given)| *given == right).map(|(path, _)| path);
        // One that has gone meanwhile is left out: what is not there need not be allowed.
        rules = rules.add_rules(path_beneath_rules(paths, access))?;
    }
    // The file says whether it can have new privileges; where it can this fails.
    Ok(rules.no_new_privs(false))
}

/// Names what may be done at `path` and below. A rule is for all that is below, so it gives only
/// what is allowed everywhere there; where that is less than what `path` itself is allowed, each
/// entry of it is looked at by itself. `given` is what a rule above gives already.
fn grant(
    path: &Path,
    inherited: Right,
    given: Option<Right>,
    rights: &BTreeMap<&Path, Right>,
    children: &dyn Fn(&Path) -> Vec<PathBuf>,
    grants: &mut Vec<(PathBuf, Right)>,
) {
    let own = rights.get(path).copied().unwrap_or(inherited);
    let below: Vec<(&&Path, &Right)> =
        rights.iter().filter(|(other, _)| **other != path && other.starts_with(path)).collect();
    let least = below.iter().map(|(_, right)| **right).fold(own, Right::min);
    let given = given.unwrap_or(Right::Nothing);
    if least > given {
        grants.push((path.to_path_buf(), least));
    }
    let given = given.max(least);
    if own > least {
        for child in children(path) {
            grant(&child, own, Some(given), rights, children, grants);
        }
        return;
    }
    for (other, right) in below {
        if *right > given {
            grant(other, own, Some(given), rights, children, grants);
        }
    }
}

/// What is in a directory, but for links: what they lead to has a path of its own.
fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grants in a tree of `/`, `/etc`, `/home`, `/home/a`, `/home/b`, `/srv`.
    fn grants(rights: &[(&str, Right)]) -> Vec<(String, Right)> {
        let rights = rights.iter().map(|(path, right)| (Path::new(*path), *right)).collect();
        let children = |path: &Path| {
            let all = ["/etc", "/home", "/home/a", "/home/b", "/srv"].map(PathBuf::from);
            all.into_iter().filter(|child| child.parent() == Some(path)).collect()
        };
        let mut found = Vec::new();
        grant(Path::new("/"), Right::Everything, None, &rights, &children, &mut found);
        found.into_iter().map(|(path, right)| (path.display().to_string(), right)).collect()
    }

    fn expected(list: &[(&str, Right)]) -> Vec<(String, Right)> {
        list.iter().map(|(path, right)| ((*path).to_owned(), *right)).collect()
    }

    #[test]
    fn what_is_closed_is_read_with_all_and_what_is_kept_is_named() {
        let found = grants(&[("/", Right::Reading), ("/srv", Right::Everything)]);
        assert_eq!(found, expected(&[("/", Right::Reading), ("/srv", Right::Everything)]));
    }

    #[test]
    fn beside_what_is_closed_each_is_named() {
        let found = grants(&[("/etc", Right::Reading)]);
        let list =
            [("/", Right::Reading), ("/home", Right::Everything), ("/srv", Right::Everything)];
        assert_eq!(found, expected(&list));
    }

    #[test]
    fn around_what_is_hidden_nothing_is_given_but_to_those_beside_it() {
        let found = grants(&[("/", Right::Reading), ("/home/a", Right::Nothing)]);
        let list =
            [("/etc", Right::Reading), ("/home/b", Right::Reading), ("/srv", Right::Reading)];
        assert_eq!(found, expected(&list));
    }
}
