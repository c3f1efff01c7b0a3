//! Texts that are looked for in the native record as a whole: where none of them stands, nothing matches.

use super::Filter;
use super::compile::{Check, Node, Target};
use super::matcher::Matcher;
use crate::event::Col;
use memchr::memmem::Finder;

impl Filter {
    /// Texts of which an event's native record must hold one, as it stands there, for the event to match. None: nothing is
    /// known. Whoever has many records at hand can look through all of them at once.
    pub fn raw_needles(&self) -> Option<Vec<Finder<'static>>> {
        match &self.root {
            Node::And(parts) => parts.iter().find_map(needles_of),
            node => needles_of(node),
        }
    }
}

fn needles_of(node: &Node) -> Option<Vec<Finder<'static>>> {
    let Node::Test { targets, check: Check::Any { matchers, nocase: false, or_null: false } } = node else { return None };
    if targets.as_slice() != [Target::Column(Col::Raw)] {
        return None;
    }
    let needle = |it: &Matcher| match it {
        Matcher::Contains(finder) => Some((**finder).clone()),
        _ => None,
    };
    matchers.iter().map(needle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Lists;

    #[test]
    fn needles_are_what_must_be_there() {
        let needles = |filter: &str| {
            let needles = Filter::new(filter, &Lists::new()).unwrap().raw_needles()?;
            Some(needles.iter().map(|it| String::from_utf8_lossy(it.needle()).into_owned()).collect::<Vec<_>>())
        };
        assert_eq!(needles("raw like \"AKIA\""), Some(vec!["AKIA".to_owned()]));
        assert_eq!(needles("user = \"a\" and raw like \"AKIA\""), Some(vec!["AKIA".to_owned()]));
        for unknown in ["not raw like \"a\"", "raw like \"a\" or user = \"b\"", "raw = null", "eventName like \"a\"", "user = \"a\""] {
            assert_eq!(needles(unknown), None, "{unknown}");
        }
    }
}
