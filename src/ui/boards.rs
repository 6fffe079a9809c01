//! Addresses of the boards that the buttons of the web page lead to: those of Spring Cloud Data Flow, in Grafana or Wavefront.
//!
//! Names come from senders and pass byte by byte, percent-encoded, so that a board finds what is stored under them. The templates are
//! those of Data Flow's own buttons, its second `var-task_name` included.

use crate::config::{Board, Dashboards};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write as _;
use std::time::Duration;

/// As `encodeURIComponent`, and without its quotes and brackets, which Wavefront's notation uses.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*');
/// What a board of Wavefront shows where nothing is chosen.
const ALL: &str = "*";

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

impl Dashboards {
    /// The board of all streams.
    pub fn streams(&self) -> String {
        match &self.board {
            Board::Grafana { refresh } => self.grafana("scdf-streams/streams", *refresh, &[]),
            Board::Wavefront { source } => {
                self.wavefront("streams", &[source_of(source), ("stream_name", "stream.name", ALL)])
            }
        }
    }

    /// The board of a stream.
    pub fn stream(&self, stream: &str) -> String {
        self.applications(stream, None, None)
    }

    /// The board of an application of a stream.
    pub fn application(&self, stream: &str, application: &str) -> String {
        self.applications(stream, Some(application), None)
    }

    /// The board of an instance of an application.
    pub fn instance(&self, stream: &str, application: &str, guid: &str) -> String {
        self.applications(stream, Some(application), Some(guid))
    }

    fn applications(&self, stream: &str, application: Option<&str>, guid: Option<&str>) -> String {
        match &self.board {
            Board::Grafana { refresh } => {
                let mut chosen = vec![("stream_name", stream), ("application_name", application.unwrap_or("All"))];
                chosen.extend(application.map(|_| ("name", "All")));
                chosen.extend(guid.map(|guid| ("application_guid", guid)));
                self.grafana("scdf-applications/applications", *refresh, &chosen)
            }
            Board::Wavefront { source } => {
                let chosen = [
                    ("application_guid", "application.guid", guid.unwrap_or(ALL)),
                    ("application_name", "application.name", application.unwrap_or(ALL)),
                    ("channel_name", "name", ALL),
                    source_of(source),
                    ("stream_name", "stream.name", stream),
                ];
                self.wavefront("applications", &chosen)
            }
        }
    }

    /// The board of all tasks.
    pub fn tasks(&self) -> String {
        match &self.board {
            Board::Grafana { refresh } => self.grafana("scdf-tasks/tasks", *refresh, &[]),
            Board::Wavefront { source } => self.wavefront("tasks", &[source_of(source)]),
        }
    }

    /// The board of a task, or of one of its executions.
    pub fn task(&self, task: &str, execution: Option<&str>) -> String {
        match &self.board {
            Board::Grafana { refresh } => {
                let mut chosen = vec![("task_name", task), ("task_name", "All")];
                chosen.extend(execution.map(|execution| ("task_execution_id", execution)));
                self.grafana("scdf-tasks/tasks", *refresh, &chosen)
            }
            Board::Wavefront { source } => {
                let chosen = [
                    source_of(source),
                    ("task_execution_id", "task.execution.id", execution.unwrap_or(ALL)),
                    ("task_name", "task.name", task),
                ];
                self.wavefront("tasks", &chosen)
            }
        }
    }

    fn grafana(&self, board: &str, refresh: Duration, chosen: &[(&str, &str)]) -> String {
        let mut url = format!("{}/d/{board}?refresh={}s", self.url, refresh.as_secs());
        for (variable, value) in chosen {
            // Writing to a text does not fail.
            let _ = write!(url, "&var-{variable}={}", encoded(value));
        }
        url
    }

    /// Parameters of a board are (name, tag key, value), the source without key.
    fn wavefront(&self, board: &str, chosen: &[(&str, &str, &str)]) -> String {
        let parameter = |(name, key, value): &(&str, &str, &str)| {
            // In the notation of the parameters, `!` makes the next character one of the text.
            let value = encoded(&value.replace('!', "!!").replace('\'', "!'"));
            let label = name.rsplit('_').next().unwrap_or(name);
            match *key {
                "" => format!("{name}:(d:Label,f:SOURCE,l:{label},m:(Label:'{value}'))"),
                key => format!("{name}:(d:Label,f:TAG_KEY,k:{key},l:{label},m:(Label:'{value}'))"),
            }
        };
        let parameters: Vec<_> = chosen.iter().map(parameter).collect();
        let (url, parameters) = (&self.url, parameters.join(","));
        format!("{url}/dashboards/integration-scdf-{board}#_v01(g:(d:7200,ls:!t,s:0,w:'2h'),p:({parameters}))")
    }
}

