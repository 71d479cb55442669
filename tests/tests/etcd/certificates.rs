//! etcd with certificates, which are wrong in every way at first, and are renewed while all runs.

use anyhow::Result;
use weft_testkit::wait::retry_until;

use super::fabric::{Fabric, SOON, Setup, TLS};

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// A certificate to be made.
#[derive(Clone, Copy)]
struct Order<'a> {
    authority: &'a str,
    name: &'a str,
    address: &'a str,
    days: i32,
}

/// Makes authorities and certificates in a folder of the first host.
struct Office<'a, 'b>(&'a Fabric<'b>);

impl Office<'_, '_> {
    fn run(&self, line: &str) -> Result<()> {
        self.0.nodes[0].must(line).map(drop)
    }

    fn authority(&self, name: &str) -> Result<()> {
        self.run(&format!(
            "openssl req -x509 {KEY} -keyout {TLS}/{name}.key -out {TLS}/{name}.pem -subj /CN=authority -days 2"
        ))
    }

    /// A new key and a certificate of it, put in place whole.
    fn certificate(&self, order: Order<'_>) -> Result<()> {
        let Order { authority, name, address, days } = order;
        self.run(&format!(
            "openssl req {KEY} -keyout {TLS}/new.key -out {TLS}/new.csr -subj /CN={name} -addext subjectAltName=IP:{address}"
        ))?;
        self.run(&format!(
            "openssl x509 -req -in {TLS}/new.csr -CA {TLS}/{authority}.pem -CAkey {TLS}/{authority}.key -CAcreateserial \
             -days {days} -copy_extensions copyall -out {TLS}/new.pem"
        ))?;
        self.run(&format!("mv {TLS}/new.key {TLS}/{name}.key"))?;
        self.run(&format!("mv {TLS}/new.pem {TLS}/{name}.pem"))
    }
}

#[test]
fn what_is_wrong_with_certificates_is_said_and_they_are_read_again() {
    Setup { secure: true, agents: 0, ..Setup::hosts(1) }.test(|fabric| {
        fabric.nodes[0].must(&format!("mkdir {TLS}"))?;
        let office = Office(fabric);
        office.authority("one")?;
        office.authority("two")?;
        let server = Order { authority: "one", name: "server", address: "192.0.2.1", days: 2 };
        let agent = Order { name: "agent", ..server };
        office.certificate(server)?;
        office.certificate(Order { authority: "two", ..agent })?;
        office.run(&format!("cp {TLS}/one.pem {TLS}/etcd-trusts.pem"))?;
        fabric.start_member(0)?;
        fabric.start_agent(0)?;
        let office = Office(fabric);
        let said = |words: &str| fabric.until_said(0, words);

        said(&format!("cannot use {TLS}/ca.pem: No such file"))?;
        office.run(&format!("cp {TLS}/two.pem {TLS}/ca.pem"))?;
        said(&format!("etcd's certificate is of no authority in {TLS}/ca.pem"))?;
        office.run(&format!("cp {TLS}/one.pem {TLS}/ca.pem"))?;
        said(&format!("etcd ends the connection when it has seen the certificate in {TLS}/agent.pem"))?;
        office.certificate(Order { days: -1, ..server })?;
        said("etcd's certificate has expired, one that is valid now is expected")?;
        office.certificate(Order { address: "198.18.0.9", ..server })?;
        said("certificate not valid for name \\\"192.0.2.1\\\"; certificate is only valid for IpAddress(198.18.0.9)")?;
        office.certificate(server)?;
        office.run(&format!("cp {TLS}/two.key {TLS}/agent.key"))?;
        said(&format!("{TLS}/agent.pem: its key is expected in {TLS}/agent.key"))?;
        office.certificate(agent)?;
        fabric.form()
    });
}

#[test]
fn an_agent_goes_on_when_everybody_has_new_certificates_of_a_new_authority() {
    Setup { secure: true, agents: 0, ..Setup::hosts(1) }.test(|fabric| {
        fabric.nodes[0].must(&format!("mkdir {TLS}"))?;
        for authority in ["one", "two"] {
            let office = Office(fabric);
            office.authority(authority)?;
            for name in ["server", "agent"] {
                office.certificate(Order { authority, name, address: "192.0.2.1", days: 2 })?;
            }
            for place in ["ca", "etcd-trusts"] {
                office.run(&format!("cp {TLS}/{authority}.pem {TLS}/{place}.pem"))?;
            }
            fabric.kill_etcd();
            fabric.start_member(0)?;
            if authority == "one" {
                fabric.start_agent(0)?;
            } else {
                let answers = |log: &str| log.matches("etcd answers").count();
                retry_until(SOON, "etcd to answer again", || {
                    anyhow::ensure!(answers(&fabric.log(0)) == 2, "it does not");
                    Ok(())
                })?;
            }
            fabric.form()?;
        }
        Ok(())
    });
}
