//! A tiny git repository for agents that insist on checking something out.
//! It is made with the `git` program, in a temporary folder that goes with it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Why there is no repository.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("failed to run git: {0}; old agents need it on PATH, too")]
    NoGit(std::io::Error),
    #[error("git {0} failed: {1}")]
    Git(&'static str, String),
    #[error("failed to make a folder for the repository: {0}")]
    Folder(std::io::Error),
}

/// A bare repository with one empty commit on `main`.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// Makes the repository in a new folder among the temporary files.
    pub fn create() -> Result<Self, RepositoryError> {
        let folder =
            std::env::temp_dir().join(format!("sandbox-repository-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).map_err(RepositoryError::Folder)?;
        // From here on the folder is removed whatever happens.
        let made = Self { folder };
        git(&made.folder, "init", &["--quiet", "--bare", "--initial-branch=main"], "")?;
        let tree = git(&made.folder, "mktree", &[], "")?;
        let who = "sandbox <sandbox@localhost> 1700000000 +0000";
        let text = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nNothing to see\n");
        let commit = git(&made.folder, "hash-object", &["-t", "commit", "-w", "--stdin"], &text)?;
        git(&made.folder, "update-ref", &["refs/heads/main", &commit], "")?;
        Ok(made)
    }

    /// For `BUILDKITE_REPO`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("file://{}", self.folder.display())
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "a repository was left behind");
        }
    }
}

/// Runs git on the repository alone, without anybody's configuration, and gives its first line.
fn git(
    folder: &Path,
    command: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, RepositoryError> {
    use std::io::Write;
    let mut process = Command::new("git")
        .arg(command)
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(RepositoryError::NoGit)?;
    let mut stdin = process.stdin.take().expect("it was asked for as a pipe");
    stdin.write_all(input.as_bytes()).map_err(RepositoryError::NoGit)?;
    drop(stdin);
    let output = process.wait_with_output().map_err(RepositoryError::NoGit)?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(RepositoryError::Git(command, why));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
