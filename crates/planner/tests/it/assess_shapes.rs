//! What a job gets: words, classes, defaults, and the administrator's word.

use std::time::Duration;

use planner::{Bytes, Cpu, Glob, Limits, Policy, Refusal, Rule, Shapes, Spot, assess, check_tag};

use crate::assess::{check, edit, explained, policy, row, show, words};

/// The shape, or what is said against the tags.
fn shapes(policy: &Policy, cases: &[(&str, &str)]) {
    for (tags, expected) in cases {
        let rules: Vec<String> = tags.split_whitespace().map(str::to_string).collect();
        let got = match explained(&rules, "web", policy).shape {
            Ok(shape) => shape.to_string(),
            Err(refusal) => format!("{refusal:?}"),
        };
        assert_eq!(got, *expected, "of {tags:?}");
    }
}

#[test]
fn every_word_has_its_value() {
    shapes(
        &policy(),
        &[
            ("cpu=0.5 memory=1.5G", "0.5 vCPU, 1.5 GiB"),
            ("disk=200G disk-type=pd-ssd", "2 vCPU, 4 GiB, 200 GiB disk, pd-ssd"),
            ("local-ssd=2", "2 vCPU, 4 GiB, 2 local SSDs"),
            ("local-ssd=0", "2 vCPU, 4 GiB"),
            ("local-ssd=375G", "2 vCPU, 4 GiB, 1 local SSD"),
            ("local-ssd=750G", "2 vCPU, 4 GiB, 2 local SSDs"),
            ("local-ssd=751G", "2 vCPU, 4 GiB, 3 local SSDs"),
            ("arch=x86_64", "2 vCPU, 4 GiB, amd64"),
            ("arch=aarch64", "2 vCPU, 4 GiB, arm64"),
            ("family=n2,n2d", "2 vCPU, 4 GiB, n2 or n2d"),
            (
                "gpu=nvidia-l4:2 image=ci-rust-1.95",
                "2 vCPU, 4 GiB, gpu nvidia-l4:2, image ci-rust-1.95",
            ),
            (
                "zone=europe-west4-a region=europe-west4",
                "2 vCPU, 4 GiB, europe-west4-a, europe-west4",
            ),
            ("spot=true", "2 vCPU, 4 GiB, spot prefer"),
            ("spot=false", "2 vCPU, 4 GiB, spot never"),
            ("spot=require", "2 vCPU, 4 GiB, spot require"),
        ],
    );
}

#[test]
fn a_value_that_does_not_parse_names_the_tag_and_the_remedy() {
    check(
        &policy(),
        &[
            (
                "memory=64GB!",
                "invalid memory=64GB!: \"GB!\" is not a unit of size. Write memory: 64G (or K, M, T)",
            ),
            ("cpu=0 memory=64", "invalid cpu=0: no machine has 0 vCPUs. Write cpu: 2"),
            ("memory=64", "invalid memory=64: \"64\" has no unit. Write memory: 64G (or K, M, T)"),
            ("memory=0G", "invalid memory=0G: no machine has 0 memory. Write memory: 4G"),
            ("cpu=0", "invalid cpu=0: no machine has 0 vCPUs. Write cpu: 2"),
            (
                "cpu",
                "invalid cpu=true: \"true\" is not a number of vCPUs. Write cpu: 2 or cpu: 0.5",
            ),
            (
                "local-ssd=two",
                "invalid local-ssd=two: \"two\" is not a size. Write local-ssd: 2 (disks of 375 GiB) or 750G",
            ),
            (
                "arch=riscv",
                "invalid arch=riscv: \"riscv\" is not an architecture. Write arch: amd64 or arm64",
            ),
            (
                "spot=requre",
                "invalid spot=requre: \"requre\" is not a word for spot. Write spot: require (or allow, prefer, require, never)",
            ),
            (
                "spot=maybe",
                "invalid spot=maybe: \"maybe\" is not a word for spot. Write spot: allow, prefer, require or never",
            ),
            (
                "time=90",
                "invalid time=90: \"90\" has no unit. Write time: 90s, 90m or 90h (also ms, d)",
            ),
            (
                "image=ci;rm",
                "invalid image=ci;rm: a name cannot contain ;. Write image: a name such as ci-debian-12",
            ),
            (
                "family=n2,,c3",
                "invalid family=n2,,c3: a name is missing. Write family: a name such as n2 or n2,n2d",
            ),
            ("cpu=2 cpu=4", "invalid cpu=4: cpu=2 is asked for as well. Write cpu once"),
        ],
    );
}

