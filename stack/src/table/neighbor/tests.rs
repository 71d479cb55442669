//! The neighbour table under a clock of the tests' own: waiting, ageing, and what goes when it is full.

mod model;

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ANSWER: Claim = Claim::Advertised { mac: Some(MAC), solicited: true, replace: true };
const NEW: Claim = Claim::Told { mac: MAC, create: true };

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn address(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(0xc612_0000 + number).into()
}

fn port(number: u32) -> PortId {
    PortId::from_u32(number)
}

fn table(capacity: usize) -> Neighbors {
    Neighbors::new(capacity, 7, Arc::default())
}

fn ask(table: &Neighbors, seconds: u64, number: u32) -> Lookup {
    table.lookup(at(seconds), address(number), || true)
}

fn hear(table: &Neighbors, seconds: u64, number: u32, claim: Claim) -> VecDeque<Waiting> {
    table.hear(at(seconds), address(number), claim, port(0))
}

fn state(table: &Neighbors, seconds: u64, number: u32) -> Option<(Reachability, Option<MacAddr>)> {
    table.peek(at(seconds), address(number))
}

fn wait(table: &Neighbors, number: u32, length: usize) -> bool {
    let from = port(0);
    table.enqueue(address(number), length, || Waiting {
        frame: vec![0; length].into(),
        offload: Offload::default(),
        from,
        vlan: 0,
        own: false,
    })
}

/// A table with a neighbour that answered at 0 seconds.
fn answered() -> Neighbors {
    let table = table(16);
    ask(&table, 0, 1);
    hear(&table, 0, 1, ANSWER);
    assert_eq!(state(&table, 0, 1), Some((Reachability::Reachable, Some(MAC))));
    table
}

#[test]
fn packets_wait_for_the_answer_and_then_go() {
    let table = table(16);
    assert!(matches!(ask(&table, 0, 1), Lookup::Start(_)));
    assert!(matches!(ask(&table, 0, 1), Lookup::Pending));
    assert!(wait(&table, 1, 60));
    assert_eq!(hear(&table, 1, 1, ANSWER).len(), 1);
    let until = at(1) + table.reachable_time(at(1));
    assert!(matches!(ask(&table, 2, 1), Lookup::Found(MAC, end) if end == until));
    assert_eq!(table.lock().queued_octets, 0);
}

#[test]
fn nobody_answers_the_packets_fail_and_there_is_silence_for_a_while() {
    let table = table(16);
    ask(&table, 0, 1);
    assert!(wait(&table, 1, 60));
    assert!(matches!(table.tick(at(1), address(1)), Tick::Ask));
    assert!(matches!(table.tick(at(2), address(1)), Tick::Ask));
    assert!(matches!(table.tick(at(3), address(1)), Tick::Failed(packets) if packets.len() == 1));
    assert!(matches!(ask(&table, 5, 1), Lookup::Silent));
    assert!(!wait(&table, 1, 60));
    assert!(matches!(table.lookup(at(6), address(1), || false), Lookup::Refused));
    assert!(matches!(ask(&table, 6, 1), Lookup::Start(_)));
    assert_eq!(table.len(), 1);
}

#[test]
fn a_neighbour_that_comes_up_ends_the_silence() {
    let silent = || {
        let table = table(16);
        ask(&table, 0, 1);
        (1..=3).for_each(|second| drop(table.tick(at(second), address(1))));
        assert!(matches!(ask(&table, 4, 1), Lookup::Silent));
        table
    };
    let told = silent();
    hear(&told, 4, 1, Claim::Told { mac: MAC, create: false });
    assert_eq!(state(&told, 4, 1), Some((Reachability::Stale, Some(MAC))));
    let retried = silent();
    retried.retry(address(1));
    assert!(matches!(ask(&retried, 4, 1), Lookup::Start(_)));
}

#[test]
fn the_reachable_time_is_drawn_from_half_to_one_and_a_half() {
    let mut drawn: Vec<_> =
        (0..200).map(|seed| Neighbors::new(1, seed, Arc::default()).reachable_time(at(0))).collect();
    drawn.sort_unstable();
    assert!(drawn[0] >= REACHABLE / 2 && drawn[0] < REACHABLE * 6 / 10, "{drawn:?}");
    assert!(drawn[199] <= REACHABLE * 3 / 2 && drawn[199] > REACHABLE * 14 / 10, "{drawn:?}");
    let table = table(1);
    assert_eq!(table.reachable_time(at(0)), table.reachable_time(at(7199)));
    assert_ne!(table.reachable_time(at(0)), table.reachable_time(at(7200)));
}

