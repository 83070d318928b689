//! HTTPS with a private authority, and what is said when it is not trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buildkite::{Client, ConfigError, Options, Remedy};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::server::{TOKEN, golden, options, read_request};

/// A private authority, whose certificate lies in a file.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Takes connections for `name`, offering `protocols`.
    pub(crate) fn acceptor(&self, name: &str, protocols: &[&str]) -> TlsAcceptor {
        buildkite::install_crypto_provider();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a fit key");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers one request with the token's identity and closes.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let request = read_request(stream).await;
    let body = golden("token.200.json");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.expect("the client listens");
    // The client may close first.
    let _ = stream.shutdown().await;
    request
}

/// Serves HTTPS at 127.0.0.1; counts the handshakes that were completed.
async fn serve(acceptor: TlsAcceptor) -> (String, Arc<AtomicUsize>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("https://{}/v3", listener.local_addr().expect("a bound socket"));
    let agreed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&agreed);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            // A client that does not trust us breaks off; that is what some tests are about.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            count.fetch_add(1, Ordering::Relaxed);
            answer(&mut stream).await;
        }
    });
    (endpoint, agreed, task)
}

fn trusting(endpoint: &str, file: &Path) -> Client {
    let extra_ca = Some(file.to_owned());
    Client::new(Options { extra_ca, ..options(endpoint) }).expect("a good authority")
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_named() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", &["http/1.1"]);
    let (endpoint, agreed, task) = serve(acceptor).await;
    let client = trusting(&endpoint, &authority.file());
    assert_eq!(client.token_identity().await.unwrap().organization_slug, "demo");
    assert_eq!(agreed.load(Ordering::Relaxed), 1);
    task.abort();
}

#[tokio::test]
async fn http_2_carries_many_calls_at_once_over_one_connection() {
    const AT_ONCE: usize = 40;
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", &["h2", "http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}/v3", listener.local_addr().unwrap());
    // Answers nothing before all requests are there, so they must have come side by side.
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut waiting = Vec::new();
        while let Some(next) = connection.accept().await {
            let (request, reply) = next.unwrap();
            waiting.push((request, reply));
            if waiting.len() < AT_ONCE {
                continue;
            }
            for (request, mut reply) in waiting.drain(..) {
                assert_eq!(request.headers()["authorization"], format!("Token {TOKEN}"));
                let mut body = reply.send_response(axum::http::Response::new(()), false).unwrap();
                body.send_data(golden("token.200.json").into(), true).unwrap();
            }
        }
    });
    let client = trusting(&endpoint, &authority.file());
    let calls = (0..AT_ONCE).map(|_| client.token_identity());
    for identity in futures_util::future::join_all(calls).await {
        assert_eq!(identity.unwrap().organization_slug, "demo");
    }
    task.abort();
}

#[tokio::test]
async fn a_stranger_is_not_sent_the_token() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (name, file) in [("127.0.0.1", other.file()), ("127.0.0.2", authority.file())] {
        let (endpoint, agreed, task) = serve(authority.acceptor(name, &["http/1.1"])).await;
        let error = trusting(&endpoint, &file).token_identity().await.unwrap_err();
        assert_eq!((error.remedy, error.status), (Remedy::Retry, None));
        assert!(error.message.contains("certificate"), "{error}");
        assert_eq!(agreed.load(Ordering::Relaxed), 0, "no handshake was completed");
        task.abort();
    }
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let refused = |words: &str| {
        let extra_ca = Some(path.clone());
        let made = Client::new(Options { extra_ca, ..options("https://127.0.0.1:1/v3") });
        let error = made.unwrap_err();
        assert!(matches!(error, ConfigError::Certificates { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    refused("No such file");
    std::fs::write(&path, "not a certificate").unwrap();
    refused("holds no certificate in PEM form");
}