#[test]
fn a_class_stands_for_words_and_the_jobs_own_win() {
    shapes(
        &policy(),
        &[("class=large", "16 vCPU, 64 GiB"), ("memory=8G class=large", "16 vCPU, 8 GiB")],
    );
    check(
        &policy(),
        &[
            (
                "class=lagre",
                "invalid class=lagre: there is no class of this name. Did you mean class: large?",
            ),
            (
                "class=tiny",
                "invalid class=tiny: there is no class of this name. Write class: huge or large",
            ),
            (
                "class=huge",
                "invalid class=huge: queue jit allows at most 96 vCPU (128 vCPU is more). Write cpu: 96 or less",
            ),
        ],
    );
    let mut none = policy();
    none.classes.clear();
    let expected = "invalid class=large: there is no class of this name. \
                    No classes are configured; write cpu and memory instead";
    check(&none, &[("class=large", expected)]);
}

#[test]
fn defaults_fill_the_rest_and_are_cut_to_what_is_allowed() {
    let policy = edit(|queue| {
        queue.defaults.words = words(&[("arch", "amd64"), ("spot", "prefer")]);
        queue.defaults.disk = Some(Bytes::gib(4096));
        queue.largest.cpu = Some(Cpu::from_millis(1500));
    });
    shapes(
        &policy,
        &[
            ("", "1.5 vCPU, 4 GiB, 2 TiB disk, amd64, spot prefer"),
            ("spot=allow arch=arm64 disk=1G", "1.5 vCPU, 4 GiB, 1 GiB disk, arm64"),
        ],
    );
    let bare = edit(|queue| {
        queue.defaults = Shapes::default();
        queue.largest = Shapes::default();
    });
    let explained = explained(&[], "web", &bare);
    let shape = explained.shape.unwrap();
    assert_eq!(shape.to_string(), "1 vCPU, 2 GiB", "what a job gets where nobody says anything");
    assert_eq!(shape.time, Duration::from_secs(6 * 3600));
}

#[test]
fn what_is_just_allowed_is_allowed() {
    shapes(
        &policy(),
        &[(
            "cpu=96 memory=768G disk=2T local-ssd=8 time=6h",
            "96 vCPU, 768 GiB, 2 TiB disk, 8 local SSDs",
        )],
    );
}

#[test]
fn too_much_names_the_limit_and_whose_it_is() {
    let limited = |change: fn(&mut Policy)| {
        let mut policy = policy();
        change(&mut policy);
        policy
    };
    check(
        &policy(),
        &[
            ("cpu=97", "invalid cpu=97: queue jit allows at most 96 vCPU. Write cpu: 96 or less"),
            (
                "memory=1T",
                "invalid memory=1T: queue jit allows at most 768 GiB. Write memory: 768G or less",
            ),
            ("disk=3T", "invalid disk=3T: queue jit allows at most 2 TiB. Write disk: 2T or less"),
            (
                "local-ssd=9",
                "invalid local-ssd=9: queue jit allows at most 8 local SSDs. Write local-ssd: 8 or less",
            ),
            ("time=7h", "invalid time=7h: queue jit allows at most 6h. Write time: 6h or less"),
        ],
    );
    check(
        &limited(|policy| policy.limits.cpu = Some(Cpu::from_millis(10_000))),
        &[(
            "cpu=12",
            "invalid cpu=12: all jobs of this installation together may use at most 10 vCPU. Write cpu: 10 or less",
        )],
    );
    check(
        &limited(|policy| {
            policy.rules.push(Rule {
                queue: Some(Glob::new("j*")),
                limits: Limits { memory: Some(Bytes::gib(16)), ..Limits::default() },
                ..Rule::default()
            });
        }),
        &[(
            "memory=17G",
            "invalid memory=17G: all jobs of the policy on queue j* together may use at most 16 GiB. Write memory: 16G or less",
        )],
    );
    check(
        &limited(|policy| policy.limits.cpu = Some(Cpu::from_millis(0))),
        &[("", "2 vCPU, 4 GiB @ here theirs [queue=jit os=linux]")],
    );
}

