//! A bucket alone: its rate, its burst, its bound, under a clock of the tests' own.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(100 * SECOND + nanos)
}

fn bucket(bits_per_second: u64, burst_octets: u64, queue_milliseconds: u64) -> Bucket {
    let queue = Duration::from_millis(queue_milliseconds);
    Bucket::new(RateSpec { bits_per_second, burst_bits: burst_octets * 8, queue })
}

fn admit(bucket: &Bucket, nanos: u64, octets: u64) -> Admission {
    bucket.admit(at(nanos), octets, true, false)
}

/// When each of the frames that are admitted goes, and its octets: as many frames come as fit.
fn departures(bucket: &Bucket, octets: u64, until: u64) -> Vec<(u64, u64)> {
    let mut now = 0;
    let mut departures = Vec::new();
    while now <= until {
        match admit(bucket, now, octets) {
            Admission::At(due) => departures.push((due.as_nanos() - at(0).as_nanos(), octets)),
            _ => now += SECOND / 1000,
        }
    }
    departures
}

#[test]
fn the_rate_is_kept_within_a_hundredth_whatever_the_frames_are() {
    for bits_per_second in [1_000_000, 100_000_000, 10_000_000_000] {
        for octets in [64, 1514, 66_894] {
            // The fastest of the smallest would take a minute.
            let until = if octets == 64 && bits_per_second > 1_000_000_000 { SECOND / 20 } else { SECOND };
            let burst = 70_000;
            let bucket = bucket(bits_per_second, burst, 25);
            let gone = departures(&bucket, octets, until);
            let sent: u64 = gone.iter().filter(|(due, _)| *due < until).map(|(_, octets)| octets).sum();
            let fair = bits_per_second / 8 * until / SECOND;
            let (least, most) = ((fair * 99 / 100).saturating_sub(octets), fair + burst);
            assert!((least..=most).contains(&sent), "{bits_per_second} {octets}: {sent} of {fair}");
        }
    }
}

#[test]
fn the_burst_goes_at_once_and_the_next_frame_waits_for_its_own_time() {
    let bucket = bucket(8_000_000, 10_000, 25);
    for _ in 0..10 {
        assert_eq!(admit(&bucket, 0, 1000), Admission::At(at(0)));
    }
    // A thousand octets a millisecond.
    assert_eq!(admit(&bucket, 0, 1000), Admission::At(at(1_000_000)));
    assert_eq!(admit(&bucket, 0, 500), Admission::At(at(1_500_000)));
    assert_eq!(admit(&bucket, 500_000, 500), Admission::At(at(2_000_000)));
    // After a long silence there is no more than the burst.
    let later = 60 * SECOND;
    let gone = (0..20).filter(|_| admit(&bucket, later, 1000) == Admission::At(at(later))).count();
    assert_eq!(gone, 10);
}

#[test]
fn a_frame_that_would_wait_too_long_for_others_is_refused_and_takes_no_time() {
    let bucket = bucket(8_000_000, 10_000, 25);
    assert_eq!(admit(&bucket, 0, 10_000), Admission::At(at(0)));
    // What waits before a frame counts, not the frame itself.
    assert_eq!(admit(&bucket, 0, 25_000), Admission::At(at(10_000_000)));
    assert_eq!(admit(&bucket, 0, 1000), Admission::At(at(26_000_000)));
    assert_eq!(admit(&bucket, 0, 1000), Admission::Full);
    assert_eq!(bucket.outlook(at(0), 1000), Err(TooLate));
    assert_eq!(admit(&bucket, 1_000_000, 1000), Admission::At(at(27_000_000)));
}

#[test]
fn a_frame_larger_than_the_burst_goes_when_the_bucket_is_full() {
    let bucket = bucket(8_000_000, 1500, 25);
    assert_eq!(admit(&bucket, 0, 64_000), Admission::At(at(0)));
    // 64,000 octets take 64 ms, of which the burst gave 1.5: the rest is owed.
    assert_eq!(admit(&bucket, 0, 100), Admission::Full);
    assert_eq!(admit(&bucket, 40_000_000, 64_000), Admission::At(at(64_000_000)));
}

