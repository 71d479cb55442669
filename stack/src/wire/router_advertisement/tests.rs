//! Messages of Linux and of radvd, byte for byte, and bytes that are none.

use proptest::prelude::*;

use super::*;

/// An IPv6 packet's ICMPv6 message from its hexadecimal digits.
fn message(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A solicitation of Linux 6.18 from fe80::ff:fe00:10a to ff02::2.
const LINUX: &str = "8500791a 00000000 0101 02000000010a";

/// An advertisement of radvd 2.19 from fe80::ff:fe00:101 to fe80::ff:fe00:10a.
const RADVD: &str = "
    86007d05 40000708 00000000 00000000
    030440c0 00015180 00003840 00000000 20010db8000100000000000000000000
    03044080 00015180 00003840 00000000 20010db8000200000000000000000000
    19050000 00000708 20010db8000000000000000000000053 20010db8000000000000000000000054
    1f050000 00000708 076578616d706c65036f726700 036c6162076578616d706c65036f726700 0000
    05010000 000005dc
    0101 020000000101";

fn radvds() -> Advertisement {
    let prefix = |text: &str, autonomous| PrefixInformation {
        prefix: text.parse().unwrap(),
        on_link: true,
        autonomous,
        valid: 86_400,
        preferred: 14_400,
    };
    Advertisement {
        hop_limit: 64,
        router_lifetime: 1800,
        link_layer: Some(MacAddr([2, 0, 0, 0, 1, 1])),
        mtu: Some(1500),
        prefixes: vec![prefix("2001:db8:1::/64", true), prefix("2001:db8:2::/64", false)],
        dns: Some((1800, vec!["2001:db8::53".parse().unwrap(), "2001:db8::54".parse().unwrap()])),
        search: Some((1800, vec!["example.org".into(), "lab.example.org".into()])),
        ..Advertisement::default()
    }
}

#[test]
fn a_solicitation_of_linux_is_read() {
    let bytes = message(LINUX);
    assert_eq!(parse_solicitation(&bytes), Ok(Some(MacAddr([2, 0, 0, 0, 1, 0x0a]))));
    assert_eq!(parse_solicitation(&bytes[..8]), Ok(None));
    assert!(parse_solicitation(&bytes[..7]).is_err());
    assert!(parse_solicitation(&bytes[..12]).is_err());
}

#[test]
fn an_advertisement_of_radvd_is_read() {
    let bytes = message(RADVD);
    let (source, destination) = ("fe80::ff:fe00:101".parse().unwrap(), "fe80::ff:fe00:10a".parse().unwrap());
    assert_eq!(icmpv6::check(source, destination, &bytes), Ok(icmpv6::ROUTER_ADVERTISEMENT));
    assert_eq!(Advertisement::parse(&bytes), Ok(radvds()));
}

/// The options of an advertisement, sorted.
fn options(message: &[u8]) -> Vec<&[u8]> {
    let mut rest = &message[HEADER_LENGTH..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (option, behind) = rest.split_at(usize::from(rest[1]) * 8);
        found.push(option);
        rest = behind;
    }
    found.sort_unstable();
    found
}

#[test]
fn what_is_written_is_what_radvd_writes_but_for_the_order() {
    let (source, destination) = ("fe80::ff:fe00:101".parse().unwrap(), "fe80::ff:fe00:10a".parse().unwrap());
    let bytes = radvds().emit(source, destination, 1280);
    let theirs = message(RADVD);
    assert_eq!(bytes[..2], theirs[..2]);
    assert_eq!(bytes[4..HEADER_LENGTH], theirs[4..HEADER_LENGTH]);
    assert_eq!(options(&bytes), options(&theirs));
    assert_eq!(icmpv6::check(source, destination, &bytes), Ok(icmpv6::ROUTER_ADVERTISEMENT));
}

#[test]
fn options_that_do_not_fit_are_left_out() {
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let read = Advertisement::parse(&radvds().emit(unspecified, unspecified, 100)).unwrap();
    assert_eq!((read.mtu, read.prefixes.len(), read.dns, read.search), (Some(1500), 2, None, None));
}

#[test]
fn names_that_are_none_are_left_out() {
    for name in ["", "a..b", &"a".repeat(64), &"a.".repeat(128)] {
        assert!(encode_name(name).is_empty(), "{name}");
    }
    assert_eq!(encode_name("a.b."), [1, b'a', 1, b'b', 0]);
}

#[test]
fn names_that_are_cut_short_are_refused() {
    assert!(decode_names(&[3, b'o', b'r']).is_err());
    assert!(decode_names(&[3, b'o', b'r', b'g']).is_err());
    assert!(decode_names(&[0xc0, 0]).is_err(), "compressed");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let _ = Advertisement::parse(&bytes);
        let _ = parse_solicitation(&bytes);
        let mut near = message(RADVD);
        for (at, byte) in bytes.chunks_exact(2).map(|pair| (usize::from(pair[0]) % near.len(), pair[1])).take(3).collect::<Vec<_>>() {
            near[at] = byte;
        }
        near.truncate(cut);
        let _ = Advertisement::parse(&near);
    }
}
