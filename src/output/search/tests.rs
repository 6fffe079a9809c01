use super::*;
use crate::wire::Cut;
use crate::wire::remote_write2::messages::{Request, TimeSeries};
use proptest::prelude::*;
use prost::Message as _;
use std::cell::RefCell;

/// A body of one byte a piece, each a line with so many samples.
fn body(samples: &[u32]) -> Body {
    let mut body = Body::default();
    for (at, samples) in samples.iter().enumerate() {
        body.bytes.push(at as u8);
        body.cuts.push(Cut { end: at + 1, samples: *samples, on_wire: 1 });
    }
    body
}

fn pieces(indices: &[usize]) -> Pieces {
    indices.iter().copied().collect()
}

type Outcome = (u64, Vec<(Vec<usize>, u64)>);

/// What a destination says of pieces: its verdict, and the pieces that the answer's words fit.
type Destination<'a> = dyn Fn(&[usize]) -> (Verdict, Named) + 'a;

/// Searches at a destination that takes the empty request, and returns what was delivered, what was refused, and the requests.
fn run(body: &Body, destination: &Destination<'_>) -> (Outcome, Vec<Vec<usize>>) {
    let mut search = Search::new(body);
    let mut requests = Vec::new();
    while let Some(asked) = search.ask() {
        let indices: Vec<_> = asked.iter().collect();
        if indices.is_empty() {
            search.answered(asked, Verdict::Delivered, &Answer::status(204), Named::default());
            continue;
        }
        let (verdict, named) = destination(&indices);
        search.answered(asked, verdict, &Answer::status(400), named);
        requests.push(indices);
    }
    let (delivered, refusals) = search.finish().unwrap();
    let refused = refusals.iter().map(|refusal| (refusal.pieces.iter().collect(), refusal.samples)).collect();
    ((delivered, refused), requests)
}

fn named(indices: impl IntoIterator<Item = usize>, quoted: bool) -> Named {
    Named { pieces: indices.into_iter().collect(), quoted, mentions: 0 }
}

/// A text that names them so often.
fn mentioned(indices: &[usize], mentions: u64) -> Named {
    Named { mentions, ..named(indices.iter().copied(), false) }
}

/// A server that stores the good lines and says how many it dropped; its words fit `fits`.
fn partial_write(bad: &[usize], fits: &[usize], asked: &[usize]) -> (Verdict, Named) {
    let dropped = asked.iter().filter(|piece| bad.contains(piece)).count() as u64;
    let fits = asked.iter().copied().filter(|piece| fits.contains(piece));
    match dropped {
        0 => (Verdict::Delivered, Named::default()),
        _ => (Verdict::Refused(Refused::Lines(dropped)), named(fits, false)),
    }
}

#[test]
fn lines_that_the_words_of_a_partial_write_fit_are_asked_about_together_and_refused_if_all_of_them_are() {
    let body = body(&[1, 2, 1, 3]);
    let (outcome, requests) = run(&body, &|asked| partial_write(&[1, 3], &[1, 3], asked));
    assert_eq!(outcome, (2, vec![(vec![1, 3], 5)]));
    assert_eq!(requests, [vec![0, 1, 2, 3], vec![1, 3], vec![0, 2]]);
}

#[test]
fn a_line_that_the_words_fit_is_not_refused_for_another_that_they_hide() {
    // Types belong to a shard: 0 and 2 conflict in an old one, each in another field; 1 is like 0 and in a new shard. The text
    // names the field of 0 and counts two lines.
    let (outcome, _) = run(&body(&[1; 4]), &|asked| partial_write(&[0, 2], &[0, 1], asked));
    assert_eq!(outcome, (2, vec![(vec![0], 1), (vec![2], 1)]));
}

