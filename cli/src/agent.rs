//! The agent of this node, over HTTP: two questions, and no more of HTTP than they need.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::Error;

/// Where an agent is when nothing else is said.
pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:9810";

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);

/// Asks for `path` and gives the body of an answer with code 200. It waits `within` for each part of the answer.
pub fn get(address: &str, path: &str, within: Duration) -> Result<String, Error> {
    let wrong = || Error::AgentAddress(address.to_owned());
    let place = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let mut candidates = place.to_socket_addrs().map_err(|_| wrong())?;
    let unreachable = |source| Error::Agent { address: address.to_owned(), source };
    let candidate = candidates.next().ok_or_else(wrong)?;
    let answer = exchange(TcpStream::connect_timeout(&candidate, CONNECT), place, path, within);
    let (code, body) = parse(&answer.map_err(unreachable)?).map_err(unreachable)?;
    if code == 200 {
        Ok(body)
    } else {
        Err(Error::AgentRefused { code, message: body.trim_end().to_owned() })
    }
}

fn exchange(stream: io::Result<TcpStream>, host: &str, path: &str, within: Duration) -> io::Result<Vec<u8>> {
    let mut stream = stream?;
    stream.set_read_timeout(Some(within))?;
    // HTTP/1.0: one answer in one piece, and then the end of the stream.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Code and body.
fn parse(answer: &[u8]) -> io::Result<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "what answers there does not speak HTTP");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let code = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).ok_or_else(wrong)?;
    Ok((code.parse().map_err(|_| wrong())?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answered(answer: &'static str) -> (Result<String, Error>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            // To end with something unread would reset the connection.
            while !request.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                stream.read_exact(&mut octet).unwrap();
                request.extend(octet);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let result = get(&address, "/status?a=b", Duration::from_secs(5));
        (result, server.join().unwrap())
    }

    #[test]
    fn the_body_of_an_answer_is_given() {
        let (body, request) = answered("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}\r\n\r\n");
        assert_eq!(body.unwrap(), "{}\r\n\r\n");
        assert!(request.starts_with("GET /status?a=b HTTP/1.0\r\n") && request.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_refusal_and_nonsense_are_told() {
        let (refused, _) = answered("HTTP/1.1 409 Conflict\r\n\r\ntry again\n");
        assert_eq!(refused.unwrap_err().lines(), ["the agent: try again"]);
        let (nonsense, _) = answered("SSH-2.0-OpenSSH_9.2\r\n\r\n");
        assert!(nonsense.unwrap_err().lines()[0].contains("does not speak HTTP"));
    }

    #[test]
    fn nobody_there_is_told_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = get(&address, "/", Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.lines()[0].contains("is it running?"), "{error:?}");
        assert_eq!(get("nowhere", "/", Duration::from_secs(5)).unwrap_err().exit_code(), 2);
    }
}
