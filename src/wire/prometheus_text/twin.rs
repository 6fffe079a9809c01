//! The decoder of both text formats once more, slow and obvious: the judge of the fast one in property tests. It judges
//! samples and the end mark; metadata lines are passed over.

use super::number::NAN_BITS;

/// A sample as text: series with sorted labels, the value's bits, nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub series: String,
    pub bits: u64,
    pub timestamp: Option<i64>,
}

/// All good lines of a body, and how many bad ones there are.
pub(super) fn parse(body: &[u8], strict: bool) -> (Vec<Row>, u64) {
    let (mut rows, mut bad, mut ended) = (Vec::new(), 0, false);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if ended {
            bad += 1;
        } else if strict && line == b"# EOF" {
            ended = true;
        } else {
            let mut input = Input { rest: line, strict };
            input.blanks();
            let skipped = input.rest.starts_with(b"#") || !strict && input.rest.is_empty();
            match input.row() {
                _ if skipped => {}
                Some(row) => rows.push(row),
                None => bad += 1,
            }
        }
    }
    (rows, bad + u64::from(strict && !ended))
}

struct Input<'b> {
    rest: &'b [u8],
    strict: bool,
}

type Labels = Vec<(String, String)>;

impl Input<'_> {
    fn eat(&mut self, text: &[u8]) -> bool {
        let there = self.rest.starts_with(text);
        self.rest = &self.rest[if there { text.len() } else { 0 }..];
        there
    }

    fn blanks(&mut self) {
        while !self.strict && (self.eat(b" ") || self.eat(b"\t")) {}
    }

    /// The longest run of such bytes.
    fn run(&mut self, of: impl Fn(u8) -> bool) -> String {
        let end = self.rest.iter().position(|byte| !of(*byte)).unwrap_or(self.rest.len());
        let run = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest = &self.rest[end..];
        run
    }

    /// What stands up to the next blank.
    fn word(&mut self) -> String {
        let strict = self.strict;
        self.run(|byte| byte != b' ' && (strict || byte != b'\t'))
    }

    fn name(&mut self, colons: bool) -> Option<String> {
        let name = self.run(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || colons && byte == b':');
        (!name.is_empty() && !name.as_bytes()[0].is_ascii_digit()).then_some(name)
    }

    fn row(&mut self) -> Option<Row> {
        let bare = if self.rest.starts_with(b"{") { None } else { Some(self.name(true)?) };
        self.blanks();
        let (name, labels) =
            if self.rest.starts_with(b"{") { self.labels(bare, "__name__")? } else { (bare?, Vec::new()) };
        if self.strict && !self.eat(b" ") {
            return None;
        }
        self.blanks();
        let bits = value(&self.word())?;
        self.blanks();
        let mut timestamp = None;
        if self.strict {
            if !self.rest.is_empty() && !self.rest.starts_with(b" # {") {
                self.eat(b" ");
                timestamp = Some(seconds(&self.word())?);
            }
            if self.eat(b" # ") {
                self.labels(Some("exemplar".to_owned()), "")?;
                let spaced = self.eat(b" ");
                value(&self.word()).filter(|_| spaced)?;
                if self.eat(b" ") {
                    seconds(&self.word())?;
                }
            }
        } else if !self.rest.is_empty() {
            let word = self.word();
            timestamp = Some(word.parse::<i64>().ok().filter(|_| !word.starts_with('+'))?.checked_mul(1_000_000)?);
            self.blanks();
        }
        self.rest.is_empty().then(|| Row { series: format!("{name} {labels:?}"), bits, timestamp })
    }

    /// A label block without a label of that name; the metric name stands before it or inside.
    fn labels(&mut self, mut metric: Option<String>, reserved: &str) -> Option<(String, Labels)> {
        let mut labels = Labels::new();
        let mut more = self.eat(b"{");
        self.blanks();
        while !self.eat(b"}") {
            let quoted = self.rest.starts_with(b"\"");
            let name = if quoted { self.string()? } else { self.name(false)? };
            let named = more && !name.is_empty();
            self.blanks();
            if self.eat(b"=") {
                self.blanks();
                let value = self.string().filter(|_| named && name != reserved)?;
                labels.push((name, value));
                self.blanks();
            } else if quoted && named && metric.is_none() {
                metric = Some(name);
            } else {
                return None;
            }
            more = self.eat(b",");
            self.blanks();
        }
        labels.sort();
        if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return None;
        }
        labels.retain(|(_, value)| !value.is_empty());
        Some((metric?, labels))
    }

    fn string(&mut self) -> Option<String> {
        let (mut string, mut opened) = (Vec::new(), self.eat(b"\""));
        while opened && !self.eat(b"\"") {
            match self.rest {
                [b'\\', b'n', ..] => string.push(b'\n'),
                [b'\\', escaped @ (b'\\' | b'"'), ..] => string.push(*escaped),
                [b'\\', other, ..] => string.extend([b'\\', *other]),
                [byte, ..] => string.push(*byte),
                [] => return None,
            }
            opened = self.rest != b"\\";
            self.rest = &self.rest[if self.rest[0] == b'\\' && opened { 2 } else { 1 }..];
        }
        String::from_utf8(string).ok().filter(|_| opened)
    }
}

fn value(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let value = match lower.trim_start_matches(['+', '-']) {
        "inf" | "infinity" if lower.len() - lower.trim_start_matches(['+', '-']).len() < 2 => lower.parse().ok()?,
        "nan" if lower == "nan" => f64::from_bits(NAN_BITS),
        _ => lower.parse().ok().filter(|value: &f64| value.is_finite())?,
    };
    Some(value.to_bits())
}

/// Shifts the point of a decimal by nine places and forgets what is behind it.
fn seconds(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shift = 9 + exponent.parse::<i64>().ok()? - fraction.len() as i64;
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    for _ in 0..shift.clamp(0, 50) {
        digits.push('0');
    }
    digits.truncate(digits.len().saturating_sub(usize::try_from(-shift).unwrap_or(0)));
    let sign = if text.starts_with('-') { "-" } else { "" };
    if digits.is_empty() { Some(0) } else { format!("{sign}{digits}").parse().ok() }
}