#[test]
fn suspects_are_sent_again_apart_from_the_others() {
    let body = body(&[1; 100]);
    let (outcome, requests) = run(&body, &|asked| partial_write(&[20], &[10, 20, 30, 40], asked));
    assert_eq!(outcome, (99, vec![(vec![20], 1)]));
    assert_eq!(requests[1], [10, 20, 30, 40]);
    assert_eq!(requests.last().map(Vec::len), Some(96), "the others, at once");
    assert!(requests.len() <= 7, "{requests:?}");
}

#[test]
fn words_that_fit_the_wrong_lines_cost_requests_and_no_truth() {
    // The words are about one conflict, but a line of another one was dropped as well.
    let body = body(&[1; 64]);
    let (outcome, _) = run(&body, &|asked| partial_write(&[5, 50], &[4, 5, 6], asked));
    assert_eq!(outcome, (62, vec![(vec![5], 1), (vec![50], 1)]));
}

#[test]
fn a_partial_write_that_tells_one_reason_of_two_hides_no_line() {
    // Seen on influxd 1.x, lines 0..3 beyond the retention policy and line 3 a conflict: "field type conflict ... dropped=1".
    for fits in [&[3][..], &[]] {
        let (outcome, _) = run(&body(&[1; 5]), &|asked| {
            let old = asked.iter().filter(|piece| **piece < 3).count() as u64;
            match old {
                _ if asked.contains(&3) => partial_write(&[3], fits, asked),
                0 => (Verdict::Delivered, Named::default()),
                _ => (Verdict::Refused(Refused::Lines(old)), Named::default()),
            }
        });
        let mut refused: Vec<_> = outcome.1.into_iter().flat_map(|(pieces, _)| pieces).collect();
        refused.sort_unstable();
        assert_eq!((outcome.0, refused), (1, vec![0, 1, 2, 3]), "{fits:?}");
    }
}

#[test]
fn lines_of_a_partial_write_that_nobody_asked_about_again_are_not_believed_stored() {
    let body = body(&vec![1; 5000]);
    let bad: Vec<_> = (0..5000).step_by(2).collect();
    let ((delivered, refused), requests) = run(&body, &|asked| partial_write(&bad, &[], asked));
    assert!(requests.len() <= 2 * SEARCHES_MAX as usize + 1, "{}", requests.len());
    let refused: Vec<_> = refused.into_iter().flat_map(|(pieces, _)| pieces).collect();
    assert_eq!(delivered + refused.len() as u64, 5000);
    assert_eq!(refused.iter().filter(|piece| **piece % 2 == 0).count(), bad.len());
}

#[test]
fn a_partial_write_is_not_a_destination_that_refuses_everything() {
    // Each answer tells of one line more, the first.
    let bad: Vec<_> = (0..100).collect();
    let (outcome, _) = run(&body(&[1; 200]), &|asked| {
        let first: Vec<_> = asked.iter().copied().filter(|piece| *piece < 100).take(1).collect();
        partial_write(&bad, &first, asked)
    });
    assert_eq!((outcome.0, outcome.1.len()), (100, 100));
}

#[test]
fn numbers_of_lines_count_in_the_request_not_in_the_body() {
    let body = body(&[1, 2, 4, 8]);
    let (outcome, requests) = run(&body, &|asked| match asked.len() {
        4 => (Verdict::TooLarge, Named::default()),
        _ if asked.contains(&3) => (Verdict::Refused(Refused::LineNumbers(vec![2, 2])), Named::default()),
        _ => (Verdict::Delivered, Named::default()),
    });
    assert_eq!(outcome, (7, vec![(vec![3], 8)]));
    assert_eq!(requests.len(), 3);
}

