//! The keys of a control plane: an authority of its own, the API server's certificate, the key
//! that signs ServiceAccounts' tokens; and the self-signed certificate of a node.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Result;
use crate::error::{api, io};

const AUTHORITY: &str = "ca.crt";

/// Writes `ca.crt`, `server.crt`, `server.key`, `accounts.key` and `accounts.pub`
/// into the folder.
pub(super) fn write(folder: &Path) -> Result<()> {
    let made = || {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "local control plane");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
        let accounts = KeyPair::generate()?;
        Ok([
            (AUTHORITY, authority.pem()),
            ("server.crt", certificate.pem()),
            ("server.key", key.serialize_pem()),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
        ])
    };
    for (name, text) in made().map_err(api::<rcgen::Error>("make certificates"))? {
        fs::write(folder.join(name), text).map_err(io(format!("write {name}")))?;
    }
    Ok(())
}

/// How a node serves logs: the API server takes any certificate of a kubelet, as by default.
pub(crate) fn of_node() -> Result<Arc<ServerConfig>> {
    let key = KeyPair::generate().map_err(api("make a node's key"))?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .map_err(api("make a node's certificate"))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)
            })
            .map_err(api("use a node's certificate"))?;
    Ok(Arc::new(config))
}
