//! Numbers and times for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// A count in at most four digits and a decimal unit: 999, 1.2k, 45.6M, 3.0G.
pub fn count(value: u64) -> String {
    scaled(value, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// Octets in binary units: 999, 1.2Ki, 45.6Mi.
pub fn octets(value: u64) -> String {
    scaled(value, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

/// Bits a second in decimal units, with as many decimals as there are: 100 Mbit/s, 1.5 Mbit/s.
pub fn rate(bits_per_second: u64) -> String {
    let units = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    let (unit, name) = units.into_iter().find(|(unit, _)| bits_per_second >= *unit).unwrap_or((1, ""));
    format!("{} {name}bit/s", bits_per_second as f64 / unit as f64)
}

/// One decimal, cut off and not rounded, so that 999,999 is 999.9k and never 1000.0k.
fn scaled(value: u64, base: u64, units: &[&str]) -> String {
    let mut unit = 1;
    let mut rest = value;
    let mut names = units.iter();
    let mut name = names.next().copied().unwrap_or_default();
    while rest >= base {
        let Some(next) = names.next() else { break };
        (rest, unit, name) = (rest / base, unit * base, next);
    }
    if unit == 1 {
        return value.to_string();
    }
    let tenths = u128::from(value % unit) * 10 / u128::from(unit);
    format!("{rest}.{tenths}{name}")
}

/// A duration in its two largest units: 42s, 3m5s, 7h12m, 12d3h.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// How long ago a Unix time in seconds was; a time to come is 0s.
pub fn age(since: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    duration(now.saturating_sub(u64::try_from(since).unwrap_or(0)))
}

/// How long ago a Unix time in seconds was, in words: "12s ago".
pub fn ago(since: i64) -> String {
    format!("{} ago", age(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_at_most_one_decimal_and_never_round_up_into_the_next_unit() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0k"),
            (1_234_567, "1.2M"),
            (999_999, "999.9k"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn octets_use_binary_units() {
        for (value, text) in [(1023, "1023"), (1536, "1.5Ki"), (5 << 30, "5.0Gi"), (u64::MAX, "15.9Ei")] {
            assert_eq!(octets(value), text);
        }
    }

    #[test]
    fn rates_are_said_as_people_say_them() {
        for (bits, text) in [
            (8000, "8 kbit/s"),
            (1_500_000, "1.5 Mbit/s"),
            (100_000_000, "100 Mbit/s"),
            (2_500_000_000, "2.5 Gbit/s"),
            (1_000_000_000_000, "1 Tbit/s"),
            (1_000_001, "1.000001 Mbit/s"),
        ] {
            assert_eq!(rate(bits), text);
        }
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (185, "3m5s"), (25_920, "7h12m"), (1_047_600, "12d3h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
