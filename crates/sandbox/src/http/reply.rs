//! Answers: every error is JSON with a message, as the clients expect it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use buildkite::wire::ErrorBody;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use uuid::Uuid;

use crate::engine::Refusal;

pub(super) type Reply<T> = Result<T, Failure>;

/// An error's status and what its body says.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::BadRequest(_) => StatusCode::BAD_REQUEST,
            Refusal::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Locked(_) => StatusCode::LOCKED,
        };
        Self::new(status, refusal.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = ErrorBody { message: self.message, ..ErrorBody::default() };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::LOCKED {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Reads a request's body; one that is not JSON is 400, one with a wrong field 422.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Reply<T> {
    serde_json::from_slice(body).map_err(|error| {
        let status = match error.classify() {
            Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
            Category::Io | Category::Syntax | Category::Eof => StatusCode::BAD_REQUEST,
        };
        Failure::new(status, format!("the body is not what this call takes: {error}"))
    })
}

/// Reads an id out of a path.
pub(super) fn id(text: &str) -> Reply<Uuid> {
    text.parse().map_err(|_| Failure::new(StatusCode::NOT_FOUND, format!("{text:?} is not a UUID")))
}

/// `{}`, which every client takes as a success.
pub(super) fn done() -> Json<serde_json::Value> {
    Json(serde_json::json!({}))
}
