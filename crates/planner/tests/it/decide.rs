//! Examples of single rounds: a scene in, the plan as text out. What must hold always is the
//! simulation's business; these are the preferences.

mod forgotten;
mod job;
mod loss;
mod origin;
mod released;
mod render;
mod room;
mod scene;
mod tell;
mod vms;

use std::time::Duration;

use job::job;
use scene::Scene;

use planner::JobState::{Canceled, Canceling, Finished, Reserved, Running, Scheduled};
use planner::{Doom, Event, FailureClass, Offer};

fn check(scene: &Scene, expected: &str) {
    assert_eq!(scene.plan(), expected);
}

#[test]
fn a_visible_job_is_reserved() {
    check(&Scene::new().visible(job(1)), "reserve 1");
}

#[test]
fn a_reserved_job_gets_a_token_then_a_machine() {
    let scene = Scene::new().taken(job(1)).reserved(1);
    check(&scene, "mint 1/1");
    check(&scene.token(1, 1), "create 1/1 on here");
}

#[test]
fn a_lease_too_short_for_a_machine_is_extended_first() {
    let scene = Scene::new().taken(job(1)).reserved(1).token(1, 1).after(100).listed_now();
    check(&scene, "reserve 1, ask 1");
}

#[test]
fn a_token_that_would_lapse_is_minted_again() {
    let scene = Scene::new().taken(job(1)).reserved(1).token(1, 1).after(50);
    check(&scene.reserved(1).listed_now(), "mint 1/1");
}

#[test]
fn the_order_is_priority_then_age() {
    let scene = Scene::new()
        .limit_machines(2)
        .visible(job(1).scheduled(10))
        .visible(job(2).scheduled(5))
        .visible(job(3).scheduled(20).priority(1));
    check(&scene, "reserve 2 3; 1 waits: limit all machines, 2 ahead, told");
}

#[test]
fn the_queue_with_less_of_its_share_goes_first() {
    let scene = Scene::new()
        .limit_machines(3)
        .queue("other", 2)
        .visible(job(1))
        .visible(job(2))
        .visible(job(3).queue("other"))
        .visible(job(4).queue("other"));
    check(&scene, "reserve 1, reserve 3 4; 2 waits: limit all machines, 1 ahead, told");
}

#[test]
fn a_large_job_is_not_passed_by_small_ones() {
    let scene = Scene::new()
        .limit_cpu(4)
        .visible(job(1).cpu(3))
        .visible(job(2).cpu(2))
        .visible(job(3).cpu(1));
    check(
        &scene,
        "reserve 1; 2 waits: limit all cpu, 1 ahead, told; 3 waits: limit all turn, 2 ahead, told",
    );
}

#[test]
fn a_job_that_is_being_reserved_keeps_its_place() {
    let scene = Scene::new().limit_machines(1).visible(job(1)).visible(job(2)).taken(job(1));
    check(&scene, "reserve 1; 2 waits: limit all machines, 0 ahead, told");
}

#[test]
fn what_could_never_fit_keeps_nobody_out() {
    // The limit was lowered after the job was taken on.
    let scene = Scene::new().limit_cpu(4).taken(job(1).cpu(5)).reserved(1).visible(job(2));
    check(&scene, "reserve 2; 1 waits: limit all cpu, told");
}

#[test]
fn many_failures_at_once_are_one() {
    let scene = (1..=9).fold(Scene::new(), |scene, number| {
        scene.taken(job(number)).reserved(number).asked(number, 1)
    });
    let scene = (1..=9).fold(scene.after(1), |scene, number| scene.no_room(number, 1));
    assert!(scene.plan().contains("1 waits: cooling down"), "{}", scene.plan());
    assert!(scene.after(6).plan().contains("mint 1/1 2/1"), "{}", scene.after(6).plan());
    // Another one later is told of a place that stays full.
    let again = scene.after(6).token(1, 1).asked(1, 1).after(1).no_room(1, 1);
    assert!(again.after(6).plan().contains("1 waits: cooling down"), "{}", again.after(6).plan());
}

#[test]
fn no_room_is_of_one_place_and_a_denial_of_the_whole_backend() {
    let scene = Scene::new().taken(job(1).places(&["", "b"])).reserved(1).asked(1, 1);
    check(&scene.no_room(1, 1), "mint 1/1");
    check(&scene.denied(1, 1), "; 1 waits: cooling down, told; alarm");
    check(&scene.denied(1, 1).after(6), "ask 1, mint 1/1");
}

