//! The table by itself, under a clock of the tests' own, and against a naive model.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const START: Instant = Instant::from_nanos(5_000_000_000);

fn port(slot: usize) -> PortId {
    PortId::new(slot, 1)
}

fn key(id: u32) -> Key {
    Key {
        interface: 1,
        source: [198, 18, 1, 10].into(),
        destination: [198, 18, 1, 1].into(),
        protocol: 1,
        id,
    }
}

fn key_v6(id: u32) -> Key {
    let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, last]);
    Key { source: address(10), destination: address(1), protocol: 0, ..key(id) }
}

fn fragment(offset: usize, payload: &[u8], more: bool) -> Fragment<'_> {
    Fragment { head: b"head", header_length: 20, offset, payload, more, ecn: 0 }
}

fn bytes_of(whole: &Whole) -> Vec<u8> {
    let mut bytes = vec![0; whole.length()];
    whole.copy_to(&mut bytes);
    bytes
}

fn insert(table: &Reassembly, id: u32, fragment: &Fragment) -> Insertion {
    table.insert(START, key(id), port(1), fragment)
}

#[test]
fn pieces_in_any_order_make_the_datagram() {
    let payload: Vec<u8> = (0..60).collect();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let table = Reassembly::default();
        let cut = |index: usize| match index {
            0 => fragment(0, &payload[..24], true),
            1 => fragment(24, &payload[24..48], true),
            _ => fragment(48, &payload[48..], false),
        };
        assert!(matches!(insert(&table, 7, &cut(order[0])).outcome, Outcome::Held));
        assert!(matches!(insert(&table, 7, &cut(order[1])).outcome, Outcome::Held));
        assert!(matches!(insert(&table, 7, &cut(order[1])).outcome, Outcome::Held), "a duplicate");
        let Outcome::Whole(whole) = insert(&table, 7, &cut(order[2])).outcome else {
            panic!("{order:?} is not whole")
        };
        assert_eq!(bytes_of(&whole), payload);
        assert_eq!((&*whole.head, whole.fragments()), (&b"head"[..], 3));
        assert_eq!(table.size(), (0, 0));
    }
}

#[test]
fn an_overlap_gives_up_the_datagram_and_what_still_comes_of_it() {
    let table = Reassembly::default();
    insert(&table, 7, &fragment(0, &[1; 24], true));
    insert(&table, 7, &fragment(48, &[1; 8], false));
    let overlap = insert(&table, 7, &fragment(16, &[1; 16], true));
    assert!(matches!(overlap.outcome, Outcome::Refused(DropReason::FragmentOverlap)));
    let lost = GivenUp { from: port(1), pieces: 2, reason: DropReason::FragmentOverlap, first: None };
    assert_eq!(overlap.given_up, [lost]);
    let rest = insert(&table, 7, &fragment(24, &[1; 24], true));
    assert!(matches!(rest.outcome, Outcome::Refused(DropReason::FragmentOverlap)));
    assert!(rest.given_up.is_empty());
    assert_eq!(table.size(), (OVERHEAD, 1));
    // RFC 8200 section 4.5: no error is sent for it.
    assert!(table.expire(START + TIMEOUT_V4).given_up.is_empty());
    assert!(matches!(insert(&table, 7, &fragment(24, &[1; 24], true)).outcome, Outcome::Held));
}

#[test]
fn datagrams_are_told_apart_by_all_of_their_key() {
    let table = Reassembly::default();
    let keys = [
        key(7),
        key(8),
        Key { interface: 2, ..key(7) },
        Key { protocol: 17, ..key(7) },
        Key { source: [198, 18, 1, 11].into(), ..key(7) },
        Key { destination: [198, 18, 2, 1].into(), ..key(7) },
    ];
    for key in keys {
        let outcome = table.insert(START, key, port(1), &fragment(0, &[1; 8], true)).outcome;
        assert!(matches!(outcome, Outcome::Held));
    }
    assert_eq!(table.size().1, keys.len());
    let last = table.insert(START, keys[2], port(1), &fragment(8, &[1; 8], false));
    assert!(matches!(last.outcome, Outcome::Whole(_)));
}

#[test]
fn time_is_over_after_30_seconds_for_ipv4_and_60_for_ipv6() {
    let table = Reassembly::default();
    let first = table.insert(START, key_v6(7), port(1), &fragment(0, &[6; 8], true));
    assert_eq!(first.timer, Some(START + TIMEOUT_V6));
    let later = START + Duration::from_secs(1);
    let second = table.insert(later, key(7), port(2), &fragment(8, &[4; 8], true));
    assert_eq!(second.timer, Some(later + TIMEOUT_V4), "earlier than what was asked for");
    assert_eq!(table.insert(later, key(8), port(2), &fragment(0, &[4; 8], true)).timer, None);

    let expired = table.expire(later + TIMEOUT_V4);
    let reason = DropReason::ReassemblyTimeout;
    let quoted = b"head\x04\x04\x04\x04\x04\x04\x04\x04";
    let lost = |first: Option<&[u8]>| GivenUp {
        from: port(2),
        pieces: 1,
        reason,
        first: first.map(|frame| (1, frame.into())),
    };
    assert_eq!(expired.given_up, [lost(None), lost(Some(quoted))]);
    assert_eq!(expired.timer, Some(START + TIMEOUT_V6));
    assert_eq!(table.expire(START + TIMEOUT_V6).given_up.len(), 1);
    assert_eq!(table.size(), (0, 0));
}