#[test]
fn a_piece_of_many_lines_is_counted_as_many() {
    // Piece 0 is a histogram of four lines.
    let mut body = body(&[1; 6]);
    body.cuts[0].on_wire = 4;
    let lines =
        |lines: Vec<u64>| move |_: &[usize]| (Verdict::Refused(Refused::LineNumbers(lines.clone())), Named::default());
    assert_eq!(run(&body, &lines(vec![6])).0, (5, vec![(vec![2], 1)]));
    assert_eq!(run(&body, &lines(vec![2, 4, 9])).0, (4, vec![(vec![0, 5], 2)]));
    // Six of its nine lines are not all six pieces.
    let (outcome, _) = run(&body, &|asked| {
        let dropped: u64 = asked.iter().map(|piece| [4, 0, 1, 1, 0, 0][*piece]).sum();
        (if dropped > 0 { Verdict::Refused(Refused::Lines(dropped)) } else { Verdict::Delivered }, Named::default())
    });
    assert_eq!(outcome.0, 3);
    // As many as the words fit.
    let (outcome, _) = run(&body, &|asked| {
        let dropped = if asked.contains(&0) { Verdict::Refused(Refused::Lines(4)) } else { Verdict::Delivered };
        (dropped, named(asked.contains(&0).then_some(0), false))
    });
    assert_eq!(outcome, (5, vec![(vec![0], 1)]));
}

#[test]
fn of_a_distribution_a_receiver_counts_two_samples() {
    // Piece 0 is count and sum of one distribution.
    let mut body = body(&[1, 1, 1]);
    body.cuts[0].on_wire = 2;
    let refused = |refused, names: &[usize]| {
        run(&body, &|_| (Verdict::Refused(Refused::Samples(refused)), mentioned(names, refused))).0
    };
    assert_eq!(refused(2, &[1, 2]), (1, vec![(vec![1, 2], 2)]));
    assert_eq!(refused(2, &[0]), (2, vec![(vec![0], 1)]));
    assert_eq!(refused(1, &[0]), (2, vec![(vec![0], 1)]), "count or sum alone");
    assert_eq!(refused(3, &[]), (0, vec![(vec![0, 1, 2], 3)]));
    assert_eq!(refused(4, &[]), (0, vec![(vec![0, 1, 2], 3)]));
}

#[test]
fn numbers_of_lines_that_are_not_there_are_no_help_and_no_harm() {
    for number in [0, 9] {
        let (outcome, _) = run(&body(&[1; 4]), &|asked| {
            let bad = asked.contains(&2);
            let verdict = if bad { Verdict::Refused(Refused::LineNumbers(vec![number])) } else { Verdict::Delivered };
            (verdict, Named::default())
        });
        assert_eq!(outcome, (3, vec![(vec![2], 1)]), "{number}");
    }
}

#[test]
fn quoted_lines_are_refused_at_once() {
    let body = body(&[1; 6]);
    let quotes = |asked: &[usize]| named(asked.iter().copied().filter(|piece| [1, 4].contains(piece)), true);
    // Nothing was stored: the others are sent again.
    let (outcome, requests) = run(&body, &|asked| {
        let bad = asked.contains(&1);
        (if bad { Verdict::Suspect } else { Verdict::Delivered }, quotes(asked))
    });
    assert_eq!(outcome, (4, vec![(vec![1, 4], 2)]));
    assert_eq!(requests[1], [0, 2, 3, 5]);
    // The others were stored: nothing is sent again.
    let (outcome, requests) = run(&body, &|asked| (Verdict::Refused(Refused::Quoted), quotes(asked)));
    assert_eq!((outcome, requests.len()), ((4, vec![(vec![1, 4], 2)]), 1));
}

#[test]
fn what_a_receiver_has_written_is_never_sent_again() {
    let mut body = body(&[1, 3, 1]);
    body.cuts.iter_mut().for_each(|cut| cut.on_wire = cut.samples);
    let cases = [
        // (refused, named, how often, kept)
        (3, vec![1], 3, vec![1]),
        (3, vec![1], 2, vec![0, 1, 2]),
        (1, vec![1], 1, vec![1]),
        (1, vec![], 0, vec![0, 1, 2]),
        (4, vec![1], 4, vec![0, 1, 2]),
        (9, vec![], 0, vec![0, 1, 2]),
    ];
    for (refused, names, mentions, kept) in cases {
        let answer = |_: &[usize]| (Verdict::Refused(Refused::Samples(refused)), mentioned(&names, mentions));
        let (outcome, requests) = run(&body, &answer);
        let refused = refused.min(5);
        assert_eq!(outcome, (5 - refused, vec![(kept, refused)]));
        assert_eq!(requests.len(), 1);
    }
}

