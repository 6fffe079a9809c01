//! Label shapes: what series of a kind of sender look like. Ten labels a series, about 290 bytes of them, ten fields a family.
//!
//! Series are numbered. Ten fields of one family stand side by side, then the target's next family, then the next target:
//! the order in which agents send. The labels of a target follow from the seed, its number and its generation, so a target
//! that is replaced (churn) is a new number of the generation and nothing else.

use std::fmt::Write as _;

/// Fields of a family, hence samples of a line in line protocol.
pub const FIELDS: usize = 10;

/// A kind of sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Containers of a Kubernetes cluster
    Kubernetes,
    /// Hosts with node_exporter, scraped by a Prometheus with external labels
    NodeExporter,
    /// Hosts with Telegraf and global tags
    Telegraf,
}

/// Metrics that are always sent together.
#[derive(Debug)]
pub struct Family {
    /// The measurement in line protocol, the prefix of the metric name elsewhere.
    pub measurement: &'static str,
    /// The fields. Those named `_total` or `_bytes` are whole numbers, the others have two decimals.
    pub fields: [&'static str; FIELDS],
}

impl Family {
    /// The metric name that Prometheus knows a field by.
    pub fn metric_name(&self, field: usize) -> String {
        format!("{}_{}", self.measurement, self.fields[field])
    }

    /// Whether the field only grows.
    pub fn is_counter(&self, field: usize) -> bool {
        self.fields[field].ends_with("_total")
    }

    /// Whether the field is written as an integer.
    pub fn is_integer(&self, field: usize) -> bool {
        self.is_counter(field) || self.fields[field].ends_with("_bytes")
    }
}

/// A series by its place in the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The container or host.
    pub target: usize,
    /// Index into [`Shape::families`].
    pub family: usize,
    /// Index into [`Family::fields`].
    pub field: usize,
}

