//! Pods whose annotations limit what they send and get: those rates, and nobody else's.

use anyhow::{Result, bail, ensure};
use weft_testkit::agent::Cluster;
use weft_testkit::iperf3;

use super::server::{self, Server, mode};

const MEGABIT: f64 = 1e6;
/// What the limited pod may send, and what it may get, in bits a second.
const EGRESS: f64 = 20.0 * MEGABIT;
const INGRESS: f64 = 10.0 * MEGABIT;

fn rate(cluster: &Cluster, client: &Server, server: &Server, options: &str) -> Result<f64> {
    let address = &server.pod.addresses[0];
    iperf3::run(&client.place(cluster), &server.place(cluster), address, options)?.rate()
}

/// A run whose payload has to come at 85 to 100 % of `asked`: headers take 4 to 5. Never may it be faster; a machine that
/// is busy elsewhere may have the sender be late, so it has further tries to be as fast.
fn within(cluster: &Cluster, client: &Server, server: &Server, options: &str, asked: f64) -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..3 {
        // The first second is TCP's, to find out.
        let part = rate(cluster, client, server, &format!("--time 3 --omit 1 {options}"))? / asked;
        ensure!(part <= 1.0, "{options}: {part} of {asked} bit/s");
        if part >= 0.85 {
            return Ok(());
        }
        seen.push(part);
    }
    bail!("{options}: {seen:?} of {asked} bit/s")
}

#[test]
fn a_pod_sends_and_gets_what_its_annotations_say_and_others_are_not_slowed() {
    server::test(2, &mode("wireguard"), |cluster| {
        let limited = Server::start_as(cluster, 0, "limited", |wish| {
            let annotations =
                [("kubernetes.io/ingress-bandwidth", "10M"), ("kubernetes.io/egress-bandwidth", "20M")];
            wish.annotations.extend(annotations.map(|(name, value)| (name.into(), value.into())));
        })?;
        let [free, far, further] =
            [(0, "free"), (1, "far"), (1, "further")].map(|(node, name)| Server::start(cluster, node, name));
        let (free, far, further) = (free?, far?, further?);
        within(cluster, &limited, &far, "", EGRESS)?;
        within(cluster, &limited, &far, "--reverse", INGRESS)?;
        // While the limited pod sends and gets all that it may.
        let (place, server) = (limited.place(cluster), far.place(cluster));
        let listener = server.spawn("iperf3 --server --one-off")?;
        server.wait_for_listener(iperf3::PORT)?;
        let address = &far.pod.addresses[0];
        let client = place.spawn(&format!("iperf3 --client {address} --time 20 --bidir --forceflush"))?;
        let mut client = client;
        client.wait_for("bits/sec")?;
        for options in ["--time 2", "--time 2 --reverse"] {
            let rate = rate(cluster, &free, &further, options)?;
            ensure!(rate > 2.0 * EGRESS, "{options}: only {rate} bit/s");
            ensure!(client.is_running(), "the other stream has ended");
        }
        client.kill();
        listener.kill();
        Ok(())
    });
}