#[test]
fn a_destination_that_refuses_everything_is_soon_believed() {
    let body = body(&vec![1; 5000]);
    let (outcome, requests) = run(&body, &|_| (Verdict::Suspect, Named::default()));
    assert_eq!(outcome.0, 0);
    assert_eq!(outcome.1.iter().map(|(_, samples)| samples).sum::<u64>(), 5000);
    assert!(requests.len() <= 2 * FRUITLESS_MAX as usize + 1, "{}", requests.len());
}

/// Searches at a destination with one answer to every request and another to the empty one: how many requests it took, and what
/// was delivered and refused, if it was believed.
fn door(pieces: usize, body_answer: &(Verdict, &str), empty_answer: &(Verdict, &str)) -> (usize, Option<(u64, u64)>) {
    let body = body(&vec![1; pieces]);
    let mut search = Search::new(&body);
    let mut requests = 0;
    while let Some(asked) = search.ask() {
        let (verdict, words) = if asked.is_empty() { empty_answer.clone() } else { body_answer.clone() };
        let answer = Answer { body: words.to_owned(), ..Answer::status(400) };
        search.answered(asked, verdict, &answer, Named::default());
        requests += 1;
    }
    let refused = |refusals: Vec<Refusal>| refusals.iter().map(|refusal| refusal.samples).sum();
    (requests, search.finish().map(|(delivered, refusals)| (delivered, refused(refusals))))
}

#[test]
fn whoever_says_nothing_of_samples_and_takes_nothing_is_not_believed() {
    use Verdict::{Delivered, Suspect, TooLarge};
    let nothing = "unsupported path requested";
    let retry = Verdict::Retry { after: None };
    // (answers, to the empty request, whether the refusal is believed)
    let cases = [
        ((Suspect, nothing), (Suspect, nothing), false),
        ((Suspect, nothing), (TooLarge, ""), false),
        ((Suspect, nothing), (retry, ""), false),
        ((Suspect, nothing), (Delivered, ""), true),
        ((Suspect, nothing), (Suspect, "writing requires points"), true),
        ((Suspect, "out of order sample"), (Suspect, nothing), true),
        ((TooLarge, nothing), (Suspect, nothing), true),
        ((Verdict::Refused(Refused::All), nothing), (Suspect, nothing), true),
    ];
    for (to_body, to_empty, believed) in cases {
        for pieces in [1, 8, 5000] {
            let (requests, result) = door(pieces, &to_body, &to_empty);
            let what = format!("{pieces}: {to_body:?} {to_empty:?}");
            assert_eq!(result, believed.then_some((0, pieces as u64)), "{what}");
            assert!(believed || requests <= 2 * DOUBTFUL_MAX as usize + 2, "{what}: {requests}");
        }
    }
    assert_eq!(door(0, &(Suspect, ""), &(Suspect, "")), (0, Some((0, 0))), "nothing is refused");
}

#[test]
fn whoever_refuses_for_size_or_rate_is_not_believed_for_that() {
    // A proxy with a limit in front of a place that reads no samples.
    let body = body(&[1; 8]);
    for by_the_proxy in [Verdict::TooLarge, Verdict::Refused(Refused::All)] {
        let mut search = Search::new(&body);
        while let Some(asked) = search.ask() {
            let is_whole = asked.len() == if by_the_proxy == Verdict::TooLarge { 8 } else { 1 };
            let verdict = if is_whole { by_the_proxy.clone() } else { Verdict::Suspect };
            search.answered(asked, verdict, &Answer::status(400), Named::default());
        }
        assert_eq!(search.finish(), None, "{by_the_proxy:?}");
    }
}

