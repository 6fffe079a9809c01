//! `dashboards`: where the buttons of the web page lead.

use super::walk::Section;
use super::{Board, Dashboards, address};
use std::time::Duration;

/// Grafana refreshes by whole seconds.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// As of Spring Cloud Data Flow.
const REFRESH: Duration = Duration::from_secs(15);
const SOURCE: &str = "default-scdf-source";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grafana,
    Wavefront,
}

pub(super) fn read(section: Section<'_>) -> Option<Dashboards> {
    let kind = section.key("type").required().one_of(&[("grafana", Kind::Grafana), ("wavefront", Kind::Wavefront)]);
    let url = section.key("url").required().try_read(|text| {
        let (url, target) = address::base(text, &["http", "https"])?;
        // Everybody who sees the page sees it.
        if target.credentials.is_none() { Ok(url) } else { Err("expected a URL without user and password".to_owned()) }
    });
    let (refresh, source) = (section.key("refresh"), section.key("source"));
    for (key, owner, whose) in [(&refresh, Kind::Grafana, "grafana"), (&source, Kind::Wavefront, "wavefront")] {
        if key.is_given() && kind.is_some_and(|kind| kind != owner) {
            key.mistake(format!("belongs to type: {whose}"));
        }
    }
    let every = refresh.duration(REFRESH_MIN).unwrap_or(REFRESH);
    if every.subsec_nanos() > 0 {
        refresh.mistake("expected whole seconds");
    }
    // In lower case, as Data Flow hands it to Wavefront.
    let source = source.filled_text().map_or(SOURCE.to_owned(), |source| source.to_lowercase());
    section.finish();
    let board = match kind? {
        Kind::Grafana => Board::Grafana { refresh: every },
        Kind::Wavefront => Board::Wavefront { source },
    };
    Some(Dashboards { url: url?, board })
}
