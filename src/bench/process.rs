//! What a process costs, read from outside of it: `/proc/<pid>/stat` and `/proc/<pid>/status`.

use serde::Serialize;
use std::io;

/// Clock ticks a second in `/proc`: the kernel's `USER_HZ`, which is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// CPU time of all its threads, in user mode and in the kernel.
    pub cpu_seconds: f64,
    /// Memory that is resident now.
    pub resident_bytes: u64,
    /// The most memory that was ever resident.
    pub resident_bytes_max: u64,
}

/// What the process with that id has used so far. CPU time is exact to 10 ms.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let missing = |what: &str| io::Error::other(format!("no {what} of process {pid} in /proc"));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| missing("CPU time"))?;
    Ok(Usage {
        cpu_seconds: ticks as f64 / TICKS_PER_SECOND,
        resident_bytes: bytes(&status, "VmRSS:").ok_or_else(|| missing("VmRSS"))?,
        resident_bytes_max: bytes(&status, "VmHWM:").ok_or_else(|| missing("VmHWM"))?,
    })
}

/// `utime` and `stime` together. The second field is the name in parentheses and may itself contain some.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut fields = behind_name.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_stands_behind_a_name_of_any_kind() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 4066 0 1 0 53 21 0 0 20 0 6 0 3141 0 0";
        assert_eq!(cpu_ticks(stat), Some(74));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn a_process_that_works_uses_more() {
        let before = usage(std::process::id()).unwrap();
        let mut memory = Vec::new();
        while usage(std::process::id()).unwrap().cpu_seconds < before.cpu_seconds + 0.03 {
            memory.resize(64 << 20, 1_u8);
        }
        let after = usage(std::process::id()).unwrap();
        assert!(after.resident_bytes_max >= memory.len() as u64, "{after:?}");
        assert!(usage(u32::MAX).is_err());
    }
}
