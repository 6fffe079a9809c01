//! Groups of the Pushgateway: what ends in them and when, their times, and what is left of them after a restart.

#![allow(clippy::float_cmp, reason = "values pass through unchanged")]

use super::fixture::Fixture;
use crate::log::Aside;
use crate::model::{Format, Refusal, is_stale_marker};

/// The steps of a request each, and the series that each ends, without the times of pushes.
async fn ends(fixture: &Fixture, steps: &[(&str, &[u8], &[&str])]) {
    for (request, body, stale) in steps {
        let before = fixture.samples().await.len();
        let answer = fixture.exchange(request, "", body).await;
        assert!(answer.status == 200 || answer.status == 202, "{answer:?}");
        let samples = fixture.samples().await;
        let ended = samples[before..].iter().filter(|(_, value)| is_stale_marker(*value));
        let ended: Vec<_> =
            ended.map(|(series, _)| series.as_str()).filter(|series| !series.starts_with("push_")).collect();
        assert_eq!(ended, *stale, "{request}");
    }
}

/// The last values of the times of a group: of the last push and of the last failure.
async fn times(fixture: &Fixture, group: &str) -> [f64; 2] {
    let samples = fixture.samples().await;
    ["push_time_seconds", "push_failure_time_seconds"].map(|name| {
        let name = format!("{name}{{{group}}}");
        samples.iter().rev().find(|(series, _)| *series == name).map_or(-1.0, |(_, value)| *value)
    })
}

#[tokio::test]
async fn what_leaves_a_pushed_group_is_marked_stale() {
    let fixture = Fixture::start().await;
    let steps: [(&str, &[u8], &[&str]); 6] = [
        ("PUT /metrics/job/j", b"a 1\nb 1\n", &[]),
        ("POST /metrics/job/j", b"b 2\nc 1\n", &[]),
        ("PUT /metrics/job/other", b"d 1\n", &[]),
        ("PUT /metrics/job/j", b"c 2\n", &["a{job=j}", "b{job=j}"]),
        ("DELETE /metrics/job/j", b"", &["c{job=j}"]),
        ("DELETE /metrics/job/j", b"", &[]),
    ];
    ends(&fixture, &steps).await;
    let times = times(&fixture, "job=j").await;
    assert!(times.iter().all(|time| is_stale_marker(*time)), "the times end with their group: {times:?}");
}

#[tokio::test]
async fn a_pushed_series_lives_on_when_it_was_idle_or_is_declared_differently() {
    let fixture = Fixture::start().await;
    let grow_idle = || (0..70).map(|_| fixture.gate.table.sweep()).sum::<usize>();
    for (body, idle) in [(&b"a 1\n"[..], true), (b"a 2\n", false), (b"# TYPE a gauge\na 3\n", true)] {
        assert_eq!(fixture.exchange("PUT /metrics/job/j", "", body).await.status, 200);
        if idle {
            assert!(grow_idle() > 0);
        }
    }
    let pushed = fixture.samples().await.into_iter().filter(|(series, _)| series == "a{job=j}");
    assert_eq!(pushed.map(|(_, value)| value).collect::<Vec<_>>(), [1.0, 2.0, 3.0], "none of them was ended");
    let before = fixture.samples().await.len();
    fixture.exchange("DELETE /metrics/job/j", "", b"").await;
    let mut ended: Vec<_> = fixture.samples().await.drain(before..).collect();
    ended.sort_by(|(left, _), (right, _)| left.cmp(right));
    assert!(ended[0].0 == "a{job=j}" && is_stale_marker(ended[0].1), "an idle one is ended all the same: {ended:?}");
}

#[tokio::test]
async fn a_push_that_is_read_and_refused_is_noted_with_its_time() {
    let fixture = Fixture::start().await;
    let push = async |body: &[u8]| fixture.exchange("POST /metrics/job/j", "", body).await;
    assert_eq!(push(b"a 1\na 2\n").await.status, 400);
    let [pushed, first] = times(&fixture, "job=j").await;
    assert!(pushed == 0.0 && first > 1.7e9, "never pushed, failed: {pushed}, {first}");
    assert_eq!(fixture.rejected(Format::PrometheusText, Refusal::AllOrNothing), 2);
    assert_eq!(push(b"a{ 1\n").await.status, 400, "cannot be read");
    assert_eq!(times(&fixture, "job=j").await, [pushed, first]);
    assert_eq!(push(b"a 1 1000\na 2 2000\n").await.status, 200, "of two times");
    let [pushed, failed] = times(&fixture, "job=j").await;
    assert!(pushed > first && failed == first, "{pushed}, {failed}");
    let answer = push(b"b 1\n# TYPE c counter\nc 1\nc 2\n").await;
    assert!(answer.status == 400 && answer.contains("the series c is there more than once"), "{answer:?}");
    assert!(times(&fixture, "job=j").await[1] > first);
    assert_eq!(push(b"push_time_seconds 5\n").await.status, 200);
    assert_eq!(times(&fixture, "job=j").await[0], 5.0, "whoever brings the time has it");
}

