//! Which semaphore is meant: as the supervisor has it, or by the site file where none runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::super::{
    super::{
        Context,
        client::Client,
        fail::{Failure, INVALID, NO_SUPERVISOR},
        site::{self, Unreadable},
    },
    unexpected,
};
use crate::{
    control::{Reply, Request, SemaphoreStatus, Targets, paths},
    model::{Deed, Semaphore, SemaphoreKind},
    sys::flock::{Making, ourselves},
};

/// A semaphore, as far as whoever raises or holds it has to know it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) kind: SemaphoreKind,
    pub(super) path: PathBuf,
    pub(super) info_file: Option<PathBuf>,
    /// Our names, and the keys that stand for them.
    pub(super) info_keys: BTreeMap<String, String>,
    /// `restart:web`; `none` for a mere lock.
    pub(super) action: String,
    pub(super) making: Making,
    /// Why the supervisor is not asked.
    pub(super) unasked: Option<Unasked>,
}

/// Why the site file is all we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unasked {
    /// None runs.
    NoneRuns,
    /// We may not.
    Forbidden,
}

impl Target {
    /// Whether it does nothing.
    pub(super) fn is_mere_lock(&self) -> bool {
        self.action == Deed::Nothing.to_string()
    }

    /// Whose the file has to be, if we cannot make it so.
    pub(super) fn other_owner(&self) -> Option<u32> {
        let (own, _) = ourselves();
        self.making.owner.map(|(uid, _)| uid).filter(|uid| own != 0 && *uid != own)
    }

    /// A lock that no site declares.
    pub(super) fn of_path(path: PathBuf) -> Self {
        Self {
            name: path.display().to_string(),
            kind: SemaphoreKind::Flock,
            path,
            info_file: None,
            info_keys: BTreeMap::new(),
            action: Deed::Nothing.to_string(),
            making: making(None, 0),
            unasked: None,
        }
    }

    fn of_status(status: SemaphoreStatus) -> Self {
        let is_file = status.kind == SemaphoreKind::File.as_str();
        Self {
            name: status.name,
            kind: if is_file { SemaphoreKind::File } else { SemaphoreKind::Flock },
            path: status.path.into(),
            info_file: status.info_file.map(PathBuf::from),
            info_keys: status.info_keys,
            action: status.action,
            making: making(status.owner, status.mode),
            unasked: None,
        }
    }

    fn of_site(semaphore: &Semaphore, unasked: Unasked) -> Self {
        let watched = &semaphore.watched;
        let keys = watched.info_keys.iter();
        Self {
            name: semaphore.name.to_string(),
            kind: watched.kind,
            path: watched.path.clone(),
            info_file: watched.info_file.clone(),
            info_keys: keys.map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            action: semaphore.deed.to_string(),
            making: making(watched.owner, watched.mode.0),
            unasked: Some(unasked),
        }
    }
}

/// As it is declared; where it is not, for nobody else.
fn making(owner: Option<(u32, u32)>, mode: u32) -> Making {
    Making { owner, mode: if owner.is_some() { mode } else { 0o600 } }
}

/// What the supervisor says of it.
pub(super) fn status(
    client: &mut Client,
    what: &str,
    name: &str,
) -> Result<SemaphoreStatus, Failure> {
    let names = vec![format!("semaphore:{name}")];
    let Reply::Status(site) = client.ask(what, &Request::Status(Targets { names }))? else {
        return Err(unexpected(what));
    };
    site.semaphores.into_iter().next().ok_or_else(|| unexpected(what))
}

/// The semaphore `name`, and the way to the supervisor, if there is one that may be asked.
pub(super) fn find(
    name: &str,
    what: &str,
    context: &Context,
) -> Result<(Target, Option<Client>), Failure> {
    let asked = context.client().and_then(|mut client| {
        let status = status(&mut client, what, name)?;
        Ok((Target::of_status(status), Some(client)))
    });
    let failure = match asked {
        Ok(found) => return Ok(found),
        Err(failure) => failure,
    };
    let unasked = match failure.code.as_str() {
        _ if failure.exit == NO_SUPERVISOR => Unasked::NoneRuns,
        "not_permitted" => Unasked::Forbidden,
        _ => return Err(failure),
    };
    let default = Path::new(paths::DEFAULT_CONFIG);
    let by_default =
        || (context.global.socket.is_none() && default.exists()).then(|| default.into());
    let Some(file) = context.config().or_else(by_default) else { return Err(failure) };
    by_file(&file, name, what, unasked, context).map(|target| (target, None))
}

fn by_file(
    file: &Path,
    name: &str,
    what: &str,
    unasked: Unasked,
    context: &Context,
) -> Result<Target, Failure> {
    let site = match site::load(context, file, true) {
        Ok(loaded) => loaded.site,
        Err(Unreadable::File(failure)) => {
            return Err(Failure {
                message: format!("cannot {what}: {}", failure.message),
                ..failure
            });
        }
        Err(Unreadable::Mistakes(_)) => {
            let text = format!("cannot {what}: there are mistakes in {}", file.display());
            let hint = format!("supervisor -c {} check lists them", file.display());
            return Err(Failure::new(INVALID, "invalid_site", text).hint(hint));
        }
    };
    let found = site.semaphores.iter().find(|(one, _)| one.as_str() == name);
    let Some((_, semaphore)) = found else {
        let names: Vec<&str> = site.semaphores.keys().map(crate::model::Name::as_str).collect();
        let text = format!("cannot {what}: no semaphore is called {name}");
        let hint = match names.as_slice() {
            [] => "this site has no semaphores: see semaphores in site.yaml(5)".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        return Err(Failure::new(5, "no_such_name", text).hint(hint));
    };
    Ok(Target::of_site(semaphore, unasked))
}
