//! The search for what a destination refuses in a body: a state machine without I/O.
//!
//! It says which pieces to send next ([`Search::ask`]) and is told what the destination answered ([`Search::answered`]).
//! In the end every sample of the body is delivered or in a [`Refusal`], and is counted once.
//!
//! * A request that is refused whole stored nothing. If the answer names pieces, these are asked about apart from the
//!   others, else the one half apart from the other, until a piece is refused alone.
//! * A partial write that says how many *lines* it dropped (InfluxDB 1 and 2) does not say which, and tells one reason of
//!   several: of points beyond the retention policy and a conflict of types it counts the conflict alone, and of conflicts in
//!   two fields it counts both and names one. So the search goes on as if the request were refused whole. No line is believed
//!   stored before a request with it succeeds, and none refused before all lines of a request are, which does no harm because
//!   a point written twice is one point.
//! * Where it says how many *samples* it took (remote write 2.0), that number is the truth and nothing is sent again: a
//!   receiver may answer a sample that it has with "out of order", so that a second request would make refusals of what was
//!   delivered. The answer's text tells which series it was, by naming one for every sample, or the whole request is kept.
//! * Pieces go out in the order of the body within every request. What a text names, it names by series or by measurement
//!   and field, so that two samples of one series never come into requests of the wrong order.
//! * At most [`SEARCHES_MAX`] requests of a body are split, and [`FRUITLESS_MAX`] while nothing is delivered; what is left
//!   then is given up whole, and the refusal says so.
//! * A refusal that says nothing of samples may come from somebody who reads none: VictoriaMetrics answers a mistyped path
//!   with 400. The first such answer is followed by a request of no pieces at all. Who takes that, or anything else, is a
//!   receiver of samples and is believed; who never does is not, and the search ends early and without a result
//!   ([`Search::finish`]). The samples wait then, so that a typing mistake throws none away. Size and rate are no reason to
//!   believe: a proxy in front of the wrong place refuses for those, too. What was refused while that was in doubt is asked
//!   about again by who is believed: the mistake may have been mended in between.
//!
//! Two other ways to tell such answers apart were weighed. *Believing who has accepted something since the start* needs no
//! extra request, but throws away what comes after a path breaks that once worked, and a first body of nothing but bad samples
//! would wait for a good one behind it. *Trying the next body* needs no empty request, which a receiver might refuse, but if the
//! mistake is mended between the two, samples of a series arrive in the wrong order or not at all.

use super::remote_write::series;
use super::verdict::{Answer, Refused, Verdict};
use crate::wire::{Body, Cut};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

/// How often requests of one body are split in search of what a destination refuses; what is left then is given up whole.
pub const SEARCHES_MAX: u32 = 1024;
/// The same while nothing is delivered in between: a destination that refuses everything is not worth more.
pub const FRUITLESS_MAX: u32 = 64;
/// The same before the destination is known to read samples: enough to come down to a single piece.
pub const DOUBTFUL_MAX: u32 = 16;

/// Some pieces of a body: ranges of their indices, ascending, none empty, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces(Vec<Range<usize>>);

impl Pieces {
    /// All pieces of a body.
    pub fn all(body: &Body) -> Self {
        Self(std::iter::once(0..body.cuts.len()).filter(|run| !run.is_empty()).collect())
    }

    /// Their indices.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().cloned().flatten()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(Range::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The samples in them.
    pub fn samples(&self, body: &Body) -> u64 {
        self.sum(body, |cut| cut.samples)
    }

    /// What a destination counts in them.
    pub fn on_wire(&self, body: &Body) -> u64 {
        self.sum(body, |cut| cut.on_wire)
    }

    fn sum(&self, body: &Body, number: impl Fn(&Cut) -> u32) -> u64 {
        let of = |run: &Range<usize>| body.cuts[run.clone()].iter().map(|cut| u64::from(number(cut))).sum::<u64>();
        self.0.iter().map(of).sum()
    }

    /// A request of these pieces alone, with what they need of the prefix: a part that had all symbols of a body could be
    /// too large whatever else is in it.
    pub fn bytes<'a>(&self, body: &'a Body) -> Cow<'a, [u8]> {
        let whole = self.len() == body.cuts.len();
        if let Some(own) = (!whole && !body.prefix.is_empty()).then(|| series::with_own_symbols(body, self)).flatten() {
            return Cow::from([own.prefix, own.bytes].concat());
        }
        match self.0.as_slice() {
            [] => Cow::default(),
            [run] => body.part(run.start, run.end),
            runs => {
                let bare = runs.iter().map(|run| body.run(run.clone()));
                let pieces: Vec<_> = std::iter::once(body.prefix.as_slice()).chain(bare).collect();
                Cow::from(pieces.concat())
            }
        }
    }

    /// Those of them for which the condition holds, and the others.
    pub fn partition(&self, mut condition: impl FnMut(usize) -> bool) -> (Self, Self) {
        let (those, others): (Vec<_>, Vec<_>) = self.iter().partition(|piece| condition(*piece));
        (those.into_iter().collect(), others.into_iter().collect())
    }

    fn halves(&self) -> (Self, Self) {
        let mut left = self.len() / 2;
        self.partition(|_| {
            let first = left > 0;
            left = left.saturating_sub(1);
            first
        })
    }
}

