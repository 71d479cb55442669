//! What is wished for, from resources as people write them.

use proptest::prelude::*;

use super::*;
use crate::fixture::{BASE, fabric, object, port};

/// What [`BASE`] has, with `front` masqueraded except towards 192.0.2.0/24, and the node on it.
fn node_access() -> String {
    let front = "  router: core\n  masquerade: {except: [192.0.2.0/24, 198.18.2.0/25, 'fd00::/8']}\n  subnets:\n  \
        - {prefix: 198.18.1.0/24, gateway: 198.18.1.1}\n  - {prefix: '2001:db8:1::/64', gateway: '2001:db8:1::1'}";
    let back = "  router: core\n  subnets: [{prefix: 198.18.2.0/24, gateway: 198.18.2.1}]";
    let node =
        "  network: front\n  type: host\n  device: weft0\n  addresses: [198.18.1.2/24]\n  sourceCheck: false";
    let parts = [
        object("Router", "core", ""),
        object("Network", "front", front),
        object("Network", "back", back),
        object("Namespace", "box", ""),
        object("Port", "node", node),
    ];
    parts.concat()
}

fn key(wish: &Wish, set: &str) -> Vec<Vec<u8>> {
    wish.sets[set].iter().map(|element| element.key.clone()).collect()
}

#[test]
fn nothing_is_wished_for_where_nobody_asks() {
    let node = object("Port", "node", "  network: front\n  type: host");
    assert!(Wish::of(&fabric(&format!("{BASE}{node}"))).is_empty());
}

#[test]
fn routes_of_the_node_need_forwarding_of_their_families_and_no_table() {
    let node = |routes: &str| {
        let spec = format!("  network: front\n  type: host\n  device: weft0\n  nodeRoutes: {routes}");
        Wish::of(&fabric(&format!("{BASE}{}", object("Port", "node", &spec))))
    };
    let wish = node("[{prefix: 198.18.9.0/24, via: 192.0.2.9}]");
    assert!(wish.is_empty() && wish.forwards_v4 && !wish.forwards_v6);
    let wish = node("[{prefix: '2001:db8:9::/64', via: 'fd00::9'}]");
    assert!(wish.is_empty() && !wish.forwards_v4 && wish.forwards_v6);
    assert_eq!(wish.devices.into_iter().collect::<Vec<_>>(), ["weft0"]);
}

#[test]
fn a_mapping_is_an_element_for_each_family_of_the_port() {
    let list = "  addresses: [198.18.1.10/24, '2001:db8:1::10/64']\n  portMappings:\n  \
        - {hostPort: 8080, containerPort: 80}\n  \
        - {protocol: sctp, hostPort: 81, containerPort: 82, hostAddress: 192.0.2.1}";
    let wish = Wish::of(&fabric(&format!("{BASE}{}", port("web", list))));
    let element = |key: &[u8], value: &[u8]| {
        BTreeSet::from([Element { value: Some(value.to_vec()), ..Element::of(key.to_vec()) }])
    };
    let tcp_8080 = [6, 0, 0, 0, 0x1f, 0x90, 0, 0];
    assert_eq!(wish.sets[MAPPINGS[0]], element(&tcp_8080, &[198, 18, 1, 10, 0, 80, 0, 0]));
    let inside = [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 80, 0, 0];
    assert_eq!(wish.sets[MAPPINGS[1]], element(&tcp_8080, &inside));
    let bound = [192, 0, 2, 1, 132, 0, 0, 0, 0, 81, 0, 0];
    assert_eq!(wish.sets[BOUND[0]], element(&bound, &[198, 18, 1, 10, 0, 82, 0, 0]));
    assert!(wish.sets[BOUND[1]].is_empty());
    assert!(wish.forwards_v4 && wish.forwards_v6 && wish.loopback);
    let read: Vec<_> = wish.sets[BOUND[0]].iter().filter_map(Lead::read).collect();
    let expected = Lead {
        address: Some("192.0.2.1".parse().unwrap()),
        protocol: 132,
        port: 81,
        target: "198.18.1.10:82".parse().unwrap(),
    };
    assert_eq!(read, [expected]);
}

