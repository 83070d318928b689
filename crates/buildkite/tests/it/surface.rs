//! What callers may rely on about the types themselves.

use std::time::Duration;

use buildkite::rest::wire::NewAnnotation;
use buildkite::{Client, Options, RestClient, StackClient, TokenSource};

fn is_shared<T: Send + Sync + Clone + 'static>() {}

fn is_send<T: Send>(_: T) {}

#[test]
fn clients_and_their_futures_go_between_threads() {
    is_shared::<Client>();
    is_shared::<StackClient>();
    is_shared::<RestClient>();
    buildkite::install_crypto_provider();
    let token = TokenSource::Fixed("bkct_x".to_owned().into());
    let options = Options::new("http://127.0.0.1:9/v3", token);
    let rest = RestClient::new(options.clone(), "demo").unwrap();
    let client = Client::new(options).unwrap();
    let stack = client.stack("jit");
    is_send(client.probe());
    is_send(client.deregister("jit"));
    is_send(stack.list_all("q", buildkite::Paging::default()));
    is_send(stack.reserve(&[], Duration::from_secs(1)));
    is_send(stack.states(&[]));
    is_send(stack.notify(Vec::new()));
    is_send(stack.issue_tokens(&[], Duration::from_secs(1)));
    is_send(rest.job(uuid::Uuid::nil()));
    is_send(rest.retry_job(uuid::Uuid::nil()));
    is_send(rest.annotate_job(uuid::Uuid::nil(), &NewAnnotation::default()));
}
