//! One question to a name server over UDP (RFC 1035 section 4), and whether the answer is one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Octets of a message's header.
const HEADER: usize = 12;
/// Recursion is desired.
const RECURSION: u16 = 0x0100;
/// Type A, class IN.
const ADDRESS_IN: [u8; 4] = [0, 1, 0, 1];
/// Time after which a question is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks for a name's IPv4 addresses. A name without those is known all the same. Errors say what came instead.
pub async fn ask(server: IpAddr, name: &str, within: Duration) -> Result<(), String> {
    let id = std::process::id() as u16;
    let question = question(id, name)?;
    let exchange = async {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(SocketAddr::new(server, 53)).await?;
        let mut answer = vec![0; 4096];
        loop {
            socket.send(&question).await?;
            if let Ok(length) = timeout(AGAIN, socket.recv(&mut answer)).await {
                answer.truncate(length?);
                return std::io::Result::Ok(answer);
            }
        }
    };
    match timeout(within, exchange).await {
        Ok(Ok(answer)) => judge(&answer, id, name),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", within.as_secs_f32())),
    }
}

fn question(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    for word in [id, RECURSION, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) => message.push(length),
            _ => return Err(format!("\"{name}\" is no name: labels of 1 to 63 octets expected")),
        }
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(ADDRESS_IN);
    Ok(message)
}

fn judge(answer: &[u8], id: u16, name: &str) -> Result<(), String> {
    let [high, low, flags, code, ..] = answer else { return Err("the answer is cut off".into()) };
    if u16::from_be_bytes([*high, *low]) != id || flags & 0x80 == 0 {
        return Err("what came is no answer to the question".into());
    }
    match code & 0x0f {
        0 => Ok(()),
        2 => Err(format!("the server cannot tell {name} (SERVFAIL)")),
        3 => Err(format!("the server answers, and knows no {name} (NXDOMAIN)")),
        5 => Err("the server refuses to answer (REFUSED)".into()),
        other => Err(format!("the server answers with error {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The question for F.ISI.ARPA, with the name's octets as in RFC 1035 section 4.1.4.
    const ISI: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01F\x03ISI\x04ARPA\x00\x00\x01\x00\x01";

    #[test]
    fn a_question_has_the_octets_of_the_rfc() {
        assert_eq!(question(0x1234, "F.ISI.ARPA").unwrap(), ISI);
        assert_eq!(question(0x1234, "F.ISI.ARPA.").unwrap(), ISI);
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for name in ["", ".", "a..b", &"x".repeat(64)] {
            assert!(question(1, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_an_answer_without_error_is_fine() {
        let answer = |flags: u8, code: u8| [&[0x12, 0x34, flags, code], &ISI[4..]].concat();
        let judged = |answer: &[u8]| judge(answer, 0x1234, "F.ISI.ARPA");
        assert_eq!(judged(&answer(0x81, 0x80)), Ok(()));
        assert!(judged(&answer(0x81, 0x83)).unwrap_err().contains("NXDOMAIN"));
        assert!(judged(&answer(0x81, 0x82)).unwrap_err().contains("SERVFAIL"));
        assert!(judged(ISI).unwrap_err().contains("no answer to the question"));
        assert!(judge(&answer(0x81, 0x80), 7, "x").is_err());
        assert!(judged(&[0x12]).is_err());
    }
}
