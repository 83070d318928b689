//! Identity tokens of virtual machines: signed by one of Google's keys, for us, now, and of a
//! machine of our project that has our account. Pure; keys and time are handed in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::rsa::PublicKeyComponents;
use ring::signature::RSA_PKCS1_2048_8192_SHA256;
use serde::Deserialize;

const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// How far our clock may be off Google's.
const SKEW: SignedDuration = SignedDuration::from_secs(120);
/// The longest token that is looked at.
const LONGEST: usize = 16 << 10;

/// A set of keys, each with its name.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

#[derive(Debug, Deserialize)]
struct Key {
    #[serde(default)]
    kid: String,
    #[serde(default)]
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// Whose token is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) audience: &'a str,
    /// None: any account.
    pub(super) account: Option<&'a str>,
    pub(super) project: &'a str,
}

/// Which machine it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) name: String,
    pub(super) zone: String,
    pub(super) id: String,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    aud: String,
    exp: i64,
    #[serde(default)]
    iat: i64,
    #[serde(default)]
    email: String,
    #[serde(default)]
    email_verified: bool,
    google: Option<Google>,
}

#[derive(Deserialize)]
struct Google {
    compute_engine: Machine,
}

#[derive(Deserialize)]
struct Machine {
    instance_id: String,
    instance_name: String,
    project_id: String,
    zone: String,
}

impl Keys {
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text)
            .map_err(|error| format!("Google's keys cannot be read: {error}"))
    }

    /// Whether there is a key of the name by which the token calls its own.
    pub(super) fn has_key_of(&self, token: &str) -> bool {
        header(token).is_ok_and(|header| self.keys.iter().any(|key| key.kid == header.kid))
    }

    /// What the token says, where all of it is to be believed.
    pub(super) fn claims(
        &self,
        token: &str,
        wanted: &Wanted<'_>,
        now: Timestamp,
    ) -> Result<Claims, String> {
        let body = self.verified(token)?;
        let refused = |words: &str| Err(format!("the identity token {words}"));
        if !ISSUERS.contains(&body.iss.as_str()) {
            return refused("is not Google's");
        }
        if body.aud != wanted.audience {
            return refused("is for somebody else");
        }
        if body.exp <= (now - SKEW).as_second() {
            return refused("has expired");
        }
        if body.iat > (now + SKEW).as_second() {
            return refused("is of the future");
        }
        if wanted.account.is_some_and(|account| body.email != account || !body.email_verified) {
            return refused("is not of the machines' service account");
        }
        let Some(Google { compute_engine: machine }) = body.google else {
            return refused("does not say which machine it is of (format=full)");
        };
        if machine.project_id != wanted.project {
            return refused("is of another project");
        }
        Ok(Claims { name: machine.instance_name, zone: machine.zone, id: machine.instance_id })
    }

    fn verified(&self, token: &str) -> Result<Body, String> {
        let header = header(token)?;
        if header.alg != "RS256" {
            return Err(format!("the identity token is signed by {}, not RS256", header.alg));
        }
        let key = self.keys.iter().find(|key| key.kid == header.kid && key.kty == "RSA");
        let key = key.ok_or("the identity token is signed by a key that is not Google's")?;
        let broken = |_| "the identity token cannot be read".to_owned();
        let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(broken)?;
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(broken);
        let public = PublicKeyComponents { n: part(&key.n)?, e: part(&key.e)? };
        public
            .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
            .map_err(|_| "the identity token's signature is not Google's".to_owned())?;
        let (_, body) = signed.split_once('.').unwrap_or_default();
        serde_json::from_slice(&part(body)?)
            .map_err(|error| format!("the identity token cannot be read: {error}"))
    }
}

fn header(token: &str) -> Result<Header, String> {
    let broken = || "it is no identity token".to_owned();
    if token.len() > LONGEST || token.split('.').count() != 3 {
        return Err(broken());
    }
    let (header, _) = token.split_once('.').ok_or_else(broken)?;
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| broken())?;
    serde_json::from_slice(&header).map_err(|_| broken())
}
