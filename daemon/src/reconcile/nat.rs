//! What the node's kernel translates: one table of its packet filter, and forwarding.
//!
//! Owns what is known of the table between passes, so that a change costs only itself. `wish` says what shall be in
//! it, `plan` the difference, `rules` what never changes. When to look is left to [`pass`](super::pass).

use std::collections::BTreeSet;

use weft_host::conntrack::{Conntrack, Flow};
use weft_host::nft::{Family, Nft, Table};
use weft_host::{Error, Result};

use super::error::{StepError, told};
use super::observe::Refusal;
use super::observe::kernel::Kernel;
use super::place::Place;
use plan::{Change, Moved, batch, changed, moved, plan};
use wish::Lead;

pub use forwarding::FORWARDING_OFF;
pub use wish::{Wish, are_joined, host_ports};

mod forwarding;
mod plan;
mod rules;
mod wish;

/// How often a change is tried when others change the table meanwhile.
const ATTEMPTS: usize = 3;
/// Own changes that the kernel has not told of yet; more than that are not kept apart.
const UNHEARD: usize = 1024;
/// UDP, which does not say when a connection ends.
const UDP: u8 = 17;

/// The table, and what is known of it.
#[derive(Debug)]
pub struct NodeNat {
    table: String,
    way: Option<Nft>,
    wish: Wish,
    /// There may be something to do.
    due: bool,
    /// What there is; the outer `None`: it has to be looked at.
    seen: Option<Option<Table>>,
    /// The generation as of which `seen` is right, when that is known. Since nothing was heard, it still is.
    generation: Option<u32>,
    /// `seen` is only right as of that generation: news may have been lost.
    doubtful: bool,
    /// The generations of own changes, of which the kernel will tell.
    unheard: BTreeSet<u32>,
}

impl NodeNat {
    /// Of the daemon whose state carries this instance id. Nothing is known yet.
    pub fn new(instance: &str) -> NodeNat {
        NodeNat {
            table: format!("weft-{instance}"),
            way: None,
            wish: Wish::default(),
            due: true,
            seen: None,
            generation: None,
            doubtful: false,
            unheard: BTreeSet::new(),
        }
    }

    /// Takes note of what is wished for from now on.
    pub fn want(&mut self, wish: Wish) {
        self.due |= self.wish != wish;
        self.wish = wish;
    }

    /// Whether anything is wished for.
    pub fn is_wanted(&self) -> bool {
        !self.wish.is_empty()
    }

    /// A change of a table was told. One of this table that is not the daemon's own makes it look.
    pub fn heard(&mut self, table: &str, generation: u32) {
        if table == self.table && !self.unheard.remove(&generation) {
            self.seen = None;
            self.due = true;
        }
    }

    /// Anything may have changed without being told.
    pub fn doubt(&mut self) {
        self.unheard.clear();
        self.doubtful = true;
        self.due = true;
    }

    /// Whether there may be something to do.
    pub fn is_due(&self) -> bool {
        self.due
    }

    /// Makes the kernel follow the wish.
    pub fn settle(&mut self, kernel: &mut Kernel) -> std::result::Result<(), StepError> {
        let session = kernel.kept(&Place::Own).ok_or(StepError::NoGround)?;
        let _entered = session.namespace.enter()?;
        match self.follow() {
            Err(error) if self.wish.is_empty() && is_missing(&error) => {
                // Nothing is wished for, and this kernel cannot have anything.
                self.way = None;
                self.seen = Some(None);
            }
            Err(error) => {
                self.way = None;
                self.seen = None;
                return Err(unavailable(error));
            }
            Ok(()) => {}
        }
        forwarding::switch_on(&self.wish).map_err(StepError::Refused)?;
        self.due = false;
        Ok(())
    }

