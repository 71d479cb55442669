//! The table against a model under a clock of the tests' own, and its bounds.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn port(number: u32) -> PortId {
    PortId::from_u32(number)
}

fn group(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xe800_0000 + number).into()
}

const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
const HIGHER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9));
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn general() -> Query {
    Query {
        group: None,
        max_response: Duration::from_secs(10),
        of_sources: false,
        suppress: false,
        robustness: Some(2),
        interval: Some(Duration::from_secs(125)),
    }
}

/// Lets the stack ask by itself, from this address; tells what is asked.
fn own(groups: &Groups, now: u64, source: IpAddr) -> Vec<Question> {
    groups.tick(at(now), &[7], |_, family| (family == Family::V4).then_some(source))
}

fn silent(groups: &Groups, now: u64) -> Vec<Question> {
    groups.tick(at(now), &[7], |_, _| None)
}

fn members(groups: &Groups, group: IpAddr) -> Option<Vec<PortId>> {
    groups.audience(7, group).map(|audience| audience.members().to_vec())
}

#[test]
fn everybody_gets_groups_until_hosts_were_asked_and_could_answer() {
    let groups = Groups::new();
    groups.join(at(1), 7, group(1), port(1));
    assert_eq!(members(&groups, group(1)), None, "nobody asks");
    assert_eq!(own(&groups, 2, NOBODY).len(), 1);
    own(&groups, 11, NOBODY);
    assert_eq!(members(&groups, group(1)), None);
    own(&groups, 12, NOBODY);
    assert_eq!(members(&groups, group(1)), Some(vec![port(1)]));
    assert_eq!(members(&groups, group(2)), Some(vec![]));
    silent(&groups, 13);
    assert_eq!(members(&groups, group(1)), None, "nobody asks any more");
}

#[test]
fn a_querier_asks_quickly_at_first_and_then_in_its_interval() {
    let groups = Groups::new();
    let asked: Vec<u64> = (1..400).filter(|now| !own(&groups, *now, ROUTER).is_empty()).collect();
    assert_eq!(asked, [1, 33, 158, 283], "startup query interval: 31.25 s");
}

#[test]
fn the_lowest_address_asks_and_another_takes_over_when_it_is_silent() {
    let groups = Groups::new();
    own(&groups, 1, ROUTER);
    groups.query(at(2), 7, HIGHER, Some(port(9)), &general());
    assert_eq!(own(&groups, 33, ROUTER).len(), 1, "the higher one does not count");
    let lower = IpAddr::V4(Ipv4Addr::new(198, 17, 0, 1));
    groups.query(at(40), 7, lower, Some(port(9)), &general());
    assert!((40..295).all(|now| own(&groups, now, ROUTER).is_empty()));
    assert_eq!(own(&groups, 295, ROUTER).len(), 1, "other querier present interval: 255 s");
}

#[test]
fn an_address_of_nobody_wins_no_election() {
    let groups = Groups::new();
    own(&groups, 1, NOBODY);
    groups.query(at(2), 7, NOBODY, None, &general());
    assert_eq!(own(&groups, 33, NOBODY).len(), 1);
    groups.query(at(34), 7, HIGHER, Some(port(9)), &general());
    assert!(own(&groups, 200, NOBODY).is_empty());
}

#[test]
fn the_querier_asks_the_port_of_who_left_and_forgets_it_without_an_answer() {
    let groups = Groups::new();
    (1..12).for_each(|now| drop(own(&groups, now, ROUTER)));
    for number in [1, 2] {
        groups.join(at(12), 7, group(1), port(number));
    }
    let question = Question { vlan: 7, source: ROUTER, group: Some(group(1)), port: Some(port(1)) };
    assert_eq!(groups.leave(at(13), 7, group(1), port(1)), Some(question));
    assert_eq!(groups.leave(at(13), 7, group(1), port(1)), None, "asked already");
    assert_eq!(own(&groups, 14, ROUTER), [question], "once more, for a question may be lost");
    assert_eq!(members(&groups, group(1)), Some(vec![port(1), port(2)]));
    assert_eq!(own(&groups, 15, ROUTER), []);
    assert_eq!(members(&groups, group(1)), Some(vec![port(2)]));
    // Somebody else is still there, and says so.
    groups.leave(at(20), 7, group(1), port(2));
    groups.join(at(21), 7, group(1), port(2));
    assert_eq!((own(&groups, 22, ROUTER), own(&groups, 30, ROUTER)), (vec![], vec![]));
    assert_eq!(members(&groups, group(1)), Some(vec![port(2)]));
}

#[test]
fn where_another_router_asks_its_question_shortens_the_wait() {
    let groups = Groups::new();
    groups.query(at(1), 7, ROUTER, Some(port(9)), &general());
    groups.join(at(12), 7, group(1), port(1));
    assert_eq!(groups.leave(at(13), 7, group(1), port(1)), None, "not ours to ask");
    let second = Duration::from_secs(1);
    let of_group = Query { group: Some(group(1)), max_response: second, ..general() };
    groups.query(at(14), 7, ROUTER, Some(port(9)), &Query { suppress: true, ..of_group });
    groups.query(at(14), 7, ROUTER, Some(port(9)), &Query { of_sources: true, ..of_group });
    groups.query(at(14), 7, HIGHER, None, &of_group);
    silent(&groups, 17);
    assert_eq!(members(&groups, group(1)), Some(vec![port(1)]));
    groups.query(at(18), 7, ROUTER, Some(port(9)), &of_group);
    silent(&groups, 19);
    assert_eq!(members(&groups, group(1)), Some(vec![port(1)]));
    silent(&groups, 20);
    assert_eq!(members(&groups, group(1)), Some(vec![]));
}

