//! What a pod's guest makes of its orders and of the image that it finds itself in.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::image::Lack;
use super::*;

fn orders() -> PodOrders {
    PodOrders {
        job: Uuid::from_u128(7),
        agent_name: "jitney-7-1".to_owned(),
        endpoint: "https://agent.buildkite.com/v3".to_owned(),
        tags: vec!["queue=jit".to_owned()],
        lifetime_s: 3600,
        grace_s: 15,
        env: BTreeMap::new(),
    }
}

fn whole(config: &Path) -> Orders {
    let env = BTreeMap::from([("LANG".to_owned(), "C".to_owned())]);
    whole_orders(orders(), env, Path::new("/a/buildkite-agent"), config)
}

#[test]
fn an_operators_configuration_is_used_where_it_is() {
    let root = tempfile::tempdir().expect("a directory");
    let none = whole(&root.path().join("absent"));
    assert_eq!((none.agent_config, none.env.get("BUILDKITE_HOOKS_PATH")), (None, None));
    assert_eq!(none.env["PATH"], USUAL_PATH, "an image may have no PATH of its own");

    let hooks = whole(root.path());
    assert_eq!(hooks.env["BUILDKITE_HOOKS_PATH"], root.path().display().to_string());

    fs::write(root.path().join("buildkite-agent.cfg"), "debug=true\n").expect("written");
    let both = whole(root.path());
    assert_eq!(both.agent_config, Some(root.path().join("buildkite-agent.cfg")));
    assert!(both.env.contains_key("BUILDKITE_HOOKS_PATH"));

    fs::write(root.path().join("buildkite-agent.cfg"), " hooks-path=/hooks\n").expect("written");
    assert!(!whole(root.path()).env.contains_key("BUILDKITE_HOOKS_PATH"), "it says where they are");
}

/// An image with these programs and files.
fn image(programs: &[&str], files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for path in programs.iter().chain(files) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, "").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    root
}

fn check(programs: &[&str], files: &[&str], env: &[(&str, &str)], expected: &str) -> Image {
    let root = image(programs, files);
    let mut whole = whole(Path::new("/absent"));
    whole.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let image = Image::look(&whole, root.path());
    assert_eq!(image.line().unwrap_or_default(), expected);
    image
}

#[test]
fn what_an_image_lacks_is_said_in_one_line() {
    let all = ["bin/bash", "usr/bin/git"];
    let trust = ["etc/ssl/certs/ca-certificates.crt", "root/.profile"];
    let home = [("HOME", "/root")];
    check(&all, &trust, &home, "");
    check(&["bin/bash"], &trust, &home, "the image has no git");
    check(&all, &["root/x"], &home, "the image has no CA certificates");
    check(&all, &["root/x"], &[home[0], ("SSL_CERT_FILE", "/x")], "");
    check(
        &all,
        &trust,
        &[("HOME", "/nonexistent")],
        "the image has no HOME that can be written to, so another is used",
    );
    let bare = check(
        &["bin/sh"],
        &["root/x"],
        &home,
        "the image has no bash, so commands run with sh, no git and no CA certificates",
    );
    assert!(!bare.is_unfit());
    let empty = check(
        &[],
        &[],
        &[],
        "the image has no shell (bash or sh), no git, no CA certificates and no HOME that can be \
         written to, so another is used",
    );
    assert!(empty.is_unfit());
}

#[test]
fn what_can_be_put_in_its_place_is() {
    let root = tempfile::tempdir().expect("a directory");
    let place = Place::new(root.path());
    let mut orders = whole(Path::new("/absent"));
    let image = Image { lacks: vec![Lack::Bash, Lack::Git, Lack::Home] };
    image.make_do(&mut orders, &place).expect("a home is made");
    assert_eq!(orders.env["BUILDKITE_SHELL"], "/bin/sh -e -c");
    assert_eq!(orders.env["HOME"], root.path().join("home").display().to_string());
    assert!(root.path().join("home").is_dir());
}

#[test]
fn the_kubelet_is_told_of_a_connection_once_there_is_one() {
    let root = tempfile::tempdir().expect("a directory");
    let answer = || format!("{:?}", is_connected(root.path()));
    let (yes, no) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
    assert_eq!(answer(), no, "there is no report yet");
    let report = |connected: &str| {
        let text =
            format!(r#"{{"phase":"booting","started_at":"2026-11-27T08:00:00Z"{connected}}}"#);
        fs::write(root.path().join("report.json"), text).expect("written");
    };
    report("");
    assert_eq!(answer(), no);
    report(r#","connected_at":"2026-11-27T08:00:01Z""#);
    assert_eq!(answer(), yes);
}

#[test]
fn the_agent_is_taken_from_where_its_image_has_it() {
    let from = image(&["opt/bin/buildkite-agent"], &[]);
    let found =
        find_program("buildkite-agent", &format!("/none:{}/opt/bin", from.path().display()));
    let to = from.path().join("buildkite-agent");
    copy_program(&found.expect("it is found"), &to).expect("copied");
    assert_eq!(fs::metadata(&to).expect("it is there").permissions().mode() & 0o777, 0o755);
    assert_eq!(find_program("buildkite-agent", "/none"), None);
}
