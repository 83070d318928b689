//! The keys that the sandbox's Google signs with, and JSON web tokens. The private keys are
//! published test keys: what they sign proves nothing to anybody but a test.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use sha2::Digest as _;

const IDENTITY: [&str; 2] =
    [include_str!("keys/identity-1.pem"), include_str!("keys/identity-2.pem")];
const ACCOUNT: &str = include_str!("keys/service-account.pem");

/// One pair, and the name that tokens call it by.
pub(super) struct Pair {
    pub(super) id: String,
    pair: RsaKeyPair,
}

/// The keys of identity tokens, and that of service accounts' own assertions.
#[derive(Debug)]
pub(super) struct Keys {
    identity: Vec<Pair>,
    pub(super) account: Pair,
    /// Which of the identity keys signs now.
    current: AtomicUsize,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Pair {
    fn read(pem: &str) -> Self {
        let body: String = pem
            .lines()
            .skip_while(|line| !line.starts_with("-----BEGIN"))
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let der = STANDARD.decode(body).expect("the keys in the tree are base64");
        let pair = RsaKeyPair::from_pkcs8(&der).expect("the keys in the tree are RSA in PKCS#8");
        let modulus = PublicKeyComponents::<Vec<u8>>::from(pair.public()).n;
        let digest = sha2::Sha256::digest(&modulus);
        let id = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
        Self { id, pair }
    }

    /// A signed token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "kid": self.id, "typ": "JWT"});
        let [header, claims] =
            [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("the signature has the modulus' length");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token, if it is signed by this pair.
    pub(super) fn verified(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (_, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let public = PublicKeyComponents::<Vec<u8>>::from(self.pair.public());
        public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    fn jwk(&self) -> Value {
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.pair.public());
        let [n, e] = [n, e].map(|number| URL_SAFE_NO_PAD.encode(number));
        json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.id, "n": n, "e": e})
    }
}

impl Keys {
    pub(super) fn read() -> Self {
        Self {
            identity: IDENTITY.map(Pair::read).into(),
            account: Pair::read(ACCOUNT),
            current: AtomicUsize::new(0),
        }
    }

    /// The one that signs identity tokens now.
    pub(super) fn current(&self) -> &Pair {
        &self.identity[self.current.load(Ordering::Acquire) % self.identity.len()]
    }

    /// The next key signs; both are published all the time.
    pub(super) fn rotate(&self) {
        self.current.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn jwks(&self) -> Value {
        json!({"keys": self.identity.iter().map(Pair::jwk).collect::<Vec<_>>()})
    }

    /// The account's private key as a key file has it.
    pub(super) fn account_pem() -> String {
        let lines = ACCOUNT.lines().skip_while(|line| !line.starts_with("-----BEGIN"));
        lines.map(|line| format!("{line}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_key_has_signed_is_verified() {
        let keys = Keys::read();
        let claims = json!({"aud": "https://jitney.example", "exp": 1});
        let token = keys.current().sign(&claims);
        assert_eq!(keys.current().verified(&token), Some(claims.clone()));
        assert_eq!(keys.account.verified(&token), None, "another key");
        let forged = URL_SAFE_NO_PAD.encode(json!({"aud": "mine", "exp": 1}).to_string());
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(keys.current().verified(&format!("{}.{forged}.{}", parts[0], parts[2])), None);
        assert_eq!(keys.current().verified("a.b"), None);
        let first = keys.current().id.clone();
        keys.rotate();
        assert_ne!(keys.current().id, first);
        assert_eq!(keys.jwks()["keys"].as_array().unwrap().len(), 2);
        assert_eq!(keys.jwks()["keys"][0]["kid"], json!(first), "it is still published");
    }
}
