//! Conditions as text.
//!
//! Read [`Condition`]'s `FromStr`, whose grammar this is, and its `Display`, which writes what
//! `FromStr` reads back as the same condition.

use std::fmt;
use std::str::FromStr;

use super::condition::{AttributeScope, AttributeTest, AttributeValue, Condition, DEEPEST};
use super::condition_token::{Token, TokenKind, error_at, is_word_char, tokens};
use crate::error::{Error, Result};

/// Words that are no keys unless quoted.
const KEYWORDS: [&str; 7] = ["and", "or", "not", "in", "exists", "true", "false"];

/// Reads a condition. Keywords are meant in any case; AND binds tighter than OR.
///
/// ```text
/// condition = all { "OR" all }
/// all       = one { "AND" one }
/// one       = "NOT" one | "(" condition ")" | attribute test
/// attribute = [ scope ":" ] key
/// scope     = "any" | "span" | "resource" | "scope" | "event" | "link"      (any if not said)
/// test      = ( "=" | "!=" ) value
///           | ( "<" | "<=" | ">" | ">=" ) number
///           | "IN" "(" value { "," value } ")"
///           | "^=" text                                    the value starts with the text
///           | "=~" text                                    the regular expression matches the whole value
///           | "EXISTS"                                     the key is there, with whatever value
/// value     = text | number | "true" | "false"
/// text      = in single or double quotes; a quote within is written twice
/// key       = letters, digits and _ . - + / @ $ *, or any text in quotes
/// ```
///
/// ```
/// use tracelake::search::Condition;
///
/// let condition: Condition = "http.response.status_code >= 500 AND user.tier = 'gold'".parse().unwrap();
/// assert_eq!(condition.terms().len(), 2);
/// let error = "user.tier = gold".parse::<Condition>().unwrap_err();
/// assert!(error.to_string().contains("position=`13`"));
/// ```
impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let tokens = tokens(text)?;
        let mut parser = Parser {
            tokens: &tokens,
            at: 0,
            depth: 0,
        };
        let condition = parser.any_of()?;
        parser.expect_end()?;
        condition.validate()?;
        Ok(condition)
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Parentheses and NOTs that are open: recursion goes as deep and no deeper.
    depth: usize,
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        // The last token is the end, which is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.token().clone();
        self.at += 1;
        token
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.token().kind.is_keyword(keyword);
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.token().kind, TokenKind::Sign(other) if other == sign);
        self.at += usize::from(found);
        found
    }

    fn expected<T>(token: &Token, what: &str) -> Result<T> {
        let found = token.kind.describe();
        Err(error_at(
            token.position,
            &format!("expected {what}, found {found}"),
        ))
    }

    fn expect_sign(&mut self, sign: &str) -> Result<()> {
        if self.take_sign(sign) {
            return Ok(());
        }
        Self::expected(self.token(), &format!("`{sign}`"))
    }

    fn expect_end(&self) -> Result<()> {
        match &self.token().kind {
            TokenKind::End => Ok(()),
            _ => Self::expected(self.token(), "AND, OR or the end"),
        }
    }

    fn any_of(&mut self) -> Result<Condition> {
        let mut all = vec![self.all_of()?];
        while self.take_keyword("or") {
            all.push(self.all_of()?);
        }
        Ok(one_or(all, Condition::Or))
    }

    fn all_of(&mut self) -> Result<Condition> {
        let mut all = vec![self.one()?];
        while self.take_keyword("and") {
            all.push(self.one()?);
        }
        Ok(one_or(all, Condition::And))
    }

    fn one(&mut self) -> Result<Condition> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let what = format!("the condition is nested deeper than {DEEPEST} levels");
            return Err(error_at(self.token().position, &what));
        }
        let condition = if self.take_keyword("not") {
            Condition::Not(Box::new(self.one()?))
        } else if self.take_sign("(") {
            let inner = self.any_of()?;
            self.expect_sign(")")?;
            inner
        } else {
            self.attribute()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn attribute(&mut self) -> Result<Condition> {
        let (scope, key) = self.scope_and_key()?;
        let test = self.test()?;
        Ok(Condition::attribute_in(scope, key, test))
    }

    fn scope_and_key(&mut self) -> Result<(AttributeScope, String)> {
        let first = self.take();
        let key = key_of(&first)?;
        if !self.take_sign(":") {
            return Ok((AttributeScope::Any, key));
        }
        let scope = match &first.kind {
            TokenKind::Word(word) => AttributeScope::from_name(word),
            _ => None,
        };
        let Some(scope) = scope else {
            let names = AttributeScope::ALL.map(AttributeScope::name).join(", ");
            let what = format!("a scope is one of {names}; put keys that hold a colon in quotes");
            return Err(error_at(first.position, &what));
        };
        let second = self.take();
        Ok((scope, key_of(&second)?))
    }

    fn test(&mut self) -> Result<AttributeTest> {
        let token = self.take();
        if token.kind.is_keyword("exists") {
            return Ok(AttributeTest::Exists);
        }
        if token.kind.is_keyword("in") {
            return self.list().map(AttributeTest::In);
        }
        let TokenKind::Sign(sign) = token.kind else {
            return Self::expected(&token, "a comparison, IN or EXISTS");
        };
        Ok(match sign {
            "=" | "==" => AttributeTest::Equal(self.value()?),
            "!=" | "<>" => AttributeTest::NotEqual(self.value()?),
            "<" => AttributeTest::Less(self.number()?),
            "<=" => AttributeTest::LessOrEqual(self.number()?),
            ">" => AttributeTest::Greater(self.number()?),
            ">=" => AttributeTest::GreaterOrEqual(self.number()?),
            "^=" => AttributeTest::Prefix(self.text()?),
            "=~" => AttributeTest::Matches(self.text()?),
            _ => return Self::expected(&token, "a comparison, IN or EXISTS"),
        })
    }

    fn list(&mut self) -> Result<Vec<AttributeValue>> {
        self.expect_sign("(")?;
        let mut values = vec![self.value()?];
        while self.take_sign(",") {
            values.push(self.value()?);
        }
        self.expect_sign(")")?;
        Ok(values)
    }

    fn value(&mut self) -> Result<AttributeValue> {
        let token = self.take();
        let value = match &token.kind {
            TokenKind::Quoted(text) => Some(AttributeValue::Text(text.clone())),
            kind if kind.is_keyword("true") => Some(AttributeValue::Bool(true)),
            kind if kind.is_keyword("false") => Some(AttributeValue::Bool(false)),
            TokenKind::Word(word) => number_value(word),
            _ => None,
        };
        match value {
            Some(value) => Ok(value),
            None => Self::expected(&token, "a text in quotes, a number, true or false"),
        }
    }

    fn number(&mut self) -> Result<f64> {
        let token = self.take();
        let value = match &token.kind {
            TokenKind::Word(word) => number_value(word),
            _ => None,
        };
        match value {
            Some(AttributeValue::Int(number)) => Ok(number as f64),
            Some(AttributeValue::Double(number)) => Ok(number),
            _ => Self::expected(&token, "a number"),
        }
    }

    fn text(&mut self) -> Result<String> {
        let token = self.take();
        match token.kind {
            TokenKind::Quoted(text) => Ok(text),
            _ => Self::expected(&token, "a text in quotes"),
        }
    }
}

