//! `install` and `uninstall`: what a site needs of its host is planned, shown, and done in steps.

mod accounts;
mod facts;
mod hands;
mod places;
mod plan;
mod removal;
mod run;
mod step;
#[cfg(test)]
mod tests;
mod unit;

use std::path::{Path, PathBuf};

use super::{
    Context,
    fail::{Failure, INVALID},
    options::InstallArgs,
    out::{Out, tell},
    site::{self, Unreadable},
};
use crate::{
    control::paths,
    model::Site,
    sys::{signals, stdio},
};

use self::{facts::Facts, hands::Host, run::Run, unit::Target};

/// `install`.
pub(super) fn install(args: InstallArgs, context: &Context, out: &mut Out) -> Result<u8, Failure> {
    prepare();
    let file = site_file("install", context)?;
    let context = &as_at_boot(context);
    let site = match site::load(context, &file, true) {
        Ok(loaded) => loaded.site,
        Err(Unreadable::File(failure)) => return Err(failure),
        Err(Unreadable::Mistakes(_)) => return site::check(context, out),
    };
    let name = site.supervisor.name.to_string();
    let dry_run = context.global.dry_run;
    refuse_later(&site, &name, dry_run)?;
    need_root("install", &name, context)?;
    let mut target = Target::new(&name, file, &context.global.set);
    let mut facts = Facts::gather(Some(&site), &target, &name);
    facts.choose(&mut target, |target, binary| target.is_plain(&site, binary));
    let plan = plan::install(&site, &target, &facts, args);
    let text = (dry_run && !target.packaged)
        .then(|| unit::service(&site.supervisor, &target, &facts.binary, &site));
    let mut hands = Host::new(context);
    let run = Run { verb: "install", name: &name, plan, dry: dry_run };
    let code = run.carry_out(&mut hands, text.as_deref(), out)?;
    if !out.json && !dry_run {
        out.print(&plan::next_steps(&target, &facts, args.now));
    }
    Ok(code)
}

/// `uninstall`.
pub(super) fn uninstall(context: &Context, out: &mut Out) -> Result<u8, Failure> {
    prepare();
    let file = site_file("uninstall", context)?;
    let context = &as_at_boot(context);
    // Whatever has become of the file, what was installed can be removed.
    let site = site::load(context, &file, true).ok().map(|loaded| loaded.site);
    let name = match &site {
        Some(site) => site.supervisor.name.to_string(),
        None => super::whereabouts(&file).name.unwrap_or_else(|| paths::site_name(&file)),
    };
    need_root("uninstall", &name, context)?;
    let mut target = Target::new(&name, file, &context.global.set);
    let mut facts = Facts::gather(site.as_ref(), &target, &name);
    facts.choose(&mut target, |_, _| true);
    let running = context.client().is_ok();
    let plan = removal::uninstall(&target, &facts, running);
    let mut hands = Host::new(context);
    let dry_run = context.global.dry_run;
    let run = Run { verb: "uninstall", name: &name, plan, dry: dry_run };
    let code = run.carry_out(&mut hands, None, out)?;
    if !out.json {
        out.print(&removal::kept(site.as_ref(), &target, &facts));
    }
    Ok(code)
}

/// Whoever started us: commands can be waited for, and directories get the modes that they are to
/// have.
fn prepare() {
    signals::reset_inherited();
    stdio::fill();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}

/// The absolute path of the site file: at boot it is looked for from somewhere else.
fn site_file(verb: &str, context: &Context) -> Result<PathBuf, Failure> {
    let file = context.config().unwrap_or_else(|| PathBuf::from(paths::DEFAULT_CONFIG));
    let cannot = |cause: &str| {
        let text = format!("cannot {verb} {}: {cause}", file.display());
        Failure::new(super::fail::USAGE, "usage", text)
    };
    if file == Path::new("-") {
        let why = "a site from standard input is not there at the next start";
        return Err(cannot(why).hint("write it to a file, and name that with -c FILE"));
    }
    let whole = std::path::absolute(&file).map_err(|e| cannot(&e.to_string()))?;
    match whole.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(whole),
        _ => Err(cannot("the unit of systemd cannot name it").hint("give it a plain name")),
    }
}

/// The same with the few variables that a service has when systemd starts it: what the site takes
/// from another one would be missing then.
fn as_at_boot(context: &Context) -> Context {
    let kept = |name: &std::ffi::OsStr| {
        matches!(name.to_str(), Some("PATH" | "LANG" | "SUPERVISOR_SOCKET"))
    };
    let mut context = context.clone();
    context.environment.retain(|name, _| kept(name));
    context
}

/// A site that cannot run is not installed; its steps can be looked at.
fn refuse_later(site: &Site, name: &str, dry_run: bool) -> Result<(), Failure> {
    for later in &site.unsupported {
        tell(&format!(
            "{}: note: {} is valid but this version cannot do it yet",
            later.place, later.key
        ));
    }
    if site.unsupported.is_empty() || dry_run {
        return Ok(());
    }
    let text = format!("cannot install {name}: it asks for what this version cannot do");
    Err(Failure::new(INVALID, "unsupported", text).hint("remove the keys named above"))
}

fn need_root(verb: &str, name: &str, context: &Context) -> Result<(), Failure> {
    if context.global.dry_run || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let text = format!("cannot {verb} {name}: only root may");
    let hint = format!("use sudo supervisor {verb}; with --dry-run anybody can look at the steps");
    Err(Failure::new(4, "not_permitted", text).hint(hint))
}
