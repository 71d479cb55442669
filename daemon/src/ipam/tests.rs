//! Giving addresses out and taking them back, without a store.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::fixture;
use crate::model::Survivor;

const START: Duration = Duration::from_secs(1_000_000_000);

/// A Network `net` with Ports, and its ledger.
struct Lab {
    yaml: String,
    fabric: Fabric,
    ledger: Ledger,
    now: SystemTime,
}

impl Lab {
    fn new(spec: &str) -> Lab {
        let yaml = fixture::object("Network", "net", spec) + &fixture::object("Namespace", "box", "");
        let fabric = fixture::fabric(&yaml);
        let ledger = Ledger::of(&fabric, []);
        Lab { yaml, fabric, ledger, now: SystemTime::UNIX_EPOCH + START }
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.ledger.expire(&self.fabric, self.now);
    }

    fn choose(&self, asked: &Asked<'_>) -> Result<Vec<InterfaceAddress>, Error> {
        let name = Name::new("net").unwrap();
        self.ledger.choose(&name, &self.fabric.networks[&name].spec, asked, self.now)
    }

    /// Makes a Port for `owner` with what it is given; returns the addresses.
    fn attach(&mut self, port: &str, asked: &Asked<'_>) -> Result<Vec<String>, Error> {
        let chosen = self.choose(asked)?;
        let texts: Vec<String> =
            chosen.iter().map(|own| format!("{}/{}", own.address, own.prefix_length)).collect();
        let endpoint = format!("{{containerId: {port}, interface: eth0, owner: '{}'}}", asked.owner);
        let spec = format!(
            "  network: net\n  namespace: box\n  type: tap\n  device: {port}\n  addresses: {texts:?}\n  endpoint: {endpoint}"
        );
        self.follow(|yaml| yaml + &fixture::object("Port", port, &spec), port);
        Ok(texts.into_iter().map(|text| text.split('/').next().unwrap().to_owned()).collect())
    }

    fn detach(&mut self, port: &str) -> ReleasedChanges {
        let mark = format!("metadata: {{name: {port}}}");
        let keep = |yaml: String| {
            let documents = yaml.split("---\n").filter(|document| !document.contains(&mark));
            documents.collect::<Vec<_>>().join("---\n")
        };
        self.follow(keep, port)
    }

    fn follow(&mut self, change: impl FnOnce(String) -> String, port: &str) -> ReleasedChanges {
        self.yaml = change(std::mem::take(&mut self.yaml));
        let after = fixture::fabric(&self.yaml);
        let written = BTreeSet::from([ObjectRef::new(Kind::Port, Name::new(port).unwrap())]);
        let changes = self.ledger.follow(&self.fabric, &after, &written, self.now);
        self.fabric = after;
        changes
    }

    fn usage(&self) -> Usage {
        self.ledger.usage(&Name::new("net").unwrap())[0]
    }
}

const SMALL: &str = "  subnets: [{prefix: 198.18.1.0/29, gateway: 198.18.1.1}]";

fn anybody() -> Asked<'static> {
    Asked::default()
}

#[test]
fn what_a_living_device_has_is_given_to_nobody_but_its_port_until_it_is_gone() {
    let mut lab = Lab::new(SMALL);
    let web = Name::new("web").unwrap();
    let address: IpAddr = "198.18.1.2".parse().unwrap();
    let survivor = Survivor { addresses: vec![address], ..Survivor::default() };
    lab.fabric.survivors = Arc::new(BTreeMap::from([(web.clone(), survivor)]));
    lab.ledger.hold(&lab.fabric, lab.now);
    let given: Vec<_> = (0..4).map(|n| lab.attach(&format!("p{n}"), &anybody()).unwrap().remove(0)).collect();
    assert_eq!(given, ["198.18.1.3", "198.18.1.4", "198.18.1.5", "198.18.1.6"]);
    assert!(lab.usage().is_exhausted());
    let wanted = Asked { wanted: &[address], ..Asked::default() };
    let refused = lab.choose(&wanted).unwrap_err().to_string();
    assert!(refused.contains("is in use by a living device that was made for Port/web"), "{refused}");
    let own = lab.choose(&Asked { port: Some(&web), ..Asked::default() }).unwrap();
    assert_eq!(own[0].address, address);
    lab.fabric.survivors = Arc::default();
    lab.ledger.hold(&lab.fabric, lab.now);
    assert!(lab.choose(&anybody()).is_err(), "others may still send to the one who had it");
    lab.later(3600);
    assert_eq!(lab.choose(&anybody()).unwrap()[0].address, address);
}

#[test]
fn each_gets_another_address_until_none_is_left() {
    let mut lab = Lab::new(SMALL);
    let given: HashSet<_> = (0..5).flat_map(|i| lab.attach(&format!("p{i}"), &anybody()).unwrap()).collect();
    let expected = ["198.18.1.2", "198.18.1.3", "198.18.1.4", "198.18.1.5", "198.18.1.6"];
    assert_eq!(given, expected.map(str::to_owned).into());
    let error = lab.attach("p9", &anybody()).unwrap_err().to_string();
    let full = "198.18.1.0/29: 5 of 5 in use, 0 given back a short time ago, 0 reserved";
    assert_eq!(error, format!("Network/net has no address left ({full})"));
    assert!(lab.usage().is_exhausted());
}

