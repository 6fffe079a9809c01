//! HTTP/2 by hand, as far as abuse needs it.

use super::{PAUSE, Scene, connect, duration, gateway, size};
use sluicegate::clock;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head in HPACK: three entries of the static table or literals, none indexed.
fn head(method: u8, path: &str) -> Vec<u8> {
    [&[method, 0x86, 0x04, path.len() as u8], path.as_bytes(), b"\x01\x01g"].concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

fn open(port: u16, settings: &[u8]) -> TcpStream {
    let mut stream = connect(port).expect("a connection");
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).expect("sent");
    stream
}

/// Throws away what comes back, so that it is never the attacker who stands in the way.
fn deafen(stream: &TcpStream) {
    let mut stream = stream.try_clone().expect("a handle");
    thread::spawn(move || {
        let mut thrown_away = [0; 1 << 13];
        while stream.read(&mut thrown_away).is_ok_and(|read| read > 0) {}
    });
}

/// Writes pieces until the gateway ends the connection or the time is over; whether it ended it.
fn insist(stream: &mut TcpStream, mut piece: impl FnMut(u32) -> Vec<u8>) -> bool {
    let end = clock::monotonic() + duration();
    let mut at = 0;
    while clock::monotonic() < end {
        if stream.write_all(&piece(at)).is_err() {
            return true;
        }
        at += 1;
    }
    false
}

#[test]
fn many_streams_with_bodies_that_never_end_are_bounded() {
    Scene::of(gateway()).survives(|gateway| {
        let mut connections: Vec<_> = (0..size(20, 200)).map(|_| open(gateway.port(), &[])).collect();
        connections.iter().for_each(deafen);
        for connection in &mut connections {
            for at in 0..200 {
                let stream = 2 * at + 1;
                let body = frame(DATA, 0, stream, &[b'#'; 16_000]);
                let begun = frame(HEADERS, END_HEADERS, stream, &head(POST, "/write?db=x"));
                if connection.write_all(&[begun, body].concat()).is_err() {
                    break;
                }
            }
        }
        thread::sleep(duration() / 2);
    });
}

#[test]
fn streams_opened_and_reset_in_rapid_succession_end_the_connection() {
    Scene::of(gateway()).survives(|gateway| {
        let mut connection = open(gateway.port(), &[]);
        deafen(&connection);
        let ended = insist(&mut connection, |at| {
            let streams = (at * 100..at * 100 + 100).map(|stream| {
                let stream = 2 * stream + 1;
                let begun = frame(HEADERS, END_HEADERS, stream, &head(POST, "/write?db=x"));
                [begun, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            });
            streams.collect::<Vec<_>>().concat()
        });
        assert!(ended, "it went on for {:?}", duration());
    });
}

#[test]
fn heads_without_end_end_the_connection() {
    Scene::of(gateway()).survives(|gateway| {
        // One head in ever more frames, as large as a frame may be, or empty.
        for block in [vec![0x40; 16_000], Vec::new()] {
            let mut connection = open(gateway.port(), &[]);
            deafen(&connection);
            connection.write_all(&frame(HEADERS, 0, 1, &head(POST, "/write?db=x"))).expect("sent");
            // A literal that names itself with 126 bytes at most each.
            let field = [&[0x00, 0x01, b'x', 0x7e][..], &[b'y'; 126]].concat();
            let fields: Vec<_> = field.iter().copied().cycle().take(block.len() / field.len() * field.len()).collect();
            let ended = insist(&mut connection, |_| frame(CONTINUATION, 0, 1, &fields).repeat(20));
            assert!(ended, "{} bytes a frame", fields.len());
        }
    });
}

#[test]
fn floods_of_frames_that_ask_for_answers_are_bounded() {
    Scene::of(gateway()).survives(|gateway| {
        let floods = [frame(PING, 0, 0, &[7; 8]).repeat(500), frame(SETTINGS, 0, 0, &[]).repeat(500)];
        thread::scope(|scope| {
            for flood in &floods {
                scope.spawn(move || {
                    // What comes back is not read.
                    let mut connection = open(gateway.port(), &[]);
                    connection.set_write_timeout(Some(duration())).expect("a socket");
                    insist(&mut connection, |_| flood.clone());
                });
            }
        });
    });
}

#[test]
fn windows_that_never_open_hold_nothing_but_themselves() {
    Scene::of(gateway()).survives(|gateway| {
        let closed = [&INITIAL_WINDOW_SIZE[..], &[0; 4]].concat();
        let mut connections: Vec<_> = (0..size(20, 200)).map(|_| open(gateway.port(), &closed)).collect();
        connections.iter().for_each(deafen);
        for connection in &mut connections {
            for at in 0..60 {
                let asked = frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &head(GET, "/metrics"));
                if connection.write_all(&asked).is_err() {
                    break;
                }
            }
        }
        // One byte at a time.
        let end = clock::monotonic() + duration();
        while clock::monotonic() < end {
            for connection in &mut connections {
                let _ = connection.write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()));
            }
            thread::sleep(PAUSE);
        }
        // Too much of it is an error of the connection.
        let mut greedy = open(gateway.port(), &[]);
        deafen(&greedy);
        assert!(insist(&mut greedy, |_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())));
    });
}
