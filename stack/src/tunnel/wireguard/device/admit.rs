//! Messages of handshakes: for which key and peer they are, in the order in which refusing costs least.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::super::cookie::{Denied, reply};
use super::super::event::{Event, Transmit};
use super::super::handshake::{LocalKey, Responder};
use super::super::index::Entry;
use super::super::mac::equal;
use super::super::peer::Offer;
use super::super::wire::{CookieReply, Initiation, Maced, Response};
use super::super::{Kind, Moment, Peer, Refusal};
use super::Device;
use super::Endpoint;
use super::picture::Picture;

/// Where a message came from, and which of the node's addresses to.
#[derive(Debug, Clone, Copy)]
struct Path {
    source: SocketAddr,
    local: IpAddr,
}

impl Device {
    /// Takes in a message of a handshake, from `source` to the node's address `local`. What is to be sent is added to
    /// `events`, also if the message was refused.
    pub fn handle(
        &self,
        moment: Moment,
        source: SocketAddr,
        local: IpAddr,
        message: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let path = Path { source, local };
        match Kind::of(message) {
            Some(Kind::Initiation) => self.initiation(moment, path, Initiation::parse(message)?, events),
            Some(Kind::Response) => self.response(moment, path, Response::parse(message)?, events),
            Some(Kind::Cookie) => self.cookie(moment, CookieReply::parse(message)?),
            Some(Kind::Data) | None => Err(Refusal::Malformed),
        }
    }

    fn initiation(
        &self,
        moment: Moment,
        path: Path,
        message: Initiation<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let picture = self.picture.load();
        let local = addressed(&picture, &message)?;
        self.admit(moment, path, local, &message, events)?;
        let read = Responder::read(local, message).map_err(|_| Refusal::AuthenticationFailed)?;
        let (responder, key, timestamp) = read;
        let (peer, remote) = picture.owner(&key).ok_or(Refusal::UnknownPeer)?;
        let offer = Offer { responder, local, remote: *remote, timestamp, index: message.sender() };
        peer.answer(moment, path.source, path.local, offer, events)
    }

    fn response(
        &self,
        moment: Moment,
        path: Path,
        message: Response<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let picture = self.picture.load();
        let local = addressed(&picture, &message)?;
        let Some(Entry::Handshake(peer)) = self.shared.indices.get(message.receiver()) else {
            return Err(Refusal::UnknownIndex);
        };
        self.admit(moment, path, local, &message, events)?;
        peer.take_response(moment, path.source, path.local, message, events)
    }

    fn cookie(&self, moment: Moment, message: CookieReply<'_>) -> Result<(), Refusal> {
        let peer: Arc<Peer> = match self.shared.indices.get(message.receiver()) {
            Some(Entry::Handshake(peer) | Entry::Session(peer, _)) => peer,
            None => return Err(Refusal::UnknownIndex),
        };
        peer.take_cookie(moment.now, message)
    }

    /// Whether there is time for a message; a cookie for its sender if not.
    fn admit(
        &self,
        moment: Moment,
        path: Path,
        local: &LocalKey,
        message: &impl Maced,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        match self.admission.admit(moment.now, path.source, message) {
            Ok(()) => Ok(()),
            Err(Denied::Flood) => Err(Refusal::Flood),
            Err(Denied::Cookie(cookie)) => {
                let endpoint = Endpoint {
                    remote: path.source,
                    local: Some(path.local).filter(|local| !local.is_unspecified()),
                };
                let reply = reply(local, message, cookie).ok_or(Refusal::Flood)?;
                events.push(Event::Transmit(Transmit::new(endpoint, 0, reply.to_vec())));
                Err(Refusal::CookieWanted)
            }
        }
    }
}

/// The key of the device that a message is for: the one whose owner could have made its first MAC.
fn addressed<'a>(picture: &'a Picture, message: &impl Maced) -> Result<&'a LocalKey, Refusal> {
    let (before, mac1) = (message.before_mac1(), message.mac1());
    let key = picture.locals().iter().find(|local| equal(&local.macs.mac1(before), &mac1));
    key.map(|local| &**local).ok_or(Refusal::MacInvalid)
}
