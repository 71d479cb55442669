//! Cookies as given out, taken in, and asked for.

use std::net::Ipv6Addr;

use super::super::wire::{INITIATION_LENGTH, Initiation};
use super::super::{PrivateKey, PublicKey};
use super::*;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn at(milliseconds: u64) -> Instant {
    START + Duration::from_millis(milliseconds)
}

fn source(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 18, 0, 1], port))
}

fn local() -> LocalKey {
    LocalKey::new(PrivateKey::new([1; 32]))
}

/// An admission that asks for cookies at this time.
fn loaded(now: Instant) -> Admission {
    let admission = Admission::new();
    let message = asking(&mut Jar::default(), now);
    let asked = (0..=CALM).filter(|_| admission.admit(now, source(1), &parse(&message)).is_err());
    assert_eq!(asked.count(), 1);
    admission
}

/// An initiation with the MACs that a jar gives it.
fn asking(jar: &mut Jar, now: Instant) -> [u8; INITIATION_LENGTH] {
    let mut message = Initiation::vacant(7);
    jar.seal(now, &local().macs, &mut message);
    message
}

fn parse(message: &[u8; INITIATION_LENGTH]) -> Initiation<'_> {
    Initiation::parse(message).unwrap()
}

/// A jar with the cookie of this source.
fn served(admission: &Admission, now: Instant, source: SocketAddr) -> Jar {
    let mut jar = Jar::default();
    let message = asking(&mut jar, now);
    let Err(Denied::Cookie(cookie)) = admission.admit(now, source, &parse(&message)) else {
        panic!("no cookie")
    };
    let reply = reply(&local(), &parse(&message), cookie).unwrap();
    let reply = CookieReply::parse(&reply).unwrap();
    assert_eq!(reply.receiver(), 7);
    assert!(jar.accept(now, reply));
    jar
}

#[test]
fn who_has_a_cookie_is_let_in_from_where_it_got_it() {
    let admission = loaded(START);
    let mut jar = served(&admission, START, source(1));
    let message = asking(&mut jar, START);
    assert_eq!(admission.admit(START, source(1), &parse(&message)), Ok(()));
    let other = SocketAddr::from(([198, 18, 0, 2], 1));
    assert!(matches!(admission.admit(START, other, &parse(&message)), Err(Denied::Cookie(_))));
}

/// A bug that others had: a cookie without the port.
#[test]
fn a_cookie_is_for_the_port_as_well() {
    let admission = loaded(START);
    let mut jar = served(&admission, START, source(1));
    let message = asking(&mut jar, START);
    assert!(matches!(admission.admit(START, source(2), &parse(&message)), Err(Denied::Cookie(_))));
}

#[test]
fn the_second_mac_is_over_this_message() {
    let admission = loaded(START);
    let mut jar = served(&admission, START, source(1));
    let mut message = asking(&mut jar, START);
    message[20] ^= 1;
    assert!(matches!(admission.admit(START, source(1), &parse(&message)), Err(Denied::Cookie(_))));
}

#[test]
fn the_secret_of_cookies_changes_every_two_minutes_and_peers_ask_anew_in_time() {
    let admission = loaded(START);
    let mut jar = served(&admission, START, source(1));
    let load = |now| {
        let other = asking(&mut Jar::default(), now);
        (0..=CALM).for_each(|_| _ = admission.admit(now, source(9), &parse(&other)));
    };
    let later = at(114_999);
    load(later);
    let message = asking(&mut jar, later);
    assert_eq!(admission.admit(later, source(1), &parse(&message)), Ok(()));
    assert_eq!(asking(&mut jar, at(115_000))[132..], [0; 16], "it is not used to its very end");
    let much_later = at(120_000);
    load(much_later);
    let answer = admission.admit(much_later, source(1), &parse(&message));
    assert!(matches!(answer, Err(Denied::Cookie(_))), "another secret");
}

