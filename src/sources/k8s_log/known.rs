//! A file of the log as the follower knows it: where it is, whether it is held open, how far it is read.

use super::lines::{From, LineReader, head_of, is_damage};
use super::position::{Head, Inode};
use super::scan::{Listed, Look, inode_of};
use crate::sources::Handoff;
use std::fs::File;
use std::io::{self, BufRead, Seek};
use std::os::unix::fs::FileExt;

/// A rotated file that was written this recently stays open: its writer may not have let go of it yet, ms.
const LETTING_GO_MS: i64 = 10_000;
/// The rest of a rotated file is a line when the file was not written for this long, ms.
const ROTATED_SETTLE_MS: i64 = 200;
/// A gzip file is read when it was not written for this long, ms.
const PACKED_SETTLE_MS: i64 = 2_000;

/// One file.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) listed: Listed,
    /// Whether it is still in the folder. If not, it is read to its end as it is held open.
    pub(super) is_listed: bool,
    file: Option<File>,
    /// Whose content it has.
    pub(super) key: Option<String>,
    pub(super) reader: Option<LineReader>,
    /// There was nothing to read when it looked so.
    pub(super) idle: Option<Look>,
}

impl Known {
    pub(super) fn new(listed: Listed) -> Self {
        Self { listed, is_listed: true, file: None, key: None, reader: None, idle: None }
    }

    /// It was listed again, maybe under another name.
    pub(super) fn is_seen(&mut self, listed: Listed) {
        if self.listed.is_main != listed.is_main {
            // What was the beginning of a line in the log is a line in a rotated file.
            self.idle = None;
        }
        self.listed = listed;
        self.is_listed = true;
    }

    /// It was not listed any more: removed, or moved elsewhere.
    pub(super) fn is_missed(&mut self) -> io::Result<()> {
        if self.listed.is_main {
            self.idle = None;
        }
        (self.is_listed, self.listed.is_main) = (false, false);
        self.look_again()
    }

    /// Whether there was nothing to read, and nothing has changed since.
    pub(super) fn is_idle(&self) -> bool {
        self.idle == Some(self.listed.look)
    }

    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it was not written for a while, so that nobody is in the middle of a line.
    pub(super) fn is_settled(&self, now_ms: i64) -> bool {
        let age = now_ms - self.listed.look.written_ms();
        age >= if self.listed.is_packed { PACKED_SETTLE_MS } else { ROTATED_SETTLE_MS }
    }

    /// Holds it open, so that it can be read to its end whatever becomes of its name. False: it is another file by now.
    pub(super) fn open(&mut self) -> io::Result<bool> {
        if self.file.is_some() {
            return Ok(true);
        }
        match File::open(&self.listed.path) {
            Ok(file) if inode_of(&file.metadata()?) == self.listed.inode => {
                self.file = Some(file);
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A look at the file itself.
    pub(super) fn look_again(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            self.listed.look = Look::of(&file.metadata()?);
        }
        Ok(())
    }

    /// There is nothing more to read: until it looks other than it did before that was found out.
    pub(super) fn ends(&mut self, look: Look) {
        self.idle = Some(look);
        if !self.listed.is_main {
            self.reader = None;
        }
    }

    /// Closes a rotated file that was read to its end, once nobody can be writing to it, or where room is needed.
    pub(super) fn let_go(&mut self, now_ms: i64, is_tight: bool) {
        let is_left = is_tight || self.listed.is_packed || now_ms - self.listed.look.written_ms() > LETTING_GO_MS;
        if self.is_idle() && is_left && !self.listed.is_main {
            self.file = None;
        }
    }

    /// Its content is not what it was.
    pub(super) fn changes(&mut self) -> Option<String> {
        self.reader = None;
        self.idle = None;
        self.key.take()
    }

    /// The file, for reading beside others.
    pub(super) fn file(&self) -> io::Result<File> {
        match &self.file {
            Some(file) => file.try_clone(),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the file is gone")),
        }
    }

    pub(super) fn inode(&self) -> Inode {
        self.listed.inode
    }

    /// A reader at its beginning.
    pub(super) fn read(&self, handoff: &dyn Handoff) -> io::Result<LineReader> {
        Ok(LineReader::new(if self.listed.is_packed { From::Inflated(self.inflate(handoff)?) } else { From::Plain(self.file()?) }))
    }

    fn inflate(&self, handoff: &dyn Handoff) -> io::Result<Box<dyn BufRead + Send>> {
        let mut file = self.file()?;
        file.rewind()?;
        handoff.inflate(Box::new(file))
    }

    /// Its first bytes; of a gzip file inflated ones, fewer where it is damaged.
    pub(super) fn head(&self, handoff: &dyn Handoff) -> io::Result<Vec<u8>> {
        if !self.listed.is_packed {
            return Ok(head_of(&self.file()?, u64::MAX)?.bytes);
        }
        let mut reader = self.inflate(handoff)?;
        let mut head = Head::default();
        let mut at = 0;
        while !head.is_full() {
            let n = match reader.fill_buf() {
                Ok([]) => break,
                Ok(chunk) => {
                    head.extend(at, chunk);
                    chunk.len()
                }
                Err(error) if is_damage(&error) => break,
                Err(error) => return Err(error),
            };
            at += n as u64;
            reader.consume(n);
        }
        Ok(head.bytes)
    }

    /// What a gzip file says of its inflated length, which it keeps modulo 2^32.
    pub(super) fn stated_length(&self) -> io::Result<Option<u32>> {
        let Some(at) = self.listed.look.size.checked_sub(4) else { return Ok(None) };
        let mut length = [0; 4];
        self.file()?.read_exact_at(&mut length, at)?;
        Ok(Some(u32::from_le_bytes(length)))
    }
}
