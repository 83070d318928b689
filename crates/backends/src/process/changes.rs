//! Hearing of changes from the kernel: machines that come and go, reports that are replaced, and
//! locks that are let go of by guests that were killed. It says that there is something to see,
//! never what.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::ready::registered;

#[derive(Debug)]
pub(super) struct Changes {
    machines: PathBuf,
    inotify: OwnedFd,
    /// Registered with the runtime at the first wait.
    waiting: OnceLock<AsyncFd<OwnedFd>>,
}

impl Changes {
    pub(super) fn of(machines: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let coming = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        inotify::add_watch(&inotify, machines, coming | WatchFlags::ONLYDIR)?;
        let changes = Self { machines: machines.to_owned(), inotify, waiting: OnceLock::new() };
        changes.watch_all()?;
        Ok(changes)
    }

    /// Resolves at the next change, at once if there was one since the last time.
    pub(super) async fn next(&self) {
        loop {
            let waited = match self.waiting() {
                Ok(waiting) => waiting.readable().await,
                Err(error) => Err(error),
            };
            let mut ready = match waited {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "cannot wait for changes any more");
                    return std::future::pending().await;
                }
            };
            match self.drain() {
                Ok(true) => return,
                Ok(false) => ready.clear_ready(),
                Err(error) => {
                    tracing::warn!(%error, "some machines' ends will be seen later than they could");
                    return;
                }
            }
        }
    }

    fn waiting(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        if let Some(waiting) = self.waiting.get() {
            return Ok(waiting);
        }
        let waiting = registered(self.inotify.try_clone()?)?;
        Ok(self.waiting.get_or_init(|| waiting))
    }

    /// Reads all events; whether one of them is a change that a listing shows.
    fn drain(&self) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); 8 << 10];
        let mut reader = Reader::new(&self.inotify, &mut space);
        let mut any = false;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(any),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                self.watch_all()?;
                any = true;
                continue;
            }
            let Some(name) = event.file_name().and_then(|name| name.to_str().ok()) else {
                continue;
            };
            let kind = event.events();
            if kind.contains(ReadFlags::ISDIR) {
                if name.starts_with('.') {
                    continue;
                }
                any = true;
                if kind.contains(ReadFlags::MOVED_TO) {
                    self.watch(&self.machines.join(name))?;
                }
            } else if matches!(name, "report.json" | "lock") {
                any = true;
            }
        }
    }

    fn watch_all(&self) -> io::Result<()> {
        for entry in self.machines.read_dir()? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                self.watch(&entry.path())?;
            }
        }
        Ok(())
    }

    /// A killed guest writes no report, but its lock file, which it holds open for writing, is
    /// closed.
    fn watch(&self, machine: &Path) -> io::Result<()> {
        let what = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, machine, what) {
            // Gone again, or not a machine.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
