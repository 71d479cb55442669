//! Keeping what a packet socket has already taken out of the kernel's own network stack.

use std::ffi::CStr;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use crate::descriptor::owned;
use crate::link::{Netlink, Wish};
use crate::{Error, Result};

#[cfg(test)]
mod tests;

/// `r0 = TC_ACT_SHOT; exit`: two instructions of the kernel's BPF (RFC 9669), as
/// opcode, registers, offset (16 bits) and immediate (32 bits).
static DROP: [Instruction; 2] = [
    Instruction { opcode: 0xb7, registers: 0, offset: 0, immediate: TC_ACT_SHOT },
    Instruction { opcode: 0x95, registers: 0, offset: 0, immediate: 0 },
];
const TC_ACT_SHOT: i32 = 2;
const LICENSE: &CStr = c"Apache-2.0";
const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// The filter's handle and priority. They are always the same, so that a second call replaces the first's
/// filter.
const HANDLE: u32 = 1;
const PRIORITY: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    opcode: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The head of the kernel's `union bpf_attr` as BPF_PROG_LOAD reads it; what follows may be left out.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// Drops all frames that arrive at this link of the thread's namespace, after packet sockets have seen them
/// and before the kernel's network stack does. A second call changes nothing.
///
/// It goes away with the link.
pub fn drop_at_ingress(index: u32) -> Result<()> {
    let program = program()
        .map_err(|source| Error::os("load the drop program for", format!("link {index}"), source))?;
    decide_at_ingress(index, program.as_fd(), "weft_drop")
}

/// Has a program of the tc kind decide about all frames that arrive at this link of the thread's namespace, after packet
/// sockets have seen them. It takes the place of that of an earlier call, and goes away with the link.
pub(crate) fn decide_at_ingress(index: u32, program: BorrowedFd<'_>, name: &str) -> Result<()> {
    let mut netlink = Netlink::open()?;
    match claim(&mut netlink, index) {
        Err(error) if !error.is_exists() => return Err(error),
        _ => {}
    }
    let object = format!("link {index}");
    let filter = RouteNetlinkMessage::NewTrafficFilter(filter(index, program, name));
    netlink.change(filter, NLM_F_CREATE, Wish { operation: "add the ingress filter to", object: &object })
}

/// Gives this link of the thread's namespace the attach point that [`drop_at_ingress`] needs, which changes
/// nothing yet.
///
/// # Errors
/// [`Error::is_exists`] when it has one: somebody filters what arrives there.
pub fn claim_ingress(index: u32) -> Result<()> {
    claim(&mut Netlink::open()?, index)
}

fn claim(netlink: &mut Netlink, index: u32) -> Result<()> {
    let object = format!("link {index}");
    let attach_point = RouteNetlinkMessage::NewQueueDiscipline(clsact(index));
    let wish = Wish { operation: "add clsact queue discipline to", object: &object };
    netlink.change(attach_point, NLM_F_CREATE | NLM_F_EXCL, wish)
}

/// Lets frames in again that arrive at this link of the thread's namespace: takes away what
/// [`claim_ingress`] and [`drop_at_ingress`] added. Without it, nothing is done.
pub fn release_ingress(index: u32) -> Result<()> {
    let object = format!("link {index}");
    let attach_point = RouteNetlinkMessage::DelQueueDiscipline(clsact(index));
    let wish = Wish { operation: "remove clsact queue discipline from", object: &object };
    match Netlink::open()?.change(attach_point, 0, wish) {
        Err(error) if !error.is_gone() && error.code() != Some(libc::EINVAL) => Err(error),
        // The kernel says EINVAL when there is none, or another kind that is not this crate's.
        _ => Ok(()),
    }
}

fn clsact(index: u32) -> TcMessage {
    // The kernel's indexes are positive ints.
    let mut message = TcMessage::with_index(index as i32);
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.attributes.push(TcAttribute::Kind("clsact".into()));
    message
}

fn filter(index: u32, program: BorrowedFd<'_>, name: &str) -> TcMessage {
    let mut message = TcMessage::with_index(index as i32);
    message.header.parent = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
    message.header.handle = HANDLE.into();
    // The protocol, in network byte order, of all frames.
    message.header.info = (PRIORITY << 16) | u32::from((libc::ETH_P_ALL as u16).to_be());
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.into()));
    message.attributes.push(TcAttribute::Options(vec![
        // A descriptor is never negative.
        TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd() as u32)),
        TcOption::Bpf(TcFilterBpfOption::ProgName(name.into())),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    message
}

/// The drop program: it knows nothing of links, so that all of them share one.
fn program() -> std::io::Result<&'static OwnedFd> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    match PROGRAM.get() {
        Some(program) => Ok(program),
        // Two threads may both load it; the first one's is kept.
        None => load().map(|loaded| PROGRAM.get_or_init(|| loaded)),
    }
}

fn load() -> std::io::Result<OwnedFd> {
    let request = ProgramLoad {
        program_type: BPF_PROG_TYPE_SCHED_CLS,
        instruction_count: DROP.len() as u32,
        instructions: DROP.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads the request, whose size is given, and through it the program and the license,
    // both of which live forever. On success it returns a descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const request, size_of::<ProgramLoad>());
        // A descriptor, or -1, fits.
        owned(fd as libc::c_int)
    }
}