#[test]
fn a_stale_neighbour_is_used_for_five_seconds_and_then_probed() {
    let table = answered();
    assert_eq!(state(&table, 50, 1), Some((Reachability::Stale, Some(MAC))));
    assert!(matches!(ask(&table, 50, 1), Lookup::Delay(MAC, due) if due == at(55)));
    assert!(matches!(ask(&table, 51, 1), Lookup::Found(MAC, until) if until == at(55)));
    assert!(matches!(table.tick(at(54), address(1)), Tick::Done), "an old timer comes too early");
    assert!(matches!(table.tick(at(55), address(1)), Tick::AskOne(MAC)));
    assert!(matches!(table.tick(at(55), address(1)), Tick::Done), "a second timer of the same moment");
    assert!(matches!(ask(&table, 55, 1), Lookup::Found(MAC, until) if until == at(56)));
    assert!(matches!(table.tick(at(56), address(1)), Tick::AskOne(MAC)));
    assert!(matches!(table.tick(at(57), address(1)), Tick::AskOne(MAC)));
    let before = table.epoch();
    assert!(matches!(table.tick(at(58), address(1)), Tick::Failed(_)));
    assert_ne!(table.epoch(), before);
    assert!(table.is_empty(), "it is asked for from the beginning");
}

#[test]
fn a_neighbour_that_flaps_between_addresses_has_one_timer() {
    let table = answered();
    let mut timers = 0;
    for round in 0..1000 {
        hear(&table, 50, 1, Claim::Told { mac: if round % 2 == 0 { OTHER } else { MAC }, create: true });
        timers += usize::from(matches!(ask(&table, 50, 1), Lookup::Delay(..)));
    }
    assert_eq!(timers, 1);
    hear(&table, 52, 1, Claim::Told { mac: OTHER, create: true });
    ask(&table, 52, 1);
    assert!(matches!(table.tick(at(55), address(1)), Tick::Wait(due) if due == at(57)));
    assert!(matches!(table.tick(at(57), address(1)), Tick::AskOne(OTHER)));
}

#[test]
fn an_answer_while_it_is_probed_confirms_a_neighbour() {
    for claim in
        [ANSWER, Claim::Advertised { mac: None, solicited: true, replace: false }, Claim::Reply { mac: MAC }]
    {
        let table = answered();
        ask(&table, 50, 1);
        table.tick(at(55), address(1));
        hear(&table, 55, 1, claim);
        assert_eq!(state(&table, 55, 1), Some((Reachability::Reachable, Some(MAC))), "{claim:?}");
        assert!(matches!(table.tick(at(56), address(1)), Tick::Done));
    }
}

#[test]
fn what_nobody_asked_for_does_not_confirm_a_neighbour() {
    let gratuitous = Claim::Advertised { mac: Some(MAC), solicited: false, replace: true };
    for claim in [gratuitous, NEW, Claim::Reply { mac: MAC }] {
        let table = answered();
        hear(&table, 50, 1, claim);
        assert_eq!(state(&table, 50, 1), Some((Reachability::Stale, Some(MAC))), "{claim:?}");
    }
}

#[test]
fn waiting_packets_are_bounded_in_number_and_octets() {
    let table = table(1 << 20);
    ask(&table, 0, 0);
    assert_eq!((0..100).filter(|_| wait(&table, 0, 60)).count(), QUEUE_PACKETS);
    let stored = (1..1000).filter(|number| {
        ask(&table, 0, *number);
        wait(&table, *number, 60_000)
    });
    assert_eq!(stored.count(), QUEUE_OCTETS / 60_000);
}

#[test]
fn one_silent_address_leaves_room_for_packets_to_others() {
    let table = table(16);
    ask(&table, 0, 1);
    assert_eq!((0..QUEUE_PACKETS).filter(|_| wait(&table, 1, 65_000)).count(), NEIGHBOR_OCTETS / 65_000);
    ask(&table, 0, 2);
    assert!(wait(&table, 2, 65_000));
}

#[test]
fn a_scan_does_not_push_out_neighbours_that_answered() {
    let table = table(64);
    for number in 0..60 {
        hear(&table, 0, number, NEW);
    }
    let epoch = table.epoch();
    let mut evictions = 0;
    for number in 1000..5000 {
        if let Lookup::Start(evicted) = ask(&table, 1, number) {
            evictions += evicted.entries;
        }
    }
    assert!(table.len() <= 64);
    assert!(table.lock().asked.len() <= 128);
    assert!((0..60).all(|number| state(&table, 1, number).is_some_and(|(_, mac)| mac == Some(MAC))));
    assert_eq!(evictions, 4000 - 4);
    assert_eq!(table.epoch(), epoch);
}

