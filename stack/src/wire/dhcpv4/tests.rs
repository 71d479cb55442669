//! Messages of busybox's udhcpc and of ISC's dhclient, and bytes that are none.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The first 34 octets, of what is mostly zero behind, and the options with their cookie.
fn message(start: &str, options: &str) -> Vec<u8> {
    let mut message = bytes(start);
    message.resize(FIXED_LENGTH, 0);
    message.extend(bytes(options));
    message.resize(message.len().max(300), 0);
    message
}

/// A DISCOVER of udhcpc 1.35.
fn udhcpc() -> Vec<u8> {
    message(
        "01010600 32a1332a 0000 0000 00000000 00000000 00000000 00000000 02000000010a",
        "63825363 350101 39020240 37070103060c0f1c2a 3c0c756468637020312e33352e30 3d070102000000010a ff",
    )
}

/// A DISCOVER of dhclient 4.4.3.
fn dhclient() -> Vec<u8> {
    message(
        "01010600 40261431 0000 0000 00000000 00000000 00000000 00000000 02000000010a",
        "63825363 350101 3707011c02030f060c ff",
    )
}

#[test]
fn what_clients_send_is_read() {
    let sent = udhcpc();
    let request = Request::parse(&sent).unwrap();
    assert_eq!((request.kind, request.transaction, request.broadcast), (Kind::Discover, 0x32a1_332a, false));
    assert_eq!(request.mac, MacAddr([2, 0, 0, 0, 1, 0x0a]));
    assert_eq!(request.parameters, Some(&[1, 3, 6, 12, 15, 28, 42][..]));
    assert_eq!(request.client_id, Some(&[1, 2, 0, 0, 0, 1, 0x0a][..]));
    assert_eq!((request.max_length, request.requested, request.server), (Some(576), None, None));
    let sent = dhclient();
    let request = Request::parse(&sent).unwrap();
    assert_eq!((request.kind, request.client_id, request.max_length), (Kind::Discover, None, None));
    assert_eq!(request.parameters, Some(&[1, 28, 2, 3, 15, 6, 12][..]));
}

#[test]
fn options_go_on_in_the_fields_for_names() {
    let mut sent = message(
        "01010680 00000001 0000 8000 00000000 00000000 00000000 00000000 02000000010a",
        "63825363 340103 ff",
    );
    sent[2] = 6;
    sent[FILE..FILE + 4].copy_from_slice(&[53, 1, 3, 255]);
    sent[SERVER_NAME..SERVER_NAME + 7].copy_from_slice(&[0, 50, 4, 198, 18, 1, 10]);
    sent[SERVER_NAME + 7] = 255;
    let request = Request::parse(&sent).unwrap();
    assert_eq!((request.kind, request.requested), (Kind::Request, Some([198, 18, 1, 10].into())));
    assert!(request.broadcast);
    sent[OPTIONS + 2] = 1;
    assert_eq!(Request::parse(&sent).unwrap().requested, None, "only the file's field is used");
    sent[OPTIONS + 2] = 2;
    assert!(Request::parse(&sent).is_err(), "the message type is in the other field");
}

#[test]
fn what_is_no_request_is_refused() {
    let change = |at: usize, value: u8| {
        let mut sent = dhclient();
        sent[at] = value;
        Request::parse(&sent).map(|request| request.kind)
    };
    assert!(change(0, 2).is_err(), "a reply");
    assert!(change(2, 8).is_err(), "another hardware address");
    assert!(change(OPTIONS - 1, 0).is_err(), "no cookie");
    assert!(change(OPTIONS + 1, 2).is_err(), "a message type of two octets");
    assert!(change(OPTIONS + 2, 9).is_err(), "an unknown message type");
    assert!(change(OPTIONS + 4, 200).is_err(), "an option beyond the end");
    assert!(Request::parse(&dhclient()[..OPTIONS]).is_err());
}

#[test]
fn what_does_not_fit_the_client_is_left_out() {
    let sent = dhclient();
    let request = Request::parse(&sent).unwrap();
    let server = Ipv4Addr::new(198, 18, 1, 1);
    let reply = |request| Reply { request, kind: Kind::Offer, yours: [198, 18, 1, 10].into(), server };
    let value = [7; 200];
    let options = || [(6, &value[..]), (15, &value[..]), (26, &value[..2])].into_iter();
    let short = reply(request).emit(options());
    assert!(short.len() <= MOST_LENGTH);
    assert!(short.windows(2).any(|pair| pair == [26, 2]), "a shorter one still fits");
    let patient = Request { max_length: Some(1500), ..request };
    assert!(reply(patient).emit(options()).len() > short.len());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..300, cut in 0usize..400) {
        let _ = Request::parse(&noise);
        let mut near = udhcpc();
        for (offset, byte) in noise.iter().take(12).enumerate() {
            let at = (at + offset) % near.len();
            near[at] = *byte;
        }
        near.truncate(cut);
        let _ = Request::parse(&near);
    }
}
