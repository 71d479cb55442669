//! Requests to a server over plain HTTP, for programs inside a namespace and for tests.

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::uri::Authority;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The form of server-side apply; all JSON is YAML.
const APPLY: &str = "application/apply-patch+yaml";

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status code.
    pub code: u16,
    /// The body.
    pub body: String,
}

/// Sends a request, for example `PATCH http://192.0.2.1:8080/api/v1/nodes/a`, and reads all of its answer.
pub async fn request(method: &str, url: &str, form: &str, body: &str) -> Result<Reply> {
    let uri: Uri = url.parse().with_context(|| url.to_owned())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Connection::open(url).await?.request(method, path, form, body).await
}

/// A connection, for requests one after the other.
#[derive(Debug)]
pub struct Connection {
    authority: Authority,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects to the server of a URL.
    pub async fn open(url: &str) -> Result<Connection> {
        let uri: Uri = url.parse().with_context(|| url.to_owned())?;
        if uri.scheme_str() != Some("http") {
            bail!("{url} is no http:// URL");
        }
        let authority = uri.authority().with_context(|| format!("{url} names no host"))?.clone();
        let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("cannot connect to {authority}"))?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its error is also the request's.
        tokio::spawn(connection);
        Ok(Connection { authority, sender })
    }

    /// Sends a request and reads all of its answer.
    pub async fn request(&mut self, method: &str, path: &str, form: &str, body: &str) -> Result<Reply> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.authority.as_str())
            .header(header::CONTENT_TYPE, form)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
        let named = || format!("{method} {path}");
        self.sender.ready().await.with_context(named)?;
        let response = self.sender.send_request(request).await.with_context(named)?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.with_context(named)?.to_bytes();
        Ok(Reply { code, body: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Makes an object as it is wished, and its status after it where it has one.
    pub async fn apply(&mut self, object: &Value) -> Result<()> {
        let path = path_of(object)?;
        let parts: &[&str] = if object.get("status").is_some() { &["", "/status"] } else { &[""] };
        for part in parts {
            let url = format!("{path}{part}?fieldManager=test&force=true");
            let reply = self.request("PATCH", &url, APPLY, &object.to_string()).await?;
            if !(200..300).contains(&reply.code) {
                bail!("PATCH {url}: {} {}", reply.code, reply.body);
            }
        }
        Ok(())
    }
}

/// The path of an object; its resource's name is its kind's plural, in lower case.
fn path_of(object: &Value) -> Result<String> {
    let word =
        |value: &Value, what: &str| value.as_str().map(str::to_owned).with_context(|| format!("no {what}"));
    let version = word(&object["apiVersion"], "apiVersion")?;
    let name = word(&object["metadata"]["name"], "metadata.name")?;
    let plural = plural(&word(&object["kind"], "kind")?);
    let root = if version.contains('/') { "apis" } else { "api" };
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("/{root}/{version}/{plural}/{name}"),
    })
}

fn plural(kind: &str) -> String {
    if kind == "NetworkAttachmentDefinition" {
        return "network-attachment-definitions".into();
    }
    let word = kind.to_lowercase();
    match (word.strip_suffix('y'), word.as_str()) {
        (_, "endpoints") => word,
        (Some(stem), _) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        (_, word) if word.ends_with('s') || word.ends_with('x') || word.ends_with("ch") => {
            format!("{word}es")
        }
        (_, word) => format!("{word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_found_where_kubernetes_has_them() {
        for (version, kind, namespace, path) in [
            ("v1", "Node", None, "/api/v1/nodes/a"),
            ("weft.dev/v1alpha1", "IPPool", None, "/apis/weft.dev/v1alpha1/ippools/a"),
            ("v1", "Endpoints", Some("x"), "/api/v1/namespaces/x/endpoints/a"),
            (
                "networking.k8s.io/v1",
                "NetworkPolicy",
                Some("x"),
                "/apis/networking.k8s.io/v1/namespaces/x/networkpolicies/a",
            ),
            (
                "networking.k8s.io/v1",
                "Ingress",
                Some("x"),
                "/apis/networking.k8s.io/v1/namespaces/x/ingresses/a",
            ),
            (
                "gateway.networking.k8s.io/v1",
                "Gateway",
                Some("x"),
                "/apis/gateway.networking.k8s.io/v1/namespaces/x/gateways/a",
            ),
        ] {
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": namespace}});
            assert_eq!(path_of(&object).unwrap(), path);
        }
    }
}
