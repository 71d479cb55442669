//! VLAN tags (IEEE 802.1Q-2022 clause 9): four octets behind the MAC addresses.
//!
//! Inside the stack a frame is untagged and its VLAN travels beside it; tags are taken off by ingress and put
//! on when a frame is handed to a device.

use super::{ethernet, read_u16};

/// Octets of a tag.
pub const TAG_LENGTH: usize = 4;
/// The highest VLAN id that a frame may carry; 4095 is reserved.
pub const MAX_ID: u16 = 4094;

/// Octets before a tag: the two MAC addresses.
const MACS: usize = 12;
const ID_MASK: u16 = 0x0fff;

/// Tag control information: priority, drop eligibility and VLAN id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Tci(pub u16);

impl Tci {
    /// A tag of this VLAN with the priority bits of another tag.
    pub fn with_id(self, id: u16) -> Tci {
        Tci(self.0 & !ID_MASK | id & ID_MASK)
    }

    /// The VLAN id; 0 for a priority tag, which names no VLAN.
    pub fn id(self) -> u16 {
        self.0 & ID_MASK
    }

    /// The priority code point, 0 to 7.
    pub fn priority(self) -> u8 {
        (self.0 >> 13) as u8
    }
}

/// The 802.1Q tag right behind the MAC addresses, if there is one.
pub fn outer(frame: &[u8]) -> Option<Tci> {
    let tagged = frame.len() >= MACS + TAG_LENGTH + 2 && read_u16(frame, MACS) == ethernet::VLAN;
    tagged.then(|| Tci(read_u16(frame, MACS + 2)))
}

/// Whether a frame ends within an 802.1Q tag, or before the ethertype behind it. It is not one without a tag: a device
/// that pads it with zeros makes it one with a tag.
#[inline]
pub fn is_cut_short(frame: &[u8]) -> bool {
    frame.len() < MACS + TAG_LENGTH + 2
        && frame.get(MACS..MACS + 2).is_some_and(|tpid| read_u16(tpid, 0) == ethernet::VLAN)
}

/// Octets of the tags, of either kind, that a frame carries behind its MAC addresses: at most two are looked for.
pub fn tags_length(frame: &[u8]) -> usize {
    let tag_at = |at: usize| {
        let tpid = frame.get(at..at + 2).map(|bytes| read_u16(bytes, 0));
        matches!(tpid, Some(ethernet::VLAN | ethernet::VLAN_SERVICE))
    };
    match (tag_at(MACS), tag_at(MACS + TAG_LENGTH)) {
        (true, true) => 2 * TAG_LENGTH,
        (true, false) => TAG_LENGTH,
        (false, _) => 0,
    }
}

/// Whether one of the tags behind the MAC addresses names no VLAN: whoever gets the frame takes such a tag off
/// (clause 6.9.1), and sees what is behind it.
pub fn has_priority_tag(frame: &[u8]) -> bool {
    let mut at = MACS;
    while let Some(tag) = frame.get(at..at + TAG_LENGTH) {
        match read_u16(tag, 0) {
            ethernet::VLAN | ethernet::VLAN_SERVICE if Tci(read_u16(tag, 2)).id() == 0 => return true,
            ethernet::VLAN | ethernet::VLAN_SERVICE => at += TAG_LENGTH,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    // tcpdump -e of `ping` on a VLAN device: VLAN 100, priority 5.
    const TAGGED: [u8; 20] =
        [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0xa0, 0x64, 0x08, 0x00, 0x45, 0x00];

    #[test]
    fn a_tag_is_read_field_by_field() {
        let tag = outer(&TAGGED).unwrap();
        assert_eq!((tag.id(), tag.priority()), (100, 5));
        assert_eq!(tag.with_id(7), Tci(0xa007));
    }

    #[test]
    fn priority_tags_are_found_behind_others() {
        let mut double = [0; 24];
        double[12..16].copy_from_slice(&[0x88, 0xa8, 0, 7]);
        double[16..20].copy_from_slice(&[0x81, 0x00, 0xe0, 0]);
        assert!(has_priority_tag(&double));
        double[19] = 9;
        assert!(!has_priority_tag(&double));
        assert!(!has_priority_tag(&TAGGED) && !has_priority_tag(&double[..18]));
    }

    #[test]
    fn frames_that_end_within_the_tag_have_none() {
        assert_eq!(outer(&TAGGED[..17]), None);
        assert_eq!(outer(&[]), None);
        assert!((14..18).all(|length| is_cut_short(&TAGGED[..length])));
        assert!(!is_cut_short(&TAGGED[..18]) && !is_cut_short(&TAGGED[..13]));
    }

    #[test]
    fn tags_of_both_kinds_are_measured() {
        let mut double = [0; 24];
        double[12..14].copy_from_slice(&[0x88, 0xa8]);
        double[16..18].copy_from_slice(&[0x81, 0x00]);
        assert_eq!(tags_length(&double), 8);
        assert_eq!(tags_length(&TAGGED), 4);
        assert_eq!(tags_length(&TAGGED[..13]), 0);
    }
}
