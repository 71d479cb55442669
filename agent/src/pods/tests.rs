//! What is answered for a pod, and where.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Knows `shop/web` and nothing else, or nothing at all.
#[derive(Clone)]
struct Api(bool);

impl Source for Api {
    async fn ask(&self, namespace: &str, name: &str) -> std::result::Result<Option<Pod>, String> {
        match (self.0, namespace, name) {
            (true, "shop", "web") => Ok(Some(pod("2", "asked"))),
            (true, ..) => Ok(None),
            (false, ..) => Err("the Kubernetes API does not answer".into()),
        }
    }
}

fn pod(uid: &str, standard: &str) -> Pod {
    Pod { uid: uid.into(), standard: Some(standard.into()), own: None }
}

fn place(name: &str) -> (PathBuf, Config) {
    let folder = std::env::temp_dir().join(format!("weft-agent-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let config = Config {
        plugin_socket: folder.join("agent.sock"),
        state_dir: folder.join("state"),
        ..Config::default()
    };
    (folder, config)
}

async fn get(config: &Config, target: &str) -> String {
    let mut stream = UnixStream::connect(&config.plugin_socket).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    format!("{} {}", head.get(9..12).unwrap(), body.trim_end())
}

#[tokio::test]
async fn the_plugin_is_answered_from_what_is_known_or_asked() {
    let (folder, config) = place("counter");
    fs::write(&config.plugin_socket, "what a crash left").unwrap();
    let counter = Counter::open(&config).unwrap();
    let mode = fs::metadata(&config.plugin_socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    counter.pods.change(|known| {
        known.insert("shop/web".into(), pod("1", "blue"));
        known.insert("shop/bad".into(), pod("1", "a,,b"));
    });
    tokio::spawn(counter.serve(Api(true)));
    let blue = r#"200 [{"network":"blue","interface":"net1","ips":[],"mac":""}]"#;
    assert_eq!(get(&config, "/pods/shop/web/networks").await, blue);
    assert_eq!(get(&config, "/pods/shop/web/networks?uid=1").await, blue);
    let asked = get(&config, "/pods/shop/web/networks?uid=2").await;
    assert!(asked.contains("\"asked\""), "one of the same name was before it: {asked}");
    assert_eq!(get(&config, "/pods/shop/none/networks").await, "404 there is no pod shop/none");
    let bad = get(&config, "/pods/shop/bad/networks").await;
    assert!(bad.starts_with("422 pod shop/bad: annotation k8s.v1.cni.cncf.io/networks: \"\""), "{bad}");
    assert!(get(&config, "/pods/shop").await.starts_with("400 "));
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn what_was_known_is_known_after_a_restart_while_nobody_answers() {
    let (folder, config) = place("restart");
    let counter = Counter::open(&config).unwrap();
    counter.pods.change(|known| drop(known.insert("shop/web".into(), pod("1", "blue"))));
    drop(counter);
    let counter = Counter::open(&config).unwrap();
    tokio::spawn(counter.serve(Api(false)));
    assert!(get(&config, "/pods/shop/web/networks?uid=1").await.starts_with("200 "));
    let other = get(&config, "/pods/shop/web/networks?uid=2").await;
    assert_eq!(other, "503 pod shop/web: the Kubernetes API does not answer");
    fs::remove_dir_all(folder).unwrap();
}
