//! Following: which file has which content, and reading each content once, from the file that is its home.

use super::begin::BEGUN;
use super::config::K8sLogConfig;
use super::contents::{Candidate, Contents};
use super::known::Known;
use super::lines::{Found, LineReader, Step};
use super::outlet::{Outlet, Piece};
use super::position::{Inode, Mark, Position};
use super::scan::{self, Look};
use crate::clock::Stopwatch;
use crate::metrics;
use crate::sources::{Delivery, NotTaken, Surroundings};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Files held open at once; the oldest first, as they are the next to be removed.
const OPEN_FILES_MAX: usize = 256;
/// How a look ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Something was taken, or has changed: look again at once.
    pub(super) is_news: bool,
    /// The log itself is there.
    pub(super) has_log: bool,
}

/// Why a look did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// A file or the folder cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state did not answer.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// The source is to stop.
    #[error("stopped")]
    Stopped,
}

/// Follows one log.
pub(super) struct Follower {
    pub(super) config: K8sLogConfig,
    pub(super) at: Surroundings,
    pub(super) outlet: Outlet,
    pub(super) contents: Contents,
    pub(super) files: HashMap<Inode, Known>,
    pub(super) has_begun: bool,
    /// What could not be read at this look, while the rest could.
    pub(super) trouble: Option<Trouble>,
    /// A file was renamed or removed during this look, or had no room in it.
    is_partial: bool,
}

impl Follower {
    /// Goes on where the state says.
    pub(super) async fn new(config: K8sLogConfig, at: Surroundings, outlet: Outlet) -> Result<Self, NotTaken> {
        let mut stamps = at.handoff.file_stamps(&config.name, None).await?;
        let has_begun = stamps.remove(BEGUN).is_some();
        Ok(Self { config, at, outlet, contents: Contents::new(stamps), files: HashMap::new(), has_begun, trouble: None, is_partial: false })
    }

    /// One look: what is there and whole is taken and durable at its end, but for what the log's writer adds meanwhile.
    pub(super) async fn look(&mut self) -> Result<Looked, Trouble> {
        self.list()?;
        if !self.has_begun {
            self.begin().await?;
        }
        self.notice_cuts();
        let mut looked = Looked { has_log: self.files.values().any(|it| it.is_listed && it.listed.is_main), ..Looked::default() };
        for inode in self.in_order() {
            looked.is_news |= self.follow(inode).await?;
        }
        looked.is_news |= std::mem::take(&mut self.is_partial);
        let now = self.at.clock.now_ms();
        let is_tight = self.at.is_drain || self.files.values().filter(|it| it.is_open()).count() >= OPEN_FILES_MAX;
        self.files.values_mut().for_each(|it| it.let_go(now, is_tight));
        self.forget().await?;
        self.measure();
        self.trouble.take().map_or(Ok(looked), Err)
    }

