//! Which of the lake's own names a text in quotes is about: keys and values of attributes,
//! services, operations.
//!
//! Read [`wanted`]. It looks at the tokens before the cursor and does not parse SQL; who knows the
//! names is `known_names.rs`.

use super::statement::{split, token_length};

/// What a name is asked of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// The keys of a scope's attributes; of all scopes where not said.
    Key(Option<&'static str>),
    /// The values of a key of a scope.
    Value(Option<&'static str>, String),
    /// The services.
    Service,
    /// The names of spans.
    Operation,
}

/// The attribute columns, by all their names, and their scopes.
const SCOPES: [(&str, &str); 4] = [
    ("attributes", "span"),
    ("span_attributes", "span"),
    ("resource_attributes", "resource"),
    ("scope_attributes", "scope"),
];

/// Functions of a column and a key.
const KEY_FUNCTIONS: [&str; 5] = [
    "attribute",
    "attribute_json",
    "attribute_double",
    "attribute_exists",
    "semconv",
];

/// What the open quote before the cursor holds the beginning of, and where that begins; `None`
/// where no quote is open, or nothing is known of what stands in it.
pub(crate) fn wanted(before: &str) -> Option<(Wanted, usize)> {
    if !split(before).open {
        return None;
    }
    let tokens = tokens(before);
    let (open, tokens) = tokens.split_last()?;
    open.strip_prefix('\'')?;
    let start = before.len() - open.len() + 1;
    let wanted = key_wanted(tokens).or_else(|| value_wanted(tokens))?;
    Some((wanted, start))
}

/// The tokens of a text; operators come as single characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            token_length(rest)
        };
        let (token, after) = rest.split_at(length);
        let is_comment = token.starts_with("--") || token.starts_with("/*");
        // A comment at the end may be what is open.
        if !token.trim().is_empty() && (!is_comment || after.is_empty()) {
            tokens.push(token);
        }
        rest = after;
    }
    tokens
}

fn scope_of(column: &str) -> Option<&'static str> {
    let named = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(column);
    SCOPES.iter().find(named).map(|(_, scope)| *scope)
}

/// `attributes['…`, `attributes->>'…`, `attributes ? '…`, `attribute(attributes, '…`.
fn key_wanted(tokens: &[&str]) -> Option<Wanted> {
    let column = match tokens {
        [.., function, "(", column, ","]
            if KEY_FUNCTIONS.contains(&function.to_ascii_lowercase().as_str()) =>
        {
            column
        }
        [.., column, "["] | [.., column, "?"] => column,
        [.., column, "-", ">", ">"] | [.., column, "-", ">"] => column,
        _ => return None,
    };
    scope_of(column).map(|scope| Wanted::Key(Some(scope)))
}

/// `attributes['key'] = '…`, `service_name LIKE '…`, `name IN ('a', '…`, `service => '…`.
fn value_wanted(tokens: &[&str]) -> Option<Wanted> {
    let side = compared(tokens)?;
    match side {
        [.., column, "[", key, "]"]
        | [.., column, "-", ">", ">", key]
        | [.., column, "-", ">", key]
            if key.starts_with('\'') =>
        {
            scope_of(column).map(|scope| Wanted::Value(Some(scope), unquoted(key)))
        }
        [.., column] => match column.to_ascii_lowercase().as_str() {
            "service_name" | "service" | "root_service" | "caller" | "callee" => {
                Some(Wanted::Service)
            }
            "name" | "span_name" | "span_name_prefix" | "root_name" => Some(Wanted::Operation),
            "key" => Some(Wanted::Key(None)),
            "value" => {
                let key = tokens
                    .windows(3)
                    .rev()
                    .find(|window| window[0].eq_ignore_ascii_case("key") && window[1] == "=")?;
                Some(Wanted::Value(None, unquoted(key[2])))
            }
            _ => None,
        },
        [] => None,
    }
}

/// What stands before the comparison with which `tokens` end.
fn compared<'a, 'b>(tokens: &'a [&'b str]) -> Option<&'a [&'b str]> {
    let mut side = tokens;
    // A list of texts.
    while let [before @ .., text, ","] = side {
        if !text.starts_with('\'') {
            return None;
        }
        side = before;
    }
    let is = |token: &str, word: &str| token.eq_ignore_ascii_case(word);
    side = match side {
        [before @ .., word, "("] if is(word, "in") => before,
        [before @ .., word] if is(word, "like") || is(word, "ilike") => before,
        [before @ .., "=", ">"] | [before @ .., "<", ">"] | [before @ .., "!", "="] => before,
        [before @ .., "=" | "~"] if side.len() == tokens.len() => before,
        _ => return None,
    };
    Some(match side {
        [before @ .., word] if is(word, "not") => before,
        _ => side,
    })
}

fn unquoted(token: &str) -> String {
    let inner = token.trim_start_matches('\'');
    let inner = inner.strip_suffix('\'').unwrap_or(inner);
    inner.replace("''", "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(before: &str) -> Option<(Wanted, &str)> {
        wanted(before).map(|(wanted, start)| (wanted, &before[start..]))
    }

    #[test]
    fn a_quote_behind_an_attribute_column_holds_a_key() {
        let span = Some((Wanted::Key(Some("span")), "http."));
        for text in [
            "SELECT attributes['http.",
            "SELECT s.attributes ->> 'http.",
            "WHERE attributes->'http.",
            "WHERE span_attributes ? 'http.",
            "SELECT semconv(attributes, 'http.",
            "SELECT ATTRIBUTE(Attributes, 'http.",
        ] {
            assert_eq!(of(text), span, "{text}");
        }
        let resource = Some((Wanted::Key(Some("resource")), ""));
        assert_eq!(of("SELECT 'a', resource_attributes['"), resource);
    }

    #[test]
    fn a_quote_behind_a_comparison_holds_a_value() {
        let value = |key: &str| Some((Wanted::Value(Some("span"), key.into()), "/a"));
        assert_eq!(
            of("WHERE attributes['http.route'] = '/a"),
            value("http.route")
        );
        assert_eq!(of("WHERE attributes->>'it''s' NOT LIKE '/a"), value("it's"));
        assert_eq!(of("WHERE attributes['k'] IN ('x', '/a"), value("k"),);
        assert_eq!(of("service_name <> '"), Some((Wanted::Service, "")));
        assert_eq!(
            of("search_traces(service => 'c"),
            Some((Wanted::Service, "c"))
        );
        assert_eq!(
            of("WHERE a = 1 AND name ~ 'G"),
            Some((Wanted::Operation, "G"))
        );
        assert_eq!(
            of("FROM attribute_values WHERE key = 'k' AND value LIKE 'v"),
            Some((Wanted::Value(None, "k".into()), "v"))
        );
        assert_eq!(
            of("attribute_values WHERE key = 'h"),
            Some((Wanted::Key(None), "h"))
        );
    }

    #[test]
    fn other_quotes_hold_nothing_that_is_known() {
        for text in [
            "SELECT 'a",
            "SELECT attributes['k'] = 'closed'",
            "WHERE trace_id = '",
            "WHERE attributes = '",
            "SELECT attributes[\"k",
            "-- attributes['k",
            "SELECT attributes['k' /* attributes['",
            "",
            "'",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        let text = "sélect attributes['ä''ö'] in ('é', $q$ü$q$, '";
        for (at, _) in text.char_indices() {
            wanted(&text[..at]);
        }
    }
}
