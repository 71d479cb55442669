//! The table against a model, and its bounds.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const AGEING: Duration = Duration::from_secs(300);

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn mac(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn port(number: u32) -> PortId {
    PortId::from_u32(number)
}

fn seen(vlan: u16, mac: MacAddr, port: PortId) -> Sighting<'static> {
    Sighting { vlan, mac, port, quota: None }
}

#[test]
fn an_address_ages_out_and_moves() {
    let fdb = Fdb::new(16);
    assert_eq!(fdb.learn(at(1), AGEING, seen(0, mac(1), port(1))), Learned::New);
    assert_eq!(
        fdb.learn(at(2), AGEING, seen(0, mac(1), port(2))),
        Learned::Moved { from: port(1), held: false }
    );
    assert_eq!(fdb.lookup(at(301), AGEING, 0, mac(1)), Some(port(2)));
    assert_eq!(fdb.lookup(at(302), AGEING, 0, mac(1)), None);
}

#[test]
fn an_address_heard_a_moment_ahead_is_not_old() {
    let fdb = Fdb::new(16);
    fdb.learn(at(8), AGEING, seen(0, mac(1), port(1)));
    assert_eq!(fdb.lookup(at(7), AGEING, 0, mac(1)), Some(port(1)));
}

#[test]
fn vlans_learn_apart() {
    let fdb = Fdb::new(16);
    fdb.learn(at(1), AGEING, seen(7, mac(1), port(1)));
    assert_eq!(fdb.lookup(at(1), AGEING, 8, mac(1)), None);
}

#[test]
fn a_full_table_keeps_what_it_has_until_something_ages() {
    let fdb = Fdb::new(64);
    let learned =
        (0..1000).filter(|n| fdb.learn(at(1), AGEING, seen(0, mac(*n), port(1))) == Learned::New).count();
    assert_eq!((learned, fdb.len(at(1), AGEING)), (64, 64));
    assert_eq!(fdb.learn(at(400), AGEING, seen(0, mac(5000), port(2))), Learned::New);
    assert_eq!(fdb.len(at(400), AGEING), 1);
}

#[test]
fn a_port_that_goes_takes_its_addresses_along() {
    let fdb = Fdb::new(64);
    fdb.learn(at(1), AGEING, seen(0, mac(1), port(1)));
    fdb.learn(at(1), AGEING, seen(0, mac(2), port(2)));
    fdb.forget_port(port(1));
    assert_eq!(fdb.lookup(at(1), AGEING, 0, mac(1)), None);
    assert_eq!(fdb.lookup(at(1), AGEING, 0, mac(2)), Some(port(2)));
}

#[test]
fn workers_that_learn_at_once_agree_in_the_end() {
    let fdb = Fdb::new(4096);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let fdb = &fdb;
            scope.spawn(move || {
                for round in 0..20u32 {
                    for n in 0..1000 {
                        fdb.learn(at(u64::from(round)), AGEING, seen(0, mac(n * 2 + worker), port(n)));
                        if let Some(found) = fdb.lookup(at(20), AGEING, 0, mac(n * 2 + 1 - worker)) {
                            assert_eq!(found, port(n));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(fdb.len(at(20), AGEING), 2000);
}

proptest! {
    #[test]
    fn it_behaves_like_a_map_with_times(steps in proptest::collection::vec((0u64..50, 0u32..30, 0u32..4), 1..200)) {
        let fdb = Fdb::new(1024);
        let ageing = Duration::from_secs(60);
        let mut model: HashMap<u32, (u64, u32)> = HashMap::new();
        let mut now = 0;
        for (pause, station, on) in steps {
            now += pause;
            let expected = model.get(&station).filter(|(seen, _)| now - seen < 60).map(|(_, p)| port(*p));
            prop_assert_eq!(fdb.lookup(at(now), ageing, 0, mac(station)), expected);
            fdb.learn(at(now), ageing, seen(0, mac(station), port(on)));
            model.insert(station, (now, on));
        }
    }

    #[test]
    fn a_port_has_at_most_its_share(
        steps in proptest::collection::vec((0u64..30, 0u32..12, 0u32..3), 1..200), limit in 1u32..5,
    ) {
        let fdb = Fdb::new(1024);
        let ageing = Duration::from_secs(60);
        let quotas = [(); 3].map(|()| Quota::new(limit));
        let mut model: HashMap<u32, (u64, u32)> = HashMap::new();
        let mut now = 0;
        for (pause, station, on) in steps {
            now += pause;
            model.retain(|_, (seen, _)| now - *seen < 60);
            let sighting = Sighting { quota: Some(&quotas[on as usize]), ..seen(0, mac(station), port(on)) };
            let learned = fdb.learn(at(now), ageing, sighting);
            if learned == Learned::Held {
                continue;
            }
            let there = model.get(&station).is_some_and(|(_, port)| *port == on);
            let full = model.values().filter(|(_, port)| *port == on).count() >= limit as usize;
            prop_assert_eq!(learned == Learned::Limited, full && !there);
            if let Learned::Moved { from, .. } = learned {
                quotas[from.slot()].give_back();
            }
            if learned != Learned::Limited {
                model.insert(station, (now, on));
            }
            for (station, (_, on)) in &model {
                prop_assert_eq!(fdb.lookup(at(now), ageing, 0, mac(*station)), Some(port(*on)));
            }
        }
    }
}

#[test]
fn a_port_that_has_what_it_may_have_learns_again_when_something_aged() {
    let fdb = Fdb::new(64);
    let quota = Quota::new(2);
    let learn = |second, station| {
        fdb.learn(at(second), AGEING, Sighting { quota: Some(&quota), ..seen(0, mac(station), port(1)) })
    };
    assert_eq!([learn(1, 1), learn(2, 2), learn(3, 3)], [Learned::New, Learned::New, Learned::Limited]);
    assert_eq!(learn(3, 1), Learned::Known);
    assert_eq!(learn(302, 3), Learned::New, "the second has aged");
    assert_eq!(learn(302, 2), Learned::Limited);
}

#[test]
fn a_limit_counts_what_was_there_before_it() {
    let fdb = Fdb::new(64);
    (0..3).for_each(|station| {
        assert_eq!(fdb.learn(at(1), AGEING, seen(0, mac(station), port(1))), Learned::New)
    });
    let quota = Quota::new(3);
    let sighting = Sighting { quota: Some(&quota), ..seen(0, mac(9), port(1)) };
    assert_eq!(fdb.learn(at(2), AGEING, sighting), Learned::Limited);
}

#[test]
fn an_address_that_flaps_is_held_where_it_was() {
    let fdb = Fdb::new(64);
    let learn = |second, on| fdb.learn(at(second), AGEING, seen(0, mac(1), port(on)));
    learn(1, 0);
    let outcomes: Vec<Learned> = (1..8).map(|round| learn(1, round % 2)).collect();
    assert!(outcomes[..4].iter().all(|outcome| matches!(outcome, Learned::Moved { held: false, .. })));
    assert_eq!(outcomes[4], Learned::Moved { from: port(0), held: true });
    assert_eq!(outcomes[5..], [Learned::Held, Learned::Known]);
    assert_eq!(fdb.lookup(at(2), AGEING, 0, mac(1)), Some(port(1)));
    assert!(matches!(learn(31, 0), Learned::Moved { .. }), "after half a minute it may go");
}
