//! `/query` of InfluxDB 1.x: the few statements that writers send before they write.
//!
//! `CREATE DATABASE` is remembered with its options, also after a restart, and outputs that create the database of that name do it so; `SHOW DATABASES` and
//! `SHOW RETENTION POLICIES` are answered from that. Everything else is refused in the words of the ecosystem: the gateway
//! stores nothing.

use super::Gate;
use super::answer::{Answer, json};
use super::influx::{branded, v1_error};
use super::parameters::{MediaType, Parameters};
use crate::model::{DATABASES_MAX, Databases, Format, Retention};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of a database's name.
const DATABASE_BYTES_MAX: usize = 256;
/// Statements of one query.
const STATEMENTS_MAX: usize = 100;

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
    gate.save_databases().await;
    match results {
        Ok(results) => branded(json(StatusCode::OK, &json!({ "results": results }))),
        Err(message) => v1_error(StatusCode::BAD_REQUEST, &message),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Statement {
    CreateDatabase(String, Retention),
    ShowDatabases,
    ShowRetentionPolicies,
}

fn run(databases: &Databases, id: usize, statement: Statement) -> Result<Value, String> {
    match statement {
        Statement::CreateDatabase(name, retention) => {
            let has_room = databases.create(name, retention);
            has_room
                .then(|| json!({ "statement_id": id }))
                .ok_or_else(|| format!("more than {DATABASES_MAX} databases"))
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
        let (Some(Token::Word(name) | Token::Quoted(name)), options) =
            (tokens.get(2), tokens.get(3..).unwrap_or_default())
        else {
            return Err("error parsing query: expected CREATE DATABASE <name> [WITH ...]".to_owned());
        };
        if name.is_empty() || name.len() > DATABASE_BYTES_MAX {
            return Err(format!("error parsing query: a database's name has 1 to {DATABASE_BYTES_MAX} bytes"));
        }
        return Ok(Statement::CreateDatabase(name.clone(), retention(options)?));
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

/// What stands behind the name of a database: nothing, or `WITH` and clauses, in any order, each of them at most once.
fn retention(tokens: &[Token]) -> Result<Retention, String> {
    let wrong = || "error parsing query: expected WITH [DURATION <time>] [REPLICATION <number>] [SHARD DURATION <time>] [NAME <name>]";
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => Some(word.to_ascii_lowercase()),
        _ => None,
    };
    let mut retention = Retention::default();
    if tokens.is_empty() {
        return Ok(retention);
    }
    let mut at = 1;
    while at < tokens.len() {
        let (clause, length) = match (word(at).as_deref(), word(at + 1).as_deref()) {
            (Some("duration"), _) => (&mut retention.duration, 1),
            (Some("replication"), _) => (&mut retention.replication, 1),
            (Some("shard"), Some("duration")) => (&mut retention.shard_duration, 2),
            (Some("name"), _) => (&mut retention.name, 1),
            _ => return Err(wrong().to_owned()),
        };
        let is_name = word(at).as_deref() == Some("name");
        // A word goes to InfluxDB as it is.
        let is_plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == 'µ');
        let said = match tokens.get(at + length) {
            Some(Token::Quoted(name)) if is_name && !name.is_empty() && name.len() <= DATABASE_BYTES_MAX => name,
            Some(Token::Word(word)) if is_name && word.len() <= DATABASE_BYTES_MAX => word,
            Some(Token::Word(word)) if !is_name && is_plain(word) && word.len() <= DATABASE_BYTES_MAX => word,
            _ => return Err(wrong().to_owned()),
        };
        if clause.replace(said.clone()).is_some() {
            return Err(wrong().to_owned());
        }
        at += length + 1;
    }
    if word(0).as_deref() == Some("with") && at > 1 { Ok(retention) } else { Err(wrong().to_owned()) }
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
        let create = |name: &str| Statement::CreateDatabase(name.to_owned(), Retention::default());
        let said = |text: &str| Some(text.to_owned());
        let week = Retention { duration: said("7d"), replication: said("1"), ..Retention::default() };
        let whole = Retention { shard_duration: said("1h"), name: said("rp"), ..week.clone() };
        let created = |retention: &Retention| vec![Statement::CreateDatabase("db".to_owned(), retention.clone())];
        let cases = [
            ("CREATE DATABASE \"myinfluxdb\"", vec![create("myinfluxdb")]),
            ("create database plain;", vec![create("plain")]),
            ("CREATE DATABASE \"a\\\"b;c\"", vec![create("a\"b;c")]),
            ("CREATE DATABASE db WITH DURATION 7d REPLICATION 1 SHARD DURATION 1h NAME rp", created(&whole)),
            ("create database db with name \"rp\" shard duration 1h duration 7d replication 1", created(&whole)),
            ("CREATE DATABASE db WITH DURATION 7d REPLICATION 1;", created(&week)),
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
            "CREATE DATABASE a WITH",
            "CREATE DATABASE a WITH DURATION",
            "CREATE DATABASE a WITH DURATION \"7d\"",
            "CREATE DATABASE a WITH DURATION 7d DURATION 7d",
            "CREATE DATABASE a WITH SHARD 1h",
            "CREATE DATABASE a WITH NAME \"\"",
            "CREATE DATABASE a WITH DURATION 7d,DROP",
            "CREATE DATABASE a DURATION 7d",
            "",
            ";",
            "SHOW DATABASES; DROP DATABASE db",
        ];
        for query in cases {
            assert!(parse(query).is_err(), "{query}");
        }
    }
}
