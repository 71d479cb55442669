//! Time in ticks: the time stamp counter where there is one, else nanoseconds.

use std::time::{Duration, Instant};

use weft_host::cycles;

/// How long the counter is compared with the system's clock.
const CALIBRATION: Duration = Duration::from_millis(20);

/// A source of ticks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    ticks_per_nanosecond: Option<f64>,
}

impl Clock {
    /// The best clock of this machine; takes a moment, to learn its rate.
    pub fn new() -> Clock {
        let origin = Instant::now();
        let Some(before) = cycles::read() else { return Clock { origin, ticks_per_nanosecond: None } };
        while origin.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let elapsed = origin.elapsed().as_nanos() as f64;
        let ticks = cycles::read().unwrap_or(before).wrapping_sub(before) as f64;
        Clock { origin, ticks_per_nanosecond: Some(ticks / elapsed) }
    }

    /// Ticks since an origin.
    pub fn ticks(&self) -> u64 {
        cycles::read().unwrap_or_else(|| self.origin.elapsed().as_nanos() as u64)
    }

    /// This many ticks in nanoseconds.
    pub fn nanoseconds(&self, ticks: f64) -> f64 {
        ticks / self.ticks_per_nanosecond.unwrap_or(1.0)
    }

    /// What a tick is.
    pub fn unit(&self) -> &'static str {
        if self.ticks_per_nanosecond.is_some() { "cycles/packet" } else { "ns/packet" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_nanoseconds_agree_with_the_system() {
        let clock = Clock::new();
        let (start, ticks) = (Instant::now(), clock.ticks());
        while start.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let measured = clock.nanoseconds((clock.ticks() - ticks) as f64);
        let ratio = measured / start.elapsed().as_nanos() as f64;
        assert!((0.8..1.2).contains(&ratio), "{ratio}");
    }
}