    fn follow(&mut self) -> Result<()> {
        let mut attempt = 1;
        loop {
            let seen = self.look()?;
            let change = match plan(seen.as_ref(), &self.wish) {
                // Others have changed elements in a way that cannot be undone one by one.
                Change::Elements(_) if attempt > 1 => Change::Build,
                change => change,
            };
            if change == Change::Nothing {
                self.seen = Some(seen);
                return Ok(());
            }
            match self.carry_out(&change) {
                Ok(()) => {
                    self.note(&change);
                    forget_flows(&moved(seen.as_ref(), &change, &self.wish));
                    self.seen = Some(changed(seen, &change, &self.wish));
                    return Ok(());
                }
                Err(error) if attempt < ATTEMPTS && (error.is_gone() || error.is_exists()) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn note(&self, change: &Change) {
        let table = &self.table;
        match change {
            Change::Build => tracing::info!(table, "the node's nf_tables table is made"),
            Change::Remove => tracing::info!(table, "the node's nf_tables table is removed"),
            Change::Elements(_) | Change::Nothing => {}
        }
    }

    /// What is known of the table, looked at again unless that is right. It is nobody's until it is put back.
    fn look(&mut self) -> Result<Option<Table>> {
        let known = self.seen.take();
        let table = match known {
            Some(table) if !self.doubtful => return Ok(table),
            known => {
                let way = way(&mut self.way)?;
                let generation = way.generation()?;
                let fresh = known.filter(|_| self.generation == Some(generation));
                self.generation = Some(generation);
                match fresh {
                    Some(table) => table,
                    None => way.table(&self.table)?,
                }
            }
        };
        self.doubtful = false;
        Ok(table)
    }

    fn carry_out(&mut self, change: &Change) -> Result<()> {
        let way = way(&mut self.way)?;
        let before = way.generation()?;
        way.commit(&batch(&self.table, change, &self.wish))?;
        let after = way.generation()?;
        let alone = after == before.wrapping_add(1);
        if alone && self.unheard.len() < UNHEARD {
            self.unheard.insert(after);
        }
        // Otherwise somebody else was between, and hearing of the own change makes the daemon look once.
        self.generation = self.generation.filter(|known| alone && *known == before).map(|_| after);
        Ok(())
    }
}

/// The way to the table, opened in the calling thread's namespace.
fn way(way: &mut Option<Nft>) -> Result<&mut Nft> {
    match way {
        Some(way) => Ok(way),
        None => Ok(way.insert(Nft::open()?)),
    }
}

/// UDP knows no end: flows to a port that leads elsewhere now would go on to where it led, and flows that began before
/// it led anywhere would never get there.
fn forget_flows(moved: &Moved) {
    let of_udp = |leads: &BTreeSet<Lead>| -> Vec<Lead> {
        leads.iter().filter(|lead| lead.protocol == UDP).copied().collect()
    };
    let (from, to) = (of_udp(&moved.from), of_udp(&moved.to));
    for (family, v4) in [(Family::Ipv4, true), (Family::Ipv6, false)] {
        if from.iter().chain(&to).any(|lead| lead.target.is_ipv4() == v4)
            && let Err(error) = forget_flows_of(family, &from, &to)
        {
            tracing::warn!("UDP flows to ports of the node may go where they went: {}", told(&error));
        }
    }
}

fn forget_flows_of(family: Family, from: &[Lead], to: &[Lead]) -> Result<()> {
    let mut conntrack = Conntrack::open()?;
    let is_to = |lead: &Lead, flow: &Flow| {
        let at = flow.original.destination;
        at.port() == lead.port && lead.address.is_none_or(|address| address == at.ip())
    };
    for flow in conntrack.flows(family, UDP)? {
        let led = from.iter().any(|lead| is_to(lead, &flow) && flow.reply.source == lead.target);
        if led || (!flow.translated && to.iter().any(|lead| is_to(lead, &flow))) {
            conntrack.delete(&flow)?;
        }
    }
    Ok(())
}

/// EPROTONOSUPPORT, EOPNOTSUPP, EPERM and EAFNOSUPPORT: there is no nf_tables here.
fn is_missing(error: &Error) -> bool {
    matches!(error.code(), Some(93 | 95 | 1 | 97))
}

fn unavailable(error: Error) -> StepError {
    const ENOENT: i32 = 2;
    let missing = is_missing(&error) || error.code() == Some(ENOENT);
    if !missing {
        return StepError::Host(error);
    }
    StepError::Refused(Refusal {
        reason: "NodeNatUnavailable",
        message: format!(
            "the node's kernel cannot translate addresses for containers, nf_tables with NAT for the family inet is \
             needed (nf_tables, nft_nat, nft_masq, nft_fib_inet): {}",
            told(&error)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32) -> StepError {
        let source = std::io::Error::from_raw_os_error(code);
        unavailable(Error::Os { operation: "open", object: "a netfilter socket".to_owned(), source })
    }

    #[test]
    fn a_kernel_without_nf_tables_is_told_apart_from_one_that_refuses() {
        const EPROTONOSUPPORT: i32 = 93;
        const EINVAL: i32 = 22;
        let missing = refused(EPROTONOSUPPORT);
        assert_eq!(missing.reason(), "NodeNatUnavailable");
        let message = missing.to_string();
        assert!(
            message.contains("nft_nat") && message.ends_with("Protocol not supported (os error 93)"),
            "{message}"
        );
        assert_eq!(refused(EINVAL).reason(), "KernelRefused");
    }

    #[test]
    fn only_changes_of_the_own_table_by_others_are_news() {
        let mut nat = NodeNat::new("4f2a");
        nat.seen = Some(None);
        nat.due = false;
        nat.unheard.insert(7);
        nat.heard("weft-4f2a", 7);
        nat.heard("weft-9999", 8);
        assert!(!nat.is_due() && nat.unheard.is_empty());
        nat.heard("weft-4f2a", 9);
        assert!(nat.is_due() && nat.seen.is_none());
    }
}
