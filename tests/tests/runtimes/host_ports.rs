//! Ports of the node that lead to pods, and the way from pods to outside.

use anyhow::{Result, ensure};
use weft_testkit::Place;
use weft_testkit::runtimes::Pod;
use weft_testkit::runtimes::cri::PortMapping;
use weft_testkit::wait::retry_until;

use super::containerd::Containerd;
use super::node::SOON;

/// Where the mapped port is asked for from outside.
const URLS: [&str; 2] = ["http://192.0.2.1:8080/sh", "http://[2001:db8:9::1]:8080/sh"];

impl Containerd<'_, '_> {
    /// A pod that serves the folder of its programs at port 8080 of the node.
    fn serve(&self, name: &str) -> Result<Pod> {
        let mut wish = self.wish(name);
        wish.port_mappings.push(PortMapping { container_port: 80, host_port: 8080, ..Default::default() });
        let pod = self.run(wish, &["httpd", "-f", "-p", "80", "-h", "/bin"])?;
        retry_until(SOON, "the server", || {
            self.exec(&pod, &["wget", "-q", "-O", "/tmp/x", "http://127.0.0.1/sh"])
        })?;
        Ok(pod)
    }
}

fn fetch(place: &Place<'_>, url: &str) -> Result<()> {
    place.exec(&["timeout", "5", "busybox", "wget", "-q", "-O", "/dev/null", url])?.ok().map(drop)
}

#[test]
fn a_port_of_the_node_leads_to_the_pod_and_to_the_one_after_it() {
    Containerd::test(|containerd| {
        let outside = containerd.node.meet_outside()?;
        for name in ["one", "two"] {
            let pod = containerd.serve(name)?;
            let client = containerd.pod("client")?;
            for url in URLS {
                fetch(&outside, url)?;
                fetch(&containerd.node.lab.node(), url)?;
                containerd.exec(&client, &["wget", "-q", "-O", "/tmp/x", url])?;
            }
            containerd.remove(&client.sandbox)?;
            containerd.remove(&pod.sandbox)?;
            for url in URLS {
                ensure!(fetch(&outside, url).is_err(), "{url} is still served");
            }
        }
        containerd.node.is_empty()
    });
}

#[test]
fn pods_reach_the_outside_by_way_of_the_node() {
    Containerd::test(|containerd| {
        containerd.node.meet_outside()?;
        let pod = containerd.pod("one")?;
        containerd.pings(&pod, &["192.0.2.2", "2001:db8:9::2"])
    });
}

#[test]
fn a_port_of_the_node_that_is_taken_is_an_error_that_names_it() {
    Containerd::test(|containerd| {
        let first = containerd.serve("one")?;
        let error = containerd.serve("two").err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(error.contains("the node's port 8080/tcp is taken by Port/"), "{error:?}");
        ensure!(containerd.owners()? == ["shop/one"], "{:?}", containerd.owners()?);
        fetch(&containerd.node.lab.node(), "http://127.0.0.1:8080/sh")?;
        containerd.remove(&first.sandbox)?;
        containerd.node.is_empty()
    });
}
