//! Calls through a proxy: in the absolute form for `http://`, by a tunnel for `https://`.

use std::sync::{Arc, Mutex};

use buildkite::{Client, Options, Proxies, Remedy};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::server::{Seen, Server, TOKEN, golden, options, read_request, reply};
use crate::tls::{Authority, answer};

/// A proxy that writes down the first request of each connection. It leads everything to itself:
/// a tunnel ends at `acceptor`, and anything else is answered as if by the endpoint.
struct Proxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    async fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let journal = Arc::clone(&asked);
        let note = move |request| journal.lock().expect("no test panics here").push(request);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let Some(acceptor) = &acceptor else {
                    note(answer(&mut stream).await);
                    continue;
                };
                note(read_request(&mut stream).await);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("the client listens");
                let mut inner = acceptor.accept(stream).await.expect("a handshake");
                note(answer(&mut inner).await);
            }
        });
        Self { address, asked, task }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics here").clone()
    }
}

fn proxies(variable: &'static str, value: String) -> Proxies {
    Proxies::from_vars(move |name| (name == variable).then(|| value.clone())).expect("an address")
}

#[tokio::test]
async fn a_plain_endpoint_is_asked_for_in_the_absolute_form() {
    let proxy = Proxy::start(None).await;
    let proxies = proxies("HTTP_PROXY", format!("http://me:pa55@{}", proxy.address));
    let client = Client::new(Options { proxies, ..options("http://buildkite.test/v3") }).unwrap();
    assert_eq!(client.token_identity().await.unwrap().organization_slug, "demo");
    let request = proxy.asked()[0].to_lowercase();
    assert!(request.starts_with("get http://buildkite.test/v3/token http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nproxy-authorization: basic bwu6cge1nq==\r\n"), "{request}");
    assert!(request.contains("\r\nauthorization: token "), "{request}");
}

#[tokio::test]
async fn an_encrypted_endpoint_is_reached_by_a_tunnel() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("buildkite.test", &["http/1.1"]);
    let proxy = Proxy::start(Some(acceptor)).await;
    let proxies = proxies("HTTPS_PROXY", format!("http://me:pa55@{}", proxy.address));
    let extra_ca = Some(authority.file());
    let options = Options { proxies, extra_ca, ..options("https://buildkite.test/v3") };
    let client = Client::new(options).unwrap();
    assert_eq!(client.token_identity().await.unwrap().organization_slug, "demo");
    let [tunnel, inner] = &proxy.asked()[..] else { panic!("two requests") };
    assert!(tunnel.starts_with("CONNECT buildkite.test:443 HTTP/1.1\r\n"), "{tunnel}");
    assert!(tunnel.to_lowercase().contains("\r\nproxy-authorization: basic bwu6cge1nq==\r\n"));
    // The proxy learns where to, and nothing else.
    assert!(!tunnel.contains(TOKEN), "{tunnel}");
    assert!(inner.starts_with("GET /v3/token HTTP/1.1\r\n"), "{inner}");
    assert!(!inner.to_lowercase().contains("proxy-authorization"), "{inner}");
}

#[tokio::test]
async fn loopback_and_exceptions_go_directly() {
    let server = Server::start(|_: &Seen| reply(200, &[], golden("token.200.json"))).await;
    let proxy = Proxy::start(None).await;
    let proxies = proxies("ALL_PROXY", format!("http://{}", proxy.address));
    let client = Client::new(Options { proxies, ..options(&server.endpoint) }).unwrap();
    client.token_identity().await.unwrap();
    assert_eq!(server.seen().len(), 1);
    assert!(proxy.asked().is_empty());
}

#[tokio::test]
async fn a_proxy_that_is_down_means_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let proxies = proxies("HTTPS_PROXY", format!("http://me:pa55@{address}"));
    // With an authority of our own, since a machine need not have any.
    let authority = Authority::new();
    let extra_ca = Some(authority.file());
    let options = Options { proxies, extra_ca, ..options("https://buildkite.test/v3") };
    let client = Client::new(options).unwrap();
    let error = client.deregister("jit").await.unwrap_err();
    assert_eq!((error.remedy, error.status), (Remedy::Retry, None));
    assert!(!error.to_string().contains("pa55"), "{error}");
}
