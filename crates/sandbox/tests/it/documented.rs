//! `docs/sandbox.md` names every control, fault and quirk, and its examples work.

use serde_json::{Value, json};

use crate::support::{Caller, TOKEN, start};

const DOCS: &str = include_str!("../../../../docs/sandbox.md");
const CONTROLS: &str = include_str!("../../src/http/control.rs");

#[test]
fn every_control_is_documented() {
    let routes: Vec<&str> =
        CONTROLS.split("\"/_sandbox/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(routes.len() > 15, "the routes are no longer found where they were: {routes:?}");
    for route in routes {
        let named = route.replace("{id}", "ID").replace("{key}", "KEY");
        // Read-outs that belong together share a line, with the start of the later ones left out.
        let tail = named.rsplit('/').next().unwrap();
        let found = DOCS.contains(&format!("/_sandbox/{named}`"))
            || DOCS.contains(&format!("`…/{named}`"))
            || DOCS.contains(&format!("`…/{tail}`"))
            || DOCS.contains(&format!("`…/log/{tail}`"));
        assert!(found, "/_sandbox/{named} is not in docs/sandbox.md");
    }
}

#[test]
fn every_field_of_faults_and_quirks_is_documented() {
    for all in [json!(sandbox::Fault::default()), json!(sandbox::engine::Quirks::default())] {
        for field in all.as_object().unwrap().keys() {
            assert!(DOCS.contains(&format!("`{field}`")), "{field} is not in docs/sandbox.md");
        }
    }
}

#[tokio::test]
async fn the_examples_of_faults_are_taken() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    let examples: Vec<Value> = DOCS
        .split("/_sandbox/faults -d '")
        .skip(1)
        .filter_map(|rest| rest.split('\'').next())
        .map(|example| serde_json::from_str(example).unwrap())
        .collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let answer = caller.post("/_sandbox/faults", example.clone()).await;
        assert_eq!(answer.status, 200, "{example}: {}", answer.body);
    }
}
