//! Containers that come and go by the service Endpoints: what a runtime's plugin does, without the plugin.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tonic::Code;
use weft_proto::Client;
use weft_proto::detach_queue::{DetachQueue, QueuedDetach};
use weft_proto::v1::attach_request::AddressSource;
use weft_proto::v1::{
    self, AttachRequest, AttachmentKey, AttachmentState, CheckRequest, CollectRequest, EndpointStatusRequest,
    GivenAddresses, PoolAddresses, PortType,
};
use weft_testkit::Manifest;
use weft_testkit::endpoints::{Runtime, key, wish};
use weft_testkit::lab::DETACH_QUEUE;
use weft_testkit::wait::{retry_until, wait_until};

/// A Network for containers with both families.
fn pods() -> Manifest {
    let subnets = json!([
        { "prefix": "198.18.1.0/24", "gateway": "198.18.1.1" },
        { "prefix": "2001:db8:1::/64", "gateway": "2001:db8:1::1" },
    ]);
    Manifest::new().router("core").network("pods", json!({ "router": "core", "subnets": subnets }))
}

/// Runs a test in the place of a runtime that attaches to `pods`.
fn test(test: impl FnOnce(&mut Runtime<'_>) -> Result<()>) {
    Runtime::test(|runtime| {
        runtime.lab.apply(&pods())?;
        test(runtime)
    });
}

fn run(runtime: &Runtime<'_>, container: &str, line: &str) -> Result<String> {
    runtime.lab.container(container).run(line)?.ok()
}

fn pings(runtime: &Runtime<'_>, container: &str, address: &str) -> Result<()> {
    run(runtime, container, &format!("ping -n -c 1 -W 2 {address}")).map(drop)
}

fn addresses(attachment: &AttachmentState) -> Vec<&str> {
    attachment.addresses.iter().map(|own| own.address.as_str()).collect()
}

#[test]
fn what_is_attached_carries_traffic_when_the_answer_comes() {
    test(|runtime| {
        for (name, kind) in [("one", PortType::Veth), ("two", PortType::Tap)] {
            runtime.container(name)?;
            let attachment = runtime.attach(AttachRequest { r#type: kind as i32, ..wish(name) })?;
            pings(runtime, name, "198.18.1.1")?;
            pings(runtime, name, "2001:db8:1::1")?;
            let link = run(runtime, name, "ip -o link show eth0")?;
            ensure!(link.contains(&attachment.mac) && link.contains("mtu 1500"), "{link}");
            let loopback = run(runtime, name, "ip -o link show lo")?;
            ensure!(loopback.contains("LOWER_UP"), "{loopback}");
            ensure!(attachment.host_device.is_empty() == (kind == PortType::Tap), "{attachment:?}");
            ensure!(attachment.routes.len() == 2, "{attachment:?}");
        }
        pings(runtime, "one", "198.18.1.3")?;
        pings(runtime, "two", "2001:db8:1::2")
    });
}

#[test]
fn asking_again_gives_the_same_and_never_a_second_address() {
    test(|runtime| {
        runtime.container("one")?;
        let first = runtime.ask(wish("one"))?;
        let again = runtime.ask(wish("one"))?;
        ensure!(
            !first.existed && again.existed && first.attachment == again.attachment,
            "{first:?}, {again:?}"
        );
        runtime.lab.kill_daemon();
        runtime.lab.restart()?;
        let later = runtime.ask(wish("one"))?;
        ensure!(later.existed && later.attachment == first.attachment, "{later:?}");
        ensure!(runtime.ports()?.len() == 1);
        let error = runtime.ask(AttachRequest { network: "none".into(), ..wish("one") }).unwrap_err();
        ensure!(error.code() == Code::AlreadyExists, "{error:?}");
        Ok(())
    });
}

#[test]
fn asking_twice_at_once_gives_one_attachment() {
    test(|runtime| {
        for round in 0..5 {
            let name = format!("twice{round}");
            runtime.container(&name)?;
            let both = runtime.call(async |client: Client| {
                let (mut one, mut other) = (client.endpoints.clone(), client.endpoints);
                let (one, other) = tokio::join!(one.attach(wish(&name)), other.attach(wish(&name)));
                Ok(tonic::Response::new((one?.into_inner(), other?.into_inner())))
            })?;
            ensure!(both.0.attachment == both.1.attachment, "{both:?}");
            ensure!(both.0.existed != both.1.existed, "{both:?}");
            pings(runtime, &name, "198.18.1.1")?;
        }
        ensure!(runtime.ports()?.len() == 5);
        Ok(())
    });
}

#[test]
fn a_container_that_was_made_anew_under_its_old_name_is_attached_anew() {
    test(|runtime| {
        runtime.container("one")?;
        runtime.attach(wish("one"))?;
        runtime.lab.node().run("ip netns delete one")?.ok()?;
        runtime.container("one")?;
        runtime.attach(wish("one"))?;
        pings(runtime, "one", "198.18.1.1")?;
        ensure!(runtime.ports()?.len() == 1);
        Ok(())
    });
}

#[test]
fn a_container_may_have_several_devices() {
    test(|runtime| {
        runtime.container("one")?;
        let second = json!({ "subnets": [{ "prefix": "198.18.2.0/24" }] });
        runtime.lab.apply(&Manifest::new().network("storage", second))?;
        runtime.attach(wish("one"))?;
        let other = AttachRequest { key: Some(key("one", "net1")), network: "storage".into(), ..wish("one") };
        let attachment = runtime.attach(other)?;
        ensure!(
            addresses(&attachment) == ["198.18.2.1/24"] && attachment.routes.is_empty(),
            "{attachment:?}"
        );
        ensure!(runtime.detach("one", "")?.len() == 2);
        ensure!(runtime.ports()?.is_empty());
        let left = runtime.lab.weft(&["get", "namespaces", "-o", "name"])?.ok()?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    });
}

#[test]
fn detaching_succeeds_however_little_is_left() {
    test(|runtime| {
        ensure!(runtime.detach("never", "eth0")?.is_empty());
        runtime.container("one")?;
        let attachment = runtime.attach(wish("one"))?;
        runtime.lab.node().run("ip netns delete one")?.ok()?;
        ensure!(runtime.detach("one", "eth0")? == [key("one", "eth0")]);
        ensure!(runtime.detach("one", "eth0")?.is_empty());
        ensure!(runtime.ports()?.is_empty());
        // The kernel removes pairs later.
        retry_until(Duration::from_secs(10), "the host's end to go", || {
            let ends = runtime.lab.node().run("nsenter --net=/run/weft/netns/ports ip -o link show")?.ok()?;
            ensure!(!ends.contains(&attachment.host_device), "{ends}");
            Ok(())
        })
    });
}

#[test]
fn what_fails_leaves_nothing_behind() {
    test(|runtime| {
        let missing = runtime.ask(wish("nowhere")).unwrap_err();
        ensure!(missing.code() == Code::FailedPrecondition, "{missing:?}");
        ensure!(missing.message() == "/run/netns/nowhere does not exist", "{missing:?}");
        runtime.container("one")?;
        run(runtime, "one", "ip link add eth0 type bridge")?;
        let taken = runtime.ask(wish("one")).unwrap_err();
        ensure!(taken.code() == Code::AlreadyExists, "{taken:?}");
        run(runtime, "one", "ip -o link show type bridge")?;
        let unknown = runtime.ask(AttachRequest { network: "none".into(), ..wish("one") }).unwrap_err();
        ensure!(
            (unknown.code(), unknown.message()) == (Code::NotFound, "there is no Network/none"),
            "{unknown:?}"
        );
        let wrong = AttachRequest { mtu: 9000, key: Some(key("one", "net1")), ..wish("one") };
        let wrong = runtime.ask(wrong).unwrap_err();
        ensure!(wrong.code() == Code::InvalidArgument, "{wrong:?}");
        ensure!(wrong.message().contains("spec.mtu: 9000 is more than the Network's 1500"), "{wrong:?}");
        ensure!(runtime.ports()?.is_empty());
        let pools = runtime.lab.get("network", "pods")?["status"]["pools"].clone();
        ensure!(pools[0]["used"].is_null() && pools[0]["size"] == 253, "{pools}");
        Ok(())
    });
}

#[test]
fn wanted_and_given_addresses_are_what_the_container_gets() {
    test(|runtime| {
        for name in ["one", "two", "three", "four"] {
            runtime.container(name)?;
        }
        let want = |text: &str| {
            let wanted = vec![text.to_owned()];
            Some(AddressSource::Pools(PoolAddresses { wanted, ranges: Vec::new() }))
        };
        let one = runtime.attach(AttachRequest { address_source: want("198.18.1.77"), ..wish("one") })?;
        ensure!(addresses(&one) == ["198.18.1.77/24", "2001:db8:1::2/64"], "{one:?}");
        let taken =
            runtime.ask(AttachRequest { address_source: want("198.18.1.77"), ..wish("two") }).unwrap_err();
        ensure!(taken.code() == Code::AlreadyExists, "{taken:?}");
        let given = |texts: &[&str]| {
            let addresses = texts.iter().map(|text| text.to_string()).collect();
            Some(AddressSource::Given(GivenAddresses { addresses }))
        };
        let three = AttachRequest { address_source: given(&["198.18.1.200/24"]), ..wish("three") };
        ensure!(addresses(&runtime.attach(three)?) == ["198.18.1.200/24"]);
        pings(runtime, "one", "198.18.1.200")?;
        let none = runtime.attach(AttachRequest { address_source: given(&[]), ..wish("four") })?;
        ensure!(none.addresses.is_empty() && none.routes.is_empty(), "{none:?}");
        Ok(())
    });
}

#[test]
fn what_another_has_already_is_taken_and_not_wrong() {
    test(|runtime| {
        for name in ["one", "two"] {
            runtime.container(name)?;
        }
        let mapping = v1::PortMapping { host_port: 8080, container_port: 80, ..Default::default() };
        let mac = "02:00:00:00:00:77".to_owned();
        let first = AttachRequest { mac, port_mappings: vec![mapping], ..wish("one") };
        let attachment = runtime.attach(first.clone())?;
        let given = GivenAddresses { addresses: vec!["198.18.1.2/24".into()] };
        for (request, what) in [
            (AttachRequest { mac: first.mac, ..wish("two") }, "the MAC address 02:00:00:00:00:77"),
            (AttachRequest { port_mappings: first.port_mappings, ..wish("two") }, "the node's port 8080/tcp"),
            (
                AttachRequest { address_source: Some(AddressSource::Given(given)), ..wish("two") },
                "198.18.1.2 on Network/pods",
            ),
        ] {
            let refused = runtime.ask(request).unwrap_err();
            let by = format!("is taken by Port/{}", attachment.port);
            ensure!(refused.code() == Code::AlreadyExists, "{refused:?}");
            ensure!(refused.message().starts_with(what) && refused.message().contains(&by), "{refused:?}");
        }
        ensure!(runtime.ports()?.len() == 1);
        Ok(())
    });
}

#[test]
fn check_says_what_is_not_as_it_was_made() {
    test(|runtime| {
        runtime.container("one")?;
        runtime.attach(wish("one"))?;
        let request = || CheckRequest { key: Some(key("one", "eth0")), ..Default::default() };
        runtime.check(request())?;
        let fails = |request: CheckRequest, expected: &str| {
            let error = runtime.check(request).unwrap_err();
            ensure!(
                error.code() == Code::FailedPrecondition && error.message().contains(expected),
                "{error:?}"
            );
            anyhow::Ok(())
        };
        fails(CheckRequest { network: "other".into(), ..request() }, "is on Network/pods")?;
        fails(CheckRequest { netns: "/run/netns/two".into(), ..request() }, "not in /run/netns/two")?;
        fails(CheckRequest { mac: "02:00:00:00:00:09".into(), ..request() }, "not 02:00:00:00:00:09")?;
        fails(CheckRequest { addresses: vec!["198.18.1.99/24".into()], ..request() }, "198.18.1.99/24")?;
        run(runtime, "one", "ip -6 route delete default")?;
        fails(request(), "there is no route to ::/0 by 2001:db8:1::1")?;
        run(runtime, "one", "ip address flush dev eth0")?;
        fails(request(), "does not have the address 198.18.1.2/24")?;
        run(runtime, "one", "ip link delete eth0")?;
        let unknown = runtime.check(CheckRequest { key: Some(key("two", "eth0")), ..Default::default() });
        ensure!(unknown.unwrap_err().code() == Code::NotFound);
        Ok(())
    });
}

#[test]
fn what_later_plugins_change_stays_changed() {
    test(|runtime| {
        runtime.container("one")?;
        runtime.attach(wish("one"))?;
        run(runtime, "one", "ip link set eth0 mtu 1400 txqueuelen 77")?;
        run(runtime, "one", "ip address add 198.18.1.50/24 dev eth0")?;
        runtime.lab.kill_daemon();
        runtime.lab.restart()?;
        runtime.container("two")?;
        runtime.attach(wish("two"))?;
        let link = run(runtime, "one", "ip -o link show eth0")?;
        ensure!(link.contains("mtu 1400") && link.contains("qlen 77"), "{link}");
        let addresses = run(runtime, "one", "ip -o -4 address show dev eth0")?;
        ensure!(addresses.contains("198.18.1.50/24"), "{addresses}");
        runtime.check(CheckRequest { key: Some(key("one", "eth0")), ..Default::default() })?;
        Ok(())
    });
}

#[test]
fn only_what_is_not_in_the_list_is_collected() {
    test(|runtime| {
        for (name, configuration) in [("one", "pods"), ("two", "pods"), ("three", "others")] {
            runtime.container(name)?;
            runtime.attach(AttachRequest { configuration: configuration.into(), ..wish(name) })?;
        }
        let collect = |valid: Vec<AttachmentKey>| {
            let request = CollectRequest { configuration: "pods".into(), valid };
            runtime.call(async |mut client: Client| client.endpoints.collect(request).await)
        };
        ensure!(collect(vec![key("one", "eth0")])?.detached == [key("two", "eth0")]);
        pings(runtime, "one", "198.18.1.4")?;
        ensure!(collect(Vec::new())?.detached == [key("one", "eth0")]);
        ensure!(runtime.ports()?.len() == 1);
        Ok(())
    });
}

#[test]
fn status_says_whether_containers_can_come() {
    test(|runtime| {
        let small =
            json!({ "subnets": [{ "prefix": "198.18.9.0/30" }, { "prefix": "198.18.10.0/24", "vlan": 20 }] });
        runtime.lab.apply(&Manifest::new().network("small", small))?;
        let on = |network: &str, vlan| {
            let request = EndpointStatusRequest { network: network.into(), vlan };
            runtime.call(async |mut client: Client| client.endpoints.status(request).await)
        };
        let status = |network: &str| on(network, 0);
        ensure!(status("")?.ready && status("pods")?.ready);
        let missing = status("none")?;
        ensure!(!missing.ready && missing.message == "there is no Network/none: apply one", "{missing:?}");
        for name in ["one", "two", "three"] {
            runtime.container(name)?;
        }
        for name in ["one", "two"] {
            ensure!(status("small")?.exhausted.is_empty());
            runtime.attach(AttachRequest { network: "small".into(), ..wish(name) })?;
        }
        let full = status("small")?;
        ensure!(full.ready && full.exhausted == ["198.18.9.0/30"], "{full:?}");
        // It is that of the VLAN on which a container would be.
        let other = on("small", 20)?;
        ensure!(other.ready && other.exhausted.is_empty(), "{other:?}");
        let unknown = on("small", 30)?;
        ensure!(!unknown.ready && unknown.message.contains("30 is no VLAN of Network/small"), "{unknown:?}");
        let error = runtime.ask(AttachRequest { network: "small".into(), ..wish("three") }).unwrap_err();
        ensure!(error.code() == Code::ResourceExhausted, "{error:?}");
        ensure!(
            error.message().starts_with("Network/small has no address left (198.18.9.0/30: 2 of 2 in use")
        );
        Ok(())
    });
}

#[test]
fn only_attach_gives_a_port_to_a_container() {
    test(|runtime| {
        runtime.container("one")?;
        let attachment = runtime.attach(wish("one"))?;
        let yaml = runtime.lab.weft(&["get", "port", &attachment.port, "-o", "yaml"])?.ok()?;
        runtime.lab.try_apply(&yaml)?.ok()?;
        let stolen = yaml.replace("containerId: one", "containerId: two");
        let refused = runtime.lab.try_apply(&stolen)?.text();
        ensure!(
            refused.contains("spec.endpoint: given, but only Endpoints.Attach gives a Port"),
            "{refused}"
        );
        runtime.lab.weft(&["delete", "port", &attachment.port])?.ok()?;
        ensure!(runtime.detach("one", "eth0")?.is_empty());
        Ok(())
    });
}

/// How long the daemon may take to find that a container is gone.
const COLLECTED: Duration = Duration::from_secs(20);

#[test]
fn containers_whose_namespace_is_gone_are_collected() {
    test(|runtime| {
        for (name, kind) in [("veth", PortType::Veth), ("tap", PortType::Tap), ("alive", PortType::Tap)] {
            runtime.container(name)?;
            runtime.attach(AttachRequest { r#type: kind as i32, ..wish(name) })?;
        }
        // Its namespace has no name any more, but there is somebody in it.
        let inside = runtime.lab.node().spawn("ip netns exec alive sleep 60")?;
        run(runtime, "alive", "ip -o link show eth0")?;
        wait_until(COLLECTED, "somebody in the namespace", || {
            let same = format!("[ /proc/{}/ns/net -ef /run/netns/alive ]", inside.pid());
            runtime.lab.node().exec(&["sh", "-c", &same]).is_ok_and(|output| output.success())
        })?;
        for name in ["veth", "tap", "alive"] {
            runtime.lab.node().run(&format!("ip netns delete {name}"))?.ok()?;
        }
        let left = || runtime.ports().unwrap_or_default();
        wait_until(COLLECTED, "two Ports to be collected", || left().len() == 1)?;
        ensure!(left()[0].contains("alive"), "{:?}", left());
        inside.kill();
        wait_until(COLLECTED, "the last Port to be collected", || left().is_empty())
    });
}

#[test]
fn what_was_asked_while_the_daemon_was_down_is_made_up_for() {
    test(|runtime| {
        for name in ["one", "two"] {
            runtime.container(name)?;
            runtime.attach(wish(name))?;
        }
        let queue = DetachQueue::new(runtime.lab.path(DETACH_QUEUE));
        runtime.lab.kill_daemon();
        queue.add(&QueuedDetach::now(key("one", "eth0")))?;
        queue.add(&QueuedDetach::now(key("never", "eth0")))?;
        std::fs::write(runtime.lab.path(DETACH_QUEUE).join("torn.json"), "{")?;
        runtime.lab.restart()?;
        let left = || runtime.ports().unwrap_or_default();
        wait_until(COLLECTED, "the first Port to go", || left().len() == 1)?;
        ensure!(left()[0].contains("two"), "{:?}", left());
        let queued = queue.list()?;
        ensure!(queued.requests.is_empty() && queued.unreadable.len() == 1, "{queued:?}");
        ensure!(runtime.lab.log().contains("torn.json"));
        // Also while it runs: a plugin may have given up waiting for it.
        queue.add(&QueuedDetach::now(key("two", "eth0")))?;
        wait_until(COLLECTED, "the second Port to go", || left().is_empty())
    });
}

#[test]
fn after_a_boot_nothing_is_held_for_containers_of_the_one_before() {
    test(|runtime| {
        for name in ["one", "two"] {
            runtime.container(name)?;
            runtime.attach(wish(name))?;
        }
        runtime.lab.kill_daemon();
        let boot = "/proc/sys/kernel/random/boot_id";
        std::fs::write(runtime.lab.path("/run/lab/boot_id"), "another-boot\n")?;
        runtime.lab.node().run(&format!("mount --bind /run/lab/boot_id {boot}"))?.ok()?;
        runtime.lab.node().run("ip netns delete one")?.ok()?;
        runtime.lab.restart()?;
        wait_until(COLLECTED, "all Ports to go", || runtime.ports().is_ok_and(|ports| ports.is_empty()))?;
        // A container of this boot may be called like one of the last.
        let attachment = runtime.attach(wish("two"))?;
        ensure!(addresses(&attachment) == ["198.18.1.4/24", "2001:db8:1::4/64"], "{attachment:?}");
        pings(runtime, "two", "198.18.1.1")
    });
}

#[test]
fn a_namespace_under_the_path_of_another_is_left_alone() {
    test(|runtime| {
        runtime.container("one")?;
        runtime.attach(wish("one"))?;
        runtime.lab.node().run("ip netns delete one")?.ok()?;
        runtime.container("one")?;
        wait_until(COLLECTED, "the Port to be collected", || {
            runtime.ports().is_ok_and(|ports| ports.is_empty())
        })?;
        let links = run(runtime, "one", "ip -o link show")?;
        ensure!(links.lines().count() == 1, "{links}");
        Ok(())
    });
}