#[test]
fn what_was_given_back_waits_and_then_comes_last() {
    let mut lab = Lab::new(SMALL);
    assert_eq!(lab.attach("p0", &anybody()).unwrap(), ["198.18.1.2"]);
    let released = lab.detach("p0");
    assert_eq!(released.values().flatten().count(), 1);
    for i in 1..5 {
        assert_ne!(lab.attach(&format!("p{i}"), &anybody()).unwrap(), ["198.18.1.2"]);
    }
    lab.later(59);
    assert!(lab.choose(&anybody()).is_err());
    lab.later(1);
    assert_eq!(lab.attach("p5", &anybody()).unwrap(), ["198.18.1.2"]);
}

#[test]
fn addresses_go_around_before_one_is_given_again() {
    let mut lab =
        Lab::new("  addressManagement: {quarantineSeconds: 0}\n  subnets: [{prefix: 198.18.1.0/28}]");
    let mut seen = Vec::new();
    for i in 0..14 {
        seen.extend(lab.attach(&format!("p{i}"), &anybody()).unwrap());
        lab.detach(&format!("p{i}"));
        lab.later(1);
    }
    let different: HashSet<_> = seen.iter().collect();
    assert_eq!(different.len(), 14, "{seen:?}");
}

#[test]
fn one_address_of_each_family_comes_in_the_order_of_the_subnets() {
    let v6_first =
        "  subnets: [{prefix: '2001:db8:1::/64'}, {prefix: 198.18.1.0/24}, {prefix: 198.18.2.0/24}]";
    let mut lab = Lab::new(v6_first);
    assert_eq!(lab.attach("p0", &anybody()).unwrap(), ["2001:db8:1::1", "198.18.1.1"]);
    let mut lab = Lab::new("  subnets: [{prefix: 198.18.1.0/24}, {prefix: '2001:db8:1::/64'}]");
    assert_eq!(lab.attach("p0", &anybody()).unwrap(), ["198.18.1.1", "2001:db8:1::1"]);
}

#[test]
fn a_full_subnet_is_followed_by_the_next_one_of_its_family() {
    let mut lab = Lab::new("  subnets: [{prefix: 198.18.1.0/30}, {prefix: 198.18.2.0/24}]");
    let given: Vec<_> = (0..3).flat_map(|i| lab.attach(&format!("p{i}"), &anybody()).unwrap()).collect();
    assert_eq!(given, ["198.18.1.1", "198.18.1.2", "198.18.2.1"]);
}

#[test]
fn only_ranges_are_given_out_and_never_what_is_excluded() {
    let pool = "{ranges: [198.18.1.10-198.18.1.13, 198.18.1.128/31], exclude: [198.18.1.11]}";
    let mut lab =
        Lab::new(&format!("  subnets: [{{prefix: 198.18.1.0/24, gateway: 198.18.1.10, pool: {pool}}}]"));
    let given: Vec<_> = (0..4).flat_map(|i| lab.attach(&format!("p{i}"), &anybody()).unwrap()).collect();
    assert_eq!(given, ["198.18.1.12", "198.18.1.13", "198.18.1.128", "198.18.1.129"]);
    assert!(lab.choose(&anybody()).is_err());
    assert_eq!(lab.usage().size, 4);
}

#[test]
fn ranges_of_a_request_narrow_its_family_only() {
    let lab = Lab::new("  subnets: [{prefix: 198.18.1.0/24}, {prefix: '2001:db8:1::/64'}]");
    let ranges =
        [AddressRange { first: "198.18.1.77".parse().unwrap(), last: "198.18.1.78".parse().unwrap() }];
    let chosen = lab.choose(&Asked { ranges: &ranges, ..Asked::default() }).unwrap();
    assert_eq!(chosen[0].address.to_string(), "198.18.1.77");
    assert_eq!(chosen.len(), 2);
}