#[tokio::test]
async fn groups_outlive_a_restart() {
    let fixture = Fixture::start().await;
    let steps: [(&str, &[u8], &[&str]); 3] = [
        ("PUT /metrics/job/j", b"a 1\nb 1\n", &[]),
        ("POST /metrics/job/j", b"b 2\nc 1\n", &[]),
        ("PUT /metrics/job/k/instance@base64/aS8x", b"d 1\n", &[]),
    ];
    ends(&fixture, &steps).await;
    assert_eq!(fixture.exchange("POST /metrics/job/k/instance/i%2F1", "", b"e 1\ne 2\n").await.status, 400);
    let times_before = times(&fixture, "instance=i/1,job=k").await;
    let fixture = fixture.restart().await.restart().await;
    ends(&fixture, &[("PUT /metrics/job/j", b"c 2\n", &["a{job=j}", "b{job=j}"])]).await;
    ends(&fixture, &[("POST /metrics/job/k/instance/i%2F1", b"f 1\n", &[])]).await;
    let [pushed, failed] = times(&fixture, "instance=i/1,job=k").await;
    assert!(pushed > times_before[0] && failed == times_before[1], "{times_before:?}, {pushed}, {failed}");
    ends(&fixture, &[("DELETE /metrics/job/j", b"", &["c{job=j}"])]).await;
    let fixture = fixture.restart().await;
    let steps: [(&str, &[u8], &[&str]); 2] = [
        ("DELETE /metrics/job/j", b"", &[]),
        ("DELETE /metrics/job/k/instance/i%2F1", b"", &["d{instance=i/1,job=k}", "f{instance=i/1,job=k}"]),
    ];
    ends(&fixture, &steps).await;
    assert_eq!(std::fs::read_dir(fixture.pushed_dir()).unwrap().count(), 0, "nothing is left of groups that are gone");
}

#[tokio::test]
async fn a_push_that_a_power_failure_brings_back_is_replaced_again() {
    let fixture = Fixture::start().await;
    ends(&fixture, &[("PUT /metrics/job/j", b"a 1\n", &[])]).await;
    let path = fixture.pushed_dir().join("0.push");
    let bytes = std::fs::read(&path).unwrap();
    ends(&fixture, &[("PUT /metrics/job/j", b"b 1\n", &["a{job=j}"])]).await;
    assert!(!path.exists());
    std::fs::write(&path, bytes).unwrap();
    let fixture = fixture.restart().await;
    assert!(!path.exists(), "of no use");
    ends(&fixture, &[("DELETE /metrics/job/j", b"", &["b{job=j}"])]).await;
}

#[tokio::test]
async fn a_damaged_push_is_set_aside_and_costs_itself() {
    let fixture = Fixture::start().await;
    let put = async |job: &str| fixture.exchange(&format!("PUT /metrics/job/{job}"), "", b"a 1\n").await;
    assert_eq!([put("j").await.status, put("k").await.status], [200, 200]);
    let path = fixture.pushed_dir().join("0.push");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(fixture.pushed_dir().join("7.tmp"), "half").unwrap();
    let fixture = fixture.restart().await;
    let aside = path.with_extension(format!("push.{}", Aside::Damaged.as_str()));
    assert!(aside.exists() && !path.exists());
    assert_eq!(fixture.gate.log.stats().damage.set_aside, [aside]);
    ends(&fixture, &[("DELETE /metrics/job/j", b"", &[]), ("DELETE /metrics/job/k", b"", &["a{job=k}"])]).await;
    assert_eq!(std::fs::read_dir(fixture.pushed_dir()).unwrap().count(), 1, "what a crash left unfinished is gone");
}

