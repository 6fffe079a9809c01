use super::sweep::IDLE_SWEEPS_WHEN_CROWDED;
use super::*;
use crate::model::{Batch, Format, MetricType};
use std::borrow::Cow;

fn spec<'a>(name: &'a str, field: Option<&'a str>, labels: &[(&'a str, &'a str)]) -> SeriesSpec<'a> {
    let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
    SeriesSpec { measurement: name, field, labels, metadata: None }
}

#[test]
fn two_spellings_of_a_series_share_its_id_and_pairs() {
    let table = SeriesTable::default();
    let one = table
        .define(Source::OWN, table.hash(b"1"), Dialect::Prometheus, spec("m", None, &[("b", "2"), ("a", "1")]))
        .unwrap();
    let two = table
        .define(Source::OWN, table.hash(b"2"), Dialect::Prometheus, spec("m", None, &[("a", "1"), ("b", "2")]))
        .unwrap();
    assert_eq!(one, two);
    let other =
        table.define(Source::OWN, table.hash(b"3"), Dialect::Prometheus, spec("n", None, &[("a", "1")])).unwrap();
    assert_ne!(one, other);
    let (first, third) = (table.series(one).unwrap(), table.series(other).unwrap());
    assert!(Arc::ptr_eq(&first.labels[0], &third.labels[0]));
    assert_eq!(table.recognise(table.hash(b"2")), Some(one));
}

#[test]
fn an_alias_leads_to_what_it_was_last_defined_as() {
    let table = SeriesTable::default();
    let alias = table.hash(b"alias");
    let define = |name| table.define(Source::OWN, alias, Dialect::Prometheus, spec(name, None, &[])).unwrap();
    let ids = ["m", "n"].map(define);
    assert_ne!(ids[0], ids[1]);
    for (name, id) in ["n", "m", "m", "n", "m"].into_iter().zip([ids[1], ids[0], ids[0], ids[1], ids[0]]) {
        assert_eq!((define(name), table.recognise(alias)), (id, Some(id)));
    }
}

#[test]
fn a_further_spelling_keeps_its_series_and_leaves_with_it() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 2, ..TableBounds::default() });
    let empty = table.bytes();
    let define = |alias: &[u8]| {
        table.define(Source::OWN, table.hash(alias), Dialect::Prometheus, spec("m", None, &[("a", "1")])).unwrap()
    };
    let id = define(b"first");
    let alone = table.bytes();
    assert_eq!((define(b"further"), define(b"seldom")), (id, id));
    for _ in 0..10 {
        assert_eq!((table.recognise(table.hash(b"further")), table.sweep()), (Some(id), 0));
    }
    assert_eq!(table.bytes(), alone + SPELLING_BYTES, "one that nobody writes is forgotten");
    assert_eq!((0..10).map(|_| table.sweep()).sum::<usize>(), 1);
    assert_eq!(["first", "further"].map(|alias| table.recognise(table.hash(alias.as_bytes()))), [None; 2]);
    assert_eq!((table.bytes(), table.spellings.len(), table.metrics.len(), table.labels.len()), (empty, 0, 0, 0));
}

#[test]
fn what_few_survivors_of_many_series_occupy_is_on_the_account() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 1, ..TableBounds::default() });
    let mut ids = table.ids();
    let mut define = |number: u32| {
        let (alias, spec) = (table.hash(&number.to_le_bytes()), spec("m", None, &[]));
        let spec = SeriesSpec { labels: vec![("n".into(), number.to_string().into())], ..spec };
        table.define_among(&mut ids, Source::OWN, alias, Dialect::Prometheus, spec).unwrap();
    };
    (0..640).for_each(&mut define);
    for _ in 0..4 {
        let survivors = (0..640_u32).step_by(64).map(|number| table.hash(&number.to_le_bytes()));
        assert!(survivors.into_iter().all(|alias| table.recognise(alias).is_some()));
        table.sweep();
    }
    assert_eq!((table.len(), table.trail.pages()), (10, 10));
    assert!((30_000..40_000).contains(&table.bytes()), "{} bytes", table.bytes());
}

