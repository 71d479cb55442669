//! How messages with secrets look in a log: as others do, but for the secrets.

use std::fmt;

use crate::v1::{RotateKeyRequest, WireGuard, WireGuardPeer};

/// Stands for a secret; nothing for none.
struct Hidden<'a>(&'a str);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "(secret)" })
    }
}

impl fmt::Debug for WireGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WireGuard { listen_port, private_key, peers } = self;
        f.debug_struct("WireGuard")
            .field("listen_port", listen_port)
            .field("private_key", &Hidden(private_key))
            .field("peers", peers)
            .finish()
    }
}

impl fmt::Debug for WireGuardPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireGuardPeer")
            .field("name", &self.name)
            .field("public_key", &self.public_key)
            .field("next_public_key", &self.next_public_key)
            .field("preshared_key", &Hidden(&self.preshared_key))
            .field("endpoint", &self.endpoint)
            .field("allowed_prefixes", &self.allowed_prefixes)
            .field("persistent_keepalive_seconds", &self.persistent_keepalive_seconds)
            .finish()
    }
}

impl fmt::Debug for RotateKeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RotateKeyRequest { name, finish, private_key } = self;
        f.debug_struct("RotateKeyRequest")
            .field("name", name)
            .field("finish", finish)
            .field("private_key", &Hidden(private_key))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        let peer =
            WireGuardPeer { preshared_key: key.into(), public_key: "public".into(), ..Default::default() };
        let own = WireGuard { private_key: key.into(), peers: vec![peer], ..Default::default() };
        let request = RotateKeyRequest { private_key: key.into(), ..Default::default() };
        let text = format!("{own:?} {request:?}");
        assert!(!text.contains(key) && text.contains("public") && text.contains("(secret)"), "{text}");
    }
}
