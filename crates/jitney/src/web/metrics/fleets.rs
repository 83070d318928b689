//! The families of fleets. A dispatch has its id for a label for as long as it lives, and so many
//! of them at the most: what has ended is in the counters, in logs and in the status.

use planner::Timestamp;
use planner::fleet::Hold;

use super::Text;
use crate::api::{Fleet, FleetDispatch, Snapshot};

/// So many living dispatches of a fleet are shown, the youngest.
const DISPATCHES_MOST: usize = 50;

type Number = fn(&Fleet) -> Option<f64>;
type Count = fn(&Fleet) -> u64;

pub(super) fn write(snapshot: &Snapshot, text: &mut Text) {
    gauges(snapshot, text);
    text.gauge("jitney_fleet_holds", "Why the last round dispatched nothing.");
    for fleet in &snapshot.fleets {
        for reason in Hold::KEYS {
            let holds = u8::from(fleet.hold.as_deref() == Some(reason));
            text.sample("jitney_fleet_holds", &[("fleet", &fleet.name), ("reason", reason)], holds);
        }
    }
    let counters: [(&str, &str, Count); 3] = [
        ("jitney_fleet_rounds_total", "Rounds of the fleet.", |fleet| fleet.rounds),
        ("jitney_fleet_dispatches_total", "Dispatches made.", |fleet| fleet.dispatched),
        ("jitney_fleet_agents_total", "Agents dispatched.", |fleet| fleet.agents_dispatched),
    ];
    for (name, help, number) in counters {
        text.counter(name, help);
        for fleet in &snapshot.fleets {
            text.sample(name, &[("fleet", &fleet.name)], number(fleet));
        }
    }
    dispatches(&snapshot.fleets, snapshot.now, text);
}

fn gauges(snapshot: &Snapshot, text: &mut Text) {
    let gauges: [(&str, &str, Number); 7] = [
        ("queued", "Jobs of the fleet's queue that wait for an agent.", |f| {
            f.queued.map(f64::from)
        }),
        ("running", "Jobs of the fleet's queue that run.", |f| f.running.map(f64::from)),
        ("agents", "Agents of the queue.", |f| f.agents_total.map(f64::from)),
        ("agents_free", "Agents of the queue without a job.", |f| f.agents_free.map(f64::from)),
        ("pods_online", "Pods of dispatches that are ready.", |f| f.pods_online.map(f64::from)),
        ("pods_pending", "Pods of dispatches that are not.", |f| f.pods_pending.map(f64::from)),
        ("seconds_waiting_for_dispatch", "How long the last dispatch has been waited for.", |f| {
            Some(f.seconds_waiting_for_dispatch)
        }),
    ];
    for (name, help, number) in gauges {
        let name = format!("jitney_fleet_{name}");
        text.gauge(&name, help);
        for fleet in &snapshot.fleets {
            // What is not known is no number.
            if let Some(number) = number(fleet) {
                text.sample(&name, &[("fleet", &fleet.name)], number);
            }
        }
    }
}

/// Each dispatch that lives: its pods by state, its age, and whether it has an alarm.
fn dispatches(fleets: &[Fleet], now: Timestamp, text: &mut Text) {
    type Pods = fn(&FleetDispatch) -> u32;
    let living: Vec<(&str, &FleetDispatch)> = fleets.iter().flat_map(living).collect();
    let states: [(&str, Pods); 4] = [
        ("online", |of| of.online),
        ("pending", |of| of.pending),
        ("done", |of| of.done),
        ("failed", |of| of.failed),
    ];
    let name = "jitney_fleet_dispatch_pods";
    text.gauge(name, "Pods of a dispatch that lives, by state.");
    for (fleet, dispatch) in &living {
        for (state, pods) in states {
            let labels = [("fleet", *fleet), ("dispatch_id", &dispatch.id), ("state", state)];
            text.sample(name, &labels, pods(dispatch));
        }
    }
    let name = "jitney_fleet_dispatch_age_seconds";
    text.gauge(name, "How long ago a dispatch that lives was made.");
    for (fleet, dispatch) in &living {
        let age = now.since(dispatch.made_at).as_secs_f64();
        text.sample(name, &[("fleet", *fleet), ("dispatch_id", &dispatch.id)], age);
    }
    let name = "jitney_fleet_dispatch_late";
    text.gauge(name, "Whether a dispatch that lives does not roll out.");
    for (fleet, dispatch) in &living {
        let late = u8::from(dispatch.alarm.is_some());
        text.sample(name, &[("fleet", *fleet), ("dispatch_id", &dispatch.id)], late);
    }
}

