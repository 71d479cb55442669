//! iperf3 between two places of labs, and what its report says.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::Place;

/// The TCP port of its control connection, and of its traffic.
pub const PORT: u16 = 5201;

/// A report of one run, as iperf3 writes it.
#[derive(Debug)]
pub struct Report(pub Value);

/// Runs a client with these options (`--time 1 --reverse`) against a server at `address`.
pub fn run(client: &Place<'_>, server: &Place<'_>, address: &str, options: &str) -> Result<Report> {
    let listener = server.spawn("iperf3 --server --one-off")?;
    server.wait_for_listener(PORT)?;
    let report = client.run(&format!("iperf3 --client {address} --json {options}"))?.ok()?;
    listener.wait()?.ok()?;
    Ok(Report(serde_json::from_str(&report).context("the report of iperf3")?))
}

/// A second of TCP each way, each of which has to be faster than `bits` a second.
pub fn streams(client: &Place<'_>, server: &Place<'_>, address: &str, bits: f64) -> Result<()> {
    for options in ["--time 1", "--time 1 --reverse"] {
        let rate = run(client, server, address, options)?.rate()?;
        ensure!(rate > bits, "{address} {options}: only {rate} bit/s");
    }
    Ok(())
}

/// A second of UDP each way, 20 Mbit/s in datagrams of `length` octets, of which hardly any may be lost.
pub fn datagrams(client: &Place<'_>, server: &Place<'_>, address: &str, length: u32) -> Result<()> {
    for direction in ["", "--reverse"] {
        let options = format!("--time 1 --udp --bitrate 20M --length {length} {direction}");
        let report = run(client, server, address, &options)?;
        let (packets, lost) = report.loss()?;
        ensure!(packets > 100.0 && lost < 1.0, "{address} {options}: {packets} datagrams, {lost} % lost");
    }
    Ok(())
}

impl Report {
    /// What the receiver got, in bits a second; for TCP.
    pub fn rate(&self) -> Result<f64> {
        self.number("sum_received", "bits_per_second")
    }

    /// The payload that the receiver got, in octets; for TCP.
    pub fn octets(&self) -> Result<f64> {
        self.number("sum_received", "bytes")
    }

    /// How many datagrams were sent and how many of a hundred were lost; for UDP.
    pub fn loss(&self) -> Result<(f64, f64)> {
        Ok((self.number("sum", "packets")?, self.number("sum", "lost_percent")?))
    }

    fn number(&self, part: &str, field: &str) -> Result<f64> {
        let value = self.0["end"][part][field].as_f64();
        value.with_context(|| format!("iperf3 tells no {part}.{field}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::one_bridge;
    use crate::topology::NEAR_B4;

    #[test]
    fn streams_and_datagrams_over_the_kernels_bridge_are_reported() {
        let lab = one_bridge().unwrap();
        let (a, b) = (lab.container("a"), lab.container("b"));
        streams(&a, &b, NEAR_B4, 1e8).unwrap();
        datagrams(&a, &b, NEAR_B4, 1200).unwrap();
        let error = streams(&a, &b, NEAR_B4, 1e15).unwrap_err().to_string();
        assert!(error.contains("only"), "{error}");
    }

    #[test]
    fn the_rate_is_what_the_receiver_got() {
        let report = Report(serde_json::json!({"end": {
            "sum_received": {"bits_per_second": 2.5e10, "bytes": 9e9},
            "sum_sent": {"bits_per_second": 9e10, "bytes": 3e10},
        }}));
        assert_eq!((report.rate().unwrap(), report.octets().unwrap()), (2.5e10, 9e9));
    }

    #[test]
    fn a_report_without_a_rate_is_an_error() {
        assert!(Report(serde_json::json!({"error": "unable to connect"})).rate().is_err());
    }
}
