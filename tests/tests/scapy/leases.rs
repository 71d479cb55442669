//! What the stack says to a DHCP client, read by scapy (RFC 2131, RFC 2132). The client is busybox's udhcpc.

use std::time::Duration;

use anyhow::{Context, Result};
use weft_stack::config::DhcpSpec;

use super::announcements::wants;
use super::eye;
use crate::oracle::captured;
use crate::oracle::case::{Case, Step};
use crate::oracle::fabric;
use crate::oracle::subject::Subject;
use crate::oracle::topology::{Net, Wire};

/// Where the options begin in the client's frame: behind Ethernet, IPv4, UDP, the fixed fields and the cookie.
const OPTIONS: usize = 14 + 20 + 8 + 236 + 4;
const UDP_CHECKSUM: usize = 14 + 20 + 6;

/// The question that the client asks first, as it was captured.
fn discover() -> Result<Vec<u8>> {
    let captured = captured::cases()?;
    let case =
        captured.iter().find(|case| case.title == "dhcp").context("no DHCP among the captured frames")?;
    Ok(case.steps[0].frame.clone())
}

/// The request for b's address that follows: of another kind, and the client's name of itself (option 60, twelve
/// octets) makes room for the address and the server.
fn request() -> Result<Vec<u8>> {
    let mut frame = discover()?;
    assert_eq!(frame[OPTIONS..OPTIONS + 3], [53, 1, 1]);
    frame[OPTIONS + 2] = 3;
    let name = frame.windows(2).position(|pair| pair == [60, 12]).context("the client has no name")?;
    let options = [&[50, 4][..], &Wire::B.v4().octets(), &[54, 4], &Net::Front.segment().gateway4.octets()];
    frame[name..name + 12].copy_from_slice(&options.concat());
    frame[name + 12..name + 14].fill(0);
    // The checksum no longer holds, and RFC 768 allows none.
    frame[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
    Ok(frame)
}

#[test]
fn scapy_reads_dhcp_offers_and_acknowledgements() {
    let mut spec = fabric::spec();
    let front = Net::Front.segment();
    let network = spec.networks.iter_mut().find(|network| network.name == front.name).unwrap();
    network.dhcp = Some(DhcpSpec {
        lease: Duration::from_secs(3600),
        dns: vec!["198.18.1.53".parse().unwrap()],
        domain: Some("example.org".into()),
    });
    let mut subject = Subject::of(&spec).unwrap();
    for (kind, frame) in [("2", discover().unwrap()), ("5", request().unwrap())] {
        let steps = vec![Step { from: Wire::B, frame, asks: false }];
        let case = Case { number: 0, family: "dhcp", title: "dhcp".into(), steps };
        let answers: Vec<_> = subject.run(&case).into_iter().filter(|(wire, _)| *wire == Wire::B).collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        let read = eye::explain(&[answers[0].1.clone()]).unwrap().remove(0);
        wants(
            &read,
            &[
                ("Ether.src", "02:00:5e:01:00:01"),
                ("IP.src", "198.18.1.1"),
                ("UDP.sport", "67"),
                ("UDP.dport", "68"),
                ("sum.ip", "right"),
                ("sum.transport", "right"),
                ("BOOTP.op", "2"),
                ("BOOTP.yiaddr", "198.18.1.11"),
            ],
        );
        let options = &read["DHCP.options"];
        for option in [
            format!("('message-type', {kind})"),
            "('server_id', '198.18.1.1')".into(),
            "('lease_time', 3600)".into(),
            "('subnet_mask', '255.255.255.0')".into(),
            "('router', '198.18.1.1')".into(),
            "('name_server', '198.18.1.53')".into(),
            "('domain', b'example.org')".into(),
        ] {
            assert!(options.contains(&option), "{option} in {options}");
        }
    }
}
