//! What clients ask: who is meant, what is begun, when it is done.

use super::{
    Action, Actions, At, Engine, Goal, Input, Record, Role, Scope, SiteStop, Slot, State, StopWhy,
    What, gate,
    outcome::{Operation, Verb, mark, outcome},
};
use crate::{
    control::{Change, Outcome, Peer, Refusal, RefusalCode, Reply, Request, RequestId, SendSignal},
    model::{Exit, Name, Reload},
    plan::ProgramId,
};

/// A refusal with a hint.
pub(super) fn refuse(code: RefusalCode, message: String, hint: Option<String>) -> Reply {
    Reply::Error(Refusal { code, message, hint })
}

impl Engine {
    pub(super) fn request(
        &mut self,
        id: RequestId,
        peer: Peer,
        request: Request,
        at: At,
        out: &mut Actions,
    ) {
        match request {
            Request::Start(change) => self.change(id, peer, Verb::Start, &change, at, out),
            Request::Stop(change) => self.change(id, peer, Verb::Stop, &change, at, out),
            Request::Restart(change) => self.change(id, peer, Verb::Restart, &change, at, out),
            Request::Reload(order) => {
                if let Some(refusal) = self.refusal_while_stopping() {
                    return out.reply(id, refusal);
                }
                out.push(Action::Load {
                    request: Some(id),
                    dry_run: order.dry_run,
                    allow_removal: order.allow_removal,
                });
            }
            Request::ReloadProgram(targets) => match self.select(&targets.names) {
                Ok(ids) => self.reload_programs(id, peer, &ids, at, out),
                Err(reply) => out.reply(id, reply),
            },
            Request::Signal(send) => self.send_signal(id, peer, &send, out),
            Request::Reset(targets) => match self.select(&targets.names) {
                Ok(ids) => {
                    self.asked(peer, "reset", &ids, out);
                    for one in ids {
                        self.reset(one, at, out);
                    }
                    out.reply(id, Reply::Done);
                }
                Err(reply) => out.reply(id, reply),
            },
            Request::Shutdown(how) => {
                out.record(Record::site(What::Asked {
                    peer,
                    verb: "shutdown".into(),
                    names: "".into(),
                }));
                out.reply(id, Reply::Done);
                self.end_site(SiteStop::Asked, 0, at, out);
                if how.force {
                    self.told(super::Told::Quit, at, out);
                }
            }
            Request::ClearSemaphore(which) => self.clear_semaphore(id, peer, &which, at, out),
            Request::KillAll(order) => self.kill_all(id, peer, order, at, out),
            // Answered by the shell, which has the clock, the logs and the ring of events.
            Request::Status(_)
            | Request::Logs(_)
            | Request::Events(_)
            | Request::Processes(_)
            | Request::FollowSemaphore(_)
            | Request::Version(_) => {}
        }
    }

    fn asked(&self, peer: Peer, verb: &'static str, ids: &[ProgramId], out: &mut Actions) {
        let names: Vec<&str> =
            ids.iter().filter_map(|id| self.name_of(*id)).map(Name::as_str).collect();
        out.record(Record::site(What::Asked {
            peer,
            verb: verb.into(),
            names: names.join(" ").into(),
        }));
    }

