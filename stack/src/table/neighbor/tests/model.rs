//! The table against a model: RFC 4861 appendix C, written down once more as a plain map, under virtual time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Milliseconds of a step.
const STEP: u64 = 50;

/// Addresses, few so that events meet.
const ADDRESSES: u32 = 4;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A packet is about to go there.
    Send(u32),
    /// The neighbour's own question, or a word to all.
    Told {
        who: u32,
        mac: MacAddr,
        create: bool,
    },
    Reply {
        who: u32,
        mac: MacAddr,
    },
    Advertised {
        who: u32,
        mac: Option<MacAddr>,
        solicited: bool,
        replace: bool,
    },
    /// Steps go by; timers run out on their way.
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let mac = prop_oneof![Just(MAC), Just(OTHER)];
    let who = 0..ADDRESSES;
    prop_oneof![
        4 => who.clone().prop_map(Event::Send),
        2 => (who.clone(), mac.clone(), any::<bool>()).prop_map(|(who, mac, create)| Event::Told { who, mac, create }),
        2 => (who.clone(), mac.clone()).prop_map(|(who, mac)| Event::Reply { who, mac }),
        4 => (who, proptest::option::of(mac), any::<bool>(), any::<bool>())
            .prop_map(|(who, mac, solicited, replace)| Event::Advertised { who, mac, solicited, replace }),
        4 => prop_oneof![0..30u64, 80..120u64, 200..1000u64].prop_map(Event::Wait),
    ]
}

/// An entry of the model; moments in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Incomplete { asked: u32, again: u64 },
    Reachable { mac: MacAddr, until: u64 },
    Stale { mac: MacAddr },
    Delay { mac: MacAddr, until: u64 },
    Probe { mac: MacAddr, asked: u32, again: u64 },
    Failed { until: u64 },
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    reachable_time: u64,
    entries: BTreeMap<u32, Known>,
}

impl Model {
    fn send(&mut self, who: u32) {
        let now = self.now;
        let entry = self.entries.entry(who).or_insert(Known::Failed { until: now });
        match *entry {
            Known::Failed { until } if until <= now => {
                *entry = Known::Incomplete { asked: 1, again: now + 1000 }
            }
            Known::Stale { mac } => *entry = Known::Delay { mac, until: now + 5000 },
            _ => {}
        }
    }

    fn mac(&self, who: u32) -> Option<MacAddr> {
        match *self.entries.get(&who)? {
            Known::Reachable { mac, .. }
            | Known::Stale { mac }
            | Known::Delay { mac, .. }
            | Known::Probe { mac, .. } => Some(mac),
            Known::Incomplete { .. } | Known::Failed { .. } => None,
        }
    }

    fn told(&mut self, who: u32, mac: MacAddr, create: bool) {
        let exists = self.entries.contains_key(&who);
        if (exists || create) && self.mac(who) != Some(mac) {
            self.entries.insert(who, Known::Stale { mac });
        }
    }

    fn advertised(&mut self, who: u32, mac: Option<MacAddr>, solicited: bool, replace: bool) {
        let Some(entry) = self.entries.get(&who).copied() else { return };
        let until = self.now + self.reachable_time;
        let next = match (entry, self.mac(who), mac) {
            (_, None, None) => return,
            (_, None, Some(mac)) if solicited => Known::Reachable { mac, until },
            (_, None, Some(mac)) => Known::Stale { mac },
            (Known::Reachable { mac: known, .. }, _, Some(mac)) if mac != known && !replace => {
                Known::Stale { mac: known }
            }
            (_, Some(known), Some(mac)) if mac != known && !replace => return,
            (_, Some(known), mac) if solicited => Known::Reachable { mac: mac.unwrap_or(known), until },
            (_, Some(known), Some(mac)) if mac != known => Known::Stale { mac },
            _ => return,
        };
        self.entries.insert(who, next);
    }

    fn reply(&mut self, who: u32, mac: MacAddr) {
        let asked = matches!(self.entries.get(&who), Some(Known::Incomplete { .. } | Known::Probe { .. }));
        self.advertised(who, Some(mac), asked, true);
    }