#[tokio::test]
async fn a_push_whose_group_cannot_be_saved_is_passed_on_and_told() {
    let fixture = Fixture::start().await;
    let (dir, away) = (fixture.pushed_dir(), fixture.pushed_dir().with_extension("away"));
    ends(&fixture, &[("PUT /metrics/job/j", b"a 1\n", &[]), ("PUT /metrics/job/k", b"a 1\n", &[])]).await;
    // A file in the place of the directory: nothing can be created in it.
    std::fs::rename(&dir, &away).unwrap();
    std::fs::write(&dir, "").unwrap();
    for job in ["j", "k"] {
        let answer = fixture.exchange(&format!("PUT /metrics/job/{job}"), "", b"b 1\n").await;
        assert!(answer.status == 503 && answer.contains("retry-after"), "{answer:?}");
        assert!(answer.contains("cannot be saved"), "{answer:?}");
    }
    assert!(fixture.samples().await.iter().any(|(series, _)| series == "b{job=j}"), "in the log all the same");
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&away, &dir).unwrap();
    ends(&fixture, &[("PUT /metrics/job/j", b"c 1\n", &["b{job=j}"])]).await;
    ends(&fixture, &[("DELETE /metrics/job/k", b"", &["b{job=k}"])]).await;
    let fixture = fixture.restart().await;
    ends(&fixture, &[("DELETE /metrics/job/j", b"", &["c{job=j}"]), ("DELETE /metrics/job/k", b"", &[])]).await;
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "what the disk did not take leaves nothing behind");
}

#[tokio::test]
async fn without_room_a_group_is_passed_on_and_nothing_of_it_is_kept() {
    let fixture = Fixture::with(|limits| limits.pushed_bytes_max = 4 << 10, usize::MAX).await;
    assert_eq!(fixture.exchange("PUT /metrics/job/j", "", b"a 1\n").await.status, 200);
    let long = [b"a 1\n# ".to_vec(), vec![b'x'; 4 << 10], b"\n".to_vec()].concat();
    assert_eq!(fixture.exchange("PUT /metrics/job/j", "", &long).await.status, 200, "more than its file may be");
    assert_eq!(std::fs::read_dir(fixture.pushed_dir()).unwrap().count(), 0);
    assert_eq!(fixture.gate.ledger.groups_forgotten(), 1);
    let fixture = fixture.restart().await;
    ends(&fixture, &[("DELETE /metrics/job/j", b"", &[])]).await;
}

#[tokio::test]
async fn groups_that_a_start_has_no_room_for_are_kept_for_one_that_has() {
    let fixture = Fixture::start().await;
    let long = [b"a 1\n# ".to_vec(), vec![b'x'; 16 << 10], b"\n".to_vec()].concat();
    let steps: [(&str, &[u8], &[&str]); 3] = [
        ("PUT /metrics/job/small", b"b 1\n", &[]),
        ("PUT /metrics/job/large", &long, &[]),
        ("POST /metrics/job/large", b"c 1\n", &[]),
    ];
    ends(&fixture, &steps).await;
    let kept = ["1.push", "2.push"].map(|name| fixture.pushed_dir().join(name));
    let aside = kept.each_ref().map(|path| path.with_extension("push.no_room"));
    let fixture = fixture.restart_with(|limits| limits.pushed_bytes_max = 16 << 10).await;
    assert_eq!(fixture.gate.ledger.groups_forgotten(), 1);
    assert_eq!(fixture.gate.log.stats().damage.set_aside, aside[..1], "the other one fits");
    ends(&fixture, &[("DELETE /metrics/job/small", b"", &["b{job=small}"])]).await;
    ends(&fixture, &[("DELETE /metrics/job/large", b"", &["c{job=large}"])]).await;
    ends(&fixture, &[("PUT /metrics/job/next", b"d 1\n", &[])]).await;
    std::fs::rename(&aside[0], &kept[0]).unwrap();
    let fixture = fixture.restart_with(|limits| limits.pushed_bytes_max = 1 << 20).await;
    ends(&fixture, &[("DELETE /metrics/job/large", b"", &["a{job=large}"])]).await;
    ends(&fixture, &[("DELETE /metrics/job/next", b"", &["d{job=next}"])]).await;
}

#[tokio::test]
async fn what_cannot_be_pushed_for_want_of_room_says_when_to_come_again() {
    let fixture = Fixture::with(|limits| limits.series_per_source_max = Some(4), usize::MAX).await;
    assert_eq!(fixture.exchange("PUT /metrics/job/j", "", b"a 1\nb 1\n").await.status, 200, "with two times");
    for (group, body) in [("j", &b"c 1\n"[..]), ("k", b"")] {
        let answer = fixture.exchange(&format!("PUT /metrics/job/{group}"), "", body).await;
        assert!(answer.status == 429 && answer.contains("retry-after"), "{group}: {answer:?}");
    }
    let [pushed, failed] = times(&fixture, "job=j").await;
    assert!(failed > pushed, "a failure of the group: {pushed}, {failed}");
}
