//! `weft tunnel`, and how tunnels look.

use crate::fake::Fake;
use crate::{done, ended, failed};

const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PEER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const SHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn configuration() -> String {
    format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 51820\nAddress = 198.18.9.1/24\nDNS = 192.0.2.53\n\
         [Peer]\nPublicKey = {PEER}\nPresharedKey = {SHARED}\nEndpoint = 192.0.2.2:51820\nAllowedIPs = 198.18.8.0/24\n"
    )
}

const NOTE: &str = "note: DNS is left out: containers get their name servers from elsewhere\n";

#[test]
fn a_wg_quick_file_becomes_a_tunnel_named_after_it() {
    let fake = Fake::start("import");
    let file = fake.file("Wg_0.conf", &configuration());
    assert_eq!(
        ended(fake.weft(&["tunnel", "import", &file, "--router", "core"])),
        failed(0, "tunnel/wg-0 created\n", NOTE)
    );
    let expected = format!(
        "Name:        wg-0
Kind:        Tunnel
State:       Ready
Labels:      -
UID:         -
Generation:  0 (revision 0)
Tunnel:      wireguard on router/core, MTU 1440
Public key:  public of {PRIVATE}
             old (known by this too, until `weft tunnel rotate wg-0 --finish`)
"
    );
    let (code, text, _) = ended(fake.weft(&["describe", "tun", "wg-0"]));
    assert!(code == 0 && text.starts_with(&expected), "{text}");
    let far_ends = format!(
        "Far ends:
  PEER  PUBLIC-KEY                                    ENDPOINT         HANDSHAKE  HANDSHAKES  RX     TX  PATH-MTU
  -     {PEER}  192.0.2.2:51820  -          0           2.0Ki  0   -
Drops:
  FAR-END          REASON    PACKETS
  192.0.2.2:51820  replayed  2
"
    );
    assert!(text.ends_with(&far_ends), "{text}");
    assert!(!text.contains("remotes:"), "{text}");
}

#[test]
fn a_dry_run_prints_the_tunnel_without_its_secrets() {
    let fake = Fake::start("import-dry");
    let file = std::fs::File::open(fake.file("x", &configuration())).unwrap();
    let arguments = ["tunnel", "import", "-", "--name", "vpn", "--router", "core", "--dry-run"];
    let printed = ended(fake.command(&arguments).stdin(file).output().unwrap());
    let yaml = format!(
        "apiVersion: weft.dev/v1
kind: Tunnel
metadata:
  name: vpn
spec:
  router: core
  addresses:
  - 198.18.9.1/24
  wireguard:
    listenPort: 51820
    privateKey: (hidden)
    peers:
    - publicKey: {PEER}
      presharedKey: (hidden)
      endpoint: 192.0.2.2:51820
      allowedPrefixes:
      - 198.18.8.0/24
"
    );
    assert_eq!(printed, failed(0, &yaml, NOTE));
    assert_eq!(ended(fake.weft(&["get", "all", "-o", "name"])), done(""));
}

#[test]
fn an_import_that_cannot_be_says_why() {
    let fake = Fake::start("import-wrong");
    let file = fake.file("wg0.conf", &configuration().replace("AllowedIPs", "Allowed"));
    assert_eq!(
        ended(fake.weft(&["tunnel", "import", &file, "--router", "core"])),
        failed(1, "", &format!("error: {file}: line 10: Allowed is not a key of [Peer]\n"))
    );
    let file = fake.file("wg1.conf", &configuration());
    assert_eq!(
        ended(fake.weft(&["tunnel", "import", &file])),
        failed(1, "", "error: there is no Router for the tunnel to join: make one\n")
    );
    let file = std::fs::File::open(file).unwrap();
    let unnamed = fake.command(&["tunnel", "import", "-"]).stdin(file).output().unwrap();
    assert_eq!(ended(unnamed), failed(1, "", "error: stdin says no name for the tunnel: use --name\n"));
}

#[test]
fn a_rotation_tells_what_peers_shall_know_the_tunnel_by() {
    let fake = Fake::start("rotate");
    let begun = "tunnel/wg has a new key\npublic key: new\nbefore:     old\n\
                 when all peers know the new key: weft tunnel rotate wg --finish\n";
    assert_eq!(ended(fake.weft(&["tunnel", "rotate", "wg"])), done(begun));
    let finished = done("tunnel/wg has one key\npublic key: new\n");
    assert_eq!(ended(fake.weft(&["tunnel", "rotate", "wg", "--finish"])), finished);
    let file = fake.file("key", &format!("{PRIVATE}\n"));
    let (_, text, _) = ended(fake.weft(&["tunnel", "rotate", "wg", "--private-key-file", &file]));
    assert!(text.contains(&format!("public key: public of {PRIVATE}\n")), "{text}");
}
