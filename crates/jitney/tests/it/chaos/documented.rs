//! The page on reliability names tests; each of them is there.

use std::collections::BTreeSet;

use crate::rules::{files, repository};

/// `` `crate: module::name` ``, as the page names a test.
fn named(page: &str) -> BTreeSet<&str> {
    let code = page.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split_once(": ")?.1.rsplit_once("::").map(|(_, name)| name))
        .collect()
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = std::fs::read_to_string(repository().join("docs/reliability.md")).unwrap();
    let named = named(&page);
    assert!(named.len() > 20, "the page names tests: {named:?}");
    let source: String = files()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(_, text)| text)
        .collect();
    let lost: Vec<_> =
        named.into_iter().filter(|name| !source.contains(&format!("fn {name}("))).collect();
    assert!(lost.is_empty(), "no such test: {lost:?}");
}
