//! The question to the agent which further networks a pod shall have: one request of HTTP/1.1 (RFC 9112) over a Unix
//! socket. What the annotations mean is the agent's; what is asked of the daemon then, [`crate::command`]'s.

use std::io;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::failure::{Code, Failure};
use crate::settings::PodNetworks;

/// How long the agent may take: it may have to ask the Kubernetes API.
const BOUND: Duration = Duration::from_secs(5);
/// Pause between attempts to reach an agent that does not listen yet.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest answer, in octets.
const LONGEST: u64 = 1 << 20;

/// A network that a pod shall have beside its first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PodNetwork {
    /// The Weft Network.
    pub network: String,
    /// The device in the pod.
    pub interface: String,
    /// Addresses that are wanted; none: any.
    #[serde(default)]
    pub ips: Vec<String>,
    /// MAC address; empty: any.
    #[serde(default)]
    pub mac: String,
    /// The VLAN of the Network; 0: the daemon chooses.
    #[serde(default)]
    pub vlan: u32,
}

/// The further networks of a pod, NAMESPACE/NAME, with this uid if it is known. An agent that does not listen is tried
/// again for `patience`.
pub async fn networks(
    agent: &PodNetworks,
    pod: &str,
    uid: &str,
    patience: Duration,
) -> Result<Vec<PodNetwork>, Failure> {
    let plain = |text: &str, marks: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
    };
    if !plain(pod, b"/.-_") || !plain(uid, b"-") {
        let details = format!("{pod:?} with uid {uid:?} cannot be a pod of Kubernetes");
        return Err(Failure::environment("CNI_ARGS", details));
    }
    let asked = if uid.is_empty() { String::new() } else { format!("?uid={uid}") };
    let request =
        format!("GET /pods/{pod}/networks{asked} HTTP/1.1\r\nHost: weft-agent\r\nConnection: close\r\n\r\n");
    let start = Instant::now();
    let answer = loop {
        match tokio::time::timeout(BOUND, exchange(&agent.socket, &request)).await {
            Err(_) => {
                let told = format!("it gave no answer in {} s", BOUND.as_secs());
                return Err(silent(agent, &told));
            }
            Ok(Err(error)) if start.elapsed() >= patience => return Err(silent(agent, &error.to_string())),
            Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
            Ok(Ok(answer)) => break answer,
        }
    };
    read(&answer, pod).map_err(|wrong| wrong.unwrap_or_else(|| silent(agent, "its answer is no HTTP")))
}

async fn exchange(socket: &str, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    match answer.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(answer),
    }
}

/// What an answer says. `None` for an error: it is not one.
fn read(answer: &[u8], pod: &str) -> Result<Vec<PodNetwork>, Option<Failure>> {
    let (code, body) = split(answer).ok_or(None)?;
    let told = String::from_utf8_lossy(body).trim().to_owned();
    match code {
        200 => serde_json::from_slice(body).map_err(|_| None),
        // A static pod that the API does not know of, or one that is just deleted: nobody wants anything for it.
        404 => Ok(Vec::new()),
        422 => Err(Some(Failure::new(Code::InvalidConfig, "an annotation of the pod is wrong", told))),
        _ => {
            let message = format!("the networks of pod {pod} are not known yet");
            Err(Some(Failure::new(Code::TryAgain, message, told)))
        }
    }
}

/// Status code and content. The agent sends the length of its content; one that is cut off is no answer.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(answer.get(..end)?).ok()?, answer.get(end + 4..)?);
    let mut lines = head.split("\r\n");
    let code = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let (_, length) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    (length.trim().parse() == Ok(body.len())).then_some((code, body))
}

fn silent(agent: &PodNetworks, details: &str) -> Failure {
    let details = format!("podNetworks.socket {}: {details}", agent.socket);
    Failure::new(Code::TryAgain, "the Weft agent does not answer", details)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As hyper writes it.
    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             date: Sun, 22 Nov 2026 12:00:00 GMT\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    #[test]
    fn networks_are_read() {
        let body = r#"[{"network":"blue","interface":"net1","ips":["198.19.0.5"],"mac":"","vlan":20},
            {"network":"red","interface":"net2"}]"#;
        let networks = read(&answer("200 OK", body), "a/b").unwrap();
        assert_eq!((networks[0].network.as_str(), networks[0].vlan), ("blue", 20));
        assert_eq!((networks[1].network.as_str(), networks[1].vlan), ("red", 0));
        assert_eq!(networks[0].ips, ["198.19.0.5"]);
    }

    #[test]
    fn a_pod_that_nobody_knows_has_none_and_others_fail_as_told() {
        assert_eq!(read(&answer("404 Not Found", "no"), "a/b").unwrap(), []);
        let failure = read(&answer("422 Unprocessable Content", "bad\n"), "a/b").unwrap_err().unwrap();
        assert_eq!((failure.code, failure.details.as_str()), (7, "bad"));
        let failure = read(&answer("503 Service Unavailable", "away\n"), "a/b").unwrap_err().unwrap();
        assert_eq!((failure.code, failure.details.as_str()), (11, "away"));
    }

    #[test]
    fn what_is_cut_off_or_no_http_is_no_answer() {
        let whole = answer("200 OK", "[]");
        for length in 0..whole.len() {
            assert!(read(&whole[..length], "a/b").unwrap_err().is_none(), "{length}");
        }
        assert!(read(b"SSH-2.0-OpenSSH\r\n\r\n", "a/b").unwrap_err().is_none());
    }
}
