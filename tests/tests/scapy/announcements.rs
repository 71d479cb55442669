//! What the stack says unasked, read by scapy: router advertisements (RFC 4861, RFC 8106), and questions for the
//! members of groups (RFC 3376, RFC 3810).

use std::sync::Arc;

use anyhow::Result;
use weft_stack::Stack;
use weft_stack::batch::{Batch, Output};
use weft_stack::config::{AdvertisementSpec, Config, FabricSpec, MulticastSpec};
use weft_stack::time::Instant;

use super::eye;
use super::fields::Fields;
use crate::oracle::dissect::Dissection;
use crate::oracle::fabric;
use crate::oracle::topology::Net;

/// The first frames that a stack with this fabric sends by itself.
fn said_unasked(spec: &FabricSpec) -> Result<Vec<Vec<u8>>> {
    let mut stack = Stack::new(0, Arc::new(Config::default()));
    stack.set_config(Arc::new(Config::build(spec, None, 1)?));
    let (mut batch, mut output) = (Batch::new(), Output::new());
    stack.poll(Instant::from_nanos(1_000_000_000), &mut output);
    let sends = output.sends().len();
    let sealed = (0..sends).map(|index| {
        output.seal(&mut batch, index..index + 1);
        output.packet(&batch, &output.sends()[index]).frame().to_vec()
    });
    Ok(sealed.collect())
}

/// Wants each of these fields as it is written here.
pub fn wants(read: &Fields, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(read.get(*name).map(String::as_str), Some(*value), "{name} in {read:#?}");
    }
}

#[test]
fn scapy_reads_router_advertisements() {
    let mut spec = fabric::spec();
    let front = Net::Front.segment();
    let network = spec.networks.iter_mut().find(|network| network.name == front.name).unwrap();
    network.advertisements = Some(AdvertisementSpec {
        router_lifetime: 1800,
        autonomous: true,
        dns: vec!["2001:db8::53".parse().unwrap()],
        search: vec!["example.org".into()],
    });
    let is_advertisement = |frame: &Vec<u8>| Dissection::of(frame).is("icmp.type", "134");
    let sent: Vec<_> = said_unasked(&spec).unwrap().into_iter().filter(is_advertisement).collect();
    assert!(!sent.is_empty(), "nothing is advertised");
    for read in eye::explain(&sent).unwrap() {
        wants(
            &read,
            &[
                ("Ether.dst", "33:33:00:00:00:01"),
                ("IPv6.dst", "ff02::1"),
                ("IPv6.src", &Net::Front.gateway_link_local().to_string()),
                ("IPv6.hlim", "255"),
                ("sum.transport", "right"),
                ("ICMPv6ND_RA.chlim", "64"),
                ("ICMPv6ND_RA.routerlifetime", "1800"),
                ("ICMPv6ND_RA.M", "0"),
                ("ICMPv6NDOptSrcLLAddr.lladdr", "02:00:5e:01:00:01"),
                ("ICMPv6NDOptMTU.mtu", "1500"),
                ("ICMPv6NDOptPrefixInfo.prefix", "2001:db8:1::"),
                ("ICMPv6NDOptPrefixInfo.prefixlen", "64"),
                ("ICMPv6NDOptPrefixInfo.L", "1"),
                ("ICMPv6NDOptPrefixInfo.A", "1"),
                ("ICMPv6NDOptRDNSS.dns", "['2001:db8::53']"),
                ("ICMPv6NDOptDNSSL.searchlist", "['example.org.']"),
            ],
        );
    }
}

#[test]
fn scapy_reads_questions_for_the_members_of_groups() {
    let mut spec = fabric::spec();
    let front = Net::Front.segment();
    let network = spec.networks.iter_mut().find(|network| network.name == front.name).unwrap();
    network.multicast = MulticastSpec { snooping: true, querier: true };
    let sent = said_unasked(&spec).unwrap();
    let about = |kind: &str| {
        let is_question = |frame: &&Vec<u8>| {
            let read = Dissection::of(frame);
            read.is("ip.protocol", "2") && kind == "igmp" || read.is("icmp.type", "130") && kind == "mld"
        };
        let questions: Vec<Vec<u8>> = sent.iter().filter(is_question).cloned().collect();
        assert!(!questions.is_empty(), "no {kind} in {sent:?}");
        eye::explain(&questions).unwrap()
    };
    for read in about("igmp") {
        wants(
            &read,
            &[
                ("Ether.dst", "01:00:5e:00:00:01"),
                ("IP.dst", "224.0.0.1"),
                ("IP.src", "198.18.1.1"),
                ("IP.ttl", "1"),
                ("IP.ihl", "6"),
                ("sum.ip", "right"),
                ("sum.transport", "right"),
                ("IGMPv3.type", "17"),
                ("IGMPv3mq.gaddr", "0.0.0.0"),
                ("IGMPv3mq.qrv", "2"),
                ("IGMPv3mq.qqic", "125"),
                ("IGMPv3mq.numsrc", "0"),
            ],
        );
    }
    for read in about("mld") {
        wants(
            &read,
            &[
                ("Ether.dst", "33:33:00:00:00:01"),
                ("IPv6.dst", "ff02::1"),
                ("IPv6.src", &Net::Front.gateway_link_local().to_string()),
                ("IPv6.hlim", "1"),
                ("IPv6ExtHdrHopByHop.nh", "58"),
                ("sum.transport", "right"),
                ("ICMPv6MLQuery2.mladdr", "::"),
                ("ICMPv6MLQuery2.mrd", "10000"),
                ("ICMPv6MLQuery2.QRV", "2"),
                ("ICMPv6MLQuery2.QQIC", "125"),
            ],
        );
    }
}
