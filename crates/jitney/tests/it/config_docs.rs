//! `docs/configuration.md` and the parser agree: every key, every default, every example.

use std::collections::BTreeMap;

use jitney::config::{Config, Key};

use crate::config::complete;
use crate::rules::{expect_none, repository};

/// Blocks that are explained once and stand in several places.
const SHARED: [(&str, &str); 9] = [
    ("queues.*.limits.", "limits."),
    ("policies[].limits.", "limits."),
    ("backends.*.limits.", "limits."),
    ("queues.*.defaults.", "classes.*."),
    ("queues.*.largest.", "classes.*."),
    ("policies[].largest.", "classes.*."),
    ("fleets.*.template_from.", "backends.*.kubernetes.template_from."),
    ("tls.", "tls."),
    ("access.", "access."),
];

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join("docs").join(name)).expect("the page is there")
}

/// Every key that there is, where its explanation is to be found.
fn keys() -> BTreeMap<String, Key> {
    let text = read("jitney.yaml");
    let (_, keys) =
        Config::parse_with_keys("jitney.yaml", &text, &|_| None).expect("the example is accepted");
    assert!(keys.len() > 150, "the example reaches only {} keys", keys.len());
    let shared = |pattern: String| {
        let block = SHARED.iter().find(|(prefix, _)| pattern.starts_with(prefix));
        block.map_or(pattern.clone(), |(prefix, place)| pattern.replacen(prefix, place, 1))
    };
    keys.into_iter().map(|(pattern, key)| (shared(pattern), key)).collect()
}

/// The rows of the page's tables that explain a key: its pattern and what is said of its default.
fn rows() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    let page = read("configuration.md");
    let lines = page.lines().skip_while(|line| *line != "## The program itself");
    for line in lines.filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [key, _, default, _] = cells.as_slice() else { panic!("four cells: {line}") };
        let pattern = key.trim_end_matches(" †").trim_matches('`').replace(".NAME", ".*");
        let before = rows.insert(pattern, (*default).to_owned());
        assert!(before.is_none(), "explained twice: {line}");
    }
    rows
}

#[test]
fn every_key_is_explained() {
    let (keys, rows) = (keys(), rows());
    let has_parts = |pattern: &str| {
        keys.keys()
            .any(|key| key.strip_prefix(pattern).is_some_and(|rest| rest.starts_with(['.', '['])))
    };
    let missing = keys.keys().filter(|key| !rows.contains_key(*key) && !has_parts(key));
    expect_none("docs/configuration.md explains every key", missing.cloned());
    let invented = rows.keys().filter(|row| !keys.contains_key(*row));
    expect_none("docs/configuration.md explains only keys that there are", invented.cloned());
}

#[test]
fn defaults_are_explained_as_they_are() {
    let rows = rows();
    let wrong = keys().into_iter().filter_map(|(pattern, key)| {
        let said = rows.get(&pattern)?;
        let is_wrong = match key.default {
            Some(default) => said != &format!("`{default}`"),
            None => key.needed && said != "needed",
        };
        is_wrong.then(|| format!("{pattern}: the page says {said}, it is {key:?}"))
    });
    expect_none("docs/configuration.md says what the defaults are", wrong);
}

#[test]
fn the_pages_examples_are_accepted() {
    let page = read("configuration.md");
    let examples: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(example, _)| example))
        .collect();
    assert!(examples.len() > 12, "{} examples", examples.len());
    let set = |name: &str| Some(format!("value-of-{name}"));
    for example in examples {
        if let Err(error) = Config::parse("example", &complete(example), &set) {
            panic!("{:?}\nof:\n{example}", miette::Report::new(error));
        }
    }
}

/// What is marked as not in this build is what `run` refuses, and the other way round.
#[test]
fn what_is_not_in_this_build_is_marked() {
    let page = read("configuration.md");
    let marked = |path: &str| {
        let path = path.replace("policies[0]", "policies[]").replace("policies[1]", "policies[]");
        page.lines().any(|line| {
            let key = line.trim_start_matches("| ").split(" |").next().unwrap_or_default();
            key.ends_with('†') && key.trim_matches(['`', ' ', '†']).starts_with(path.as_str())
        })
    };
    for path in [
        "tls",
        "limits.cost_per_hour",
        "limits.leak_bond",
        "meter.sample",
        "traces.otlp",
        "store.redis",
        "replicas.lease",
        "notify.position",
    ] {
        assert!(marked(path), "{path} is not marked");
    }
    for path in ["name", "listen", "queues", "store.journal", "log.level"] {
        assert!(!marked(path), "{path} is marked");
    }
}
