//! Cases without end: the families take turns, and chance fills in the rest.

use super::case::{Case, Step};
use super::random::Random;
use super::topology::Wire;

mod arp;
mod discovery;
mod gateway4;
mod gateway6;
mod ipv4;
mod ipv6;
mod layer2;

/// What a family makes: a title, and the frames to send.
#[derive(Debug, Default)]
pub struct Draft {
    title: String,
    steps: Vec<Step>,
}

impl Draft {
    pub fn new(title: impl Into<String>) -> Draft {
        Draft { title: title.into(), ..Draft::default() }
    }

    /// A case of one frame.
    pub fn one(title: impl Into<String>, from: Wire, frame: Vec<u8>) -> Draft {
        Draft::new(title).send(from, frame)
    }

    pub fn send(mut self, from: Wire, frame: Vec<u8>) -> Draft {
        self.steps.push(Step { from, frame });
        self
    }
}

type Family = (&'static str, fn(&mut Random) -> Draft);

const FAMILIES: &[Family] = &[
    ("station", layer2::station),
    ("flooded", layer2::flooded),
    ("flooded", layer2::flooded),
    ("ethertype", layer2::ethertype),
    ("tagged", layer2::tagged),
    ("tagged", layer2::tagged),
    ("tagged", layer2::tagged),
    ("runt", layer2::runt),
    ("long frame", layer2::long_frame),
    ("odd source", layer2::odd_source),
    ("learning", layer2::learning),
    ("arp question", arp::question),
    ("arp claim", arp::claim),
    ("arp malformed", arp::malformed),
    ("arp learned", arp::learned),
    ("nd solicitation", discovery::solicitation),
    ("nd malformed", discovery::malformed),
    ("nd advertisement", discovery::advertisement),
    ("nd announcement", discovery::announcement),
    ("v4 forwarded", ipv4::forwarded),
    ("v4 time to live", ipv4::time_to_live),
    ("v4 bent header", ipv4::bent_header),
    ("v4 options", ipv4::with_options),
    ("v4 martian", ipv4::martian),
    ("v4 unreachable", ipv4::unreachable),
    ("v4 special route", ipv4::special_route),
    ("v4 too big", ipv4::too_big),
    ("v4 fragment", ipv4::fragment),
    ("v4 wrong layer", ipv4::wrong_layer),
    ("v4 to many", ipv4::to_many),
    ("v4 gateway echo", gateway4::echo),
    ("v4 gateway icmp", gateway4::icmp_other),
    ("v4 gateway udp", gateway4::udp_closed),
    ("v4 gateway tcp", gateway4::tcp_closed),
    ("v4 gateway other", gateway4::other_protocol),
    ("v4 gateway fragments", gateway4::fragments),
    ("v6 forwarded", ipv6::forwarded),
    ("v6 hop limit", ipv6::hop_limit),
    ("v6 bent header", ipv6::bent_header),
    ("v6 extended", ipv6::extended),
    ("v6 many extensions", ipv6::many_extensions),
    ("v6 scope", ipv6::scope),
    ("v6 unreachable", ipv6::unreachable),
    ("v6 special route", ipv6::special_route),
    ("v6 too big", ipv6::too_big),
    ("v6 wrong layer", ipv6::wrong_layer),
    ("v6 to many", ipv6::to_many),
    ("v6 gateway echo", gateway6::echo),
    ("v6 gateway icmp", gateway6::icmp_other),
    ("v6 gateway udp", gateway6::udp_closed),
    ("v6 gateway tcp", gateway6::tcp_closed),
    ("v6 gateway other", gateway6::other_protocol),
    ("v6 gateway extended", gateway6::extended),
    ("v6 gateway fragments", gateway6::fragments),
    ("silent neighbor", silent_neighbor),
];

/// Nobody answers: seldom, since it takes time.
fn silent_neighbor(random: &mut Random) -> Draft {
    match random.below(10) {
        0 => ipv4::silent_neighbor(random),
        1 => ipv6::silent_neighbor(random),
        _ if random.one_in(2) => ipv4::forwarded(random),
        _ => ipv6::forwarded(random),
    }
}

/// Case `number` of the run with this seed.
pub fn case(seed: u64, number: u64) -> Case {
    let mut random = Random::of_case(seed, number);
    let (family, generate) = FAMILIES[number as usize % FAMILIES.len()];
    let Draft { title, steps } = generate(&mut random);
    Case { number, family, title, steps }
}
