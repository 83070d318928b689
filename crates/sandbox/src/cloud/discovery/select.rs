//! Partial answers: `fields=items(name,labels/a),nextPageToken`. It reads the selector, holds it to
//! the answer's schema and cuts the answer down to it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Document, Schema};

/// How deep a selector may go.
const DEEPEST: usize = 20;

/// Which fields are wanted; an empty one wants all there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cloud) struct Selection(BTreeMap<String, Selection>);

impl Selection {
    pub(in crate::cloud) fn read(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let selection = list(&mut rest, 0)?;
        if rest.is_empty() { Ok(selection) } else { Err(invalid(text)) }
    }

    /// The first name that the schema does not have.
    pub(in crate::cloud) fn check(
        &self,
        document: &Document,
        schema: &Schema,
    ) -> Result<(), String> {
        let schema = inner(document, schema);
        for (name, below) in &self.0 {
            if name == "*" {
                let mut any =
                    schema.properties.values().chain(schema.additional_properties.as_deref());
                let mut wrong = Ok(());
                let fits = any.any(|one| {
                    wrong = below.check(document, one);
                    wrong.is_ok()
                });
                if !fits {
                    return wrong;
                }
                continue;
            }
            let property = schema.properties.get(name).or(schema.additional_properties.as_deref());
            below.check(document, property.ok_or_else(|| invalid(name))?)?;
        }
        Ok(())
    }

    pub(in crate::cloud) fn cut(&self, value: Value) -> Value {
        if self.0.is_empty() {
            return value;
        }
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.cut(item)).collect(),
            Value::Object(map) => Value::Object(self.cut_map(map)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
        }
    }

    fn cut_map(&self, map: Map<String, Value>) -> Map<String, Value> {
        let wanted = |name: &String| self.0.get(name).or_else(|| self.0.get("*"));
        let kept = map.into_iter().filter_map(|(name, value)| {
            let below = wanted(&name)?;
            let value = below.cut(value);
            let empty = !below.0.is_empty() && value.as_object().is_some_and(Map::is_empty);
            (!empty).then_some((name, value))
        });
        kept.collect()
    }

    fn merge(&mut self, other: Self) {
        for (name, below) in other.0 {
            self.0.entry(name).or_default().merge(below);
        }
    }
}

/// What is in an array is selected as if the array were not there.
fn inner<'a>(document: &'a Document, schema: &'a Schema) -> &'a Schema {
    let schema = document.resolved(schema);
    schema.items.as_deref().map_or(schema, |items| inner(document, items))
}

fn invalid(name: &str) -> String {
    format!("Invalid field selection {name}")
}

/// `a,b/c(d,e)` up to the end or a closing parenthesis.
fn list(rest: &mut &str, depth: usize) -> Result<Selection, String> {
    if depth > DEEPEST {
        return Err("Invalid field selection: it is too deep".to_owned());
    }
    let mut selection = Selection::default();
    loop {
        selection.merge(path(rest, depth)?);
        match rest.strip_prefix(',') {
            Some(after) => *rest = after,
            None => return Ok(selection),
        }
    }
}

fn path(rest: &mut &str, depth: usize) -> Result<Selection, String> {
    if depth > DEEPEST {
        return Err("Invalid field selection: it is too deep".to_owned());
    }
    *rest = rest.trim_start();
    let end = rest.find([',', '/', '(', ')']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let name = name.trim();
    if name.is_empty() {
        return Err(invalid(after));
    }
    *rest = after;
    let below = if let Some(after) = rest.strip_prefix('/') {
        *rest = after;
        path(rest, depth + 1)?
    } else if let Some(after) = rest.strip_prefix('(') {
        *rest = after;
        let below = list(rest, depth + 1)?;
        *rest = rest.strip_prefix(')').ok_or_else(|| invalid(name))?.trim_start();
        below
    } else {
        Selection::default()
    };
    Ok(Selection(BTreeMap::from([(name.to_owned(), below)])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::DISCOVERY;
    use super::*;

    #[test]
    fn answers_are_cut_down() {
        let list = json!({
            "items": [{"name": "a", "id": "1", "labels": {"x": "1", "y": "2"}, "disks": [{"boot": true, "kind": "k"}]}],
            "kind": "list", "nextPageToken": "t",
        });
        let check = |fields: &str, expected: Value| {
            assert_eq!(Selection::read(fields).unwrap().cut(list.clone()), expected, "{fields}");
        };
        check("kind", json!({"kind": "list"}));
        check(
            "items(name,id), nextPageToken",
            json!({"items": [{"name": "a", "id": "1"}], "nextPageToken": "t"}),
        );
        check("items/name,items/id", json!({"items": [{"name": "a", "id": "1"}]}));
        check(
            "items(labels/x,disks(boot))",
            json!({"items": [{"labels": {"x": "1"}, "disks": [{"boot": true}]}]}),
        );
        check(
            "items/*/x",
            json!({"items": [{"labels": {"x": "1"}, "name": "a", "id": "1", "disks": [{}]}]}),
        );
        check("*", list.clone());
    }

    #[test]
    fn what_the_answer_does_not_have_cannot_be_selected() {
        let check = |fields: &str, expected: Result<(), &str>| {
            let method =
                DISCOVERY.find("GET", "/compute/v1/projects/p/aggregated/instances").unwrap();
            let schema = method.document.schema("InstanceAggregatedList");
            let selection =
                Selection::read(fields).and_then(|it| it.check(method.document, schema));
            assert_eq!(selection, expected.map_err(str::to_owned), "{fields}");
        };
        check("items/*/instances(name,status,labels/any),unreachables,nextPageToken", Ok(()));
        check("items/zones/instances", Ok(()));
        check("items/*/disks", Err("Invalid field selection disks"));
        check("item", Err("Invalid field selection item"));
        check("items(", Err("Invalid field selection "));
        check("items(kind", Err("Invalid field selection items"));
        check("kind)", Err("Invalid field selection kind)"));
        check("", Err("Invalid field selection "));
    }
}
