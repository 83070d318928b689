//! What a job's image has to have, and what it lacks. It looks at files only and runs nothing.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::find_program;
use crate::place::{Place, make_dir, named};
use crate::report::Orders;

/// Where the systems that images are made of keep the authorities that they trust.
const AUTHORITIES: [&str; 6] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
    "etc/pki/tls/cacert.pem",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/cert.pem",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// Neither bash nor sh: no job can run.
    Shell,
    Bash,
    Git,
    Certificates,
    Home,
}

/// What is not in the image, worst first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Image {
    pub lacks: Vec<Lack>,
}

impl Image {
    /// `root` is the image's own.
    pub(super) fn look(orders: &Orders, root: &Path) -> Self {
        let env = |name: &str| orders.env.get(name).map(String::as_str).unwrap_or_default();
        let has = |name: &str| {
            std::env::split_paths(env("PATH")).any(|dir| {
                let inside = root.join(dir.strip_prefix("/").unwrap_or(&dir));
                find_program(name, &inside.to_string_lossy()).is_some()
            })
        };
        // The agent calls it by its path.
        let bash = root.join("bin/bash").exists();
        let mut lacks = Vec::new();
        if !bash {
            lacks.push(if has("bash") || has("sh") { Lack::Bash } else { Lack::Shell });
        }
        if !has("git") {
            lacks.push(Lack::Git);
        }
        let named = !env("SSL_CERT_FILE").is_empty() || !env("SSL_CERT_DIR").is_empty();
        let needed = orders.endpoint.starts_with("https:");
        if needed && !named && !AUTHORITIES.iter().any(|file| root.join(file).exists()) {
            lacks.push(Lack::Certificates);
        }
        let home = env("HOME");
        if home.is_empty() || !is_writable(&root.join(home.trim_start_matches('/'))) {
            lacks.push(Lack::Home);
        }
        Self { lacks }
    }

    /// Puts what we have in the place of what is not there.
    pub(super) fn make_do(&self, orders: &mut Orders, place: &Place) -> io::Result<()> {
        for lack in &self.lacks {
            match lack {
                Lack::Home => {
                    let home = place.dir().join("home");
                    make_dir(&home, 0o700).map_err(|error| named(error, &home))?;
                    orders.env.insert("HOME".to_owned(), home.display().to_string());
                }
                Lack::Bash => {
                    let shell = orders.env.entry("BUILDKITE_SHELL".to_owned());
                    shell.or_insert_with(|| "/bin/sh -e -c".to_owned());
                }
                Lack::Shell | Lack::Git | Lack::Certificates => {}
            }
        }
        Ok(())
    }

    /// Whether no job can run in it.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        self.lacks.contains(&Lack::Shell)
    }

    /// `the image has no git and no CA certificates`.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let each: Vec<&str> = self.lacks.iter().map(|lack| lack.words()).collect();
        let (last, rest) = each.split_last()?;
        let all = if rest.is_empty() {
            (*last).to_owned()
        } else {
            format!("{} and {last}", rest.join(", "))
        };
        Some(format!("the image has {all}"))
    }
}

impl Lack {
    const fn words(self) -> &'static str {
        match self {
            Self::Shell => "no shell (bash or sh)",
            Self::Bash => "no bash, so commands run with sh",
            Self::Git => "no git",
            Self::Certificates => "no CA certificates",
            Self::Home => "no HOME that can be written to, so another is used",
        }
    }
}

fn is_writable(dir: &Path) -> bool {
    let trial = dir.join(".jitney-trial");
    let made = fs::write(&trial, b"");
    made.and_then(|()| fs::remove_file(&trial)).is_ok()
}
