//! A small day in every test run, and what its words mean.

use super::*;

fn asked(text: &str) -> Option<Result<Size, String>> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    Size::asked(&words)
}

#[test]
fn words_say_which_day_and_how_large() {
    assert_eq!(asked("SEEDS=5"), None);
    assert_eq!(asked("DAY=7"), Some(Ok(Size { seed: 7, machines: 1250, hours: 24 })));
    let small = asked("DAY=1 HOURS=2 MACHINES=80");
    assert_eq!(small, Some(Ok(Size { seed: 1, machines: 80, hours: 2 })));
    let wrong = |text| asked(text).unwrap().unwrap_err();
    assert_eq!(wrong("DAY=x"), "DAY: `x` is no whole number");
    assert_eq!(wrong("DAY=1 MACHINES=3"), "MACHINES is from 20 to 20000, HOURS from 1 to 240");
    assert!(wrong("DAY=1 SEEDS=3").starts_with("`SEEDS=3` says nothing"));
}

#[test]
fn a_small_day_keeps_all_promises() {
    let mut told = Vec::new();
    let size = Size { seed: 1, machines: 100, hours: 1 };
    let came = size.run(|so_far| told.push((so_far.simulated, so_far.jobs, so_far.machines)));
    println!("{}", came.told);
    if let Some(broken) = came.broken {
        panic!("{broken}");
    }
    assert!(told.len() >= 6 && told.iter().any(|(_, jobs, machines)| *jobs > 0 && *machines > 0));
    let books = came.books;
    assert!(books.most.machines > 80, "a day at full size has {:?}", books.most);
    let done = books.jobs.get("done").copied().unwrap_or_default();
    assert!(done > 300, "{:?}", books.jobs);
    assert!(books.refused > 0, "no zone was ever short");
    assert!(books.preempted.iter().all(|times| *times > 0), "{:?}", books.preempted);
    assert!(books.retried_off_spot > 0, "no job that was lost on spot was retried on demand");
    let spent = &books.spent;
    let parts = [spent.before, spent.work, spent.after, spent.failed, spent.lost];
    let sum: u128 = parts.iter().map(|part| part.cost).sum();
    // What is billed is a minute at the least, and nothing for what was taken back within it.
    let tenth = spent.all.cost / 10;
    assert!(sum.abs_diff(spent.all.cost) < tenth, "{spent:?}");
    assert!(spent.all.cost < books.on_demand, "spot saves nothing");
}
