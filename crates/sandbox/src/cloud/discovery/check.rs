//! Whether parameters, a body and an answer are what a method's document says. It is stricter than
//! Google in one thing: a 64-bit number must be a text, as Google itself writes it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Document, Found, Schema};

/// Parameters that every Google API takes, whether its document names them or not.
const SYSTEM: [&str; 3] = ["$alt", "$apiVersion", "$prettyPrint"];

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cloud) struct Violation {
    /// `disks[0].diskSizeGb`; empty for the body itself.
    pub(in crate::cloud) at: String,
    pub(in crate::cloud) words: String,
}

/// Which way a body goes.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    /// To the method of this id: nothing that is read only, and everything that it needs.
    In(&'a str),
    Out,
}

type Out = Vec<Violation>;

/// The query's parameters as they were sent, checked; those of the path have been found already.
pub(in crate::cloud) fn parameters(found: &Found, query: &[(String, String)]) -> Out {
    let mut out = Out::new();
    for (name, value) in &found.path {
        if let Some(schema) = found.method.parameters.get(name) {
            parameter(found.document, name, schema, value, &mut out);
        }
    }
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for (name, value) in query {
        let own = found.method.parameters.get(name);
        let own = own.filter(|schema| schema.location.as_deref() == Some("query"));
        let Some(schema) = own.or_else(|| found.document.common_parameter(name)) else {
            if !SYSTEM.contains(&name.as_str()) {
                out.push(unknown_parameter(name));
            }
            continue;
        };
        let count = times.entry(name).or_default();
        *count += 1;
        if *count > 1 && !schema.repeated {
            out.push(at(name, "it is given more than once".to_owned()));
        }
        parameter(found.document, name, schema, value, &mut out);
    }
    for (name, schema) in &found.method.parameters {
        let given = query.iter().any(|(key, _)| key == name) || found.path.contains_key(name);
        let in_query = schema.location.as_deref() == Some("query");
        if schema.required && in_query && !given {
            out.push(at(name, "Required field is missing".to_owned()));
        }
    }
    out
}

fn unknown_parameter(name: &str) -> Violation {
    let words = format!(
        "Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter. Field '{name}' could not be found in request message."
    );
    Violation { at: String::new(), words }
}

fn at(path: &str, words: String) -> Violation {
    Violation { at: path.to_owned(), words }
}

fn parameter(document: &Document, name: &str, schema: &Schema, value: &str, out: &mut Out) {
    let kind = schema.kind.as_deref().unwrap_or("string");
    let number = value.parse::<i64>();
    let fits = match kind {
        "integer" => number.is_ok(),
        "boolean" => value == "true" || value == "false",
        _ => true,
    };
    if !fits {
        out.push(at(name, format!("'{value}' is not of type {kind}")));
    }
    if let Ok(number) = number
        && kind == "integer"
    {
        let least = schema.minimum.as_ref().and_then(|text| text.parse().ok());
        let most = schema.maximum.as_ref().and_then(|text| text.parse().ok());
        if least.is_some_and(|least: i64| number < least)
            || most.is_some_and(|most: i64| number > most)
        {
            out.push(at(name, format!("'{value}' is out of range")));
        }
    }
    text(document, name, schema, value, out);
}

/// The body of a request, for a method that takes one.
pub(in crate::cloud) fn request(found: &Found, body: &Value) -> Out {
    let mut out = Out::new();
    let Some(name) = &found.method.request else {
        let empty = body.is_null() || body.as_object().is_some_and(Map::is_empty);
        if !empty {
            out.push(at("", "this method takes no body".to_owned()));
        }
        return out;
    };
    let schema = found.document.schema(name);
    check(found.document, "", schema, body, Way::In(&found.method.id), &mut out);
    out
}

/// An answer of ours.
pub(in crate::cloud) fn answer(found: &Found, body: &Value) -> Out {
    let mut out = Out::new();
    if let Some(name) = &found.method.response {
        check(found.document, "", found.document.schema(name), body, Way::Out, &mut out);
    }
    out
}