#[test]
fn the_strictest_policy_wins() {
    let deploy = |tags: &str| show(&assess(&row(tags, "deploy-web", "main"), &policy()));
    let whose = "the policy on pipeline deploy-*, branch main";
    for (tags, expected) in [
        ("", "2 vCPU, 4 GiB, spot never @ theirs [queue=jit os=linux]".to_string()),
        (
            "image=ci-deploy",
            "2 vCPU, 4 GiB, image ci-deploy, spot never @ theirs [queue=jit os=linux]".to_string(),
        ),
        (
            "image=ci-rust",
            format!(
                "invalid image=ci-rust: {whose} does not allow this image. Write image: ci-deploy"
            ),
        ),
        ("cpu=5", format!("invalid cpu=5: {whose} allows at most 4 vCPU. Write cpu: 4 or less")),
        (
            "spot=require",
            format!(
                "invalid spot=require: {whose} allows no interruptible machines. Write spot: allow, or leave it out"
            ),
        ),
        ("spot=prefer", "2 vCPU, 4 GiB, spot never @ theirs [queue=jit os=linux]".to_string()),
    ] {
        assert_eq!(deploy(tags), expected, "of {tags:?}");
    }
}

#[test]
fn a_policy_on_all_jobs_may_forbid_everything() {
    let all = |rule: Rule| {
        let mut policy = policy();
        policy.rules = vec![rule];
        policy
    };
    let no_images = all(Rule { images: Some(Vec::new()), ..Rule::default() });
    check(
        &no_images,
        &[
            (
                "image=x",
                "invalid image=x: the policy on all jobs does not allow this image. Leave image out",
            ),
            ("", "2 vCPU, 4 GiB @ here theirs [queue=jit os=linux]"),
        ],
    );
    let nowhere = all(Rule { backends: Some(Vec::new()), ..Rule::default() });
    let none = "the policy on all jobs allows no backend at all.";
    check(&nowhere, &[("", &format!("no offer for 2 vCPU, 4 GiB: {none} | {none}"))]);
}

#[test]
fn never_outweighs_require_between_administrators() {
    for (queue, rule, expected) in [
        (Spot::Require, Spot::Never, Spot::Never),
        (Spot::Never, Spot::Require, Spot::Never),
        (Spot::Prefer, Spot::Require, Spot::Require),
        (Spot::Prefer, Spot::Allow, Spot::Prefer),
    ] {
        let mut policy = edit(|policy| policy.spot = queue);
        policy.rules = vec![Rule { spot: Some(rule), ..Rule::default() }];
        let shape = explained(&[], "web", &policy).shape.unwrap();
        assert_eq!(shape.spot, expected, "queue {queue}, policy {rule}");
    }
}

#[test]
fn images_have_to_be_allowed() {
    let policy = edit(|queue| {
        queue.images = vec![Glob::new("ci-debian-12"), Glob::new("ci-rust-*")];
        queue.defaults.words = words(&[("image", "ci-old")]);
    });
    shapes(&policy, &[("image=ci-rust-1.95", "2 vCPU, 4 GiB, image ci-rust-1.95")]);
    check(
        &policy,
        &[
            (
                "image=mine",
                "invalid image=mine: queue jit does not allow this image. Write one of ci-debian-12, ci-rust-*",
            ),
            (
                "",
                "invalid image=ci-old: queue jit does not allow this image, which is the queue's default. Write one of ci-debian-12, ci-rust-*",
            ),
        ],
    );
}

#[test]
fn spot_is_the_administrators_word_first() {
    let all = [Spot::Allow, Spot::Prefer, Spot::Require, Spot::Never];
    let mut table = String::new();
    for queue in all {
        for job in all {
            let policy = edit(|policy| policy.spot = queue);
            let rules = [format!("spot={job}")];
            let got = match explained(&rules, "web", &policy).shape {
                Ok(shape) => shape.spot.to_string(),
                Err(Refusal::Invalid(_)) => "invalid".into(),
                Err(Refusal::Foreign(foreign)) => panic!("{foreign:?}"),
            };
            table.push_str(&format!("{queue} {job} {got}\n"));
        }
    }
    assert_eq!(
        table,
        "allow allow allow\nallow prefer prefer\nallow require require\nallow never never\n\
         prefer allow prefer\nprefer prefer prefer\nprefer require require\nprefer never never\n\
         require allow require\nrequire prefer require\nrequire require require\nrequire never invalid\n\
         never allow never\nnever prefer never\nnever require invalid\nnever never never\n"
    );
}

#[test]
fn a_configuration_can_ask_whether_a_word_is_right() {
    assert_eq!(check_tag("cpu", "4"), Some(Ok(())));
    assert_eq!(check_tag("os", "linux"), None);
    let error = check_tag("memory", "4").unwrap().unwrap_err();
    assert_eq!(error.to_string(), "memory=4: \"4\" has no unit. Write memory: 4G (or K, M, T)");
}