impl FromIterator<usize> for Pieces {
    /// From ascending indices.
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        let mut runs = Vec::<Range<usize>>::new();
        for index in indices {
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => runs.push(index..index + 1),
            }
        }
        Self(runs)
    }
}

/// The pieces of a request that the text of its answer fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Which.
    pub pieces: Pieces,
    /// Whether the text leaves no doubt: it quotes them.
    pub quoted: bool,
    /// How often it names one.
    pub mentions: u64,
}

/// What the destination did not take, with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The offenders, or pieces among which they are.
    pub pieces: Pieces,
    /// Samples of them that were refused.
    pub samples: u64,
    /// The status of the answer.
    pub status: u16,
    /// Its body.
    pub words: String,
    /// What else is to be known: why more is kept than was refused, or that a search was given up.
    pub note: Option<String>,
    /// Whether it was one piece, refused whole for something in it.
    pub suspect: bool,
}

/// Whether the destination is known to read samples, so that what it refuses is refused for what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// There was no answer yet, or none that gives reason to ask.
    Unneeded,
    /// A request was refused without a word about samples: the empty request comes next.
    Wanted,
    /// So was the empty request.
    Denied,
    /// It is.
    Given,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Search<'a> {
    body: &'a Body,
    /// Pieces of which nothing is known yet, the next last.
    unknown: Vec<Pieces>,
    searches: u32,
    fruitless: u32,
    delivered: u64,
    refusals: Vec<Refusal>,
    belief: Belief,
}

impl<'a> Search<'a> {
    /// A search that begins with the whole body.
    pub fn new(body: &'a Body) -> Self {
        Self {
            body,
            unknown: vec![Pieces::all(body)],
            searches: 0,
            fruitless: 0,
            delivered: 0,
            refusals: Vec::new(),
            belief: Belief::Unneeded,
        }
    }

    /// The same at a destination that is known to read samples.
    pub fn believing(body: &'a Body) -> Self {
        Self { belief: Belief::Given, ..Self::new(body) }
    }

