//! The machine's metadata server: its attributes, its identity, whether it is being preempted. It
//! speaks as much of HTTP as that server, which is on the machine's own network, needs.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::Deserialize;

const HOST: &str = "metadata.google.internal";
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// How long one question whether something has changed is open.
const HELD_S: u64 = 60;
/// An attribute has at most 256 KiB.
const LONGEST: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// With its port.
    host: String,
}

impl Metadata {
    /// Where Google's own programs look.
    pub(super) fn of(env: &BTreeMap<String, String>) -> Self {
        let host = env.get("GCE_METADATA_HOST").filter(|host| !host.is_empty());
        let host = host.map_or(HOST, String::as_str);
        let port = if host.contains(':') { "" } else { ":80" };
        Self { host: format!("{host}{port}") }
    }

    pub(super) fn get(&self, path: &str) -> io::Result<String> {
        self.ask(path, ANSWER).map(|answer| answer.body)
    }

    /// One of the machine's attributes, if it has it.
    pub(super) fn attribute(&self, name: &str) -> io::Result<Option<String>> {
        match self.get(&format!("instance/attributes/{name}")) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A token of the machine's service account, for Google's own APIs.
    pub(super) fn access_token(&self) -> io::Result<String> {
        #[derive(Deserialize)]
        struct Given {
            access_token: String,
        }
        let text = self.get("instance/service-accounts/default/token")?;
        let given: Given = serde_json::from_str(&text).map_err(io::Error::other)?;
        Ok(given.access_token)
    }

    /// The machine's proof of who it is, for whoever has this address.
    pub(super) fn identity(&self, audience: &str) -> io::Result<String> {
        let escaped: String = audience
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let path =
            format!("instance/service-accounts/default/identity?audience={escaped}&format=full");
        self.get(&path).map(|token| token.trim().to_owned()).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                let words = "the machine has no service account, so it cannot prove who it is";
                return io::Error::new(io::ErrorKind::NotFound, words);
            }
            error
        })
    }

    /// Returns when the cloud wants the machine back.
    pub(super) fn until_preempted(&self) {
        let mut path = "instance/preempted".to_owned();
        loop {
            match self.ask(&path, Duration::from_secs(HELD_S) + ANSWER) {
                Ok(said) if said.body.trim().eq_ignore_ascii_case("true") => return,
                // By its tag, so that what happens between two questions is not missed.
                Ok(Answer { etag: Some(etag), .. }) => {
                    path = format!(
                        "instance/preempted?wait_for_change=true&timeout_sec={HELD_S}&last_etag={etag}"
                    );
                }
                Ok(Answer { etag: None, .. }) => std::thread::sleep(CONNECT),
                Err(error) => {
                    eprintln!("jitney guest: the metadata server: {error}");
                    std::thread::sleep(CONNECT);
                }
            }
        }
    }

    fn ask(&self, path: &str, patience: Duration) -> io::Result<Answer> {
        let addresses = self.host.to_socket_addrs()?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        let mut stream = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(open) => {
                    stream = Some(open);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let Some(mut stream) = stream else { return Err(last) };
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let request = format!(
            "GET /computeMetadata/v1/{path} HTTP/1.0\r\nHost: {}\r\nMetadata-Flavor: Google\r\nConnection: close\r\n\r\n",
            self.host
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer)?;
        read(&String::from_utf8_lossy(&answer), path)
    }
}

struct Answer {
    body: String,
    etag: Option<String>,
}

/// An answer that is a success.
fn read(answer: &str, path: &str) -> io::Result<Answer> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "its answer is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split_whitespace().nth(1).ok_or_else(broken)?;
    if status == "200" {
        let tag = head.lines().filter_map(|line| line.split_once(':'));
        let tag = tag.filter(|(name, _)| name.eq_ignore_ascii_case("etag"));
        let etag = tag.map(|(_, value)| value.trim().to_owned()).next();
        return Ok(Answer { body: body.to_owned(), etag });
    }
    let kind = match status {
        "404" => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    let path = path.split('?').next().unwrap_or(path);
    Err(io::Error::new(kind, format!("{path}: {status} {}", body.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_refusals_named() {
        let ok = "HTTP/1.0 200 OK\r\nETag: 41\r\nServer: Metadata Server for VM\r\n\r\n{\"a\":1}";
        let found = read(ok, "x").expect("a body");
        assert_eq!((found.body.as_str(), found.etag.as_deref()), ("{\"a\":1}", Some("41")));
        let refused = |answer: &str, path: &str| read(answer, path).err().expect("a refusal");
        let error = refused("HTTP/1.0 404 Not Found\r\n\r\nNot found\n", "a/b?c=d");
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::NotFound, "a/b: 404 Not found".to_owned())
        );
        assert_eq!(refused("HTTP/1.0 503 x\r\n\r\n", "x").kind(), io::ErrorKind::Other);
        assert!(read("nonsense", "x").is_err());
    }

    #[test]
    fn the_host_may_be_another() {
        let of = |host: &str| {
            Metadata::of(&[("GCE_METADATA_HOST".to_owned(), host.to_owned())].into()).host
        };
        assert_eq!(of(""), "metadata.google.internal:80");
        assert_eq!(of("127.0.0.1:4000"), "127.0.0.1:4000");
        assert_eq!(of("169.254.169.254"), "169.254.169.254:80");
    }
}
