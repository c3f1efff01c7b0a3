//! From an expression to something that runs: names resolved, networks and regular expressions ready.

use super::ast::{Expr, Op, Path, Segment, Test, Value};
use super::error::{FilterError, nearest};
use super::matcher::{Matcher, Network};
use super::sense;
use super::value::Ordinal;
use crate::event::{Col, column};
use regex::RegexBuilder;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The size of a compiled regular expression, bytes: bounds what a filter can cost.
pub(super) const REGEX_BYTES_MAX: usize = 1 << 20;
/// How many alternatives of one test a search looks up in Bloom filters.
const ALTERNATIVES_MAX: usize = 32;

/// Lookup lists by name: their values.
pub type Lists = HashMap<String, Vec<String>>;

/// Where a field is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A column.
    Column(Col),
    /// A path in the native record.
    Raw(Vec<Segment>),
}

/// A compiled test.
#[derive(Debug, Clone)]
pub(super) enum Check {
    /// No target has a value.
    Null,
    /// A value of a target holds for one of these.
    Any { matchers: Vec<Matcher>, nocase: bool, or_null: bool },
    /// A value of a target against a value of others.
    Fields { others: Vec<Target>, op: Op, nocase: bool },
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Test { targets: Vec<Target>, check: Check },
}

/// Texts of which an event must have one, each in its column, to match.
pub type Required = Vec<(Col, String)>;

/// A filter that can be asked.
#[derive(Debug, Clone)]
pub struct Filter {
    pub(super) root: Node,
}

static ALIASES: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let lines = include_str!("aliases.tsv").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('\t')).map(|(alias, fields)| (alias, fields.split(' ').collect())).collect()
});

impl Filter {
    /// Parses and compiles.
    pub fn new(source: &str, lists: &Lists) -> Result<Self, FilterError> {
        let expr = super::parse(source)?;
        Self::compile(&expr, source, lists)
    }

    /// Compiles; errors point into `source`.
    pub fn compile(expr: &Expr, source: &str, lists: &Lists) -> Result<Self, FilterError> {
        Ok(Self { root: Compiler { source, lists }.node(expr)? })
    }

