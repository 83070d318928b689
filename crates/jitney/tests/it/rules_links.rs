//! Every link in every page leads somewhere: to a file that is there, and a heading that is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::rules::{expect_none, files, repository};

/// A page without its code, where brackets mean something else.
fn prose(page: &str) -> String {
    let mut out = String::new();
    let mut fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            // Every other part between backticks is code.
            out.extend(line.split('`').step_by(2));
        }
        out.push('\n');
    }
    out
}

/// `[text](target)` and `[name]: target`, with the line.
fn links(page: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (at, line) in prose(page).lines().enumerate() {
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push((at + 1, target.split(' ').next().unwrap_or_default().to_owned()));
            }
        }
        let defined = line.strip_prefix('[').and_then(|line| line.split_once("]: "));
        if let Some((_, target)) = defined {
            links.push((at + 1, target.trim().to_owned()));
        }
    }
    links
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    let mut fenced = false;
    for line in page.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let slug: String = title.trim().to_lowercase().chars().filter(kept).collect();
        let slug = slug.replace(' ', "-");
        let count = seen.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

/// `docs/../README.md` as `README.md`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, component| {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => {
                plain.push(component)
            }
        }
        plain
    })
}

/// What is wrong with a link on a page, if anything.
fn fault(page: &str, target: &str, pages: &BTreeMap<String, String>) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let directory = Path::new(page).parent().unwrap_or(Path::new(""));
    let path = if file.is_empty() { PathBuf::from(page) } else { plain(&directory.join(file)) };
    if !repository().join(&path).exists() {
        return Some("there is no such file");
    }
    let page = pages.get(path.to_str()?)?;
    (!anchor.is_empty() && !anchors(page).contains(anchor)).then_some("there is no such heading")
}

#[test]
fn links_resolve() {
    let pages: BTreeMap<String, String> =
        files().into_iter().filter(|(path, _)| path.ends_with(".md")).collect();
    assert!(pages.contains_key("docs/configuration.md"));
    let broken = pages.iter().flat_map(|(page, text)| {
        let broken = links(text).into_iter().filter_map(|(line, target)| {
            let fault = fault(page, &target, &pages)?;
            Some(format!("{page}:{line} {target}: {fault}"))
        });
        broken.collect::<Vec<_>>()
    });
    expect_none("links lead somewhere", broken);
}

/// The test above can fail.
#[test]
fn broken_links_are_found() {
    let pages: BTreeMap<String, String> = files().into_iter().collect();
    let check = |target: &str, expected: Option<&str>| {
        assert_eq!(fault("docs/configuration.md", target, &pages), expected, "of {target}");
    };
    check("https://example.com/nowhere", None);
    check("jitney.yaml", None);
    check("../Cargo.toml", None);
    check("#configuration", None);
    check("#nowhere", Some("there is no such heading"));
    check("nowhere.md", Some("there is no such file"));
    check("../docs/configuration.md#nowhere", Some("there is no such heading"));
    let page =
        "see [one](a.md) and [two](b.md#c \"title\")\n```\n[no](x.md)\n```\n[ref]: d.md\n`[no](y)`";
    let found: Vec<String> = links(page).into_iter().map(|(at, to)| format!("{at} {to}")).collect();
    assert_eq!(found, ["1 a.md", "1 b.md#c", "5 d.md"]);
    assert!(anchors("# One\n## `two.*`: Three\n## One\n").contains("two-three"));
    assert!(anchors("# One\n## One\n").contains("one-1"));
}