    /// Looks through the folder, and opens what may have to be read.
    fn list(&mut self) -> Result<(), Trouble> {
        let listed = scan::list(&self.config.path).map_err(|source| Trouble::Io { path: self.config.path.clone(), source })?;
        self.files.values_mut().for_each(|it| it.is_listed = false);
        for it in listed {
            match self.files.entry(it.inode) {
                std::collections::hash_map::Entry::Occupied(mut known) => known.get_mut().is_seen(it),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(Known::new(it));
                }
            }
        }
        let mut gone = Vec::new();
        for known in self.files.values_mut().filter(|it| !it.is_listed) {
            if !known.is_open() || known.is_missed().is_err() {
                gone.push(known.inode());
            }
        }
        for inode in gone {
            if let Some(key) = self.files.remove(&inode).and_then(|it| it.key) {
                self.lose_home(&key, inode);
            }
        }
        self.open();
        Ok(())
    }

    /// Opens what may have to be read, so that it can be read to its end whatever becomes of its name.
    fn open(&mut self) {
        let mut n_open = self.files.values().filter(|it| it.is_open()).count();
        for inode in self.in_order() {
            let Some(known) = self.files.get_mut(&inode) else { continue };
            if known.is_idle() || known.is_open() {
                continue;
            }
            if known.listed.is_packed {
                if let Some(key) = self.contents.find_packed(inode, known.listed.look.size) {
                    known.key = Some(key);
                    known.idle = Some(known.listed.look);
                    continue;
                }
                if self.waits(&self.files[&inode]) {
                    continue;
                }
            }
            let Some(known) = self.files.get_mut(&inode) else { continue };
            if n_open >= OPEN_FILES_MAX && !known.listed.is_main {
                // Its turn comes when others were read.
                self.is_partial = true;
                continue;
            }
            match known.open() {
                Ok(true) => n_open += 1,
                Ok(false) => {
                    self.is_partial = true;
                    self.files.remove(&inode);
                }
                Err(source) => self.trouble = Some(Trouble::Io { path: known.listed.path.clone(), source }),
            }
        }
    }

    /// A log that was cut: what is left of its content is in a copy, which comes first.
    fn notice_cuts(&mut self) {
        let is_cut = |it: &&mut Known| it.reader.as_ref().is_some_and(|it| !it.is_same().unwrap_or(false));
        let cut: Vec<_> = self.files.values_mut().filter(is_cut).filter_map(|it| Some((it.inode(), it.changes()?))).collect();
        for (inode, key) in cut {
            self.lose_home(&key, inode);
        }
    }

    /// Rotated files as they were written, the log last.
    pub(super) fn in_order(&self) -> Vec<Inode> {
        let mut files: Vec<_> = self.files.values().map(|it| &it.listed).collect();
        files.sort_by_key(|it| (it.is_main, it.look.written_ns, &it.path));
        files.iter().map(|it| it.inode).collect()
    }

    /// Reads a file as far as it goes. True: there was something, or there is more.
    async fn follow(&mut self, inode: Inode) -> Result<bool, Trouble> {
        let Some(known) = self.files.get(&inode) else { return Ok(false) };
        let poll_ms = self.config.poll_interval_ms;
        let is_settled = self.at.is_drain || known.is_settled(self.at.clock.now_ms());
        if known.is_idle() || !known.is_open() || self.waits(known) {
            return Ok(false);
        }
        let path = known.listed.path.clone();
        let at = |source| Trouble::Io { path: path.clone(), source };
        if known.reader.is_none() && !self.bind(inode, is_settled).await.map_err(at)? {
            return Ok(false);
        }
        let watch = Stopwatch::start();
        let mut is_news = false;
        loop {
            let Some(known) = self.files.get_mut(&inode) else { return Ok(true) };
            known.look_again().map_err(at)?;
            let look = known.listed.look;
            let (Some(mut reader), Some(key)) = (known.reader.take(), known.key.clone()) else { return Ok(is_news) };
            let is_last = known.listed.is_packed || !known.listed.is_main && is_settled;
            let is_main = known.listed.is_main;
            let (back, step) = blocking(move || {
                let step = reader.next(is_last);
                (reader, step)
            })
            .await
            .map_err(at)?;
            let (step, place) = (step.map_err(at)?, back.place());
            known.reader = Some(back);
            let old = self.contents.0.get(&key).map(|it| it.position.clone()).unwrap_or_default();
            let index = old.index;
            let mut position =
                Position { inode, offset: place.0, head: place.1, tail: place.2, written_ms: self.at.clock.now_ms(), packed: None, ..old };
            let (piece, is_full) = match step {
                Step::Changed => {
                    known.changes();
                    self.lose_home(&key, inode);
                    return Ok(true);
                }
                Step::Nothing => {
                    self.end(inode, &key, look, is_settled).await?;
                    return Ok(is_news);
                }
                Step::Lines { bytes, lines, is_full } => {
                    position.index += lines;
                    (Piece::of_lines(bytes, index), is_full)
                }
                Step::TooLong { bytes, excerpt } => {
                    position.index += 1;
                    (Piece::of_long_line(bytes, excerpt, index), true)
                }
            };
            if position.index == index {
                // Nothing but blank lines: no reason for a commit.
                if let Some(content) = self.contents.0.get_mut(&key) {
                    content.position = position;
                }
            } else {
                self.keep(inode, &key, piece, position).await?;
            }
            is_news = true;
            if self.at.is_stopping() {
                return Err(Trouble::Stopped);
            }
            // The log grows while it is read. What comes in little pieces is left to gather; and rotation is looked for.
            if is_main && (!is_full || watch.elapsed() >= Duration::from_millis(poll_ms)) {
                return Ok(is_full || self.at.is_drain);
            }
        }
    }

    /// Nothing more is in the file now.
    async fn end(&mut self, inode: Inode, key: &str, look: Look, is_settled: bool) -> Result<(), Trouble> {
        let Some(known) = self.files.get_mut(&inode) else { return Ok(()) };
        let damage = known.reader.as_mut().and_then(|it| it.damage.take());
        if known.listed.is_packed {
            return self.end_packed(inode, key, damage).await;
        }
        // Whether the rest of a rotated file is a line is not known before it has settled.
        if known.listed.is_main || is_settled {
            known.ends(look);
        }
        if let Some(content) = self.contents.0.get_mut(key) {
            content.seen = look.size;
        }
        Ok(())
    }

    /// A gzip file was read to its end, or as far as it goes.
    async fn end_packed(&mut self, inode: Inode, key: &str, damage: Option<io::Error>) -> Result<(), Trouble> {
        let Some(known) = self.files.get_mut(&inode) else { return Ok(()) };
        let look = known.listed.look;
        known.ends(look);
        known.key = Some(key.to_owned());
        let old = self.contents.0.get(key).map(|it| it.position.clone()).unwrap_or_default();
        let mut position = Position { inode, packed: Some(look.size), written_ms: self.at.clock.now_ms(), ..old.clone() };
        let piece = match damage {
            Some(error) => {
                position.index += 1;
                Piece::of_damage(&error, look.size, old.index)
            }
            None => Piece::default(),
        };
        self.keep(inode, key, piece, position).await
    }

    /// Finds out whose content a file has, and whether it is to be read from here. True: there is a reader.
    async fn bind(&mut self, inode: Inode, is_settled: bool) -> io::Result<bool> {
        let before = self.files.get_mut(&inode).and_then(|it| it.key.take());
        let is_bound = self.bind_anew(inode, is_settled).await;
        if let Some(before) = before.filter(|it| self.files.get(&inode).is_none_or(|known| known.key.as_ref() != Some(it))) {
            self.lose_home(&before, inode);
        }
        is_bound
    }

    async fn bind_anew(&mut self, inode: Inode, is_settled: bool) -> io::Result<bool> {
        let handoff = std::sync::Arc::clone(&self.at.handoff);
        let Some(known) = self.files.get_mut(&inode) else { return Ok(false) };
        known.look_again()?;
        let listed = known.listed.clone();
        let head = known.head(&*handoff)?;
        let file = known.file()?;
        let candidate =
            Candidate { inode, is_main: listed.is_main, head: &head, plain: (!listed.is_packed).then_some((&file, listed.look.size)) };
        let mut reader = known.read(&*handoff)?;
        let mut key = self.contents.find(&candidate)?;
        if let Some(found) = &key {
            known.key = Some(found.clone());
            if !self.may_move_here(inode, found) {
                return Ok(false);
            }
            let position = self.contents.0[found].position.clone();
            if listed.is_packed && self.files[&inode].stated_length()? == Some(position.offset as u32) {
                reader.damage = None;
                return Ok(self.nothing_left(inode, reader));
            }
            let (back, place) = blocking(move || {
                let place = reader.go_to(&position);
                (reader, place)
            })
            .await?;
            match place? {
                Found::There => reader = back,
                Found::Short => return Ok(self.nothing_left(inode, back)),
                Found::Other => {
                    key = None;
                    reader = self.files[&inode].read(&*handoff)?;
                }
            }
        }
        let Some(known) = self.files.get_mut(&inode) else { return Ok(false) };
        if key.is_none() {
            let is_known_enough = head.contains(&b'\n') || head.len() == super::position::HEAD_BYTES;
            let is_whole = is_settled && !listed.is_main;
            if !is_known_enough && !is_whole || head.is_empty() && !listed.is_packed {
                known.key = None;
                known.idle = head.is_empty().then_some(listed.look);
                return Ok(false);
            }
            key = Some(self.contents.add(Position { inode, head: Mark::of(&head), ..Position::default() }));
        }
        if let Some(content) = key.as_ref().and_then(|key| self.contents.0.get_mut(key)) {
            content.home = Some(inode);
        }
        (known.key, known.reader) = (key, Some(reader));
        Ok(true)
    }

    /// A file has no more than was taken of its content.
    fn nothing_left(&mut self, inode: Inode, reader: LineReader) -> bool {
        let Some(known) = self.files.get_mut(&inode) else { return false };
        if known.listed.is_packed {
            // What follows is its end: that it was read is written down.
            known.reader = Some(LineReader::ended(reader.damage));
            return true;
        }
        known.ends(known.listed.look);
        known.reader = None;
        false
    }

    /// Whether a content is to be read from this file: not while another has it, unless this is the log itself, or has more.
    fn may_move_here(&mut self, inode: Inode, key: &str) -> bool {
        let (Some(content), Some(known)) = (self.contents.0.get(key), self.files.get(&inode)) else { return false };
        let look = known.listed.look;
        let has_more = !known.listed.is_packed && look.size > content.position.offset;
        let is_main = known.listed.is_main;
        let home = content.home.filter(|home| *home != inode);
        let other = home.and_then(|home| self.files.get_mut(&home)).filter(|it| it.key.as_deref() == Some(key));
        if let Some(other) = other {
            if !is_main && (other.listed.is_main || !other.is_idle() || !has_more) {
                if let Some(known) = self.files.get_mut(&inode) {
                    known.idle = Some(look);
                }
                return false;
            }
            other.reader = None;
        }
        true
    }

    /// A content is no longer in the file that it was read from: a copy of it is looked at again.
    fn lose_home(&mut self, key: &str, inode: Inode) {
        let Some(content) = self.contents.0.get_mut(key) else { return };
        if content.home != Some(inode) {
            return;
        }
        content.home = None;
        for known in self.files.values_mut().filter(|it| it.key.as_deref() == Some(key)) {
            known.idle = None;
        }
    }

    /// Whether a gzip file is still being written. While the API server packs a rotated file, both are there, and the plain
    /// one is read.
    fn waits(&self, packed: &Known) -> bool {
        if !packed.listed.is_packed {
            return false;
        }
        let plain = packed.listed.path.with_extension("");
        let is_settled = self.at.is_drain || packed.is_settled(self.at.clock.now_ms());
        !is_settled || self.files.values().any(|it| it.is_listed && it.listed.path == plain)
    }

    /// Makes a piece durable together with the position behind it.
    pub(super) async fn keep(&mut self, inode: Inode, key: &str, piece: Piece, position: Position) -> Result<(), Trouble> {
        let Some(known) = self.files.get(&inode) else { return Ok(()) };
        let uri = format!("file://{}", crate::sources::directory::path_text(&known.listed.path));
        let mut delivery = Delivery::new(&self.config.name, uri);
        delivery.files = vec![(key.to_owned(), position.stamp())];
        if self.outlet.hand_over(delivery, piece).await.is_none() {
            // Not durable: what the reader gave comes again.
            if let Some(known) = self.files.get_mut(&inode) {
                known.reader = None;
            }
            return Err(Trouble::Stopped);
        }
        if let Some(content) = self.contents.0.get_mut(key) {
            content.position = position;
        }
        Ok(())
    }

    /// Positions of what is in no file any more.
    async fn forget(&mut self) -> Result<(), Trouble> {
        let is_unsure = self.files.values().any(|it| it.key.is_none() && it.listed.look.size > 0);
        if is_unsure {
            return Ok(());
        }
        let files = &self.files;
        let gone = self.contents.forget(|key| files.values().any(|it| it.key.as_deref() == Some(key)));
        for (_, unread) in gone.iter().filter(|(_, unread)| *unread > 0) {
            self.at.metrics.add(&metrics::ERRORS, &self.config.name, "lost", 1.0);
            tracing::warn!(
                source = self.config.name,
                unread,
                "bytes of a log file were cut or removed before they were read; rotate more slowly"
            );
        }
        if gone.is_empty() {
            return Ok(());
        }
        let mut delivery = Delivery::new(&self.config.name, String::new());
        delivery.forgets = gone.into_iter().map(|(key, _)| key).collect();
        self.outlet.hand_over(delivery, Piece::default()).await.ok_or(Trouble::Stopped)
    }

    fn measure(&self) {
        let unread: u64 = self.contents.0.values().map(|it| self.unread(it)).sum();
        self.at.metrics.set(&metrics::UNREAD, &self.config.name, "", unread as f64);
    }

    fn unread(&self, content: &super::contents::Content) -> u64 {
        let home = content.home.and_then(|home| self.files.get(&home)).filter(|it| !it.listed.is_packed);
        home.map_or(0, |it| it.listed.look.size.saturating_sub(content.position.offset))
    }
}

/// Work that may take a while, away from what answers others.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
