//! The machine that numbers were measured on: a table without it says nothing.

use serde::Serialize;
use std::fmt;
use std::fs::read_to_string;

/// What matters of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The CPU model, as the kernel names it.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// The kernel's name and release.
    pub kernel: String,
    /// Tasks that ran or wanted to in the last minute, before anything was measured.
    pub load: String,
}

impl Machine {
    /// The machine this runs on; what the kernel does not tell is "unknown".
    pub fn here() -> Self {
        let read = |path: &str| read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines().find(|line| line.starts_with(name))?.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let word = |text: String| text.split_whitespace().next().unwrap_or("unknown").to_owned();
        let memory = field(&read("/proc/meminfo"), "MemTotal").map(word).and_then(|kibibytes| kibibytes.parse().ok());
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory.map_or(0, |kibibytes: u64| kibibytes.div_ceil(1 << 20)),
            kernel: format!("Linux {}", word(read("/proc/sys/kernel/osrelease"))),
            load: word(read("/proc/loadavg")),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_gib, kernel, load } = self;
        write!(f, "{cpu}, {cores} cores, {memory_gib} GiB, {kernel}; load average before the first round: {load}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_all_of_it() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.memory_gib > 0, "{machine}");
        assert!(!machine.to_string().contains("unknown"), "{machine}");
    }
}
