//! Every difference from Linux that is accepted, with its reason. One that no case needs is an error.
//!
//! What each entry accepts is narrow on purpose: a field, or a frame of one sort after a frame of one sort.

use super::case::Case;
use super::compare::{Kind, Mismatch};
use super::dissect::Dissection;

mod answers;
mod forwarding;
mod link;

/// An accepted difference.
pub struct Difference {
    pub name: &'static str,
    /// Why it is right that the stack does otherwise.
    pub reason: &'static str,
    /// Whether a mismatch is of this sort.
    pub accepts: fn(&Finding) -> bool,
}

/// A mismatch, with the case where it was found.
pub struct Finding<'a> {
    pub case: &'a Case,
    /// The frame that the case is about.
    pub sent: &'a Dissection,
    pub mismatch: &'a Mismatch,
}

/// All entries. The first that accepts a mismatch counts it.
pub fn all() -> impl Iterator<Item = &'static Difference> {
    [link::DIFFERENCES, forwarding::DIFFERENCES, answers::DIFFERENCES].into_iter().flatten()
}

impl Finding<'_> {
    /// Of a family of cases whose name begins so.
    fn family(&self, start: &str) -> bool {
        self.case.family.starts_with(start)
    }

    /// The title of the case has these words.
    fn about(&self, words: &str) -> bool {
        self.case.title.contains(words)
    }

    /// Only Linux sends a frame, and it is like this.
    fn only_linux(&self, like: impl Fn(&Dissection) -> bool) -> bool {
        matches!(&self.mismatch.kind, Kind::OnlyLinux(frame) if like(frame))
    }

    /// Only the stack sends a frame, and it is like this.
    fn only_ours(&self, like: impl Fn(&Dissection) -> bool) -> bool {
        matches!(&self.mismatch.kind, Kind::OnlyOurs(frame) if like(frame))
    }

    /// Both send a frame like this, and a field differs.
    fn field(&self, field: &str, like: impl Fn(&Dissection) -> bool) -> bool {
        matches!(&self.mismatch.kind, Kind::Field { name, frame, .. } if *name == field && like(frame))
    }

    /// What the stack and Linux have in the field that differs.
    fn values(&self) -> (&str, &str) {
        match &self.mismatch.kind {
            Kind::Field { ours, linux, .. } => (ours, linux),
            _ => ("", ""),
        }
    }

    /// Only Linux sends this very frame on, as a bridge does.
    fn only_linux_bridges(&self) -> bool {
        self.only_linux(|frame| frame == self.sent)
    }

    /// Only Linux sends the frame on as a router does: the addresses of the IP header are the sent one's.
    fn only_linux_routes(&self) -> bool {
        self.only_linux(|frame| is_forwarded(frame, self.sent))
    }
}

/// Whether `frame` is what a router made of `sent`.
fn is_forwarded(frame: &Dissection, sent: &Dissection) -> bool {
    let same = |field: &str| frame.get(field) == sent.get(field);
    let v4 = sent.has("ip.source") && same("ip.source") && same("ip.destination") && same("ip.id");
    let v6 = sent.has("ip6.source") && same("ip6.source") && same("ip6.destination") && same("ip6.next");
    (v4 || v6) && !same("eth.source")
}

/// Whether it is an ICMP error.
fn is_error4(frame: &Dissection) -> bool {
    frame.is("ip.protocol", "1") && frame.has("icmp.quote")
}

/// Whether it is an ICMPv6 error.
fn is_error6(frame: &Dissection) -> bool {
    frame.is("ip6.protocol", "58") && frame.has("icmp.quote")
}

/// Whether it is an ICMP or ICMPv6 message of this type.
fn is_icmp(frame: &Dissection, protocol: &str, kind: &str) -> bool {
    let field = if protocol == "1" { "ip.protocol" } else { "ip6.protocol" };
    frame.is(field, protocol) && frame.is("icmp.type", kind)
}