#[test]
fn without_room_only_what_goes_at_once_is_let_in() {
    let bucket = bucket(8_000_000, 2000, 25);
    assert_eq!(bucket.admit(at(0), 1000, false, true), Admission::NoRoom);
    assert_eq!(bucket.admit(at(0), 1000, false, false), Admission::At(at(0)));
    assert_eq!(bucket.admit(at(0), 1000, false, false), Admission::At(at(0)));
    assert_eq!(bucket.admit(at(0), 1000, false, false), Admission::NoRoom);
    assert_eq!(bucket.admit(at(1_000_000), 1000, false, false), Admission::At(at(1_000_000)));
}

#[test]
fn the_longest_rate_and_the_largest_burst_do_not_overflow() {
    let slow = Bucket::new(RateSpec {
        bits_per_second: 8000,
        burst_bits: 34_359_738_360,
        queue: Duration::from_secs(1),
    });
    assert_eq!(admit(&slow, 0, 4_294_967_295), Admission::At(at(0)));
    let fast = bucket(1_000_000_000_000, 1_250_000_000, 1000);
    let gone: Vec<_> = departures(&fast, 4_000_000, SECOND / 10);
    assert!(gone.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}

#[test]
fn workers_that_share_a_bucket_get_its_rate_together() {
    let bucket = bucket(8_000_000, 10_000, 25);
    let send = |worker: u64| -> u64 {
        let moments = (0..1000).map(|n| n * 1_000_000 + worker);
        let go = |now| match admit(&bucket, now, 1000) {
            Admission::At(due) => u64::from(due < at(SECOND)),
            _ => 0,
        };
        moments.map(|now| go(now) + go(now) + go(now)).sum()
    };
    let sent: u64 = std::thread::scope(|scope| {
        let workers = [scope.spawn(|| send(0)), scope.spawn(|| send(1))];
        workers.map(|worker| worker.join().unwrap()).into_iter().sum()
    });
    assert!((990..=1011).contains(&sent), "{sent}");
}

#[test]
fn what_waited_for_another_rate_is_never_later_and_keeps_its_order() {
    let promised: Vec<_> = (1..=20).map(|n| at(n * 10_000_000)).collect();
    let readmit = |bucket: &Bucket| -> Vec<_> {
        promised.iter().map(|due| bucket.readmit(at(0), 10_000, *due)).collect()
    };
    let faster = bucket(80_000_000, 10_000, 25);
    let fast: Vec<_> = (0..20).map(|n| at(n * 1_000_000)).collect();
    assert_eq!(readmit(&faster), fast);
    assert_eq!(admit(&faster, 0, 10_000), Admission::At(at(20_000_000)));
    let slower = bucket(800_000, 1500, 250);
    let slow = readmit(&slower);
    assert!(slow.iter().zip(&promised).all(|(now, before)| now <= before));
    assert!(slow.is_sorted());
    // And whoever comes next comes after them.
    let Admission::At(next) = admit(&slower, 0, 100) else { panic!("refused") };
    assert!(next >= slow[19], "{next:?} {:?}", slow[19]);
}

proptest! {
    #[test]
    fn no_window_has_more_than_the_burst_and_the_rate(
        bits_per_second in 8_000u64..1_000_000_000_000,
        burst in 1500u64..1_000_000,
        queue in 1u64..1000,
        frames in proptest::collection::vec((0u64..30_000_000, 64u64..70_000), 1..80),
    ) {
        let bucket = bucket(bits_per_second, burst, queue);
        let (mut now, mut gone) = (0, Vec::new());
        for (pause, octets) in frames {
            now += pause;
            if let Admission::At(due) = admit(&bucket, now, octets) {
                prop_assert!(due >= at(now));
                gone.push((due, octets));
            }
        }
        prop_assert!(!gone.is_empty());
        prop_assert!(gone.is_sorted_by_key(|(due, _)| *due));
        for first in 0..gone.len() {
            let mut sum = 0;
            for (due, octets) in &gone[first..] {
                sum += octets;
                let time = u128::from((*due - gone[first].0).as_nanos() as u64);
                // One frame may be larger than the burst; and moments are rounded to nanoseconds.
                let largest = gone[first..].iter().map(|(_, octets)| *octets).max().unwrap_or(0).max(burst);
                let most = u128::from(largest) + (time + 1) * u128::from(bits_per_second) / 8 / 1_000_000_000 + 1;
                prop_assert!(u128::from(sum) <= most, "{} octets in {} ns", sum, time);
            }
        }
    }
}