#[test]
fn routers_are_known_by_what_they_say_and_forgotten() {
    let groups = Groups::new();
    let routers = || groups.audience(7, group(1)).map(|audience| audience.routers().to_vec());
    groups.query(at(1), 7, ROUTER, Some(port(9)), &general());
    groups.router(at(2), 7, Family::V4, port(8));
    groups.router(at(2), 7, Family::V6, port(5));
    silent(&groups, 11);
    assert_eq!(routers(), Some(vec![port(9), port(8)]));
    groups.forget_port(port(9));
    silent(&groups, 12);
    assert_eq!(routers(), Some(vec![port(8)]));
    groups.query(at(250), 7, ROUTER, Some(port(9)), &general());
    silent(&groups, 257);
    assert_eq!(routers(), Some(vec![port(9)]));
    silent(&groups, 505);
    assert_eq!(routers(), None, "nobody asks any more");
}

#[test]
fn another_routers_numbers_are_taken_over() {
    let groups = Groups::new();
    let quick = Query { robustness: Some(3), interval: Some(Duration::from_secs(20)), ..general() };
    groups.query(at(1), 7, ROUTER, Some(port(9)), &quick);
    groups.join(at(11), 7, group(1), port(1));
    groups.query(at(65), 7, ROUTER, Some(port(9)), &quick);
    silent(&groups, 80);
    assert_eq!(members(&groups, group(1)), Some(vec![port(1)]));
    silent(&groups, 81);
    assert_eq!(members(&groups, group(1)), Some(vec![]), "3 x 20 + 10 s after its report");
}

#[test]
fn a_port_has_a_share_and_a_full_network_is_flooded() {
    let groups = Groups::new();
    (1..12).for_each(|now| drop(own(&groups, now, NOBODY)));
    let join = |number, on| groups.join(at(12), 7, group(number), port(on));
    let joined = (0..1000).filter(|number| join(*number, 1) == Joined::New).count();
    assert_eq!((joined, groups.len()), (MAX_GROUPS_OF_PORT, MAX_GROUPS_OF_PORT));
    assert_eq!(members(&groups, group(900)), Some(vec![]), "one port's excess is its own");
    for number in 0..MAX_GROUPS as u32 {
        join(number, 2 + number / MAX_GROUPS_OF_PORT as u32);
    }
    assert_eq!(groups.len(), MAX_GROUPS);
    assert_eq!(join(5000, 99), Joined::Full);
    assert_eq!((members(&groups, group(0)), members(&groups, group(5000))), (None, None));
    assert_eq!(groups.audience(8, group(0)).map(|_| ()), None);
    own(&groups, 273, NOBODY);
    assert_eq!((groups.len(), members(&groups, group(0))), (0, Some(vec![])), "all have run out");
}

#[test]
fn links_of_vlans_that_nobody_uses_are_forgotten() {
    let groups = Groups::new();
    for vlan in 1..1000 {
        groups.join(at(1), vlan, group(1), port(1));
    }
    own(&groups, 1, NOBODY);
    assert_eq!(groups.control().links.len(), 512, "of one port's share, and that of the network");
    own(&groups, 261, NOBODY);
    assert_eq!((groups.len(), groups.control().links.len()), (0, 1));
}

#[test]
fn readers_never_see_a_port_that_is_not_a_member() {
    let groups = Groups::new();
    (1..12).for_each(|now| drop(own(&groups, now, NOBODY)));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..2000u32 {
                groups.join(at(12), 7, group(round % 8), port(round % 8));
                groups.forget_port(port((round + 3) % 8));
            }
        });
        while !writer.is_finished() {
            for number in 0..8 {
                let seen = members(&groups, group(number)).unwrap();
                assert!(seen.is_empty() || seen == [port(number)], "{seen:?}");
            }
        }
    });
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Join(u32, u32),
    Leave(u32, u32),
    Forget(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u32..6, 0u32..4).prop_map(|(group, port)| Step::Join(group, port)),
        2 => (0u32..6, 0u32..4).prop_map(|(group, port)| Step::Leave(group, port)),
        1 => (0u32..4).prop_map(Step::Forget),
        3 => (1u64..120).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn it_behaves_like_a_map_of_deadlines(steps in proptest::collection::vec(step(), 1..120)) {
        let groups = Groups::new();
        let mut model: BTreeMap<(u32, u32), (u64, bool)> = BTreeMap::new();
        let mut now = 1;
        (1..12).for_each(|second| { own(&groups, second, ROUTER); now = second; });
        for step in steps {
            match step {
                Step::Join(number, on) => {
                    groups.join(at(now), 7, group(number), port(on));
                    model.insert((number, on), (now + 260, false));
                }
                Step::Leave(number, on) => {
                    let asked = groups.leave(at(now), 7, group(number), port(on)).is_some();
                    let member = model.get_mut(&(number, on));
                    prop_assert_eq!(asked, member.as_ref().is_some_and(|(_, leaving)| !*leaving));
                    if let Some(member) = member {
                        *member = (if member.1 { member.0 } else { member.0.min(now + 2) }, true);
                    }
                }
                Step::Forget(on) => {
                    groups.forget_port(port(on));
                    model.retain(|(_, port), _| *port != on);
                }
                Step::Wait(seconds) => now += seconds,
            }
            own(&groups, now, ROUTER);
            model.retain(|_, (until, _)| *until > now);
            for number in 0..6 {
                let expected = model.keys().filter(|(group, _)| *group == number).map(|(_, on)| port(*on));
                prop_assert_eq!(members(&groups, group(number)), Some(expected.collect()));
            }
            let distinct: std::collections::BTreeSet<u32> = model.keys().map(|(group, _)| *group).collect();
            prop_assert_eq!(groups.len(), distinct.len());
        }
    }
}