fn check(d: &Document, path: &str, schema: &Schema, value: &Value, way: Way<'_>, out: &mut Out) {
    let schema = d.resolved(schema);
    let kind = schema.kind.as_deref().unwrap_or("any");
    let format = schema.format.as_deref().unwrap_or_default();
    match (kind, value) {
        ("any", _) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => {}
        ("string", Value::String(found)) => text(d, path, schema, found, out),
        ("integer", Value::Number(number)) => {
            let fits = match format {
                "uint32" => number.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
                _ => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            };
            if !fits {
                out.push(at(path, format!("{number} is no {format}")));
            }
        }
        ("array", Value::Array(items)) => {
            let Some(of) = schema.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                let of = if schema.pattern.is_some() {
                    with_pattern(d, schema, path, item, out)
                } else {
                    of
                };
                check(d, &format!("{path}[{index}]"), of, item, way, out);
            }
        }
        ("object", Value::Object(map)) => object(d, path, schema, map, way, out),
        ("string", Value::Number(_)) if format.ends_with("int64") => {
            out.push(at(path, format!("a {format} is a JSON string, and {value} is a number")));
        }
        _ => out.push(at(path, format!("Invalid value ({}), {value}", article(kind)))),
    }
}

/// An array's own pattern is that of its items.
fn with_pattern<'a>(
    d: &Document,
    schema: &'a Schema,
    path: &str,
    item: &Value,
    out: &mut Out,
) -> &'a Schema {
    if let (Some(pattern), Some(item)) = (&schema.pattern, item.as_str())
        && !d.matches(pattern, item)
    {
        out.push(at(path, mismatch(item, pattern)));
    }
    schema.items.as_deref().expect("asked for arrays with items only")
}

fn object(
    d: &Document,
    path: &str,
    schema: &Schema,
    map: &Map<String, Value>,
    way: Way<'_>,
    out: &mut Out,
) {
    let inner =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, value) in map {
        if let Some(property) = schema.properties.get(name) {
            match way {
                // In JSON of Google's a field that is null is a field that is not there.
                Way::In(_) if value.is_null() => continue,
                Way::In(_) if property.read_only => {
                    out.push(at(&inner(name), "it is output only".to_owned()));
                }
                Way::In(_) | Way::Out => {}
            }
            check(d, &inner(name), property, value, way, out);
        } else if let Some(others) = &schema.additional_properties {
            check(d, &inner(name), others, value, way, out);
        } else {
            let place =
                if path.is_empty() { "resource".to_owned() } else { format!("resource.{path}") };
            let words = format!(
                "Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
            );
            out.push(Violation { at: inner(name), words });
        }
    }
    let Way::In(method) = way else { return };
    for (name, property) in &schema.properties {
        let needed = property.annotations.required.iter().any(|id| id == method);
        if needed && map.get(name).is_none_or(Value::is_null) {
            out.push(at(&inner(name), "Required field is missing".to_owned()));
        }
    }
}

fn text(d: &Document, path: &str, schema: &Schema, found: &str, out: &mut Out) {
    if let Some(values) = &schema.values
        && !values.iter().any(|value| value == found)
    {
        out.push(at(path, format!("\"{found}\" is none of {}", values.join(", "))));
    }
    // That of an array is for its items, and has been looked at.
    if let Some(pattern) = &schema.pattern
        && schema.kind.as_deref() == Some("string")
        && !d.matches(pattern, found)
    {
        out.push(at(path, mismatch(found, pattern)));
    }
    let fits = match schema.format.as_deref() {
        Some("int64") => found.parse::<i64>().is_ok(),
        Some("uint64") => found.parse::<u64>().is_ok(),
        Some("byte") => STANDARD.decode(found).is_ok() || URL_SAFE.decode(found).is_ok(),
        Some("date-time") => found.parse::<Timestamp>().is_ok(),
        _ => true,
    };
    if !fits {
        let format = schema.format.as_deref().unwrap_or_default();
        out.push(at(path, format!("\"{found}\" is no {format}")));
    }
}

fn mismatch(found: &str, pattern: &str) -> String {
    format!("Must be a match of regex '{pattern}', and '{found}' is not")
}

