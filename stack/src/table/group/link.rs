//! A VLAN in one family: who asks there what hosts listen to, and behind which ports routers are.
//!
//! The times are those of RFC 3376 section 8 and RFC 3810 section 9. Where another router asks, its numbers hold.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::PortId;
use crate::time::Instant;
use crate::wire::membership::Query;

/// How many messages may be lost on the way.
pub(crate) const ROBUSTNESS: u8 = 2;
/// From one general query to the next.
pub(crate) const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// Within it hosts answer a general query.
pub(crate) const RESPONSE_INTERVAL: Duration = Duration::from_secs(10);
/// Within it hosts answer a query for one group.
pub(crate) const LAST_MEMBER_INTERVAL: Duration = Duration::from_secs(1);

/// How long a port is taken for a router's: as long as its queries count.
const ROUTER_TIMEOUT: Duration = Duration::from_secs(255);

#[derive(Debug)]
pub(super) struct Link {
    robustness: u8,
    interval: Duration,
    response: Duration,
    routers: Vec<(PortId, Instant)>,
    /// Another router that asks, and until when that counts.
    other: Option<(IpAddr, Instant)>,
    own: Option<Own>,
    /// Somebody asks since then.
    asked_since: Option<Instant>,
    /// Until then not all groups that somebody wants are known.
    flood_until: Option<Instant>,
}

/// The stack itself asks.
#[derive(Debug, Clone, Copy)]
struct Own {
    source: IpAddr,
    next: Instant,
    /// How many of the next queries come quickly.
    startup: u8,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            robustness: ROBUSTNESS,
            interval: QUERY_INTERVAL,
            response: RESPONSE_INTERVAL,
            routers: Vec::new(),
            other: None,
            own: None,
            asked_since: None,
            flood_until: None,
        }
    }
}

impl Link {
    /// How long a port is a member after a report.
    pub fn membership(&self) -> Duration {
        self.interval * u32::from(self.robustness) + self.response
    }

    /// Whether hosts have been asked, and had the time to answer.
    pub fn is_effective(&self, now: Instant) -> bool {
        self.asked_since.is_some_and(|since| since + self.response <= now)
            && self.flood_until.is_none_or(|until| until <= now)
    }

    /// The address that the stack asks from, while it does.
    pub fn asks_as(&self) -> Option<IpAddr> {
        self.own.map(|own| own.source)
    }

    pub fn routers(&self, now: Instant) -> impl Iterator<Item = PortId> + '_ {
        self.routers.iter().filter(move |(_, until)| *until > now).map(|(port, _)| *port)
    }

    /// There is no room for a group that somebody wants here.
    pub fn flood_until(&mut self, until: Instant) {
        self.flood_until = Some(until);
    }

    pub fn hear_router(&mut self, now: Instant, port: PortId) {
        let until = now + ROUTER_TIMEOUT;
        match self.routers.iter_mut().find(|(known, _)| *known == port) {
            Some((_, known_until)) => *known_until = until,
            None => self.routers.push((port, until)),
        }
    }

    /// Another router asked. The answer: within which time members of the group that it asked for must speak up.
    pub fn hear_query(&mut self, now: Instant, source: IpAddr, query: &Query) -> Option<Duration> {
        if !self.elects(source) {
            return None;
        }
        self.robustness = query.robustness.unwrap_or(ROBUSTNESS);
        self.interval = query.interval.unwrap_or(QUERY_INTERVAL);
        if query.group.is_none() {
            self.response = query.max_response;
            // Half a response interval for the way (RFC 3376 section 8.5).
            let count = u32::from(self.robustness);
            self.other = Some((source, now + self.interval * count + self.response / 2));
            self.own = None;
            self.asked_since.get_or_insert(now);
        }
        let shortens = query.group.is_some() && !query.of_sources && !query.suppress;
        shortens.then(|| query.max_response * u32::from(self.robustness))
    }

    /// The lowest address asks. Who has none (RFC 4541 section 2.1.1: 0.0.0.0) stands back.
    fn elects(&self, source: IpAddr) -> bool {
        let rival = self.other.map(|(address, _)| address).or(self.asks_as());
        !source.is_unspecified() && rival.is_none_or(|rival| rival.is_unspecified() || source <= rival)
    }

    /// Lets go of what has run out. The stack asks from `asks_as` where nobody else does; the answer: a general query
    /// is due, from this address.
    pub fn tick(&mut self, now: Instant, asks_as: Option<IpAddr>) -> Option<IpAddr> {
        self.routers.retain(|(_, until)| *until > now);
        self.other = self.other.filter(|(_, until)| *until > now);
        self.flood_until = self.flood_until.filter(|until| *until > now);
        match asks_as.filter(|_| self.other.is_none()) {
            Some(source) => self.ask(now, source),
            None => {
                self.own = None;
                self.asked_since = self.asked_since.filter(|_| self.other.is_some());
                None
            }
        }
    }

    fn ask(&mut self, now: Instant, source: IpAddr) -> Option<IpAddr> {
        if self.own.is_none() {
            (self.robustness, self.interval, self.response) = (ROBUSTNESS, QUERY_INTERVAL, RESPONSE_INTERVAL);
            self.asked_since.get_or_insert(now);
        }
        let own = self.own.get_or_insert(Own { source, next: now, startup: ROBUSTNESS - 1 });
        own.source = source;
        if own.next > now {
            return None;
        }
        let interval = if own.startup > 0 { QUERY_INTERVAL / 4 } else { QUERY_INTERVAL };
        own.startup = own.startup.saturating_sub(1);
        own.next = now + interval;
        Some(source)
    }

    pub fn forget_port(&mut self, port: PortId) {
        self.routers.retain(|(known, _)| *known != port);
    }

    /// Whether there is a router, or more groups than there is room for.
    pub fn is_heard(&self) -> bool {
        !self.routers.is_empty() || self.other.is_some() || self.flood_until.is_some()
    }
}
