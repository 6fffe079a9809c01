//! `/query` of InfluxDB 1.x: the few statements that writers send before they write.
//!
//! `CREATE DATABASE` is remembered (outputs may pass it on), `SHOW DATABASES` and `SHOW RETENTION POLICIES` are answered
//! from that. Everything else is refused in the words of the ecosystem: the gateway stores nothing.

use super::Gate;
use super::answer::{Answer, json};
use super::influx::{branded, v1_error};
use super::parameters::{MediaType, Parameters};
use crate::model::Format;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Databases that are remembered.
const DATABASES_MAX: usize = 1000;
/// Bytes of a database's name.
const DATABASE_BYTES_MAX: usize = 256;
/// Statements of one query.
const STATEMENTS_MAX: usize = 100;

/// Names that `CREATE DATABASE` brought.
#[derive(Debug, Default)]
pub(super) struct Databases(Mutex<BTreeSet<String>>);

impl Databases {
    /// The names, in order.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }

    fn create(&self, name: String) -> Result<(), String> {
        let mut names = self.0.lock();
        if !names.contains(&name) && names.len() >= DATABASES_MAX {
            return Err(format!("more than {DATABASES_MAX} databases"));
        }
        names.insert(name);
        Ok(())
    }
}

pub(super) async fn answer(gate: &Arc<Gate>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let in_query = Parameters::parse(head.uri.query().unwrap_or_default().as_bytes());
    let collected = match gate.collect(body, Format::InfluxLine).await {
        Ok(collected) => collected,
        Err(error) => return error.answer(v1_error),
    };
    let is_form = MediaType::of(&head.headers).essence == "application/x-www-form-urlencoded";
    let in_form = if is_form { Parameters::parse(collected.bytes()) } else { Parameters::default() };
    let Some(query) = in_query.first("q").or(in_form.first("q")) else {
        return v1_error(StatusCode::BAD_REQUEST, "missing required parameter \"q\"");
    };
    let results = parse(query).and_then(|statements| {
        let results = statements.into_iter().enumerate();
        results.map(|(id, statement)| run(&gate.databases, id, statement)).collect::<Result<Vec<_>, _>>()
    });
    match results {
        Ok(results) => branded(json(StatusCode::OK, &json!({ "results": results }))),
        Err(message) => v1_error(StatusCode::BAD_REQUEST, &message),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Statement {
    CreateDatabase(String),
    ShowDatabases,
    ShowRetentionPolicies,
}

fn run(databases: &Databases, id: usize, statement: Statement) -> Result<Value, String> {
    match statement {
        Statement::CreateDatabase(name) => {
            databases.create(name)?;
            Ok(json!({ "statement_id": id }))
        }
        Statement::ShowDatabases => {
            let names: Vec<_> = databases.names().into_iter().map(|name| [name]).collect();
            let mut series = json!({ "name": "databases", "columns": ["name"] });
            if !names.is_empty() {
                series["values"] = json!(names);
            }
            Ok(json!({ "statement_id": id, "series": [series] }))
        }
        Statement::ShowRetentionPolicies => {
            let columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"];
            let values = json!([["autogen", "0s", "168h0m0s", 1, true]]);
            Ok(json!({ "statement_id": id, "series": [{ "columns": columns, "values": values }] }))
        }
    }
}

/// The statements of a query, or why it is refused.
fn parse(query: &str) -> Result<Vec<Statement>, String> {
    let tokens = tokens(query)?;
    let statements: Vec<_> = tokens.split(|token| *token == Token::End).filter(|words| !words.is_empty()).collect();
    if statements.is_empty() || statements.len() > STATEMENTS_MAX {
        return Err(format!("error parsing query: expected 1 to {STATEMENTS_MAX} statements"));
    }
    statements.into_iter().map(parse_statement).collect()
}

fn parse_statement(tokens: &[Token]) -> Result<Statement, String> {
    let keyword = |at: usize, keyword: &str| matches!(tokens.get(at), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
    if keyword(0, "create") && keyword(1, "database") {
        // The optional clauses (WITH DURATION, REPLICATION, ...) describe a storage that is not here.
        let optional_clauses = tokens.len() == 3 || keyword(3, "with");
        return match tokens.get(2) {
            Some(Token::Word(name) | Token::Quoted(name)) if optional_clauses && !name.is_empty() => {
                if name.len() > DATABASE_BYTES_MAX {
                    return Err(format!("a database's name is longer than {DATABASE_BYTES_MAX} bytes"));
                }
                Ok(Statement::CreateDatabase(name.clone()))
            }
            _ => Err("error parsing query: expected CREATE DATABASE <name> [WITH ...]".to_owned()),
        };
    }
    if keyword(0, "show") && keyword(1, "databases") && tokens.len() == 2 {
        return Ok(Statement::ShowDatabases);
    }
    if keyword(0, "show") && keyword(1, "retention") && keyword(2, "policies") {
        return Ok(Statement::ShowRetentionPolicies);
    }
    Err("this gateway stores nothing: it answers CREATE DATABASE, SHOW DATABASES and SHOW RETENTION POLICIES only"
        .into())
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    End,
}

/// Splits at blanks and semicolons; `"..."` and `'...'` are one token, with `\` escaping the next character.
fn tokens(query: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = query.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            ';' => tokens.push(Token::End),
            '"' | '\'' => {
                let mut text = String::new();
                loop {
                    match rest.next() {
                        None => return Err("error parsing query: a quote is not closed".to_owned()),
                        Some(end) if end == first => break,
                        Some('\\') => text.extend(rest.next()),
                        Some(other) => text.push(other),
                    }
                }
                tokens.push(Token::Quoted(text));
            }
            blank if blank.is_whitespace() => {}
            other => {
                let mut word = String::from(other);
                while let Some(next) = rest.next_if(|next| !next.is_whitespace() && !matches!(next, ';' | '"' | '\'')) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_of_writers_are_understood() {
        let create = |name: &str| Statement::CreateDatabase(name.to_owned());
        let cases = [
            ("CREATE DATABASE \"myinfluxdb\"", vec![create("myinfluxdb")]),
            ("create database plain;", vec![create("plain")]),
            ("CREATE DATABASE \"a\\\"b;c\"", vec![create("a\"b;c")]),
            ("CREATE DATABASE db WITH DURATION 7d REPLICATION 1 SHARD DURATION 1h NAME rp", vec![create("db")]),
            (
                "SHOW DATABASES; show retention policies on \"db\"",
                vec![Statement::ShowDatabases, Statement::ShowRetentionPolicies],
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(parse(query).as_ref(), Ok(&expected), "{query}");
        }
    }

    #[test]
    fn refuses_what_needs_a_storage() {
        let cases = [
            "DROP DATABASE db",
            "SELECT * FROM cpu",
            "CREATE DATABASE",
            "CREATE DATABASE \"\"",
            "CREATE DATABASE \"open",
            "CREATE DATABASE a b",
            "",
            ";",
            "SHOW DATABASES; DROP DATABASE db",
        ];
        for query in cases {
            assert!(parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn databases_are_bounded() {
        let databases = Databases::default();
        for number in 0..DATABASES_MAX {
            databases.create(format!("db{number}")).unwrap();
        }
        assert!(databases.create("db0".to_owned()).is_ok(), "known");
        assert!(databases.create("more".to_owned()).is_err());
    }
}