/// A machine whose place took the create and then would not have it.
fn refused(scene: &Scene, number: u128, class: FailureClass) -> Scene {
    scene.ended_with(number, 1, |end| {
        end.cause = "the namespace's quota is used up".into();
        end.refused = Some(class);
    })
}

#[test]
fn a_machine_that_its_place_refuses_uses_up_no_attempt() {
    let made = Scene::new().made(job(1), 1);
    let scene = refused(&made, 1, FailureClass::Quota).after(1).said(1, Scheduled).settled();
    check(&scene, "delete 1/1; 1 waits: backing off, told");
    let scene = scene.deleted(1, 1).after(4).said(1, Scheduled).settled();
    check(&scene, "; 1 waits: cooling down, told");
    check(&scene.after(6).said(1, Scheduled), "mint 1/2");
    // For good is for good, whoever says it.
    let scene = refused(&made, 1, FailureClass::Rejected).after(1).said(1, Scheduled).settled();
    check(&scene, "delete 1/1, finish 1");
}

#[test]
fn a_refusal_for_good_names_the_backend_that_refused() {
    let scene = Scene::new().taken(job(1)).reserved(1);
    let other = Offer { backend: "there".into(), ..job(1).request().offers[0].clone() };
    let asked = scene.asked_for(1, 1, other);
    let refused = asked.not_made(1, 1, FailureClass::Rejected, "no such image");
    let facts = refused.decided().facts;
    let failed = |fact: &Event| {
        let Event::Doomed { doom: Doom::Rejected { backend, .. }, .. } = fact else { return None };
        Some(backend.to_string())
    };
    assert_eq!(facts.iter().find_map(failed).as_deref(), Some("there"));
}

#[test]
fn one_machine_tries_a_place_that_refused_others() {
    let scene = Scene::new().made(job(1), 1).made(job(2), 1);
    let scene = refused(&scene, 1, FailureClass::Quota).after(1).said(1, Scheduled).settled();
    let scene = scene.deleted(1, 1).visible(job(3)).after(10).said(1, Scheduled).settled();
    check(&scene, "ask 2, mint 1/2; 2 waits: starting; 3 waits: cooling down, 0 ahead, told");
    // It is asked for, then it is there.
    let asked = scene.token(1, 2).asked(1, 2).said(2, Scheduled);
    assert!(asked.plan().ends_with("3 waits: cooling down, 0 ahead, told"), "{}", asked.plan());
    let there = scene.token(1, 2).remade(1, 2).listed_now().said(2, Scheduled);
    assert!(there.plan().contains("reserve 3"), "{}", there.plan());
}

#[test]
fn a_machine_that_was_listed_is_made_whatever_its_create_answers() {
    let scene = Scene::new().made(job(1), 1).no_room(1, 1);
    check(&scene, "; 1 waits: starting");
}

#[test]
fn a_machine_is_not_deleted_while_a_create_of_its_name_is_under_way() {
    let scene = Scene::new().made(job(1), 1).asked(1, 1).after(1).ended_machine(1, 1);
    let scene = scene.after(1).said(1, Canceled).settled();
    check(&scene, "");
    check(&scene.answered(1, 1), "delete 1/1");
    // Its outcome is never told.
    check(&scene.after(121), "delete 1/1");
}

#[test]
fn nothing_is_begun_while_the_queue_is_paused_and_leases_go_on() {
    let scene = Scene::new().paused().visible(job(1)).taken(job(2)).reserved(2).token(2, 1);
    check(&scene, "; 1 waits: queue paused, 0 ahead, told; 2 waits: queue paused, told");
    check(
        &scene.after(130).listed_now(),
        "reserve 2, ask 2; 1 waits: queue paused, 0 ahead, told; 2 waits: queue paused, told",
    );
}

#[test]
fn draining_takes_nothing_new_and_ends_what_was_begun() {
    let scene = Scene::new().draining().visible(job(1)).taken(job(2)).reserved(2).token(2, 1);
    check(&scene, "create 2/1 on here; 1 waits: draining, 0 ahead, told");
}

#[test]
fn a_full_journal_begins_nothing_and_goes_on_deleting() {
    let scene = Scene::new()
        .visible(job(1))
        .running(job(2), 1)
        .ended_machine(2, 1)
        .said(2, Running)
        .journal_full();
    let noticed = scene.decided().facts.into_iter().fold(scene, |scene, fact| scene.record(fact));
    check(&noticed, "tell 2: lost, delete 2/1; 1 waits: journal full, 0 ahead, told");
}

#[test]
fn a_job_that_can_never_work_is_failed_at_once() {
    check(&Scene::new().visible(job(1).invalid()), "reserve 1");
    check(&Scene::new().doomed(job(1)).reserved(1), "finish 1");
}

