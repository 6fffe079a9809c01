//! The open files of this process: as many as the machine grants. Senders may have those that the log and the outputs leave,
//! so that connections, which senders open as they like, cost neither of them a file.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The runtime, the listeners, the files of the log, a lookup of a name.
const PROCESS: usize = 32;
/// An output's segment, cursor and dead letters.
const OUTPUT: usize = 4;
/// A lane's connection, and the one before it that may be closing.
const LANE: usize = 2;
/// What senders get at least: some for each listener.
const CONNECTIONS_MIN: usize = 16;

/// Raises the limit as far as this process may. The connections that it leaves to senders beside outputs of so many lanes.
pub fn connections_max(lanes: impl Iterator<Item = usize>) -> usize {
    let outputs: usize = lanes.map(|lanes| OUTPUT + LANE * lanes).sum();
    raise().saturating_sub(PROCESS + outputs).max(CONNECTIONS_MIN)
}

/// Raises the limit as far as this process may, and gives it.
pub fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_leave_the_rest_to_senders() {
        let limit = raise();
        assert_eq!(connections_max([4, 8].into_iter()), limit - 32 - 12 - 20);
        assert_eq!(connections_max([usize::MAX / 4].into_iter()), CONNECTIONS_MIN);
    }
}
