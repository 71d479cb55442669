//! An etcd that wants a name and a password, and whose tokens end soon.

use std::fs;

use anyhow::{Result, ensure};
use weft_testkit::wait::retry_until;

use super::fabric::{Fabric, SOON, Setup};

const ROOT: &str = "--user root:secret";
/// Tokens that last so short that an agent meets their end.
const TOKENS: &str =
    " --auth-token jwt,pub-key=/run/lab/jwt.pub,priv-key=/run/lab/jwt.key,sign-method=RS256,ttl=2s";

/// Starts an etcd where a user may do what an agent does, and only below the prefix.
fn start(fabric: &mut Fabric<'_>) -> Result<()> {
    for line in
        ["genrsa -out /run/lab/jwt.key 2048", "rsa -in /run/lab/jwt.key -pubout -out /run/lab/jwt.pub"]
    {
        fabric.nodes[0].must(&format!("openssl {line}"))?;
    }
    fabric.start_etcd()?;
    for line in [
        "user add root:secret",
        "user grant-role root root",
        "user add agent:right",
        "role add fabric",
        "role grant-permission fabric --prefix=true readwrite /weft/",
        "user grant-role agent fabric",
        "auth enable",
    ] {
        fabric.etcdctl(line)?;
    }
    Ok(())
}

#[test]
fn agents_log_in_and_get_a_new_token_when_theirs_has_ended() {
    Setup { login: true, options: TOKENS, agents: 0, ..Setup::hosts(2) }.test(|fabric| {
        start(fabric)?;
        for number in 0..2 {
            fs::write(fabric.nodes[number].path("/run/lab/password"), "wrong\n")?;
            fabric.start_agent(number)?;
        }
        fabric.until_said(
            0,
            "/run/lab/password: etcd refuses user agent with this password: etcdserver: authentication failed",
        )?;
        for number in 0..2 {
            fs::write(fabric.nodes[number].path("/run/lab/password"), "right\n")?;
        }
        fabric.form()?;
        let answers = fabric.log(0).matches("etcd answers").count();
        retry_until(SOON, "a token to end", || {
            // The agent writes its record again whenever that is gone.
            fabric.etcdctl(&format!("{ROOT} del /weft/nodes/node-0"))?;
            retry_until(SOON, "the record to be there again", || {
                let record = fabric.etcdctl(&format!("{ROOT} get /weft/nodes/node-0"))?;
                ensure!(!record.is_empty(), "it is not");
                Ok(())
            })?;
            let tokens = fabric.log(0).matches("etcd gave a token").count();
            ensure!(tokens > answers + 1, "{tokens} tokens");
            Ok(())
        })?;
        fabric.form()?;
        ensure!(fabric.log(0).matches("etcd answers").count() == answers, "it connected again");
        Ok(())
    });
}