#[test]
fn a_near_miss_is_told_and_left_alone() {
    let scene = Scene::new().visible(job(1).foreign("memroy=4G", Some("memory")));
    check(&scene, "; 1 waits: foreign memroy=4G (memory?), told");
    let scene = Scene::new().visible(job(1).foreign("os=plan9", None));
    check(&scene, "; 1 waits: foreign os=plan9");
}

#[test]
fn old_listings_take_nothing() {
    let scene = Scene::new().visible(job(1)).after(600);
    check(&scene, "; 1 waits: buildkite unreachable, 0 ahead");
}

#[test]
fn a_backend_that_was_never_listed_makes_nothing() {
    let scene = Scene::new().backend_unlisted().visible(job(1));
    check(&scene, "; 1 waits: here unreachable, 0 ahead, told");
}

#[test]
fn cancelled_while_it_waits_with_us() {
    let scene = Scene::new().taken(job(1)).reserved(1).after(1).said(1, Canceled);
    check(&scene, "fact 1 ended");
    check(&scene.settled(), "fact 1 forgotten");
}

#[test]
fn cancelled_while_its_machine_starts() {
    let scene = Scene::new().made(job(1), 1).after(1).said(1, Canceled).settled();
    check(&scene, "delete 1/1");
    let scene = Scene::new().made(job(1), 1).after(1).said(1, Canceling).settled();
    check(&scene, "delete 1/1");
}

#[test]
fn cancelled_while_it_runs_the_agent_stops_it() {
    let scene = Scene::new().running(job(1), 1).after(1).said(1, Canceling).settled();
    check(&scene, "");
}

#[test]
fn an_ended_machine_goes_once_buildkite_was_asked_after_its_end() {
    let scene = Scene::new().running(job(1), 1).after(1).ended_machine(1, 1);
    check(&scene, "ask 1");
    check(&scene.after(1).said(1, Finished).settled(), "delete 1/1");
    check(&scene.after(1).said(1, Running).settled(), "tell 1: lost, delete 1/1");
}

#[test]
fn what_a_jobs_own_log_cannot_say_is_told_once() {
    let scene = Scene::new().running(job(1), 1).after(1);
    let oom = scene.ended_with(1, 1, |end| end.oom_killed = true);
    check(&oom, "tell 1: out of memory, ask 1");
    check(&scene.ended_with(1, 1, |end| end.deadline_reached = true), "tell 1: deadline, ask 1");
    check(&oom.told_cut_short(1, 1), "ask 1");
    // So short that nobody saw it run.
    let short = Scene::new().made(job(1), 1).ended_with(1, 1, |end| end.oom_killed = true);
    let short = short.after(1).said(1, Finished).settled();
    check(&short, "tell 1: out of memory, delete 1/1");
    // Before the acquire it is the attempt that has failed, and that is told as such.
    let starting = Scene::new().made(job(1), 1).ended_with(1, 1, |end| end.oom_killed = true);
    check(&starting, "ask 1; 1 waits: starting");
    // Nor is it told later, when an agent has the job on the next machine.
    let again = starting.after(1).said(1, Reserved).settled().after(5).remade(1, 2);
    check(&again.said(1, Running).settled(), "delete 1/1");
}

#[test]
fn a_machine_that_is_not_heard_of_is_told_of_once_and_left_alone() {
    let scene = Scene::new().running(job(1), 1).after(1).silent(1, 1);
    check(&scene, "tell 1: silent");
    check(&scene.told_cut_short(1, 1), "");
    check(&scene.said(1, Finished).settled(), "");
    // Nobody has the job yet: its time to start is what counts.
    check(&Scene::new().made(job(1), 1).silent(1, 1), "; 1 waits: starting");
}

#[test]
fn a_finished_job_gives_its_agent_time_to_leave() {
    let scene = Scene::new().running(job(1), 1).after(1).said(1, Finished).settled();
    check(&scene, "");
    check(&scene.after(31), "delete 1/1");
}

#[test]
fn a_machine_that_ended_early_is_followed_by_another() {
    let scene = Scene::new().made(job(1), 1).after(1).ended_machine(1, 1);
    let scene = scene.after(1).said(1, Reserved);
    check(&scene, "fact 1/1 failed charged, delete 1/1");
    let scene = scene.settled();
    check(&scene, "delete 1/1; 1 waits: backing off, told");
    check(&scene.after(2).said(1, Reserved).listed_now(), "delete 1/1, mint 1/2");
}

