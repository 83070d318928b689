//! Where a shape could be made, and what each backend says against it.

use planner::{Arch, BackendKind, Bytes, Cpu, Explained, Glob, Shapes, Verdict, assess};

use crate::assess::{check, edit, explained, row};

#[test]
fn a_small_host_still_takes_a_job_that_says_nothing() {
    let mut policy = edit(|queue| {
        queue.backends = vec!["here".into()];
        queue.defaults = Shapes::default();
    });
    let capacity = &mut policy.backends.get_mut(&"here".into()).unwrap().capacity;
    capacity.cpu = Some(Cpu::from_millis(500));
    capacity.memory = Some(Bytes::gib(1));
    check(
        &policy,
        &[
            ("", "0.5 vCPU, 1 GiB @ here [queue=jit os=linux]"),
            (
                "memory=2G",
                "no offer for 0.5 vCPU, 2 GiB: here has 0.5 vCPU and 1 GiB; you asked for 0.5 vCPU \
                 and 2 GiB. Ask for at most memory: 1G.",
            ),
        ],
    );
    let queue = policy.queues.get_mut(&"jit".into()).unwrap();
    queue.backends.push("theirs".into());
    check(&policy, &[("", "1 vCPU, 2 GiB @ theirs [queue=jit os=linux]")]);
}

#[test]
fn what_no_backend_makes_says_why_for_each_and_what_would_fit() {
    let only_here = |queue: &mut planner::QueuePolicy| queue.backends = vec!["here".into()];
    let mut small = edit(only_here);
    check(
        &small,
        &[
            ("cpu=8 memory=32G", "8 vCPU, 32 GiB @ here [queue=jit os=linux]"),
            (
                "cpu=64 memory=64G",
                "no offer for 64 vCPU, 64 GiB: here has 8 vCPU and 32 GiB; you asked for 64 vCPU and 64 GiB. \
                 Ask for at most cpu: 8 and memory: 32G.",
            ),
            (
                "cpu=64",
                "no offer for 64 vCPU, 4 GiB: here has 8 vCPU and 32 GiB; you asked for 64 vCPU and 4 GiB. \
                 Ask for at most cpu: 8.",
            ),
            (
                "arch=arm64",
                "no offer for 2 vCPU, 4 GiB, arm64: here has amd64 machines only. Ask for arch: amd64, not arm64.",
            ),
            (
                "gpu=l4 image=x",
                "no offer for 2 vCPU, 4 GiB, gpu l4, image x: here has no images. Leave image out. here has no GPUs. Leave gpu out.",
            ),
            (
                "local-ssd=1",
                "no offer for 2 vCPU, 4 GiB, 1 local SSD: here has no local SSDs. Leave local-ssd out.",
            ),
            (
                "spot=require",
                "no offer for 2 vCPU, 4 GiB, spot require: here has no interruptible machines. Leave spot out.",
            ),
            ("zone=a", "no offer for 2 vCPU, 4 GiB, a: here has no zones. Leave zone out."),
            (
                "arch=amd64 spot=prefer",
                "2 vCPU, 4 GiB, amd64, spot prefer @ here [queue=jit os=linux]",
            ),
        ],
    );
    let here = small.backends.get_mut(&"here".into()).unwrap();
    here.limits.cpu = Some(Cpu::from_millis(4000));
    here.arch = None;
    check(
        &small,
        &[
            (
                "cpu=6",
                "no offer for 6 vCPU, 4 GiB: here has 4 vCPU and 32 GiB; you asked for 6 vCPU and 4 GiB. Ask for at most cpu: 4.",
            ),
            (
                "arch=arm64",
                "no offer for 2 vCPU, 4 GiB, arm64: here does not say which architecture it has. Leave arch: arm64 out.",
            ),
        ],
    );
}

#[test]
fn a_backend_that_is_stopped_by_a_limit_of_nothing_refuses_nobody_for_good() {
    let mut policy = edit(|queue| queue.backends = vec!["here".into()]);
    policy.backends.get_mut(&"here".into()).unwrap().limits.cpu = Some(Cpu::from_millis(0));
    check(&policy, &[("cpu=8", "8 vCPU, 4 GiB @ here [queue=jit os=linux]")]);
}

