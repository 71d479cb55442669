//! The state file damaged while the daemon is down and containers live.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tonic::{Code, Status};
use weft_proto::v1::attach_request::AddressSource;
use weft_proto::v1::{self, AttachRequest, CheckRequest, PoolAddresses, PortType};
use weft_testkit::endpoints::{Runtime, key, wish};
use weft_testkit::wait::{retry_until, wait_until};
use weft_testkit::{Lab, Manifest};

const SOON: Duration = Duration::from_secs(20);
const STATE: &str = "/run/lab/state/weft.redb";

/// What becomes of the file.
type Damage = (&'static str, fn(&mut Vec<u8>));

const CUT_OFF: [Damage; 4] = [
    ("cut off to nothing", |octets| octets.clear()),
    ("cut off within the first page", |octets| octets.truncate(100)),
    ("cut off at a page", |octets| octets.truncate(8192)),
    ("cut off in the middle", |octets| octets.truncate(octets.len() / 2)),
];

const ZEROED: [Damage; 3] = [
    ("zeroed", |octets| octets.fill(0)),
    ("its first page zeroed", |octets| octets[..4096].fill(0)),
    ("its pages zeroed but for the first", |octets| octets[4096..].fill(0)),
];

const FLIPPED: [Damage; 4] = [
    ("a bit of its beginning flipped", |octets| octets[3] ^= 0x10),
    ("a bit of the page size flipped", |octets| octets[13] ^= 1),
    ("bits of both roots flipped", |octets| [72, 200].iter().for_each(|at| octets[*at] ^= 4)),
    ("a bit of every page flipped", |octets| octets.iter_mut().step_by(4096).for_each(|it| *it ^= 1)),
];

fn check(runtime: &Runtime<'_>, container: &str) -> Result<(), Status> {
    runtime.check(CheckRequest { key: Some(key(container, "eth0")), ..Default::default() })
}

/// Kills the daemon, changes what is on disk, and starts it again.
fn damaged(runtime: &mut Runtime<'_>, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    runtime.lab.kill_daemon();
    let path = runtime.lab.path(STATE);
    let mut octets = fs::read(&path).context("the state file")?;
    change(&mut octets);
    fs::write(&path, octets).context("the state file")?;
    runtime.lab.restart()
}

/// What says that a damaged file was found since `before` octets of the log.
fn told(runtime: &Runtime<'_>, before: usize, expected: &str) -> Result<()> {
    let log = runtime.lab.log();
    let since = &log[before..];
    ensure!(since.contains("the state file /run/lab/state/weft.redb is damaged: "), "{since}");
    ensure!(since.contains("WARN") && since.contains(expected), "{expected:?} expected: {since}");
    Ok(())
}

/// Nothing is left of any container.
fn is_empty(runtime: &Runtime<'_>) -> Result<()> {
    ensure!(runtime.ports()?.len() == 0, "Ports are left: {:?}", runtime.ports()?);
    let left = runtime.lab.weft(&["get", "namespaces", "-o", "name"])?.ok()?;
    ensure!(left.is_empty(), "Namespaces are left: {left}");
    retry_until(SOON, "the ends of pairs to go", || {
        let command = "nsenter --net=/run/weft/netns/ports ip -o link show type veth";
        let ends = runtime.lab.node().run(command)?.ok()?;
        ensure!(ends.is_empty(), "{ends}");
        Ok(())
    })
}

fn with_address(container: &str, address: &str) -> AttachRequest {
    let pools = PoolAddresses { wanted: vec![address.to_owned()], ranges: Vec::new() };
    AttachRequest { address_source: Some(AddressSource::Pools(pools)), ..wish(container) }
}

/// A Network with six addresses, one of them the gateway's.
fn pods() -> Manifest {
    let subnets = json!([{ "prefix": "198.18.1.0/29", "gateway": "198.18.1.1" }]);
    Manifest::new().router("core").network("pods", json!({ "router": "core", "subnets": subnets }))
}

/// Two containers with addresses of the pool (198.18.1.2, 198.18.1.3), one with a static one (198.18.1.6).
fn three_containers(runtime: &Runtime<'_>) -> Result<()> {
    runtime.lab.apply(&pods())?;
    for name in ["one", "two", "three"] {
        runtime.container(name)?;
    }
    runtime.attach(wish("one"))?;
    runtime.attach(AttachRequest { r#type: PortType::Tap as i32, ..wish("two") })?;
    runtime.attach(with_address("three", "198.18.1.6"))?;
    Ok(())
}

/// All pairs of containers and addresses.
const LIVING: [(&str, &str); 4] =
    [("one", "198.18.1.3"), ("two", "198.18.1.2"), ("three", "198.18.1.2"), ("one", "198.18.1.6")];

fn containers_go_on(runtime: &Runtime<'_>) -> Result<()> {
    for (container, address) in LIVING {
        retry_until(SOON, "traffic", || runtime.lab.container(container).reaches(address))?;
        check(runtime, container)?;
    }
    Ok(())
}

/// What must hold after any damage, when the run folder is as it was.
fn survives(damages: &[Damage]) {
    for (what, damage) in damages {
        Runtime::test(|runtime| survives_one(runtime, *damage).with_context(|| (*what).to_owned()));
    }
}

fn survives_one(runtime: &mut Runtime<'_>, damage: fn(&mut Vec<u8>)) -> Result<()> {
    three_containers(runtime)?;
    runtime.container("gone")?;
    let gone = runtime.attach(wish("gone"))?;
    ensure!(gone.addresses[0].address == "198.18.1.4/29", "{gone:?}");
    let before = runtime.lab.log().len();
    runtime.lab.kill_daemon();
    runtime.lab.node().run("ip netns delete gone")?.ok()?;
    damaged(runtime, damage)?;
    told(runtime, before, "rebuilt from /run/weft/state: ")?;
    containers_go_on(runtime)?;
    retry_until(SOON, "the attachment of what is gone to go", || {
        ensure!(runtime.ports()?.len() == 3, "{:?}", runtime.ports()?);
        Ok(())
    })?;
    runtime.container("new")?;
    let new = runtime.attach(wish("new"))?;
    ensure!(new.addresses[0].address == "198.18.1.5/29", "an address in use: {new:?}");
    runtime.container("next")?;
    let full = runtime.refused(wish("next"))?;
    ensure!(full.code() == Code::ResourceExhausted, "{full:?}");
    let taken = runtime.refused(with_address("next", "198.18.1.6"))?;
    ensure!(taken.code() == Code::AlreadyExists, "{taken:?}");
    for container in ["one", "two", "three", "new"] {
        ensure!(runtime.detach(container, "eth0")?.len() == 1, "{container} was not known");
    }
    is_empty(runtime)
}

#[test]
fn containers_outlive_a_state_file_that_is_cut_off() {
    survives(&CUT_OFF);
}

#[test]
fn containers_outlive_a_state_file_that_is_zeroed() {
    survives(&ZEROED);
}

#[test]
fn containers_outlive_a_state_file_with_flipped_bits() {
    survives(&FLIPPED);
}

#[test]
fn without_the_copy_nobody_gets_the_address_of_a_living_container() {
    for (what, damage) in [CUT_OFF[3], ZEROED[0], FLIPPED[3]] {
        Runtime::test(|runtime| is_held(runtime, damage).context(what));
    }
}

fn is_held(runtime: &mut Runtime<'_>, damage: fn(&mut Vec<u8>)) -> Result<()> {
    three_containers(runtime)?;
    let before = runtime.lab.log().len();
    runtime.lab.kill_daemon();
    runtime.lab.node().run("rm -r /run/weft/state")?.ok()?;
    damaged(runtime, damage)?;
    told(runtime, before, "nothing could be rebuilt from /run/weft/state: apply all resources again")?;
    ensure!(runtime.ports()?.len() == 0);
    // Also after another start, of a state that is not damaged.
    for start in ["first", "second"] {
        runtime.lab.apply(&pods())?;
        runtime.container(start)?;
        let attachment = runtime.attach(wish(start))?;
        let address = &attachment.addresses[0].address;
        ensure!(address == "198.18.1.4/29" || address == "198.18.1.5/29", "an address in use: {address}");
        for (container, address) in [("one", "198.18.1.2"), ("two", "198.18.1.3"), ("three", "198.18.1.6")] {
            let refused = runtime.refused(with_address("first", address).renamed("other"))?;
            ensure!(refused.message().contains("is in use by a living device"), "{refused:?}");
            let link = runtime.lab.container(container).run("ip -o address show dev eth0")?.ok()?;
            ensure!(link.contains(address), "the device of a living container was touched: {link}");
        }
        runtime.lab.kill_daemon();
        runtime.lab.restart()?;
    }
    for container in ["one", "two", "three"] {
        runtime.detach(container, "eth0")?;
        runtime.lab.node().run(&format!("ip netns delete {container}"))?.ok()?;
    }
    for container in ["first", "second"] {
        ensure!(runtime.detach(container, "eth0")?.len() == 1);
    }
    wait_until(SOON, "what was held to be let go", || {
        runtime.lab.get("network", "pods").is_ok_and(|it| it["status"]["pools"][0]["used"].is_null())
    })?;
    is_empty(runtime)
}

/// The same request by another container in the same namespace.
trait Renamed {
    fn renamed(self, container: &str) -> Self;
}

impl Renamed for AttachRequest {
    fn renamed(self, container: &str) -> AttachRequest {
        let interface = "net1".into();
        AttachRequest { key: Some(v1::AttachmentKey { container_id: container.into(), interface }), ..self }
    }
}

#[test]
fn a_port_that_is_lost_from_the_copy_keeps_its_address_and_the_others_their_traffic() {
    Runtime::test(|runtime| {
        three_containers(runtime)?;
        runtime.lab.kill_daemon();
        runtime.lab.node().run("sh -c truncate${IFS}-s4${IFS}/run/weft/state/Port.one*")?.ok()?;
        let before = runtime.lab.log().len();
        damaged(runtime, |octets| octets.fill(0))?;
        told(runtime, before, "not rebuilt: Port.one-eth0-")?;
        retry_until(SOON, "traffic", || runtime.lab.container("two").reaches("198.18.1.6"))?;
        check(runtime, "two")?;
        let refused = runtime.refused(with_address("two", "198.18.1.2").renamed("other"))?;
        ensure!(refused.message().contains("is in use by a living device"), "{refused:?}");
        // Attached again, the container has its device and its address.
        let again = runtime.attach(wish("one"))?;
        ensure!(again.addresses[0].address == "198.18.1.2/29", "{again:?}");
        retry_until(SOON, "traffic", || runtime.lab.container("one").reaches("198.18.1.6"))?;
        for container in ["one", "two", "three"] {
            ensure!(runtime.detach(container, "eth0")?.len() == 1);
        }
        is_empty(runtime)
    });
}

#[test]
fn what_is_declared_is_there_again_when_it_is_applied_again() {
    use weft_testkit::PortKind;
    use weft_testkit::topology::{self, FAR_B4};
    Lab::test(|lab| {
        let manifest = topology::two_networks(PortKind::Tap, PortKind::Veth);
        lab.apply(&manifest)?;
        lab.container("a").reaches(FAR_B4)?;
        let index = |lab: &Lab| lab.container("b").run("ip -o link show dev eth0")?.ok();
        let before = index(lab)?;
        lab.kill_daemon();
        lab.node().run("rm -r /run/weft/state")?.ok()?;
        fs::write(lab.path(STATE), "nothing of it is left")?;
        lab.restart()?;
        lab.apply(&manifest)?;
        retry_until(SOON, "traffic", || lab.container("a").reaches(FAR_B4))?;
        ensure!(before.split(':').next() == index(lab)?.split(':').next(), "the device was made again");
        Ok(())
    });
}
