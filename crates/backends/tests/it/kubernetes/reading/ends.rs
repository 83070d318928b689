//! How machines end: what the guest said, what was done to the pod, and what nobody could report.

use super::*;

#[test]
fn a_guest_that_was_stopped_for_a_suspension_does_not_know_why() {
    let stopped = terminated("Error", 143, &report(r#"{"kind":"stopped"}"#, true, ""));
    let pod = a_pod("2026-11-27T08:05:00Z", &format!("phase: Failed, {stopped}"));
    let job = a_job("spec: { suspend: true, activeDeadlineSeconds: 3600 }");
    let again =
        read(Seen { job: Some(&job), pods: from_ref(&pod), had_pod: true, ..Seen::default() });
    assert_eq!(told(&again), "Ended: it was suspended again after it had started");
    // Asked to end, and still at it.
    let running = "phase: Running, containerStatuses: [{ name: job, started: true, state: { running: { } } }]";
    let pod = a_pod("2026-11-27T08:05:00Z", running);
    let ending =
        read(Seen { job: Some(&job), pods: from_ref(&pod), had_pod: true, ..Seen::default() });
    assert_eq!(told(&ending), "Connected: -");
}

/// A main container that has ended so.
fn terminated(reason: &str, code: i32, message: &str) -> String {
    let end = json!({ "exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-11-27T08:02:00Z" });
    format!("containerStatuses: [{{ name: job, state: {{ terminated: {end} }} }}]")
}

fn report(cause: &str, connected: bool, lacks: &str) -> String {
    let connected = if connected { r#""connected_at":"2026-11-27T08:00:30Z","# } else { "" };
    format!(
        r#"{{"report":{{"phase":"ended","started_at":"2026-11-27T08:00:20Z",{connected}"ended":{{
            "at":"2026-11-27T08:01:59Z","cause":{cause},"log_tail":"the last line",
            "usage":{{"cpu_seconds":1.5,"peak_memory_bytes":1024}}}}}},"image":[{lacks}]}}"#
    )
}

