//! Sealing and opening.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

/// 2^64 - 2^13 - 1, from the paper.
const LIMIT: u64 = 18_446_744_073_709_543_423;

const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn session(local: u32, remote: u32, sending: u8, receiving: u8) -> Session {
    let terms = Terms {
        local_index: local,
        remote_index: remote,
        local: PublicKey::new([1; 32]),
        remote: PublicKey::new([2; 32]),
        initiator: local < remote,
        born: NOW,
    };
    let keys = Keys { sending: Zeroizing::new([sending; 32]), receiving: Zeroizing::new([receiving; 32]) };
    Session::new(terms, &keys).unwrap()
}

fn pair() -> (Session, Session) {
    (session(1, 2, 0xa, 0xb), session(2, 1, 0xb, 0xa))
}

fn sealed(session: &Session, counter: u64, packet: &[u8], mtu: usize) -> Vec<u8> {
    let mut slot = vec![0x77; OVERHEAD + padded(packet.len(), mtu)];
    slot[HEADER_LENGTH..][..packet.len()].copy_from_slice(packet);
    session.seal(counter, &mut slot, packet.len()).unwrap();
    slot
}

#[test]
fn a_message_is_what_another_implementation_makes_of_it() {
    let (a, _) = pair();
    let message = sealed(&a, 0x0102_0304_0506_0708, b"seventeen octets.", 1420);
    assert_eq!(message[..16], [4, 0, 0, 0, 2, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    let mut expected = [b"seventeen octets.".as_slice(), &[0; 15]].concat();
    let nonce = [0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1];
    let other = ChaCha20Poly1305::new(Key::from_slice(&[0xa; 32]));
    let tag = other.encrypt_in_place_detached(&nonce.into(), b"", &mut expected).unwrap();
    assert_eq!(message[16..48], expected);
    assert_eq!(message[48..], *tag);
}

/// A bug that others had: a missing padding to 16 octets.
#[test]
fn packets_are_padded_to_sixteen_octets_but_not_beyond_the_mtu() {
    let lengths = [0, 1, 16, 17, 1409, 1416, 1420, 1500].map(|length| padded(length, 1420));
    assert_eq!(lengths, [0, 16, 16, 32, 1420, 1420, 1420, 1500]);
    assert_eq!([1392, 1393, 1408].map(|length| padded(length, 1408)), [1392, 1408, 1408]);
}

#[test]
fn what_was_sealed_is_opened_where_it_lies_and_only_once() {
    let (a, b) = pair();
    let mut message = sealed(&a, a.take(1).unwrap(), b"a packet", 1420);
    let again = message.clone();
    let range = b.open(NOW, &mut message).unwrap();
    assert_eq!((range.clone(), &message[range]), (16..32, b"a packet\0\0\0\0\0\0\0\0".as_slice()));
    assert_eq!(b.open(NOW, &mut again.clone()), Err(Refusal::Replayed));
    let mut keepalive = sealed(&b, 0, b"", 1420);
    assert_eq!(keepalive.len(), 32);
    assert_eq!(a.open(NOW, &mut keepalive), Ok(16..16));
}

/// A bug that others had: a nonce advanced by unauthenticated input.
#[test]
fn what_is_not_authentic_moves_no_window() {
    let (a, b) = pair();
    let mut forged = sealed(&a, 0, b"a packet", 1420);
    forged[8..16].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert_eq!(b.open(NOW, &mut forged), Err(Refusal::AuthenticationFailed));
    let mut broken = sealed(&a, 5, b"a packet", 1420);
    broken[20] ^= 1;
    assert_eq!(b.open(NOW, &mut broken), Err(Refusal::AuthenticationFailed));
    for counter in [0, 5, 4] {
        assert!(b.open(NOW, &mut sealed(&a, counter, b"a packet", 1420)).is_ok(), "{counter}");
    }
}

/// A bug that others had: a counter of 32 bits used twice.
#[test]
fn numbers_go_on_beyond_32_bits() {
    let (a, b) = pair();
    a.set_counter(u64::from(u32::MAX) - 1);
    let first = a.take(4).unwrap();
    assert_eq!(a.take(1), Some(first + 4));
    let messages: Vec<_> = (0..4).map(|n| sealed(&a, first + n, b"a packet", 1420)).collect();
    for message in &messages {
        assert!(b.open(NOW, &mut message.clone()).is_ok());
    }
    let low = sealed(&a, (first + 3) & u64::from(u32::MAX), b"a packet", 1420);
    assert_ne!(low[16..], messages[3][16..], "another nonce");
}

#[test]
fn a_session_is_over_after_its_time_and_its_numbers() {
    let (a, b) = pair();
    let later = NOW + Duration::from_secs(180);
    assert!(!a.is_over(NOW + Duration::from_millis(179_999)) && a.is_over(later));
    assert_eq!(b.open(later, &mut sealed(&a, 0, b"", 1420)), Err(Refusal::KeyExpired));
    assert_eq!(b.open(NOW, &mut sealed(&a, u64::MAX - 8192, b"", 1420)), Err(Refusal::KeyExpired));
    assert!(b.open(NOW, &mut sealed(&a, u64::MAX - 8193, b"", 1420)).is_ok());

    a.set_counter(1 << 60);
    assert!(!a.is_stale(NOW));
    a.take(1).unwrap();
    assert!(a.is_stale(NOW));
    a.set_counter(LIMIT - 10);
    assert_eq!(a.take(11), None);
    assert!(a.take(10).is_some());
    for _ in 0..100_000 {
        assert_eq!(a.take(1), None, "it never comes around");
    }
}

#[test]
fn only_who_began_a_session_renews_it() {
    let (a, b) = pair();
    let later = NOW + Duration::from_secs(120);
    assert!(a.is_stale(later) && !b.is_stale(later));
    assert!(!a.is_stale(NOW + Duration::from_millis(119_999)));
}

#[test]
fn workers_that_seal_at_once_never_share_a_number() {
    let (a, _) = pair();
    let numbers =
        |_| (0..1000).flat_map(|n| (0..n % 7).zip(a.take(n as u32 % 7)).map(|(i, first)| first + i));
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let workers = [0, 1, 2].map(|worker| scope.spawn(move || numbers(worker).collect::<Vec<_>>()));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn a_slot_that_is_too_short_is_refused() {
    let (a, _) = pair();
    assert_eq!(a.seal(0, &mut [0; 31], 0), Err(Refusal::Malformed));
    assert_eq!(a.seal(0, &mut [0; 40], 9), Err(Refusal::Malformed));
    assert_eq!(a.seal(0, &mut [0; 40], 8), Ok(()));
    let mut slot = [7; 40];
    assert!(a.seal(0, &mut slot, 9).is_err());
    assert_eq!(slot, [0; 40], "what is not sealed must not leave");
}

proptest! {
    #[test]
    fn no_octets_make_it_panic_and_none_are_taken(mut octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_, b) = pair();
        if let Some(start) = octets.first_chunk_mut::<8>() {
            *start = [4, 0, 0, 0, 2, 0, 0, 0];
        }
        prop_assert!(b.open(NOW, &mut octets).is_err());
    }
}
