//! Saying something to Jitney and to Google: by `curl`, which has the system's TLS and its
//! authorities. What is said goes through its standard input, where nobody else on the machine sees
//! it.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// For one exchange, in seconds.
const EXCHANGE_S: &str = "10";

/// What was answered.
pub(super) struct Answer {
    pub(super) status: String,
    pub(super) body: String,
}

/// Posts a body of JSON; the body of a success.
pub(super) fn post(url: &str, body: &str) -> io::Result<String> {
    let json = ["--header", "Content-Type: application/json", "--data-binary", "@-"];
    let Answer { status, body } = curl(&json, url, body)?;
    if status.starts_with('2') {
        return Ok(body);
    }
    Err(io::Error::other(format!("{status} {}", body.trim())))
}

/// Deletes what is there, as the owner of the token.
pub(super) fn delete(url: &str, token: &str) -> io::Result<Answer> {
    let header = format!("Authorization: Bearer {token}\n");
    curl(&["--request", "DELETE", "--header", "@-"], url, &header)
}

fn curl(arguments: &[&str], url: &str, input: &str) -> io::Result<Answer> {
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", EXCHANGE_S])
        // The body first, then the status on a line of its own.
        .args(["--write-out", "\n%{http_code}"])
        .args(arguments)
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("curl: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Where it ends before it has read all, its own words say why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(words));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    Ok(Answer { status: status.to_owned(), body: body.to_owned() })
}
