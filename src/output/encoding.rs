//! The destination formats as one static interface: what a dispatcher needs of an encoder, and nothing about sending.
//!
//! A trait with one implementation a format, so that the loop over samples is compiled for each and has no `dyn` in it.

use super::shipment::Purpose;
use crate::model::{Dialect, Exemplar, Loss, LossSet, Losses, Metadata, SampleFlags, Series, SeriesTable};
use crate::wire::prometheus_names::{self, NameCharacters, Strings, ValueField};
pub use crate::wire::remote_write::{PhraseId, Plain};
use crate::wire::{Body, SampleRef, influx_line, remote_write, remote_write2, wavefront};
use std::borrow::Cow;
use std::sync::Arc;

/// An encoder of one destination format.
pub trait Encoding: Send + 'static {
    /// How the output writes the format.
    type Options: Clone + Send + Sync + 'static;
    /// A series as the format writes it, made once.
    type Rendered: Send + Sync + 'static;
    /// Whose naming rules it follows.
    const DIALECT: Dialect;
    /// Whether it has a place for start timestamps.
    const STARTS: bool = false;

    /// How the output names series in Prometheus's terms, to which relabelling and strings keep.
    fn names(_options: &Self::Options) -> &prometheus_names::Style {
        static DEFAULT: prometheus_names::Style = prometheus_names::Style {
            value_field: ValueField::Strip,
            name_characters: NameCharacters::Replace,
            bare_measurement: None,
            strings: Strings::Drop,
        };
        &DEFAULT
    }
    /// Whether series are written by what is known of their families apart from them.
    fn joins_families(_options: &Self::Options) -> bool {
        false
    }
    /// An empty encoder.
    fn new(options: &Self::Options) -> Self;
    /// Writes a series once for all its samples.
    fn render(series: &Series, options: &Self::Options, table: &SeriesTable) -> Result<Self::Rendered, Loss>;
    /// The bytes that tell the series from others at the destination.
    fn identity(rendered: &Self::Rendered) -> Cow<'_, [u8]>;
    /// The part of the identity by which samples are kept in order, those of a lane: all of it, or what lines have in common,
    /// so that what repeats in a body is near and those of a row are together.
    fn order(rendered: &Self::Rendered) -> Cow<'_, [u8]> {
        Self::identity(rendered)
    }
    /// What every sample of the series loses.
    fn losses(rendered: &Self::Rendered) -> LossSet;
    /// Whether a sample becomes a part of what was pushed last and must be in the same body.
    fn continues(&self, _rendered: &Self::Rendered, sample: &SampleRef<'_>) -> bool {
        sample.flags.contains(SampleFlags::ROW_CONTINUES)
    }
    /// Whether it has phrases, which [`Plans`](super::plans::Plans) say: the methods below.
    const SPEAKS: bool = false;
    /// Makes one of a run of series, whose samples have one time or not; none where that does not pay.
    fn phrase(&mut self, _series: Vec<Arc<Self::Rendered>>, _one_time: bool) -> Option<PhraseId> {
        None
    }
    /// What a phrase adds to a body in bytes, if it is not forgotten.
    fn phrase_len(&self, _phrase: PhraseId) -> Option<usize> {
        None
    }
    /// What a phrase needs of a sample, if it can hold it, and what that loses beside what its series loses.
    fn plain(_sample: &SampleRef<'_>, _altered: &mut LossSet) -> Option<Plain> {
        None
    }
    /// Whether the open body can take a sample for each series of a phrase.
    fn can_speak(&self, _phrase: PhraseId, _samples: &[Plain]) -> bool {
        false
    }
    /// Adds samples to the open body that it can take.
    fn speak(&mut self, _phrase: PhraseId, _samples: &[Plain]) {}
    /// Adds a sample to the open body.
    fn push(&mut self, rendered: &Arc<Self::Rendered>, sample: &SampleRef<'_>, losses: &mut Losses)
    -> Result<(), Loss>;
    /// Adds an exemplar, where the format has a place for it.
    fn exemplar(&mut self, _rendered: &Arc<Self::Rendered>, _exemplar: &Exemplar, losses: &mut Losses) {
        losses.count(Loss::Exemplar);
    }
    /// Adds metadata apart from series, where the format sends it so. Returns whether it does.
    fn metadata(&mut self, _metadata: &Metadata) -> bool {
        false
    }
    /// Samples in the open body.
    fn samples(&self) -> u64;
    /// Size of the open body, roughly.
    fn bytes(&self) -> usize;
    /// Ends the open body. Samples that fall away only now are counted in `dropped`.
    fn finish(&mut self, dropped: &mut Losses) -> Vec<(Purpose, Body)>;
}