#[test]
fn no_agent_in_time_needs_a_word_asked_for_after_the_time_was_up() {
    let scene = Scene::new().made(job(1), 1).said(1, Reserved).after(301).listed_now();
    check(&scene, "reserve 1, ask 1; 1 waits: starting");
    let scene = scene.reserved(1).said(1, Reserved);
    check(&scene, "fact 1/1 failed charged");
    check(&scene.after(1).said(1, Reserved).settled(), "delete 1/1; 1 waits: removing");
    // The very last moment: the agent has got it.
    let scene = Scene::new().made(job(1), 1).after(301).listed_now().said(1, Running);
    check(&scene.settled(), "");
}

#[test]
fn a_delete_that_is_refused_waits_as_long_as_the_backend_says_within_reason() {
    let ended = Scene::new().running(job(1), 1).after(1).ended_machine(1, 1).said(1, Finished);
    let (ended, id) = (ended.settled(), Scene::id(1));
    let refused = |retry_after: Option<u64>, after: u64| {
        let (at, retry_after) = (ended.now, retry_after.map(Duration::from_secs));
        let intent = Event::DeleteIntended { job: id, attempt: 1, at };
        let answer = Event::DeleteEnded { job: id, attempt: 1, ok: false, retry_after, at };
        ended.record(intent).record(answer).after(after).listed_now()
    };
    check(&refused(None, 1), "delete 1/1");
    check(&refused(Some(55), 54), "");
    check(&refused(Some(55), 55), "delete 1/1");
    check(&refused(Some(3_600), 90), "delete 1/1");
}

#[test]
fn attempts_end_in_a_failed_job() {
    let mut scene = Scene::new().made(job(1), 1);
    for attempt in 1..=3 {
        scene = scene.after(60).ended_machine(1, attempt).after(1).said(1, Reserved).settled();
        scene = scene.after(1).deleted(1, attempt).said(1, Reserved).reserved(1).settled();
        if attempt < 3 {
            scene = scene.after(20).remade(1, attempt + 1);
        }
    }
    check(&scene, "finish 1");
}

#[test]
fn an_unanswered_create_is_repeated_as_it_was() {
    let scene = Scene::new().taken(job(1)).reserved(1).token(1, 1).unanswered(1, 1);
    check(&scene, "; 1 waits: cooling down, told");
    check(&scene.after(1).listed_now(), "create 1/1 on here, ask 1; 1 waits: cooling down, told");
}

#[test]
fn what_keeps_a_repetition_back_is_said_once_its_own_time_has_come() {
    let scene = Scene::new().taken(job(1)).reserved(1).token(1, 1).unanswered(1, 1);
    check(&scene.paused().after(1).listed_now(), "ask 1; 1 waits: queue paused, told");
}

#[test]
fn a_clock_set_forward_between_two_starts_makes_no_late_listing_whole() {
    let scene = Scene::new().listings_lag(10).taken(job(1)).reserved(1).asked(1, 1).answered(1, 1);
    let later = scene.after(3600).restarted();
    check(&later.listed_now(), "reserve 1, ask 1; 1 waits: starting, told");
    // Ten seconds after the start it is known to be gone, and the job needs another.
    check(&later.after(10).listed_now().settled(), "reserve 1, ask 1");
}

#[test]
fn a_stray_is_adopted() {
    check(&Scene::new().stray(7, 2, "us"), "fact 7/2 adopted");
    // Made by an installation of the same name before we began: ours from now on.
    check(&Scene::new().stray(7, 2, "them"), "fact 7/2 adopted");
}

#[test]
fn a_stray_counts_in_limits_in_the_round_that_finds_it() {
    let scene = Scene::new().limit_machines(1).visible(job(1));
    check(&scene.stray(7, 2, "us"), "fact 7/2 adopted; 1 waits: limit all machines, 0 ahead, told");
}

#[test]
fn another_installation_with_our_name_stops_all_new_work() {
    let scene = Scene::new().after(5).listed_now().visible(job(1)).stray(7, 1, "them");
    check(&scene, "; 1 waits: two installations, 0 ahead, told; alarm");
}

#[test]
fn what_another_installation_made_with_the_name_of_ours_is_not_deleted_as_ours() {
    let gone = Scene::new().made(job(1), 1).after(60).ended_machine(1, 1).after(1);
    let gone = gone.said(1, Reserved).settled().after(1).deleted(1, 1);
    let ours = gone.stray(1, 1, "us").after(15).listed_now().said(1, Running);
    check(&ours.settled(), "delete 1/1");
    let theirs = gone.stray(1, 1, "them").after(15).listed_now().said(1, Running);
    check(&theirs.settled(), "; alarm");
}

