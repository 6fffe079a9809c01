//! A Wavefront proxy as a destination: report URLs, the TCP line socket, and the meaning of its answers.

use super::verdict::{Answer, Verdict};

/// The report endpoint. Points and distributions go to separate requests: a proxy told one kind refuses the other.
pub fn report_url(base: &str, distributions: bool) -> String {
    let form = if distributions { "histogram" } else { "wavefront" };
    let base = base.trim_end_matches('/');
    let base = base.strip_suffix("/report").unwrap_or(base);
    format!("{base}/report?f={form}")
}

/// What an answer means. A proxy answers 202 as soon as it has parsed the request, whatever it thinks of the lines; that is
/// why lines are validated before they are sent.
///
/// 406 is the back end pushing back. 400 is a body that the proxy could not read at all.
pub fn verdict(answer: &Answer) -> Verdict {
    match answer.status {
        406 => Verdict::Retry { after: answer.retry_after },
        _ => Verdict::in_general(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_meaning() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                400 | 409 | 422 => Verdict::Suspect,
                413 => Verdict::TooLarge,
                406 | 408 | 425 | 429 | 500..=599 => Verdict::Retry { after: None },
                _ => Verdict::Misconfigured { after: None },
            };
            assert_eq!(verdict(&Answer::status(status)), expected, "{status}");
        }
    }

    #[test]
    fn report_urls_keep_a_prefix_and_do_not_repeat_themselves() {
        assert_eq!(report_url("http://h:2878", false), "http://h:2878/report?f=wavefront");
        assert_eq!(report_url("http://h/wf/report/", true), "http://h/wf/report?f=histogram");
    }
}
