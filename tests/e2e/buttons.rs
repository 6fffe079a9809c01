//! Streams and tasks on the web page, with a button to the board of each: what senders of three dialects say of themselves, the
//! JSON, and the page in a real browser.

use crate::support::browser::Browser;
use crate::support::component::needs;
use crate::support::destination::{self, status};
use crate::support::gateway::{Gateway, gateway};
use crate::support::http;
use crate::support::server::eventually;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
/// A name that would be markup, a script and a second parameter if anything let it.
const ODD: &str = "a <img src=x onerror=alert(1)>&\"'/\u{e4}";
const ODD_ENCODED: &str = "a%20%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%26%22%27%2F%C3%A4";

/// An application of a stream in each dialect, and an execution of a task.
fn send(gateway: &Gateway) {
    let line = "jvm_memory_used,application_guid=g-time,application_name=time,application_type=source,instance_index=0,\
        stream_name=ticktock,metric_type=gauge value=1";
    assert_eq!(http::post(&gateway.url("/write?db=d"), line).status, 204);
    let point = "\"jvm.memory.used\" 1 source=\"s\" \"stream.name\"=\"ticktock\" \"application.name\"=\"log\" \
        \"application.type\"=\"sink\" \"application.guid\"=\"g-log\" \"instance.index\"=\"10\"\n";
    let other = point.replace("g-log", "g-log2").replace("\"10\"", "\"2\"");
    assert_eq!(http::post(&gateway.url("/report"), format!("{point}{other}")).status, 202);
    let label = ODD.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!(
        "up_odd{{stream_name=\"{label}\",application_name=\"{label}\",application_guid=\"{label}\"}} 1\n\
         task_seconds{{task_name=\"etl\",task_execution_id=\"7\",application_name=\"etl-app\",application_guid=\"g-7\"}} 2\n\
         task_count{{task_name=\"etl\",task_execution_id=\"7\",application_name=\"etl-app\",application_guid=\"g-7\"}} 3\n\
         nothing{{job=\"x\"}} 4\n"
    );
    assert_eq!(http::post(&gateway.url("/api/v1/import/prometheus"), text).status, 204);
}

/// What the gateway lists, once all of it is there.
fn listed(gateway: &Gateway) -> Value {
    eventually(SOON, || {
        let listed = http::get(&gateway.url("/api/v1/streams")).json();
        let count = |part: &str| listed[part].as_array().map_or(0, Vec::len);
        if (count("streams"), count("tasks")) == (2, 1) { Ok(listed) } else { Err(listed.to_string()) }
    })
}

#[test]
fn streams_and_tasks_are_listed_with_their_boards() {
    let gateway = gateway().block("dashboards: { type: grafana, url: 'http://grafana:3000/', refresh: 10s }").start();
    send(&gateway);
    let mut listed = listed(&gateway);
    let applications = "http://grafana:3000/d/scdf-applications/applications?refresh=10s";
    let ticktock = format!("{applications}&var-stream_name=ticktock");
    let tasks = "http://grafana:3000/d/scdf-tasks/tasks?refresh=10s";
    assert_eq!(
        listed["urls"],
        json!({ "streams": "http://grafana:3000/d/scdf-streams/streams?refresh=10s", "tasks": tasks })
    );
    assert_eq!(listed["omitted"], 0);
    // Numbers that the clock is part of.
    let mut timeless = |pointer: &str, series: u64| {
        let running = listed.pointer_mut(pointer).expect(pointer).as_object_mut().expect("an object");
        let take = |running: &mut serde_json::Map<String, Value>, name: &str| {
            running.remove(name).and_then(|value| value.as_f64()).expect(name)
        };
        let (rate, silent) = (take(running, "samples_per_second"), take(running, "last_seen_seconds"));
        assert!(rate > 0.0 && rate <= series as f64 && (0.0..60.0).contains(&silent), "{pointer}: {rate}, {silent}");
        assert_eq!(running.remove("series"), Some(json!(series)), "{pointer}");
    };
    timeless("/streams/0/applications/0/instances/0", 1);
    timeless("/streams/1/applications/0/instances/0", 1);
    timeless("/streams/1/applications/0/instances/1", 1);
    timeless("/streams/1/applications/1/instances/0", 1);
    timeless("/tasks/0/executions/0", 2);
    let odd = format!("{applications}&var-stream_name={ODD_ENCODED}");
    let instance = |guid: &str, index: &str, dialect: &str, url: String| json!({ "guid": guid, "index": index, "dialects": [dialect], "url": url });
    let of = |application: &str| format!("{ticktock}&var-application_name={application}&var-name=All");
    let expected = json!([
        { "name": ODD, "url": format!("{odd}&var-application_name=All"), "applications": [{
            "name": ODD, "type": "", "url": format!("{odd}&var-application_name={ODD_ENCODED}&var-name=All"),
            "instances": [instance(ODD, "", "prometheus",
                format!("{odd}&var-application_name={ODD_ENCODED}&var-name=All&var-application_guid={ODD_ENCODED}"))],
        }] },
        { "name": "ticktock", "url": format!("{ticktock}&var-application_name=All"), "applications": [
            { "name": "log", "type": "sink", "url": of("log"), "instances": [
                instance("g-log2", "2", "wavefront", format!("{}&var-application_guid=g-log2", of("log"))),
                instance("g-log", "10", "wavefront", format!("{}&var-application_guid=g-log", of("log"))),
            ] },
            { "name": "time", "type": "source", "url": of("time"), "instances": [
                instance("g-time", "0", "influx", format!("{}&var-application_guid=g-time", of("time"))),
            ] },
        ] },
    ]);
    assert_eq!(listed["streams"], expected);
    let etl = format!("{tasks}&var-task_name=etl&var-task_name=All");
    let execution = json!({
        "id": "7", "application": "etl-app", "type": "", "guid": "g-7", "index": "", "dialects": ["prometheus"],
        "url": format!("{etl}&var-task_execution_id=7"),
    });
    assert_eq!(listed["tasks"], json!([{ "name": "etl", "url": etl, "executions": [execution] }]));
    for path in ["/api/v1/streams", "/assets/streams.js"] {
        assert_eq!(http::post(&gateway.url(path), "").status, 405, "{path}");
    }
}