fn living(fleet: &Fleet) -> impl Iterator<Item = (&str, &FleetDispatch)> {
    // What has failed as a whole is over, and still to be looked at.
    let lives = |dispatch: &&FleetDispatch| !dispatch.over || dispatch.alarm.is_some();
    let living = fleet.dispatches.iter().filter(lives);
    let mut living: Vec<&FleetDispatch> = living.collect();
    living.sort_by_key(|dispatch| std::cmp::Reverse(dispatch.made_at));
    living.into_iter().take(DISPATCHES_MOST).map(|dispatch| (fleet.name.as_str(), dispatch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dispatch(id: &str, made_at: u64) -> FleetDispatch {
        FleetDispatch {
            id: id.to_owned(),
            name: format!("stateless-{id}"),
            made_at: Timestamp::from_millis(made_at),
            agents: 10,
            online: 3,
            pending: 4,
            done: 2,
            failed: 1,
            over: false,
            trouble: None,
            sized_on: None,
            alarm: None,
            gone_at: None,
        }
    }

    fn text(dispatches: Vec<FleetDispatch>) -> String {
        let mut text = Text::default();
        let gone = vec![dispatch("gone", 0)];
        let fleet = Fleet { name: "stateless".to_owned(), dispatches, gone, ..Fleet::default() };
        super::dispatches(&[fleet], Timestamp::from_millis(90_500), &mut text);
        text.0
    }

    #[test]
    fn a_dispatch_is_shown_as_long_as_it_lives_or_has_an_alarm() {
        let over = FleetDispatch { over: true, ..dispatch("b", 60_000) };
        let alarm = Some("late".to_owned());
        let late = FleetDispatch { over: true, alarm, ..dispatch("c", 0) };
        let text = text(vec![dispatch("a", 60_000), over, late]);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let of = |id: &str| format!("{{fleet=\"stateless\",dispatch_id=\"{id}\"");
        let (a, c) = (of("a"), of("c"));
        let states = [("online", 3), ("pending", 4), ("done", 2), ("failed", 1)];
        let pods = |of: &str, state: &str, pods: u32| {
            format!("jitney_fleet_dispatch_pods{of},state=\"{state}\"}} {pods}")
        };
        let mut expected: Vec<String> = Vec::new();
        for of in [&a, &c] {
            expected.extend(states.map(|(state, number)| pods(of, state, number)));
        }
        expected.extend([
            format!("jitney_fleet_dispatch_age_seconds{a}}} 30.5"),
            format!("jitney_fleet_dispatch_age_seconds{c}}} 90.5"),
            format!("jitney_fleet_dispatch_late{a}}} 0"),
            format!("jitney_fleet_dispatch_late{c}}} 1"),
        ]);
        assert_eq!(samples, expected);
    }

    #[test]
    fn of_many_dispatches_the_youngest_are_shown() {
        let many = (0..120).map(|at| dispatch(&format!("d{at:03}"), at)).collect();
        let text = text(many);
        let late: Vec<&str> =
            text.lines().filter(|line| line.starts_with("jitney_fleet_dispatch_late")).collect();
        assert_eq!(late.len(), DISPATCHES_MOST);
        assert!(late.iter().any(|line| line.contains("d119")), "{late:?}");
        assert!(!late.iter().any(|line| line.contains("d069")), "{late:?}");
    }
}
