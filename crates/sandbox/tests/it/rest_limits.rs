//! The REST API's two limits, and that they can be switched off.

use std::time::Duration;

use futures_util::future::join_all;
use sandbox::engine::NewApiToken;

use crate::golden::check;
use crate::rest::{API, start};
use crate::support::{Answer, Caller, start_with};

const CALL: &str = "/v2/access-token";

fn told(answer: &Answer, name: &str) -> String {
    answer.headers[name].to_str().unwrap().to_owned()
}

async fn many(caller: &Caller, calls: usize) -> usize {
    let answers = join_all((0..calls).map(|_| caller.get(CALL))).await;
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[tokio::test]
async fn a_user_has_50_requests_a_minute() {
    let sandbox = start().await;
    let caller = Caller::rest(&sandbox, API);
    let first = caller.get(CALL).await;
    assert_eq!(told(&first, "ratelimit-scope"), "rest");
    assert_eq!(told(&first, "ratelimit-limit"), "200");
    assert_eq!(told(&first, "ratelimit-remaining"), "199");
    assert_eq!(told(&first, "ratelimit-reset"), "60");
    assert_eq!(told(&first, "ratelimit-user-scope"), "rest_user");
    assert_eq!(told(&first, "ratelimit-user-limit"), "50");
    assert_eq!(told(&first, "ratelimit-user-remaining"), "49");
    assert_eq!(many(&caller, 60).await, 49);
    let refused = caller.get(CALL).await;
    assert_eq!(refused.status, 429);
    check("rest.429", &refused.body);
    assert_eq!(refused.body["scope"], "rest_user");
    assert_eq!((&refused.body["limit"], &refused.body["current"]), (&50.into(), &62.into()));
    assert_eq!(told(&refused, "ratelimit-user-remaining"), "0");
    assert_eq!(told(&refused, "ratelimit-remaining"), "150", "what is refused uses nothing up");
    // Another token of the same user does not help.
    let controls = Caller::new(&sandbox, "");
    let issued = controls.post("/_sandbox/access-tokens", serde_json::json!({})).await.body;
    let second = caller.with(issued["token"].as_str().unwrap());
    assert_eq!(second.get(CALL).await.status, 429);
    sandbox.advance(Duration::from_secs(60));
    assert_eq!(told(&caller.get(CALL).await, "ratelimit-user-remaining"), "49");
}

#[tokio::test]
async fn an_organisation_has_200_requests_a_minute() {
    let users = ["a", "b", "c", "d", "e"];
    let sandbox = start_with(|options| {
        let token = |user: &&str| NewApiToken {
            user: (*user).to_owned(),
            ..NewApiToken::with_all_scopes(user)
        };
        options.settings.api_tokens = users.iter().map(token).collect();
    })
    .await;
    let callers: Vec<Caller> = users.iter().map(|user| Caller::rest(&sandbox, user)).collect();
    let allowed: usize = join_all(callers.iter().map(|caller| many(caller, 45))).await.iter().sum();
    assert_eq!(allowed, 200);
    let refused = callers[0].get(CALL).await;
    assert_eq!((refused.status.as_u16(), &refused.body["scope"]), (429, &"rest".into()));
    assert_eq!(refused.body["limit"], 200);
}

#[tokio::test]
async fn limits_that_are_switched_off_are_not_told_either() {
    let sandbox = start_with(|options| {
        options.rate_limits = false;
        options.settings.api_tokens = vec![NewApiToken::with_all_scopes(API)];
    })
    .await;
    let caller = Caller::rest(&sandbox, API);
    assert_eq!(many(&caller, 60).await, 60);
    assert!(!caller.get(CALL).await.headers.contains_key("ratelimit-limit"));
}
