//! What an operator sees of a fleet on a real control plane: a dispatch that does not roll out, in
//! alarms, logs, metrics and `explain`, and a template that is not there.

use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::cli_support::{command, configuration_of, jitney};
use crate::fleet_ground::{Ground, rules};
use crate::shell_fleet::fleet_alone;
use crate::shell_process::agents;
use crate::shell_support::{PATIENCE, Program, World};

/// Until the fleet has this alarm; its words.
async fn alarm(program: &Program, kind: &str) -> String {
    program
        .until(kind, |snapshot| {
            let alarm = snapshot.alarms.iter().find(|alarm| alarm.kind == kind)?;
            Some(alarm.text.clone())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_that_does_not_roll_out_says_why_and_is_told_of() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(ground) = Ground::new("stuck", &agent, rules(false)).await else { return };
    let fleet = "agents: { max: 3 }\n    poll: 1s\n    cooldown: { at_most: 12s }";
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, fleet).await;
    ground
        .template(&world.sandbox.endpoint(), |job| {
            job["spec"]["template"]["spec"]["nodeSelector"] = json!({ "ground": "nowhere" });
        })
        .await;
    let program = world.start().await;
    world.jobs(2);
    let text = alarm(&program, "fleet_not_rolled_out").await;
    assert!(text.contains("of 2 agents 0 are online or done and 0 failed: 2 pods: 0/"), "{text}");
    assert!(text.contains("didn't match Pod's node affinity/selector"), "{text}");
    // Given up, others are dispatched in its place, and what is there counts.
    let fleet = program
        .until("the fleet is at its max", |snapshot| {
            let fleet = snapshot.fleets.first()?;
            (fleet.hold.as_deref() == Some("at_max")).then(|| fleet.clone())
        })
        .await;
    let agents: Vec<u32> = fleet.dispatches.iter().map(|dispatch| dispatch.agents).collect();
    assert_eq!(agents.iter().sum::<u32>(), 3, "{fleet:#?}");
    let first = fleet.dispatches.iter().find(|dispatch| dispatch.agents == 2).unwrap();
    shown_by_its_id(&world, &program, &first.id).await;
    program.stop().await;
}

/// The first dispatch, as the command line and metrics show it.
async fn shown_by_its_id(world: &World, program: &Program, id: &str) {
    let (_, metrics) = program.get("/metrics").await;
    for line in [
        format!(
            "jitney_fleet_dispatch_pods{{fleet=\"stateless\",dispatch_id=\"{id}\",state=\"pending\"}} 2"
        ),
        format!("jitney_fleet_dispatch_late{{fleet=\"stateless\",dispatch_id=\"{id}\"}} 1"),
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line} is not in\n{metrics}");
    }
    let file = configuration_of(world, program);
    for name in [id.to_owned(), format!("stateless-{id}-0-x8k2p")] {
        let args = ["explain", &name, "--config", &file];
        let told = jitney(&args, world.folder.path()).await.expect(0).out;
        for part in [
            format!("Dispatch {id}\nOf fleet stateless, queue default, Job stateless-{id}\n"),
            "Now: does not roll out\n".to_owned(),
            "Sized on: 2 jobs queued; agents: 0 idle, 0 on their way; 0 pods of at most 3;"
                .to_owned(),
            "Agents: 2; pods: 0 online, 2 on their way, 0 done, 0 failed\n".to_owned(),
            "Why: 2 pods: 0/".to_owned(),
            format!("Alarm: dispatch {id} does not roll out: of 2 agents 0 are online"),
        ] {
            assert!(told.contains(&part), "{part} is not in\n{told}");
        }
    }
    let args = ["explain", "--json", id, "--config", &file];
    let json = jitney(&args, world.folder.path()).await.expect(0).json();
    let dispatch = &json["dispatch"];
    let shown = [&dispatch["id"], &dispatch["fleet"], &dispatch["pending"], &dispatch["over"]];
    assert_eq!(shown.map(Value::clone), [json!(id), json!("stateless"), json!(2), json!(false)]);
    let nobody = "ffffffffffffffffffffffffffffffff";
    let args = ["explain", nobody, "--config", &file];
    let told = jitney(&args, world.folder.path()).await.expect(4).out;
    assert!(told.contains("no fleet has such a"), "{told}");
}

/// The log, line by line, as somebody reads it who makes metrics and alarms of it.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_a_quota_refuses_are_an_alarm_in_the_events_words() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(ground) = Ground::new("quota", &agent, rules(false)).await else { return };
    let fleet = "agents: { max: 3 }\n    poll: 1s\n    cooldown: { at_most: 12s }";
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, fleet).await;
    ground.template(&world.sandbox.endpoint(), |_| ()).await;
    let quota = json!({ "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } } });
    ground.put::<ResourceQuota>(quota).await;
    world.jobs(2);
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).unwrap();
    let args = ["run", "--config", &file.display().to_string()];
    let mut child = command(&args, &[], world.folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    let read = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            let line: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            // What is on its way is enough for two jobs; a third has to wait for its end.
            if line["message"] == "dispatched" {
                world.jobs(1);
            }
            let alarm = line["alarm"] == "not_rolled_out";
            told.push(line);
            if alarm {
                return;
            }
        }
    };
    timeout(PATIENCE, read).await.expect("there is an alarm");
    child.kill().await.unwrap();
    let made = told.iter().find(|line| line["message"] == "dispatched").unwrap();
    let id = made["dispatch_id"].as_str().unwrap();
    let alarm = told.last().unwrap();
    let words = alarm["message"].as_str().unwrap();
    let shown = [&alarm["level"], &alarm["fleet"], &alarm["awaited_dispatch_id"]];
    assert_eq!(shown.map(Value::clone), [json!("ERROR"), json!("stateless"), json!(id)]);
    assert!(words.contains(&format!("dispatch {id} does not roll out: of 2 agents 0")), "{words}");
    assert!(words.contains("pods are refused: ") && words.contains("exceeded quota"), "{words}");
    // Each line of a round says which, and its numbers are numbers at the top.
    let rounds: Vec<&Value> = told.iter().filter(|line| line["fleet"] == "stateless").collect();
    assert!(rounds.iter().all(|line| line["dispatch_id"].is_string()), "{rounds:#?}");
    let waits = rounds.iter().find(|line| line["hold"] == "cooldown");
    let waits = waits.unwrap_or_else(|| panic!("nothing waited: {rounds:#?}"));
    for field in [
        "queued",
        "dispatched",
        "agents_total",
        "agents_free",
        "seconds_waiting_for_dispatch",
        "pods_online",
        "pods_pending",
    ] {
        assert!(waits[field].is_number(), "{field} is no number: {waits:#?}");
    }
    assert_eq!(waits["awaited_dispatch_id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_not_there_is_named_and_found_once_it_is() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(ground) = Ground::new("late", &agent, rules(false)).await else { return };
    let fleet = "agents: { max: 3 }\n    poll: 1s";
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, fleet).await;
    let program = world.start().await;
    let jobs = world.jobs(1);
    let text = alarm(&program, "fleet_refused").await;
    assert!(text.contains("the template Job agents: jobs.batch \"agents\" not found"), "{text}");
    ground.template(&world.sandbox.endpoint(), |_| ()).await;
    let ended = world.ended(&jobs).await;
    assert_eq!(ended[0].outcome.exit_status, Some(0));
    program
        .until("nothing is wrong any more", |snapshot| snapshot.alarms.is_empty().then_some(()))
        .await;
    program.stop().await;
}
