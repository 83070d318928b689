//! The `process` backend with a play agent.

use backends::{Backend, Class, Error, conformance};

use crate::place::{Place, STAYS, alive_below, write_agent};

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let place = Place::new(STAYS);
    conformance::run(&place).await;
    assert_eq!(alive_below(place.path()).into_values().collect::<Vec<_>>(), Vec::<String>::new());
}

async fn refused(place: &Place) -> Error {
    let order = conformance::order(place, conformance::MARK);
    let error = place.process().create(&order).await.expect_err("it cannot be made");
    assert!(!place.machine(&order.name).exists(), "nothing is left of what was not made");
    error
}

#[tokio::test]
async fn an_absent_agent_is_denied_with_the_remedy() {
    let mut place = Place::new(STAYS);
    place.options.agent = "no-such-agent".into();
    let error = refused(&place).await;
    assert_eq!(error.class, Class::Denied);
    assert_eq!(
        error.words,
        "there is no `no-such-agent` on PATH, which is /usr/local/bin:/usr/bin:/bin; install \
         buildkite-agent 3.52 or newer, or set `agent` to where it is"
    );
}

#[tokio::test]
async fn an_agent_that_is_too_old_is_denied_until_it_is_updated() {
    let place = Place::new(STAYS);
    write_agent(&place.options.agent, "buildkite-agent version 3.51.0, build 1", STAYS);
    let backend = place.process();
    let order = conformance::order(&place, conformance::MARK);
    let error = backend.create(&order).await.expect_err("too old");
    assert_eq!(error.class, Class::Denied);
    assert!(error.words.contains("is version 3.51, and 3.52 or newer is needed"), "{error}");
    write_agent(&place.options.agent, "buildkite-agent version 3.52.0, build 2", STAYS);
    backend.create(&order).await.expect("it was updated");
    backend.delete(&order.name).await.expect("delete");
}
