//! The schema of the chart's values knows exactly the keys that the configuration has, so that helm
//! refuses a misspelt one before anything is changed.

use std::collections::BTreeMap;

use jitney::config::Config;
use serde_json::{Value, json};

use crate::rules::repository;

/// Keys below keys. `*` stands for any name, `[]` for each item of a list.
#[derive(Default)]
struct Tree(BTreeMap<String, Tree>);

impl Tree {
    /// Adds `policies[].match.pipeline`.
    fn add(&mut self, pattern: &str) {
        let mut at = self;
        for part in pattern.split('.') {
            let (name, item) =
                part.strip_suffix("[]").map_or((part, None), |name| (name, Some("[]")));
            for step in [Some(name), item].into_iter().flatten() {
                at = at.0.entry(step.to_owned()).or_default();
            }
        }
    }

    /// What is said of values is which keys they have: what may stand there is Jitney's own to say,
    /// and any text may be `${NAME}`. `null` is a default.
    fn schema(&self) -> Value {
        if let Some(items) = self.0.get("[]") {
            return json!({ "type": ["array", "null"], "items": items.schema() });
        }
        if let Some(any) = self.0.get("*") {
            return json!({ "type": ["object", "null"], "additionalProperties": any.schema() });
        }
        if self.0.is_empty() {
            return json!({});
        }
        let properties: BTreeMap<&str, Value> =
            self.0.iter().map(|(name, tree)| (&**name, tree.schema())).collect();
        json!({
            "type": ["object", "null"],
            "additionalProperties": false,
            "properties": properties,
        })
    }
}

#[test]
fn the_schema_has_the_keys_of_the_configuration() {
    let text = std::fs::read_to_string(repository().join("docs/jitney.yaml")).expect("a file");
    let (_, keys) =
        Config::parse_with_keys("jitney.yaml", &text, &|_| None).expect("the example is accepted");
    let mut tree = Tree::default();
    keys.keys().for_each(|pattern| tree.add(pattern));
    let mut expected = tree.schema();
    expected["type"] = json!("object");
    let path = repository().join("deploy/helm/jitney/values.schema.json");
    let schema = std::fs::read_to_string(path).expect("the schema is there");
    let mut schema: Value = serde_json::from_str(&schema).expect("it is JSON");
    if schema["properties"]["config"] == expected {
        return;
    }
    schema["properties"]["config"] = expected;
    let better = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("values.schema.json");
    let text = serde_json::to_string_pretty(&schema).expect("it is JSON");
    std::fs::write(&better, text + "\n").expect("it is written");
    panic!("the schema has other keys than the configuration; it should be {}", better.display());
}