#[test]
fn whoever_takes_a_piece_is_believed_although_it_refuses_the_empty_request() {
    let body = body(&[1; 600]);
    let mut search = Search::new(&body);
    while let Some(asked) = search.ask() {
        let takes = asked.iter().all(|piece| piece == 5) && !asked.is_empty();
        let verdict = if takes { Verdict::Delivered } else { Verdict::Suspect };
        search.answered(asked, verdict, &Answer::status(400), Named::default());
    }
    let (delivered, refusals) = search.finish().unwrap();
    assert_eq!((delivered, refusals.iter().map(|refusal| refusal.samples).sum::<u64>()), (1, 599));
}

#[test]
fn what_was_refused_before_the_place_was_the_right_one_is_asked_about_again() {
    for pieces in [1, 2, 7, 40] {
        for wrong in 0..40 {
            let body = body(&vec![1; pieces]);
            let mut search = Search::new(&body);
            let mut requests = 0;
            while let Some(asked) = search.ask() {
                let verdict = if requests < wrong { Verdict::Suspect } else { Verdict::Delivered };
                search.answered(asked, verdict, &Answer::status(400), Named::default());
                requests += 1;
            }
            let (seen, found) = (requests > wrong, search.finish());
            assert_eq!(found, seen.then_some((pieces as u64, Vec::new())), "{pieces} pieces, {wrong} wrong answers");
        }
    }
}

#[test]
fn whoever_names_a_piece_is_believed() {
    let body = body(&[1; 3]);
    let mut search = Search::new(&body);
    while let Some(asked) = search.ask() {
        assert!(!asked.is_empty(), "there is no need to ask more");
        let named = Named { pieces: asked.clone(), ..Named::default() };
        search.answered(asked, Verdict::Suspect, &Answer::status(400), named);
    }
    assert!(search.finish().is_some());
}

#[test]
fn a_search_goes_on_for_as_long_as_something_is_delivered() {
    let bad: Vec<_> = (0..600).step_by(3).collect();
    let (outcome, _) = run(&body(&[1; 600]), &|asked| {
        let verdict = if asked.iter().any(|piece| bad.contains(piece)) { Verdict::Suspect } else { Verdict::Delivered };
        (verdict, Named::default())
    });
    assert_eq!((outcome.0, outcome.1.len()), (400, 200));
}

#[test]
fn what_has_no_samples_is_refused_without_a_word() {
    // Metadata, and quotes that fit no line.
    let (outcome, _) = run(&body(&[0, 1]), &|asked| {
        (if asked.contains(&0) { Verdict::Suspect } else { Verdict::Delivered }, Named::default())
    });
    assert_eq!(outcome, (1, vec![]));
    let (outcome, _) = run(&body(&[1; 4]), &|asked| {
        let bad = asked.contains(&2);
        (if bad { Verdict::Refused(Refused::Quoted) } else { Verdict::Delivered }, Named::default())
    });
    assert_eq!(outcome, (3, vec![(vec![2], 1)]));
}

#[test]
fn a_search_given_up_says_so() {
    let body = body(&vec![1; 5000]);
    let mut search = Search::believing(&body);
    while let Some(asked) = search.ask() {
        search.answered(asked, Verdict::Suspect, &Answer::status(400), Named::default());
    }
    let (_, refusals) = search.finish().unwrap();
    let notes: Vec<_> =
        refusals.iter().filter(|refusal| refusal.pieces.len() > 1).map(|refusal| &refusal.note).collect();
    assert!(!notes.is_empty() && notes.iter().all(|note| note.as_ref().is_some_and(|note| note.contains("given up"))));
}

