//! A semaphore of our own that does nothing, raised and seen by the very code that looks at those
//! of a site.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use crossbeam_channel::{Receiver, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{super::client, Check, Report, Verdict, host::SHM};
use crate::{
    daemon::semaphores::{self, Told},
    model::{Human, Level, LockProbe, Mode, Name, Reading, SemaphoreKind, Watched},
    sys::{
        clock,
        flock::{self, Making, NotTaken, Taken},
        foreign_file::Draft,
        random,
    },
};

/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(5);
const WHAT: &str = "self-test";
/// What is looked at, in this order.
const STEPS: [&str; 6] = ["watch", "write", "lock", "seen", "info", "clear"];

pub(super) fn checks(report: &mut Report<'_>) {
    // Its files are removed in any case.
    let _caught = client::caught(&[SIGINT, SIGTERM, SIGHUP]);
    let name = format!("mini-supervisor-doctor-{:016x}", random::number());
    let base = Path::new(SHM);
    let trial =
        Trial { lock: base.join(format!("{name}.lock")), info: base.join(format!("{name}.info")) };
    let mut steps = STEPS.into_iter();
    let failed = trial.run(&mut |text| {
        let step = steps.next().unwrap_or_default();
        report.add(Check::pass(&format!("{WHAT}, {step}"), text));
    });
    if let Err(why) = failed {
        let step = steps.next().unwrap_or_default();
        report.add(Check::fail(&format!("{WHAT}, {step}"), why));
        for step in steps {
            report.add(Check::new(Verdict::Skip, &format!("{WHAT}, {step}"), "not tried"));
        }
    }
}

/// Its files; gone with it.
struct Trial {
    lock: PathBuf,
    info: PathBuf,
}

impl Drop for Trial {
    fn drop(&mut self) {
        for path in [&self.lock, &self.info] {
            // Under a name that nobody else can guess; not there when all went well.
            std::fs::remove_file(path).unwrap_or_default();
        }
    }
}

impl Trial {
    /// Tells what has succeeded; else what has not.
    fn run(&self, pass: &mut dyn FnMut(String)) -> Result<(), String> {
        let (tell, told) = unbounded();
        let deliver = move |told: Told| tell.send(told).unwrap_or_default();
        let watcher = semaphores::start(deliver).map_err(|e| format!("nobody can watch: {e}"))?;
        let name = Name::new("doctor").map_err(|e| e.to_string())?;
        watcher.watch(name, self.watched());
        until(&told, "it is clear", |reading| reading.level == Level::Clear)?;
        pass("the watcher sees that nobody asks".into());
        let taken = self.take(pass)?;
        let locked = clock::monotonic();
        let seen = until(&told, "the lock is seen", |reading| {
            matches!(reading.level, Level::Raised { .. })
        })?;
        let after = Human(clock::monotonic().since(locked));
        pass(format!("{} after {after}", by_whom(&seen)?));
        self.say(&told, pass)?;
        std::fs::remove_file(&self.info).map_err(|e| format!("{}: {e}", self.info.display()))?;
        taken.remove(&self.lock).map_err(|e| format!("{}: {e}", self.lock.display()))?;
        until(&told, "it is clear again", |reading| {
            reading.level == Level::Clear && reading.info.is_none()
        })?;
        pass("both files are removed, and the watcher sees it".into());
        Ok(())
    }

    fn watched(&self) -> Watched {
        Watched {
            kind: SemaphoreKind::Flock,
            path: self.lock.clone(),
            info_file: Some(self.info.clone()),
            info_keys: BTreeMap::from([("name".into(), "Demandé par".into())]),
            poll_interval: Duration::from_secs(1),
            owner: None,
            mode: Mode(0o600),
            probe: LockProbe::Auto,
        }
    }

    fn take(&self, pass: &mut dyn FnMut(String)) -> Result<Taken, String> {
        let path = self.lock.display();
        let making = Making { owner: None, mode: 0o600 };
        let taken = flock::take(&self.lock, making).map_err(|why| match why {
            NotTaken::Held(_) => format!("{path} is locked by another"),
            NotTaken::Strange(what) => format!("{path}: {what}"),
            NotTaken::Failed(e) => format!("{path}: {e}"),
        })?;
        pass(format!("{path} is made"));
        match flock::take(&self.lock, making) {
            Err(NotTaken::Held(_)) => pass("it is locked, and nobody else can lock it".into()),
            Ok(_) => return Err(format!("{path} can be locked twice")),
            Err(NotTaken::Strange(what)) => return Err(format!("{path}: {what}")),
            Err(NotTaken::Failed(e)) => return Err(format!("{path}: {e}")),
        }
        Ok(taken)
    }

    fn say(&self, told: &Receiver<Told>, pass: &mut dyn FnMut(String)) -> Result<(), String> {
        let text = "Demandé par: doctor\n";
        Draft::write(&self.info, text.as_bytes())
            .and_then(Draft::publish)
            .map_err(|e| format!("{}: {e}", self.info.display()))?;
        let said = |reading: &Reading| {
            let fields = reading.info.as_ref().map(|info| info.fields.as_slice());
            fields.unwrap_or_default().iter().any(|(k, v)| &**k == "name" && &**v == "doctor")
        };
        until(told, "what its info file says is read", said)?;
        pass("what its info file says is read".into());
        Ok(())
    }
}

/// `held by pid 12 (uid 0)`.
fn by_whom(reading: &Reading) -> Result<String, String> {
    let Level::Raised { holders, .. } = &reading.level else { return Err("not raised".into()) };
    match holders.iter().find(|holder| holder.pid == std::process::id()) {
        Some(holder) => {
            let [uid, ..] = holder.uids;
            Ok(format!("the lock is seen, held by pid {} (uid {uid})", holder.pid))
        }
        // As in a container without a /proc of its own.
        None => {
            Err("the lock is seen, but its holder cannot be named: every request is refused"
                .to_owned())
        }
    }
}

/// The first such reading.
fn until(
    told: &Receiver<Told>,
    what: &str,
    is_such: impl Fn(&Reading) -> bool,
) -> Result<Reading, String> {
    let end = clock::monotonic() + PATIENCE;
    let mut notice = String::new();
    loop {
        match told.recv_timeout(end.since(clock::monotonic())) {
            Ok(Told::Seen((_, reading), _)) if is_such(&reading) => return Ok(reading),
            Ok(Told::Seen(..)) => {}
            Ok(Told::Notice(_, text)) => notice = format!(" ({text})"),
            Err(_) => return Err(format!("not within {}: {what}{notice}", Human(PATIENCE))),
        }
    }
}