#[test]
fn a_service_of_the_users_gets_images_and_architectures_passed_on() {
    let mut policy = edit(|queue| queue.backends = vec!["theirs".into()]);
    check(
        &policy,
        &[
            (
                "arch=arm64 image=x cpu=90",
                "90 vCPU, 4 GiB, arm64, image x @ theirs [queue=jit os=linux]",
            ),
            (
                "family=n2",
                "no offer for 2 vCPU, 4 GiB, n2: theirs has no machine families. Leave family out.",
            ),
        ],
    );
    let theirs = policy.backends.get_mut(&"theirs".into()).unwrap();
    theirs.arch = Some(Arch::Amd64);
    theirs.images = vec![Glob::new("ci-*")];
    check(
        &policy,
        &[
            ("image=ci-1", "2 vCPU, 4 GiB, image ci-1 @ theirs [queue=jit os=linux]"),
            (
                "image=x",
                "no offer for 2 vCPU, 4 GiB, image x: theirs has no image x. Ask for one of ci-*.",
            ),
            (
                "arch=arm64",
                "no offer for 2 vCPU, 4 GiB, arm64: theirs has amd64 machines only. Ask for arch: amd64, not arm64.",
            ),
        ],
    );
}

#[test]
fn a_plan_hears_every_backend() {
    let mut policy = edit(|queue| {
        queue.backends = ["vms", "here", "gone", "theirs"].map(Into::into).to_vec();
    });
    let mut vms = policy.backends[&"here".into()].clone();
    vms.kind = BackendKind::Gce;
    policy.backends.insert("vms".into(), vms);
    let rules = ["cpu=16".to_string()];
    let Explained { shape, offers, exclusions, passed_over, policies, doubtful, tags } =
        explained(&rules, "web", &policy);
    assert_eq!(shape.unwrap().to_string(), "16 vCPU, 4 GiB");
    let offers: Vec<_> =
        offers.iter().map(|offer| (offer.backend.as_str(), &*offer.machine_type)).collect();
    assert_eq!(offers, [("theirs", "")]);
    let said: Vec<String> = exclusions.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert_eq!(
        said,
        [
            "vms: vms is a gce backend, which is not in this build.",
            "here: here has 8 vCPU and 32 GiB; you asked for 16 vCPU and 4 GiB. Ask for at most cpu: 8.",
            "gone: gone is not configured.",
        ]
    );
    assert_eq!((doubtful, passed_over), (policies.clone(), vec![]));
    assert_eq!((policies, tags), (vec![], vec!["queue=jit".to_string(), "os=linux".to_string()]));

    let denied = explained(&[], "deploy-x", &policy);
    let said: Vec<&str> = denied.exclusions.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(
        said[1],
        "the policy on pipeline deploy-*, branch main does not allow here, only theirs."
    );
    assert_eq!(denied.policies, [0]);
}

#[test]
fn offers_keep_the_queues_order_at_equal_price() {
    let policy = edit(|queue| queue.backends = vec!["theirs".into(), "here".into()]);
    match assess(&row("", "web", "main"), &policy) {
        Verdict::Ours(request) => {
            let order: Vec<&str> =
                request.offers.iter().map(|offer| offer.backend.as_str()).collect();
            assert_eq!(order, ["theirs", "here"]);
        }
        other @ (Verdict::Invalid(_) | Verdict::Foreign(_) | Verdict::Undecided { .. }) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn pods_are_of_whatever_kind_the_cluster_may_have() {
    let mut policy = edit(|queue| queue.backends = vec!["theirs".into()]);
    let pods = policy.backends.get_mut(&"theirs".into()).unwrap();
    pods.kind = BackendKind::Kubernetes;
    pods.images = vec![Glob::new("ci-*")];
    check(
        &policy,
        &[
            (
                "arch=arm64 family=c4a local-ssd=1 zone=z spot=require image=ci-debian-12",
                "2 vCPU, 4 GiB, 1 local SSD, arm64, c4a, image ci-debian-12, z, spot require @ theirs [queue=jit os=linux]",
            ),
            ("gpu=nvidia-l4:2", "2 vCPU, 4 GiB, gpu nvidia-l4:2 @ theirs [queue=jit os=linux]"),
            (
                "disk-type=pd-ssd image=other",
                "no offer for 2 vCPU, 4 GiB, pd-ssd, image other: theirs has no image other. Ask for one of ci-*. \
                 theirs has no choice of disks. Leave disk-type out.",
            ),
        ],
    );
}
