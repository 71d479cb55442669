//! Texts of custom resources: what they look like and how long they are at most, for the API server to check. Whether
//! one says something (a prefix without host bits, an address inside a subnet) is the daemon's to judge.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $longest:literal, $pattern:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "maxLength": $longest, "pattern": $pattern})
            }
        }
    )*};
}

texts! {
    /// The name of an object.
    Name: 63, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    /// The name of a device.
    Device: 15, r"^[^/:%\s]+$";
    /// An IP address.
    Address: 45, "^[0-9A-Fa-f:.]+$";
    /// A prefix, or an address with its prefix's length, in CIDR form.
    Cidr: 49, "^[0-9A-Fa-f:.]+/[0-9]{1,3}$";
    /// Addresses: from one to another, a prefix, or a single one.
    Range: 91, "^[0-9A-Fa-f:.]+([-/][0-9A-Fa-f:.]+)?$";
    /// ADDRESS:PORT.
    Endpoint: 53, r"^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
    /// A MAC address.
    Mac: 17, "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$";
    /// A public key of WireGuard, Base64.
    PublicKey: 44, "^[0-9A-Za-z+/]{43}=$";
    /// The name of a domain.
    Domain: 253, "^[0-9A-Za-z_.-]+$";
    /// NAMESPACE/NAME of a pod.
    Owner: 317, "^[^/]+/[^/]+$";
}