fn source_of(source: &str) -> (&'static str, &'static str, &str) {
    ("source", "", source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_lead_to_the_boards_of_grafana() {
        let boards = Dashboards {
            url: "http://g:3000/sub".to_owned(),
            board: Board::Grafana { refresh: Duration::from_secs(15) },
        };
        let (streams, applications) = ("scdf-streams/streams", "scdf-applications/applications");
        let odd = "a b/c&d=e?#%\"'<\u{e4}";
        let odd_encoded = "a%20b%2Fc%26d%3De%3F%23%25%22%27%3C%C3%A4";
        let cases = [
            (boards.streams(), format!("{streams}?refresh=15s")),
            (boards.stream("s"), format!("{applications}?refresh=15s&var-stream_name=s&var-application_name=All")),
            (
                boards.application("s", "time"),
                format!("{applications}?refresh=15s&var-stream_name=s&var-application_name=time&var-name=All"),
            ),
            (
                boards.instance(odd, "time", "s.time-v1_~2"),
                format!(
                    "{applications}?refresh=15s&var-stream_name={odd_encoded}&var-application_name=time&var-name=All\
                     &var-application_guid=s.time-v1_~2"
                ),
            ),
            (boards.tasks(), "scdf-tasks/tasks?refresh=15s".to_owned()),
            (boards.task("t", None), "scdf-tasks/tasks?refresh=15s&var-task_name=t&var-task_name=All".to_owned()),
            (
                boards.task("t", Some("7")),
                "scdf-tasks/tasks?refresh=15s&var-task_name=t&var-task_name=All&var-task_execution_id=7".to_owned(),
            ),
        ];
        for (url, expected) in cases {
            assert_eq!(url, format!("http://g:3000/sub/d/{expected}"));
        }
    }

    #[test]
    fn buttons_lead_to_the_boards_of_wavefront() {
        let board = Board::Wavefront { source: "demo-scdf-source".to_owned() };
        let boards = Dashboards { url: "https://vmware.wavefront.com".to_owned(), board };
        let source = "source:(d:Label,f:SOURCE,l:source,m:(Label:'demo-scdf-source'))";
        let applications = |guid: &str, name: &str, stream: &str| {
            format!(
                "application_guid:(d:Label,f:TAG_KEY,k:application.guid,l:guid,m:(Label:'{guid}')),\
                 application_name:(d:Label,f:TAG_KEY,k:application.name,l:name,m:(Label:'{name}')),\
                 channel_name:(d:Label,f:TAG_KEY,k:name,l:name,m:(Label:'*')),{source},\
                 stream_name:(d:Label,f:TAG_KEY,k:stream.name,l:name,m:(Label:'{stream}'))"
            )
        };
        let tasks = |execution: &str, name: &str| {
            format!(
                "{source},task_execution_id:(d:Label,f:TAG_KEY,k:task.execution.id,l:id,m:(Label:'{execution}')),\
                 task_name:(d:Label,f:TAG_KEY,k:task.name,l:name,m:(Label:'{name}'))"
            )
        };
        let cases = [
            (
                boards.streams(),
                "streams",
                format!("{source},stream_name:(d:Label,f:TAG_KEY,k:stream.name,l:name,m:(Label:'*'))"),
            ),
            (boards.stream("s"), "applications", applications("*", "*", "s")),
            (boards.application("s", "time"), "applications", applications("*", "time", "s")),
            (boards.instance("it's (so) b!g", "a", "g 1"), "applications", {
                applications("g%201", "a", "it%21%27s%20%28so%29%20b%21%21g")
            }),
            (boards.tasks(), "tasks", source.to_owned()),
            (boards.task("t", None), "tasks", tasks("*", "t")),
            (boards.task("t", Some("7")), "tasks", tasks("7", "t")),
        ];
        for (url, board, parameters) in cases {
            let base = "https://vmware.wavefront.com/dashboards/integration-scdf-";
            let expected = format!("{base}{board}#_v01(g:(d:7200,ls:!t,s:0,w:'2h'),p:({parameters}))");
            assert_eq!(url, expected);
        }
    }
}
