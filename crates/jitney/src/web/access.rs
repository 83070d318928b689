//! Who may read and who may write. The API only reads, unless it is given a token: jobs may run on
//! this very host, so that a call comes from here proves nothing. It serves nothing itself.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};

use super::{Web, refusal};

pub(super) async fn check(State(web): State<Web>, request: Request, next: Next) -> Response {
    let settings = web.settings.borrow().clone();
    let web = &settings.web;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let headers = request.headers();
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let known =
        bearer.zip(web.access_token.as_ref()).is_some_and(|(given, token)| same(token, given));
    let vouched = web.proxy_header.as_ref().is_some_and(|name| headers.contains_key(name));
    let open = web.access_token.is_none() && web.proxy_header.is_none();
    if known || (reads && (vouched || open)) {
        return next.run(request).await;
    }
    match web.access_token {
        // Also a proxy's header is no proof: whatever runs on this host can send one.
        None if !reads => refusal(
            StatusCode::FORBIDDEN,
            "without access.token in the configuration the API only reads; set one and restart",
        ),
        Some(_) | None => {
            refusal(StatusCode::UNAUTHORIZED, "send access.token as Authorization: Bearer …")
        }
    }
}

/// Takes as long whatever is given.
fn same(token: &SecretString, given: &str) -> bool {
    buildkite::webhook::verify_token(token, given).is_ok() && !token.expose_secret().is_empty()
}
