//! `shm` in the words of a site file.

use std::collections::BTreeMap;

use super::{
    tree::{Item, Map},
    words::{duration, texts, word, words},
};
use crate::model::{Name, ShmMoment, ShmRule};

pub(super) fn rules(rules: &BTreeMap<Name, ShmRule>) -> Option<Item> {
    let mut map = Map::default();
    for (name, of) in rules {
        map.add(name.as_str(), rule(of, ["start", "stop"]));
    }
    (!map.0.is_empty()).then_some(Item::Map(map))
}

/// `moments`: the words for before and after.
pub(super) fn rule(rule: &ShmRule, moments: [&str; 2]) -> Item {
    let [before, after] = moments;
    let moment = |moment: &ShmMoment| match moment {
        ShmMoment::Before => before,
        ShmMoment::After => after,
    };
    let mut map = Map::default();
    map.add("remove", texts(&rule.remove));
    map.add("when", words(rule.when.iter().map(moment)));
    map.add("owner", word(rule.owner));
    map.add_some("older_than", rule.older_than.map(duration));
    map.add("dry_run", word(rule.dry_run));
    Item::Map(map)
}
