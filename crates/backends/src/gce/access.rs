//! Who we are to Google. Credentials are found as Google's own libraries find them, by Google's own
//! crate, which also keeps tokens fresh; nothing of it is kept here but the way to ask.

use std::sync::Mutex;

use google_cloud_auth::credentials::{AccessTokenCredentials, Builder};
use secrecy::SecretString;

use crate::contract::{Class, Error};
use crate::http::causes;

/// All that machines need.
pub(super) const COMPUTE: &str = "https://www.googleapis.com/auth/compute";
/// What it takes to ask projects and service accounts who may do what with them.
pub(super) const EVERYTHING: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The way to an access token.
#[derive(Clone, Debug)]
pub enum Access {
    /// What is found where Google's libraries look: `GOOGLE_APPLICATION_CREDENTIALS`, the user's
    /// own, the metadata server.
    Default,
    /// These.
    Of(AccessTokenCredentials),
    /// No token: for a cloud on loopback that asks for none.
    Anonymous,
}

#[derive(Debug)]
pub(super) struct Tokens {
    access: Access,
    scope: &'static str,
    found: Mutex<Option<AccessTokenCredentials>>,
}

impl Tokens {
    pub(super) fn new(access: Access, scope: &'static str) -> Self {
        Self { access, scope, found: Mutex::default() }
    }

    /// None where no token is needed.
    pub(super) async fn token(&self) -> Result<Option<SecretString>, Error> {
        let credentials = match &self.access {
            Access::Anonymous => return Ok(None),
            Access::Of(credentials) => credentials.clone(),
            Access::Default => self.found()?,
        };
        let token = credentials.access_token().await.map_err(|error| {
            let class = if error.is_transient() { Class::Ambiguous } else { Class::Denied };
            let words = format!("Google's credentials give no token: {}", causes(&error));
            // Nothing was sent, so nothing is in doubt; but time may heal it.
            Error::new(if class == Class::Ambiguous { Class::Rate } else { class }, words)
        })?;
        Ok(Some(SecretString::from(token.token)))
    }

    /// What was found is looked for anew at the next call: Google does not take its tokens.
    pub(super) fn forget(&self) {
        self.found.lock().expect("nothing panics while it holds this lock").take();
    }

    fn found(&self) -> Result<AccessTokenCredentials, Error> {
        let mut found = self.found.lock().expect("nothing panics while it holds this lock");
        if let Some(credentials) = found.as_ref() {
            return Ok(credentials.clone());
        }
        let made = Builder::default().with_scopes([self.scope]).build_access_token_credentials();
        let credentials = made.map_err(|error| {
            let words = format!(
                "no credentials for Google are found: {}; set GOOGLE_APPLICATION_CREDENTIALS, or run where there is a metadata server",
                causes(&error)
            );
            Error::new(Class::Denied, words)
        })?;
        *found = Some(credentials.clone());
        Ok(credentials)
    }
}