    /// The programs that `names` mean: names, templates, globs, `tag:T`, `all`.
    ///
    /// # Errors
    /// A refusal that names what is unknown, with the nearest name.
    pub fn select(&self, names: &[String]) -> Result<Vec<ProgramId>, Reply> {
        let mut found = Vec::new();
        for word in names {
            let before = found.len();
            if word == "all" {
                found.extend(self.members().map(|slot| slot.id));
            } else if let Some(slot) = self.members().find(|s| s.program.name.as_str() == word) {
                found.push(slot.id);
            } else if let Some(tag) = word.strip_prefix("tag:") {
                let tagged = |slot: &&Slot| slot.program.tags.iter().any(|t| &**t == tag);
                found.extend(self.members().filter(tagged).map(|slot| slot.id));
            } else {
                let pattern = glob::Pattern::new(word).ok();
                let meant = |slot: &&Slot| {
                    let template = slot.program.template.as_ref().map(Name::as_str);
                    template == Some(word.as_str())
                        || pattern.as_ref().is_some_and(|p| p.matches(slot.program.name.as_str()))
                };
                found.extend(self.members().filter(meant).map(|slot| slot.id));
            }
            if found.len() == before && word != "all" {
                return Err(self.no_such_name(word));
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The programs that the site still has.
    fn members(&self) -> impl Iterator<Item = &Slot> {
        self.programs().filter(|slot| slot.goal != Goal::Gone)
    }

    fn no_such_name(&self, word: &str) -> Reply {
        if self.names.keys().any(|name| name.as_str() == word) {
            let message = format!("{word} is no longer in the site; it is being stopped");
            return refuse(RefusalCode::NoSuchName, message, None);
        }
        let near = self
            .members()
            .map(|slot| &slot.program.name)
            .map(|name| (strsim::damerau_levenshtein(word, name.as_str()), name))
            .filter(|(distance, _)| *distance <= 2.max(word.len() / 3))
            .min();
        let hint = match near {
            Some((_, name)) => format!("did you mean {name}?"),
            None => "supervisor status shows the names".to_owned(),
        };
        let message = format!("no program is called {word}");
        refuse(RefusalCode::NoSuchName, message, Some(hint))
    }

    fn change(
        &mut self,
        id: RequestId,
        peer: Peer,
        verb: Verb,
        change: &Change,
        at: At,
        out: &mut Actions,
    ) {
        if verb != Verb::Stop
            && let Some(refusal) = self.refusal_while_stopping()
        {
            return out.reply(id, refusal);
        }
        let targets = match self.select(&change.names).and_then(|ids| self.startable(verb, ids)) {
            Ok(targets) => targets,
            Err(reply) => return out.reply(id, reply),
        };
        let variants = match self.choose_variants(verb, &targets, change) {
            Ok(variants) => variants,
            Err(reply) => return out.reply(id, reply),
        };
        if change.dry_run {
            return out.reply(id, Reply::Outcome(self.would_touch(verb, &targets)));
        }
        if let Some(question) = self.unconfirmed(verb, &targets, change) {
            return out.reply(id, question);
        }
        for (target, variant) in variants {
            if let Some(slot) = self.slot_mut(target) {
                slot.variant = Some((variant, change.extra_args.clone()));
            }
        }
        let word = match verb {
            Verb::Start => "start",
            Verb::Stop | Verb::KillAll => "stop",
            Verb::Restart => "restart",
        };
        self.asked(peer, word, &targets, out);
        let marks = targets
            .iter()
            .filter_map(|t| self.slot(*t))
            .map(|slot| (slot.id, mark(slot)))
            .collect();
        let until =
            if change.no_wait { Some(at.now) } else { change.timeout.map(|limit| at.now + limit) };
        let idle = match verb {
            Verb::Stop => targets.iter().copied().filter(|id| self.is_idle(*id)).collect(),
            Verb::Start | Verb::Restart | Verb::KillAll => Vec::new(),
        };
        let operation = Operation { verb, targets: marks, idle, until, shown: Vec::new() };
        self.operations.insert(id, operation);
        match verb {
            Verb::Start => self.start_by_hand(&targets, at, out),
            Verb::Stop | Verb::KillAll => self.stop_by_hand(&targets, change.force, at, out),
            Verb::Restart => self.restart_by_hand(targets, change.force, at, out),
        }
        self.settle(at, out);
        if change.no_wait {
            self.operations_due(at, out);
        }
    }

    /// A disabled program is not started, by name at least.
    fn startable(&self, verb: Verb, ids: Vec<ProgramId>) -> Result<Vec<ProgramId>, Reply> {
        let enabled = |id: &ProgramId| self.slot(*id).is_some_and(|slot| slot.program.enabled);
        match ids.as_slice() {
            [one] if verb != Verb::Stop && !enabled(one) => {
                let name = self.name_of(*one).map_or("", Name::as_str);
                let message = format!("{name} is disabled in the site file");
                let hint = format!("set programs.{name}.enabled: true and reload");
                Err(refuse(RefusalCode::Failed, message, Some(hint)))
            }
            _ if verb == Verb::Stop => Ok(ids),
            _ => Ok(ids.into_iter().filter(enabled).collect()),
        }
    }

    fn choose_variants(
        &self,
        verb: Verb,
        targets: &[ProgramId],
        change: &Change,
    ) -> Result<Vec<(ProgramId, Name)>, Reply> {
        let mut chosen = Vec::new();
        let Some(wanted) = &change.variant else { return Ok(chosen) };
        for id in targets {
            let Some(slot) = self.slot(*id) else { continue };
            let Some((name, variant)) = slot.program.variants.get_key_value(wanted.as_str()) else {
                let known: Vec<&str> = slot.program.variants.keys().map(Name::as_str).collect();
                let message = format!("{} has no variant {wanted}", slot.program.name);
                let hint = format!("its variants: {}", known.join(", "));
                return Err(refuse(RefusalCode::NoSuchName, message, Some(hint)));
            };
            if !change.extra_args.is_empty() && !variant.extra_args {
                let message = format!("variant {wanted} takes no further arguments");
                return Err(refuse(RefusalCode::BadRequest, message, None));
            }
            let other = slot.variant.as_ref() != Some(&(name.clone(), change.extra_args.clone()));
            if verb == Verb::Start && slot.is_live() && other {
                let message = format!("{} runs already, not as {wanted}", slot.program.name);
                let hint = "restart takes --variant too".to_owned();
                return Err(refuse(RefusalCode::Failed, message, Some(hint)));
            }
            chosen.push((*id, name.clone()));
        }
        Ok(chosen)
    }

    /// The question to ask before something stops that has `stop.confirm`.
    fn unconfirmed(&self, verb: Verb, targets: &[ProgramId], change: &Change) -> Option<Reply> {
        if verb == Verb::Start || change.confirmed || change.force {
            return None;
        }
        let mut all = targets.to_vec();
        all.extend(targets.iter().flat_map(|id| self.dependants(*id)));
        all.sort_unstable();
        all.dedup();
        let asks = |slot: &&Slot| slot.is_live() && slot.program.stop.confirm;
        let slots = all.iter().filter_map(|id| self.slot(*id)).filter(asks);
        let names: Vec<&str> = slots.map(|slot| slot.program.name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        let word = if verb == Verb::Stop { "stop" } else { "restart" };
        let message = format!("{word} {}?", names.join(", "));
        Some(refuse(RefusalCode::NeedsConfirmation, message, None))
    }

    fn would_touch(&self, verb: Verb, targets: &[ProgramId]) -> Outcome {
        let mut all = targets.to_vec();
        for id in targets {
            match verb {
                Verb::Start => all.extend(self.needs(*id)),
                Verb::Stop | Verb::KillAll => all.extend(self.dependants(*id)),
                Verb::Restart => {
                    all.extend(self.needs(*id));
                    all.extend(self.dependants(*id));
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        let touched = |slot: &&Slot| match verb {
            Verb::Start => !slot.is_ready(),
            Verb::Stop | Verb::KillAll => slot.is_live() || slot.goal == Goal::Up,
            Verb::Restart => targets.contains(&slot.id) || slot.is_live(),
        };
        let programs =
            all.iter().filter_map(|id| self.slot(*id)).filter(touched).map(outcome).collect();
        Outcome { programs, complete: true }
    }

    /// A start by hand clears the start limit and brings along what is needed.
    fn start_by_hand(&mut self, targets: &[ProgramId], at: At, out: &mut Actions) {
        let mut all = targets.to_vec();
        for id in targets {
            all.extend(self.needs(*id));
            if let Some(slot) = self.slot_mut(*id) {
                slot.history.starts.clear();
                slot.history.failures = 0;
                slot.history.restarts = 0;
            }
        }
        // What is needed and up already is left alone; what had its success is not repeated.
        all.retain(|id| targets.contains(id) || self.slot(*id).is_some_and(gate::has_to_start));
        self.start_all(all, at, out);
    }

    pub(super) fn stop_by_hand(
        &mut self,
        targets: &[ProgramId],
        force: bool,
        at: At,
        out: &mut Actions,
    ) {
        let keep = self.bugs.stop_keeps_the_goal;
        for id in targets {
            if let Some(slot) = self.slot_mut(*id) {
                if slot.goal == Goal::Up && !keep {
                    slot.goal = Goal::Down;
                }
                slot.variant = None;
            }
        }
        for id in targets {
            let input =
                if force { Input::Kill(StopWhy::Asked) } else { Input::Stop(StopWhy::Asked) };
            self.step(*id, input, at, out);
        }
    }

    pub(super) fn restart_by_hand(
        &mut self,
        targets: Vec<ProgramId>,
        force: bool,
        at: At,
        out: &mut Actions,
    ) {
        for id in &targets {
            let Some(slot) = self.slot_mut(*id) else { continue };
            slot.goal = Goal::Up;
            slot.history.starts.clear();
            slot.history.failures = 0;
            slot.history.restarts = 0;
            if slot.is_live() {
                let why = StopWhy::Restart;
                let input = if force { Input::Kill(why) } else { Input::Stop(why) };
                self.step(*id, input, at, out);
            }
        }
        let down: Vec<ProgramId> =
            targets.into_iter().filter(|id| self.slot(*id).is_some_and(|s| !s.is_live())).collect();
        self.start_by_hand(&down, at, out);
    }

    fn reset(&mut self, id: ProgramId, at: At, out: &mut Actions) {
        let Some(slot) = self.slot_mut(id) else { return };
        slot.history.starts.clear();
        slot.history.failures = 0;
        slot.history.troubled = false;
        if matches!(slot.state, State::Fatal { .. }) {
            slot.goal = Goal::Down;
            self.step(id, Input::Stop(StopWhy::Asked), at, out);
        }
    }

    fn send_signal(&mut self, id: RequestId, peer: Peer, send: &SendSignal, out: &mut Actions) {
        let ids = match self.select(&send.names) {
            Ok(ids) => ids,
            Err(reply) => return out.reply(id, reply),
        };
        let lives: Vec<_> = ids
            .iter()
            .filter_map(|one| self.slot(*one))
            .filter_map(|s| Some((s.id, s.life()?)))
            .collect();
        if lives.is_empty() {
            let message = format!("none of {} is running", send.names.join(", "));
            return out.reply(id, refuse(RefusalCode::Failed, message, None));
        }
        self.asked(peer, "signal", &ids, out);
        for (program, life) in lives {
            let (run, signal) = (life.run, send.signal);
            let first = ids.first().copied().filter(|_| self.bugs.signal_as_the_first);
            let program = first.unwrap_or(program);
            out.push(Action::Signal {
                program,
                run,
                signal,
                scope: Scope::Main,
                and_continue: false,
            });
        }
        out.reply(id, Reply::Done);
    }

    fn reload_programs(
        &mut self,
        id: RequestId,
        peer: Peer,
        ids: &[ProgramId],
        at: At,
        out: &mut Actions,
    ) {
        for one in ids {
            if let Some(refusal) = self.slot(*one).and_then(cannot_reload) {
                return out.reply(id, refusal);
            }
        }
        self.asked(peer, "reload", ids, out);
        // With one program the answer tells how its command ended; with several, that all began.
        let waits = (ids.len() == 1).then_some(id);
        let mut answered = false;
        for one in ids {
            answered |= self.reload_one(*one, waits, at, out);
        }
        if !answered {
            out.reply(id, Reply::Done);
        }
    }

    /// Whether the answer comes later.
    fn reload_one(
        &mut self,
        id: ProgramId,
        request: Option<RequestId>,
        at: At,
        out: &mut Actions,
    ) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let (Some(reload), Some(life)) = (slot.program.reload.clone(), slot.life()) else {
            return false;
        };
        match reload {
            Reload::Signal(signal) => {
                let (program, run) = (id, life.run);
                let and_continue = false;
                out.push(Action::Signal { program, run, signal, scope: Scope::Main, and_continue });
                false
            }
            Reload::Command(_) => {
                let limit = slot.program.start_timeout.from(at.now);
                self.with(id, at, out, |slot, cx| {
                    slot.begin_side(Role::ReloadCommand, limit, request, Some(life.pid), cx);
                });
                request.is_some()
            }
        }
    }
}

fn cannot_reload(slot: &Slot) -> Option<Reply> {
    let name = &slot.program.name;
    if slot.program.reload.is_none() {
        let message = format!("{name} has no reload");
        let hint = format!("set programs.{name}.reload, or use supervisor restart {name}");
        return Some(refuse(RefusalCode::Failed, message, Some(hint)));
    }
    let up = matches!(slot.state, State::Running { .. });
    if up && slot.side.is_some() {
        let message = format!("a reload of {name} is under way");
        return Some(refuse(RefusalCode::Failed, message, None));
    }
    if !up {
        let message = format!("{name} is {}", slot.word().as_str().to_ascii_lowercase());
        return Some(refuse(RefusalCode::Failed, message, None));
    }
    None
}

/// The answer to a reload by command.
pub(super) fn reload_reply(slot: &Slot, exit: Exit) -> Reply {
    if exit == Exit::Code(0) {
        return Reply::Done;
    }
    let message = format!("the reload command of {} ended: {exit}", slot.program.name);
    refuse(RefusalCode::Failed, message, None)
}
