//! The processor's time stamp counter, for measurements.

/// Ticks of the counter of this processor, which run at one rate, whatever the core's clock does; `None` where
/// the processor has none that is known here. Only differences mean something.
#[must_use]
pub fn read() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every processor of this architecture has the instruction; it touches no memory.
        Some(unsafe { core::arch::x86_64::_rdtsc() })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_goes_on() {
        let Some(first) = read() else { return };
        assert!((0..1000).any(|_| read().is_some_and(|next| next > first)));
    }
}
