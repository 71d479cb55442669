//! CNI_ARGS: pairs of a key and a value, such as `IgnoreUnknown=1;K8S_POD_NAME=web` (CONVENTIONS.md of CNI).

use crate::failure::Failure;

/// What of CNI_ARGS Weft uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// K8S_POD_NAMESPACE and K8S_POD_NAME as NAMESPACE/NAME; empty unless both are told.
    pub owner: String,
    /// K8S_POD_UID; empty when it is not told.
    pub uid: String,
    /// IP: addresses that are wanted, with or without prefix length.
    pub ips: Vec<String>,
    /// MAC; empty when none is wanted.
    pub mac: String,
}

impl Arguments {
    /// Splits the text up. A key that is not known is an error unless IgnoreUnknown says otherwise.
    pub fn parse(text: &str) -> Result<Arguments, Failure> {
        let mut arguments = Arguments::default();
        let (mut namespace, mut name) = ("", "");
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = split(pair)?;
            match key {
                "IgnoreUnknown" => ignore_unknown = boolean(pair, value)?,
                "K8S_POD_NAMESPACE" => namespace = value,
                "K8S_POD_NAME" => name = value,
                "K8S_POD_UID" => arguments.uid = value.to_owned(),
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                "IP" => arguments.ips = value.split(',').map(str::to_owned).collect(),
                "MAC" => arguments.mac = value.to_owned(),
                _ => unknown.push(pair),
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            let details = format!("{} is not known, and IgnoreUnknown is not set", unknown.join(", "));
            return Err(Failure::environment("CNI_ARGS", details));
        }
        if !namespace.is_empty() && !name.is_empty() {
            arguments.owner = format!("{namespace}/{name}");
        }
        arguments.ips.retain(|address| !address.is_empty());
        Ok(arguments)
    }
}

/// One pair; a second "=" makes it none, as with the reference library.
fn split(pair: &str) -> Result<(&str, &str), Failure> {
    match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.contains('=') => Ok((key, value)),
        _ => Err(Failure::environment("CNI_ARGS", format!("{pair:?} is not KEY=VALUE"))),
    }
}

fn boolean(pair: &str, value: &str) -> Result<bool, Failure> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Failure::environment("CNI_ARGS", format!("{pair:?}: 1, true, 0 or false expected"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_the_owner() {
        // As containerd's CRI plugin sends them.
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;\
                    K8S_POD_INFRA_CONTAINER_ID=5f1e;K8S_POD_UID=0d1c";
        let arguments = Arguments::parse(text).unwrap();
        assert_eq!((arguments.owner.as_str(), arguments.uid.as_str()), ("shop/web-0", "0d1c"));
        assert_eq!(Arguments::parse("K8S_POD_NAME=web").unwrap().owner, "");
        assert_eq!(Arguments::parse("").unwrap(), Arguments::default());
    }

    #[test]
    fn unknown_keys_need_leave() {
        for text in
            ["FOO=BAR", "FOO=BAR;IgnoreUnknown=0", "IgnoreUnknown=false;FOO=BAR;ABC=123", "ip=1.2.3.4"]
        {
            let failure = Arguments::parse(text).unwrap_err();
            assert_eq!(failure.code, 4);
            assert!(failure.message.contains("CNI_ARGS"));
        }
        for text in ["FOO=BAR;IgnoreUnknown=1", "IgnoreUnknown=true;FOO=BAR;ABC=123", "IgnoreUnknown=True;A="]
        {
            assert_eq!(Arguments::parse(text).unwrap(), Arguments::default());
        }
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for text in ["FOO", "=x", "A=b=c;IgnoreUnknown=1", "IgnoreUnknown=yes"] {
            assert_eq!(Arguments::parse(text).unwrap_err().code, 4, "{text}");
        }
    }

    #[test]
    fn addresses_and_mac_are_wishes() {
        let arguments = Arguments::parse("IP=198.18.1.9/24,2001:db8::9;MAC=02:00:00:00:00:09").unwrap();
        assert_eq!(arguments.ips, ["198.18.1.9/24", "2001:db8::9"]);
        assert_eq!(arguments.mac, "02:00:00:00:00:09");
    }
}