/// Label names and values, sorted by name.
pub type Labels = Vec<(&'static str, String)>;

impl Shape {
    /// The families that each target sends.
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::Kubernetes => &KUBERNETES,
            Self::NodeExporter => &NODE_EXPORTER,
            Self::Telegraf => &TELEGRAF,
        }
    }

    /// Where the series with that number belongs.
    pub fn place(self, series: usize) -> Place {
        let line = series / FIELDS;
        let families = self.families().len();
        Place { target: line / families, family: line % families, field: series % FIELDS }
    }

    /// The labels of a target, sorted by name.
    pub fn labels(self, seed: u64, target: usize, generation: u32) -> Labels {
        let mut random = fastrand::Rng::with_seed(seed ^ (target as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (host, service) = (target / 30, SERVICES[random.usize(..SERVICES.len())]);
        let address = format!("10.{}.{}.{}", 40 + host / 62_500 % 200, host / 250 % 250, 1 + host % 250);
        let mut own = fastrand::Rng::with_seed(random.u64(..) ^ u64::from(generation));
        let mut hexadecimal = |digits: usize| {
            (0..digits).fold(String::new(), |mut text, _| {
                let _ = write!(text, "{:x}", own.u8(..16));
                text
            })
        };
        match self {
            Self::Kubernetes => vec![
                ("cluster", "production-eu-central-1".to_owned()),
                ("container", service.to_owned()),
                ("id", format!("/kubepods/burstable/pod{}", hexadecimal(32))),
                ("image", format!("registry.example.com/shop/{service}:v2.{}.3", random.u8(..40))),
                ("instance", format!("{address}:10250")),
                ("job", "kubelet".to_owned()),
                ("metrics_path", "/metrics/cadvisor".to_owned()),
                ("namespace", format!("shop-{}", ["live", "canary", "batch"][random.usize(..3)])),
                ("node", format!("ip-{}.eu-central-1", address.replace('.', "-"))),
                ("pod", format!("{service}-{}-{}", hexadecimal(10), hexadecimal(5))),
            ],
            Self::NodeExporter => vec![
                ("availability_zone", format!("eu-central-1{}", ["a", "b", "c"][random.usize(..3)])),
                ("cluster", "production-eu-central-1".to_owned()),
                ("datacenter", format!("frankfurt-{}", random.u8(1..4))),
                ("device", format!("/dev/disk/by-id/nvme-{}", hexadecimal(32))),
                ("environment", "production".to_owned()),
                ("instance", format!("host-{target:07}.example.com:9100")),
                ("job", "node-exporter".to_owned()),
                ("operating_system", "Debian GNU/Linux 13 (trixie)".to_owned()),
                ("rack", format!("rack-{:03}-{:02}", random.u8(..200), random.u8(..40))),
                ("role", service.to_owned()),
            ],
            Self::Telegraf => vec![
                ("application", service.to_owned()),
                ("availability_zone", format!("eu-central-1{}", ["a", "b", "c"][random.usize(..3)])),
                ("datacenter", format!("frankfurt-{}", random.u8(1..4))),
                ("environment", "production".to_owned()),
                ("host", format!("host-{target:07}.internal.example.com")),
                ("image_id", format!("sha256-{}", hexadecimal(40))),
                ("operating_system", "debian-13-trixie-amd64".to_owned()),
                ("owner", format!("team-{}@example.com", ["shop", "payments", "platform"][random.usize(..3)])),
                ("rack", format!("rack-{:03}-{:02}", random.u8(..200), random.u8(..40))),
                ("release", format!("2026.{}.{}-{}", random.u8(1..13), random.u8(1..29), hexadecimal(12))),
            ],
        }
    }
}

const SERVICES: [&str; 8] = [
    "checkout-service",
    "payment-gateway",
    "product-catalogue",
    "recommendation-engine",
    "session-store",
    "search-frontend",
    "inventory-sync",
    "email-dispatcher",
];

const KUBERNETES: [Family; 3] = [
    Family {
        measurement: "container",
        fields: [
            "cpu_usage_seconds_total",
            "cpu_user_seconds_total",
            "cpu_system_seconds_total",
            "cpu_cfs_periods_total",
            "cpu_cfs_throttled_periods_total",
            "memory_usage_bytes",
            "memory_rss_bytes",
            "memory_cache_bytes",
            "cpu_load_average_10s",
            "spec_cpu_shares",
        ],
    },
    Family {
        measurement: "container_network",
        fields: [
            "receive_bytes_total",
            "receive_packets_total",
            "receive_errors_total",
            "receive_packets_dropped_total",
            "transmit_bytes_total",
            "transmit_packets_total",
            "transmit_errors_total",
            "transmit_packets_dropped_total",
            "tcp_usage",
            "udp_usage",
        ],
    },
    Family {
        measurement: "container_fs",
        fields: [
            "reads_total",
            "read_seconds_total",
            "writes_total",
            "write_seconds_total",
            "limit_bytes",
            "usage_bytes",
            "inodes_free",
            "io_current",
            "io_time_seconds_total",
            "sector_writes_total",
        ],
    },
];

const NODE_EXPORTER: [Family; 3] = [
    Family {
        measurement: "node_memory",
        fields: [
            "MemTotal_bytes",
            "MemFree_bytes",
            "MemAvailable_bytes",
            "Buffers_bytes",
            "Cached_bytes",
            "SwapFree_bytes",
            "Active_bytes",
            "Inactive_bytes",
            "Dirty_bytes",
            "HugePages_Free",
        ],
    },
    Family {
        measurement: "node_disk",
        fields: [
            "reads_completed_total",
            "read_bytes_total",
            "read_time_seconds_total",
            "writes_completed_total",
            "written_bytes_total",
            "write_time_seconds_total",
            "io_now",
            "io_time_seconds_total",
            "io_time_weighted_seconds_total",
            "discards_completed_total",
        ],
    },
    Family {
        measurement: "node",
        fields: [
            "load1",
            "load5",
            "load15",
            "procs_running",
            "procs_blocked",
            "forks_total",
            "context_switches_total",
            "intr_total",
            "filesystem_free_bytes",
            "entropy_available_bits",
        ],
    },
];

const TELEGRAF: [Family; 3] = [
    Family {
        measurement: "cpu",
        fields: [
            "usage_active",
            "usage_guest",
            "usage_idle",
            "usage_iowait",
            "usage_irq",
            "usage_nice",
            "usage_softirq",
            "usage_steal",
            "usage_system",
            "usage_user",
        ],
    },
    Family {
        measurement: "mem",
        fields: [
            "active_bytes",
            "available_bytes",
            "available_percent",
            "buffered_bytes",
            "cached_bytes",
            "dirty_bytes",
            "free_bytes",
            "used_bytes",
            "used_percent",
            "swap_free_bytes",
        ],
    },
    Family {
        measurement: "diskio",
        fields: [
            "reads_total",
            "writes_total",
            "read_bytes",
            "write_bytes",
            "read_time_total",
            "write_time_total",
            "io_time_total",
            "io_await",
            "io_svctm",
            "io_util",
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;
    use std::collections::HashSet;

    #[test]
    fn every_shape_has_ten_sorted_labels_of_about_290_bytes() {
        for shape in Shape::value_variants() {
            let mut bytes = 0;
            for target in 0..100 {
                let labels = shape.labels(7, target, 0);
                assert_eq!(labels.len(), 10);
                assert!(labels.is_sorted_by(|(left, _), (right, _)| left < right), "{shape:?}");
                bytes += labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            }
            assert!((26_500..31_500).contains(&bytes), "{shape:?}: {bytes} in 100");
        }
    }

    #[test]
    fn series_are_distinct_and_a_new_generation_is_new() {
        for shape in Shape::value_variants() {
            let mut seen = HashSet::new();
            for generation in 0..2 {
                for series in 0..3000 {
                    let place = shape.place(series);
                    let name = shape.families()[place.family].metric_name(place.field);
                    assert!(seen.insert((name, shape.labels(7, place.target, generation))), "{shape:?} {series}");
                }
            }
            assert_eq!(shape.labels(7, 5, 1), shape.labels(7, 5, 1));
            assert_ne!(shape.labels(7, 5, 1), shape.labels(8, 5, 1));
        }
    }
}
