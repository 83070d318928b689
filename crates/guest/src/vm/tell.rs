//! Saying something to Jitney: by `curl`, which has the system's TLS and its authorities. What is
//! said goes through its standard input, where nobody else on the machine sees it.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// For one exchange, in seconds.
const EXCHANGE_S: &str = "10";

/// Posts a body of JSON; the answer's.
pub(super) fn post(url: &str, body: &str) -> io::Result<String> {
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", EXCHANGE_S])
        .args(["--header", "Content-Type: application/json"])
        // The body first, then the status on a line of its own.
        .args(["--write-out", "\n%{http_code}", "--data-binary", "@-", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("curl: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Where it ends before it has read all, its own words say why.
        let _ = stdin.write_all(body.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(words));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    if status.starts_with('2') {
        return Ok(body.to_owned());
    }
    Err(io::Error::other(format!("{status} {}", body.trim())))
}
