//! `hardening` as it is written in a site.

use super::{
    tree::{Item, Map},
    words::{text, texts, word},
};
use crate::model::{AddressFamilies, Capability, CapabilitySet, Execution, HardenedPath};

pub(super) fn hardening(e: &Execution) -> Item {
    let mut map = Map::default();
    map.add("no_new_privileges", word(e.no_new_privileges));
    let Some(h) = &e.hardening else { return Item::Map(map) };
    map.add("private_tmp", word(h.private_tmp));
    map.add("protect_system", word(h.protect_system.as_str()));
    map.add("protect_home", word(h.protect_home.as_str()));
    map.add("protect_kernel_tunables", word(h.protect_kernel_tunables));
    map.add("protect_kernel_modules", word(h.protect_kernel_modules));
    map.add("protect_control_groups", word(h.protect_control_groups));
    let lists = [
        ("read_write_paths", &h.read_write_paths),
        ("read_only_paths", &h.read_only_paths),
        ("inaccessible_paths", &h.inaccessible_paths),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        map.add(key, paths(list));
    }
    let devices = |list: &[Box<str>]| Item::List(list.iter().map(|one| text(&**one)).collect());
    map.add("devices", h.devices.as_deref().map_or_else(|| word(false), devices));
    map.add_some("capabilities", h.capabilities.map(capabilities));
    if !h.ambient_capabilities.is_empty() {
        map.add("ambient_capabilities", capabilities(h.ambient_capabilities));
    }
    map.add_some("restrict_address_families", h.address_families.as_ref().map(families));
    map.add_some("system_call_filter", h.system_calls.as_ref().map(|filter| texts(&filter.0)));
    Item::Map(map)
}

fn families(families: &AddressFamilies) -> Item {
    if families.numbers.is_empty() {
        return Item::List(vec![text("none")]);
    }
    let sign = if families.denies { "~" } else { "" };
    let names = families.numbers.iter().map(|number| AddressFamilies::name(*number));
    Item::List(names.map(|name| text(format!("{sign}{name}"))).collect())
}

fn paths(list: &[HardenedPath]) -> Item {
    let one = |of: &HardenedPath| {
        text(format!("{}{}", if of.optional { "-" } else { "" }, of.path.display()))
    };
    Item::List(list.iter().map(one).collect())
}

/// What it may have, or, where that is nearly all, what it may not.
fn capabilities(set: CapabilitySet) -> Item {
    // Those that no kernel has yet are in it only where some were denied.
    if !set.contains_number(63) {
        return Item::List(set.iter().map(|one| text(one.to_string())).collect());
    }
    let denied = Capability::names().filter_map(Capability::parse);
    let denied = denied.filter(|one| !set.contains(*one));
    Item::List(denied.map(|one| text(format!("~{one}"))).collect())
}
