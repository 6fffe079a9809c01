//! Counters of Micrometer between the dialects that tell what was added and those that tell the sum.

use crate::support::destination::{self, Destination};
use crate::support::gateway::{Gateway, gateway};
use crate::support::http;
use sluicegate::clock;

const STEP_MS: i64 = 60_000;

/// A time in the past, in milliseconds, at the beginning of a step.
fn past(steps: i64) -> i64 {
    (clock::now() / 1_000_000 / STEP_MS - steps) * STEP_MS
}

fn write(gateway: &Gateway, lines: &str) {
    let answer = http::post(&gateway.url("/write?db=x&precision=ms"), lines);
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn prometheus(sink: &Destination) -> String {
    format!("prometheus_remote_write: {{ {} }}", sink.url())
}

fn import(gateway: &Gateway, text: &str) {
    let answer = http::post(&gateway.url("/api/v1/import/prometheus"), text);
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// What was delivered of a name: value and timestamp.
fn taken(sink: &Destination, name: &str) -> Vec<(f64, i64)> {
    let lines = sink.lines();
    let of_name = lines.iter().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let numbers = of_name.map(|line| {
        let mut parts = line.rsplit(' ');
        let (time, value) = (parts.next().expect("a time"), parts.next().expect("a value"));
        (value.parse().expect("a number"), time.parse().expect("a time"))
    });
    numbers.collect()
}

#[test]
fn deltas_add_up_over_a_crash_and_a_retry_adds_nothing() {
    let sink = destination::remote_write();
    let gateway = gateway().output("prom", &prometheus(&sink)).start();
    let first = past(10);
    let at = |step: i64| first + step * STEP_MS;
    let line = |value: i64, step: i64| {
        format!("spring_integration_receive,application_guid=g,metric_type=counter value={value} {}", at(step))
    };
    write(&gateway, &line(3, 0));
    write(&gateway, &line(4, 1));
    gateway.drained();
    let gateway = gateway.crash_and_restart();
    // Its answer was lost, so the sender tries again; then it goes on.
    write(&gateway, &line(4, 1));
    write(&gateway, &line(5, 2));
    write(&gateway, &line(1, 0));
    gateway.drained();
    let mut sums = taken(&sink, "spring_integration_receive_total");
    // Of what was delivered right before the crash, some may be sent again.
    sums.dedup();
    sums.sort_by_key(|(_, time)| *time);
    sums.dedup();
    assert_eq!(sums, [(3.0, at(0)), (7.0, at(1)), (12.0, at(2))]);
    assert_eq!(gateway.dropped("prom"), [("late_delta".to_owned(), 1.0)]);
    gateway.balanced();
}

#[test]
fn so_do_distributions_of_a_timer_whose_shape_alone_is_lost() {
    let sink = destination::remote_write();
    let gateway = gateway().output("prom", &prometheus(&sink)).start();
    let first = past(10);
    let report = |gateway: &Gateway, centroids: &str, minute: i64| {
        let line = format!("!M {} {centroids} http.client.requests source=s\n", first + minute * STEP_MS);
        assert_eq!(http::post(&gateway.url("/report?f=histogram"), line).status, 202);
    };
    report(&gateway, "#3 0.5", 0);
    report(&gateway, "#1 0.125 #3 0.5", 1);
    gateway.drained();
    let gateway = gateway.crash_and_restart();
    report(&gateway, "#1 0.125 #3 0.5", 1);
    report(&gateway, "#5 0.5", 2);
    report(&gateway, "#1 0.5", 0);
    gateway.drained();
    let sums = |name: &str| {
        let mut sums = taken(&sink, name);
        sums.sort_by_key(|(_, time)| *time);
        // Of what was delivered right before the crash, some may be sent again.
        sums.dedup();
        sums
    };
    let at = |minute: i64| first + (minute + 1) * STEP_MS;
    assert_eq!(sums("http_client_requests_seconds_count"), [(3.0, at(0)), (7.0, at(1)), (12.0, at(2))]);
    assert_eq!(sums("http_client_requests_seconds_sum"), [(1.5, at(0)), (3.125, at(1)), (5.625, at(2))]);
    assert_eq!(sums("http_client_requests_seconds_max"), [(0.5, at(0)), (0.5, at(1)), (0.5, at(2))]);
    let bucket = "http_client_requests_seconds_bucket";
    let below = sink.lines().into_iter().filter(|line| line.starts_with(bucket) && line.contains("le=\"0.134217727\""));
    let below: Vec<_> = below.filter(|line| line.ends_with(&at(2).to_string())).collect();
    assert!(below.iter().all(|line| line.contains(" 1 ")) && !below.is_empty(), "{below:?}");
    // What came late: a count, a sum and 68 buckets.
    assert_eq!(gateway.dropped("prom"), [("distribution".to_owned(), 5.0), ("late_delta".to_owned(), 70.0)]);
    gateway.balanced();
}

#[test]
fn sums_go_on_after_every_output_had_them_and_the_gateway_was_stopped() {
    let sink = destination::remote_write();
    let mut running = gateway().output("prom", &prometheus(&sink)).start();
    let first = past(10);
    for step in 0..4 {
        let time = first + step * STEP_MS;
        write(&running, &format!("fn_counter,stream_name=s,metric_type=counter value=2 {time}"));
        running.drained();
        running = if step % 2 == 0 { running.crash_and_restart() } else { running.stop().start() };
    }
    let mut sums: Vec<_> = taken(&sink, "fn_counter_total").into_iter().map(|(sum, _)| sum).collect();
    sums.dedup();
    assert_eq!(sums, [2.0, 4.0, 6.0, 8.0]);
}

#[test]
fn what_is_cumulative_arrives_by_the_step_in_line_protocol() {
    let sink = destination::of("influxdb");
    let gateway = gateway().output("influx", &format!("influxdb: {{ {}, database: x }}", sink.url())).start();
    let first = past(10);
    // Asked every 20 seconds, three times a step; 0.5 s and one call more each time.
    for number in 0..9 {
        let (time, calls) = (first + number * 20_000, number + 10);
        let text = format!(
            "# TYPE send_seconds summary\nsend_seconds_count{{application_guid=\"g\"}} {calls} {time}\n\
             send_seconds_sum{{application_guid=\"g\"}} {} {time}\n\
             # TYPE send_seconds_max gauge\nsend_seconds_max{{application_guid=\"g\"}} 0.5 {time}\n",
            calls as f64 * 0.5,
        );
        import(&gateway, &text);
    }
    gateway.drained();
    let rows = sink.lines();
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (row, step) in rows.iter().zip(1..) {
        let time = (first + step * STEP_MS) * 1_000_000;
        assert!(row.starts_with("send,application_guid=g,metric_type=histogram "), "{row}");
        assert!(row.ends_with(&format!(" {time}")), "{row}");
        for field in ["count=3", "sum=1500", "mean=500", "upper=500"] {
            assert!(row.split([' ', ',']).any(|part| part == field), "{field} in {row}");
        }
    }
    let dropped: f64 = gateway.dropped("influx").iter().map(|(_, samples)| samples).sum();
    assert_eq!(gateway.dropped("influx"), [("within_step".to_owned(), dropped)]);
    gateway.balanced();
}