    /// The columns that it looks at.
    pub fn columns(&self) -> Vec<Col> {
        let mut found = Vec::new();
        columns_of(&self.root, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// A test over columns that every match passes, and the rest, which needs the native record; both must hold.
    pub fn split(self) -> (Option<Self>, Option<Self>) {
        let parts = match self.root {
            Node::And(parts) => parts,
            node => vec![node],
        };
        let cheap: Vec<Node> = parts.iter().filter_map(necessary).collect();
        let raw: Vec<Node> = parts.into_iter().filter(needs_raw).collect();
        let filter = |parts: Vec<Node>| (!parts.is_empty()).then_some(Self { root: Node::And(parts) });
        (filter(cheap), filter(raw))
    }

    /// The fields that its tests look at, as far as they have one name.
    pub fn fields(&self) -> Vec<String> {
        let mut found = Vec::new();
        fields_of(&self.root, &mut found);
        found
    }

    /// Whether a test of it looks at the field of that name.
    pub fn names(&self, field: &str) -> bool {
        let Ok(path) = super::Field::new(field) else { return false };
        names_target(&self.root, path.targets())
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { root: Node::And(vec![self.root, other.root]) }
    }

    /// At least one of several.
    pub fn any_of(filters: &[Self]) -> Self {
        Self { root: Node::Or(filters.iter().map(|it| it.root.clone()).collect()) }
    }

    /// What an event must have to match: all of these, one alternative of each.
    pub fn required(&self) -> Vec<Required> {
        let parts = match &self.root {
            Node::And(parts) => parts.as_slice(),
            node => std::slice::from_ref(node),
        };
        parts.iter().filter_map(necessary).filter_map(|it| required_of(&it)).collect()
    }
}

fn fields_of(node: &Node, found: &mut Vec<String>) {
    match node {
        Node::Or(parts) | Node::And(parts) => parts.iter().for_each(|it| fields_of(it, found)),
        Node::Not(part) => fields_of(part, found),
        Node::Test { targets, .. } => {
            // Of an alias the first field stands for all.
            found.extend(targets.first().map(|it| match it {
                Target::Column(col) => col.info().path.to_owned(),
                Target::Raw(path) => Path(path.clone()).dotted().unwrap_or_default(),
            }));
        }
    }
}

fn names_target(node: &Node, wanted: &[Target]) -> bool {
    match node {
        Node::Or(parts) | Node::And(parts) => parts.iter().any(|it| names_target(it, wanted)),
        Node::Not(part) => names_target(part, wanted),
        Node::Test { targets, .. } => targets.iter().any(|it| wanted.contains(it)),
    }
}

fn needs_raw(node: &Node) -> bool {
    let mut cols = Vec::new();
    columns_of(node, &mut cols);
    cols.contains(&Col::Raw) || cols.contains(&Col::RawText)
}

/// Members of `CloudTrail` records of which columns repeat this (non-empty) text, beside those of [`column::repeating`]; such a
/// column may have its text from elsewhere as well.
const MIRRORS: &[(&str, &[Col])] = &[
    ("sourceIPAddress", &[Col::Ip, Col::SrcHost]),
    ("recipientAccountId", &[Col::AccountId]),
    ("userIdentity.type", &[Col::UserType]),
    ("userIdentity.arn", &[Col::UserId]),
    ("userIdentity.accessKeyId", &[Col::AccessKey]),
    ("userIdentity.accountId", &[Col::ActorAccountId]),
];

/// The columns of which one has the text of this member.
fn mirrors(member: &str) -> Option<Vec<Col>> {
    let several = || MIRRORS.iter().find(|(name, _)| *name == member).map(|(_, cols)| cols.to_vec());
    column::repeating(member).map(|col| vec![col]).or_else(several)
}

/// What an event must pass to pass this, looking at columns alone. None: nothing is known.
fn necessary(node: &Node) -> Option<Node> {
    if !needs_raw(node) {
        return Some(node.clone());
    }
    match node {
        Node::And(parts) => Some(Node::And(parts.iter().filter_map(necessary).collect())),
        Node::Or(parts) => parts.iter().map(necessary).collect::<Option<_>>().map(Node::Or),
        Node::Not(_) => None,
        Node::Test { targets, check } => {
            let ([Target::Raw(path)], Check::Any { matchers, nocase: false, or_null: false }) = (targets.as_slice(), check) else {
                return None;
            };
            let dotted = Path(path.clone()).dotted()?;
            let cols = mirrors(&dotted)?;
            let is_said = matchers.iter().all(|it| matches!(it, Matcher::Equal(text) | Matcher::Inside(text, _) if !text.is_empty()));
            is_said.then(|| Node::Test { targets: cols.into_iter().map(Target::Column).collect(), check: check.clone() })
        }
    }
}

fn columns_of(node: &Node, found: &mut Vec<Col>) {
    let of_target = |it: &Target| match it {
        Target::Column(col) => *col,
        Target::Raw(_) => Col::Raw,
    };
    match node {
        Node::Or(parts) | Node::And(parts) => parts.iter().for_each(|it| columns_of(it, found)),
        Node::Not(part) => columns_of(part, found),
        Node::Test { targets, check } => {
            found.extend(targets.iter().map(of_target));
            if let Check::Fields { others, .. } = check {
                found.extend(others.iter().map(of_target));
            }
        }
    }
}

fn required_of(node: &Node) -> Option<Required> {
    match node {
        Node::Test { targets, check: Check::Any { matchers, nocase: false, or_null: false } } => {
            let mut required = Vec::new();
            for target in targets {
                let Target::Column(col) = target else { return None };
                for matcher in matchers {
                    let Matcher::Equal(text) = matcher else { return None };
                    required.push((*col, text.clone()));
                }
            }
            (required.len() <= ALTERNATIVES_MAX).then_some(required)
        }
        Node::Or(parts) => {
            let all: Option<Vec<_>> = parts.iter().map(required_of).collect();
            Some(all?.concat()).filter(|it| it.len() <= ALTERNATIVES_MAX)
        }
        _ => None,
    }
}

struct Compiler<'c> {
    source: &'c str,
    lists: &'c Lists,
}

impl Compiler<'_> {
    fn node(&self, expr: &Expr) -> Result<Node, FilterError> {
        Ok(match expr {
            Expr::Or(parts) => Node::Or(parts.iter().map(|it| self.node(it)).collect::<Result<_, _>>()?),
            Expr::And(parts) => Node::And(parts.iter().map(|it| self.node(it)).collect::<Result<_, _>>()?),
            Expr::Not(part) => Node::Not(Box::new(self.node(part)?)),
            Expr::Test(test) => self.test(test)?,
        })
    }

    fn test(&self, test: &Test) -> Result<Node, FilterError> {
        let targets = targets(&test.path);
        sense::check(self.source, test, &targets)?;
        let (op, is_negated) = match test.op {
            Op::Ne => (Op::Eq, true),
            Op::NotIn => (Op::In, true),
            op => (op, false),
        };
        let check = match &test.value {
            Value::Null => Check::Null,
            Value::Field(path) => Check::Fields { others: self::targets(path), op, nocase: test.nocase },
            value => {
                let mut matchers = Vec::new();
                let or_null = self.matchers(test, op, value, &mut matchers)?;
                Check::Any { matchers, nocase: test.nocase, or_null }
            }
        };
        let node = Node::Test { targets, check };
        Ok(if is_negated { Node::Not(Box::new(node)) } else { node })
    }

