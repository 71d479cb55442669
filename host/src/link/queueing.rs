//! The queues before a device (tc(8), "qdisc"): leaving them out where the device has queues of its own.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Netlink, Wish};
use crate::Result;

/// The discipline that hands packets to the device at once, as veth pairs and bridges have it by default.
const NO_QUEUE: &str = "noqueue";

impl Netlink {
    /// Has packets go to a device at once, without a queue before it. To be called before the device is first up.
    ///
    /// A multi-queue TAP is made for 256 queues, whatever number is open, and on its way up it gets a `pfifo_fast` for
    /// each: some 5 MiB of kernel memory, and 3 ms. They would never hold a packet, for a TAP has rings of its own and says
    /// of no packet that it has to wait. Without them a sender hears at once of a packet that found the ring full: TCP
    /// slows down, and a raw socket gets ENOBUFS, as with a veth pair.
    pub fn leave_out_queue(&mut self, index: u32) -> Result<()> {
        // The kernel's indexes are positive ints.
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind(NO_QUEUE.into()));
        let object = format!("link {index}");
        let wish = Wish { operation: "leave out the queue before", object: &object };
        self.change(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE, wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LinkChange;
    use crate::link::decode::{attributes, text};
    use crate::tap::Tap;
    use crate::testing::own_namespace;

    /// Octets of `struct tcmsg`; the index is the second number.
    const TC_HEADER_LENGTH: usize = 20;
    const TCA_KIND: u16 = 1;
    const LOOPBACK: i32 = 1;

    /// The queueing disciplines of the namespace but for the loopback's, which has none of its own.
    fn disciplines(netlink: &mut Netlink) -> Vec<String> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let decode = |payload: &[u8]| {
            let kind = attributes(payload, TC_HEADER_LENGTH).find_map(|attribute| {
                attribute.ok().filter(|it| it.kind() == TCA_KIND).map(|it| text(it.value()))
            });
            Ok(kind.filter(|kind| kind != NO_QUEUE || payload[4..8] != LOOPBACK.to_ne_bytes()))
        };
        let wish = Wish { operation: "list", object: "queueing disciplines" };
        netlink.dump(&request, libc::RTM_NEWQDISC, decode, wish).unwrap()
    }

    #[test]
    fn a_tap_comes_up_without_a_queue_for_each_it_might_have() {
        let (_entered, _here) = own_namespace();
        let mut netlink = Netlink::open().unwrap();
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let _taps: Vec<Tap> = ["as-is", "without"].map(|name| Tap::attach(name, 2).unwrap()).into();
        let index = |netlink: &mut Netlink, name: &str| netlink.link_by_name(name).unwrap().unwrap().index;
        let without = index(&mut netlink, "without");
        netlink.leave_out_queue(without).unwrap();
        netlink.set_link(without, &up).unwrap();
        assert_eq!(disciplines(&mut netlink), [NO_QUEUE]);
        let as_is = index(&mut netlink, "as-is");
        netlink.set_link(as_is, &up).unwrap();
        assert!(disciplines(&mut netlink).iter().any(|kind| kind == "mq"), "the kernel has changed its ways");
    }

    #[test]
    fn an_absent_device_is_gone() {
        let (_entered, _here) = own_namespace();
        assert!(Netlink::open().unwrap().leave_out_queue(4000).unwrap_err().is_gone());
    }
}
