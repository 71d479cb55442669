//! Files as people have them, and what is said of wrong ones.

use super::*;

const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PEER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const OTHER: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";
const SHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn names(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host {
        "vpn.example" => Ok(vec![SocketAddr::new("2001:db8::7".parse().unwrap(), port)]),
        _ => Err(io::Error::other("no such name")),
    }
}

fn wrong(text: &str) -> Vec<String> {
    parse(text, &names).unwrap_err()
}

/// The example of wg(8), with what wg-quick(8) adds to it.
#[test]
fn a_file_is_read_with_all_its_fields() {
    let text = format!(
        "[Interface]
Address = 198.18.9.1/24,2001:db8:9::1/64 # both families
address=192.0.2.9
PrivateKey = {PRIVATE}
ListenPort = 51820
MTU = 1380

[Peer] # the first
PublicKey = {PEER}
PresharedKey={SHARED}
Endpoint = 192.0.2.2:51820
AllowedIPs = 198.18.9.2, 198.18.8.0/24
AllowedIPs = 2001:db8:8::/48, 198.18.8.0/24
PersistentKeepalive = 25

[PEER]
PublicKey = {OTHER}
Endpoint = [2001:db8::2]:18981
AllowedIPs = 0.0.0.0/0
PersistentKeepalive = off
"
    );
    let imported = parse(&text, &names).unwrap();
    assert_eq!(imported.notes, Vec::<String>::new());
    let spec = imported.spec;
    assert_eq!(spec.addresses, ["198.18.9.1/24", "2001:db8:9::1/64", "192.0.2.9/32"]);
    assert_eq!(spec.mtu, 1380);
    let wireguard = spec.wireguard.unwrap();
    assert_eq!((wireguard.listen_port, wireguard.private_key.as_str()), (51820, PRIVATE));
    let first = WireGuardPeer {
        public_key: PEER.into(),
        preshared_key: SHARED.into(),
        endpoint: "192.0.2.2:51820".into(),
        allowed_prefixes: vec!["198.18.9.2/32".into(), "198.18.8.0/24".into(), "2001:db8:8::/48".into()],
        persistent_keepalive_seconds: 25,
        ..Default::default()
    };
    assert_eq!(wireguard.peers[0], first);
    assert_eq!(wireguard.peers[1].endpoint, "[2001:db8::2]:18981");
    assert_eq!(wireguard.peers[1].persistent_keepalive_seconds, 0);
}

#[test]
fn what_weft_does_otherwise_is_noted() {
    let text = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nDNS = 192.0.2.53\nTable = off\nPostUp = iptables -A FORWARD -i %i\n\
         SaveConfig = true\n[Peer]\nPublicKey = {PEER}\nEndpoint = vpn.example:51820\nAllowedIPs = 198.18.9.5/24\n"
    );
    let imported = parse(&text, &names).unwrap();
    assert_eq!(
        imported.notes,
        [
            "DNS is left out: containers get their name servers from elsewhere",
            "Table = off is left out: the Router reaches what peers are allowed",
            "PostUp is left out: Weft runs no commands",
            "SaveConfig is left out: Weft has no use for it",
            "vpn.example is 2001:db8::7 now; that stays, also when the name moves",
            "198.18.9.5/24 is taken as 198.18.9.0/24, as WireGuard does",
            "no ListenPort: it listens on 51820",
        ]
    );
    let peer = &imported.spec.wireguard.unwrap().peers[0];
    assert_eq!(
        (peer.endpoint.as_str(), &*peer.allowed_prefixes),
        ("[2001:db8::7]:51820", &["198.18.9.0/24".to_owned()][..])
    );
}

#[test]
fn every_wrong_line_is_told_and_no_secret_repeated() {
    let text = format!(
        "Address = 198.18.9.1\n[Interface]\nPrivateKey\n{PRIVATE}\nAddress = 198.18.9.1/33\nListenPort = many\n\
         Foo = bar\nMTU =\n[Interfaces]\n[Peer]\nEndpoint = 192.0.2.2\nEndpoint = 2001:db8::2:51820\n\
         Endpoint = none.example:1\nAllowedIPs = all\nAddress = 198.18.9.1\n"
    );
    let expected = [
        "line 1: Address stands before any section, [Interface] or [Peer] expected",
        "line 3: no \"KEY = VALUE\"",
        "line 4: what stands there has no value",
        "line 5: \"198.18.9.1/33\" is not an address, with or without a prefix length",
        "line 6: ListenPort: \"many\" is not a number",
        "line 7: Foo is not a key of [Interface]",
        "line 8: MTU has no value",
        "line 9: [Interfaces] is not a section, [Interface] or [Peer] expected",
        "line 11: Endpoint: \"192.0.2.2\" is not HOST:PORT or [ADDRESS]:PORT",
        "line 12: Endpoint: \"2001:db8::2:51820\" is not HOST:PORT or [ADDRESS]:PORT",
        "line 13: Endpoint: none.example is not found: no such name",
        "line 14: \"all\" is not an address, with or without a prefix length",
        "line 15: Address is not a key of [Peer]",
    ];
    assert_eq!(wrong(&text), expected);
    assert_eq!(wrong("# nothing\n"), ["no section in it, [Interface] expected"]);
}

#[test]
fn a_line_with_an_unknown_key_does_not_repeat_its_value() {
    let text = format!("[Interface]\nPrivatKey = {PRIVATE}\n[Peer]\nPreshared = {SHARED}\n");
    assert_eq!(
        wrong(&text),
        ["line 2: PrivatKey is not a key of [Interface]", "line 4: Preshared is not a key of [Peer]"]
    );
}

#[test]
fn host_bits_are_masked_at_every_length() {
    for (given, expected) in [
        ("198.18.9.5/0", "0.0.0.0/0"),
        ("198.18.9.5/31", "198.18.9.4/31"),
        ("198.18.9.5", "198.18.9.5/32"),
        ("2001:db8::5/0", "::/0"),
        ("2001:db8::5/127", "2001:db8::4/127"),
        ("2001:db8::5", "2001:db8::5/128"),
    ] {
        assert_eq!(without_host_bits(given).unwrap(), expected);
    }
}