fn article(kind: &str) -> String {
    format!("it must be of type {kind}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::DISCOVERY;
    use super::*;

    fn found(http: &str, path: &str) -> Found {
        DISCOVERY.find(http, &format!("/compute/v1/projects/p/{path}")).expect("a method")
    }

    fn told(violations: Out) -> String {
        let told = violations.into_iter().map(|it| format!("{}: {}", it.at, it.words));
        told.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_body_is_held_to_its_schema() {
        let insert = found("POST", "zones/z/instances");
        let check = |body: Value, expected: &str| {
            let told = told(request(&insert, &body));
            assert!(
                told.starts_with(expected) && expected.is_empty() == told.is_empty(),
                "{body}\n  is: {told}\n  not: {expected}"
            );
        };
        check(json!({"name": "a", "labels": {"b": "c"}, "description": null}), "");
        check(json!({}), "name: Required field is missing");
        check(json!({"name": "A"}), "name: Must be a match of regex '[a-z]");
        check(
            json!({"name": "a", "machineTyp": "x"}),
            "machineTyp: Invalid JSON payload received. Unknown name \"machineTyp\" at 'resource': Cannot find field.",
        );
        check(
            json!({"name": "a", "disks": [{"bot": true}]}),
            "disks[0].bot: Invalid JSON payload received. Unknown name \"bot\" at 'resource.disks[0]'",
        );
        check(json!({"name": "a", "status": "RUNNING"}), "status: it is output only");
        check(
            json!({"name": "a", "canIpForward": "yes"}),
            "canIpForward: Invalid value (it must be of type boolean)",
        );
        check(
            json!({"name": "a", "scheduling": {"provisioningModel": "CHEAP"}}),
            "scheduling.provisioningModel: \"CHEAP\" is none of FLEX_START",
        );
        check(
            json!({"name": "a", "scheduling": {"maxRunDuration": {"seconds": 60}}}),
            "scheduling.maxRunDuration.seconds: a int64 is a JSON string",
        );
        check(
            json!({"name": "a", "scheduling": {"maxRunDuration": {"seconds": "x"}}}),
            "scheduling.maxRunDuration.seconds: \"x\" is no int64",
        );
        check(
            json!({"name": "a", "scheduling": {"minNodeCpus": 3_000_000_000_u32}}),
            "scheduling.minNodeCpus: 3000000000 is no int32",
        );
        check(
            json!({"name": "a", "tags": {"items": ["ok", "Not"]}}),
            "tags.items: Must be a match of regex",
        );
        check(
            json!({"name": "a", "metadata": {"items": [{"key": "k"}]}}),
            "metadata.items[0].value: Required field is missing",
        );
        check(
            json!({"name": "a", "metadata": {"fingerprint": "!"}}),
            "metadata.fingerprint: \"!\" is no byte",
        );
        check(
            json!({"name": "a", "labels": {"n": 1}}),
            "labels.n: Invalid value (it must be of type string)",
        );
        check(json!(["a"]), ": Invalid value (it must be of type object)");
    }

    #[test]
    fn a_query_is_held_to_its_parameters() {
        let list = found("GET", "zones/z/instances");
        let check = |query: &[(&str, &str)], expected: &str| {
            let query: Vec<_> =
                query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(told(parameters(&list, &query)), expected);
        };
        check(&[("filter", "name = a"), ("fields", "items"), ("$alt", "json"), ("key", "k")], "");
        check(&[("maxResults", "few")], "maxResults: 'few' is not of type integer");
        check(&[("maxResults", "-1")], "maxResults: '-1' is out of range");
        check(&[("prettyPrint", "no")], "prettyPrint: 'no' is not of type boolean");
        check(&[("filter", "a"), ("filter", "b")], "filter: it is given more than once");
        check(&[("alt", "xml")], "alt: \"xml\" is none of json, media, proto");
        check(
            &[("returnPartialSuccess", "true")],
            ": Invalid JSON payload received. Unknown name \"returnPartialSuccess\": Cannot bind query parameter. Field 'returnPartialSuccess' could not be found in request message.",
        );
        let upper = found("GET", "zones/Z/instances");
        assert!(told(parameters(&upper, &[])).starts_with("zone: Must be a match of regex"));
    }

    #[test]
    fn answers_are_held_to_theirs() {
        let get = found("GET", "zones/z/instances/i");
        assert_eq!(answer(&get, &json!({"status": "RUNNING", "id": "1"})), []);
        assert_eq!(
            told(answer(&get, &json!({"id": 1}))),
            "id: a uint64 is a JSON string, and 1 is a number"
        );
        assert!(told(answer(&get, &json!({"stat": "x"}))).contains("Unknown name \"stat\""));
        assert!(told(answer(&get, &json!({"status": "ASLEEP"}))).contains("none of"));
    }
}
