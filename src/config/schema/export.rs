//! The JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::{Kind, Object, SITE};

/// JSON Schema (draft 2020-12) of a site file.
pub(crate) fn json_schema() -> Value {
    let mut schema = of_object(&SITE);
    if let Some(map) = schema.as_object_mut() {
        map.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        map.insert("title".into(), "mini-supervisor site".into());
    }
    schema
}

fn of_object(object: &Object) -> Value {
    let keys = || object.all();
    let properties: Map<_, _> = keys().map(|k| (k.name.to_owned(), of(k.kind))).collect();
    let required: Vec<_> = keys().filter(|k| k.required).map(|k| k.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if let Some(map) = schema.as_object_mut() {
        // A program takes what it lacks from `defaults`, which itself lacks it.
        if !required.is_empty() && object.what != "a program" {
            map.insert("required".into(), json!(required));
        }
        if !object.exactly_one.is_empty() {
            let one = |name: &&str| json!({ "required": [name] });
            map.insert("oneOf".into(), object.exactly_one.iter().map(one).collect());
        }
    }
    schema
}

/// `${NAME}` may stand for any scalar.
const EXPANSION: &str = r"\$\{";

fn or_expansion(schema: impl serde::Serialize) -> Value {
    json!({ "anyOf": [schema, { "type": "string", "pattern": EXPANSION }] })
}

fn pattern(pattern: &str) -> Value {
    or_expansion(json!({ "type": "string", "pattern": pattern }))
}

const DURATION: &str = "^(0|([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h|d|w))+)$";

fn of(kind: Kind) -> Value {
    let name = "^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$";
    match kind {
        Kind::Text => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Line
        | Kind::Action
        | Kind::IoNice
        | Kind::Cpus
        | Kind::Hardening(_)
        | Kind::Dependency
        | Kind::Path
        | Kind::Cron
        | Kind::Window
        | Kind::Url => {
            json!({ "type": ["string", "number"], "minLength": 1 })
        }
        Kind::Output => json!({ "type": ["string", "number", "null"], "minLength": 1 }),
        Kind::Glob | Kind::ShmPattern | Kind::HostPort | Kind::User | Kind::Group => {
            json!({ "type": ["string", "integer"], "minLength": 1 })
        }
        Kind::Name | Kind::Program | Kind::Programs | Kind::Mount | Kind::Task => {
            or_expansion(json!({ "type": ["string", "number"], "pattern": name }))
        }
        Kind::Bool => or_expansion(json!({ "type": "boolean" })),
        Kind::Int(min, max) => {
            or_expansion(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Kind::Number(min, max) => {
            or_expansion(json!({ "type": "number", "minimum": min, "maximum": max }))
        }
        Kind::Duration => json!({ "anyOf": [{ "const": 0 }, pattern(DURATION)] }),
        Kind::Limit => json!({ "anyOf": [{ "const": 0 }, { "const": "none" }, pattern(DURATION)] }),
        Kind::Size => {
            let size = "^[0-9]+(\\.[0-9]+)?(B|[KMGT](iB)?)$";
            json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, pattern(size)] })
        }
        Kind::Mode => pattern("^[0-7]{3,4}$"),
        Kind::Signal => json!({ "type": ["string", "integer"] }),
        Kind::Percent => json!({ "anyOf": [
            { "const": 0 },
            pattern("^(0|[0-9]+(\\.[0-9]+)?%)$"),
        ] }),
        Kind::Word(words) => {
            // YAML reads `true` and `false` as booleans before a schema sees them.
            let word = |w: &&str| w.parse::<bool>().map_or_else(|_| json!(w), Value::Bool);
            or_expansion(json!({ "enum": words.iter().map(word).collect::<Vec<_>>() }))
        }
        Kind::Command => json!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "minItems": 1, "items": of(Kind::Text) },
        ] }),
        Kind::List(item) => json!({ "type": "array", "items": of(*item) }),
        Kind::Map(value) => json!({ "type": "object", "additionalProperties": of(*value) }),
        Kind::Names(value) => json!({
            "type": "object",
            "propertyNames": { "pattern": name },
            "additionalProperties": of(*value),
        }),
        Kind::Object(object) => of_object(object),
        Kind::OneOf(kinds) => json!({ "anyOf": kinds.iter().map(|k| of(*k)).collect::<Vec<_>>() }),
    }
}
