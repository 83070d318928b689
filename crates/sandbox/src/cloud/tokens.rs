//! Who callers are: access tokens, the endpoint that issues them for a service account's key or a
//! refresh token, and the identity tokens of machines.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Form;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::compute::{Compute, Instance};
use super::keys::Keys;
use super::server::Shared;

/// How long a token is good for; clients are told a second less, as Google does it.
const LIFE: SignedDuration = SignedDuration::from_secs(3_600);
/// How far a clock may be off.
const SKEW: SignedDuration = SignedDuration::from_secs(300);
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// What people's own credentials have in place of a key; published, like the keys.
const CLIENT_ID: &str = "sandbox.apps.googleusercontent.com";
const CLIENT_SECRET: &str = "sandbox-secret";
const REFRESH_TOKEN: &str = "1//sandbox-refresh-token";
const PERSON: &str = "someone@sandbox.example";

/// The access tokens that were issued.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<String, (String, Timestamp)>);

impl Tokens {
    fn issue(&mut self, account: &str, now: Timestamp) -> Value {
        self.0.retain(|_, (_, until)| *until > now);
        let token = format!("ya29.sandbox-{}", Uuid::new_v4().simple());
        self.0.insert(token.clone(), (account.to_owned(), now + LIFE));
        json!({"access_token": token, "expires_in": LIFE.as_secs() - 1, "token_type": "Bearer"})
    }

    /// Whose token it is, if it is good.
    pub(super) fn account(&self, token: &str, now: Timestamp) -> Option<String> {
        let (account, until) = self.0.get(token)?;
        (*until > now).then(|| account.clone())
    }
}

impl Shared {
    /// An access token for an account.
    pub(super) fn access_token(&self, account: &str) -> Value {
        let now = self.now();
        self.tokens(|tokens| tokens.issue(account, now))
    }

    /// The identity token of a machine, by its metadata server; none without a service account.
    pub(super) fn identity_token(
        self: &Arc<Self>,
        id: u64,
        audience: &str,
        full: bool,
    ) -> Option<String> {
        let claims = self.compute(|compute, now| {
            let own = compute.instance_by_id(id)?;
            let told = borrowed(compute, own).unwrap_or(own);
            claims(compute, told, audience, full, now)
        })?;
        Some(self.keys.current().sign(&claims))
    }
}

/// The machine whose identity another one was told to hand out.
fn borrowed<'a>(compute: &'a Compute, own: &Instance) -> Option<&'a Instance> {
    let borrowed = compute.knobs().borrowed_identity.as_ref()?;
    (borrowed.machine == own.name).then_some(())?;
    compute.instances().find(|instance| instance.name == borrowed.of)
}

