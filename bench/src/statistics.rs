//! The few figures that a report needs.

/// The middle value, or the mean of the two middle ones; `None` for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// How far values are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The lowest of them.
    pub lowest: f64,
    /// The highest of them.
    pub highest: f64,
}

impl Spread {
    /// That of some values; `None`: there are none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let lowest = values.iter().copied().reduce(f64::min)?;
        let highest = values.iter().copied().reduce(f64::max)?;
        Some(Spread { lowest, highest })
    }
}

/// How many values are the first ones, and the last ones, of a series.
const EDGE: usize = 50;

/// What a series begins and ends with: the medians of its first fifty values and of its last fifty, or of its halves
/// where it has fewer than a hundred.
pub fn edges(series: &[f64]) -> Option<[f64; 2]> {
    let length = EDGE.min(series.len() / 2);
    Some([median(&series[..length])?, median(&series[series.len() - length..])?])
}

/// CPU seconds that this machine has spent since it started: the first line of `/proc/stat` (proc_stat(5)), all
/// columns but idle, iowait, steal, which others had, and the guest ones, which user and nice contain.
pub fn busy_seconds(stat: &str) -> Option<f64> {
    /// USER_HZ, which every Linux of today has at 100.
    const TICKS_PER_SECOND: f64 = 100.0;
    let columns: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|c| c.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6].into_iter().filter_map(|column| columns.get(column));
    Some(busy.sum::<f64>() / TICKS_PER_SECOND)
}

/// Context switches on all CPUs since the machine started: the line `ctxt` of `/proc/stat` (proc_stat(5)).
pub fn context_switches(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("ctxt "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_edges_of_a_series_are_the_medians_of_fifty_values() {
        let series: Vec<f64> = (0..500).map(f64::from).collect();
        assert_eq!(edges(&series), Some([24.5, 474.5]));
        assert_eq!(edges(&[1.0, 2.0, 5.0, 6.0, 7.0]), Some([1.5, 6.5]));
        assert_eq!(edges(&[1.0]), None);
    }

    #[test]
    fn idle_time_is_not_busy() {
        let stat = "cpu  100 20 300 9000 50 6 7 8 40 0\ncpu0 1 2 3";
        assert_eq!(busy_seconds(stat), Some(4.33));
    }

    #[test]
    fn context_switches_have_a_line_of_their_own() {
        let stat = "cpu  1 2 3\nintr 38 0 2\nctxt 1990473\nbtime 1062191376\n";
        assert_eq!(context_switches(stat), Some(1_990_473.0));
        assert_eq!(context_switches("cpu  1 2 3\n"), None);
    }
}
