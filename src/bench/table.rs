//! A comparison as text: medians with their spread, and the machine.

use super::compare::{Comparison, Point, Round};
use super::contender::Contender;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write as _;

/// The middle of some numbers, the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median; of an even count, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// The spread of at least one number.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median, least, greatest })
    }

    fn text(self, decimals: usize) -> String {
        let Self { median, least, greatest } = self;
        format!("{median:.decimals$} ({least:.decimals$}-{greatest:.decimals$})")
    }
}

/// The rounds of one gateway on one path.
type Rounds<'a> = Vec<&'a Round>;

/// The whole comparison as Markdown: a table, and beneath it what its numbers depend on.
pub fn markdown(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "path",
        "series",
        "connections",
        "gateway",
        "CPU s / M samples",
        "times less CPU than vmagent",
        "peak memory MB",
        "k samples/s",
        if comparison.rate.is_none() { "p99 ms at half speed" } else { "p99 ms" },
        "bytes/sample in -> out",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if let Some(gateway) = table.column_mut(3) {
        gateway.set_cell_alignment(CellAlignment::Left);
    }
    for rounds in grouped(comparison) {
        let first = rounds[0];
        let spread = |number: fn(&Round) -> f64, decimals| {
            Spread::of(rounds.iter().map(|round| number(round))).map_or_else(String::new, |it| it.text(decimals))
        };
        let sent: Vec<_> = (0..first.outputs.len())
            .filter_map(|output| Spread::of(rounds.iter().map(|round| round.bytes_per_sample[output])))
            .map(|spread| format!("{:.0}", spread.median))
            .collect();
        table.add_row([
            format!("{} -> {}", first.input, first.outputs.join(" + ")),
            first.point.series.to_string(),
            first.point.connections.to_string(),
            first.contender.as_str().to_owned(),
            spread(|round| round.cpu_seconds_per_million, 3),
            ratio(comparison, &rounds).map_or_else(String::new, |it| it.text(2)),
            spread(|round| round.resident_bytes_max as f64 / 1e6, 0),
            spread(|round| round.samples_per_second / 1e3, 0),
            spread(|round| round.paced().p99, 1),
            format!("{:.0} -> {}", first.bytes_per_sample_in, sent.join(" + ")),
        ]);
    }
    let mut text = format!("{table}\n");
    notes(&mut text, comparison);
    text
}

/// What a round measured, but for who did it.
fn path(round: &Round) -> (&str, &[&str], Point) {
    (round.input, &round.outputs, round.point)
}

/// The rounds by path, size and gateway, in the order of their first.
fn grouped(comparison: &Comparison) -> Vec<Rounds<'_>> {
    let mut groups: Vec<Rounds<'_>> = Vec::new();
    for round in &comparison.rounds {
        let same = |group: &&mut Rounds<'_>| (group[0].contender, path(group[0])) == (round.contender, path(round));
        match groups.iter_mut().find(same) {
            Some(group) => group.push(round),
            None => groups.push(vec![round]),
        }
    }
    groups.sort_by_key(|group| group[0].outputs.len());
    groups
}

/// How many times less CPU time than vmagent's on the same path, round by round.
fn ratio(comparison: &Comparison, rounds: &Rounds<'_>) -> Option<Spread> {
    let is_peer = |group: &Rounds<'_>| group[0].contender == Contender::Vmagent && path(group[0]) == path(rounds[0]);
    let peer = grouped(comparison).into_iter().find(is_peer)?;
    let pairs = rounds.iter().zip(peer);
    Spread::of(pairs.map(|(round, peer)| peer.cpu_seconds_per_million / round.cpu_seconds_per_million))
}