#[test]
fn a_timer_that_nobody_served_is_set_again() {
    let table = Reassembly::default();
    insert(&table, 7, &fragment(0, &[1; 8], true));
    let much_later = START + TIMEOUT_V4 + Duration::from_secs(2);
    let timer = table.insert(much_later, key(8), port(1), &fragment(0, &[1; 8], true)).timer;
    assert_eq!(timer, Some(START + TIMEOUT_V4));
}

#[test]
fn a_flood_from_one_port_leaves_the_others_their_room() {
    let bounds = Bounds { octets: 40_000, octets_per_port: 30_000, ..Bounds::default() };
    let table = Reassembly::new(bounds);
    table.insert(START, key(0), port(2), &fragment(0, &[1; 1000], true));
    let mut lost = 0;
    for id in 1..1000 {
        let insertion = insert(&table, id, &fragment(0, &[1; 1480], true));
        assert!(insertion.given_up.iter().all(|lost| lost.from == port(1)));
        lost += insertion.given_up.iter().map(|lost| lost.pieces).sum::<usize>();
        assert!(table.size().0 <= 31_500);
    }
    assert_eq!(lost, 1000 - table.size().1, "all but those that wait");
    let rest = table.insert(START, key(0), port(2), &fragment(1000, &[1; 8], false));
    assert!(matches!(rest.outcome, Outcome::Whole(_)));
}

#[test]
fn where_all_together_are_too_many_the_port_that_holds_most_gives_way() {
    let bounds = Bounds { octets: 10_000, octets_per_port: 8_000, ..Bounds::default() };
    let table = Reassembly::new(bounds);
    for id in 0..4 {
        table.insert(START, key(id), port(1), &fragment(0, &[1; 1480], true));
    }
    let evicting = (10..14).map(|id| table.insert(START, key(id), port(2), &fragment(0, &[1; 1480], true)));
    let lost: Vec<_> = evicting.flat_map(|insertion| insertion.given_up).map(|lost| lost.from).collect();
    assert_eq!(lost, [port(1), port(1), port(2)]);
}

#[test]
fn more_pieces_than_any_sender_makes_give_up_the_datagram() {
    let table = Reassembly::default();
    let most = Bounds::default().pieces;
    for index in 0..most {
        assert!(matches!(insert(&table, 7, &fragment(index * 16, &[1; 8], true)).outcome, Outcome::Held));
    }
    let refused = insert(&table, 7, &fragment(most * 16, &[1; 8], true));
    assert!(matches!(refused.outcome, Outcome::Refused(DropReason::ReassemblyFull)));
    assert_eq!(refused.given_up[0].pieces, most);
}

#[test]
fn a_datagram_that_alone_is_too_large_for_its_port_goes_itself() {
    let table = Reassembly::new(Bounds { octets_per_port: 4000, ..Bounds::default() });
    insert(&table, 7, &fragment(0, &[1; 1480], true));
    insert(&table, 7, &fragment(1480, &[1; 1480], true));
    let third = insert(&table, 7, &fragment(2960, &[1; 1480], true));
    assert!(matches!(third.outcome, Outcome::Refused(DropReason::ReassemblyFull)));
    assert_eq!(third.given_up.iter().map(|lost| lost.pieces).sum::<usize>(), 2);
    assert_eq!(table.size(), (0, 0));
}

#[test]
fn what_is_longer_than_a_packet_with_its_header_is_not_put_together() {
    let table = Reassembly::default();
    let payload = [1; 65_504];
    assert!(matches!(insert(&table, 7, &fragment(0, &payload, true)).outcome, Outcome::Held));
    let last = insert(&table, 7, &fragment(65_504, &[1; 12], false));
    assert!(matches!(last.outcome, Outcome::Refused(DropReason::FragmentMalformed)));
    assert_eq!((last.given_up[0].pieces, table.size()), (1, (0, 0)));
}

/// What RFC 815 and 5722 ask for, octet by octet and without bounds.
#[derive(Default)]
struct Model {
    octets: HashMap<usize, u8>,
    pieces: Vec<(usize, Vec<u8>, bool)>,
    refused: bool,
    deadline: Option<Instant>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Held,
    Refused,
    Whole(Vec<u8>),
}

