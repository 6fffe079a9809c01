use super::*;

const SETUP: &[u8] = b"\0\0\0\0\x04\0\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\x12application/binary\x12application/binary";
const BYTES_MAX: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(30);

/// A frame of the application.
fn frame(stream: u32, kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    let head = u16::from(kind) << 10 | flags;
    [&stream.to_be_bytes()[..], &head.to_be_bytes(), body].concat()
}

struct Fixture {
    session: Session,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let now = Instant::now();
        Self { session: Session::new(BYTES_MAX, PATIENCE, now), now }
    }

    /// A session that is open and has given its key.
    fn open() -> Self {
        let mut fixture = Self::new();
        assert!(matches!(fixture.receive(SETUP), Ok(Some(Event::Opened))));
        fixture.session.give(b"key");
        assert_eq!(fixture.sent(), [frame(2, 0x05, 0, b"key")]);
        fixture
    }

    /// Takes a frame, byte by byte.
    fn receive(&mut self, frame: &[u8]) -> Result<Option<Event>, Fault> {
        for (at, byte) in frame.iter().enumerate() {
            if let Some(event) = self.session.receive(&[*byte], at + 1 == frame.len(), true, self.now)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn fault(&mut self, frame: &[u8]) -> (u32, String) {
        let fault = self.receive(frame).unwrap_err();
        (fault.code(), fault.to_string())
    }

    /// Takes a frame that nothing comes of.
    fn ignores(&mut self, frame: &[u8]) {
        assert!(matches!(self.receive(frame), Ok(None)), "{frame:?}");
        assert_eq!(self.session.held(), 0);
    }

    fn ask(&mut self) -> Result<(), Failure> {
        self.session.ask(b"key", self.now)
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        self.session.take_out()
    }

    fn pass(&mut self, time: Duration) -> Result<(), Fault> {
        self.now += time;
        self.session.look(self.now)
    }
}

fn answered(event: Result<Option<Event>, Fault>) -> Result<Content, String> {
    match event {
        Ok(Some(Event::Answered(answer))) => answer.map_err(|failure| failure.to_string()),
        other => panic!("{other:?}"),
    }
}

fn pushed(event: Result<Option<Event>, Fault>) -> (Result<Content, String>, Option<u32>) {
    match event {
        Ok(Some(Event::Pushed { content, stream })) => (content.map_err(|failure| failure.to_string()), stream),
        other => panic!("{other:?}"),
    }
}

fn content(metadata: &[u8], data: &[u8]) -> Content {
    Content { metadata: metadata.to_vec(), data: data.to_vec() }
}

#[tokio::test]
async fn a_scrape_is_a_question_and_an_answer() {
    let mut app = Fixture::open();
    for stream in [4, 6, 8] {
        app.ask().unwrap();
        assert_eq!(app.sent(), [frame(stream, 0x04, 0, b"key")]);
        assert!(matches!(app.ask(), Err(Failure::Stuck)), "one question at a time");
        let answer = app.receive(&frame(stream, 0x0a, 0x160, b"\0\0\x02aesdata"));
        assert_eq!(answered(answer), Ok(content(b"ae", b"sdata")));
    }
    assert_eq!(app.session.held(), 0);
}

#[tokio::test]
async fn an_application_may_not_answer_well() {
    let cases: [(Vec<u8>, &str); 5] = [
        (frame(4, 0x0b, 0, b"\0\0\x02\x01no registry"), "code 0x201: no registry"),
        (frame(4, 0x0b, 0, b"\0"), "metadata that ends within its frame"),
        (frame(4, 0x0a, 0x40, b""), "empty answer"),
        (frame(4, 0x0a, 0x160, b"\0\0\x09aes"), "metadata that ends within its frame"),
        (frame(4, 0x0a, 0x60, &[0; BYTES_MAX + 1]), "at most 1000 bytes"),
    ];
    for (answer, expected) in cases {
        let mut app = Fixture::open();
        app.ask().unwrap();
        let got = answered(app.receive(&answer)).unwrap_err();
        assert!(got.contains(expected), "{got}");
        assert!(app.ask().is_ok() && app.session.held() == 0, "the link goes on");
    }
}

#[tokio::test]
async fn an_answer_without_room_is_passed_over() {
    let mut app = Fixture::open();
    app.ask().unwrap();
    let answer = frame(4, 0x0a, 0x60, &[7; 900]);
    let (first, second) = answer.split_at(500);
    assert!(matches!(app.session.receive(first, false, true, app.now), Ok(None)));
    assert!(app.session.held() >= 494);
    assert!(matches!(app.session.receive(second, false, false, app.now), Ok(None)));
    assert_eq!(app.session.held(), 0);
    let event = app.session.receive(&[], true, true, app.now);
    assert_eq!(answered(event), Err("too much is being received at once".to_owned()));
}

#[tokio::test]
async fn who_does_not_answer_is_asked_again_when_it_has_or_after_a_while() {
    let mut app = Fixture::open();
    app.ask().unwrap();
    app.session.awaited(false);
    assert!(matches!(app.ask(), Err(Failure::Stuck)));
    app.ignores(&frame(4, 0x0a, 0x60, &[7; 5000]));
    app.ask().unwrap();
    app.sent();
    app.now += STUCK_MAX;
    app.ask().unwrap();
    assert_eq!(app.sent(), [frame(6, 0x09, 0, b""), frame(8, 0x04, 0, b"key")]);
    app.ignores(&frame(6, 0x0a, 0x60, b"late"));
    assert_eq!(answered(app.receive(&frame(8, 0x0a, 0x60, b"text"))), Ok(content(b"", b"text")));
}

#[tokio::test]
async fn pushes_come_with_and_without_a_wish_for_an_answer() {
    let mut app = Fixture::open();
    let push = app.receive(&frame(1, 0x04, 0x100, b"\0\0\x02aesdata"));
    assert_eq!(pushed(push), (Ok(content(b"ae", b"sdata")), Some(1)));
    app.session.respond(1, Ok(()));
    app.session.respond(3, Err("not good".to_owned()));
    assert_eq!(app.sent(), [frame(1, 0x0a, 0x60, b""), frame(3, 0x0b, 0, b"\0\0\x02\x01not good")]);
    let push = app.receive(&frame(5, 0x05, 0, b"data"));
    assert_eq!(pushed(push), (Ok(content(b"", b"data")), None));
    let push = app.receive(&frame(7, 0x04, 0, &[0; 2000]));
    assert_eq!(
        pushed(push),
        (Err("expected at most 1000 bytes (limits.max_body_bytes), found more".to_owned()), Some(7))
    );
    let push = app.receive(&frame(9, 0x05, 0x100, b"\0"));
    assert_eq!(pushed(push), (Err("expected metadata that ends within its frame".to_owned()), None));
    let end = app.receive(&frame(0, 0x0b, 0, b"\0\0\x01\x01disposed"));
    assert!(matches!(end, Ok(Some(Event::Ended(error))) if error.message == "disposed"));
}

#[tokio::test]
async fn fragments_of_an_answer_and_of_a_push_mix() {
    let mut app = Fixture::open();
    app.ask().unwrap();
    for fragment in [
        frame(4, 0x0a, 0x1a0, b"\0\0\x02aean"),
        frame(1, 0x04, 0x180, b"\0\0\x01p"),
        frame(4, 0x0a, 0x0a0, b"sw"),
        frame(3, 0x04, 0, b"a second push"),
        frame(1, 0x0a, 0x1a0, b"\0\0\x01qpu"),
    ] {
        assert!(matches!(app.receive(&fragment), Ok(None)));
    }
    assert_eq!(answered(app.receive(&frame(4, 0x0a, 0x60, b"er"))), Ok(content(b"ae", b"answer")));
    assert_eq!(pushed(app.receive(&frame(1, 0x0a, 0x20, b"sh"))), (Ok(content(b"pq", b"push")), Some(1)));
    assert_eq!(app.sent()[1..], [frame(3, 0x0b, 0, b"\0\0\x02\x02one push at a time")]);
    assert_eq!(app.session.held(), 0);
}

#[tokio::test]
async fn fragments_are_bounded_together_and_in_time() {
    let mut app = Fixture::open();
    app.ask().unwrap();
    for _ in 0..2 {
        assert!(matches!(app.receive(&frame(4, 0x0a, 0x0a0, &[0; 450])), Ok(None)));
    }
    let got = answered(app.receive(&frame(4, 0x0a, 0x0a0, &[0; 450]))).unwrap_err();
    assert!(got.contains("at most 1000 bytes"), "{got}");
    app.ignores(&frame(4, 0x0a, 0x60, b"the last of them"));
    assert!(matches!(app.receive(&frame(1, 0x05, 0x80, b"the first")), Ok(None)));
    for _ in 0..9 {
        assert_eq!(app.pass(PATIENCE), Ok(()));
        app.ignores_but_holds(&frame(0, 0x03, 0, &[0; 8]));
    }
    assert_eq!(app.pass(PATIENCE), Err(Fault::Slow(PATIENCE * 10)));
    let mut app = Fixture::open();
    assert!(matches!(app.receive(&frame(1, 0x05, 0x80, b"the first")), Ok(None)));
    app.ignores(&frame(1, 0x09, 0, b""));
}

impl Fixture {
    fn ignores_but_holds(&mut self, frame: &[u8]) {
        assert!(matches!(self.receive(frame), Ok(None)));
        assert!(self.session.held() > 0);
    }
}

#[tokio::test]
async fn signs_of_life_go_both_ways() {
    let mut app = Fixture::open();
    app.ignores(&frame(0, 0x03, 0x80, b"\0\0\0\0\0\0\0\x07how?"));
    assert_eq!(app.sent(), [frame(0, 0x03, 0, b"\0\0\0\0\0\0\0\0how?")]);
    app.ignores(&frame(0, 0x03, 0, &[0; 8]));
    for _ in 0..4 {
        assert_eq!(app.session.next_look(), app.now + Duration::from_secs(20));
        assert_eq!(app.pass(Duration::from_secs(20)), Ok(()));
        assert_eq!(app.sent(), [frame(0, 0x03, 0x80, &[0; 8])]);
    }
    assert_eq!(app.session.next_look(), app.now + Duration::from_secs(10));
    assert_eq!(app.pass(Duration::from_secs(10)), Err(Fault::Silent(Duration::from_secs(90))));
    let mut late = Fixture::new();
    assert_eq!(late.session.next_look(), late.now + PATIENCE);
    assert_eq!(late.pass(PATIENCE), Err(Fault::Late(PATIENCE)));
}

#[tokio::test]
async fn times_of_a_setup_are_taken_within_reason() {
    let setup = |keepalive: u32, lifetime: u32| {
        let mut setup = SETUP.to_vec();
        setup[10..14].copy_from_slice(&keepalive.to_be_bytes());
        setup[14..18].copy_from_slice(&lifetime.to_be_bytes());
        let mut app = Fixture::new();
        assert!(matches!(app.receive(&setup), Ok(Some(Event::Opened))));
        let next = app.session.next_look() - app.now;
        let is_given_up = (0..400).any(|_| app.pass(Duration::from_secs(1)).is_err());
        assert!(is_given_up);
        let heard = app.session.heard;
        (next, app.now - heard)
    };
    let seconds = Duration::from_secs;
    assert_eq!(setup(1, 1), (seconds(1), seconds(3)));
    assert_eq!(setup(u32::MAX, u32::MAX), (seconds(60), seconds(300)));
}

#[tokio::test]
async fn what_is_not_for_the_gateway_is_passed_over() {
    let mut app = Fixture::open();
    for frame in [
        frame(5, 0x08, 0, &[0, 0, 0, 1]),
        frame(5, 0x09, 0, b""),
        frame(0, 0x0c, 0x100, &[0; 5000]),
        frame(0, 0x02, 0, &[0; 8]),
        frame(0, 0x3f, 0x200, &[0; 5000]),
        frame(3, 0x0a, 0x60, &[0; 5000]),
        frame(4, 0x0a, 0x60, &[0; 5000]),
        frame(4, 0x0b, 0, b"\0\0\x02\x01"),
    ] {
        app.ignores(&frame);
        assert!(app.sent().is_empty());
    }
    for kind in [0x06, 0x07] {
        app.ignores(&frame(9, kind, 0, &[0; 5000]));
        let sent = app.sent();
        assert_eq!(sent[0][..10], frame(9, 0x0b, 0, b"\0\0\x02\x01")[..]);
    }
}

#[tokio::test]
async fn a_connection_begins_with_a_setup_that_can_be_granted() {
    let flagged = |flags: u16| [&frame(0, 0x01, flags, b""), &SETUP[6..]].concat();
    let cases: [(Vec<u8>, u32, &str); 7] = [
        (frame(0, 0x03, 0x80, &[0; 8]), 0x001, "expected SETUP as the first frame, found Keepalive"),
        (frame(1, 0x01, 0, &SETUP[6..]), 0x001, "expected SETUP as the first frame, found Setup"),
        (frame(0, 0x0d, 0, &[0; 40]), 0x004, "resume not supported"),
        (flagged(0x80), 0x002, "resume is not supported"),
        (flagged(0x40), 0x002, "lease is not supported"),
        (SETUP[..20].to_vec(), 0x001, "expected a SETUP of 31 bytes and more, found 14"),
        (frame(0, 0x01, 0, &vec![0; 20_000]), 0x101, "expected at most 16384 bytes of Setup, found more"),
    ];
    for (first, code, message) in cases {
        let mut app = Fixture::new();
        assert_eq!(app.fault(&first), (code, message.to_owned()));
    }
}

#[tokio::test]
async fn what_breaks_the_connection_costs_it() {
    let cases: [(Vec<u8>, &str); 9] = [
        (b"\0\0".to_vec(), "expected a frame of 6 bytes and more, found 2"),
        (SETUP.to_vec(), "expected one beginning, found Setup on stream 0"),
        (frame(0, 0x0d, 0, b""), "expected one beginning, found Resume on stream 0"),
        (frame(1, 0x03, 0, &[0; 8]), "expected KEEPALIVE on stream 0, found Keepalive on stream 1"),
        (frame(0, 0x03, 0, &[0; 7]), "expected KEEPALIVE of 8 bytes and more, found 7"),
        (frame(0, 0x0b, 0, b"\0\0"), "expected ERROR with a code"),
        (frame(2, 0x04, 0, b""), "expected requests of a client on odd streams, found RequestResponse on stream 2"),
        (frame(0, 0x05, 0, b""), "expected requests of a client on odd streams, found RequestFnf on stream 0"),
        (frame(0, 0x20, 0, b""), "expected a type of RSocket 1.0, found Other(32) on stream 0"),
    ];
    for (bad, message) in cases {
        assert_eq!(Fixture::open().fault(&bad), (0x101, message.to_owned()));
    }
}

/// Frames of the real client, as recorded, to their beginnings.
#[tokio::test]
async fn micrometers_client_is_understood() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/micrometer/rsocket_frames_trace.txt");
    let Ok(trace) = std::fs::read_to_string(path) else {
        println!("skipped: the recording of frames is not there");
        return;
    };
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let mut app = Fixture::new();
    let mut seen = Vec::new();
    for line in trace.lines().filter_map(|line| line.trim().strip_prefix("IN ")) {
        let words: Vec<_> = line.split(' ').collect();
        if words[0] == "SETUP" {
            app = Fixture::new();
        }
        let length: usize = words[words.iter().position(|word| *word == "len").unwrap() + 1].parse().unwrap();
        let mut frame = hex(words.last().unwrap());
        frame.resize(length, 0);
        app.session.content_bytes_max = 1 << 20;
        seen.push(match app.receive(&frame).unwrap() {
            Some(Event::Opened) => {
                app.session.give(b"key");
                app.ask().unwrap();
                "opened"
            }
            Some(Event::Answered(Ok(Content { metadata, data }))) => {
                assert!(matches!((metadata.len(), data.len()), (256, 1344) | (9, 6973)));
                "answered"
            }
            Some(Event::Pushed { content: Ok(Content { metadata, data }), stream: Some(1) }) => {
                assert_eq!((metadata.len(), data.len()), (256, 1344));
                "pushed"
            }
            Some(Event::Ended(_)) => "ended",
            None => "alive",
            other => panic!("{other:?}"),
        });
    }
    let [first, second] = [&["opened", "answered", "alive", "pushed", "ended"][..], &["opened", "answered", "ended"]];
    assert_eq!(seen, [first, second].concat());
}
