//! A filter's words.

use super::FilterError;
use super::ast::is_name_char;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or keyword.
    Word(String),
    /// A text in quotes.
    Text(String),
    /// A number as spelled.
    Number(String),
    /// `@name`
    List(String),
    /// `= != < <= > >=`
    Op(&'static str),
    /// `( ) [ ] , .`
    Mark(char),
    /// The end.
    End,
}

/// All words with where they start.
pub(super) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (token, end) = token(source, at, c)?;
        out.push((at, token));
        at = end;
    }
    out.push((source.len(), Token::End));
    Ok(out)
}

fn token(source: &str, at: usize, c: char) -> Result<(Token, usize), FilterError> {
    let rest = &source[at..];
    for op in ["!=", "<=", ">=", "=", "<", ">"] {
        if rest.starts_with("<>") {
            break;
        }
        if rest.starts_with(op) {
            let end = at + op.len();
            if rest.starts_with("==") {
                return Err(FilterError::new(source, at, "`==` is not an operator").suggest(Some("write `=`".to_owned())));
            }
            return Ok((Token::Op(op), end));
        }
    }
    if rest.starts_with("<>") || rest.starts_with("&&") || rest.starts_with("||") {
        let word = [("<>", "!="), ("&&", "and"), ("||", "or")].into_iter().find(|(it, _)| rest.starts_with(it)).map_or("", |it| it.1);
        return Err(FilterError::new(source, at, format!("`{}` is not an operator", &rest[..2])).suggest(Some(format!("write `{word}`"))));
    }
    match c {
        '(' | ')' | '[' | ']' | ',' | '.' => Ok((Token::Mark(c), at + 1)),
        '"' | '\'' => text(source, at, c),
        '@' => {
            let end = at + 1 + word_len(&rest[1..]);
            if end == at + 1 {
                return Err(
                    FilterError::new(source, at, "a list needs a name behind `@`").suggest(Some("for example: ip in @office".to_owned()))
                );
            }
            Ok((Token::List(source[at + 1..end].to_owned()), end))
        }
        '-' | '0'..='9' => {
            let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))).unwrap_or(rest.len());
            let spelled = &rest[..len];
            if spelled.parse::<f64>().is_err() {
                let suggestion = Some(format!("a text needs quotes: \"{spelled}\""));
                return Err(FilterError::new(source, at, format!("`{spelled}` is not a number")).suggest(suggestion));
            }
            Ok((Token::Number(spelled.to_owned()), at + len))
        }
        c if is_name_char(c) => {
            let end = at + word_len(rest);
            Ok((Token::Word(source[at..end].to_owned()), end))
        }
        _ => Err(FilterError::new(source, at, format!("`{}` has no meaning here", c.escape_debug()))
            .suggest(Some("a text needs quotes; tests are joined by `and`, `or`".to_owned()))),
    }
}

fn word_len(rest: &str) -> usize {
    rest.find(|c| !is_name_char(c)).unwrap_or(rest.len())
}

fn text(source: &str, at: usize, quote: char) -> Result<(Token, usize), FilterError> {
    let mut out = String::new();
    let mut chars = source[at + 1..].char_indices().peekable();
    while let Some((n, c)) = chars.next() {
        if c == quote {
            return Ok((Token::Text(out), at + 1 + n + 1));
        }
        // A backslash escapes a backslash or the quote; any other backslash is itself.
        let escaped = (c == '\\').then(|| chars.next_if(|(_, next)| *next == '\\' || *next == quote)).flatten();
        out.push(escaped.map_or(c, |(_, it)| it));
    }
    let suggestion = Some(format!("add {quote} where the text ends"));
    Err(FilterError::new(source, at, "a text that is not closed").suggest(suggestion))
}
