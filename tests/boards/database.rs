//! A database as Grafana asks it: queries, values of variables, and Grafana's own variables for time.

use crate::support::http;
use crate::support::server::Server;
use serde_json::Value;
use std::collections::BTreeSet;

/// How far back a board looks.
const SPAN: &str = "30m";
/// What Grafana calls the interval of a board that looks so far back, of steps of a minute.
const INTERVAL: [(&str, &str); 3] = [("$__rate_interval", "1m"), ("$__interval_ms", "60000"), ("$__interval", "1m")];

/// A server with data, and the time of the last of them in milliseconds.
pub(crate) enum Database<'a> {
    Prometheus { server: &'a Server, now: i64 },
    InfluxDb { server: &'a Server, name: &'a str, now: i64 },
}

impl Database<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Prometheus { .. } => "prometheus",
            Self::InfluxDb { .. } => "influxdb",
        }
    }

    /// How many series or rows a query returns; its error as text.
    pub(crate) fn rows(&self, query: &str) -> Result<usize, String> {
        match self {
            Self::Prometheus { server, now } => {
                let parameters = [("query", &*interval(query)), ("time", &format!("{}.{:03}", now / 1000, now % 1000))];
                let url = server.url(&format!("/api/v1/query?{}", http::query(&parameters)));
                let answer = http::send("GET", &url, &[], b"").json();
                let result = answer["data"]["result"].as_array().ok_or_else(|| answer["error"].to_string())?;
                // A panel draws nothing for what is no number.
                Ok(result.iter().filter(|series| series["value"][1] != "NaN").count())
            }
            Self::InfluxDb { .. } => Ok(self.influxql(query)?.len()),
        }
    }

    /// The values that a variable's query finds, as Grafana reads them.
    pub(crate) fn values(&self, query: &str) -> Result<BTreeSet<String>, String> {
        match self {
            Self::Prometheus { server, .. } => {
                let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
                let inside = inside.ok_or_else(|| format!("{query} is no label_values(..)"))?;
                let (selector, label) = inside.rsplit_once(',').unwrap_or(("", inside));
                let selector = [("match[]", selector.trim())];
                let parameters = if selector[0].1.is_empty() { String::new() } else { http::query(&selector) };
                let url = server.url(&format!("/api/v1/label/{}/values?{parameters}", label.trim()));
                let answer = http::send("GET", &url, &[], b"").json();
                let values = answer["data"].as_array().ok_or_else(|| answer["error"].to_string())?;
                Ok(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            // The second column where there is one: the value behind its key, or what was asked for behind its time.
            Self::InfluxDb { .. } => {
                let rows = self.influxql(query)?;
                let cells = rows.iter().filter_map(|row| row.get(1).or_else(|| row.get(0)));
                let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
                Ok(cells.filter(|cell| !cell.is_null()).map(text).collect())
            }
        }
    }

    fn influxql(&self, query: &str) -> Result<Vec<Value>, String> {
        let Self::InfluxDb { server, name, now } = self else { unreachable!("only of InfluxDB") };
        let query = interval(query)
            .replace("$timeFilter", &format!("time > {now}ms - {SPAN} AND time <= {now}ms"))
            .replace("now()", &format!("{now}ms"));
        let parameters = http::query(&[("db", *name), ("q", &query)]);
        let answer = http::send("GET", &server.url(&format!("/query?{parameters}")), &[], b"").json();
        let result = &answer["results"][0];
        if let Some(error) = answer["error"].as_str().or(result["error"].as_str()) {
            return Err(error.to_owned());
        }
        let series = result["series"].as_array().into_iter().flatten();
        Ok(series.flat_map(|series| series["values"].as_array().cloned().unwrap_or_default()).collect())
    }
}

fn interval(query: &str) -> String {
    INTERVAL.iter().fold(query.to_owned(), |query, (variable, value)| query.replace(variable, value))
}
