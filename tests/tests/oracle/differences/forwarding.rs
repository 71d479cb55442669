//! Differences in what is routed.

use super::{Difference, is_error4, is_error6, is_icmp};

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "redirects",
        reason: "the stack sends no redirects: hosts of a fabric have one gateway",
        accepts: |f| f.only_linux(|frame| is_icmp(frame, "58", "137")),
    },
    Difference {
        name: "class E",
        reason: "RFC 1812 section 5.3.7: 240.0.0.0/4 is not to be forwarded from or to; Linux takes it for unicast",
        accepts: |f| f.about("240.0.0.1") && (f.only_linux_routes() || f.only_linux(is_error4)),
    },
    Difference {
        name: "host number zero",
        reason: "RFC 1812 section 5.3.5.3: an old form of directed broadcast, which is dropped; Linux takes it for a host",
        accepts: |f| {
            (f.about("to 198.18.1.0,") || f.about("to 198.18.2.0,"))
                && f.only_linux(|frame| frame.is("arp.operation", "1") || is_error4(frame))
        },
    },
    Difference {
        name: "fragments beyond the longest packet",
        reason: "a fragment that would end beyond 65,535 octets is malformed; Linux forwards it",
        accepts: |f| f.about("fragment beyond the longest packet") && f.only_linux_routes(),
    },
    Difference {
        name: "timestamps on the way",
        reason: "RFC 791 section 3.1: the time is of a clock that is not the day's, which its highest bit says; the address \
                 is of the outgoing interface, as in a record route, where Linux writes the incoming one's",
        accepts: |f| {
            let stamped = |text: &str| text.len() >= 16 && text.starts_with("44") && text[4..6] > *"05";
            let (ours, linux) = f.values();
            f.about("timestamp") && f.field("ip.options", |_| true) && stamped(ours) && stamped(linux)
        },
    },
    Difference {
        name: "quotes of record routes and timestamps",
        reason: "the stack quotes a packet as it came, Linux with what it had written into the options",
        accepts: |f| {
            (f.about("record route") || f.about("timestamp"))
                && f.family("v4 options")
                && f.field("icmp.quote", is_error4)
        },
    },
    Difference {
        name: "link-local addresses that come back to their link",
        reason: "RFC 4291 section 2.5.6: such a packet must not leave its link; Linux lets it return there, the stack refuses",
        accepts: |f| {
            let refusal = |frame: &super::Dissection| is_icmp(frame, "58", "1");
            f.family("v6 scope")
                && (f.about("link-local address, not") || f.about("fe80::1234") || f.about("from ::,"))
                && (f.only_linux_routes()
                    || f.only_linux(|frame| refusal(frame) || is_icmp(frame, "58", "135"))
                    || f.only_ours(refusal)
                    || f.field("icmp.code", refusal)
                    || f.field("icmp.quote", refusal))
        },
    },
    Difference {
        name: "packets to nobody",
        reason: "RFC 4291 section 2.5.2: the unspecified address is no destination; the stack drops in silence, Linux finds no route",
        accepts: |f| f.about("to ::,") && f.only_linux(|frame| is_icmp(frame, "58", "1")),
    },
    Difference {
        name: "quotes of what nobody took",
        reason: "where a neighbour does not answer, the stack quotes the packet as it came, Linux as it would have left",
        accepts: |f| f.about("nobody at") && f.field("icmp.quote", |_| true),
    },
    Difference {
        name: "errors about packets to any router of a subnet",
        reason: "RFC 4443 section 2.2: they come from a unicast address of the router; Linux takes the anycast address",
        accepts: |f| {
            (f.about("to 2001:db8:1::,") || f.about("to 2001:db8:2::,")) && f.field("ip6.source", is_error6)
        },
    },
];
