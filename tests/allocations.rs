//! Nothing per sample allocates: decoding known series and encoding rendered ones asks for memory only as buffers double.
//! And what the series table says that it occupies is what it asked for.

#![allow(clippy::unwrap_used)] // a test may panic
#![expect(unsafe_code, reason = "a global allocator is unsafe by its declaration; this one only counts")]

use sluicegate::model::{Batch, BatchBuilder, Format, Losses, SeriesTable};
use sluicegate::wire::{SampleRef, influx_line, openmetrics, prometheus_text, remote_write, remote_write2, wavefront};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;
use std::sync::Arc;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// What an allocation occupies, in units of two words with one word before it, as glibc has it.
fn hold(size: usize, sign: i64) {
    HELD.with(|held| held.set(held.get() + sign * ((size + 8).next_multiple_of(16).max(32) as i64)));
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        hold(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(layout.size(), -1);
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        hold(layout.size(), -1);
        hold(size, 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SAMPLES: usize = 4096;
/// What a request may ask for as a whole: its buffers double some ten times each.
const REQUEST_ALLOCATIONS_MAX: u64 = 64;
const NOW: i64 = 1_700_000_000_000_000_000;

/// Allocations of this thread while `work` runs.
fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (result, ALLOCATIONS.with(Cell::get) - before)
}

fn repeated(line: impl Fn(&mut String, usize)) -> Vec<u8> {
    let mut body = String::new();
    (0..SAMPLES).for_each(|number| line(&mut body, number));
    body.into_bytes()
}

fn body(table: &SeriesTable, format: Format) -> Vec<u8> {
    let exposition = |body: &mut String, number: usize| {
        writeln!(body, "http_total{{instance=\"10.0.0.{number}\",code=\"200\",path=\"/a b\"}} {number}.25").unwrap();
    };
    match format {
        Format::PrometheusText => {
            [&b"# TYPE http_total counter\n# HELP http_total Requests.\n"[..], &repeated(exposition)].concat()
        }
        Format::OpenMetrics => [&b"# TYPE http counter\n"[..], &repeated(exposition), b"# EOF\n"].concat(),
        Format::InfluxLine => repeated(|body, number| {
            let separator = if number % 2 == 0 { "," } else { "\n" };
            let head = if number % 2 == 0 { format!("cpu,host=web{number},zone=a ") } else { String::new() };
            let time = if number % 2 == 0 { "" } else { " 1700000000000000000" };
            write!(body, "{head}field_{}={number}.5{time}{separator}", number % 2).unwrap();
        }),
        Format::Wavefront => repeated(|body, number| {
            writeln!(body, "\"http.total\" {number}.5 1700000000 source=\"web{number}\" \"zone\"=\"a\"").unwrap();
        }),
        Format::RemoteWrite | Format::RemoteWrite2 => {
            let text = decoded(table, Format::PrometheusText, &body(table, Format::PrometheusText));
            encoder(table, &text, format)().0
        }
    }
}

fn decoded(table: &SeriesTable, format: Format, body: &[u8]) -> Batch {
    let mut out = BatchBuilder::new(table, format, Vec::new());
    let text = prometheus_text::decode::Options { now: NOW, timestamp: None };
    let report = match format {
        Format::PrometheusText => prometheus_text::decode::decode(body, &text, &mut out),
        Format::OpenMetrics => openmetrics::decode::decode(body, &text, &mut out),
        Format::InfluxLine => influx_line::decode::decode(body, &influx_line::decode::Options::default(), &mut out),
        Format::Wavefront => wavefront::decode::decode(body, &wavefront::decode::Options::at(NOW), &mut out),
        Format::RemoteWrite => {
            remote_write::decode::decode(body, &remote_write::decode::Options::default(), &mut out).unwrap().report
        }
        Format::RemoteWrite2 => {
            remote_write2::decode::decode(body, &remote_write2::decode::Options::default(), &mut out).unwrap().report
        }
    };
    assert_eq!((report.accepted, report.refused()), (SAMPLES as u64, 0), "{format:?}: {:?}", report.first);
    out.finish()
}

/// Encodes the batch at every call: the body, and the allocations of the pushes.
fn encoder<'a>(table: &'a SeriesTable, batch: &'a Batch, format: Format) -> Box<dyn FnMut() -> (Vec<u8>, u64) + 'a> {
    macro_rules! of {
        ($module:ident, $options:expr $(, $metadata:expr)?) => {{
            let options = $options;
            let rendered = |sample: &sluicegate::model::Sample| {
                let series = table.series(sample.series).unwrap();
                Arc::new($module::encode::render(&series, &options $(, $metadata)?).unwrap())
            };
            let rendered: Vec<_> = batch.samples.iter().map(rendered).collect();
            let mut encoder = $module::encode::Encoder::new(options);
            Box::new(move || {
                let mut losses = Losses::default();
                let ((), allocations) = counted(|| {
                    for (sample, rendered) in batch.samples.iter().zip(&rendered) {
                        let (timestamp, flags) = (sample.timestamp, sample.flags);
                        let sample = SampleRef { timestamp, value: batch.value(sample), start: None, flags };
                        encoder.push(rendered, &sample, &mut losses).unwrap();
                    }
                });
                let body = encoder.finish(&mut losses);
                assert_eq!(body.samples(), SAMPLES as u64);
                (body.part(0, body.cuts.len()).into_owned(), allocations)
            })
        }};
    }
    match format {
        Format::InfluxLine => of!(influx_line, influx_line::encode::Options::default()),
        Format::Wavefront => of!(wavefront, wavefront::encode::Options::new("gateway".to_owned())),
        Format::RemoteWrite => of!(remote_write, remote_write::encode::Options::default(), &|_| None),
        Format::RemoteWrite2 => of!(remote_write2, remote_write2::encode::Options::default(), &|_| None),
        Format::PrometheusText | Format::OpenMetrics => panic!("an exposition is not streamed"),
    }
}

#[test]
fn decoding_known_series_allocates_nothing_per_sample() {
    for format in Format::ALL {
        let table = SeriesTable::default();
        let body = body(&table, format);
        let first = decoded(&table, format, &body);
        let (again, allocations) = counted(|| decoded(&table, format, &body));
        assert!(first.samples.iter().zip(&again.samples).all(|(first, again)| first.series == again.series));
        println!("decode/{}: {allocations} allocations for {SAMPLES} samples", format.as_str());
        assert!(allocations <= REQUEST_ALLOCATIONS_MAX, "{}: {allocations}", format.as_str());
    }
}

#[test]
fn encoding_rendered_series_allocates_nothing_per_sample() {
    for format in [Format::InfluxLine, Format::Wavefront, Format::RemoteWrite, Format::RemoteWrite2] {
        let table = SeriesTable::default();
        let text = decoded(&table, Format::InfluxLine, &body(&table, Format::InfluxLine));
        let mut encode = encoder(&table, &text, format);
        let (first, _) = encode();
        let (again, allocations) = encode();
        assert_eq!(first, again);
        println!("encode/{}: {allocations} allocations for {SAMPLES} samples", format.as_str());
        assert!(allocations <= REQUEST_ALLOCATIONS_MAX, "{}: {allocations}", format.as_str());
    }
}

#[test]
fn rows_with_strings_that_are_known_allocate_nothing_per_sample() {
    use sluicegate::output::strings::carried;
    use sluicegate::wire::prometheus_names::{Strings, Style};
    let table = SeriesTable::default();
    let body = repeated(|body, number| match number % 4 {
        0 => write!(body, "cpu,host=web{number} a={number}.5").unwrap(),
        3 => writeln!(body, ",t=\"up\" 1700000000000000000").unwrap(),
        field => write!(body, ",s{field}=\"state {}\"", number % 7).unwrap(),
    });
    let batch = decoded(&table, Format::InfluxLine, &body);
    for strings in [Strings::Label, Strings::Info] {
        let style = Style { strings, ..Style::default() };
        let first = carried(&batch, &table, &style).into_owned();
        let (again, allocations) = counted(|| carried(&batch, &table, &style));
        assert!(first.iter().zip(again.iter()).all(|(first, again)| first.series == again.series));
        println!("{strings:?}: {allocations} allocations for {SAMPLES} samples");
        assert!(allocations <= 4, "{strings:?}: {allocations}");
    }
}

#[test]
fn the_series_table_occupies_about_what_it_says() {
    let occupied = |name: fn(usize) -> String, instance: fn(usize) -> String| {
        let table = SeriesTable::default();
        let (before, said) = (HELD.with(Cell::get), table.bytes());
        for number in 0..50_000 {
            let line = format!("{}{{job=\"api\",instance=\"{}\"}} 1\n", name(number), instance(number));
            let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
            let options = prometheus_text::decode::Options { now: NOW, timestamp: None };
            assert_eq!(prometheus_text::decode::decode(line.as_bytes(), &options, &mut builder).refused(), 0);
        }
        assert_eq!(table.len(), 50_000);
        (table.bytes() - said) as f64 / (HELD.with(Cell::get) - before) as f64
    };
    let shapes = [
        ("all is shared", occupied(|n| format!("metric_{}", n % 500), |n| format!("host-{}", n / 500))),
        ("names are shared", occupied(|n| format!("metric_{}", n % 5), |n| format!("host-{n}"))),
        ("labels are shared", occupied(|n| format!("metric_{n}"), |n| format!("host-{}", n % 5))),
        ("nothing is shared", occupied(|n| format!("metric_{n}"), |n| format!("host-{n}"))),
    ];
    println!("{shapes:?}");
    assert!(shapes.iter().all(|(_, ratio)| (0.75..1.3).contains(ratio)), "{shapes:?}");
}
