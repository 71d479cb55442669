//! Hears from the daemon: that it answers, which keys the mesh has, and what became of the agent's objects.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use weft_proto::Client;
use weft_proto::v1::{self, EventType, resource};

use crate::mesh::{MESH, OWNER_LABEL};
use crate::program::{Seen, is_deleting};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What was heard from the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It answers; it may have been started anew.
    Up,
    /// The keys of the mesh are these.
    Keys(Keys),
    /// An object of the agent's was changed, by whomever, or its status was.
    Object(Box<Seen>),
    /// It does not answer, and why.
    Down(String),
}

/// The keys of the mesh that this node is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// The one in use, Base64; empty while there is none.
    pub public: String,
    /// Those before it by which it is still let in.
    pub previous: Vec<String>,
}

impl Keys {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = String> {
        let public = Some(&self.public).filter(|key| !key.is_empty());
        public.into_iter().chain(&self.previous).cloned()
    }
}

/// Listens until nobody wants to hear any more.
pub async fn listen(client: Client, sender: mpsc::Sender<Heard>) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    while !sender.is_closed() {
        let why = match follow(&client, &sender).await {
            Ok(()) => {
                (pause, told) = (FIRST_PAUSE, false);
                "it ended the call".to_owned()
            }
            Err(status) => status.message().to_owned(),
        };
        if !std::mem::replace(&mut told, true) {
            let _ = sender.send(Heard::Down(why)).await;
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = sender.closed() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until the daemon goes away.
async fn follow(client: &Client, sender: &mpsc::Sender<Heard>) -> Result<(), tonic::Status> {
    let labels = [(OWNER_LABEL.0.to_owned(), OWNER_LABEL.1.to_owned())];
    let request = v1::WatchRequest { kind: v1::Kind::Unspecified.into(), labels: labels.into() };
    let mut events = client.fabric.clone().watch(request).await?.into_inner();
    let _ = sender.send(Heard::Up).await;
    let mut known = None;
    loop {
        let event = tokio::select! {
            event = events.message() => event,
            () = sender.closed() => return Ok(()),
        };
        let Ok(Some(event)) = event else { return Ok(()) };
        let gone = event.r#type() == EventType::Deleted;
        let Some(resource) = event.resource else { continue };
        if let Some(keys) = keys_of(&resource).filter(|keys| !gone && known.as_ref() != Some(keys)) {
            known = Some(keys.clone());
            let _ = sender.send(Heard::Keys(keys)).await;
        }
        let gone = gone || is_deleting(&resource);
        let _ = sender.send(Heard::Object(Box::new(Seen { resource, gone, revision: event.revision }))).await;
    }
}

fn keys_of(resource: &v1::Resource) -> Option<Keys> {
    let Some(resource::Kind::Tunnel(tunnel)) = &resource.kind else { return None };
    let status = tunnel.status.as_ref().filter(|_| resource.name() == MESH)?;
    Some(Keys { public: status.public_key.clone(), previous: status.previous_public_keys.clone() })
}
