//! From words to an expression.

use super::ast::{Expr, Op, Path, Segment, Test, Value, is_reserved};
use super::error::{FilterError, nearest};
use super::lex::{Token, tokens};

/// The longest filter, bytes.
pub const FILTER_BYTES_MAX: usize = 64 << 10;
/// How deeply parentheses and NOT may nest.
pub const NESTING_MAX: usize = 64;
/// How many values may stand behind IN.
pub const LIST_VALUES_MAX: usize = 10_000;

const TEST_EXAMPLE: &str = "a test is a field, an operator, a value: user = \"ada\"";
const VALUE_EXAMPLE: &str = "a value is a text in quotes, a number, null, true, false, @list or field(path)";

/// Parses a filter.
pub fn parse(source: &str) -> Result<Expr, FilterError> {
    if source.len() > FILTER_BYTES_MAX {
        return Err(FilterError::new("", 0, format!("{} bytes, at most {FILTER_BYTES_MAX}", source.len()))
            .suggest(Some("use a lookup list for many values: in @name".to_owned())));
    }
    let mut parser = Parser { source, tokens: tokens(source)?, next: 0, depth: 0 };
    if *parser.peek() == Token::End {
        return Err(parser.error("an empty filter").suggest(Some("for example: eventName = \"ConsoleLogin\"".to_owned())));
    }
    let expr = parser.or()?;
    match parser.peek() {
        Token::End => Ok(expr),
        Token::Mark(')') => Err(parser.error("a `)` that closes nothing").suggest(Some("take it out, or open it before".to_owned()))),
        Token::Word(word) => {
            let suggestion = nearest(word, ["and", "or"]).unwrap_or("and");
            let suggestion = Some(format!("put `{suggestion}` between two tests"));
            Err(parser.error("expected `and`, `or` or the end").suggest(suggestion))
        }
        _ => Err(parser.error("expected `and`, `or` or the end").suggest(Some("put `and` between two tests".to_owned()))),
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.source.len(), |(at, _)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn error(&self, message: impl Into<String>) -> FilterError {
        FilterError::new(self.source, self.at(), message)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(it) if it.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_it = self.is_word(word);
        self.next += usize::from(is_it);
        is_it
    }

    fn take_mark(&mut self, mark: char) -> bool {
        let is_it = *self.peek() == Token::Mark(mark);
        self.next += usize::from(is_it);
        is_it
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, FilterError>) -> Result<T, FilterError> {
        if self.depth >= NESTING_MAX {
            return Err(self
                .error(format!("nested more than {NESTING_MAX} deep"))
                .suggest(Some("split the filter, or use `in (…)`".to_owned())));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn or(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.and()?];
        while self.take_word("or") {
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.unary()?];
        while self.take_word("and") {
            parts.push(self.unary()?);
        }
        Ok(one_or(parts, Expr::And))
    }

    fn unary(&mut self) -> Result<Expr, FilterError> {
        if self.take_word("not") {
            return self.deeper(|it| Ok(Expr::Not(Box::new(it.unary()?))));
        }
        let open = self.at();
        if self.take_mark('(') {
            let inner = self.deeper(Self::or)?;
            if !self.take_mark(')') {
                return Err(FilterError::new(self.source, open, "a `(` that is not closed").suggest(Some("add `)`".to_owned())));
            }
            return Ok(inner);
        }
        self.test().map(Expr::Test)
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        let at = self.at();
        let path = self.path()?;
        let op = self.op()?;
        let nocase = self.take_word("nocase");
        let value = match op {
            Op::In | Op::NotIn => self.set()?,
            _ => self.value()?,
        };
        if value == Value::Null && !matches!(op, Op::Eq | Op::Ne) {
            self.next -= 1;
            let error = self
                .error("null can only be compared with `=` and `!=`")
                .suggest(Some("write `= null` (it is missing) or `!= null` (it is there)".to_owned()));
            self.next += 1;
            return Err(error);
        }
        Ok(Test { path, op, nocase, value, at })
    }

    fn path(&mut self) -> Result<Path, FilterError> {
        let mut segments = Vec::new();
        match self.peek().clone() {
            Token::Word(word) if !is_reserved(&word) => {
                self.next += 1;
                segments.push(Segment::Name(word));
            }
            Token::Mark('[') => {}
            Token::Text(_) => {
                return Err(self
                    .error("a test starts with a field, not with a text")
                    .suggest(Some("write the field's name without quotes".to_owned())));
            }
            Token::End => return Err(self.error("the filter ends where a test should stand").suggest(Some(TEST_EXAMPLE.to_owned()))),
            _ => return Err(self.error("expected a field").suggest(Some(TEST_EXAMPLE.to_owned()))),
        }
        loop {
            if self.take_mark('.') {
                if let Token::Word(word) = self.take() {
                    segments.push(Segment::Name(word));
                } else {
                    self.next -= 1;
                    return Err(self
                        .error("expected a member's name behind `.`")
                        .suggest(Some("a name with other characters: [\"name\"]".to_owned())));
                }
            } else if self.take_mark('[') {
                match self.take() {
                    Token::Text(name) => segments.push(Segment::Name(name)),
                    Token::Number(spelled) if spelled.parse::<usize>().is_ok() => {
                        segments.extend(spelled.parse().ok().map(Segment::Index));
                    }
                    _ => {
                        self.next -= 1;
                        return Err(self
                            .error("expected an element's number or a member's name in quotes")
                            .suggest(Some("for example: [0] or [\"name\"]".to_owned())));
                    }
                }
                if !self.take_mark(']') {
                    return Err(self.error("expected `]`").suggest(Some("add `]`".to_owned())));
                }
            } else {
                return Ok(Path(segments));
            }
        }
    }

    fn op(&mut self) -> Result<Op, FilterError> {
        const WORDS: [(&str, Op); 5] =
            [("like", Op::Like), ("starts_with", Op::StartsWith), ("ends_with", Op::EndsWith), ("matches", Op::Matches), ("in", Op::In)];
        if let Token::Op(op) = *self.peek() {
            self.next += 1;
            return Ok(Op::ALL.iter().find(|(_, name)| *name == op).map_or(Op::Eq, |(op, _)| *op));
        }
        if self.is_word("not") {
            self.next += 1;
            if self.take_word("in") {
                return Ok(Op::NotIn);
            }
            return Err(self
                .error("expected `in` behind `not`")
                .suggest(Some("to turn a whole test around, put `not` before its field".to_owned())));
        }
        for (word, op) in WORDS {
            if self.take_word(word) {
                return Ok(op);
            }
        }
        let names = || Op::ALL.iter().map(|(_, name)| *name);
        let suggestion = match self.peek() {
            Token::Word(word) => nearest(word, names().chain(["contains"])).map(|it| if it == "contains" { "like" } else { it }),
            _ => None,
        };
        let suggestion = suggestion
            .map_or_else(|| "one of = != < <= > >= like starts_with ends_with matches in".to_owned(), |it| format!("did you mean `{it}`?"));
        Err(self.error("expected an operator").suggest(Some(suggestion)))
    }

    fn set(&mut self) -> Result<Value, FilterError> {
        if let Token::List(name) = self.peek().clone() {
            self.next += 1;
            return Ok(Value::List(name));
        }
        if !self.take_mark('(') {
            return Err(self.error("expected `(` or a list behind `in`").suggest(Some("for example: in (\"a\", \"b\")".to_owned())));
        }
        let mut values = Vec::new();
        loop {
            if values.len() >= LIST_VALUES_MAX {
                return Err(self
                    .error(format!("more than {LIST_VALUES_MAX} values"))
                    .suggest(Some("use a lookup list: in @name".to_owned())));
            }
            values.push(self.value()?);
            if self.take_mark(')') {
                return Ok(Value::Set(values));
            }
            if !self.take_mark(',') {
                return Err(self.error("expected `,` or `)`").suggest(Some("put `,` between two values".to_owned())));
            }
        }
    }

    fn value(&mut self) -> Result<Value, FilterError> {
        let token = self.peek().clone();
        let value = match token {
            Token::Text(text) => Value::Text(text),
            Token::Number(spelled) => Value::Number(spelled),
            Token::List(name) => Value::List(name),
            Token::Word(word) if word.eq_ignore_ascii_case("null") => Value::Null,
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Value::Bool(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Value::Bool(false),
            Token::Word(word) if word.eq_ignore_ascii_case("field") => {
                self.next += 1;
                if !self.take_mark('(') {
                    self.next -= 1;
                    return Err(self.error("a text needs quotes").suggest(Some("\"field\"".to_owned())));
                }
                let path = self.path()?;
                if !self.take_mark(')') {
                    return Err(self.error("expected `)`").suggest(Some("add `)`".to_owned())));
                }
                return Ok(Value::Field(path));
            }
            Token::Word(word) => return Err(self.error("a text needs quotes").suggest(Some(format!("\"{word}\"")))),
            Token::End => return Err(self.error("the filter ends where a value should stand").suggest(Some(VALUE_EXAMPLE.to_owned()))),
            _ => return Err(self.error("expected a value").suggest(Some(VALUE_EXAMPLE.to_owned()))),
        };
        self.next += 1;
        Ok(value)
    }
}

fn one_or(mut parts: Vec<Expr>, many: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}
