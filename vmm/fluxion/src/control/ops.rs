//! The operations of the VMM protocol, but for what only the control loop can do.

use std::sync::atomic::Ordering::SeqCst;

use flux_abi::{self as abi, protocol};
use handoff::kflux::KfluxError;

use super::request::{answer, error, Request};
use crate::vm::{Ended, Vm};

/// What the control loop is to do, besides sending the answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    /// hello was accepted.
    Greet,
    /// The descriptors go with the answer.
    Attach,
    /// This connection becomes the lease.
    Manage,
    Unmanage,
    Stop,
}

/// Who holds the lease, from the asking connection's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    Nobody,
    Me,
    /// Somebody else, under this epoch.
    Other(u32),
}

type Answer = (Vec<u8>, Effect);

/// Carries out a request. `resident`: bytes of the process in memory.
pub fn carry_out(vm: &Vm, request: &Request, greeted: bool, lease: Lease, resident: u64) -> Answer {
    let id = request.id;
    let slot = vm.slot;
    if !greeted && request.op != protocol::op::HELLO {
        let hint = "say hello with protocol, abi_major and abi_minor first";
        return no(id, abi::E_REQUEST, "hello has not been said", hint);
    }
    match request.op.as_str() {
        protocol::op::HELLO => hello(vm, request),
        protocol::op::ATTACH => {
            let vcpus = vm.handles().len() as u32;
            yes(id, protocol::AttachReply { slot, vcpus }, Effect::Attach)
        }
        protocol::op::MANAGE => manage(vm, request, lease),
        protocol::op::UNMANAGE => match lease {
            Lease::Other(_) => no(
                id,
                abi::E_STATE,
                "another connection manages this VM",
                "close that connection, or stop the arbiter that holds it",
            ),
            _ => yes(id, protocol::UnmanageReply { slot }, Effect::Unmanage),
        },
        protocol::op::STATUS => yes(id, status(vm, resident), Effect::None),
        protocol::op::STATS => {
            let vcpus = vm.counters.iter().map(|c| c.message()).collect();
            yes(id, protocol::StatsReply { vcpus }, Effect::None)
        }
        protocol::op::STOP => yes(id, protocol::StopReply { slot }, Effect::Stop),
        other => {
            let op: String = other.chars().take(40).collect();
            no(
                id,
                abi::E_REQUEST,
                &format!("unknown operation {op:?}"),
                "hello, attach, manage, unmanage, status, stats and stop are known",
            )
        }
    }
}

fn yes<T: serde::Serialize>(id: u32, body: T, effect: Effect) -> Answer {
    (answer(id, Ok(body)), effect)
}

fn no(id: u32, code: &str, message: &str, hint: &str) -> Answer {
    (answer::<()>(id, Err(error(code, message, hint))), Effect::None)
}

fn missing(id: u32, op: &str, field: &str) -> Answer {
    no(
        id,
        abi::E_REQUEST,
        &format!("{op} needs the field {field}"),
        "send it as a number",
    )
}

fn hello(vm: &Vm, request: &Request) -> Answer {
    let id = request.id;
    let (Some(protocol), Some(major), Some(minor)) = (request.protocol, request.abi_major, request.abi_minor)
    else {
        return missing(id, "hello", "protocol, abi_major or abi_minor");
    };
    let hint = "use arbiter and Fluxion of one release";
    if protocol != abi::PROTOCOL {
        let text = format!(
            "the client speaks VMM protocol {protocol}, this Fluxion {}",
            abi::PROTOCOL
        );
        return no(id, abi::E_VERSION, &text, hint);
    }
    if major != abi::ABI_MAJOR {
        let (ours, ours_minor) = (abi::ABI_MAJOR, abi::ABI_MINOR);
        let text = format!("the client speaks ABI {major}.{minor}, this Fluxion {ours}.{ours_minor}");
        return no(id, abi::E_VERSION, &text, hint);
    }
    let reply = protocol::HelloReply {
        protocol: abi::PROTOCOL,
        abi_major: abi::ABI_MAJOR,
        abi_minor: abi::ABI_MINOR,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: vm.name.clone(),
        slot: vm.slot,
        pid: std::process::id(),
    };
    yes(id, reply, Effect::Greet)
}

fn manage(vm: &Vm, request: &Request, lease: Lease) -> Answer {
    let id = request.id;
    let Some(epoch) = request.epoch else {
        return missing(id, "manage", "epoch");
    };
    let current = vm.table.header().epoch.load(SeqCst);
    if epoch != current || epoch == 0 {
        let text = format!("the lease of epoch {epoch} is over: the current epoch is {current}");
        return no(
            id,
            abi::E_STALE,
            &text,
            "attach again with the epoch of the running arbiter",
        );
    }
    if let Some(ended) = vm.ended() {
        let text = format!("the VM cannot be managed: {}", describe(&ended));
        return no(id, abi::E_STATE, &text, "stop it and run it again");
    }
    if lease == Lease::Other(epoch) {
        let text = "another connection manages this VM under the same epoch";
        return no(id, abi::E_STATE, text, "close that connection first");
    }
    yes(id, protocol::ManageReply { slot: vm.slot }, Effect::Manage)
}

/// kFlux did not let the VM be managed.
pub fn not_managed(id: u32, why: &KfluxError) -> Vec<u8> {
    let (code, hint) = if why.errno() == -libc::ESTALE {
        (
            abi::E_STALE,
            "claim the cores anew, then manage the VM with the new epoch",
        )
    } else {
        (abi::E_STATE, "stop the VM and run it again")
    };
    no(id, code, &why.to_string(), hint).0
}

fn describe(ended: &Ended) -> String {
    match ended {
        Ended::Exit(code) => format!("its guest ended with code {code}"),
        Ended::Poisoned(what) => format!("it is poisoned: {what}"),
        Ended::Stopped => "it is stopping".to_owned(),
    }
}

fn status(vm: &Vm, resident: u64) -> protocol::StatusReply {
    let ended = vm.ended();
    let state = match &ended {
        None => "live",
        Some(Ended::Poisoned(_)) => "poisoned",
        Some(Ended::Exit(_) | Ended::Stopped) => "ending",
    };
    let error = match ended {
        Some(Ended::Poisoned(what)) => what,
        _ => String::new(),
    };
    protocol::StatusReply {
        name: vm.name.clone(),
        state: state.to_owned(),
        backend: vm.backend.to_owned(),
        managed: vm.managed(),
        vcpus: vm.handles().len() as u32,
        memory_bytes: vm.memory_bytes,
        resident_bytes: resident,
        error,
    }
}