/// What is the same in every format: the calls go to the encoder's own functions of the same name.
macro_rules! encoder_calls {
    ($format:ident) => {
        type Options = $format::encode::Options;
        type Rendered = $format::encode::Rendered;

        fn new(options: &Self::Options) -> Self {
            Self::new(options.clone())
        }
        fn identity(rendered: &Self::Rendered) -> Cow<'_, [u8]> {
            rendered.identity().into()
        }
        fn losses(rendered: &Self::Rendered) -> LossSet {
            rendered.losses()
        }
        fn push(
            &mut self,
            rendered: &Arc<Self::Rendered>,
            sample: &SampleRef<'_>,
            losses: &mut Losses,
        ) -> Result<(), Loss> {
            self.push(rendered, sample, losses)
        }
        fn samples(&self) -> u64 {
            self.samples()
        }
        fn bytes(&self) -> usize {
            self.bytes()
        }
    };
}

impl Encoding for influx_line::encode::Encoder {
    encoder_calls!(influx_line);

    const DIALECT: Dialect = Dialect::Influx;

    fn joins_families(options: &Self::Options) -> bool {
        options.style.needs_types()
    }

    fn render(series: &Series, options: &Self::Options, table: &SeriesTable) -> Result<Self::Rendered, Loss> {
        let families = |family: &str| table.family(family);
        match options.style.needs_types().then(|| series.metadata_apart(families)).flatten() {
            Some(metadata) => influx_line::encode::render(&series.with_metadata(metadata), options),
            None => influx_line::encode::render(series, options),
        }
    }
    fn order(rendered: &Self::Rendered) -> Cow<'_, [u8]> {
        rendered.tags().into()
    }
    fn continues(&self, rendered: &Self::Rendered, sample: &SampleRef<'_>) -> bool {
        self.continues(rendered, sample)
    }
    fn finish(&mut self, dropped: &mut Losses) -> Vec<(Purpose, Body)> {
        vec![(Purpose::Samples, self.finish(dropped))]
    }
}

impl Encoding for wavefront::encode::Encoder {
    encoder_calls!(wavefront);

    const DIALECT: Dialect = Dialect::Wavefront;

    fn render(series: &Series, options: &Self::Options, _table: &SeriesTable) -> Result<Self::Rendered, Loss> {
        wavefront::encode::render(series, options)
    }
    fn order(rendered: &Self::Rendered) -> Cow<'_, [u8]> {
        Cow::from(&**rendered.tags())
    }
    fn finish(&mut self, dropped: &mut Losses) -> Vec<(Purpose, Body)> {
        let distributions = self.finish_distributions();
        let points = self.finish(dropped);
        std::iter::once((Purpose::Samples, points))
            .chain(distributions.map(|body| (Purpose::Distributions, body)))
            .collect()
    }
}

impl Encoding for remote_write::encode::Encoder {
    encoder_calls!(remote_write);

    const DIALECT: Dialect = Dialect::Prometheus;

    fn names(options: &Self::Options) -> &prometheus_names::Style {
        &options.style
    }
    fn render(series: &Series, options: &Self::Options, table: &SeriesTable) -> Result<Self::Rendered, Loss> {
        remote_write::encode::render(series, options, &|family| table.family(family))
    }
    const SPEAKS: bool = true;

    fn phrase(&mut self, series: Vec<Arc<Self::Rendered>>, one_time: bool) -> Option<PhraseId> {
        self.phrase(series, one_time)
    }
    fn phrase_len(&self, phrase: PhraseId) -> Option<usize> {
        self.phrase_len(phrase)
    }
    #[inline]
    fn plain(sample: &SampleRef<'_>, altered: &mut LossSet) -> Option<Plain> {
        Self::plain(sample, altered)
    }
    fn can_speak(&self, phrase: PhraseId, samples: &[Plain]) -> bool {
        self.can_speak(phrase, samples)
    }
    fn speak(&mut self, phrase: PhraseId, samples: &[Plain]) {
        self.speak(phrase, samples);
    }
    fn exemplar(&mut self, rendered: &Arc<Self::Rendered>, exemplar: &Exemplar, losses: &mut Losses) {
        self.exemplar(rendered, exemplar, losses);
    }
    fn metadata(&mut self, metadata: &Metadata) -> bool {
        self.metadata(metadata);
        true
    }
    fn finish(&mut self, dropped: &mut Losses) -> Vec<(Purpose, Body)> {
        vec![(Purpose::Samples, self.finish(dropped))]
    }
}

impl Encoding for remote_write2::encode::Encoder {
    encoder_calls!(remote_write2);

    const DIALECT: Dialect = Dialect::Prometheus;
    const STARTS: bool = true;

    fn joins_families(_options: &Self::Options) -> bool {
        true
    }

    fn names(options: &Self::Options) -> &prometheus_names::Style {
        &options.style
    }
    fn render(series: &Series, options: &Self::Options, table: &SeriesTable) -> Result<Self::Rendered, Loss> {
        remote_write2::encode::render(series, options, &|family| table.family(family))
    }
    fn exemplar(&mut self, rendered: &Arc<Self::Rendered>, exemplar: &Exemplar, losses: &mut Losses) {
        self.exemplar(rendered, exemplar, losses);
    }
    fn finish(&mut self, dropped: &mut Losses) -> Vec<(Purpose, Body)> {
        vec![(Purpose::Samples, self.finish(dropped))]
    }
}