    /// What it searches.
    pub fn body(&self) -> &'a Body {
        self.body
    }

    /// The pieces to send next, which may be no piece at all: the empty request. None when nothing is left to be asked.
    pub fn ask(&mut self) -> Option<Pieces> {
        match self.belief {
            Belief::Wanted => Some(Pieces::default()),
            Belief::Denied if self.fruitless >= DOUBTFUL_MAX => None,
            _ => std::iter::from_fn(|| self.unknown.pop()).find(|pieces| !pieces.is_empty()),
        }
    }

    /// The destination answered the request that was asked for last. `named` are pieces of it.
    pub fn answered(&mut self, pieces: Pieces, verdict: Verdict, answer: &Answer, named: Named) {
        let reads_samples = match verdict {
            Verdict::Delivered => true,
            Verdict::Suspect => !named.pieces.is_empty() || answer.speaks_of_samples(),
            Verdict::TooLarge | Verdict::Refused(Refused::All) => false,
            _ => !pieces.is_empty(),
        };
        if reads_samples && matches!(self.belief, Belief::Wanted | Belief::Denied) {
            self.unknown.extend(self.refusals.drain(..).map(|refusal| refusal.pieces));
        }
        self.belief = match self.belief {
            _ if reads_samples => Belief::Given,
            Belief::Unneeded if verdict != Verdict::Suspect => Belief::Unneeded,
            Belief::Unneeded => Belief::Wanted,
            Belief::Wanted => Belief::Denied,
            known => known,
        };
        match verdict {
            _ if pieces.is_empty() => {}
            Verdict::Delivered => self.deliver(pieces.samples(self.body)),
            Verdict::Refused(refused) => self.refused(pieces, refused, answer, named),
            Verdict::TooLarge if pieces.len() > 1 => self.ask_apart(pieces.halves()),
            Verdict::Suspect => self.suspect(pieces, answer, named),
            _ => self.refuse_all(pieces, answer),
        }
    }

    /// Samples delivered and refusals, once nothing is left to be asked. None if something was refused, and by a destination
    /// that is not known to read samples: nothing is delivered then either.
    pub fn finish(self) -> Option<(u64, Vec<Refusal>)> {
        matches!(self.belief, Belief::Unneeded | Belief::Given).then_some((self.delivered, self.refusals))
    }

    fn suspect(&mut self, pieces: Pieces, answer: &Answer, named: Named) {
        if named.quoted && !named.pieces.is_empty() && self.may_search() {
            let others = remove(&pieces, &named.pieces);
            self.refuse_all(named.pieces, answer);
            self.unknown.push(others);
        } else if pieces.len() > 1 && self.may_search() {
            self.ask_apart(apart(&pieces, named));
        } else {
            let note = (pieces.len() > 1).then(|| self.given_up());
            let samples = pieces.samples(self.body);
            let suspect = pieces.len() == 1;
            self.refuse(Refusal { suspect, ..refusal(pieces, samples, answer, note) });
        }
    }

    fn refused(&mut self, pieces: Pieces, refused: Refused, answer: &Answer, named: Named) {
        match refused {
            Refused::All => self.refuse_all(pieces, answer),
            Refused::Samples(refused) => {
                let samples = pieces.samples(self.body);
                let on_wire = |pieces: &Pieces| pieces.on_wire(self.body);
                let tells_all = named.mentions >= refused && on_wire(&named.pieces) >= refused;
                let kept = if tells_all { named.pieces } else { pieces };
                let of = on_wire(&kept);
                let note = (of > refused).then(|| format!("{refused} of these {of} samples"));
                // Of a distribution, which is two samples there and one here, both are believed refused.
                let refused = refused.min(kept.samples(self.body));
                self.deliver(samples - refused);
                self.refuse(refusal(kept, refused, answer, note));
            }
            Refused::LineNumbers(numbers) => match numbered(self.body, &pieces, &numbers) {
                Some(offenders) => self.known(&pieces, offenders, answer),
                None => self.suspect(pieces, answer, named),
            },
            Refused::Quoted if named.pieces.is_empty() => self.suspect(pieces, answer, named),
            Refused::Quoted => self.known(&pieces, named.pieces, answer),
            Refused::Lines(lines) if lines >= pieces.on_wire(self.body) => self.refuse_all(pieces, answer),
            Refused::Lines(_) => {
                // What takes other lines does not refuse everything.
                self.fruitless = 0;
                self.suspect(pieces, answer, named);
            }
        }
    }

    /// Which of the pieces were refused is known; the others are stored.
    fn known(&mut self, pieces: &Pieces, offenders: Pieces, answer: &Answer) {
        self.deliver(remove(pieces, &offenders).samples(self.body));
        self.refuse_all(offenders, answer);
    }

    fn ask_apart(&mut self, (first, second): (Pieces, Pieces)) {
        self.unknown.extend([second, first]);
    }

    /// Whether one more request may be split; counts it.
    fn may_search(&mut self) -> bool {
        let may = self.searches < SEARCHES_MAX && self.fruitless < FRUITLESS_MAX;
        if may {
            (self.searches, self.fruitless) = (self.searches + 1, self.fruitless + 1);
        }
        may
    }

    fn given_up(&self) -> String {
        format!("the search was given up after {} requests", self.searches)
    }

    fn deliver(&mut self, samples: u64) {
        self.delivered += samples;
        if samples > 0 {
            self.fruitless = 0;
        }
    }

    fn refuse_all(&mut self, pieces: Pieces, answer: &Answer) {
        let samples = pieces.samples(self.body);
        self.refuse(refusal(pieces, samples, answer, None));
    }

    fn refuse(&mut self, refusal: Refusal) {
        // Metadata travels best effort.
        if refusal.samples > 0 {
            self.refusals.push(refusal);
        }
    }
}

fn refusal(pieces: Pieces, samples: u64, answer: &Answer, note: Option<String>) -> Refusal {
    Refusal { pieces, samples, status: answer.status, words: answer.body.clone(), note, suspect: false }
}

fn remove(pieces: &Pieces, some: &Pieces) -> Pieces {
    let some: BTreeSet<_> = some.iter().collect();
    pieces.partition(|piece| some.contains(&piece)).1
}

/// The named pieces and the others, or halves where that parts nothing.
fn apart(pieces: &Pieces, named: Named) -> (Pieces, Pieces) {
    let others = remove(pieces, &named.pieces);
    if named.pieces.is_empty() || others.is_empty() { pieces.halves() } else { (named.pieces, others) }
}

/// The pieces that have lines with these numbers, from 1; none when one of them is not there.
fn numbered(body: &Body, pieces: &Pieces, numbers: &[u64]) -> Option<Pieces> {
    let numbers: BTreeSet<_> = numbers.iter().copied().collect();
    let mut next = 1;
    let (those, _) = pieces.partition(|piece| {
        let lines = next..next + u64::from(body.cuts[piece].on_wire);
        next = lines.end;
        numbers.range(lines).next().is_some()
    });
    numbers.iter().all(|number| (1..next).contains(number)).then_some(those)
}

#[cfg(test)]
mod tests;