#[test]
fn a_request_of_chosen_pieces_has_the_prefix_and_nothing_else() {
    let mut body = body(&[1; 5]);
    body.prefix = vec![99];
    assert_eq!(*pieces(&[0, 2, 3]).bytes(&body), [99, 0, 2, 3]);
    assert_eq!(*pieces(&[1, 2]).bytes(&body), [99, 1, 2]);
    assert_eq!(*Pieces::all(&body).bytes(&body), [99, 0, 1, 2, 3, 4]);
}

#[test]
fn halves_of_a_body_that_is_mostly_symbols_are_half_as_large() {
    let names: Vec<_> = (0..8).map(|at| format!("{at}{}", "x".repeat(100))).collect();
    let mut body = Body::default();
    for at in 0..8 {
        let series = TimeSeries { labels_refs: vec![1, 2 + at], ..TimeSeries::default() };
        Request { symbols: Vec::new(), timeseries: vec![series] }.encode(&mut body.bytes).unwrap();
        body.cut(1);
    }
    let symbols = ["", "__name__"].map(str::to_owned).into_iter().chain(names.clone()).collect();
    body.prefix = Request { symbols, timeseries: Vec::new() }.encode_to_vec();
    let mut search = Search::new(&body);
    let mut arrived = Vec::new();
    while let Some(asked) = search.ask() {
        let bytes = asked.bytes(&body);
        let is_taken = bytes.len() <= 300;
        if is_taken {
            let Request { symbols, timeseries } = Request::decode(&*bytes).unwrap();
            arrived.extend(timeseries.iter().map(|series| symbols[series.labels_refs[1] as usize].clone()));
        }
        let verdict = if is_taken { Verdict::Delivered } else { Verdict::TooLarge };
        search.answered(asked, verdict, &Answer::status(413), Named::default());
    }
    assert_eq!((search.finish(), arrived), (Some((8, Vec::new())), names));
}

proptest! {
    /// Whatever the destination refuses and however misleading its words: within the bounds of the search, exactly the bad
    /// pieces are refused, every sample is counted once, and requests keep the order of the body.
    #[test]
    fn the_bad_pieces_are_found_and_no_other(
        samples in prop::collection::vec(0_u32..4, 1..60),
        bad in prop::collection::vec(any::<bool>(), 60),
        fits in prop::collection::vec(any::<bool>(), 60),
        partial in any::<bool>(),
        size_max in 1_usize..80,
    ) {
        let body = body(&samples);
        let chosen = |asked: &[usize], which: &[bool]| -> Vec<usize> {
            asked.iter().copied().filter(|piece| which[*piece]).collect()
        };
        let order = RefCell::new(true);
        let (outcome, _) = run(&body, &|asked| {
            *order.borrow_mut() &= asked.is_sorted();
            let refused = chosen(asked, &bad);
            // The words fit every bad piece, and others.
            let fits: Vec<_> = asked.iter().copied().filter(|piece| bad[*piece] || fits[*piece]).collect();
            let verdict = match refused.len() {
                _ if asked.len() > size_max => return (Verdict::TooLarge, Named::default()),
                0 => Verdict::Delivered,
                lines if partial => Verdict::Refused(Refused::Lines(lines as u64)),
                _ => Verdict::Suspect,
            };
            (verdict, named(fits, false))
        });
        prop_assert!(order.into_inner());
        let all: Vec<_> = (0..samples.len()).collect();
        let expected: Vec<_> = chosen(&all, &bad).into_iter().filter(|piece| samples[*piece] > 0).collect();
        let mut refused: Vec<_> =
            outcome.1.iter().flat_map(|(pieces, _)| pieces).copied().filter(|piece| samples[*piece] > 0).collect();
        refused.sort_unstable();
        prop_assert_eq!(&refused, &expected);
        let lost: u64 = expected.iter().map(|piece| u64::from(samples[*piece])).sum();
        prop_assert_eq!(outcome.1.iter().map(|(_, samples)| samples).sum::<u64>(), lost);
        prop_assert_eq!(outcome.0 + lost, samples.iter().copied().map(u64::from).sum::<u64>());
    }
}
