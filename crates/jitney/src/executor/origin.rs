//! From a job's environment, the few facts that a policy may ask for. The rest of it may hold the
//! pipeline's secrets: it is dropped here, and never logged.

use std::collections::BTreeMap;
use std::sync::Arc;

use planner::Origin;

/// Who wrote the commit, and who made the build: the former is blank where a build was made by hand.
const AUTHORS: [&str; 4] = [
    "BUILDKITE_BUILD_AUTHOR",
    "BUILDKITE_BUILD_AUTHOR_EMAIL",
    "BUILDKITE_BUILD_CREATOR",
    "BUILDKITE_BUILD_CREATOR_EMAIL",
];

pub(super) fn origin(environment: &BTreeMap<String, String>) -> Origin {
    let get = |name: &str| {
        environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    };
    // A number, or `false`.
    let pull_request = get("BUILDKITE_PULL_REQUEST").map(|value| value != "false");
    let repositories = get("BUILDKITE_REPO").zip(get("BUILDKITE_PULL_REQUEST_REPO"));
    let fork = match pull_request {
        Some(true) => repositories.and_then(|(ours, theirs)| differ(ours, theirs)),
        Some(false) => Some(false),
        None => None,
    };
    let authors = AUTHORS.into_iter().filter_map(get).map(Arc::from).collect();
    Origin { pull_request, fork, authors }
}

/// Whether two addresses are of different repositories. The same path on another host may be the
/// same repository under another name, or another one: nobody can tell.
fn differ(one: &str, other: &str) -> Option<bool> {
    let ((one_host, one_path), (other_host, other_path)) = (parts(one), parts(other));
    if one_path != other_path {
        return Some(true);
    }
    (one_host == other_host).then_some(false)
}

/// Host and path of `git@host:path.git`, `ssh://git@host:22/path`, `https://host/path.git/`.
fn parts(address: &str) -> (String, String) {
    let address = address.to_lowercase();
    let (has_scheme, rest) = match address.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, address.as_str()),
    };
    let (authority, path) = match (has_scheme, rest.find([':', '/'])) {
        (false, Some(end)) => (&rest[..end], &rest[end + 1..]),
        (true, _) => rest.split_once('/').unwrap_or((rest, "")),
        (false, None) => (rest, ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let path = path.trim_matches('/');
    (host.to_owned(), path.strip_suffix(".git").unwrap_or(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(environment: &[(&str, &str)], expected: (Option<bool>, Option<bool>, &[&str])) {
        let environment = environment
            .iter()
            .map(|(name, value)| (format!("BUILDKITE_{name}"), (*value).to_owned()))
            .collect();
        let Origin { pull_request, fork, authors } = origin(&environment);
        let authors: Vec<&str> = authors.iter().map(|author| &**author).collect();
        assert_eq!((pull_request, fork, authors.as_slice()), expected);
    }

    const REPO: (&str, &str) = ("REPO", "git@github.com:Acme/web.git");

    #[test]
    fn a_push_is_from_no_pull_request_and_no_fork() {
        check(&[REPO, ("PULL_REQUEST", "false")], (Some(false), Some(false), &[]));
    }

    #[test]
    fn a_pull_request_is_from_a_fork_where_its_repository_is_another() {
        for (theirs, fork) in [
            ("git://github.com/acme/web.git", Some(false)),
            ("https://kim:secret@github.com/acme/web/", Some(false)),
            ("ssh://git@github.com:22/acme/web.git", Some(false)),
            ("git://github.com/kim/web.git", Some(true)),
            ("https://github.com/acme/web.git.evil", Some(true)),
            ("https://gitlab.example/acme/web.git", None),
            ("", None),
        ] {
            let environment = [REPO, ("PULL_REQUEST", "12"), ("PULL_REQUEST_REPO", theirs)];
            check(&environment, (Some(true), fork, &[]));
        }
    }

    #[test]
    fn what_is_not_said_is_unknown() {
        check(&[], (None, None, &[]));
        check(&[("PULL_REQUEST", ""), ("BUILD_AUTHOR", " ")], (None, None, &[]));
        check(&[("PULL_REQUEST", "12"), ("PULL_REQUEST_REPO", "a")], (Some(true), None, &[]));
    }

    #[test]
    fn whoever_wrote_it_or_made_the_build_counts() {
        let environment = [
            ("PULL_REQUEST", "false"),
            ("BUILD_AUTHOR", ""),
            ("BUILD_CREATOR", "Kim"),
            ("BUILD_CREATOR_EMAIL", "kim@acme.example"),
        ];
        check(&environment, (Some(false), Some(false), &["Kim", "kim@acme.example"]));
    }
}