#[test]
fn the_guests_last_words_are_the_end() {
    let exited = report(r#"{"kind":"exited","code":0}"#, true, r#""git""#);
    let status = format!("phase: Succeeded, {}", terminated("Completed", 0, &exited));
    check_pod(&status, "Ended: the agent exited with 0");
    let (job, pod) = (a_job(""), a_pod("", &status));
    let machine = read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() });
    assert_eq!(
        machine.connected_at.map(|at| at.to_string()).as_deref(),
        Some("2026-11-27T08:00:30Z")
    );
    let end = machine.ended.expect("an end");
    assert_eq!(
        (end.at.to_string().as_str(), end.log_tail.as_str()),
        ("2026-11-27T08:01:59Z", "the last line")
    );
    assert_eq!((end.cpu_seconds, end.peak_memory_bytes), (Some(1.5), Some(1024)));

    let lost = report(r#"{"kind":"exited","code":1}"#, false, r#""certificates""#);
    check_pod(
        &format!("phase: Failed, {}", terminated("Error", 1, &lost)),
        "Ended: the agent exited with 1; the image has no CA certificates",
    );
    let bare = report(r#"{"kind":"not_started","reason":"x"}"#, false, r#""shell","git""#);
    check_pod(
        &format!("phase: Failed, {}", terminated("Error", 126, &bare)),
        "Ended: the image has no shell (bash or sh) and no git [Rejected]",
    );
    // Its sidecar goes on; the machine does not.
    let stopped = report(r#"{"kind":"stopped"}"#, true, "");
    check_pod(
        &format!("phase: Running, {}", terminated("Error", 143, &stopped)),
        "Ended: the agent was stopped on request",
    );
}

#[test]
fn what_was_done_to_the_pod_comes_first() {
    let stopped = terminated("Error", 143, &report(r#"{"kind":"stopped"}"#, true, ""));
    let disrupted = |reason: &str| {
        let condition = json!({ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "said" });
        format!("phase: Failed, conditions: [{condition}], {stopped}")
    };
    check_pod(
        &disrupted("PreemptionByScheduler"),
        "Ended: its pod made room for one of a higher priority [taken]",
    );
    check_pod(
        &disrupted("DeletionByTaintManager"),
        "Ended: its node `n1` does not answer any more [taken]",
    );
    check_pod(
        &disrupted("EvictionByEvictionAPI"),
        "Ended: its pod was evicted, as when a node is drained [taken]",
    );
    check_pod(&disrupted("TerminationByKubelet"), "Ended: its node ended the pod: said [taken]");
    check_pod(&disrupted("DeletionByPodGC"), "Ended: its node was removed [taken]");
    check_pod(
        "phase: Failed, reason: Evicted, message: 'The node was low on resource: memory. '",
        "Ended: its pod was evicted: The node was low on resource: memory. [taken]",
    );
}

#[test]
fn ends_that_nobody_could_report() {
    check_pod(
        &format!("phase: Failed, {}", terminated("OOMKilled", 137, "")),
        "Ended: its container `job` was killed for want of memory: all that ran in it had more than its limit of 4Gi [oom]",
    );
    check_pod(
        &format!("phase: Failed, {}", terminated("StartError", 128, "exec: no such file")),
        "Ended: its container `job` could not be started: exec: no such file",
    );
    check_pod(
        &format!("phase: Failed, {}", terminated("Error", 2, "panic: out of luck")),
        "Ended: its container `job` ended with 2 and said nothing of its agent",
    );
    let init = json!({ "name": "jitney-agent", "state": { "terminated": { "exitCode": 1, "message": "no buildkite-agent\n" } } });
    check_pod(
        &format!("phase: Failed, initContainerStatuses: [{init}]"),
        "Ended: its init container `jitney-agent` failed with 1: no buildkite-agent",
    );
    check_pod(
        "phase: Failed, reason: OutOfcpu, message: 'Pod was rejected'",
        "Ended: its node would not take the pod: OutOfcpu: Pod was rejected [Capacity]",
    );
    check_pod("phase: Failed", "Ended: its pod failed, and nothing more is known");
}

/// What the guest had said before all of the container was killed, at 08:02:00.
fn cut_off(looks: &str) -> String {
    format!(
        r#"{{"report":{{"phase":"connected","started_at":"2026-11-27T08:00:20Z","connected_at":"2026-11-27T08:00:30Z"}},
            "image":[],"memory":{{"peak_bytes":4200000000,"looks":[{looks}]}}}}   "#
    )
}

#[test]
fn what_ran_is_said_where_memory_ran_out() {
    let look = |at: &str, programs: &str| {
        format!(
            r#"{{"at":"2026-11-27T08:0{at}Z","used_bytes":4200000000,"programs":[{programs}]}}"#
        )
    };
    let rustc = r#"{"name":"rustc","processes":3,"bytes":2300000000}"#;
    let ld = r#"{"name":"ld","processes":1,"bytes":314572800}"#;
    let died = |reason: &str, looks: &str| {
        format!("phase: Failed, {}", terminated(reason, 137, &cut_off(looks)))
    };
    let both = format!("{},{}", look("1:10", ld), look("1:59.3", &format!("{rustc},{ld}")));
    check_pod(
        &died("OOMKilled", &both),
        "Ended: its container `job` was killed for want of memory: all that ran in it had more than its limit of 4Gi; a moment before, 3.9 GiB were in use, most of it by 3 × rustc (2.1 GiB) and ld (300 MiB) [oom]",
    );
    let old = look("1:48", ld);
    check_pod(
        &died("OOMKilled", &old),
        "Ended: its container `job` was killed for want of memory: all that ran in it had more than its limit of 4Gi; 12 s before, 3.9 GiB were in use, most of it by ld (300 MiB) [oom]",
    );
    let (job, pod) = (a_job(""), a_pod("", &died("OOMKilled", &both)));
    let machine = read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() });
    assert_eq!(
        machine.connected_at.map(|at| at.to_string()).as_deref(),
        Some("2026-11-27T08:00:30Z")
    );
    let end = machine.ended.expect("an end");
    assert_eq!(end.at.to_string(), "2026-11-27T08:02:00Z");
    assert_eq!(end.peak_memory_bytes, Some(4_200_000_000));
    assert_eq!(end.ran.as_deref(), Some("3 × rustc (2.1 GiB) and ld (300 MiB)"));
    // Killed by something else: what it was is not for the memory to say.
    check_pod(
        &died("Error", &both),
        "Ended: its guest was killed, and its container `job` ended with 137",
    );
}

#[test]
fn what_was_killed_alone_is_what_had_most_before() {
    let memory = r#""memory":{"peak_bytes":9,"looks":[
        {"at":"2026-11-27T08:01:00Z","used_bytes":9,"programs":[{"name":"node","processes":1,"bytes":3221225472}]},
        {"at":"2026-11-27T08:01:01Z","used_bytes":9,"programs":[{"name":"bash","processes":2,"bytes":4194304}]}]}"#;
    let said = report(r#"{"kind":"exited","code":1}"#, true, "");
    let said = said.replace(r#""peak_memory_bytes":1024"#, r#""oom_killed":true"#);
    let said = said.replace(r#""image":[]"#, &format!(r#""image":[],{memory}"#));
    let status = format!("phase: Failed, {}", terminated("OOMKilled", 1, &said));
    check_pod(&status, "Ended: the agent exited with 1 [oom]");
    let (job, pod) = (a_job(""), a_pod("", &status));
    let machine = read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() });
    assert_eq!(machine.ended.expect("an end").ran.as_deref(), Some("node (3 GiB)"));
}

