//! Values that must be found nowhere: not in what is kept, not in what is said.

use super::{TestApp, output, stderr, stdout};
use std::path::Path;

/// Each form in which a planted value might stand somewhere.
pub(crate) struct Planted(pub(crate) Vec<String>);

impl Planted {
    /// The forms that are in these bytes.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        self.0.iter().map(String::as_str).filter(|it| memchr::memmem::find(bytes, it.as_bytes()).is_some()).collect()
    }

    pub(crate) fn assert_absent(&self, what: &str, bytes: &[u8]) {
        let found = self.found_in(bytes);
        let first = found.first().and_then(|it| memchr::memmem::find(bytes, it.as_bytes())).unwrap_or_default();
        let around = String::from_utf8_lossy(&bytes[first.saturating_sub(300)..(first + 200).min(bytes.len())]);
        assert!(found.is_empty(), "{what} holds {found:?}: {around}");
    }

    /// Nowhere below a folder, as the files are.
    pub(crate) fn assert_absent_below(&self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.assert_absent_below(&path);
            } else {
                self.assert_absent(&path.display().to_string(), &std::fs::read(&path).unwrap());
            }
        }
    }

    /// Nowhere in what is kept, decoded and as it is, and in what any command says about it or about its input.
    pub(crate) fn assert_absent_everywhere(&self, app: &TestApp, input: &Path) {
        self.assert_absent_below(&app.data());
        let data = app.data();
        let (data, input) = (data.to_str().unwrap(), input.to_str().unwrap());
        let mut commands: Vec<Vec<&str>> = vec![
            vec!["search", "", "--data-dir", data, "--limit", "0", "--output", "json"],
            vec!["search", "", "--data-dir", data, "--limit", "0"],
            vec!["alerts", "list", "--data-dir", data, "--output", "json"],
            vec!["alerts", "list", "--data-dir", data],
            vec!["quarantine", "list", "--data-dir", data, "--output", "json"],
            vec!["quarantine", "list", "--data-dir", data],
            vec!["replay", input, "--output", "json"],
            vec!["hunt", input, "--rules", "builtin", "--matches", "--output", "json"],
        ];
        let ids: Vec<_> = app.quarantine().iter().map(|it| it["id"].to_string()).collect();
        commands.extend(ids.iter().map(|id| vec!["quarantine", "show", id, "--data-dir", data]));
        for command in commands {
            let said = output(&command);
            assert!(said.status.code().is_some_and(|it| it < 2), "{command:?}: {}", stderr(&said));
            self.assert_absent(&command.join(" "), format!("{}{}", stdout(&said), stderr(&said)).as_bytes());
        }
    }
}