#[test]
fn without_dashboards_there_are_no_addresses() {
    let gateway = gateway().start();
    send(&gateway);
    let listed = listed(&gateway);
    assert!(listed["urls"].is_null() && listed["streams"][1]["url"].is_null(), "{listed}");
    assert!(listed["streams"][1]["applications"][0]["instances"][0]["url"].is_null(), "{listed}");
}

#[test]
fn a_series_that_ends_takes_its_instance_along() {
    let gateway = gateway().start();
    send(&gateway);
    listed(&gateway);
    let group = gateway.url("/metrics/job/j");
    let body = b"gone{stream_name=\"brief\",application_name=\"a\"} 1\n";
    assert_eq!(http::send("PUT", &group, &[], body).status, 200);
    let names = || {
        let listed = http::get(&gateway.url("/api/v1/streams")).json();
        let streams = listed["streams"].as_array().expect("a list").clone();
        streams.iter().map(|stream| stream["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    eventually(SOON, || if names().contains(&"brief".to_owned()) { Ok(()) } else { Err(names().join(", ")) });
    assert_eq!(http::send("DELETE", &group, &[], b"").status, 202);
    eventually(SOON, || if names().contains(&"brief".to_owned()) { Err(names().join(", ")) } else { Ok(()) });
    assert!(names().contains(&"ticktock".to_owned()), "others stay");
}

#[test]
fn buttons_on_the_page_lead_to_the_boards() {
    needs!("buttons_on_the_page_lead_to_the_boards", "chromium", "chromedriver");
    let grafana = destination::http().rule(|_| Some(status(200).header("Content-Type", "text/html").body("a board")));
    let base = grafana.base();
    let gateway = gateway().block(&format!("dashboards: {{ type: grafana, url: '{base}', refresh: 15s }}")).start();
    send(&gateway);
    listed(&gateway);
    let browser = Browser::start();
    let row = |section: &str, named: &str| format!("//section[@id='{section}']//tr[td='{named}']//a[text()='board']");
    let applications = "/d/scdf-applications/applications?refresh=15s&var-stream_name=";
    let clicks = [
        ("//a[text()='all streams']".to_owned(), "/d/scdf-streams/streams?refresh=15s".to_owned()),
        (row("streams-section", "ticktock"), format!("{applications}ticktock&var-application_name=All")),
        (row("streams-section", "log"), format!("{applications}ticktock&var-application_name=log&var-name=All")),
        (
            row("streams-section", "g-time"),
            format!("{applications}ticktock&var-application_name=time&var-name=All&var-application_guid=g-time"),
        ),
        (
            "(//section[@id='streams-section']//tr[contains(td, 'onerror')]//a[text()='board'])[1]".to_owned(),
            format!("{applications}{ODD_ENCODED}&var-application_name=All"),
        ),
        (
            row("tasks-section", "7"),
            "/d/scdf-tasks/tasks?refresh=15s&var-task_name=etl&var-task_name=All&var-task_execution_id=7".to_owned(),
        ),
    ];
    for (button, target) in clicks {
        browser.open(&gateway.url("/"));
        browser.click(&button);
        eventually(SOON, || {
            let (url, expected) = (browser.url(), format!("{base}{target}"));
            if url == expected { Ok(()) } else { Err(format!("{url} is not {expected}")) }
        });
        let asked: Vec<_> = grafana.requests().into_iter().map(|request| request.target).collect();
        assert!(asked.contains(&target), "{target} in {asked:?}");
    }
    browser.open(&gateway.url("/"));
    let shown = eventually(SOON, || {
        let text = browser.run("return document.querySelector('#streams').innerText");
        let text = text.as_str().unwrap_or_default().to_owned();
        if text.contains("onerror") { Ok(text) } else { Err(text) }
    });
    assert!(shown.contains(ODD), "as it was sent: {shown}");
    assert_eq!(browser.run("return document.querySelectorAll('main img').length"), 0, "and nothing but text");
    assert_eq!(browser.run("return [...document.querySelectorAll('#streams tbody a')].every(a => a.ariaLabel)"), true);
    let before =
        browser.run("window.kept = document.querySelector('#streams tbody a'); kept.focus(); return kept.href");
    gateway_goes_on(&gateway, &browser);
    let kept = "return [document.activeElement === window.kept, window.kept.isConnected, window.kept.href]";
    assert_eq!(browser.run(kept), json!([true, true, before]), "a button stays while its numbers change");
}

/// Sends one more stream, and waits until the page shows it.
fn gateway_goes_on(gateway: &Gateway, browser: &Browser) {
    let line = "m,stream_name=zzz,application_name=a value=1";
    assert_eq!(http::post(&gateway.url("/write?db=d"), line).status, 204);
    eventually(SOON, || {
        let text = browser.run("return document.querySelector('#streams').innerText");
        if text.as_str().unwrap_or_default().contains("zzz") { Ok(()) } else { Err(text.to_string()) }
    });
}
