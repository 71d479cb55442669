//! The neighbour table under a clock of the tests' own: waiting, ageing, and what goes when it is full.

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ANSWER: Claim = Claim { mac: MAC, create: false, replace: true };
const NEW: Claim = Claim { mac: MAC, create: true, replace: true };

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn address(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(0xc612_0000 + number).into()
}

fn ask(table: &Neighbors, seconds: u64, number: u32) -> Lookup {
    table.lookup(at(seconds), address(number), || true)
}

fn wait(table: &Neighbors, number: u32, length: usize) -> bool {
    let from = PortId::from_u32(0);
    table.enqueue(address(number), length, || Waiting {
        frame: vec![0; length].into(),
        offload: Offload::default(),
        from,
        vlan: 0,
    })
}

#[test]
fn packets_wait_for_the_answer_and_then_go() {
    let table = Neighbors::new(16);
    assert!(matches!(ask(&table, 0, 1), Lookup::Start(_)));
    assert!(matches!(ask(&table, 0, 1), Lookup::Pending));
    assert!(wait(&table, 1, 60));
    assert_eq!(table.confirm(at(1), address(1), ANSWER).released.len(), 1);
    assert!(matches!(ask(&table, 2, 1), Lookup::Found(MAC, until) if until == at(31)));
    assert_eq!(table.lock().queued_octets, 0);
}

#[test]
fn nobody_answers_and_the_packets_fail() {
    let table = Neighbors::new(16);
    ask(&table, 0, 1);
    assert!(wait(&table, 1, 60));
    assert!(matches!(table.tick(address(1)), Tick::Ask));
    assert!(matches!(table.tick(address(1)), Tick::Ask));
    assert!(matches!(table.tick(address(1)), Tick::Failed(packets) if packets.len() == 1));
    assert!(table.is_empty());
}

#[test]
fn a_stale_neighbour_is_used_while_it_is_asked_again() {
    let table = Neighbors::new(16);
    table.confirm(at(0), address(1), NEW);
    assert!(matches!(ask(&table, 30, 1), Lookup::Stale(MAC)));
    assert!(matches!(ask(&table, 30, 1), Lookup::Found(MAC, _)));
    assert!(matches!(table.tick(address(1)), Tick::AskOne(MAC)));
    let before = table.epoch();
    table.tick(address(1));
    assert!(matches!(table.tick(address(1)), Tick::Failed(_)));
    assert_ne!(table.epoch(), before);
}

#[test]
fn waiting_packets_are_bounded_in_number_and_octets() {
    let table = Neighbors::new(1 << 20);
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
    let table = Neighbors::new(16);
    ask(&table, 0, 1);
    assert_eq!((0..QUEUE_PACKETS).filter(|_| wait(&table, 1, 65_000)).count(), NEIGHBOR_OCTETS / 65_000);
    ask(&table, 0, 2);
    assert!(wait(&table, 2, 65_000));
}

#[test]
fn a_scan_does_not_push_out_neighbours_that_answered() {
    let table = Neighbors::new(64);
    for number in 0..60 {
        table.confirm(at(0), address(number), NEW);
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
    assert!((0..60).all(|number| table.peek(address(number)) == Some(MAC)));
    assert_eq!(evictions, 4000 - 4);
    assert_eq!(table.epoch(), epoch);
}

#[test]
fn packets_of_an_entry_that_goes_early_are_given_back() {
    let table = Neighbors::new(1);
    ask(&table, 0, 1);
    assert!(wait(&table, 1, 60));
    let Lookup::Start(evicted) = ask(&table, 0, 2) else { panic!("2 is not asked for") };
    assert_eq!((evicted.entries, evicted.waiting.len()), (1, 1));
    assert!(wait(&table, 2, 60));
    assert_eq!(table.confirm(at(0), address(3), NEW).evicted.waiting.len(), 1);
    assert_eq!(table.lock().queued_octets, 0);
}

#[test]
fn a_full_table_of_neighbours_that_answered_takes_in_another() {
    let table = Neighbors::new(16);
    for number in 0..100 {
        table.confirm(at(0), address(number), NEW);
        assert_eq!(table.peek(address(number)), Some(MAC));
    }
    assert_eq!(table.len(), 16);
}

#[test]
fn entries_that_come_and_go_leave_nothing_behind() {
    let table = Neighbors::new(16);
    for round in 0..1000 {
        ask(&table, 0, round);
        (0..ATTEMPTS).for_each(|_| drop(table.tick(address(round))));
    }
    let entries = table.lock();
    assert!(entries.table.is_empty() && entries.asked.len() <= 32 && entries.answered.len() <= 32);
}

#[test]
fn an_answer_that_nobody_asked_for_makes_no_entry() {
    let table = Neighbors::new(16);
    table.confirm(at(0), address(1), ANSWER);
    assert!(table.is_empty());
}

#[test]
fn without_override_a_known_address_stays() {
    let table = Neighbors::new(16);
    table.confirm(at(0), address(1), NEW);
    let epoch = table.epoch();
    table.confirm(at(1), address(1), Claim { mac: OTHER, create: false, replace: false });
    assert_eq!((table.peek(address(1)), table.epoch()), (Some(MAC), epoch));
    table.confirm(at(1), address(1), Claim { mac: OTHER, create: false, replace: true });
    assert_eq!((table.peek(address(1)), table.epoch()), (Some(OTHER), epoch + 1));
}

#[test]
fn nobody_is_asked_for_when_it_is_refused() {
    let table = Neighbors::new(16);
    assert!(matches!(table.lookup(at(0), address(1), || false), Lookup::Refused));
    assert!(table.is_empty());
}
