//! The windows under a paused clock, beside a server that counts as Buildkite does.

use std::collections::VecDeque;

use tokio::time::{advance, sleep};

use super::*;

/// Counts arrivals in a sliding second and remembers the most that one second ever held.
#[derive(Default)]
struct Counting {
    arrivals: VecDeque<Instant>,
    most: usize,
}

impl Counting {
    fn arrived(&mut self) -> usize {
        let now = Instant::now();
        self.arrivals.push_back(now);
        while self.arrivals.front().is_some_and(|&at| at + Duration::from_secs(1) <= now) {
            self.arrivals.pop_front();
        }
        self.most = self.most.max(self.arrivals.len());
        self.arrivals.len()
    }
}

fn window(scope: Scope) -> Arc<Window> {
    Arc::new(Window::new(Law::of(scope)))
}

/// A burst of `calls`, whose ways to the server and back take times that a seed decides.
async fn burst(scope: Scope, calls: u64, longest_way_ms: u64, seed: u64) -> (usize, Duration) {
    let (window, counting) = (window(scope), Arc::new(Mutex::new(Counting::default())));
    let started = Instant::now();
    let tasks = (0..calls).map(|n| {
        let (window, counting) = (Arc::clone(&window), Arc::clone(&counting));
        let mixed = (seed * 1_000 + n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (there, back) = ((mixed >> 20) % longest_way_ms, (mixed >> 40) % longest_way_ms);
        async move {
            let permit = window.acquire().await;
            sleep(Duration::from_millis(there)).await;
            counting.lock().unwrap().arrived();
            sleep(Duration::from_millis(back)).await;
            drop(permit);
        }
    });
    futures_util::future::join_all(tasks).await;
    let most = counting.lock().unwrap().most;
    (most, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn no_second_at_the_server_holds_more_than_the_limit() {
    for seed in 0..40 {
        let (most, took) = burst(Scope::BatchReserve, 57, 120, seed).await;
        assert_eq!(most, 10, "seed {seed}");
        // Six windows at the least for 57 calls; the ways cost a little of each.
        assert!(took < Duration::from_millis(7_500), "seed {seed}: {took:?}");
    }
    let (most, _) = burst(Scope::FinishJob, 450, 900, 7).await;
    assert!(most <= 100, "{most}");
    let (most, _) = burst(Scope::ShowJob, 3_000, 40, 8).await;
    assert!(most > 900 && most <= 1_000, "{most}");
}

#[tokio::test(start_paused = true)]
async fn a_burst_within_the_limit_does_not_wait() {
    let window = window(Scope::ListScheduledJobs);
    let started = Instant::now();
    for left in (0..10).rev() {
        assert_eq!(window.wait(), Duration::ZERO, "{left} left");
        drop(window.acquire().await);
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(window.wait(), WINDOW);
    drop(window.acquire().await);
    // Tokio's timer is true to a millisecond.
    assert!(started.elapsed() - WINDOW <= Duration::from_millis(2), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_holds_its_place_for_a_bounded_time() {
    let window = window(Scope::BatchReserve);
    let mut hanging = Vec::new();
    for _ in 0..10 {
        hanging.push(window.acquire().await);
    }
    let started = Instant::now();
    let permit = window.acquire().await;
    assert!(started.elapsed() - (TRANSIT + WINDOW) <= Duration::from_millis(2));
    drop((permit, hanging));
}

#[tokio::test(start_paused = true)]
async fn no_burst_opens_connections_without_end() {
    let window = window(Scope::ShowJob);
    let mut on_their_way = Vec::new();
    for _ in 0..MOST_IN_FLIGHT {
        on_their_way.push(window.acquire().await);
    }
    let started = Instant::now();
    let next = tokio::spawn({
        let window = Arc::clone(&window);
        async move { drop(window.acquire().await) }
    });
    advance(Duration::from_secs(60)).await;
    assert!(!next.is_finished(), "there is room in the window, and all are still out");
    on_their_way.pop();
    next.await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(60), "it went as soon as one was back");
}

#[tokio::test(start_paused = true)]
async fn turns_are_taken_in_order_and_given_up_freely() {
    let window = window(Scope::BatchReserve);
    for _ in 0..10 {
        drop(window.acquire().await);
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..8 {
        let (window, order) = (Arc::clone(&window), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            drop(window.acquire().await);
            order.lock().unwrap().push(n);
        }));
        tokio::task::yield_now().await;
    }
    // The head of the queue and one in its middle give up: the others move on.
    tasks[0].abort();
    tasks[4].abort();
    for task in tasks {
        let _ = task.await;
    }
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 5, 6, 7]);
    assert_eq!(window.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_count_in_the_estimate() {
    let window = window(Scope::BatchReserve);
    for _ in 0..10 {
        drop(window.acquire().await);
    }
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let window = Arc::clone(&window);
            tokio::spawn(async move { drop(window.acquire().await) })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(window.wait(), WINDOW * 2);
    for task in waiting {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_holds_everybody_until_it_is_over() {
    let window = window(Scope::ListScheduledJobs);
    window.told(&Told { block: Some(Duration::from_secs_f64(2.5)), ..Told::default() });
    // A shorter word does not shorten a longer one.
    window.told(&Told { block: Some(Duration::from_secs(1)), ..Told::default() });
    assert_eq!(window.wait(), Duration::from_secs_f64(2.5));
    let started = Instant::now();
    drop(window.acquire().await);
    assert!(started.elapsed() >= Duration::from_secs_f64(2.5));
    window.told(&Told { block: Some(Duration::MAX), ..Told::default() });
    assert_eq!(window.wait(), LONGEST_BLOCK);
}

#[tokio::test(start_paused = true)]
async fn what_others_used_of_our_key_counts_as_used() {
    let window = window(Scope::BatchReserve);
    let permit = window.acquire().await;
    let told = Told {
        limit: Some(10),
        remaining: Some(3),
        reset: Some(Duration::from_secs(1)),
        block: None,
    };
    // The server counts seven, one of them ours: six are somebody else's.
    window.told(&told);
    drop(permit);
    for _ in 0..3 {
        assert_eq!(window.wait(), Duration::ZERO);
        drop(window.acquire().await);
    }
    assert_eq!(window.wait(), Duration::from_secs(1));
    advance(Duration::from_secs(2)).await;
    assert_eq!(window.wait(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_servers_lower_limit_is_kept_and_a_higher_one_is_not_used() {
    let window = window(Scope::BatchReserve);
    window.told(&Told { limit: Some(2), ..Told::default() });
    drop(window.acquire().await);
    drop(window.acquire().await);
    assert_eq!(window.wait(), WINDOW);
    window.told(&Told { limit: Some(1_000), ..Told::default() });
    for _ in 0..8 {
        drop(window.acquire().await);
    }
    assert_eq!(window.wait(), WINDOW);
    window.told(&Told { limit: Some(0), ..Told::default() });
    advance(Duration::from_secs(2)).await;
    assert_eq!(window.wait(), Duration::ZERO, "a limit of none would wait for ever");
}

#[tokio::test(start_paused = true)]
async fn what_others_used_of_a_minute_counts_until_that_minute_ends() {
    let quotas = Quotas::new();
    let told = |remaining, reset| Told {
        limit: Some(50),
        remaining: Some(remaining),
        reset: Some(Duration::from_secs(reset)),
        block: None,
    };
    for _ in 0..40 {
        drop(quotas.acquire().await);
    }
    // A new minute began at the server, which has forgotten our 40; others have used 44 of it.
    advance(Duration::from_secs(30)).await;
    drop(quotas.acquire().await);
    quotas.user.told(&told(5, 59));
    advance(Duration::from_secs(33)).await;
    // Our 40 have left our own minute; the 44 are there until the server's ends.
    for _ in 0..5 {
        assert_eq!(quotas.wait(), Duration::ZERO);
        drop(quotas.acquire().await);
    }
    assert_eq!(quotas.user.wait(), Duration::from_secs(26));
    assert_eq!(quotas.organization.wait(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_waited_long_for_the_users_turn_counts_for_the_organisation_from_then_on() {
    let quotas = Quotas::new();
    quotas.user.told(&Told { block: Some(Duration::from_secs(100)), ..Told::default() });
    let limit = Told { limit: Some(1), ..Told::default() };
    quotas.organization.told(&limit);
    let sent = quotas.acquire().await;
    advance(Duration::from_secs(1)).await;
    drop(sent);
    assert_eq!(quotas.organization.wait(), MINUTE);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_while_waiting_for_the_users_turn_uses_nothing_up() {
    let quotas = Quotas::new();
    quotas.organization.told(&Told { limit: Some(1), ..Told::default() });
    quotas.user.told(&Told { block: Some(Duration::from_secs(30)), ..Told::default() });
    let waiting = tokio::spawn({
        let quotas = quotas.clone();
        async move { drop(quotas.acquire().await) }
    });
    advance(Duration::from_secs(1)).await;
    assert!(quotas.organization.wait() > Duration::ZERO, "it holds the only place");
    waiting.abort();
    assert!(waiting.await.is_err());
    assert_eq!(quotas.organization.wait(), Duration::ZERO);
}

#[test]
fn every_scope_has_its_window() {
    let windows = Windows::new();
    for scope in Scope::ALL {
        assert_eq!(windows.of(scope).law.documented, usize::try_from(scope.per_second()).unwrap());
    }
}
