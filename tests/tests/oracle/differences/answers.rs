//! Differences in what the gateway itself says.

use super::{Difference, Dissection, is_error4, is_icmp};

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "id of ICMP errors",
        reason: "RFC 6864 section 4.1: the id of an atomic packet says nothing; the stack's is 0",
        accepts: |f| f.field("ip.id", is_error4),
    },
    Difference {
        name: "DF of ICMP errors",
        reason: "the stack's errors fit anywhere and are atomic (RFC 6864); Linux leaves DF out",
        accepts: |f| f.field("ip.df", is_error4),
    },
    Difference {
        name: "ECN in ICMP errors",
        reason: "the type of service is copied (RFC 1812 section 4.3.2.5), ECN is not (RFC 3168); Linux copies one bit of it",
        accepts: |f| {
            let bits = |text: &str| u8::from_str_radix(text, 16).unwrap_or(0);
            let (ours, linux) = f.values();
            f.field("ip.tos", is_error4) && bits(linux) & !0x02 == bits(ours)
        },
    },
    Difference {
        name: "errors about unknown ICMP types",
        reason: "RFC 1122 section 3.2.2 forbids errors about errors alone; Linux sends none about types above 18 either",
        accepts: |f| {
            let unknown = |message: &str| message.starts_with("2a");
            (f.sent.is("icmp.type", "42")
                || f.sent.is("ip.protocol", "1") && unknown(f.sent.get("ip.payload")))
                && f.only_ours(is_error4)
        },
    },
    Difference {
        name: "id and DF of echo replies",
        reason: "the stack turns the request around, so these are the request's",
        accepts: |f| {
            let piece = |frame: &Dissection| f.about("gateway-large") && frame.has("ip.payload");
            let reply = |frame: &Dissection| is_icmp(frame, "1", "0") || piece(frame);
            let piece6 = |frame: &Dissection| f.about("gateway-large") && frame.has("ip6.id");
            f.field("ip.id", reply) || f.field("ip.df", reply) || f.field("ip6.id", piece6)
        },
    },
    Difference {
        name: "flow label of echo replies",
        reason: "the stack turns the request around, so it is the request's (RFC 6437 section 3 allows any)",
        accepts: |f| {
            let piece = |frame: &Dissection| f.about("gateway-large") && frame.has("ip6.payload");
            f.field("ip6.flow", |frame| is_icmp(frame, "58", "129") || piece(frame))
        },
    },
    Difference {
        name: "record routes of echo replies",
        reason: "RFC 1122 section 3.2.2.6: the host's address is added; Linux adds it twice, as receiver and as sender",
        accepts: |f| {
            f.about("with a record route") && f.field("ip.options", |frame| is_icmp(frame, "1", "0"))
        },
    },
    Difference {
        name: "other options of echo replies",
        reason: "RFC 1122 section 3.2.2.6 is about record routes and timestamps; others the stack returns as they came, and \
                 Linux leaves out",
        accepts: |f| {
            let reply = |frame: &Dissection| is_icmp(frame, "1", "0");
            f.about("with options") && (f.field("ip.options", reply) || f.field("ip.length", reply))
        },
    },
    Difference {
        name: "options in ICMP errors",
        reason: "RFC 1812 section 4.3.2.2: an error need not return options; Linux returns a record route",
        accepts: |f| {
            (f.field("ip.options", is_error4) || f.field("ip.length", is_error4)) && f.sent.has("ip.options")
        },
    },
    Difference {
        name: "timestamp requests",
        reason: "RFC 1812 section 4.3.3.8 makes the ICMP timestamp optional; the stack has no clock to tell",
        accepts: |f| !f.family("v4 wrong") && f.only_linux(|frame| is_icmp(frame, "1", "14")),
    },
    Difference {
        name: "IGMP for the gateway",
        reason: "the gateway is in no IPv4 group and does not speak IGMP; Linux does, and takes the message in",
        accepts: |f| f.sent.is("ip.protocol", "2") && f.only_ours(is_error4),
    },
    Difference {
        name: "echo requests to all nodes",
        reason: "RFC 4443 section 4.2 leaves it open whether a request to a group is answered; the gateway keeps silent",
        accepts: |f| {
            (f.family("v6 to many") || f.about("to ff02::1,"))
                && f.only_linux(|frame| is_icmp(frame, "58", "129"))
        },
    },
    Difference {
        name: "type of service of resets",
        reason: "a reset has none of the refused segment's (RFC 9293); Linux copies DSCP",
        accepts: |f| {
            f.field("ip.tos", |frame| frame.has("tcp.flags"))
                || f.field("ip6.class", |frame| frame.has("tcp.flags"))
        },
    },
    Difference {
        name: "routing headers that are used up",
        reason: "RFC 8200 section 4.4: where no segments are left a routing header is passed over, whatever its type; Linux \
                 knows type 4 and drops it where segment routing is off",
        accepts: |f| f.about("routing header 4, used up") && f.only_ours(|frame| is_icmp(frame, "58", "129")),
    },
    Difference {
        name: "packets for the gateway in frames for all",
        reason: "RFC 1122 section 3.3.6: an IP host address in a link-layer broadcast is to be dropped; Linux answers",
        accepts: |f| {
            f.family("v4 wrong layer") | f.family("v6 wrong layer")
                && f.only_linux(|frame| frame.has("icmp.type") || frame.has("tcp.flags"))
        },
    },
];