fn one_or(mut all: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    match (all.len(), all.pop()) {
        (1, Some(one)) => one,
        (_, last) => {
            all.extend(last);
            many(all)
        }
    }
}

fn key_of(token: &Token) -> Result<String> {
    match &token.kind {
        TokenKind::Quoted(text) => Ok(text.clone()),
        TokenKind::Word(word) if !is_keyword(word) => Ok(word.clone()),
        _ => Parser::expected(token, "the key of an attribute"),
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(word))
}

/// A number as written: an integer where it is one.
fn number_value(word: &str) -> Option<AttributeValue> {
    // `inf` and `nan` would parse, and are words.
    if !word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return None;
    }
    if let Ok(integer) = word.parse() {
        return Some(AttributeValue::Int(integer));
    }
    let number: f64 = word.parse().ok()?;
    number.is_finite().then_some(AttributeValue::Double(number))
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(attribute) => {
                if attribute.scope != AttributeScope::Any {
                    write!(f, "{}:", attribute.scope.name())?;
                }
                let key = &attribute.key;
                let is_plain = key.chars().all(is_word_char) && !key.is_empty() && !is_keyword(key);
                if is_plain {
                    write!(f, "{key} {}", attribute.test)
                } else {
                    write!(f, "{} {}", in_quotes(key), attribute.test)
                }
            }
            Self::And(all) => joined(f, all, " AND "),
            Self::Or(all) => joined(f, all, " OR "),
            Self::Not(inner) => write!(f, "NOT ({inner})"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, all: &[Condition], word: &str) -> fmt::Result {
    for (index, condition) in all.iter().enumerate() {
        if index > 0 {
            f.write_str(word)?;
        }
        match condition {
            Condition::And(_) | Condition::Or(_) => write!(f, "({condition})")?,
            other => write!(f, "{other}")?,
        }
    }
    Ok(())
}