/// Google's own clock counts here, whatever the machine's says.
fn claims(
    compute: &Compute,
    instance: &Instance,
    audience: &str,
    full: bool,
    now: Timestamp,
) -> Option<Value> {
    let account = instance.account.as_ref()?;
    let number: u64 = account.email.bytes().map(u64::from).sum();
    let subject = (100_000_000_000_000_000_u64 + number).to_string();
    let mut claims = json!({
        "aud": audience, "azp": subject, "sub": subject, "email": account.email,
        "email_verified": true, "iss": "https://accounts.google.com",
        "iat": now.as_second(), "exp": (now + LIFE).as_second(),
    });
    if full {
        claims["google"] = json!({"compute_engine": {
            "instance_creation_timestamp": instance.created_at.as_second(),
            "instance_id": instance.id.to_string(), "instance_name": instance.name,
            "project_id": compute.settings().project,
            "project_number": compute.settings().project_number, "zone": instance.zone,
        }});
    }
    Some(claims)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Grant {
    grant_type: String,
    assertion: String,
    client_id: String,
    client_secret: String,
    refresh_token: String,
}

fn refused(error: &str, words: &str) -> Response {
    let body = json!({"error": error, "error_description": words});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// `POST /token`
pub(super) async fn token(State(shared): State<Arc<Shared>>, Form(grant): Form<Grant>) -> Response {
    match grant.grant_type.as_str() {
        JWT_BEARER => match shared.asserted(&grant.assertion) {
            Ok(answer) => Json(answer).into_response(),
            Err(words) => refused("invalid_grant", words),
        },
        "refresh_token" => {
            let client = grant.client_id == CLIENT_ID && grant.client_secret == CLIENT_SECRET;
            if !client {
                return refused("invalid_client", "The OAuth client was not found.");
            }
            if grant.refresh_token != REFRESH_TOKEN {
                return refused("invalid_grant", "Token has been expired or revoked.");
            }
            let mut answer = shared.access_token(PERSON);
            answer["scope"] = json!("https://www.googleapis.com/auth/cloud-platform");
            Json(answer).into_response()
        }
        other => refused("unsupported_grant_type", &format!("Invalid grant_type: {other}")),
    }
}

impl Shared {
    /// Whose token it is that a service account has signed by itself, as libraries do it to save
    /// the exchange.
    pub(super) fn self_signed(self: &Arc<Self>, token: &str) -> Option<String> {
        let now = self.now();
        let claims = self.keys.account.verified(token)?;
        let text = |key: &str| claims.get(key).and_then(Value::as_str).unwrap_or_default();
        let time = |key: &str| claims.get(key).and_then(Value::as_i64);
        let (account, issued, expires) = (text("iss"), time("iat")?, time("exp")?);
        let good = text("sub") == account
            && !(text("scope").is_empty() && text("aud").is_empty())
            && issued <= (now + SKEW).as_second()
            && expires > now.as_second()
            && expires - issued <= (LIFE + SKEW).as_secs();
        let known = self.compute(|compute, _| {
            let settings = compute.settings();
            settings.dispatcher == account
                || settings.service_accounts.iter().any(|known| known == account)
        });
        (good && known).then(|| account.to_owned())
    }

    /// What a service account's own assertion gets.
    fn asserted(self: &Arc<Self>, assertion: &str) -> Result<Value, &'static str> {
        let now = self.now();
        let claims = self.keys.account.verified(assertion).ok_or("Invalid JWT Signature.")?;
        let text = |key: &str| claims.get(key).and_then(Value::as_str).unwrap_or_default();
        let time = |key: &str| claims.get(key).and_then(Value::as_i64);
        let account = text("iss").to_owned();
        let known = self.compute(|compute, _| {
            let settings = compute.settings();
            settings.dispatcher == account || settings.service_accounts.contains(&account)
        });
        if !known {
            return Err("Invalid grant: account not found");
        }
        if text("aud") != self.token_url() && text("aud") != "https://oauth2.googleapis.com/token" {
            return Err(
                "Invalid JWT: Failed audience check. The right audience is the token endpoint",
            );
        }
        let (Some(issued), Some(expires)) = (time("iat"), time("exp")) else {
            return Err("Invalid JWT: iat and exp are needed");
        };
        let reasonable = expires - issued <= LIFE.as_secs()
            && issued <= (now + SKEW).as_second()
            && expires > now.as_second();
        if !reasonable {
            return Err(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
            );
        }
        if let Some(audience) = claims.get("target_audience").and_then(Value::as_str) {
            let claims = json!({
                "aud": audience, "iss": "https://accounts.google.com", "email": account,
                "email_verified": true, "sub": account, "azp": account,
                "iat": now.as_second(), "exp": (now + LIFE).as_second(),
            });
            return Ok(json!({"id_token": self.keys.current().sign(&claims)}));
        }
        Ok(self.access_token(&account))
    }

    /// A service account's key file, or a person's own credentials.
    pub(super) fn credentials(self: &Arc<Self>, kind: &str) -> Option<Value> {
        let settings = self.compute(|compute, _| compute.settings().clone());
        match kind {
            "service_account" => Some(json!({
                "type": "service_account", "project_id": settings.project,
                "private_key_id": self.keys.account.id, "private_key": Keys::account_pem(),
                "client_email": settings.dispatcher, "client_id": "100000000000000000001",
                "auth_uri": format!("{}/o/oauth2/auth", self.url()),
                "token_uri": self.token_url(), "universe_domain": "googleapis.com",
            })),
            "authorized_user" => Some(json!({
                "type": "authorized_user", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
                "refresh_token": REFRESH_TOKEN, "token_uri": self.token_url(),
                "account": PERSON, "universe_domain": "googleapis.com",
            })),
            _ => None,
        }
    }
}
