//! API access tokens: whose they are and what they may do. What they are used for stands with the
//! calls.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Engine, Refusal};

/// What a REST call may ask of its token.
pub const SCOPES: [&str; 7] = [
    "read_agents",
    "write_agents",
    "read_builds",
    "write_builds",
    "read_build_logs",
    "read_job_env",
    "read_pipelines",
];

/// A token that is to be issued.
#[derive(Clone, PartialEq, Eq)]
pub struct NewApiToken {
    /// `bkua_…`
    pub token: String,
    pub description: String,
    /// Tokens of one user share its rate limit.
    pub user: String,
    /// Of [`SCOPES`].
    pub scopes: Vec<String>,
}

impl NewApiToken {
    /// A token that may do everything.
    #[must_use]
    pub fn with_all_scopes(token: &str) -> Self {
        Self {
            token: token.to_owned(),
            description: "sandbox".to_owned(),
            user: "sandbox".to_owned(),
            scopes: SCOPES.map(str::to_owned).into(),
        }
    }
}

impl fmt::Debug for NewApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewApiToken")
            .field("user", &self.user)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// A token as it is known by, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub id: Uuid,
    pub description: String,
    pub user: String,
    pub scopes: Vec<String>,
    pub created_at: Timestamp,
}

impl ApiToken {
    #[must_use]
    pub fn may(&self, scope: &str) -> bool {
        self.scopes.iter().any(|allowed| allowed == scope)
    }
}

/// Whether the token could be issued at the start, when none is made up.
pub(crate) fn check_given(new: &NewApiToken) -> Result<(), Refusal> {
    if new.token.is_empty() {
        return Err(Refusal::Unprocessable("it is empty".to_owned()));
    }
    check(new)
}

fn check(new: &NewApiToken) -> Result<(), Refusal> {
    match new.scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let why = format!("there is no scope {unknown:?}: take some of {}", SCOPES.join(", "));
            Err(Refusal::Unprocessable(why))
        }
    }
}

impl Engine {
    /// Issues a token; without a text one is made up. The answer is its text.
    pub fn issue_api_token(&mut self, new: NewApiToken, now: Timestamp) -> Result<String, Refusal> {
        check(&new)?;
        if self.api_tokens.contains_key(&new.token) {
            return Err(Refusal::Unprocessable("this token was issued before".to_owned()));
        }
        Ok(self.add_api_token(new, now))
    }

    pub(super) fn add_api_token(&mut self, new: NewApiToken, now: Timestamp) -> String {
        let text = if new.token.is_empty() { self.ids.token("bkua_") } else { new.token };
        let token = ApiToken {
            id: self.ids.uuid(now),
            description: new.description,
            user: new.user,
            scopes: new.scopes,
            created_at: now,
        };
        self.api_tokens.insert(text.clone(), token);
        text
    }

    /// Whose API token this is.
    pub fn api_token(&self, token: &str) -> Result<&ApiToken, Refusal> {
        self.api_tokens.get(token).ok_or_else(|| {
            Refusal::Unauthorized("Authentication required: the token is not known".to_owned())
        })
    }

    pub fn revoke_api_token(&mut self, id: Uuid) {
        self.api_tokens.retain(|_, token| token.id != id);
    }
}
