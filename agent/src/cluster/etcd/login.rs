//! Who this agent is to an etcd that wants a name and a password: it is shown a token with each call, which etcd gave for
//! them and which ends after a while.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::api::etcdserverpb::AuthenticateRequest;
use super::api::etcdserverpb::auth_client::AuthClient;
use crate::config::EtcdConfig;
use crate::error::{Error, Result};

/// What etcd answers who logs in where anybody may do anything.
const NOT_WANTED: &str = "authentication is not enabled";

/// A name, where its password is, and what etcd gave for them.
#[derive(Debug, Clone)]
pub struct Login {
    config: EtcdConfig,
    auth: AuthClient<Channel>,
    token: Token,
}

/// What is shown with each call, if anything is.
#[derive(Debug, Clone, Default)]
pub struct Token(Arc<Mutex<Option<MetadataValue<Ascii>>>>);

impl Login {
    /// That of a configuration, not done yet.
    pub fn new(config: &EtcdConfig, channel: Channel) -> Login {
        Login { config: config.clone(), auth: AuthClient::new(channel), token: Token::default() }
    }

    /// What is to be shown with each call: always the newest.
    pub fn token(&self) -> Token {
        self.token.clone()
    }

    /// Gets a token, where there is a name. Errors: a file that cannot be read, a password that is wrong.
    pub async fn enter(&self) -> Result<()> {
        let EtcdConfig { username, password_file, .. } = &self.config;
        if username.is_empty() {
            return Ok(());
        }
        let file = |source| Error::File { path: password_file.clone(), source };
        let password =
            fs::read_to_string(password_file).map_err(file)?.trim_end_matches(['\r', '\n']).to_owned();
        let request = AuthenticateRequest { name: username.clone(), password };
        let token = match self.auth.clone().authenticate(request).await {
            Ok(answer) => answer.into_inner().token,
            Err(status) if status.message().contains(NOT_WANTED) => return Ok(()),
            Err(status) => return Err(self.refused(&status)),
        };
        let mut token: MetadataValue<Ascii> =
            token.parse().map_err(|_| Error::Etcd("its token is no ASCII text".into()))?;
        token.set_sensitive(true);
        tracing::debug!(user = username, "etcd gave a token");
        *self.token.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    /// Whether a call was refused because the token has ended.
    pub fn has_ended(&self, status: &Status) -> bool {
        !self.config.username.is_empty() && status.code() == Code::Unauthenticated
    }

    fn refused(&self, status: &Status) -> Error {
        let EtcdConfig { username, password_file, .. } = &self.config;
        let message = format!("etcd refuses user {username} with this password: {}", status.message());
        Error::Config { path: password_file.clone(), message }
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            request.metadata_mut().insert("token", token);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_and_not_printed() {
        let mut token = Token::default();
        assert!(token.call(Request::new(())).unwrap().metadata().get("token").is_none());
        let mut value = MetadataValue::from_static("abc.12");
        value.set_sensitive(true);
        token.0 = Arc::new(Mutex::new(Some(value)));
        assert_eq!(token.call(Request::new(())).unwrap().metadata().get("token").unwrap(), "abc.12");
        assert!(!format!("{token:?}").contains("abc"));
    }
}