#[test]
fn packets_of_an_entry_that_goes_early_are_given_back() {
    let table = table(1);
    ask(&table, 0, 1);
    assert!(wait(&table, 1, 60));
    let Lookup::Start(evicted) = ask(&table, 0, 2) else { panic!("2 is not asked for") };
    assert_eq!((evicted.entries, evicted.waiting.len()), (1, 1));
    assert!(wait(&table, 2, 60));
    hear(&table, 0, 3, NEW);
    assert!(state(&table, 0, 3).is_none(), "who is not asked for pushes nobody out");
    let Lookup::Start(evicted) = ask(&table, 0, 3) else { panic!("3 is not asked for") };
    assert_eq!(evicted.waiting.len(), 1);
    assert_eq!(table.lock().queued_octets, 0);
}

#[test]
fn a_full_table_of_neighbours_that_answered_takes_in_another() {
    let table = table(16);
    for number in 0..100 {
        hear(&table, 0, number, NEW);
        assert_eq!(state(&table, 0, number).is_some(), number < 16, "only who is needed pushes others out");
        ask(&table, 0, number);
        hear(&table, 0, number, ANSWER);
        assert!(state(&table, 0, number).is_some());
    }
    assert_eq!(table.len(), 16);
}

#[test]
fn of_those_known_the_stale_ones_go_first() {
    let table = table(2);
    for number in [1, 2] {
        ask(&table, 0, number);
    }
    hear(&table, 0, 1, ANSWER);
    hear(&table, 0, 2, Claim::Told { mac: MAC, create: true });
    ask(&table, 1, 3);
    assert_eq!((state(&table, 1, 1).is_some(), state(&table, 1, 2).is_some()), (true, false));
}

#[test]
fn entries_that_come_and_go_leave_nothing_behind() {
    let table = table(16);
    for round in 0..1000u32 {
        let start = u64::from(round) * 10;
        ask(&table, start, round);
        (1..=3).for_each(|second| drop(table.tick(at(start + second), address(round))));
    }
    table.sweep(at(100_000), 100);
    let entries = table.lock();
    assert!(entries.table.is_empty() && entries.asked.len() <= 32 && entries.answered.len() <= 32);
}

#[test]
fn an_answer_that_nobody_asked_for_makes_no_entry() {
    let table = table(16);
    hear(&table, 0, 1, ANSWER);
    hear(&table, 0, 1, Claim::Reply { mac: MAC });
    hear(&table, 0, 1, Claim::Told { mac: MAC, create: false });
    assert!(table.is_empty());
}

#[test]
fn without_override_another_address_only_casts_doubt() {
    let table = answered();
    let epoch = table.epoch();
    let doubt = Claim::Advertised { mac: Some(OTHER), solicited: true, replace: false };
    hear(&table, 1, 1, doubt);
    assert_eq!(state(&table, 1, 1), Some((Reachability::Stale, Some(MAC))));
    assert_eq!(table.epoch(), epoch + 1, "workers that take it for reachable must look again");
    hear(&table, 1, 1, doubt);
    assert_eq!(table.epoch(), epoch + 1);
}

#[test]
fn with_override_the_address_moves_and_is_reachable_only_if_asked_for() {
    for (solicited, expected) in [(true, Reachability::Reachable), (false, Reachability::Stale)] {
        let table = answered();
        let epoch = table.epoch();
        hear(&table, 1, 1, Claim::Advertised { mac: Some(OTHER), solicited, replace: true });
        assert_eq!(state(&table, 1, 1), Some((expected, Some(OTHER))));
        assert_eq!(table.epoch(), epoch + 1);
    }
}

#[test]
fn neighbours_of_a_port_that_went_away_are_forgotten() {
    let table = table(16);
    table.hear(at(0), address(1), NEW, port(1));
    table.hear(at(0), address(2), NEW, port(2));
    let epoch = table.epoch();
    table.forget(|_, _, told_by| told_by == Some(port(1)));
    assert_eq!((state(&table, 0, 1), state(&table, 0, 2).is_some()), (None, true));
    assert_eq!(table.epoch(), epoch + 1);
    table.forget(|_, _, told_by| told_by == Some(port(1)));
    assert_eq!(table.epoch(), epoch + 1);
}

#[test]
fn a_sweep_forgets_whom_nothing_was_sent_to_for_ten_minutes() {
    let table = table(16);
    hear(&table, 0, 1, NEW);
    hear(&table, 60, 2, NEW);
    table.sweep(at(599), 100);
    assert_eq!(table.len(), 2);
    table.sweep(at(600), 1);
    table.sweep(at(600), 1);
    assert_eq!((state(&table, 600, 1), state(&table, 600, 2).is_some()), (None, true));
    ask(&table, 650, 2);
    table.sweep(at(2000), 100);
    assert_eq!(table.len(), 1, "it is being probed");
}

#[test]
fn nobody_is_asked_for_when_it_is_refused() {
    let table = table(16);
    assert!(matches!(table.lookup(at(0), address(1), || false), Lookup::Refused));
    assert!(table.is_empty());
}