    /// Adds the matchers of a value; true where null is among them.
    fn matchers(&self, test: &Test, op: Op, value: &Value, out: &mut Vec<Matcher>) -> Result<bool, FilterError> {
        match value {
            Value::Null => return Ok(true),
            Value::Set(values) => {
                let mut or_null = false;
                for value in values {
                    or_null |= self.matchers(test, op, value, out)?;
                }
                return Ok(or_null);
            }
            Value::List(name) => {
                let Some(values) = self.lists.get(name) else {
                    let known = nearest(name, self.lists.keys().map(String::as_str)).map(|it| format!("did you mean `@{it}`?"));
                    let suggestion =
                        known.unwrap_or_else(|| "name it under `lists:` in the configuration, or by --list NAME=FILE".to_owned());
                    return Err(FilterError::new(self.source, test.at, format!("there is no list `@{name}`")).suggest(Some(suggestion)));
                };
                for value in values {
                    out.push(self.matcher(test, op, value)?);
                }
            }
            Value::Text(text) | Value::Number(text) => out.push(self.matcher(test, op, text)?),
            Value::Bool(value) => out.push(self.matcher(test, op, if *value { "true" } else { "false" })?),
            Value::Field(_) => {
                return Err(FilterError::new(self.source, test.at, "`field()` cannot stand in a set")
                    .suggest(Some("write two tests with `or` between them".to_owned())));
            }
        }
        Ok(false)
    }

    fn matcher(&self, test: &Test, op: Op, text: &str) -> Result<Matcher, FilterError> {
        let folded = if test.nocase && op != Op::Matches { text.to_lowercase() } else { text.to_owned() };
        Ok(match op {
            Op::Lt | Op::Le | Op::Gt | Op::Ge => {
                if let Some(than) = Ordinal::of(text) {
                    Matcher::Order(op, than)
                } else {
                    let message = format!("`{text}` is neither a number nor a time, so nothing is smaller or larger");
                    let suggestion = "write a number, or a time like \"2026-01-31T12:00:00Z\"".to_owned();
                    return Err(FilterError::new(self.source, test.at, message).suggest(Some(suggestion)));
                }
            }
            Op::Like => Matcher::Contains(Box::new(memchr::memmem::Finder::new(folded.as_bytes()).into_owned())),
            Op::StartsWith => Matcher::StartsWith(folded),
            Op::EndsWith => Matcher::EndsWith(folded),
            Op::Matches => {
                let regex = RegexBuilder::new(text).case_insensitive(test.nocase).size_limit(REGEX_BYTES_MAX).build();
                Matcher::Regex(regex.map_err(|error| {
                    // What the library draws below the text has its own caret; its last line says what it is.
                    let what = error.to_string();
                    let what = what.lines().last().unwrap_or("").trim_start_matches("error: ");
                    FilterError::new(self.source, test.at, format!("the regular expression does not compile: {what}"))
                        .suggest(Some("a backslash makes a special character plain".to_owned()))
                })?)
            }
            _ => match Network::parse(text) {
                Some(network) => Matcher::Inside(folded, network),
                None => Matcher::Equal(folded),
            },
        })
    }
}

/// Names that stand for other fields.
pub(super) fn aliases() -> impl Iterator<Item = &'static str> {
    ALIASES.keys().copied()
}

/// EVENT.md, "Where a filter looks": a field or an alias, else the path in the native record.
pub(super) fn targets(path: &Path) -> Vec<Target> {
    let field = |name: &str| match name.strip_prefix("raw:") {
        Some(path) => Target::Raw(path.split('.').map(|it| Segment::Name(it.to_owned())).collect()),
        None => Col::by_path(name).map_or_else(|| Target::Raw(vec![Segment::Name(name.to_owned())]), Target::Column),
    };
    let Some(dotted) = path.dotted() else { return vec![Target::Raw(path.0.clone())] };
    if let Some(fields) = ALIASES.get(dotted.as_str()) {
        return fields.iter().map(|it| field(it)).collect();
    }
    let by_column_name = || column::ALL.iter().copied().find(|col| col.info().name == dotted);
    match Col::by_path(&dotted).or_else(by_column_name) {
        Some(col) => vec![Target::Column(col)],
        None => vec![Target::Raw(path.0.clone())],
    }
}