#[test]
fn measurement_and_field_are_not_one_name() {
    let table = SeriesTable::default();
    let ids = [
        table.define(Source::OWN, table.hash(b"1"), Dialect::Influx, spec("ab", Some("c"), &[])).unwrap(),
        table.define(Source::OWN, table.hash(b"2"), Dialect::Influx, spec("a", Some("bc"), &[])).unwrap(),
        table.define(Source::OWN, table.hash(b"3"), Dialect::Prometheus, spec("abc", None, &[])).unwrap(),
    ];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    let lanes = ["x", "y"].map(|field| {
        let id = table
            .define(Source::OWN, table.hash(field.as_bytes()), Dialect::Influx, spec("m", Some(field), &[("t", "v")]))
            .unwrap();
        table.series(id).unwrap().lane_key
    });
    assert_eq!(lanes[0], lanes[1], "the fields of a row share a lane");
}

#[test]
fn an_idle_series_stays_readable_while_a_batch_holds_it() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 1, ..TableBounds::default() });
    let empty = table.bytes();
    let id = table.define(Source::OWN, table.hash(b"1"), Dialect::Prometheus, spec("m", None, &[("a", "1")])).unwrap();
    let batch = Batch::new(Format::InfluxLine, table.pin());
    let retired: usize = (0..4).map(|_| table.sweep()).sum();
    assert_eq!(retired, 1);
    assert_eq!(table.recognise(table.hash(b"1")), None);
    assert!(table.series(id).is_some(), "held by the batch");
    drop(batch);
    table.sweep();
    assert!(table.series(id).is_none());
    assert_eq!(table.bytes(), empty, "the account is even again");
    let again =
        table.define(Source::OWN, table.hash(b"1"), Dialect::Prometheus, spec("m", None, &[("a", "1")])).unwrap();
    assert_ne!(again, id, "ids are not reused");
}

#[test]
fn a_full_table_refuses_new_series_and_knows_the_old() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1, idle_sweeps: 1, ..TableBounds::default() });
    table.define(Source::OWN, table.hash(b"1"), Dialect::Prometheus, spec("m", None, &[])).unwrap();
    assert!(table.define(Source::OWN, table.hash(b"2"), Dialect::Prometheus, spec("n", None, &[])).is_err());
    assert!(table.recognise(table.hash(b"1")).is_some());
    let read_back = table.define_unbounded(Source::OWN, table.hash(b"2"), Dialect::Prometheus, spec("n", None, &[]));
    assert_eq!(table.recognise(table.hash(b"2")), Some(read_back), "what was accepted once is never refused");
}

#[test]
fn a_full_table_makes_room_from_what_a_flood_left_behind() {
    let table = SeriesTable::new(TableBounds { bytes_max: 100_000, idle_sweeps: 1000, ..TableBounds::default() });
    let define = |name: &str| {
        table.define(
            Source::OWN,
            table.hash(name.as_bytes()),
            Dialect::Prometheus,
            spec(name, None, &[("flood", name)]),
        )
    };
    define("steady").unwrap();
    let taken = (0..1000).take_while(|number| define(&format!("flood_{number}")).is_ok()).count();
    assert!((100..999).contains(&taken) && table.bytes() < 101_000, "{taken} series, {} bytes", table.bytes());
    for _ in 0..IDLE_SWEEPS_WHEN_CROWDED + 2 {
        table.recognise(table.hash(b"steady")).expect("known series go on");
        table.sweep();
    }
    assert_eq!(table.len(), 1);
    define("new").unwrap();
}

