//! A semaphore that we have raised: what is held and written for it, and how that is taken back.

use std::io::{self, ErrorKind};

use super::{super::super::fail::Failure, target::Target};
use crate::{
    model::{FileId, Holder, SemaphoreKind},
    sys::{
        flock::{self, NotTaken, Taken, ourselves},
        foreign_file::{self, Draft},
    },
};

/// By what it is raised.
#[derive(Debug)]
enum Mark {
    Lock(Taken),
    File(FileId),
}

/// Raised, until this is dropped or taken back.
#[derive(Debug)]
pub(super) struct Raised<'a> {
    target: &'a Target,
    mark: Mark,
    info: Option<FileId>,
}

/// Why it is not raised by us.
#[derive(Debug)]
pub(super) enum NotRaised {
    /// These hold it already; none when they cannot be seen.
    ByHolders(Vec<Holder>),
    /// The file is there already, of this user.
    ByFile(u32),
    Failed(Failure),
}

impl<'a> Raised<'a> {
    /// Raises it, with this text in its info file. What is wrong with that file is no reason not
    /// to: it is told beside.
    pub(super) fn new(
        target: &'a Target,
        text: Option<&str>,
        what: &str,
    ) -> Result<(Self, Option<String>), NotRaised> {
        let path = &target.path;
        // Written before, so that it has its name at the very moment after the lock is ours: one
        // who acts at once has read it.
        let draft = target.info_file.as_deref().zip(text).map(|(file, text)| {
            let told = |e: io::Error| format!("{}: {e}", file.display());
            Draft::write(file, text.as_bytes()).map_err(told)
        });
        let mark = match target.kind {
            SemaphoreKind::Flock => flock::take(path, target.making).map(Mark::Lock),
            SemaphoreKind::File => match foreign_file::make(path, ourselves(), 0o600) {
                Ok(file) => file
                    .metadata()
                    .map(|meta| Mark::File(foreign_file::id(&meta)))
                    .map_err(NotTaken::Failed),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => match foreign_file::look(path) {
                    Ok(meta) => {
                        if let Some(what) = foreign_file::strange(&meta) {
                            Err(NotTaken::Strange(format!("it is {what}")))
                        } else {
                            let uid = std::os::unix::fs::MetadataExt::uid(&meta);
                            return Err(NotRaised::ByFile(uid));
                        }
                    }
                    Err(e) => Err(NotTaken::Failed(e)),
                },
                Err(e) => Err(NotTaken::Failed(e)),
            },
        };
        let mark = mark.map_err(|why| match why {
            NotTaken::Held(holders) => NotRaised::ByHolders(holders),
            NotTaken::Strange(_) | NotTaken::Failed(_) => {
                NotRaised::Failed(failure(target, what, &why))
            }
        })?;
        let mut raised = Self { target, mark, info: None };
        let warning = match draft {
            None => None,
            Some(Ok(draft)) => match draft.publish() {
                Ok(id) => {
                    raised.info = Some(id);
                    None
                }
                Err(e) => Some(format!("{e}")),
            },
            Some(Err(told)) => Some(told),
        };
        Ok((raised, warning))
    }

    /// Whether the file that we hold is still the one of that name.
    pub(super) fn is_there(&self) -> bool {
        match &self.mark {
            Mark::Lock(taken) => taken.is_at(&self.target.path),
            Mark::File(id) => {
                foreign_file::look(&self.target.path).is_ok_and(|m| foreign_file::id(&m) == *id)
            }
        }
    }

    /// It is accepted. What is kept is not ours to remove; an info file that came too late to be
    /// read is.
    pub(super) fn accepted(self) {
        if !self.is_there() {
            self.remove_info();
        }
    }

    /// It is asked for no longer. The info file goes first: without the lock it would ask.
    pub(super) fn take_back(self) {
        self.remove_info();
        match self.mark {
            Mark::Lock(taken) if taken.is_made() => {
                taken.remove(&self.target.path).unwrap_or_default();
            }
            Mark::Lock(_) => {}
            Mark::File(id) => {
                foreign_file::remove(&self.target.path, id).unwrap_or_default();
            }
        }
    }

    fn remove_info(&self) {
        if let Some((path, id)) = self.target.info_file.as_deref().zip(self.info) {
            // Not there, or another's by now: it is none of ours.
            foreign_file::remove(path, id).unwrap_or_default();
        }
    }
}

/// Why the lock cannot be had.
pub(super) fn failure(target: &Target, what: &str, why: &NotTaken) -> Failure {
    let path = target.path.display();
    match why {
        NotTaken::Held(_) => Failure::new(1, "held", format!("cannot {what}: {path} is locked")),
        NotTaken::Strange(why) => {
            Failure::new(1, "foreign", format!("cannot {what}: {path} is no file to lock: {why}"))
        }
        NotTaken::Failed(e) => {
            let text = format!("cannot {what}: {path}: {e}");
            if e.kind() == ErrorKind::PermissionDenied {
                Failure::new(4, "not_permitted", text).hint(match target.other_owner() {
                    Some(uid) => {
                        format!("whoever may open it may raise it: it is for uid {uid}")
                    }
                    None => "whoever may open it may raise it: see allow, owner and mode of \
                                 semaphores in site.yaml(5)"
                        .to_owned(),
                })
            } else if e.kind() == ErrorKind::NotFound {
                Failure::new(1, "failed", text)
                    .hint("its directory is missing; supervisor doctor looks at it")
            } else {
                Failure::new(1, "failed", text)
            }
        }
    }
}
