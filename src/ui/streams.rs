//! `GET /api/v1/streams`: the streams and tasks that live series come from, their applications and instances, each with the
//! address of its board.
//!
//! ```text
//! {"streams":[{"name","url","applications":[{"name","type","url","instances":[{"guid","index",...,"url"}]}]}],
//!  "tasks":[{"name","url","executions":[{"id","application","type","guid","index",...,"url"}]}],
//!  "urls":{"streams","tasks"},"omitted":N}
//! ```
//!
//! Addresses are absent where no dashboards are configured, and where an application or instance did not tell by what it could be
//! found there.

use crate::config::Dashboards;
use crate::model::Dialect;
use crate::output::instances::{Instance, Part};
use serde::Serialize;

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Listed<'a> {
    streams: Vec<Stream<'a>>,
    tasks: Vec<Task<'a>>,
    urls: Option<Urls>,
    /// Series, each time one was first shown, that are of none of these for want of room.
    omitted: u64,
}

#[derive(Debug, Serialize)]
struct Urls {
    streams: String,
    tasks: String,
}

#[derive(Debug, Serialize)]
struct Stream<'a> {
    name: &'a str,
    url: Option<String>,
    applications: Vec<Application<'a>>,
}

#[derive(Debug, Serialize)]
struct Application<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    url: Option<String>,
    instances: Vec<Running<'a>>,
}

#[derive(Debug, Serialize)]
struct Task<'a> {
    name: &'a str,
    url: Option<String>,
    executions: Vec<Execution<'a>>,
}

#[derive(Debug, Serialize)]
struct Execution<'a> {
    id: &'a str,
    application: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    running: Running<'a>,
}

/// An instance.
#[derive(Debug, Serialize)]
struct Running<'a> {
    guid: &'a str,
    index: &'a str,
    series: usize,
    samples_per_second: f64,
    last_seen_seconds: f64,
    dialects: Vec<&'static str>,
    url: Option<String>,
}

impl<'a> Running<'a> {
    fn of(instance: &'a Instance, url: Option<String>) -> Self {
        Self {
            guid: &instance.names.guid,
            index: &instance.names.index,
            series: instance.series,
            samples_per_second: instance.rate,
            last_seen_seconds: instance.silent.as_secs_f64(),
            dialects: instance.dialects.iter().map(|dialect| spelled(*dialect)).collect(),
            url,
        }
    }
}

const fn spelled(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Prometheus => "prometheus",
        Dialect::Influx => "influx",
        Dialect::Wavefront => "wavefront",
    }
}

impl<'a> Listed<'a> {
    /// Instances in the order of their names as a tree.
    pub(super) fn of(instances: &'a [Instance], omitted: u64, boards: Option<&Dashboards>) -> Self {
        let at = instances.partition_point(|instance| instance.names.part == Part::Stream);
        let (of_streams, of_tasks) = instances.split_at(at);
        let streams = of_streams.chunk_by(|left, right| left.names.name == right.names.name);
        let tasks = of_tasks.chunk_by(|left, right| left.names.name == right.names.name);
        Self {
            streams: streams.map(|stream| Stream::of(stream, boards)).collect(),
            tasks: tasks.map(|task| Task::of(task, boards)).collect(),
            urls: boards.map(|boards| Urls { streams: boards.streams(), tasks: boards.tasks() }),
            omitted,
        }
    }
}

impl<'a> Stream<'a> {
    fn of(instances: &'a [Instance], boards: Option<&Dashboards>) -> Self {
        let applications = instances.chunk_by(|left, right| {
            let (left, right) = (&left.names, &right.names);
            (&left.application, &left.application_type) == (&right.application, &right.application_type)
        });
        let name = &*instances[0].names.name;
        Self {
            name,
            url: boards.map(|boards| boards.stream(name)),
            applications: applications.map(|instances| Application::of(name, instances, boards)).collect(),
        }
    }
}

impl<'a> Application<'a> {
    fn of(stream: &str, instances: &'a [Instance], boards: Option<&Dashboards>) -> Self {
        let names = &*instances[0].names;
        let named = boards.filter(|_| !names.application.is_empty());
        let url_of = |instance: &Instance| {
            let boards = named.filter(|_| !instance.names.guid.is_empty())?;
            Some(boards.instance(stream, &names.application, &instance.names.guid))
        };
        Self {
            name: &names.application,
            kind: &names.application_type,
            url: named.map(|boards| boards.application(stream, &names.application)),
            instances: instances.iter().map(|instance| Running::of(instance, url_of(instance))).collect(),
        }
    }
}

impl<'a> Task<'a> {
    fn of(instances: &'a [Instance], boards: Option<&Dashboards>) -> Self {
        let name = &*instances[0].names.name;
        let execution = |instance: &'a Instance| {
            let names = &*instance.names;
            let boards = boards.filter(|_| !names.execution.is_empty());
            Execution {
                id: &names.execution,
                application: &names.application,
                kind: &names.application_type,
                running: Running::of(instance, boards.map(|boards| boards.task(name, Some(&names.execution)))),
            }
        };
        Self {
            name,
            url: boards.map(|boards| boards.task(name, None)),
            executions: instances.iter().map(execution).collect(),
        }
    }
}
