//! A board: what it asks, with every choice of its variables that a person could make.

use crate::database::Database;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A board read from its file.
pub(crate) struct Board {
    pub(crate) path: PathBuf,
    json: Value,
}

/// A query, what it is of, and how many rows it returns with the choice of variables that returns any.
pub(crate) struct Answer {
    pub(crate) of: String,
    pub(crate) query: String,
    pub(crate) rows: Result<usize, String>,
}

/// Variables and what was chosen, the longest name first: `$name` is the beginning of `$name_of_it`.
#[derive(Clone, Default)]
struct Choice(Vec<(String, String)>);

impl Choice {
    fn and(&self, name: &str, value: String) -> Self {
        let mut choice = self.clone();
        choice.0.push((name.to_owned(), value));
        choice.0.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        choice
    }

    fn fill(&self, query: &str) -> String {
        self.0.iter().fold(query.to_owned(), |query, (name, value)| query.replace(&format!("${name}"), value))
    }
}

impl Board {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a board");
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.to_owned(), json }
    }

    /// Its folders and file.
    pub(crate) fn title(&self) -> String {
        let parts: Vec<_> = self.path.iter().rev().take(3).filter_map(|part| part.to_str()).collect();
        parts.into_iter().rev().collect::<Vec<_>>().join("/")
    }

    /// Asks everything that it would.
    pub(crate) fn ask(&self, database: &Database<'_>) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut choices = vec![Choice::default()];
        for variable in list(&self.json["templating"]["list"]).filter(|variable| variable["type"] == "query") {
            let (answer, more) = Self::choose(variable, &choices, database);
            answers.push(answer);
            choices = more;
        }
        let mut queries = Vec::new();
        queries_of(&self.json, &mut queries);
        for (of, query) in queries {
            let rows = most(choices.iter().map(|choice| database.rows(&choice.fill(&query))));
            answers.push(Answer { of, query, rows });
        }
        answers
    }

    /// What a variable can be, for every choice of those before it. One of which several can be chosen is all of them, or the
    /// first one.
    fn choose(variable: &Value, choices: &[Choice], database: &Database<'_>) -> (Answer, Vec<Choice>) {
        let name = variable["name"].as_str().expect("a name");
        let query = variable["query"]["query"].as_str().or(variable["query"].as_str()).expect("a query").to_owned();
        let mut more = Vec::new();
        let mut rows = Vec::new();
        for choice in choices {
            let values = database.values(&choice.fill(&query));
            rows.push(values.as_ref().map(std::collections::BTreeSet::len).map_err(Clone::clone));
            let values = values.unwrap_or_default();
            if variable["multi"] == true {
                let all: Vec<_> = values.iter().map(String::as_str).collect();
                more.push(choice.and(name, format!("({})", all.join("|"))));
                more.extend(values.first().map(|value| choice.and(name, value.clone())));
            } else {
                more.extend(values.into_iter().map(|value| choice.and(name, value)));
            }
        }
        if more.is_empty() {
            more = choices.iter().map(|choice| choice.and(name, String::new())).collect();
        }
        (Answer { of: format!("variable {name}"), query, rows: most(rows.into_iter()) }, more)
    }
}

/// The first that has rows; else an error where there was one.
fn most(rows: impl Iterator<Item = Result<usize, String>>) -> Result<usize, String> {
    let mut none = Ok(0);
    for rows in rows {
        match rows {
            Ok(0) => {}
            Ok(rows) => return Ok(rows),
            Err(error) => none = Err(error),
        }
    }
    none
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The queries of all panels, also of those in rows, with the titles of their panels.
fn queries_of(holder: &Value, queries: &mut Vec<(String, String)>) {
    for panel in list(&holder["panels"]).chain(list(&holder["rows"])) {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in list(&panel["targets"]) {
            queries.extend(query_of(target).map(|query| (title.to_owned(), query)));
        }
        queries_of(panel, queries);
    }
}

fn query_of(target: &Value) -> Option<String> {
    let influx = target["rawQuery"].as_bool();
    match (influx, target["measurement"].as_str()) {
        (Some(true), _) => target["query"].as_str().map(str::to_owned),
        (_, Some(measurement)) => Some(built(target, measurement)),
        _ => target["expr"].as_str().filter(|query| !query.is_empty()).map(str::to_owned),
    }
}

/// InfluxQL as Grafana's editor of queries writes it from its parts.
fn built(target: &Value, measurement: &str) -> String {
    let first = |part: &Value| part["params"][0].as_str().unwrap_or_default().to_owned();
    let column = |parts: &Value| {
        list(parts).fold(String::new(), |inner, part| match part["type"].as_str() {
            Some("field") => format!("\"{}\"", first(part)),
            Some("math") => format!("{inner}{}", first(part)),
            Some("alias") => format!("{inner} AS \"{}\"", first(part)),
            function => format!("{}({inner})", function.unwrap_or_default()),
        })
    };
    let columns: Vec<_> = list(&target["select"]).map(column).collect();
    let mut conditions = String::new();
    for tag in list(&target["tags"]) {
        let (key, operator, value) = (&tag["key"], tag["operator"].as_str().unwrap_or("="), &tag["value"]);
        let value = value.as_str().unwrap_or_default();
        let value = if operator.ends_with('~') { value.to_owned() } else { format!("'{value}'") };
        if !conditions.is_empty() {
            let _ = write!(conditions, " {} ", tag["condition"].as_str().unwrap_or("AND"));
        }
        let _ = write!(conditions, "{key} {operator} {value}");
    }
    let (mut groups, mut fill) = (Vec::new(), String::new());
    for part in list(&target["groupBy"]) {
        match part["type"].as_str() {
            Some("time") => groups.push(format!("time({})", first(part))),
            Some("tag") => groups.push(format!("\"{}\"", first(part))),
            _ => fill = format!(" fill({})", first(part)),
        }
    }
    let conditions = if conditions.is_empty() { String::new() } else { format!("({conditions}) AND ") };
    let groups = if groups.is_empty() { String::new() } else { format!(" GROUP BY {}", groups.join(", ")) };
    format!("SELECT {} FROM \"{measurement}\" WHERE {conditions}$timeFilter{groups}{fill}", columns.join(", "))
}
