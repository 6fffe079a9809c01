//! Datagrams that the kernel dropped before anybody read them, as Linux counts them for each socket (`/proc/net/udp`). They
//! are not samples yet, so no reason of an input counts them.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A UDP socket, by the inode that the kernel's table names it with; it need not be open any more.
#[derive(Debug)]
pub struct Datagrams {
    inode: u64,
    /// The count when it was read last: the table forgets a socket that is closed.
    dropped: AtomicU64,
}

impl Datagrams {
    /// Those of a socket; none where there is no `/proc`.
    pub fn of(socket: &impl AsRawFd) -> Option<Self> {
        let inode = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?.ino();
        Some(Self { inode, dropped: AtomicU64::new(0) })
    }

    /// How many the kernel has dropped since the socket was opened. Reads a file.
    pub fn dropped(&self) -> u64 {
        let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
        let now = tables.iter().find_map(|table| dropped_of(&fs::read_to_string(table).ok()?, self.inode));
        let now = now.unwrap_or_default();
        self.dropped.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops`
fn dropped_of(table: &str, inode: u64) -> Option<u64> {
    const INODE: usize = 9;
    const DROPS: usize = 12;
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<_> = line.split_ascii_whitespace().collect();
        let is_it = columns.get(INODE)?.parse() == Ok(inode);
        if is_it { columns.get(DROPS)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::UdpSocket;

    #[test]
    fn every_datagram_is_read_or_counted_as_dropped() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            let Ok(socket) = UdpSocket::bind(address) else { continue };
            SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
            socket.set_nonblocking(true).unwrap();
            let datagrams = Datagrams::of(&socket).unwrap();
            assert_eq!(datagrams.dropped(), 0);
            let sender = UdpSocket::bind(address).unwrap();
            for _ in 0..100 {
                sender.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
            }
            let dropped = datagrams.dropped();
            let read = std::iter::from_fn(|| socket.recv(&mut [0; 1000]).ok()).count() as u64;
            assert!(dropped > 0 && read > 0, "{dropped} {read}");
            assert_eq!(dropped + read, 100, "{address}");
            drop(socket);
            assert_eq!(datagrams.dropped(), dropped, "it does not go back to nothing");
        }
    }
}
