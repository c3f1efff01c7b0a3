//! Rules from where they are kept: built in, or files below a folder, ours and Sigma's.

use super::rule::Rule;
use super::{builtin, file, sigma};
use crate::filter::Lists;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The longest rule file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How deeply folders may nest.
const FOLDER_DEPTH_MAX: usize = 32;

/// Where the files of built-in rules are said to be.
const BUILTIN: &str = "builtin";

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

/// Loads all rules of these sources. Of two with one id the first stays, but for a built-in one: a file with its id
/// replaces it.
pub fn load(sources: &[Source], lists: &Lists) -> Loaded {
    let mut loaded = Loaded::default();
    for source in sources {
        match source {
            Source::Builtin => {
                for (name, text) in builtin::FILES.iter().filter(|(name, _)| is_rule_file(Path::new(name))) {
                    add(&Path::new(BUILTIN).join(name), text, lists, &mut loaded);
                }
            }
            Source::Path(path) => {
                let mut problems = Vec::new();
                rule_files(path, &mut problems, &mut |path, text, _| add(path, text, lists, &mut loaded));
                loaded.problems.extend(problems);
            }
        }
    }
    let Loaded { rules, problems } = &mut loaded;
    let ours: HashSet<String> = rules.iter().filter(|it| !it.is_builtin()).map(|it| it.id.clone()).collect();
    rules.retain(|it| !it.is_builtin() || !ours.contains(&it.id));
    let mut files = HashMap::new();
    rules.retain(|rule| match files.insert(rule.id.clone(), rule.file.clone()) {
        None => true,
        Some(first) => {
            let what = format!("{} has a rule with the id `{}`, too; give this one another", first.display(), rule.id);
            problems.push(Problem { file: rule.file.clone(), what });
            files.insert(rule.id.clone(), first);
            false
        }
    });
    loaded
}

/// The built-in rule of that id, after which its file is named: the others are not read.
pub fn load_builtin(id: &str) -> Option<Rule> {
    let (name, text) =
        builtin::FILES.iter().find(|(name, _)| is_rule_file(Path::new(name)) && Path::new(name).file_stem() == Some(id.as_ref()))?;
    file::rule(text, &Path::new(BUILTIN).join(name), &Lists::default()).ok()
}

fn is_rule_file(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "yaml" || it == "yml")
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."))
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
        // What is hidden is not meant: a ConfigMap's own copies, a repository, a file that an editor is writing.
        paths.retain(|it| !is_hidden(it) && (it.is_dir() || is_rule_file(it)));
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
    /// Whether it comes with the program.
    pub fn is_builtin(&self) -> bool {
        self.file.starts_with(BUILTIN)
    }

    /// Its file, as it is written.
    pub fn source(&self) -> Option<String> {
        read(&self.file)
    }

    /// The event of one of the rule's tests. None: there is no such file.
    pub fn case_event(&self, event: &str) -> Option<String> {
        read(&self.file.parent()?.join(event))
    }
}

fn read(path: &Path) -> Option<String> {
    match path.strip_prefix(BUILTIN) {
        Ok(name) => builtin::FILES.iter().find(|(it, _)| Path::new(it) == name).map(|(_, text)| (*text).to_owned()),
        Err(_) => fs::read_to_string(path).ok(),
    }
}
