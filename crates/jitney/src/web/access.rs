//! Who may read and who may write: a token or an authenticating proxy's header where they are
//! configured; else everybody who reaches us may read, and only programs on this host may write.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};

use super::{Web, refusal};

/// Where there is no token, a write has to bear this header: no page in a browser can add it
/// without our leave.
pub(crate) const WRITE_HEADER: &str = "x-jitney";

pub(super) async fn check(
    State(web): State<Web>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let settings = web.settings.borrow().clone();
    let web = &settings.web;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let headers = request.headers();
    if web.access_token.is_some() || web.proxy_header.is_some() {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let known =
            bearer.zip(web.access_token.as_ref()).is_some_and(|(given, token)| same(token, given));
        let vouched = web.proxy_header.as_ref().is_some_and(|name| headers.contains_key(name));
        if !known && !vouched {
            return refusal(
                StatusCode::UNAUTHORIZED,
                "send access.token as Authorization: Bearer …",
            );
        }
    } else if !(reads || from_here(peer, headers)) {
        return refusal(
            StatusCode::FORBIDDEN,
            "without access.token only programs on this host may change something, with the header X-Jitney",
        );
    }
    next.run(request).await
}

/// A program on this host, and no page in a browser on it.
fn from_here(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback() && headers.contains_key(WRITE_HEADER)
}

/// Takes as long whatever is given.
fn same(token: &SecretString, given: &str) -> bool {
    buildkite::webhook::verify_token(token, given).is_ok() && !token.expose_secret().is_empty()
}