impl fmt::Display for AttributeTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("EXISTS"),
            Self::Equal(value) => write!(f, "= {value}"),
            Self::NotEqual(value) => write!(f, "!= {value}"),
            Self::Less(number) => write!(f, "< {number:?}"),
            Self::LessOrEqual(number) => write!(f, "<= {number:?}"),
            Self::Greater(number) => write!(f, "> {number:?}"),
            Self::GreaterOrEqual(number) => write!(f, ">= {number:?}"),
            Self::In(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, "IN ({})", values.join(", "))
            }
            Self::Prefix(text) => write!(f, "^= {}", in_quotes(text)),
            Self::Matches(text) => write!(f, "=~ {}", in_quotes(text)),
        }
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&in_quotes(text)),
            other => f.write_str(&other.to_text()),
        }
    }
}

fn in_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Condition> {
        text.parse()
    }

    #[test]
    fn conditions_are_read_as_written() {
        for (text, canonical) in [
            ("a='1'", "a = '1'"),
            (
                "a=1 and b>=2.5 or not c exists",
                "(a = 1 AND b >= 2.5) OR NOT (c EXISTS)",
            ),
            ("a = 1 AND (b = 2 OR c = 3)", "a = 1 AND (b = 2 OR c = 3)"),
            (
                "resource:service.name ^= \"check\"",
                "resource:service.name ^= 'check'",
            ),
            (
                "event:exception.type =~ '.*Timeout'",
                "event:exception.type =~ '.*Timeout'",
            ),
            ("'a:b' <> 'it''s'", "'a:b' != 'it''s'"),
            ("k IN (1, 'two', true)", "k IN (1, 'two', true)"),
            ("ANY:x = -5", "x = -5"),
        ] {
            let condition = parse(text).unwrap();
            assert_eq!(condition.to_string(), canonical);
            assert_eq!(parse(canonical).unwrap(), condition);
        }
    }

    #[test]
    fn errors_say_what_was_expected_and_where() {
        let deep = format!("{}a = 1", "(".repeat(100));
        for (text, position) in [
            ("", 1),
            ("a", 2),
            ("a = ", 5),
            ("a = gold", 5),
            ("a > 'x'", 5),
            ("a = 1 b = 2", 7),
            ("a = 1 AND", 10),
            ("é = 1 ; DROP", 7),
            ("(a = 1", 7),
            ("a = 'x", 5),
            ("nowhere:a = 1", 1),
            ("a IN ()", 7),
            ("a ^= 5", 6),
            ("and = 1", 1),
            (&deep, 65),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("position=`{position}`")),
                "{text}: {error}"
            );
        }
    }

    fn values() -> impl Strategy<Value = AttributeValue> {
        prop_oneof![
            any::<bool>().prop_map(AttributeValue::Bool),
            any::<i64>().prop_map(AttributeValue::Int),
            (-1e9..1e9f64).prop_map(AttributeValue::Double),
            ".*".prop_map(AttributeValue::Text),
        ]
    }

    fn tests() -> impl Strategy<Value = AttributeTest> {
        prop_oneof![
            Just(AttributeTest::Exists),
            values().prop_map(AttributeTest::Equal),
            values().prop_map(AttributeTest::NotEqual),
            (-1e9..1e9f64).prop_map(AttributeTest::Less),
            (-1e9..1e9f64).prop_map(AttributeTest::GreaterOrEqual),
            prop::collection::vec(values(), 1..4).prop_map(AttributeTest::In),
            ".*".prop_map(AttributeTest::Prefix),
            ".*".prop_map(AttributeTest::Matches),
        ]
    }

    fn conditions() -> impl Strategy<Value = Condition> {
        let scope = prop::sample::select(AttributeScope::ALL.to_vec());
        let leaf = (scope, ".*", tests())
            .prop_map(|(scope, key, test)| Condition::attribute_in(scope, key, test));
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 2..4).prop_map(Condition::And),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Condition::Or),
                inner.prop_map(|inner| Condition::Not(Box::new(inner))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(condition in conditions()) {
            prop_assert_eq!(parse(&condition.to_string()).unwrap(), condition);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = parse(&text);
        }
    }
}