    /// Goes on by a step.
    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        self.entries.retain(|_, entry| {
            *entry = match *entry {
                Known::Incomplete { asked: 3, again } if again <= now => Known::Failed { until: now + 3000 },
                Known::Incomplete { asked, again } if again <= now => {
                    Known::Incomplete { asked: asked + 1, again: now + 1000 }
                }
                Known::Reachable { mac, until } if until <= now => Known::Stale { mac },
                Known::Delay { mac, until } if until <= now => {
                    Known::Probe { mac, asked: 1, again: now + 1000 }
                }
                Known::Probe { asked: 3, again, .. } if again <= now => return false,
                Known::Probe { mac, asked, again } if again <= now => {
                    Known::Probe { mac, asked: asked + 1, again: now + 1000 }
                }
                other => other,
            };
            true
        });
    }

    fn seen(&self, who: u32) -> Option<(Reachability, Option<MacAddr>)> {
        let reachability = match self.entries.get(&who)? {
            Known::Incomplete { .. } => Reachability::Incomplete,
            Known::Reachable { .. } => Reachability::Reachable,
            Known::Stale { .. } => Reachability::Stale,
            Known::Delay { .. } => Reachability::Delay,
            Known::Probe { .. } => Reachability::Probe,
            Known::Failed { .. } => Reachability::Failed,
        };
        Some((reachability, self.mac(who)))
    }
}

/// The table and the timers that its callers set.
struct Driven {
    table: Neighbors,
    now: u64,
    timers: Vec<(u64, u32)>,
}

fn millis(number: u64) -> Instant {
    Instant::from_nanos(number * 1_000_000)
}

impl Driven {
    fn send(&mut self, who: u32) {
        match self.table.lookup(millis(self.now), address(who), || true) {
            Lookup::Start(_) => self.timers.push((self.now + 1000, who)),
            Lookup::Delay(_, until) => self.timers.push((until.as_nanos() / 1_000_000, who)),
            Lookup::Found(..) | Lookup::Pending | Lookup::Silent => {}
            Lookup::Refused => panic!("a question is refused that was allowed"),
        }
    }

    fn hear(&self, who: u32, claim: Claim) {
        self.table.hear(millis(self.now), address(who), claim, port(0));
    }

    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        let due: Vec<u32> = self.timers.iter().filter(|(at, _)| *at <= now).map(|(_, who)| *who).collect();
        self.timers.retain(|(at, _)| *at > now);
        for who in due {
            match self.table.tick(millis(now), address(who)) {
                Tick::Ask | Tick::AskOne(_) => self.timers.push((now + 1000, who)),
                Tick::Wait(due) => self.timers.push((due.as_nanos() / 1_000_000, who)),
                Tick::Done | Tick::Failed(_) => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_table_does_what_the_model_says(events in proptest::collection::vec(event(), 1..60)) {
        let table = table(16);
        let reachable_time = table.reachable_time(at(0)).as_millis() as u64;
        let mut model = Model { reachable_time, ..Model::default() };
        let mut driven = Driven { table, now: 0, timers: Vec::new() };
        for event in events {
            match event {
                Event::Send(who) => {
                    model.send(who);
                    driven.send(who);
                }
                Event::Told { who, mac, create } => {
                    model.told(who, mac, create);
                    driven.hear(who, Claim::Told { mac, create });
                }
                Event::Reply { who, mac } => {
                    model.reply(who, mac);
                    driven.hear(who, Claim::Reply { mac });
                }
                Event::Advertised { who, mac, solicited, replace } => {
                    model.advertised(who, mac, solicited, replace);
                    driven.hear(who, Claim::Advertised { mac, solicited, replace });
                }
                Event::Wait(steps) => (0..steps).for_each(|_| {
                    model.step();
                    driven.step();
                }),
            }
            // A neighbour that is forgotten in between may leave one timer behind each time.
            prop_assert!(driven.timers.len() <= 3 * ADDRESSES as usize, "{:?}", driven.timers);
            for who in 0..ADDRESSES {
                let seen = driven.table.peek(millis(driven.now), address(who));
                prop_assert_eq!(seen, model.seen(who), "{} after {:?} at {}", who, event, model.now);
            }
        }
    }
}