#[test]
fn a_wanted_address_is_given_or_told_whose_it_is() {
    let reserved = "  addressManagement: {reservations: [{owner: a/db, addresses: [198.18.1.9]}]}\n";
    let mut lab = Lab::new(&format!("{reserved}  subnets: [{{prefix: 198.18.1.0/24, gateway: 198.18.1.1}}]"));
    let want = |text: &str| [text.parse::<IpAddr>().unwrap()];
    let asks = |lab: &Lab, text: &str| {
        lab.choose(&Asked { wanted: &want(text), ..Asked::default() }).map_err(|error| error.to_string())
    };
    let five = want("198.18.1.5");
    lab.attach("p0", &Asked { wanted: &five, ..Asked::default() }).unwrap();
    assert_eq!(asks(&lab, "198.18.1.5").unwrap_err(), "198.18.1.5 of Network/net is Port/p0's");
    assert_eq!(asks(&lab, "198.18.1.9").unwrap_err(), "198.18.1.9 of Network/net is reserved for a/db");
    let gateway = "198.18.1.1 of Network/net is the gateway's, or not a host's address";
    assert_eq!(asks(&lab, "198.18.1.1").unwrap_err(), gateway);
    assert_eq!(asks(&lab, "198.18.1.255").unwrap_err(), gateway.replace("1.1 of", "1.255 of"));
    let outside = "198.18.2.5 is in no subnet of Network/net, one of 198.18.1.0/24 expected";
    assert_eq!(asks(&lab, "198.18.2.5").unwrap_err(), outside);
    let owner = Asked { owner: "a/db", ..Asked::default() };
    assert_eq!(lab.attach("p1", &owner).unwrap(), ["198.18.1.9"]);
    lab.detach("p0");
    assert!(asks(&lab, "198.18.1.5").is_ok(), "who asks for just this one need not wait");
}

#[test]
fn an_owner_that_comes_back_gets_its_address_again_unless_others_needed_it() {
    let spec = "  addressManagement: {quarantineSeconds: 10, stickySeconds: 1000}\n  subnets: [{prefix: 198.18.1.0/29}]";
    let mut lab = Lab::new(spec);
    let web = Asked { owner: "default/web", ..Asked::default() };
    lab.attach("p0", &anybody()).unwrap();
    let first = lab.attach("p1", &web).unwrap();
    lab.detach("p1");
    assert_eq!(lab.attach("p2", &web).unwrap(), first, "at once");
    lab.detach("p2");
    lab.later(999);
    assert_eq!(lab.attach("p3", &web).unwrap(), first, "much later");
    lab.detach("p3");
    lab.later(11);
    let others: Vec<_> = (4..9).flat_map(|i| lab.attach(&format!("p{i}"), &anybody()).unwrap()).collect();
    assert_eq!(others.last(), first.first(), "kept for it until the last");
    assert!(lab.choose(&web).is_err());
}

#[test]
fn what_waits_is_known_after_a_restart() {
    let mut lab = Lab::new("  subnets: [{prefix: 198.18.1.0/30}]");
    lab.attach("p0", &anybody()).unwrap();
    lab.attach("p1", &anybody()).unwrap();
    let released: Vec<_> = lab.detach("p0").into_iter().filter_map(|(key, it)| Some((key, it?))).collect();
    lab.ledger = Ledger::of(&lab.fabric, released);
    lab.later(30);
    assert!(lab.choose(&anybody()).is_err());
    assert_eq!((lab.usage().used, lab.usage().quarantined), (1, 1));
    lab.later(31);
    assert!(lab.choose(&anybody()).is_ok());
}

#[test]
fn a_clock_that_was_set_back_frees_what_waits() {
    let mut lab = Lab::new("  subnets: [{prefix: 198.18.1.0/32}]");
    lab.attach("p0", &anybody()).unwrap();
    lab.detach("p0");
    lab.now -= Duration::from_secs(100_000);
    lab.later(0);
    assert!(lab.choose(&anybody()).is_ok());
}

#[test]
fn large_subnets_cost_no_more_than_small_ones() {
    let mut lab = Lab::new("  subnets: [{prefix: 10.0.0.0/8}, {prefix: '2001:db8::/32'}]");
    assert_eq!(lab.usage().size, (1 << 24) - 2);
    assert_eq!(lab.attach("p0", &anybody()).unwrap(), ["10.0.0.1", "2001:db8::1"]);
    assert_eq!(lab.ledger.usage(&Name::new("net").unwrap())[1].size, u64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_two_ports_ever_have_one_address_and_none_is_lost(
        steps in prop::collection::vec((any::<bool>(), 0..8_u8, 0..40_u64), 1..60),
    ) {
        let spec = "  addressManagement: {quarantineSeconds: 30, stickySeconds: 60}\n  subnets: [{prefix: 198.18.1.0/29}]";
        let mut lab = Lab::new(spec);
        let mut held: BTreeMap<u8, String> = BTreeMap::new();
        for (attach, who, seconds) in steps {
            lab.later(seconds);
            let (port, owner) = (format!("p{who}"), format!("ns/{}", who % 3));
            if attach && !held.contains_key(&who) {
                if let Ok(given) = lab.attach(&port, &Asked { owner: &owner, ..Asked::default() }) {
                    prop_assert!(held.values().all(|other| *other != given[0]));
                    held.insert(who, given[0].clone());
                }
            } else if !attach && held.remove(&who).is_some() {
                lab.detach(&port);
            }
            prop_assert_eq!(lab.usage().used, held.len() as u64);
        }
        for who in held.into_keys() {
            lab.detach(&format!("p{who}"));
        }
        lab.later(61);
        let usage = lab.usage();
        prop_assert_eq!((usage.used, usage.quarantined), (0, 0));
        for i in 10..16 {
            let given = lab.attach(&format!("p{i}"), &anybody());
            prop_assert!(given.is_ok());
        }
    }
}
