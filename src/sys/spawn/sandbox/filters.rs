//! Filters of system calls (seccomp(2)): the last that is done before the exec.

use std::{collections::BTreeMap, env::consts::ARCH};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Trouble;
use crate::model::{AddressFamilies, Hardening, SystemCallFilter, Verdict, system_call_number};

const CALLS: &str = "system_call_filter";
const FAMILIES: &str = "restrict_address_families";

/// Rules by the number of a call; none is "always".
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiled filters in the order in which they are put on, with their keys: each may forbid what
/// putting on the next one takes, so the strictest is the last.
pub(super) struct Filters(Vec<(&'static str, BpfProgram)>);

impl Filters {
    pub(super) fn new(hardening: &Hardening) -> Result<Self, Trouble> {
        let mut all = Vec::new();
        if let Some(families) = &hardening.address_families {
            let errno = SeccompAction::Errno(libc::EAFNOSUPPORT.cast_unsigned());
            let rules = sockets(families)?;
            all.push((FAMILIES, compile(FAMILIES, rules, SeccompAction::Allow, errno)?));
        }
        if let Some(filter) = &hardening.system_calls {
            for (rules, otherwise, then) in calls(filter) {
                all.push((CALLS, compile(CALLS, rules, otherwise, then)?));
            }
        }
        Ok(Self(all))
    }

    pub(super) fn put_on(self) -> Result<(), Trouble> {
        for (key, program) in self.0 {
            seccompiler::apply_filter(&program)
                .map_err(|why| Trouble::refused(key, format!("cannot filter: {why}")))?;
        }
        Ok(())
    }
}

fn compile(
    key: &'static str,
    rules: Rules,
    otherwise: SeccompAction,
    then: SeccompAction,
) -> Result<BpfProgram, Trouble> {
    let refused = |why: seccompiler::BackendError| Trouble::refused(key, why);
    let arch = TargetArch::try_from(ARCH).map_err(refused)?;
    if system_call_number("read", ARCH).is_none() {
        return Err(Trouble::refused(key, format!("calls have no names on {ARCH}")));
    }
    let filter = SeccompFilter::new(rules, otherwise, then, arch).map_err(refused)?;
    BpfProgram::try_from(filter).map_err(refused)
}

/// For each error one filter, then the one that kills. The kernel takes the strictest verdict of
/// all, so each says "allowed" of what is another's.
fn calls(filter: &SystemCallFilter) -> Vec<(Rules, SeccompAction, SeccompAction)> {
    let (rest, named) = filter.verdicts();
    let numbers = |wanted: &dyn Fn(Verdict) -> bool| {
        let meant = named.iter().filter(|(_, verdict)| wanted(**verdict));
        meant.filter_map(|(name, _)| system_call_number(name, ARCH)).collect::<Vec<i64>>()
    };
    let errnos = named.values().filter_map(|verdict| match verdict {
        Verdict::Errno(errno) => Some(*errno),
        Verdict::Allow | Verdict::Kill => None,
    });
    let mut errnos: Vec<u16> = errnos.collect();
    errnos.sort_unstable();
    errnos.dedup();
    let mut all = Vec::new();
    for errno in errnos {
        let denied = denied(&numbers(&|verdict| verdict == Verdict::Errno(errno)));
        all.push((denied, SeccompAction::Allow, SeccompAction::Errno(errno.into())));
    }
    let kill = SeccompAction::KillProcess;
    if rest == Verdict::Kill {
        let allowed = numbers(&|verdict| verdict != Verdict::Kill);
        let always = allowed.into_iter().map(|number| (number, Vec::new()));
        all.push((always.collect(), kill, SeccompAction::Allow));
    } else {
        let killed = denied(&numbers(&|verdict| verdict == Verdict::Kill));
        all.push((killed, SeccompAction::Allow, kill));
    }
    all.retain(|(rules, ..)| !rules.is_empty());
    all
}

/// These calls, on `x86_64` by their other numbers too: a kernel with the x32 ABI takes both.
fn denied(numbers: &[i64]) -> Rules {
    /// `__X32_SYSCALL_BIT`.
    const X32: i64 = 0x4000_0000;
    let mut rules: Rules = numbers.iter().map(|number| (*number, Vec::new())).collect();
    if ARCH == "x86_64" && !numbers.is_empty() {
        // Those that x32 has of its own are 512 to 547, among them another execve.
        let own = 512..=547_i64;
        let other = numbers.iter().copied().chain(own).map(|number| (number | X32, Vec::new()));
        rules.extend(other);
    }
    rules
}

/// socket(2) of these families is refused.
fn sockets(families: &AddressFamilies) -> Result<Rules, Trouble> {
    let condition = |op: SeccompCmpOp, number: u16| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, number.into())
    };
    let numbers = families.numbers.iter().copied();
    let rule = |conditions| SeccompRule::new(conditions);
    let rules = if families.denies {
        let one = |number| rule(vec![condition(SeccompCmpOp::Eq, number)?]);
        numbers.map(one).collect::<Result<Vec<_>, _>>()
    } else if families.numbers.is_empty() {
        Ok(Vec::new())
    } else {
        let all = numbers.map(|number| condition(SeccompCmpOp::Ne, number));
        all.collect::<Result<Vec<_>, _>>().and_then(rule).map(|one| vec![one])
    };
    let rules = rules.map_err(|why| Trouble::refused(FAMILIES, why))?;
    let number = system_call_number("socket", ARCH);
    Ok(number.into_iter().map(|number| (number, rules.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(words: &[&str]) -> SystemCallFilter {
        SystemCallFilter(words.iter().map(|word| (*word).into()).collect())
    }

    #[test]
    fn each_error_has_a_filter_and_the_one_that_kills_is_the_last() {
        let all = calls(&filter(&["@system-service", "~@mount:EPERM", "~ptrace:ENOSYS"]));
        let actions: Vec<_> = all.iter().map(|(_, _, then)| then.clone()).collect();
        let (perm, nosys) = (SeccompAction::Errno(1), SeccompAction::Errno(38));
        assert_eq!(actions, [perm, nosys, SeccompAction::Allow]);
        // What another filter answers is not killed for it.
        let number = system_call_number("mount", ARCH).unwrap();
        assert!(all.iter().all(|(rules, otherwise, _)| {
            rules.contains_key(&number) || *otherwise == SeccompAction::Allow
        }));
    }

    #[test]
    fn every_filter_compiles() {
        for words in [&["@system-service"][..], &["@known"], &["~@mount"], &["~@known:EPERM"]] {
            let hardening = Hardening {
                system_calls: Some(filter(words)),
                address_families: Some(AddressFamilies { denies: false, numbers: [1, 2].into() }),
                ..Hardening::default()
            };
            assert!(Filters::new(&hardening).is_ok(), "{words:?}");
        }
    }
}
