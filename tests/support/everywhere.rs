//! A server of every kind that the gateway sends to, and the gateway that sends to all of them.

use crate::support::destinations;
use crate::support::gateway::{Gateway, gateway};
use crate::support::server::Server;
use crate::support::wavefront_proxy::WavefrontProxy;

/// What the outputs `prom`, `influx` (the database `metrics`) and `wf` send to.
pub(crate) struct Everywhere {
    pub(crate) prometheus: Server,
    pub(crate) influx: Server,
    pub(crate) wavefront: WavefrontProxy,
}

/// Empty servers, and a gateway with nothing else to say.
pub(crate) fn everywhere() -> (Everywhere, Gateway) {
    let (prometheus, influx) = (destinations::prometheus_receiver(), destinations::influxdb());
    destinations::influxql(&influx, "", "CREATE DATABASE metrics");
    let wavefront = WavefrontProxy::start();
    let gateway = gateway()
        .with_prometheus(&prometheus.url("/api/v1/write"))
        .with_influxdb(&influx.url(""), "metrics")
        .with_wavefront(&wavefront.url())
        .start();
    (Everywhere { prometheus, influx, wavefront }, gateway)
}