impl Model {
    fn insert(&mut self, now: Instant, offset: usize, payload: &[u8], more: bool) -> Told {
        self.deadline.get_or_insert(now + TIMEOUT_V4);
        if self.refused {
            return Told::Refused;
        }
        let piece = (offset, payload.to_vec(), more);
        if self.pieces.contains(&piece) {
            return Told::Held;
        }
        self.pieces.push(piece);
        for (index, byte) in payload.iter().enumerate() {
            self.refused |= self.octets.insert(offset + index, *byte).is_some();
        }
        let ends: Vec<_> = self.pieces.iter().filter(|piece| !piece.2).map(|p| p.0 + p.1.len()).collect();
        self.refused |= ends.iter().any(|end| {
            let beyond = |(offset, bytes, more): &(usize, Vec<u8>, bool)| {
                offset + bytes.len() > *end || (*more && offset + bytes.len() == *end)
            };
            self.pieces.iter().any(beyond) || *end != ends[0]
        });
        if self.refused {
            return Told::Refused;
        }
        let whole: Option<Vec<u8>> =
            ends.first().and_then(|end| (0..*end).map(|at| self.octets.get(&at).copied()).collect());
        match whole {
            Some(bytes) => {
                *self = Model::default();
                Told::Whole(bytes)
            }
            None => Told::Held,
        }
    }
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_does(
        steps in proptest::collection::vec((0u32..3, 0usize..6, 1usize..4, any::<bool>(), 0u8..8, 0u64..8), 1..80),
    ) {
        let table = Reassembly::default();
        let mut models: HashMap<u32, Model> = HashMap::new();
        let mut now = START;
        for (id, offset, eights, more, value, seconds) in steps {
            now = now + Duration::from_secs(seconds);
            while !table.expire(now).given_up.is_empty() {}
            models.retain(|_, model| model.deadline.is_none_or(|deadline| deadline > now));
            // Mostly the same octets, so that duplicates come about.
            let payload = vec![value / 7; eights * 8];
            let told = match table.insert(now, key(id), port(1), &fragment(offset * 8, &payload, more)).outcome {
                Outcome::Held => Told::Held,
                Outcome::Refused(_) => Told::Refused,
                Outcome::Whole(whole) => Told::Whole(bytes_of(&whole)),
            };
            let expected = models.entry(id).or_default().insert(now, offset * 8, &payload, more);
            prop_assert_eq!(told, expected);
        }
        let open = models.values().filter(|model| model.deadline.is_some()).count();
        prop_assert_eq!(table.size().1, open);
    }

    #[test]
    fn no_sequence_of_fragments_breaks_a_bound_or_the_books(
        steps in proptest::collection::vec(
            (0u32..12, 0usize..3, 0usize..200, 1usize..200, any::<bool>(), 0u8..4, 0u64..3), 1..200),
    ) {
        let bounds = Bounds {
            octets: 9_000, octets_per_port: 5_000, datagrams: 9, datagrams_per_port: 5, pieces: 6,
        };
        let table = Reassembly::new(bounds);
        let mut now = START;
        for (id, from, offset, length, more, ecn, seconds) in steps {
            now = now + Duration::from_secs(seconds);
            table.expire(now);
            let payload = vec![7; if more { length.next_multiple_of(8) } else { length }];
            let cut = Fragment { ecn, ..fragment(offset * 8, &payload, more) };
            let before = held(&table);
            let insertion = table.insert(now, key(id), port(from), &cut);
            let lost = insertion.given_up.iter().map(|lost| lost.pieces).sum::<usize>();
            let after = held(&table) + lost;
            match insertion.outcome {
                Outcome::Held => prop_assert!(after == before + 1 || (after == before && lost == 0)),
                Outcome::Whole(whole) => prop_assert_eq!(after + whole.fragments(), before + 1),
                Outcome::Refused(_) => prop_assert_eq!(after, before),
            }
            let (octets, datagrams) = table.size();
            prop_assert!(octets <= bounds.octets && datagrams <= bounds.datagrams);
        }
        while table.size().1 > 0 {
            now = now + Duration::from_secs(1);
            table.expire(now);
        }
        prop_assert_eq!(table.size(), (0, 0));
        prop_assert!(table.lock().accounts.is_empty());
    }
}

/// Pieces that wait, after a look into the books.
fn held(table: &Reassembly) -> usize {
    let table = table.lock();
    let octets = |datagrams: &mut dyn Iterator<Item = &Datagram>| datagrams.map(|d| d.octets).sum::<usize>();
    assert_eq!(table.octets, octets(&mut table.datagrams.values()));
    for (port, account) in &table.accounts {
        let mut own = table.datagrams.values().filter(|datagram| datagram.from == *port);
        assert_eq!(account.octets, octets(&mut own));
    }
    assert_eq!(table.deadlines.len(), table.datagrams.len());
    let pieces = |datagram: &Datagram| match &datagram.state {
        State::Open(pieces) => pieces.count(),
        State::Refused(_) => 0,
    };
    table.datagrams.values().map(pieces).sum()
}
