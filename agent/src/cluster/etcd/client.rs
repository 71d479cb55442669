//! etcd's client: the first endpoint that answers, and calls of it with a deadline.

use std::error::Error as _;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::api::etcdserverpb::kv_client::KvClient;
use super::api::etcdserverpb::lease_client::LeaseClient;
use super::api::etcdserverpb::watch_client::WatchClient;
use super::api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, ResponseHeader, TxnRequest,
    TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse, watch_request,
};
use super::api::mvccpb::KeyValue;
use super::login::{Login, Token};
use super::tls;
use crate::config::EtcdConfig;
use crate::error::{Error, Result, chain};

/// Longest time that an endpoint may take to let us in.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest time that a call may take.
const CALL: Duration = Duration::from_secs(5);
/// How often a silent connection is asked whether it is there still. etcd lets nobody ask more often than every 5 s.
const PING: Duration = Duration::from_secs(10);
/// Keys that are listed by one call.
const PAGE: i64 = 1000;
/// Largest message in octets: many changes may come at once.
const MAX_MESSAGE_OCTETS: usize = 64 << 20;

/// Where etcd is.
#[derive(Debug, Clone)]
pub struct Endpoints {
    config: EtcdConfig,
    /// The one that is tried first: the one after that which answered last.
    first: usize,
}

/// What calls go through.
type Link = InterceptedService<Channel, Token>;

/// A connection to one of them.
#[derive(Debug, Clone)]
pub struct Connection {
    endpoint: String,
    login: Login,
    kv: KvClient<Link>,
    watch: WatchClient<Link>,
    lease: LeaseClient<Link>,
}

/// Changes as they come.
#[derive(Debug)]
pub struct Changes {
    endpoint: String,
    stream: Streaming<WatchResponse>,
}

impl Endpoints {
    /// Those of a configuration. Errors: one that cannot be understood.
    pub fn new(config: &EtcdConfig) -> Result<Endpoints> {
        for text in &config.endpoints {
            Endpoint::from_shared(text.clone())
                .map_err(|error| Error::Etcd(format!("{text}: {}", chain(&error))))?;
        }
        Ok(Endpoints { config: config.clone(), first: 0 })
    }

    /// Connects to the first that answers for the whole of etcd: one that has lost the others does not. The next call begins
    /// with another one: what is wrong with this one may only show later. An error tells of all of them.
    pub async fn connect(&mut self) -> Result<Connection> {
        let mut errors = Vec::new();
        let count = self.config.endpoints.len();
        for step in 0..count {
            let index = (self.first + step) % count;
            match self.open(&self.config.endpoints[index]).await {
                Ok(connection) => {
                    self.first = (index + 1) % count;
                    return Ok(connection);
                }
                Err(error) => errors.push(format!("{}: {error}", self.config.endpoints[index])),
            }
        }
        Err(Error::Etcd(errors.join("; ")))
    }

    async fn open(&self, text: &str) -> Result<Connection, String> {
        let endpoint = self.endpoint(text).map_err(|error| chain(&error))?;
        let told = |error: String| {
            let advice = is_secure(text).then(|| tls::advice(&error, &self.config)).flatten();
            advice.unwrap_or(error)
        };
        let channel = match timeout(CONNECT, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|error| told(chain(&error)))?,
            Err(_) => return Err(format!("no connection in {} s", CONNECT.as_secs())),
        };
        let login = Login::new(&self.config, channel.clone());
        let token = login.token();
        let kv = KvClient::with_interceptor(channel.clone(), token.clone());
        let watch = WatchClient::with_interceptor(channel.clone(), token.clone());
        let connection = Connection {
            endpoint: text.trim_end_matches('/').to_owned(),
            login,
            kv: kv.max_decoding_message_size(MAX_MESSAGE_OCTETS),
            watch: watch.max_decoding_message_size(MAX_MESSAGE_OCTETS),
            lease: LeaseClient::with_interceptor(channel, token),
        };
        // A key that we may read.
        let key = (self.config.prefix.trim_end_matches('/').to_owned() + "/").into_bytes();
        let probe = async {
            connection.login.enter().await.map_err(|error| chain(&error))?;
            let mut kv = connection.kv.clone();
            let answer = kv.range(RangeRequest { key, ..Default::default() }).await;
            answer.map_err(|status| message(&status))
        };
        match timeout(CALL, probe).await {
            Ok(Ok(_)) => Ok(connection),
            Ok(Err(error)) => Err(told(error)),
            Err(_) => Err(format!("no answer in {} s", CALL.as_secs())),
        }
    }

    /// An endpoint, with what is in the files of certificates now.
    fn endpoint(&self, text: &str) -> Result<Endpoint> {
        let wrong = |error: tonic::transport::Error| Error::Etcd(chain(&error));
        let endpoint = Endpoint::from_shared(text.to_owned()).map_err(wrong)?;
        let endpoint = endpoint.connect_timeout(CONNECT).tcp_nodelay(true);
        let endpoint =
            endpoint.http2_keep_alive_interval(PING).keep_alive_timeout(CALL).keep_alive_while_idle(true);
        if is_secure(text) { tls::secure(endpoint, &self.config) } else { Ok(endpoint) }
    }
}