#[test]
fn a_flood_from_one_source_leaves_room_for_the_new_series_of_others() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1_000_000, idle_sweeps: 60, ..TableBounds::default() });
    let [flooding, other, third] = [1, 2, 3].map(|host| table.source([192, 0, 2, host].into()));
    let define = |source: Source, name: &str| {
        table.define(source, table.hash(name.as_bytes()), Dialect::Influx, spec(name, Some("v"), &[("n", name)]))
    };
    let flood = |source: Source, who: &str| {
        (0..10_000).take_while(|number| define(source, &format!("{who}{number}")).is_ok()).count()
    };
    define(other, "known").unwrap();
    assert!(flood(flooding, "flood") > 1000);
    assert!((790_000..810_000).contains(&table.holding(flooding).bytes), "{:?}", table.holding(flooding));
    assert!(matches!(define(flooding, "more"), Err(Denied::SourceShare { .. })));
    assert!((0..100).all(|number| define(other, &format!("other{number}")).is_ok()), "others are served");
    flood(third, "third");
    assert!(define(other, "still").is_ok(), "two of them leave room as well");
    assert!(table.bytes() < 1_000_000, "{}", table.bytes());

    // What is not seen any more goes sooner than it would in peace, and its source may come again.
    for _ in 0..IDLE_SWEEPS_WHEN_CROWDED + 3 {
        table.recognise(table.hash(b"known")).expect("known series go on");
        table.sweep();
    }
    assert_eq!((table.len(), table.holding(other).series), (1, 1));
    assert_eq!([flooding, third].map(|source| table.holding(source)), [Holding::default(); 2], "even to the byte");
    define(flooding, "again").unwrap();
}

#[test]
fn a_source_alone_may_use_most_of_the_table() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1_000_000, idle_sweeps: 60, ..TableBounds::default() });
    let only = table.source([2001, 0xdb8, 0, 1, 0, 0, 0, 1].into());
    assert_eq!(only, table.source([2001, 0xdb8, 0, 1, 9, 9, 9, 9].into()), "a host may choose the rest");
    assert_ne!(only, table.source([2001, 0xdb8, 0, 2, 0, 0, 0, 1].into()));
    let define = |name: &str| table.define(only, table.hash(name.as_bytes()), Dialect::Influx, spec(name, None, &[]));
    let taken = (0..10_000).take_while(|number| define(&number.to_string()).is_ok()).count();
    assert_eq!(table.holding(only).series, taken);
    assert!(table.bytes() > 750_000, "{}", table.bytes());
    // Spellings of a known series cost memory as well.
    let spelled = (0..10_000_u32)
        .take_while(|number| {
            let alias = table.hash(&number.to_le_bytes());
            table.define(only, alias, Dialect::Influx, spec("0", None, &[])).is_ok()
        })
        .count();
    assert!(spelled < 100, "{spelled} aliases");
}

#[test]
fn metadata_counts_against_the_bound() {
    let table = SeriesTable::new(TableBounds { bytes_max: 10_000, idle_sweeps: 1, ..TableBounds::default() });
    let learn = |family: &str, help: &str| {
        let (family, help, unit) = (family.into(), help.into(), "".into());
        table.learn(Source::OWN, Metadata { family, metric_type: MetricType::Counter, help, unit })
    };
    assert!(learn("a", &"x".repeat(6000)).is_some() && learn("b", &"x".repeat(6000)).is_some());
    assert!(learn("c", "is carried").is_some());
    assert!(table.family("b").is_some() && table.family("c").is_none(), "but not remembered");
    learn("a", "");
    assert!(table.bytes() < 7000, "{}", table.bytes());
}

