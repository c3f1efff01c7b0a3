//! A filter as it was written, and how it prints.

use std::fmt;

/// A filter, or part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// At least one.
    Or(Vec<Expr>),
    /// All.
    And(Vec<Expr>),
    /// Not.
    Not(Box<Expr>),
    /// One comparison.
    Test(Test),
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Of what.
    pub path: Path,
    /// How.
    pub op: Op,
    /// Without regard to case.
    pub nocase: bool,
    /// With what.
    pub value: Value,
    /// Where the path stands in the text.
    pub at: usize,
}

/// A comparison's operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Eq,
    /// `!=`: exactly not `=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// contains
    Like,
    /// starts with
    StartsWith,
    /// ends with
    EndsWith,
    /// regular expression, unanchored
    Matches,
    /// equals any of
    In,
    /// exactly not `in`
    NotIn,
}

impl Op {
    /// Every operator with its canonical spelling.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Eq, "="),
        (Self::Ne, "!="),
        (Self::Le, "<="),
        (Self::Lt, "<"),
        (Self::Ge, ">="),
        (Self::Gt, ">"),
        (Self::Like, "like"),
        (Self::StartsWith, "starts_with"),
        (Self::EndsWith, "ends_with"),
        (Self::Matches, "matches"),
        (Self::In, "in"),
        (Self::NotIn, "not in"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A path to a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path(pub Vec<Segment>);

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A member.
    Name(String),
    /// An element, from 0.
    Index(usize),
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number as it was spelled.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// `@name`: any value of a lookup list.
    List(String),
    /// `field(path)`: another field of the event.
    Field(Path),
    /// `( … )` behind `in`.
    Set(Vec<Value>),
}

impl Path {
    /// The path with dots, where it is names only.
    pub fn dotted(&self) -> Option<String> {
        let names = self.0.iter().map(|it| match it {
            Segment::Name(name) => Some(name.as_str()),
            Segment::Index(_) => None,
        });
        names.collect::<Option<Vec<_>>>().map(|names| names.join("."))
    }
}

/// Whether a member's name can stand in a path as it is.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(is_name_char)
}

pub(super) fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@' | ':' | '/')
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Name(name) if is_plain(name) && !(n == 0 && is_reserved(name)) => {
                    if n > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(name)?;
                }
                Segment::Name(name) => {
                    f.write_str("[")?;
                    quote(name, f)?;
                    f.write_str("]")?;
                }
                Segment::Index(at) => write!(f, "[{at}]")?,
            }
        }
        Ok(())
    }
}

/// Words that cannot start a path unquoted.
pub(super) fn is_reserved(name: &str) -> bool {
    const WORDS: [&str; 11] = ["and", "or", "not", "in", "like", "starts_with", "ends_with", "matches", "null", "true", "false"];
    name.starts_with('@') || WORDS.iter().any(|it| it.eq_ignore_ascii_case(name))
}

fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    // A backslash is itself unless a backslash or the quote follows it, or the text ends.
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' if rest.peek().is_none_or(|next| matches!(next, '\\' | '"')) => f.write_str("\\\\")?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quote(text, f),
            Self::Number(spelled) => f.write_str(spelled),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Null => f.write_str("null"),
            Self::List(name) => write!(f, "@{name}"),
            Self::Field(path) => write!(f, "field({path})"),
            Self::Set(values) => {
                f.write_str("(")?;
                for (n, value) in values.iter().enumerate() {
                    if n > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{value}")?;
                }
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nocase = if self.nocase { " nocase" } else { "" };
        write!(f, "{} {}{nocase} {}", self.path, self.op, self.value)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |parts: &[Self], word: &str, f: &mut fmt::Formatter<'_>| {
            for (n, part) in parts.iter().enumerate() {
                if n > 0 {
                    write!(f, " {word} ")?;
                }
                match part {
                    Self::Or(_) | Self::And(_) => write!(f, "({part})")?,
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Or(parts) => join(parts, "or", f),
            Self::And(parts) => join(parts, "and", f),
            Self::Not(part) => write!(f, "not ({part})"),
            Self::Test(test) => write!(f, "{test}"),
        }
    }
}
