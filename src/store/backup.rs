//! A consistent copy of the state while the store is running: alerts, suppressions, ledger, quarantine, counters.

use super::StoreError;
use super::layout::Layout;
use super::state;
use std::path::Path;
use std::time::Duration;

/// Pages copied between two looks at whether the writer waits.
const PAGES: std::ffi::c_int = 256;

/// Copies the state database of `dir` into the new file `to`. Events are not in it: they live 72 hours.
pub fn backup(dir: &Path, to: &Path) -> Result<(), StoreError> {
    let layout = Layout::new(dir);
    if layout.check_format()?.is_none() {
        return Err(StoreError::Missing { path: dir.to_owned() });
    }
    let from = state::open_reader(&layout.state())?;
    std::fs::File::options().write(true).create_new(true).open(to).map_err(StoreError::at(to))?;
    let mut target = rusqlite::Connection::open(to)?;
    let copy = rusqlite::backup::Backup::new(&from, &mut target)?;
    copy.run_to_completion(PAGES, Duration::from_millis(1), None)?;
    drop(copy);
    // The copy stands alone: what it would list of events is not there.
    target.execute_batch("PRAGMA journal_mode = DELETE; DELETE FROM segments; DELETE FROM log; DELETE FROM runs;")?;
    Ok(())
}
