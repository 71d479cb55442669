//! The handshake against vectors that others have published.

use aws_lc_rs::aead::Aad;
use snow::Builder;

use super::super::cookie::Jar;
use super::super::noise::{Primitives, cipher, nonce};
use super::super::tai64n::Tai64n;
use super::super::wire::Maced;
use super::*;
use crate::time::Instant;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    octets(text).try_into().unwrap()
}

fn octets(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// From the vectors of cacophony (<https://github.com/haskell-cryptography/cacophony>), which other libraries use as well.
#[test]
fn the_published_vector_of_ikpsk2_is_met() {
    let psk = hex("54686973206973206d7920417573747269616e20706572737065637469766521");
    let local = hex::<32>("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1");
    let ephemeral = hex::<32>("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a");
    let remote_public = hex::<32>("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
    let remote = hex::<32>("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893");
    let remote_ephemeral = hex::<32>("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b");
    let begin = || {
        let builder = Builder::with_resolver(PATTERN.parse().unwrap(), Box::new(Primitives));
        builder.prologue(b"John Galt").unwrap().psk(2, &psk).unwrap()
    };
    let initiator = begin().local_private_key(&local).unwrap().remote_public_key(&remote_public).unwrap();
    let mut initiator = initiator.fixed_ephemeral_key_for_testing_only(&ephemeral).build_initiator().unwrap();
    let responder = begin().local_private_key(&remote).unwrap();
    let mut responder =
        responder.fixed_ephemeral_key_for_testing_only(&remote_ephemeral).build_responder().unwrap();
    assert_eq!(PrivateKey::new(remote).public_key(), PublicKey::new(remote_public));

    let (mut message, mut payload) = ([0; 200], [0; 200]);
    let length = initiator.write_message(b"Ludwig von Mises", &mut message).unwrap();
    let expected = octets(
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8e2ad57527207feb56253c9c94a9e49678\
         2ecfcb2a75fbcaf1b52948cc48daefe660c62119ab5000980c84831215f2441eba616548e832985464cf17e51ee93109008399a21f7e13f",
    );
    assert_eq!(message[..length], expected);
    let length = responder.read_message(&message[..length], &mut payload).unwrap();
    assert_eq!(&payload[..length], b"Ludwig von Mises");

    let length = responder.write_message(b"Murray Rothbard", &mut message).unwrap();
    let expected = octets(
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843cb765f2caef0751b8f007572dab0322217755c0632f365717\
         edbf34d33e87a",
    );
    assert_eq!(message[..length], expected);
    initiator.read_message(&message[..length], &mut payload).unwrap();
    let hash = octets("f5191b875290abcd41347ac3622d9679688a7e980229cb937ef748336cfde0e5");
    assert_eq!((initiator.get_handshake_hash(), responder.get_handshake_hash()), (&hash[..], &hash[..]));

    let (ours, theirs) = (split(initiator, true), split(responder, false));
    assert_eq!((&ours.sending, &ours.receiving), (&theirs.receiving, &theirs.sending));
    let sealed = |key: &[u8; 32], counter, plaintext: &[u8]| {
        let mut sealed = plaintext.to_vec();
        cipher(key).unwrap().seal_in_place_append_tag(nonce(counter), Aad::empty(), &mut sealed).unwrap();
        sealed
    };
    assert_eq!(
        sealed(&ours.sending, 0, b"F. A. Hayek"),
        octets("8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7")
    );
    assert_eq!(
        sealed(&theirs.sending, 0, b"Carl Menger"),
        octets("07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef")
    );
    let expected = octets("6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d");
    assert_eq!(sealed(&ours.sending, 1, b"Jean-Baptiste Say"), expected);
    let expected = octets("dfc346c0d2296ae6cf1acf6f12b8456a1dba228cf8d8b774aacf1c47fc53aa80ebc7a4c292");
    assert_eq!(sealed(&theirs.sending, 1, &octets("457567656e2042f6686d20766f6e2042617765726b")), expected);
}

/// An initiation of the kernel's, and the response; from the capture and keys that Wireshark's dissector was tested with
/// (<https://github.com/Lekensteyn/wireguard-dissector>, wg_crypto_test.c).
mod captured {
    pub const INITIATION: &str = "01000000 15cf47c7 \
        744fc57d33642a1ca516fd8362a6fb908e4fdc046549d80faaa3704b68c7cb73 \
        ac707e42e7636cfb87fd4d755d68694df1756fe4089a5740df787231 0426d434ed384a753935198b277a6d865a4a597d \
        1a159f8bea3e20b4465399fbe6f2602fa6b657a8896ad6443609cfd6 \
        d027f041b4cae1016f435157037f0ea9 00000000000000000000000000000000";
    pub const RESPONSE: &str = "02000000 32fa1aac 15cf47c7 \
        193cbb311b4132235fe178af862fc67d31122abc0f080efafc5ea27a9a94a107 \
        50f40920ef1786e049472e8b03595e65 730b94f13b49d294bf85f5cad7f6ef28 00000000000000000000000000000000";
    pub const INITIATOR: &str = "gBen0g0RVUOR4ehlFkWdDf18Ic//lxBIxa1PqvjTmEw=";
    pub const INITIATOR_EPHEMERAL: &str = "wGygl2kFYdbJWIMtEmaSQAMONuX1+b2EZ9umhB6mCEo=";
    pub const RESPONDER: &str = "QChaGDXeH3eQsbFAhueUNWFdq9KfpF3yl+eITjZbXEk=";
    pub const RESPONDER_EPHEMERAL: &str = "ELwhlhseNwg64Fos0qJhXbSVeBc2lYVkqdmkLx3rekg=";
}

#[test]
fn both_messages_are_octet_for_octet_what_the_kernel_makes() {
    let local = |text: &str| LocalKey::new(text.parse().unwrap());
    let private = |text: &str| text.parse::<PrivateKey>().unwrap();
    let (initiator, responder) = (local(captured::INITIATOR), local(captured::RESPONDER));
    assert_eq!(initiator.public.to_string(), "eKSmoueAzZ+0cLTiix9F+Hcu5X0VvTXlsNPGGwFwiS4=");
    assert_eq!(responder.public.to_string(), "JRI8Xc0zKP9kXk8qP84NdUQA04h6DLfFbwJn4g+/PFs=");
    let (initiation, response) = (octets(captured::INITIATION), octets(captured::RESPONSE));
    let (read, answered) = (Initiation::parse(&initiation).unwrap(), Response::parse(&response).unwrap());

    let (_, from, timestamp) = Responder::read(&responder, read).unwrap();
    assert_eq!(from, initiator.public);

    let ephemeral = private(captured::INITIATOR_EPHEMERAL);
    let begun = builder(&initiator).unwrap().fixed_ephemeral_key_for_testing_only(ephemeral.as_bytes());
    let index = u32::from_le_bytes([0x15, 0xcf, 0x47, 0xc7]);
    let (mut begun, mut made) = Initiator::begin_with(begun, &responder.public, index, timestamp).unwrap();
    Jar::default().seal(Instant::default(), &responder.macs, &mut made);
    assert_eq!(made[..], initiation);

    let ephemeral = private(captured::RESPONDER_EPHEMERAL);
    let taken = builder(&responder).unwrap().fixed_ephemeral_key_for_testing_only(ephemeral.as_bytes());
    let (taken, ..) = Responder::read_with(taken, read).unwrap();
    let (mut made, theirs) = taken.answer(answered.sender(), index, None).unwrap();
    Jar::default().seal(Instant::default(), &initiator.macs, &mut made);
    assert_eq!(made[..], response);

    begun.accept(answered, None).unwrap();
    let ours = begun.finish();
    assert_eq!((&*ours.sending, &*ours.receiving), (&*theirs.receiving, &*theirs.sending));
}

fn pair() -> (LocalKey, LocalKey) {
    (LocalKey::new(PrivateKey::new([1; 32])), LocalKey::new(PrivateKey::new([2; 32])))
}

#[test]
fn both_ends_get_the_same_keys() {
    let (a, b) = pair();
    let timestamp = Tai64n::at(std::time::Duration::from_secs(1_800_000_000));
    let (mut initiator, message) = Initiator::begin(&a, &b.public, 7, timestamp).unwrap();
    let (responder, from, stamped) = Responder::read(&b, Initiation::parse(&message).unwrap()).unwrap();
    assert_eq!((from, stamped), (a.public, timestamp));
    let psk = PresharedKey::new([9; 32]);
    let (answer, theirs) = responder.answer(8, 7, Some(&psk)).unwrap();
    let answer = Response::parse(&answer).unwrap();
    assert_eq!(answer.receiver(), 7);
    assert!(initiator.accept(answer, None).is_err(), "with another preshared key");
    initiator.accept(answer, Some(&psk)).unwrap();
    let ours = initiator.finish();
    assert_eq!((&*ours.sending, &*ours.receiving), (&*theirs.receiving, &*theirs.sending));
    assert_ne!(ours.sending, ours.receiving);
}

#[test]
fn a_forged_response_leaves_the_handshake_as_it_was() {
    let (a, b) = pair();
    let timestamp = Tai64n::at(std::time::Duration::from_secs(1_800_000_000));
    let (mut initiator, message) = Initiator::begin(&a, &b.public, 7, timestamp).unwrap();
    let (responder, ..) = Responder::read(&b, Initiation::parse(&message).unwrap()).unwrap();
    let (answer, _) = responder.answer(8, 7, None).unwrap();
    for at in 12..12 + 48 {
        let mut forged = answer;
        forged[at] ^= 1;
        assert!(initiator.accept(Response::parse(&forged).unwrap(), None).is_err(), "octet {at}");
    }
    initiator.accept(Response::parse(&answer).unwrap(), None).unwrap();
}

#[test]
fn an_ephemeral_key_of_small_order_is_refused() {
    let (a, b) = pair();
    let timestamp = Tai64n::at(std::time::Duration::ZERO);
    let (_, mut message) = Initiator::begin(&a, &b.public, 7, timestamp).unwrap();
    message[8..40].fill(0);
    assert!(Responder::read(&b, Initiation::parse(&message).unwrap()).is_err());
    assert!(Initiator::begin(&a, &PublicKey::new([0; 32]), 7, timestamp).is_err());
}
