//! What is said against a job whose tags nobody can serve, and of one that is not for us.

use planner::{Foreign, Invalid, TagError};

#[test]
fn verdicts_against_a_job() {
    let unknown = |nearest: Option<&str>| Invalid::UnknownTag {
        tag: "memroy=4G".into(),
        nearest: nearest.map(Into::into),
    };
    let tag = Invalid::Tag(TagError {
        tag: "memory=64".into(),
        problem: "\"64\" has no unit".into(),
        remedy: "write memory: 64G".into(),
    });
    let no_offer = |why: &[&str]| Invalid::NoOffer {
        shape: "64 vCPU, 64 GiB".into(),
        why: why.iter().map(|why| (*why).to_string()).collect(),
    };
    for (invalid, key, expected) in [
        (tag, "tag", "memory=64: \"64\" has no unit. Write memory: 64G"),
        (
            unknown(Some("memory")),
            "unknown_tag",
            "memroy=4G: no agent of this queue carries this tag. Did you mean memory?",
        ),
        (
            unknown(None),
            "unknown_tag",
            "memroy=4G: no agent of this queue carries this tag. Leave the tag out, or name another queue",
        ),
        (
            no_offer(&["here has 8.", "pods has 9."]),
            "no_offer",
            "nothing here makes a machine of 64 vCPU, 64 GiB:\nhere has 8.\npods has 9.",
        ),
        (
            no_offer(&[]),
            "no_offer",
            "nothing here makes a machine of 64 vCPU, 64 GiB:\nThe queue has no backend; its operator has to name one.",
        ),
    ] {
        assert_eq!(invalid.to_string(), expected);
        assert_eq!(invalid.key(), key);
    }
    let foreign = |nearest: Option<&str>| Foreign::UnknownTag {
        tag: "memroy=4G".into(),
        nearest: nearest.map(Into::into),
    };
    for (foreign, key, expected) in [
        (
            foreign(Some("memory")),
            "unknown_tag",
            "not for us: memroy=4G is no word of ours. Did you mean memory?",
        ),
        (
            foreign(None),
            "unknown_tag",
            "not for us: memroy=4G is neither a word of ours nor a tag of the queue's",
        ),
        (
            Foreign::OtherValue { tag: "os=windows".into(), ours: "os=linux".into() },
            "other_value",
            "not for us: it asks for os=windows, and our agents carry os=linux",
        ),
        (
            Foreign::OtherQueue { queue: "other".into() },
            "other_queue",
            "not for us: queue other is not one that we serve here",
        ),
    ] {
        assert_eq!(foreign.to_string(), expected);
        assert_eq!(foreign.key(), key);
    }
}