fn is_secure(endpoint: &str) -> bool {
    endpoint.starts_with("https://")
}

/// What a call failed for, with all its causes.
fn message(status: &Status) -> String {
    let cause = status.source().map(|source| format!(": {}", chain(source)));
    format!("{}{}", status.message(), cause.unwrap_or_default())
}

impl Connection {
    /// All keys from `start` to before `end`, as they are at one revision, which is given too.
    pub async fn list(&self, (start, end): (Vec<u8>, Vec<u8>)) -> Result<(Vec<KeyValue>, i64)> {
        let (mut pairs, mut key, mut revision) = (Vec::new(), start, 0);
        loop {
            let request =
                RangeRequest { key, range_end: end.clone(), limit: PAGE, revision, keys_only: false };
            let ((page, more), header) = self.range(request).await?;
            if revision == 0 {
                revision = header.revision;
            }
            let next = page.last().map(|pair| [pair.key.as_slice(), b"\0"].concat());
            pairs.extend(page);
            match next.filter(|_| more) {
                Some(next) => key = next,
                None => return Ok((pairs, revision)),
            }
        }
    }

    async fn range(&self, request: RangeRequest) -> Result<((Vec<KeyValue>, bool), ResponseHeader)> {
        let answer = self.call(&self.kv, request, async |mut kv, request| kv.range(request).await).await?;
        Ok(((answer.kvs, answer.more), answer.header.unwrap_or_default()))
    }

    /// Writes a key, which goes away with a lease unless that is 0.
    pub async fn put(&self, key: Vec<u8>, value: Vec<u8>, lease: i64) -> Result<()> {
        let request = PutRequest { key, value, lease };
        self.call(&self.kv, request, async |mut kv, request| kv.put(request).await).await.map(drop)
    }

    /// A transaction.
    pub async fn transact(&self, request: TxnRequest) -> Result<TxnResponse> {
        self.call(&self.kv, request, async |mut kv, request| kv.txn(request).await).await
    }

    /// Keeps a lease alive; a new one of so many seconds if there is none or it is gone.
    pub async fn renew(&self, lease: Option<i64>, seconds: i64) -> Result<i64> {
        if let Some(id) = lease {
            let request = LeaseKeepAliveRequest { id };
            let ask = async |mut lease: LeaseClient<Link>, request| {
                lease.lease_keep_alive(stream::iter([request])).await
            };
            let mut answers = self.call(&self.lease, request, ask).await?;
            let answer = timeout(CALL, answers.message()).await.map_err(|_| self.silent())?;
            if answer.map_err(|status| self.wrong(&status))?.is_some_and(|answer| answer.ttl > 0) {
                return Ok(id);
            }
        }
        let request = LeaseGrantRequest { ttl: seconds, id: 0 };
        Ok(self
            .call(&self.lease, request, async |mut lease, request| lease.lease_grant(request).await)
            .await?
            .id)
    }

    /// Changes of the keys from `start` to before `end`, those of this revision and later.
    pub async fn watch(&self, (start, end): (Vec<u8>, Vec<u8>), revision: i64) -> Result<Changes> {
        let create = WatchCreateRequest {
            key: start,
            range_end: end,
            start_revision: revision,
            progress_notify: true,
        };
        let request =
            WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
        let ask = async |mut watch: WatchClient<Link>, request| {
            // The call lasts as long as its requests do.
            let mut request = Request::new(stream::iter([request]).chain(stream::pending()));
            // A member that has lost the others says so, instead of nothing.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            watch.watch(request).await
        };
        let stream = self.call(&self.watch, request, ask).await?;
        Ok(Changes { endpoint: self.endpoint.clone(), stream })
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A call of one of the services; where the token has ended, once more with a new one.
    async fn call<C: Clone, R: Clone, T>(
        &self,
        service: &C,
        request: R,
        ask: impl AsyncFn(C, R) -> Result<Response<T>, Status>,
    ) -> Result<T> {
        let once = async || {
            let answer = timeout(CALL, ask(service.clone(), request.clone()));
            answer.await.map_err(|_| self.silent())
        };
        let mut answer = once().await?;
        if answer.as_ref().is_err_and(|status| self.login.has_ended(status)) {
            timeout(CALL, self.login.enter()).await.map_err(|_| self.silent())??;
            answer = once().await?;
        }
        answer.map(Response::into_inner).map_err(|status| self.wrong(&status))
    }

    fn silent(&self) -> Error {
        Error::Etcd(format!("{}: no answer in {} s", self.endpoint, CALL.as_secs()))
    }

    fn wrong(&self, status: &Status) -> Error {
        Error::Etcd(format!("{}: {}", self.endpoint, message(status)))
    }
}

impl Changes {
    /// The next message. That there is none is an error.
    pub async fn next(&mut self) -> Result<WatchResponse> {
        let wrong = |message: &str| Error::Etcd(format!("{}: {message}", self.endpoint));
        match self.stream.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(wrong("it ended the watch")),
            Err(status) => Err(wrong(&message(&status))),
        }
    }
}
