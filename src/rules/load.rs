//! Rules from where they are kept: built in, or files below a folder, ours and Sigma's.

use super::rule::Rule;
use super::{builtin, file, sigma};
use crate::filter::Lists;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest rule file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How deeply folders may nest.
const FOLDER_DEPTH_MAX: usize = 32;

/// Where rules are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the program.
    Builtin,
    /// In the files below this folder, or in this file.
    Path(PathBuf),
}

/// A rule that did not load, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its file.
    pub file: PathBuf,
    /// Why.
    pub what: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rules.
    pub rules: Vec<Rule>,
    /// What did not load.
    pub problems: Vec<Problem>,
}

/// Loads all rules of these sources. Of two with one id the first stays.
pub fn load(sources: &[Source], lists: &Lists) -> Loaded {
    let mut loaded = Loaded::default();
    for source in sources {
        match source {
            Source::Builtin => {
                for (name, text) in builtin::FILES.iter().filter(|(name, _)| is_rule_file(Path::new(name))) {
                    add(&Path::new("builtin").join(name), text, lists, &mut loaded);
                }
            }
            Source::Path(path) => {
                let mut problems = Vec::new();
                rule_files(path, &mut problems, &mut |path, text, _| add(path, text, lists, &mut loaded));
                loaded.problems.extend(problems);
            }
        }
    }
    let mut ids = HashSet::new();
    let Loaded { rules, problems } = &mut loaded;
    rules.retain(|rule| {
        let is_new = ids.insert(rule.id.clone());
        if !is_new {
            problems.push(Problem { file: rule.file.clone(), what: format!("another rule has the id `{}`", rule.id) });
        }
        is_new
    });
    loaded
}

fn is_rule_file(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "yaml" || it == "yml")
}

/// What is done with the text of each file.
type Each<'e> = &'e mut dyn FnMut(&Path, &str, &mut Vec<Problem>);

/// Calls `each` with every YAML file below a folder, or with the file itself, in the order of names.
pub(super) fn rule_files(path: &Path, problems: &mut Vec<Problem>, each: Each<'_>) {
    walk(path, 0, problems, each);
}

fn walk(path: &Path, depth: usize, problems: &mut Vec<Problem>, each: Each<'_>) {
    let problem = |what: String| Problem { file: path.to_owned(), what };
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => return problems.push(problem(error.to_string())),
    };
    if meta.is_dir() {
        if depth >= FOLDER_DEPTH_MAX {
            return problems.push(problem(format!("folders nest more than {FOLDER_DEPTH_MAX} deep")));
        }
        let mut paths = match fs::read_dir(path).and_then(|all| all.map(|it| it.map(|it| it.path())).collect::<Result<Vec<_>, _>>()) {
            Ok(paths) => paths,
            Err(error) => return problems.push(problem(error.to_string())),
        };
        paths.sort();
        paths.retain(|it| it.is_dir() || is_rule_file(it));
        for path in paths {
            walk(&path, depth + 1, problems, each);
        }
        return;
    }
    if meta.len() > FILE_BYTES_MAX {
        return problems.push(problem(format!("{} bytes, at most {FILE_BYTES_MAX}", meta.len())));
    }
    match fs::read_to_string(path) {
        Ok(text) => each(path, &text, problems),
        Err(error) => problems.push(problem(error.to_string())),
    }
}

fn add(path: &Path, text: &str, lists: &Lists, loaded: &mut Loaded) {
    if sigma::is_sigma(text) {
        return sigma::load(text, path, lists, loaded);
    }
    match file::rule(text, path, lists) {
        Ok(rule) => loaded.rules.push(rule),
        Err(what) => loaded.problems.push(Problem { file: path.to_owned(), what }),
    }
}

impl Rule {
    /// The event of one of the rule's tests. None: there is no such file.
    pub fn case_event(&self, event: &str) -> Option<String> {
        let path = self.file.parent()?.join(event);
        match path.strip_prefix("builtin") {
            Ok(name) => builtin::FILES.iter().find(|(it, _)| Path::new(it) == name).map(|(_, text)| (*text).to_owned()),
            Err(_) => fs::read_to_string(path).ok(),
        }
    }
}
