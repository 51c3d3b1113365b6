//! The resolved site as YAML, with the origin of each program's values.

use serde_json::Value;

use super::Loaded;

const SECRET_WORDS: [&str; 5] = ["PASSWORD", "PASSWD", "TOKEN", "SECRET", "PRIVATE_KEY"];

/// The site that was understood, as YAML. Values of variables that look like secrets, or that
/// `supervisor.redact` names, are not shown. With `origin`, comments say where each key of the file
/// was given.
#[must_use]
pub fn show(loaded: &Loaded, origin: bool) -> String {
    let mut value = serde_json::to_value(&loaded.site).unwrap_or(Value::Null);
    let redact = &loaded.site.supervisor.redact;
    hide(&mut value, redact);
    let mut text = serde_yaml::to_string(&value).unwrap_or_default();
    if origin {
        for (key, place) in &loaded.origins {
            let line = ["# ", key, ": from ", &loaded.warnings.locate(*place), "\n"].concat();
            text.push_str(&line);
        }
        text.push_str("# everything else: default\n");
    }
    text
}

/// Hides values of secret names in every map. The tree of a site is shallow.
fn hide(value: &mut Value, redact: &[Box<str>]) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let upper = name.to_uppercase();
                let secret = redact.iter().any(|r| **r == **name)
                    || SECRET_WORDS.iter().any(|w| upper.contains(w));
                if secret && inner.is_string() {
                    *inner = Value::String("(hidden)".to_owned());
                } else {
                    hide(inner, redact);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|i| hide(i, redact)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
