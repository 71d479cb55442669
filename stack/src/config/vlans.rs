//! Which VLANs a port is on, and what its frames look like there (IEEE 802.1Q-2022 clause 6.9).

use crate::wire::vlan::{MAX_ID, Tci};

/// The untagged segment of a network, beside its VLANs 1 to 4094.
pub const UNTAGGED: u16 = 0;

/// A port's part in the VLANs of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortVlans {
    /// One VLAN (0: the untagged segment), without tags on the wire. Priority tags are taken off.
    Access(u16),
    /// Frames with a tag are on its VLAN, if that is allowed; frames without one are on the native VLAN.
    Trunk {
        /// The VLAN of frames without a tag (0: the untagged segment); `None`: they are dropped.
        native: Option<u16>,
        /// The VLANs that tags may name.
        allowed: Box<VlanSet>,
    },
    /// One VLAN (0: the untagged segment); tags are the user's own and are carried along unseen (802.1Q tunnel).
    Tunnel(u16),
}

impl Default for PortVlans {
    fn default() -> Self {
        PortVlans::Access(UNTAGGED)
    }
}

impl PortVlans {
    /// The VLAN of a frame that came in with this tag; `None`: the port may not send it.
    pub fn classify(&self, tag: Option<Tci>) -> Option<u16> {
        let named = tag.map_or(0, Tci::id);
        match self {
            PortVlans::Tunnel(vlan) => Some(*vlan),
            PortVlans::Access(vlan) => (named == 0).then_some(*vlan),
            PortVlans::Trunk { native, .. } if named == 0 => *native,
            PortVlans::Trunk { allowed, .. } => allowed.contains(named).then_some(named),
        }
    }

    /// Whether frames of this VLAN go to the port.
    #[inline]
    pub fn carries(&self, vlan: u16) -> bool {
        match self {
            PortVlans::Access(own) | PortVlans::Tunnel(own) => *own == vlan,
            PortVlans::Trunk { native, allowed } => *native == Some(vlan) || allowed.contains(vlan),
        }
    }

    /// The tag that a frame of this VLAN leaves with. `received` is the tag that it came with, whose priority it keeps.
    pub fn tag(&self, vlan: u16, received: Tci) -> Option<Tci> {
        match self {
            PortVlans::Trunk { native, .. } if *native != Some(vlan) => Some(received.with_id(vlan)),
            _ => None,
        }
    }

    /// The VLAN of the port's own addresses, those of frames without a tag.
    pub fn own(&self) -> Option<u16> {
        match self {
            PortVlans::Access(vlan) | PortVlans::Tunnel(vlan) => Some(*vlan),
            PortVlans::Trunk { native, .. } => *native,
        }
    }
}

const WORDS: usize = 4096 / 64;

/// A set of VLAN ids, 1 to 4094.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet([u64; WORDS]);

impl Default for VlanSet {
    fn default() -> Self {
        VlanSet([0; WORDS])
    }
}

impl VlanSet {
    /// Whether `id` is in it.
    pub fn contains(&self, id: u16) -> bool {
        self.0.get(usize::from(id / 64)).is_some_and(|word| word >> (id % 64) & 1 != 0)
    }

    /// Takes `id` in. Ids that no frame may carry are left out.
    pub fn insert(&mut self, id: u16) {
        if (1..=MAX_ID).contains(&id) {
            self.0[usize::from(id / 64)] |= 1 << (id % 64);
        }
    }

    /// The ids in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (1..=MAX_ID).filter(|id| self.contains(*id))
    }
}

impl FromIterator<u16> for VlanSet {
    fn from_iter<T: IntoIterator<Item = u16>>(ids: T) -> Self {
        let mut set = VlanSet::default();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

impl std::fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk(native: Option<u16>) -> PortVlans {
        PortVlans::Trunk { native, allowed: Box::new([10, 20].into_iter().collect()) }
    }

    #[test]
    fn an_access_port_takes_untagged_and_priority_tagged_frames() {
        let port = PortVlans::Access(7);
        assert_eq!(port.classify(None), Some(7));
        assert_eq!(port.classify(Some(Tci(0xe000))), Some(7), "a priority tag");
        assert_eq!(port.classify(Some(Tci(7))), None);
        assert_eq!(port.tag(7, Tci(0xe000)), None);
        assert!(port.carries(7) && !port.carries(0));
    }

    #[test]
    fn a_trunk_takes_allowed_tags_and_its_native_vlan_without() {
        let port = trunk(Some(UNTAGGED));
        assert_eq!(port.classify(None), Some(UNTAGGED));
        assert_eq!(port.classify(Some(Tci(0x600a))), Some(10));
        assert_eq!(port.classify(Some(Tci(30))), None);
        assert_eq!(port.tag(10, Tci(0x6014)), Some(Tci(0x600a)), "the priority stays");
        assert_eq!(port.tag(UNTAGGED, Tci::default()), None);
        assert!(!trunk(None).carries(UNTAGGED));
        assert_eq!(trunk(None).classify(None), None);
    }

    #[test]
    fn a_tunnel_port_does_not_look_at_tags() {
        let port = PortVlans::Tunnel(5);
        assert_eq!(port.classify(Some(Tci(99))), Some(5));
        assert_eq!(port.tag(5, Tci(99)), None);
    }

    #[test]
    fn a_set_holds_what_a_frame_may_carry() {
        let set: VlanSet = [0, 1, 63, 64, 4094, 4095].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 63, 64, 4094]);
    }
}
