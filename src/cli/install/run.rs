//! Carries out a plan, step by step, and says what came of each.

use serde_json::{Value, json};

use super::{
    hands::Hands,
    step::{Came, Item, State, Step},
};
use crate::cli::{fail::Failure, out::Out, render::escape};

/// A plan and what it is for.
pub(super) struct Run<'a> {
    /// `install`.
    pub(super) verb: &'a str,
    /// The site.
    pub(super) name: &'a str,
    pub(super) plan: Vec<Step>,
    /// Only say what would be done.
    pub(super) dry: bool,
}

/// What has been said so far.
#[derive(Default)]
struct Said {
    steps: Vec<Value>,
    items: Vec<Value>,
    done: Vec<String>,
}

impl Run<'_> {
    /// Does it; stops at the first item that cannot be done, which the failure names. What is wrong
    /// from the beginning is found before anything is changed.
    pub(super) fn carry_out(
        &self,
        hands: &mut dyn Hands,
        unit: Option<&str>,
        out: &mut Out,
    ) -> Result<u8, Failure> {
        let mut said = Said::default();
        let wrong = self.plan.iter().position(|step| {
            step.items.iter().any(|item| matches!(item.state, State::Cannot { .. }))
        });
        let mut failure = None;
        'steps: for (at, step) in self.plan.iter().enumerate() {
            for item in &step.items {
                let came = match &item.state {
                    State::Already(word) => Came::Already(word),
                    State::Skipped(reason) => Came::Skipped(reason.clone()),
                    State::Cannot { cause, hint } => {
                        failure = failure
                            .or_else(|| Some(self.failed(at, item, cause, Some(hint), &said.done)));
                        Came::Failed(cause.clone())
                    }
                    State::Do(_) if self.dry || wrong.is_some() => Came::ToDo,
                    State::Do(action) => match hands.perform(action) {
                        Ok(()) => {
                            said.done.push(item.what.clone());
                            Came::Done
                        }
                        Err(cause) => {
                            failure = Some(self.failed(at, item, &cause, None, &said.done));
                            Came::Failed(cause)
                        }
                    },
                };
                let stop = matches!(came, Came::Failed(_)) && wrong.is_none();
                self.say(at, step, item, &came, &mut said, out);
                if stop {
                    said.end_of(at, step);
                    break 'steps;
                }
            }
            said.end_of(at, step);
        }
        self.last_words(&said, unit, failure.is_none(), out);
        failure.map_or(Ok(0), Err)
    }

    /// One line an item: `[1/8] users: make user shop: done`.
    fn say(
        &self,
        at: usize,
        step: &Step,
        item: &Item,
        came: &Came,
        said: &mut Said,
        out: &mut Out,
    ) {
        said.items.push(json!({"what": item.what, "result": came.code(), "words": came.words()}));
        if out.json {
            return;
        }
        let what = if item.what.is_empty() { String::new() } else { format!("{}: ", item.what) };
        let line = format!("{}: {}{}", step.name, what, came.words());
        out.print(&format!("{} {}\n", self.number(at), escape(&line)));
    }

    fn number(&self, at: usize) -> String {
        format!("[{}/{}]", at.saturating_add(1), self.plan.len())
    }

    fn last_words(&self, said: &Said, unit: Option<&str>, ok: bool, out: &mut Out) {
        if out.json {
            out.print_json(&json!({
                "schema_version": 1, "verb": self.verb, "site": self.name, "ok": ok,
                "dry_run": self.dry, "changed": !said.done.is_empty(), "steps": said.steps,
                "unit": unit,
            }));
            return;
        }
        if let Some(text) = unit {
            out.print(&format!("\nthe unit:\n{text}"));
        } else if ok && !self.dry && said.done.is_empty() {
            out.print("nothing has changed\n");
        }
    }

    /// Which step, why, what was done before and what was not, and how to go on.
    fn failed(
        &self,
        at: usize,
        item: &Item,
        cause: &str,
        hint: Option<&str>,
        done: &[String],
    ) -> Failure {
        let step = self.plan.get(at).map_or("", |step| step.name);
        let (verb, name) = (self.verb, self.name);
        let number = at.saturating_add(1);
        let text = format!(
            "cannot {verb} {name}: step {number} of {} ({step}): {}: {cause}",
            self.plan.len(),
            item.what
        );
        let failure = Failure::new(1, "step_failed", text);
        if let Some(hint) = hint {
            return failure.hint(format!("{hint}\nnothing was changed"));
        }
        let rest = self.plan.iter().skip(number).map(|step| step.name).collect::<Vec<_>>();
        let before = if done.is_empty() {
            "nothing was changed before".to_owned()
        } else {
            format!("done before: {}", done.join("; "))
        };
        let rest = if rest.is_empty() { "nothing".to_owned() } else { rest.join(", ") };
        let again =
            "when that is mended, run it again: what is done already is not done a second time";
        failure.hint(format!("{before}\nnot done: {rest}\n{again}"))
    }
}

impl Said {
    fn end_of(&mut self, at: usize, step: &Step) {
        let items = std::mem::take(&mut self.items);
        let number = at.saturating_add(1);
        self.steps.push(json!({"number": number, "step": step.name, "items": items}));
    }
}
