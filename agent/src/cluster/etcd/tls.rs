//! What etcd and this node show each other of who they are: PEM files, which others renew while the agent runs. They are
//! read for each connection, and what is wrong with them is said in the words of the configuration.

use std::fs;
use std::path::Path;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::config::EtcdConfig;
use crate::error::{Error, Result, chain};

/// The endpoint with what the files say now. Errors name the file, and what was expected in it.
pub fn secure(endpoint: Endpoint, config: &EtcdConfig) -> Result<Endpoint> {
    let mut tls = ClientTlsConfig::new();
    if is_set(&config.ca_file) {
        tls =
            tls.ca_certificate(Certificate::from_pem(read(&config.ca_file, is_certificate, "certificate")?));
    }
    if !is_set(&config.cert_file) {
        return endpoint.tls_config(tls).map_err(|error| wrong(&config.ca_file, chain(&error)));
    }
    let certificate = read(&config.cert_file, is_certificate, "certificate")?;
    let key = read(&config.key_file, is_key, "private key without a password")?;
    endpoint.tls_config(tls.identity(Identity::from_pem(certificate, key))).map_err(|error| {
        let key = config.key_file.display();
        wrong(&config.cert_file, format!("its key is expected in {key}: {}", chain(&error)))
    })
}

/// What is to be done about a connection that failed for this reason; none: it is nothing of certificates.
///
/// The reasons are those of rustls, which reach us as text.
pub fn advice(error: &str, config: &EtcdConfig) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    let ca = config.ca_file.display();
    if says(&["UnknownIssuer", "BadSignature"]) {
        Some(format!(
            "etcd's certificate is of no authority in {ca}, the one that signed it is expected there"
        ))
    } else if says(&["certificate expired", "certificate: Expired"]) {
        Some("etcd's certificate has expired, one that is valid now is expected".into())
    } else if says(&["certificate not valid yet"]) {
        Some(
            "etcd's certificate is not valid yet by this node's clock, one that is valid now is expected"
                .into(),
        )
    } else if says(&["not valid for name"]) {
        let rest = error.find("certificate not valid for name").map_or(error, |start| &error[start..]);
        Some(format!("{rest}: one that names the host of etcd.endpoints is expected"))
    } else if says(&["InvalidContentType"]) {
        Some(
            "it does not speak TLS: http:// is expected in etcd.endpoints, or etcd with a certificate".into(),
        )
    } else if says(&["received fatal alert", "broken pipe", "connection closed", "connection reset"]) {
        Some(refused(config))
    } else {
        None
    }
}

/// etcd only says that a certificate is wrong when the connection stands, and then may have closed it already.
fn refused(config: &EtcdConfig) -> String {
    if !is_set(&config.cert_file) {
        return "etcd ends the connection: if it wants a certificate of this node, etcd.cert_file is expected".into();
    }
    let certificate = config.cert_file.display();
    format!(
        "etcd ends the connection when it has seen the certificate in {certificate}: one that is valid now and of its \
         --trusted-ca-file is expected"
    )
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn is_certificate(line: &str) -> bool {
    line == "-----BEGIN CERTIFICATE-----"
}

fn is_key(line: &str) -> bool {
    line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----") && !line.contains("ENCRYPTED")
}

fn read(path: &Path, holds: fn(&str) -> bool, what: &str) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    if String::from_utf8_lossy(&bytes).lines().any(|line| holds(line.trim_end())) {
        Ok(bytes)
    } else {
        Err(wrong(path, format!("a {what} in PEM is expected")))
    }
}

fn wrong(path: &Path, message: String) -> Error {
    Error::Config { path: path.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_what_it_is_for_is_named() {
        let folder = std::env::temp_dir().join(format!("weft-etcd-tls-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let ca = folder.join("ca.pem");
        let endpoint = || Endpoint::from_static("https://192.0.2.1:2379");
        let config = EtcdConfig { ca_file: ca.clone(), ..EtcdConfig::default() };
        let missing = chain(&secure(endpoint(), &config).unwrap_err());
        assert!(missing.starts_with(&format!("cannot use {}: No such file", ca.display())), "{missing}");
        fs::write(&ca, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        let other = chain(&secure(endpoint(), &config).unwrap_err());
        assert_eq!(other, format!("{}: a certificate in PEM is expected", ca.display()));
        fs::remove_dir_all(&folder).unwrap();
    }

    /// What rustls 0.23 says.
    #[test]
    fn advice_names_the_file_and_what_is_expected() {
        let config =
            EtcdConfig { ca_file: "ca.pem".into(), cert_file: "a.pem".into(), ..EtcdConfig::default() };
        for (error, expected) in [
            ("transport error: invalid peer certificate: UnknownIssuer", "is of no authority in ca.pem"),
            (
                "invalid peer certificate: certificate expired: verification time 1795391234 (UNIX), but certificate is \
                 not valid after 1795300000 (91234 seconds ago)",
                "has expired",
            ),
            (
                "invalid peer certificate: certificate not valid yet: verification time 1 (UNIX), but certificate is not \
                 valid before 2 (1 seconds in future)",
                "not valid yet",
            ),
            (
                "invalid peer certificate: certificate not valid for name \"192.0.2.1\"; certificate is only valid for \
                 DnsName(\"etcd\")",
                "certificate not valid for name \"192.0.2.1\"; certificate is only valid for DnsName(\"etcd\"): one",
            ),
            ("received corrupt message of type InvalidContentType", "http:// is expected"),
            ("received fatal alert: BadCertificate", "the certificate in a.pem"),
        ] {
            let advice = advice(error, &config).unwrap();
            assert!(advice.contains(expected), "{advice}");
        }
        assert_eq!(advice("tcp connect error: Connection refused (os error 111)", &config), None);
        let without = EtcdConfig::default();
        assert!(
            advice("received fatal alert: CertificateRequired", &without).unwrap().contains("etcd.cert_file")
        );
    }

    #[test]
    fn keys_with_a_password_are_no_use() {
        for (line, is) in [
            ("-----BEGIN PRIVATE KEY-----", true),
            ("-----BEGIN EC PRIVATE KEY-----", true),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----", false),
            ("-----BEGIN CERTIFICATE-----", false),
        ] {
            assert_eq!(is_key(line), is, "{line}");
        }
    }
}