#[test]
fn a_job_that_somebody_else_took_is_let_go_and_not_tried_at_every_look() {
    let scene = Scene::new().taken(job(1)).visible(job(1)).refused(1);
    check(&scene, "");
    check(&scene.after(4).listed_now(), "");
    check(&scene.after(5).listed_now(), "fact 1 forgotten");
}

#[test]
fn a_claimed_job_whose_renewal_is_refused_is_kept_while_it_may_be_ours() {
    let scene = Scene::new().taken(job(1)).reserved(1).after(1).refused(1);
    check(&scene, "ask 1");
    let open = scene.after(6).said(1, Reserved);
    check(&open, "reserve 1");
    check(&scene.after(400).refused(1).after(5), "fact 1 forgotten");
}

#[test]
fn a_machine_that_came_about_late_is_not_deleted_on_an_earlier_word() {
    let given_up = Scene::new().taken(job(1)).reserved(1).unanswered(1, 1).no_room(1, 1);
    let scene = given_up.after(2).said(1, Reserved).after(2).stray(1, 1, "us").listed_now();
    check(&scene.settled(), "ask 1; 1 waits: removing");
    check(&scene.after(1).said(1, Running).settled(), "");
}

#[test]
fn another_machine_needs_a_word_from_after_the_end_of_the_last() {
    let up = Scene::new().made(job(1), 1).after(301).listed_now().said(1, Reserved).settled();
    let given_up = up.reserved(1).token(1, 2).after(1).said(1, Reserved);
    // It goes after the word, and before its delete is answered.
    let gone = given_up.after(1).vanished(1, 1).settled().after(5);
    check(&gone, "ask 1; 1 waits: backing off");
    check(&gone.said(1, Reserved), "create 1/2 on here");
}

#[test]
fn a_refused_renewal_deletes_nothing() {
    let scene = Scene::new().made(job(1), 1).after(130).listed_now().refused(1);
    check(&scene, "ask 1; 1 waits: starting");
    check(&scene.after(1).said(1, Running).settled(), "");
}

#[test]
fn frozen_and_woken_looks_before_it_acts() {
    let scene = Scene::new().made(job(1), 1).said(1, Scheduled).after(600);
    check(&scene, "reserve 1, ask 1; 1 waits: starting");
}

#[test]
fn what_may_be_alive_counts_until_its_deadline() {
    let check = |scene: &Scene, expected: (u64, u32)| assert_eq!(scene.worst_cost(), expected);
    check(&Scene::new().taken(job(1)).reserved(1), (0, 0));
    // An hour for the job, 300 s for its start, 120 s of grace: it may be made at any moment.
    let asked = Scene::new().taken(job(1)).reserved(1).asked(1, 1);
    check(&asked, (4020, 0));
    check(&asked.after(100), (4020, 0));
    // From then on its own deadline is known, and comes nearer.
    let made = Scene::new().made(job(1), 1);
    check(&made, (4000, 0));
    check(&made.after(1000), (3000, 0));
    check(&made.made(job(2), 1).after(1000), (6000, 0));
    check(&made.after(5000), (0, 0));
    // A clock that was set between two starts makes it no cheaper.
    check(&made.after(3600).restarted(), (4000, 0));
    // The price of what is only found is not known.
    check(&Scene::new().stray(7, 2, "them").settled(), (0, 1));
    let gone = made.after(1).deleted(1, 1).after(1).listed_now().said(1, Canceled).settled();
    check(&gone, (0, 0));
}

#[test]
fn what_is_asked_for_again_is_the_same_after_a_reload() {
    let asked = Scene::new().taken(job(1)).reserved(1).asked(1, 1).token(1, 1);
    let reloaded = asked.change(|scene| {
        let queues = scene.policy.queues.values_mut();
        queues.for_each(|queue| queue.start_timeout = Duration::from_secs(1));
    });
    assert_eq!(reloaded.worst_cost(), asked.worst_cost());
    let again = reloaded.after(121).listed_now();
    let lifetimes: Vec<_> = again.intents().iter().filter_map(lifetime).collect();
    assert_eq!(lifetimes, [Duration::from_secs(4020)]);
}

fn lifetime(event: &Event) -> Option<Duration> {
    let Event::CreateIntended { lifetime, .. } = event else { return None };
    *lifetime
}

#[test]
fn what_we_saw_when_we_began_is_no_other_installations_though_its_clock_is_ahead() {
    let scene = Scene::new().after(600).stray(7, 1, "them").after(5).restarted();
    check(&scene.first_listed_now(), "fact 7/1 adopted");
    check(&scene.after(1).listed_now(), "; alarm");
}
