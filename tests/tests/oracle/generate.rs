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
pub mod snooping;

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
        self.steps.push(Step { from, frame, asks: false });
        self
    }

    /// Sends a question that hosts are given time to answer.
    pub fn ask(mut self, from: Wire, frame: Vec<u8>) -> Draft {
        self.steps.push(Step { from, frame, asks: true });
        self
    }
}

/// Its name, how many cases of a cycle are its own, and what makes them.
type Family = (&'static str, u64, fn(&mut Random) -> Draft);

const FAMILIES: &[Family] = &[
    ("station", 1, layer2::station),
    ("flooded", 3, layer2::flooded),
    ("ethertype", 1, layer2::ethertype),
    ("tagged", 5, layer2::tagged),
    ("runt", 1, layer2::runt),
    ("long frame", 1, layer2::long_frame),
    ("odd source", 1, layer2::odd_source),
    ("learning", 1, layer2::learning),
    ("arp question", 1, arp::question),
    ("arp claim", 1, arp::claim),
    ("arp malformed", 2, arp::malformed),
    ("arp learned", 1, arp::learned),
    ("nd solicitation", 1, discovery::solicitation),
    ("nd malformed", 1, discovery::malformed),
    ("nd advertisement", 1, discovery::advertisement),
    ("nd announcement", 1, discovery::announcement),
    ("v4 forwarded", 1, ipv4::forwarded),
    ("v4 time to live", 1, ipv4::time_to_live),
    ("v4 bent header", 1, ipv4::bent_header),
    ("v4 options", 3, ipv4::with_options),
    ("v4 martian", 3, ipv4::martian),
    ("v4 unreachable", 1, ipv4::unreachable),
    ("v4 special route", 1, ipv4::special_route),
    ("v4 too big", 1, ipv4::too_big),
    ("v4 fragment", 1, ipv4::fragment),
    ("v4 wrong layer", 1, ipv4::wrong_layer),
    ("v4 to many", 1, ipv4::to_many),
    ("v4 gateway echo", 1, gateway4::echo),
    ("v4 gateway icmp", 1, gateway4::icmp_other),
    ("v4 gateway udp", 1, gateway4::udp_closed),
    ("v4 gateway tcp", 1, gateway4::tcp_closed),
    ("v4 gateway other", 1, gateway4::other_protocol),
    ("v4 gateway fragments", 1, gateway4::fragments),
    ("v6 forwarded", 1, ipv6::forwarded),
    ("v6 hop limit", 1, ipv6::hop_limit),
    ("v6 bent header", 1, ipv6::bent_header),
    ("v6 extended", 1, ipv6::extended),
    ("v6 many extensions", 1, ipv6::many_extensions),
    ("v6 scope", 3, ipv6::scope),
    ("v6 unreachable", 1, ipv6::unreachable),
    ("v6 special route", 1, ipv6::special_route),
    ("v6 too big", 1, ipv6::too_big),
    ("v6 wrong layer", 1, ipv6::wrong_layer),
    ("v6 to many", 1, ipv6::to_many),
    ("v6 gateway echo", 1, gateway6::echo),
    ("v6 gateway icmp", 1, gateway6::icmp_other),
    ("v6 gateway udp", 1, gateway6::udp_closed),
    ("v6 gateway tcp", 1, gateway6::tcp_closed),
    ("v6 gateway other", 1, gateway6::other_protocol),
    ("v6 gateway extended", 1, gateway6::extended),
    ("v6 gateway fragments", 1, gateway6::fragments),
    ("snooping", 4, snooping::group),
    ("silent neighbor", 1, silent_neighbor),
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

/// Case `number` of the run with this seed. What a family makes does not change when others are added.
pub fn case(seed: u64, number: u64) -> Case {
    let schedule: Vec<(u64, &Family)> =
        FAMILIES.iter().flat_map(|family| (0..family.1).map(move |turn| (turn, family))).collect();
    let cycle = schedule.len() as u64;
    let (turn, (name, share, generate)) = schedule[(number % cycle) as usize];
    let mut random = Random::of_case(seed, name, number / cycle * share + turn);
    let Draft { title, steps } = generate(&mut random);
    Case { number, family: name, title, steps }
}
