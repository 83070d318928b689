//! The token that a call came with, to look at and to revoke.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use buildkite::rest::wire::{AccessToken, User};

use crate::engine::ApiToken;
use crate::server::Shared;

pub(super) async fn show(Extension(token): Extension<ApiToken>) -> Json<AccessToken> {
    // As Buildkite writes the times of tokens, and no others.
    let created_at = token.created_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let email = format!("{}@example.com", token.user);
    Json(AccessToken {
        uuid: token.id,
        scopes: token.scopes,
        description: token.description,
        created_at: Some(created_at),
        expires_at: None,
        user: Some(User { name: token.user, email }),
    })
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Extension(token): Extension<ApiToken>,
) -> StatusCode {
    shared.engine(|engine, _| engine.revoke_api_token(token.id));
    StatusCode::NO_CONTENT
}