#[test]
fn one_source_gets_five_at_once_and_twenty_a_second() {
    let admission = loaded(START);
    let mut jar = served(&admission, START, source(1));
    let message = asking(&mut jar, START);
    let count = |moments: &mut dyn Iterator<Item = u64>| {
        let admitted = moments.filter(|ms| admission.admit(at(*ms), source(1), &parse(&message)) == Ok(()));
        admitted.count()
    };
    assert_eq!(count(&mut std::iter::repeat_n(0, 50)), 5);
    assert_eq!(count(&mut (1..=900)), 18);
}

#[test]
fn addresses_of_one_ipv6_subnet_are_one_source() {
    let admission = loaded(START);
    let mut admitted = 0;
    for host in 1..=10u128 {
        let address = Ipv6Addr::from_bits(0x2001_0db8_0000_0001 << 64 | host);
        let source = SocketAddr::from((address, 51820));
        let message = asking(&mut served(&admission, START, source), START);
        admitted += usize::from(admission.admit(START, source, &parse(&message)) == Ok(()));
    }
    assert_eq!((admitted, admission.sources()), (5, 1));
    let other = SocketAddr::from((Ipv6Addr::from_bits(0x2001_0db8_0000_0002 << 64), 51820));
    let message = asking(&mut served(&admission, START, other), START);
    assert_eq!(admission.admit(START, other, &parse(&message)), Ok(()));
    assert_eq!(
        Source::from("::ffff:198.18.0.1".parse::<IpAddr>().unwrap()),
        Source::V4([198, 18, 0, 1].into())
    );
}

#[test]
fn sources_are_bounded_and_make_room_when_they_are_quiet() {
    let mut gate = Gate {
        all: TokenBucket::new(CALM, CALM),
        loaded_until: None,
        secret: Zeroizing::default(),
        secret_until: None,
        sources: HashMap::default(),
        swept: START,
    };
    let address = |number: usize| IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 + number as u32));
    assert!((0..SOURCES).all(|number| gate.allow(START, address(number))));
    assert!(!gate.allow(START, address(SOURCES)) && gate.allow(START, address(0)));
    // A single one is paid for after 50 ms; all but the first, which came twice, are forgotten.
    assert!(gate.allow(at(250), address(SOURCES)));
    assert!(gate.sources.len() <= 2, "{}", gate.sources.len());
}

#[test]
fn a_reply_that_was_not_asked_for_or_is_not_from_the_peer_is_refused() {
    let mut jar = Jar::default();
    let message = asking(&mut jar, START);
    let made = reply(&local(), &parse(&message), [9; 16]).unwrap();
    assert!(!Jar::default().accept(START, CookieReply::parse(&made).unwrap()), "nothing was asked");
    let mut broken = made;
    broken[40] ^= 1;
    assert!(!jar.accept(START, CookieReply::parse(&broken).unwrap()));
    let stranger = LocalKey::new(PrivateKey::new([2; 32]));
    let forged = reply(&stranger, &parse(&message), [8; 16]).unwrap();
    assert!(!jar.accept(START, CookieReply::parse(&forged).unwrap()));
    assert!(jar.accept(START, CookieReply::parse(&made).unwrap()), "none of which spoiled the true one");
    assert!(!jar.accept(START, CookieReply::parse(&made).unwrap()), "one is enough");
    assert_ne!(asking(&mut jar, START)[132..], [0; 16]);
}

/// Section 5.4.7: under the hash of "cookie--" and the public key, with the first MAC as additional data.
#[test]
fn a_reply_is_sealed_as_the_paper_says() {
    let mut jar = Jar::default();
    let message = asking(&mut jar, START);
    let made = reply(&local(), &parse(&message), [9; 16]).unwrap();
    let public: PublicKey = local().public;
    use blake2::Digest;
    let key = blake2::Blake2s256::new().chain_update(b"cookie--").chain_update(public.as_bytes()).finalize();
    let mut cookie = [0; 16];
    cookie.copy_from_slice(&made[32..48]);
    let cipher = XChaCha20Poly1305::new(&key);
    let tag = made[48..64].into();
    cipher.decrypt_in_place_detached(made[8..32].into(), &message[116..132], &mut cookie, tag).unwrap();
    assert_eq!(cookie, [9; 16]);
}
