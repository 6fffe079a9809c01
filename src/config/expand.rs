//! `${VAR}` and `${VAR:-default}` inside a scalar.
//!
//! Done after YAML is parsed, so that a value cannot add keys. As in a shell, the default also stands in for a variable
//! that is empty. `$${` is a literal `${`. A `$` that does not open a brace is itself, and so is `${1}`: a name cannot
//! begin with a digit, so Prometheus relabel replacements need no escaping unless they name their groups. No nesting.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::{char, satisfy};
use nom::combinator::{map, opt, recognize, value};
use nom::sequence::{delimited, pair, preceded};
use nom::{IResult, Parser};

/// Bytes of a scalar after expansion.
const EXPANDED_BYTES_MAX: usize = 1 << 20;

/// A piece of a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Variable { name: &'a str, default: Option<&'a str> },
}

/// The scalar with its variables replaced; an error says which could not be.
pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let Ok((behind, piece)) = piece(rest) else {
            return Err("expected ${NAME} or ${NAME:-default} (a literal ${ is written $${)".to_owned());
        };
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Variable { name, default } => {
                match (env(name).filter(|found| default.is_none() || !found.is_empty()), default) {
                    (Some(found), _) => out.push_str(&found),
                    (None, Some(default)) => out.push_str(default),
                    (None, None) => return Err(unset(name)),
                }
            }
        }
        if out.len() > EXPANDED_BYTES_MAX {
            return Err(format!("expands to more than {EXPANDED_BYTES_MAX} bytes"));
        }
        rest = behind;
    }
    Ok(out)
}

fn unset(name: &str) -> String {
    format!(
        "the environment variable {name} is not set and has no default: set it, write ${{{name}:-default}}, or $${{{name}}} \
         for a literal ${{{name}}}"
    )
}

fn piece(input: &str) -> IResult<&str, Piece<'_>> {
    alt((
        map(take_till1_dollar, Piece::Text),
        value(Piece::Text("${"), tag("$${")),
        variable,
        map(recognize(pair(tag("${"), satisfy(|c| c.is_ascii_digit()))), Piece::Text),
        map(lone_dollar, Piece::Text),
    ))
    .parse(input)
}

fn take_till1_dollar(input: &str) -> IResult<&str, &str> {
    take_while1(|c| c != '$').parse(input)
}

fn variable(input: &str) -> IResult<&str, Piece<'_>> {
    let name = recognize(pair(satisfy(|c| c.is_ascii_alphabetic() || c == '_'), take_while(is_name)));
    let default = preceded(tag(":-"), take_till(|c| c == '}'));
    map(delimited(tag("${"), pair(name, opt(default)), char('}')), |(name, default)| Piece::Variable { name, default })
        .parse(input)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A `$` that opens nothing.
fn lone_dollar(input: &str) -> IResult<&str, &str> {
    let (rest, dollar) = tag("$").parse(input)?;
    if rest.starts_with('{') {
        return Err(nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Tag)));
    }
    Ok((rest, dollar))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db1".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("a: ${HOST}\nb: [".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn expands_variables() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("http://${HOST}:80/${HOST}", "http://db1:80/db1"),
            ("${MISSING:-fall back}", "fall back"),
            ("${MISSING:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${HOST:-x}", "db1"),
            ("${TRICK}", "a: ${HOST}\nb: ["),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$1-$2 $HOST $$ $", "$1-$2 $HOST $$ $"),
            ("${1}_${12}", "${1}_${12}"),
        ] {
            assert_eq!(expand(text, &env).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_expand() {
        for (text, expected) in [
            ("${MISSING}", "MISSING is not set"),
            ("${HOST", "expected ${NAME}"),
            ("${}", "expected ${NAME}"),
            ("${HOST:=x}", "expected ${NAME}"),
            ("${HO ST}", "expected ${NAME}"),
        ] {
            let message = expand(text, &env).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn refuses_to_grow_without_bound() {
        let long = |_: &str| Some("x".repeat(1000));
        assert!(expand(&"${A}".repeat(10_000), &long).unwrap_err().contains("more than"));
    }
}
