//! Events that alerts may show, where no store keeps them: in memory as long as they are few, then in a temporary file
//! without a name. So memory does not grow with what rules match.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What is kept in memory, bytes.
pub(super) const HELD_BYTES_MAX: usize = 16 << 20;

/// An event as JSON, or where it is.
#[derive(Debug, Clone)]
pub enum Spooled {
    /// It.
    Here(Arc<str>),
    /// So many bytes of the file, from there on.
    There(u64, u32),
}

#[derive(Debug, Default)]
pub(super) struct Spool {
    held: usize,
    file: Option<BufWriter<File>>,
    length: u64,
    /// What was taken last: the rules that one event matches share it.
    last: Option<(Arc<str>, Spooled)>,
    failed: Option<io::Error>,
}

impl Spool {
    /// Keeps an event. None: the file did not take it, which [`Spool::close`] says.
    pub(super) fn keep(&mut self, json: &Arc<str>) -> Option<Spooled> {
        if let Some((_, spooled)) = self.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, json)) {
            return Some(spooled.clone());
        }
        let spooled = if self.held + json.len() <= HELD_BYTES_MAX {
            self.held += json.len();
            Spooled::Here(Arc::clone(json))
        } else {
            self.write(json).map_err(|error| self.failed.get_or_insert(error).kind()).ok()?
        };
        self.last = Some((Arc::clone(json), spooled.clone()));
        Some(spooled)
    }

    fn write(&mut self, json: &str) -> io::Result<Spooled> {
        let bytes = u32::try_from(json.len()).map_err(io::Error::other)?;
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(tempfile::tempfile()?)),
        };
        file.write_all(json.as_bytes())?;
        let at = self.length;
        self.length += u64::from(bytes);
        Ok(Spooled::There(at, bytes))
    }

    /// From now on it is read. An error says that not all is there.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let of = |error: io::Error| {
            let folder = std::env::temp_dir();
            let what = format!(
                "{}: {error}; the events of many alerts are kept in a file there: name a folder with room in TMPDIR",
                folder.display()
            );
            io::Error::new(error.kind(), what)
        };
        match self.failed.take() {
            Some(error) => Err(of(error)),
            None => self.file.as_mut().map_or(Ok(()), |it| it.flush().map_err(of)),
        }
    }

    /// The event.
    pub(super) fn read(&self, spooled: &Spooled) -> io::Result<String> {
        match (spooled, &self.file) {
            (Spooled::Here(json), _) => Ok(json.to_string()),
            (Spooled::There(at, bytes), Some(file)) => {
                let mut json = vec![0; *bytes as usize];
                file.get_ref().read_exact_at(&mut json, *at)?;
                String::from_utf8(json).map_err(io::Error::other)
            }
            (Spooled::There(..), None) => Err(io::Error::other("there is no file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_the_bound_is_in_the_file_and_reads_the_same() {
        let mut spool = Spool::default();
        let first: Arc<str> = "a".repeat(HELD_BYTES_MAX - 3).into();
        let texts: [Arc<str>; 5] = ["bcd".into(), "e".into(), "".into(), "fgh".into(), "é".into()];
        let kept: Vec<_> = std::iter::once(&first).chain(&texts).map(|it| spool.keep(it).unwrap()).collect();
        assert!(matches!(kept[..4], [Spooled::Here(_), Spooled::Here(_), Spooled::There(0, 1), Spooled::Here(_)]), "{:?}", &kept[2..]);
        assert!(matches!(spool.keep(&texts[4]), Some(Spooled::There(4, 2))), "the same event is written once");
        spool.close().unwrap();
        for (text, spooled) in std::iter::once(&first).chain(&texts).zip(&kept) {
            assert!(**text == spool.read(spooled).unwrap());
        }
    }
}
