//! The first start of all: with everything that is there, or behind it.

use super::config::Start;
use super::follow::{Follower, Trouble, blocking};
use super::known::Known;
use super::lines::Step;
use super::outlet::Piece;
use super::position::{Mark, Position};
use crate::sources::{Delivery, Surroundings};
use std::io;

/// The key under which the state has that the source has begun once.
pub(super) const BEGUN: &str = "begun";

impl Follower {
    /// Begins, and writes down that it did.
    pub(super) async fn begin(&mut self) -> Result<(), Trouble> {
        if self.config.start == Start::End {
            // Where something cannot be read, it is not known where it ends.
            self.trouble.take().map_or(Ok(()), Err)?;
            for inode in self.in_order() {
                let Some(known) = self.files.get_mut(&inode) else { continue };
                let path = known.listed.path.clone();
                if let Some(position) = end_of(known, &self.at).await.map_err(|source| Trouble::Io { path, source })? {
                    let key = self.contents.add(position.clone());
                    known.key = Some(key.clone());
                    self.keep(inode, &key, Piece::default(), position).await?;
                }
            }
        }
        let mut delivery = Delivery::new(&self.config.name, String::new());
        delivery.files = vec![(BEGUN.to_owned(), self.at.clock.now_ms().to_string())];
        self.outlet.hand_over(delivery, Piece::default()).await.ok_or(Trouble::Stopped)?;
        self.has_begun = true;
        Ok(())
    }
}

/// Where a file ends now, for a start behind it; behind its last whole line, where more may follow. None: it has no line.
async fn end_of(known: &mut Known, at: &Surroundings) -> io::Result<Option<Position>> {
    if !known.open()? {
        return Ok(None);
    }
    let (inode, look, is_main) = (known.inode(), known.listed.look, known.listed.is_main);
    let base = Position { inode, written_ms: at.clock.now_ms(), ..Position::default() };
    if known.listed.is_packed {
        let (head, length) = (known.head(&*at.handoff)?, known.stated_length()?.unwrap_or_default());
        let offset = u64::from(length).max(head.len() as u64);
        return Ok(Some(Position { offset, head: Mark::of(&head), packed: Some(look.size), ..base }));
    }
    let mut reader = known.read(&*at.handoff)?;
    blocking(move || {
        let mut index = 0;
        loop {
            match reader.next(!is_main)? {
                Step::Lines { lines, .. } => index += lines,
                Step::TooLong { .. } => index += 1,
                Step::Nothing | Step::Changed => break,
            }
        }
        let (offset, head, tail) = reader.place();
        Ok((offset > 0).then_some(Position { offset, index, head, tail, ..base }))
    })
    .await?
}
