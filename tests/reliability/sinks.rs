//! Three destinations at once, one of each kind, and the verdict over what reached them.

use crate::support::counting_sink::{CountingSink, Kind, Mode};
use crate::support::gateway::{Gateway, Setup};
use crate::support::load::{Load, balances};
use crate::support::numbered::is_finite;

/// Names of the outputs, as [`Kind::ALL`].
pub(crate) const NAMES: [&str; 3] = ["rw", "influx", "wf"];
/// A sink of each kind.
pub(crate) struct Sinks(pub(crate) [CountingSink; 3]);

impl Sinks {
    pub(crate) fn start() -> Self {
        Self(Kind::ALL.map(CountingSink::start))
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.0.iter().for_each(|sink| sink.set(mode));
    }

    pub(crate) fn outputs(&self, setup: Setup) -> Setup {
        self.0.iter().zip(NAMES).fold(setup, |setup, (sink, name)| setup.output(name, &sink.block()))
    }

    pub(crate) fn all(&self) -> [&CountingSink; 3] {
        self.0.each_ref()
    }

    /// Everything acknowledged is everywhere, and every output accounts for every sample.
    pub(crate) fn judge(&self, gateway: &Gateway, load: &Load) {
        let acknowledged = load.acknowledged();
        balances(&gateway.status(), acknowledged, acknowledged + load.in_doubt());
        let non_finite = self.0[0].count(|client, number| !is_finite(client, number)) as f64;
        for (sink, name) in self.0.iter().zip(NAMES) {
            load.arrived_at(sink);
            let dropped = gateway.dropped(name);
            let expected =
                if sink.kind() == Kind::RemoteWrite { vec![] } else { vec![("non_finite".to_owned(), non_finite)] };
            assert_eq!(dropped, expected, "{name}");
            let delivered = gateway.metric("sluicegate_samples_delivered_total", &[("output", name)]);
            assert_eq!(delivered, sink.distinct() as f64, "{name}");
        }
    }
}
