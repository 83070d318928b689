//! The file of an event log: opened for one process alone, gone on with at its end, and put aside
//! when it is large. What stands in it is no concern of this, but for its beginning.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::reading::BEGINS;
use super::{Error, unusable};

/// The names of jobs, pipelines and branches are nobody else's business.
const MODE: u32 = 0o600;

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    /// A pipe or a device is never put aside.
    is_plain: bool,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| unusable(path, &error);
        let mut options = OpenOptions::new();
        let open = options.read(true).append(true).create(true).mode(MODE).open(path);
        let mut file = open.map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::InUse { path: path.to_owned() });
            }
            Err(error) => return Err(unusable(path, &error)),
        }
        let metadata = file.metadata().map_err(failed)?;
        let (mut bytes, is_plain) = (metadata.len(), metadata.is_file());
        if bytes > 0 {
            if !is_log(&mut file).map_err(failed)? {
                return Err(Error::NotALog { path: path.to_owned() });
            }
            // The last process may have been killed in the middle of a line.
            if !ends_a_line(&mut file).map_err(failed)? {
                file.write_all(b"\n").map_err(failed)?;
                bytes += 1;
            }
        }
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), bytes, is_plain })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Of what has been written, also by others before us.
    pub(super) fn bytes(&self) -> u64 {
        if self.is_plain { self.bytes } else { 0 }
    }

    pub(super) fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.file.write_all(text)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Puts the file aside, in place of the one before, and begins an empty one.
    pub(super) fn put_aside(&mut self) -> io::Result<()> {
        self.flush()?;
        fs::rename(&self.path, self.path.with_added_extension("1"))?;
        let fresh = Self::open(&self.path).map_err(io::Error::other)?;
        *self = fresh;
        Ok(())
    }
}

fn is_log(file: &mut File) -> io::Result<bool> {
    let mut head = vec![0; BEGINS.len()];
    file.seek(SeekFrom::Start(0))?;
    match file.read_exact(&mut head) {
        Ok(()) => Ok(head == BEGINS.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