#[test]
fn an_alias_never_leads_to_a_series_that_is_gone() {
    // Sweeps race with senders whose aliases keep falling idle between their requests.
    let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 1, ..TableBounds::default() });
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..2_u64)
            .map(|sender| {
                let table = &table;
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        let _pin = table.pin();
                        let alias = table.hash(&[sender as u8, (round % 7) as u8]);
                        let id = table.recognise(alias).unwrap_or_else(|| {
                            table.define_unbounded(
                                Source::OWN,
                                alias,
                                Dialect::Prometheus,
                                spec("m", None, &[("a", "1")]),
                            )
                        });
                        assert!(table.series(id).is_some(), "round {round}");
                    }
                })
            })
            .collect();
        while senders.iter().any(|sender| !sender.is_finished()) {
            table.sweep();
        }
    });
}

/// The series `names`, each under the alias of its name.
fn defined<const N: usize>(table: &SeriesTable, names: [&str; N]) -> [SeriesId; N] {
    let define =
        |name: &str| table.define(Source::OWN, table.hash(name.as_bytes()), Dialect::Prometheus, spec(name, None, &[]));
    names.map(|name| define(name).unwrap())
}

#[test]
fn a_walk_expects_the_order_of_the_last_time() {
    let table = SeriesTable::default();
    let names = ["a", "b", "c"];
    let ids = defined(&table, names);
    let hashes = names.map(|name| table.hash(name.as_bytes()));
    let walk = |order: [usize; 3]| {
        let mut walk = Walk::default();
        order.map(|at| {
            let expected = table.expected(&mut walk, hashes[at]);
            assert!(expected.is_none_or(|id| id == ids[at]), "expected another than the alias says");
            if expected.is_none() {
                assert_eq!(table.recognise(hashes[at]), Some(ids[at]));
                table.lead(&mut walk, ids[at], hashes[at], at + 1);
            }
            expected.is_some()
        })
    };
    assert_eq!(walk([0, 1, 2]), [false; 3], "nobody went here before");
    assert_eq!(walk([0, 1, 2]), [false, true, true]);
    assert_eq!(walk([2, 0, 1]), [false, false, true]);
    assert_eq!(walk([1, 0, 2]), [false, false, false], "two turns");
    assert_eq!(walk([1, 0, 2]), [false, true, true]);
    let mut walk = Walk::default();
    table.lead(&mut walk, ids[0], hashes[0], 1);
    assert_eq!(table.expected(&mut walk, table.hash(b"d")), None);
    assert_eq!(walk.expected_len(), Some(3), "a stranger does not lead astray");
    assert_eq!(table.expected(&mut walk, hashes[2]), Some(ids[2]));
    table.lead(&mut walk, ids[0], table.hash(b"another spelling"), 99);
    table.lead(&mut walk, ids[1], hashes[1], 2);
    table.lead(&mut walk, ids[0], hashes[0], 1);
    assert_eq!(table.expected(&mut walk, hashes[1]), Some(ids[1]));
    assert_eq!(walk.expected_len(), Some(1), "the length is that of the alias");
}

#[test]
fn a_series_that_is_only_walked_by_stays_and_one_that_left_is_not_walked_by() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 2, ..TableBounds::default() });
    let empty = table.bytes();
    let names = ["a", "b"];
    let ids = defined(&table, names);
    let hashes = names.map(|name| table.hash(name.as_bytes()));
    let walk = || {
        let mut walk = Walk::default();
        table.lead(&mut walk, table.recognise(hashes[0])?, hashes[0], 1);
        table.expected(&mut walk, hashes[1])
    };
    let mut first = Walk::default();
    table.lead(&mut first, ids[0], hashes[0], 1);
    table.lead(&mut first, ids[1], hashes[1], 1);
    for _ in 0..10 {
        assert_eq!(walk(), Some(ids[1]));
        assert_eq!(table.sweep(), 0);
    }
    let mut stale = Walk::default();
    table.lead(&mut stale, ids[0], hashes[0], 1);
    assert_eq!((0..10).map(|_| table.sweep()).sum::<usize>(), 2);
    assert_eq!((table.expected(&mut stale, hashes[1]), walk()), (None, None));
    assert_eq!((table.bytes(), table.trail.pages()), (empty, 0));
}
