//! How much a Port may get and send, from its message.

use std::ops::RangeInclusive;
use std::time::Duration;

use weft_proto::v1;
use weft_stack::config::{BandwidthSpec, RateSpec};

use crate::model::violation::Findings;

const BITS_PER_SECOND: RangeInclusive<u64> = 8_000..=1_000_000_000_000;
/// From a frame of 1,500 octets to what 32 bits count of octets.
const BURST_BITS: RangeInclusive<u64> = 12_000..=34_359_738_360;
/// A super-packet of 64 KiB is no more than this.
const LEAST_DEFAULT_BURST_BITS: u64 = 524_288;
/// The burst is what goes in this part of a second where nothing else is said.
const DEFAULT_BURSTS_PER_SECOND: u64 = 100;
const QUEUE_MILLISECONDS: RangeInclusive<u32> = 1..=1000;
const DEFAULT_QUEUE_MILLISECONDS: u32 = 25;

pub(super) fn parse(message: Option<&v1::Bandwidth>, findings: &mut Findings<'_>) -> BandwidthSpec {
    let mut direction = |name: &str, message: Option<&v1::Rate>| {
        message.and_then(|message| rate(&format!("spec.bandwidth.{name}"), message, findings))
    };
    BandwidthSpec {
        ingress: direction("ingress", message.and_then(|bandwidth| bandwidth.ingress.as_ref())),
        egress: direction("egress", message.and_then(|bandwidth| bandwidth.egress.as_ref())),
    }
}

fn rate(path: &str, message: &v1::Rate, findings: &mut Findings<'_>) -> Option<RateSpec> {
    let field = format!("{path}.bitsPerSecond");
    let bits_per_second = match message.bits_per_second {
        0 => {
            let (least, most) = (BITS_PER_SECOND.start(), BITS_PER_SECOND.end());
            findings.add(&field, format_args!("not given, {least} to {most} expected"));
            None
        }
        given => findings.value(&field, within(given, &BITS_PER_SECOND)),
    };
    let burst_bits = match message.burst_bits {
        0 => None,
        given => findings.value(&format!("{path}.burstBits"), within(given, &BURST_BITS)),
    };
    let milliseconds = findings.number(
        &format!("{path}.queueMilliseconds"),
        message.queue_milliseconds,
        QUEUE_MILLISECONDS,
        DEFAULT_QUEUE_MILLISECONDS,
    );
    let bits_per_second = bits_per_second?;
    let usual = (bits_per_second / DEFAULT_BURSTS_PER_SECOND).max(LEAST_DEFAULT_BURST_BITS);
    Some(RateSpec {
        bits_per_second,
        burst_bits: burst_bits.unwrap_or(usual),
        queue: Duration::from_millis(milliseconds.into()),
    })
}

fn within(value: u64, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let (least, most) = (range.start(), range.end());
    let wrong = || format!("{value} is out of range, {least} to {most} expected");
    range.contains(&value).then_some(value).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{BASE, fabric, port, wrong};

    fn bandwidth(spec: &str) -> BandwidthSpec {
        fabric(&format!("{BASE}{}", port("web", spec))).ports["web"].spec.bandwidth
    }

    #[test]
    fn a_rate_has_a_burst_of_ten_milliseconds_and_room_for_a_super_packet() {
        let rate = |bits_per_second, burst_bits| {
            Some(RateSpec { bits_per_second, burst_bits, queue: Duration::from_millis(25) })
        };
        let given = "  bandwidth: {ingress: {bitsPerSecond: 100000000}, egress: {bitsPerSecond: 8000}}";
        let expected = BandwidthSpec { ingress: rate(100_000_000, 1_000_000), egress: rate(8000, 524_288) };
        assert_eq!(bandwidth(given), expected);
        let most = "  bandwidth: {egress: {bitsPerSecond: 1000000000000}}";
        assert_eq!(bandwidth(most).egress, rate(1_000_000_000_000, 10_000_000_000));
    }

    #[test]
    fn a_direction_that_is_not_given_is_free() {
        assert_eq!(bandwidth(""), BandwidthSpec::default());
        assert_eq!(bandwidth("  bandwidth: {}"), BandwidthSpec::default());
        let one = bandwidth(
            "  bandwidth: {egress: {bitsPerSecond: 1000000, burstBits: 12000, queueMilliseconds: 1000}}",
        );
        let egress =
            RateSpec { bits_per_second: 1_000_000, burst_bits: 12_000, queue: Duration::from_secs(1) };
        assert_eq!(one, BandwidthSpec { ingress: None, egress: Some(egress) });
    }

    #[test]
    fn uplinks_and_host_ports_may_have_rates() {
        for kind in ["host", "uplink"] {
            let port = format!(
                "---\napiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: web}}\nspec:\n  network: front\n  \
                 type: {kind}\n  device: card0\n  bandwidth: {{egress: {{bitsPerSecond: 9000}}}}\n"
            );
            let fabric = fabric(&format!("{BASE}{port}"));
            assert!(fabric.ports["web"].spec.bandwidth.egress.is_some(), "{kind}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let cases = [
            ("ingress: {}", "ingress.bitsPerSecond: not given, 8000 to 1000000000000 expected"),
            (
                "egress: {bitsPerSecond: 7999}",
                "egress.bitsPerSecond: 7999 is out of range, 8000 to 1000000000000 expected",
            ),
            (
                "egress: {bitsPerSecond: 1000000000001}",
                "egress.bitsPerSecond: 1000000000001 is out of range, 8000 to 1000000000000 expected",
            ),
            (
                "ingress: {bitsPerSecond: 8000, burstBits: 11999}",
                "ingress.burstBits: 11999 is out of range, 12000 to 34359738360 expected",
            ),
            (
                "ingress: {bitsPerSecond: 8000, burstBits: 34359738361}",
                "ingress.burstBits: 34359738361 is out of range, 12000 to 34359738360 expected",
            ),
            (
                "ingress: {bitsPerSecond: 8000, queueMilliseconds: 1001}",
                "ingress.queueMilliseconds: 1001 is out of range, 1 to 1000 expected",
            ),
        ];
        for (spec, expected) in cases {
            let given = port("web", &format!("  bandwidth: {{{spec}}}"));
            assert_eq!(wrong(&given), format!("Port/web: spec.bandwidth.{expected}"), "{spec}");
        }
    }
}