#[test]
fn an_init_container_may_run_out_of_memory_too() {
    let end = json!({ "exitCode": 137, "reason": "OOMKilled", "message": "" });
    let init = json!({ "name": "docker", "state": { "terminated": end } });
    check_pod(
        &format!("phase: Failed, initContainerStatuses: [{init}]"),
        "Ended: its container `docker` was killed for want of memory: all that ran in it had more than its limit [oom]",
    );
}

#[test]
fn a_pod_that_should_be_gone_is_on_a_node_that_is() {
    let running = "phase: Running, containerStatuses: [{ name: job, started: true, state: { running: { } } }]";
    let job = a_job("");
    let check = |deleted: &str, expected: &str| {
        let pod = a_pod(deleted, running);
        assert_eq!(
            told(&read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() })),
            expected
        );
    };
    check("2026-11-27T08:02:30Z", "Ended: its node `n1` does not answer any more [taken]");
    check("2026-11-27T08:02:59Z", "Connected: -");
}

#[test]
fn a_node_that_is_not_heard_of_is_told_from_one_whose_pod_is_not_ready() {
    let job = a_job("");
    let check = |deleted: &str, ready: &str, more: &str, expected: (&str, Option<&str>)| {
        let status = format!(
            "phase: Running, containerStatuses: [{{ name: job, started: true, state: {{ running: {{ }} }} }}],
             conditions: [{{ type: Ready, lastTransitionTime: '2026-11-27T08:02:50Z', {ready} }} {more}]"
        );
        let pod = a_pod(deleted, &status);
        let machine = read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() });
        assert_eq!((told(&machine).as_str(), machine.silent.as_deref()), expected, "{status}");
    };
    let lost = "its node `n1` does not answer any more";
    check("", "status: 'True'", "", ("Connected: -", None));
    check("", "status: 'False', reason: ContainersNotReady", "", ("Connected: -", None));
    check("", "status: 'False'", "", ("Connected: -", Some(lost)));
    // Given up by the cluster: nobody is there to take the rest of its grace.
    let ended = format!("Ended: {lost} [taken]");
    let given_up = ", { type: DisruptionTarget, status: 'True', reason: DeletionByTaintManager }";
    check("2026-11-27T08:03:20Z", "status: 'False'", given_up, (&ended, None));
    check("2026-11-27T08:03:20Z", "status: 'False'", "", (&ended, None));
    check("2026-11-27T08:03:20Z", "status: 'True'", given_up, ("Connected: -", None));
}

#[test]
fn the_deadline_is_told_from_other_ends() {
    let over = "status: { conditions: [{ type: REASON, status: 'True', reason: DeadlineExceeded,
        message: Job was active longer than specified deadline, lastTransitionTime: '2026-11-27T08:02:00Z' }] }";
    let expected = "Ended: the machine's deadline was reached [deadline]";
    for kind in ["Failed", "FailureTarget"] {
        let job = a_job(&over.replace("REASON", kind));
        assert_eq!(told(&read(Seen { job: Some(&job), ..Seen::default() })), expected);
        let stopped = report(r#"{"kind":"stopped"}"#, true, "");
        let pod = a_pod("", &format!("phase: Failed, {}", terminated("Error", 143, &stopped)));
        assert_eq!(
            told(&read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() })),
            expected
        );
    }
    // Its container still has its grace.
    let job = a_job(&over.replace("REASON", "FailureTarget"));
    let pod = a_pod(
        "",
        "phase: Running, containerStatuses: [{ name: job, started: true, state: { running: {} } }]",
    );
    assert_eq!(
        told(&read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() })),
        "Connected: -"
    );
}

#[test]
fn pods_without_a_job_are_machines_still() {
    let pod = a_pod("2026-11-27T08:05:00Z", "phase: Running");
    let machine = read(Seen { pods: from_ref(&pod), ..Seen::default() });
    assert_eq!((machine.name.as_str(), told(&machine).as_str()), ("m-1", "Provisioning: -"));
    assert_eq!(machine.deadline_at.to_string(), "2026-11-27T09:00:00Z");
}

#[test]
fn what_it_bears_and_cannot_be_read_is_an_error() {
    let mut job = a_job("");
    job.metadata.labels = Err("its jitney.dev/job cannot be read: `x`".into());
    let error =
        machine(Seen { job: Some(&job), ..Seen::default() }, now()).expect_err("it is broken");
    assert_eq!(error, "its jitney.dev/job cannot be read: `x`");
}
