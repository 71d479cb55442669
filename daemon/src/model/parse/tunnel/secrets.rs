//! The secrets of a message, taken out of it before anything else sees it.

use std::fmt;
use std::str::FromStr;

use weft_proto::v1;
use zeroize::Zeroize;

use crate::model::keys::{GivenKeys, GivenPeer};
use crate::model::violation::Findings;
use crate::model::{ObjectRef, Violation};

/// Takes the secrets out of a resource; `None` for one that has no place for any. What is wrong with them is told
/// without repeating them.
pub fn take_secrets(
    object: &ObjectRef,
    resource: &mut v1::Resource,
) -> Result<Option<GivenKeys>, Vec<Violation>> {
    let Some(v1::resource::Kind::Tunnel(tunnel)) = &mut resource.kind else { return Ok(None) };
    let wireguard = tunnel.spec.as_mut().and_then(|spec| spec.wireguard.as_mut());
    let Some(wireguard) = wireguard else { return Ok(None) };
    let mut findings = Findings::of(object);
    let private = secret("spec.wireguard.privateKey", &mut wireguard.private_key, &mut findings);
    let mut peers = Vec::with_capacity(wireguard.peers.len());
    for (index, peer) in wireguard.peers.iter_mut().enumerate() {
        let path = format!("spec.wireguard.peers[{index}].presharedKey");
        let preshared = secret(&path, &mut peer.preshared_key, &mut findings);
        // Wrong public keys are told of where the rest of the message is read.
        let keys = [&peer.public_key, &peer.next_public_key].into_iter().filter_map(|text| text.parse().ok());
        peers.push(GivenPeer { keys: keys.collect(), preshared });
    }
    findings.finish(Some(Some(GivenKeys { private, peers })))
}

/// Reads a secret and wipes its text.
fn secret<K: FromStr<Err: fmt::Display>>(
    path: &str,
    text: &mut String,
    findings: &mut Findings<'_>,
) -> Option<K> {
    if text.is_empty() {
        return None;
    }
    let key = findings.value(path, text.parse::<K>());
    text.zeroize();
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{lines, object, resources};
    use crate::model::{Kind, Name};

    const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    fn taken(wireguard: &str) -> (Result<Option<GivenKeys>, String>, v1::Resource) {
        let spec = format!("  router: core\n  wireguard: {wireguard}");
        let mut resource = resources(&object("Tunnel", "t", &spec)).remove(0);
        let object = ObjectRef::new(Kind::Tunnel, Name::new("t").unwrap());
        let given = take_secrets(&object, &mut resource).map_err(|wrong| lines(&wrong));
        (given, resource)
    }

    #[test]
    fn secrets_are_taken_out_of_the_message() {
        let (given, resource) = taken(&format!(
            "{{privateKey: '{PRIVATE}', peers: [{{publicKey: '{PUBLIC}', presharedKey: '{PRIVATE}'}}]}}"
        ));
        let given = given.unwrap().unwrap();
        assert_eq!(given.private.unwrap().to_base64(), PRIVATE);
        assert_eq!(given.peers[0].keys, [PUBLIC.parse().unwrap()]);
        assert_eq!(given.peers[0].preshared.as_ref().unwrap().to_base64(), PRIVATE);
        let Some(v1::resource::Kind::Tunnel(tunnel)) = resource.kind else { panic!() };
        let wireguard = tunnel.spec.unwrap().wireguard.unwrap();
        assert!(wireguard.private_key.is_empty() && wireguard.peers[0].preshared_key.is_empty());
    }

    #[test]
    fn a_wrong_secret_is_named_and_not_repeated() {
        let (given, _) = taken("{privateKey: hunter2, peers: [{presharedKey: hunter3}]}");
        assert_eq!(
            given.unwrap_err(),
            "Tunnel/t: spec.wireguard.privateKey: not a key, 32 octets in Base64 (44 characters, as `wg genkey` writes \
             them) expected\n\
             Tunnel/t: spec.wireguard.peers[0].presharedKey: not a key, 32 octets in Base64 (44 characters, as `wg \
             genkey` writes them) expected"
        );
    }
}
