//! The demo's own folder: made for it, and taken away with everything in it; and whether anything
//! of the demo is left on this host.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::cli::{Context, Exit, Failure};

/// The agent puts sockets into its home, which is our folder, and a socket's path has 104 bytes at
/// the most.
const LONGEST_BASE: usize = 30;

/// Removed when dropped, whatever happened.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make(context: &Context<'_>) -> Result<Self, Failure> {
        let temporary = context.environment.get("TMPDIR");
        let fits = |dir: &&String| (1..=LONGEST_BASE).contains(&dir.len());
        let base = temporary.filter(fits).map_or(Path::new("/tmp"), Path::new);
        let number = &Uuid::new_v4().simple().to_string()[..8];
        let path = base.join(format!("jitney-demo-{number}"));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            Failure::new(Exit::Failed, format!("failed to make {}: {error}", path.display()))
        })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Everything in it that a machine has left, and every process that knows of it.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let machines = self.0.join("builds/machines");
        let mut left: Vec<String> = match fs::read_dir(&machines) {
            Ok(entries) => entries
                .filter_map(|entry| Some(format!("{} is left", entry.ok()?.path().display())))
                .collect(),
            Err(error) => vec![format!("{} cannot be read: {error}", machines.display())],
        };
        left.extend(self.processes());
        left
    }

    /// By command line or environment: every machine's processes have its folder in one of both.
    fn processes(&self) -> Vec<String> {
        let name = self.0.file_name().unwrap_or_default().as_encoded_bytes();
        let Ok(all) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let knows = |file: &Path| {
            // A process that ends meanwhile, or is another user's, cannot be read and is not ours.
            let text = fs::read(file).unwrap_or_default();
            text.windows(name.len()).any(|window| window == name)
        };
        let own = std::process::id().to_string();
        all.filter_map(Result::ok)
            .filter(|process| {
                let pid = process.file_name();
                let pid = pid.to_string_lossy();
                pid.bytes().all(|byte| byte.is_ascii_digit()) && *pid != *own
            })
            .filter(|process| {
                knows(&process.path().join("cmdline")) || knows(&process.path().join("environ"))
            })
            .map(|process| format!("process {} is left", process.file_name().to_string_lossy()))
            .collect()
    }

    /// Takes it away; what cannot be taken is said.
    pub(super) fn remove(&self) -> Result<(), String> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("{} is left: {error}", self.0.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A second removal finds nothing; what the first one could not do has been said.
        let _ = self.remove();
    }
}
