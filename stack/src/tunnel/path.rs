//! The path MTU to a far end: what routers on the way have said, for as long as that holds. A WireGuard tunnel has one for
//! each peer.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::time::Instant;

/// How long a lower MTU is believed (RFC 1191 section 6.3, RFC 8201 section 4: ten minutes).
pub(super) const LIFETIME: Duration = Duration::from_secs(600);

/// The least that is believed, in octets: what IPv6 needs inside (RFC 8200 section 5). Whoever forges a word from the
/// way cannot do worse. A way that carries less needs the tunnel's MTU set.
const LEAST: u16 = 1280;

/// The largest IP packet inside, in octets, that gets to a far end. All workers share it.
#[derive(Debug, Default)]
pub(crate) struct PathMtu {
    /// Milliseconds until which it holds, above 16 bits of the MTU; 0: nobody has said anything.
    said: AtomicU64,
}

impl PathMtu {
    /// What was said and still holds.
    pub fn get(&self, now: Instant) -> Option<usize> {
        let said = self.said.load(Relaxed);
        (said != 0 && millis(now) < said >> 16).then_some(usize::from(said as u16))
    }

    /// Forgets what was said: the way is another one.
    pub fn forget(&self) {
        self.said.store(0, Relaxed);
    }

    /// A router on the way says that no packet larger than `mtu` octets gets through. Whether that is news.
    pub fn lower(&self, now: Instant, mtu: u32) -> bool {
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(LEAST);
        let known = self.get(now);
        if known.is_some_and(|known| known < usize::from(mtu)) {
            return false;
        }
        self.said.store(millis(now + LIFETIME) << 16 | u64::from(mtu), Relaxed);
        known != Some(usize::from(mtu))
    }
}

fn millis(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_mtu_holds_for_ten_minutes() {
        let path = PathMtu::default();
        let now = Instant::from_nanos(5_000_000_000);
        assert_eq!(path.get(now), None);
        assert!(path.lower(now, 1400) && !path.lower(now, 1400) && !path.lower(now, 1450));
        assert_eq!(path.get(now), Some(1400));
        assert!(path.lower(now, 1300));
        assert_eq!(path.get(now + Duration::from_secs(599)), Some(1300));
        assert_eq!(path.get(now + Duration::from_secs(600)), None);
        path.lower(now, 1300);
        path.forget();
        assert_eq!(path.get(now), None);
    }

    #[test]
    fn nobody_can_make_it_useless() {
        let path = PathMtu::default();
        path.lower(Instant::from_nanos(1), 40);
        assert_eq!(path.get(Instant::from_nanos(1)), Some(1280));
    }
}