fn notes(text: &mut String, comparison: &Comparison) {
    let rounds = grouped(comparison).first().map_or(0, Vec::len);
    let speed = comparison.rate.map_or_else(|| "full speed".to_owned(), |rate| format!("{rate} samples a second"));
    let _ = writeln!(text, "\nMedian (least-greatest) of {rounds} alternating rounds. {}.", comparison.machine);
    let samples: u64 = comparison.rounds.iter().map(|round| round.samples).min().unwrap_or(0);
    let _ = writeln!(
        text,
        "Series of ten labels, known to the gateway; {samples} samples a round or more in requests of {}, {speed}.",
        comparison.samples_per_request
    );
    if comparison.rate.is_none() {
        let _ = writeln!(
            text,
            "p99: of requests at half of the samples a second that the gateway did before in the same round, from when each \
             was due."
        );
    }
    for (contender, version) in &comparison.contenders {
        let spoken: Vec<_> = comparison
            .protocols
            .iter()
            .filter_map(|(who, what)| (who == contender.as_str()).then_some(what.as_str()))
            .collect();
        let _ = writeln!(text, "{}: {version}; it sent {}.", contender.as_str(), spoken.join(", "));
    }
    for contender in &comparison.absent {
        let _ = writeln!(text, "{}: not installed, left out.", contender.as_str());
    }
    let harness = |number: fn(&Round) -> f64| Spread::of(comparison.rounds.iter().map(number));
    if let (Some(cpu), Some(generator)) =
        (harness(|round| round.harness_cpu_seconds_per_million), harness(|round| round.generator_ns_per_sample))
    {
        let _ = writeln!(
            text,
            "Load and sinks share the cores: {} CPU s / M samples, of which bringing samples up to date {} ns each. \
             Every sample was verified at its sink.",
            cpu.text(2),
            generator.text(0)
        );
    }
    for line in one_against_three(comparison).into_iter().chain(curves(comparison)) {
        let _ = writeln!(text, "{line}");
    }
}

fn cost(rounds: &Rounds<'_>) -> Option<Spread> {
    Spread::of(rounds.iter().map(|round| round.cpu_seconds_per_million))
}

/// Between which medians the cost of a sample moved, where a path was measured at several sizes.
fn curves(comparison: &Comparison) -> Vec<String> {
    let groups = grouped(comparison);
    let who = |group: &Rounds<'_>| (group[0].contender, group[0].input, group[0].outputs.clone());
    let mut told = Vec::new();
    let curve = |group: &Rounds<'_>| {
        let name = who(group);
        if told.contains(&name) {
            return None;
        }
        let sizes: Vec<_> = groups.iter().filter(|other| who(other) == name).collect();
        let spread = Spread::of(sizes.iter().filter_map(|rounds| Some(cost(rounds)?.median)))?;
        let Spread { least, greatest, .. } = spread;
        let (gateway, input, outputs) = (name.0.as_str(), name.1, name.2.join(" + "));
        told.push(name);
        let text = format!(
            "{gateway} from {input} to {outputs}: {least:.3} to {greatest:.3} CPU s / M samples over {} sizes of the load.",
            sizes.len()
        );
        (sizes.len() > 1).then_some(text)
    };
    groups.iter().filter_map(curve).collect()
}

/// What three outputs cost against one, by input.
fn one_against_three(comparison: &Comparison) -> Vec<String> {
    let groups = grouped(comparison);
    let several = groups.iter().filter(|group| group[0].outputs.len() > 1);
    several
        .filter_map(|several| {
            let one = groups.iter().find(|group| {
                let (one, other) = (group[0], several[0]);
                let same = (one.contender, one.input, one.point) == (other.contender, other.input, other.point);
                one.outputs.len() == 1 && same
            })?;
            let ratio = cost(several)?.median / cost(one)?.median;
            let (who, input, Point { series, .. }) =
                (several[0].contender.as_str(), several[0].input, several[0].point);
            let outputs = several[0].outputs.len();
            Some(format!("{who} from {input}, {series} series: {outputs} outputs cost {ratio:.2} times one."))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_tells_median_and_ends() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).unwrap().text(1), "2.0 (1.0-3.0)");
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, least: 1.0, greatest: 4.0 }));
    }
}