proptest! {
    #[test]
    fn a_lead_is_read_as_it_was_written(
        v4 in any::<bool>(), bound in any::<bool>(), protocol in any::<u8>(), port in any::<u16>(),
        to in any::<u16>(), node in any::<u128>(), container in any::<u128>(),
    ) {
        let address = |bits: u128| match v4 {
            true => IpAddr::from((bits as u32).to_be_bytes()),
            false => IpAddr::from(bits.to_be_bytes()),
        };
        let target = SocketAddr::new(address(container), to);
        let lead = Lead { address: bound.then(|| address(node)), protocol, port, target };
        prop_assert_eq!(Lead::read(&lead.element().1), Some(lead));
    }

    #[test]
    fn no_element_of_others_is_too_strange_to_be_read(
        key in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        // Whatever it is taken for: it does not panic.
        let _ = Lead::read(&Element { value: Some(value), ..Element::of(key) });
    }
}

#[test]
fn a_port_that_is_being_taken_down_has_no_mappings() {
    let list = "  addresses: [198.18.1.10/24]\n  portMappings: [{hostPort: 8080, containerPort: 80}]";
    let mut fabric = fabric(&format!("{BASE}{}", port("web", list)));
    std::sync::Arc::make_mut(fabric.ports.get_mut("web").unwrap()).metadata.deleting =
        Some(std::time::SystemTime::UNIX_EPOCH);
    assert!(Wish::of(&fabric).is_empty());
}

#[test]
fn siblings_and_exceptions_see_containers_own_addresses() {
    let wish = Wish::of(&fabric(&node_access()));
    // From the first address of the block to the one behind its last.
    assert_eq!(key(&wish, SOURCES[0]), [[198, 18, 1, 0], [198, 18, 2, 0]]);
    let kept = key(&wish, KEPT[0]);
    // 198.18.2.0/25 is inside a subnet of the same Router.
    let expected =
        [[198, 18, 1, 0, 192, 0, 2, 0], [198, 18, 1, 0, 198, 18, 1, 0], [198, 18, 1, 0, 198, 18, 2, 0]];
    assert_eq!(kept, expected);
    let last = wish.sets[KEPT[0]].iter().map(|element| element.last.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(last[0], [198, 18, 1, 255, 192, 0, 2, 255]);
    assert_eq!(wish.sets[KEPT[1]].len(), 2);
    assert!(wish.forwards_v4 && wish.forwards_v6 && !wish.loopback);
}

#[test]
fn hairpins_are_between_devices_that_containers_do_not_need() {
    let second = "  network: back\n  type: host\n  device: weft1";
    let far = object("Network", "far", "  subnets: [{prefix: 198.18.3.0/24}]");
    let third = object("Port", "third", "  network: far\n  type: host\n  device: weft2");
    let yaml = format!("{}{far}{third}{}", node_access(), object("Port", "second", second));
    let wish = Wish::of(&fabric(&yaml));
    let names = |key: &[u8]| {
        key.chunks(16)
            .map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
            .collect::<Vec<_>>()
    };
    let pairs: Vec<_> = key(&wish, HAIRPINS).iter().map(|key| names(key)).collect();
    let expected =
        [["weft0", "weft0"], ["weft0", "weft1"], ["weft1", "weft0"], ["weft1", "weft1"], ["weft2", "weft2"]];
    assert_eq!(pairs, expected);
    assert_eq!(key(&wish, DEVICES).len(), 3);
}

#[test]
fn the_last_block_of_a_family_has_no_key_behind_it() {
    assert_eq!(interval("224.0.0.0/3".parse().unwrap()).len(), 1);
    let elements = interval("10.255.0.0/16".parse().unwrap());
    assert_eq!(elements[1].key, [11, 0, 0, 0]);
    assert!(elements[0].begins && !elements[1].begins);
    assert_eq!(ends("192.0.2.128/25".parse().unwrap()), (vec![192, 0, 2, 128], vec![192, 0, 2, 255]));
    assert_eq!(ends("0.0.0.0/0".parse().unwrap()).1, [255; 4]);
}
