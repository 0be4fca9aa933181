//! What a client says, as a script has it: performatives that are right in form.

use fe2o3_amqp_types::definitions::{Handle, ReceiverSettleMode, Role, SenderSettleMode};
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Modified, Received, Rejected, Released};
use fe2o3_amqp_types::performatives::{Attach, Begin, Detach, Disposition, Flow, Open};

use super::script::Script;

pub(super) fn open(script: &mut Script<'_>) -> Open {
    let choice = script.byte();
    Open {
        container_id: "c".to_owned(),
        hostname: None,
        max_frame_size: if choice & 7 == 7 { script.number().into() } else { (512 << (choice & 7)).into() },
        channel_max: u16::MAX.into(),
        idle_time_out: if choice & 0x18 == 0x18 { Some(script.number()) } else { Some(30_000 << (choice >> 6)) },
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

pub(super) fn begin(script: &mut Script<'_>) -> Begin {
    Begin {
        remote_channel: None,
        next_outgoing_id: script.number(),
        incoming_window: script.number(),
        outgoing_window: script.number(),
        handle_max: Handle(u32::MAX),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

pub(super) fn attach(script: &mut Script<'_>) -> Attach {
    let choice = script.byte();
    Attach {
        name: "n".repeat(usize::from(choice)),
        handle: Handle(script.number()),
        role: if choice & 3 == 3 { Role::Sender } else { Role::Receiver },
        snd_settle_mode: SenderSettleMode::Mixed,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: None,
        target: None,
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        max_message_size: (choice & 0x0c == 0x0c).then(|| u64::from(script.number())),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

pub(super) fn flow(script: &mut Script<'_>) -> Flow {
    let choice = script.byte();
    let mut maybe = |bit: u8| (choice & bit == 0).then(|| script.number());
    Flow {
        next_incoming_id: maybe(1),
        handle: maybe(2).map(Handle),
        delivery_count: maybe(4),
        link_credit: maybe(8),
        available: None,
        incoming_window: script.number(),
        next_outgoing_id: script.number(),
        outgoing_window: script.number(),
        drain: choice & 0x30 == 0x30,
        echo: choice & 0x40 == 0x40,
        properties: None,
    }
}

pub(super) fn disposition(script: &mut Script<'_>) -> Disposition {
    let choice = script.byte();
    let state = match choice & 7 {
        0..=2 => Some(DeliveryState::Accepted(Accepted {})),
        3 => Some(DeliveryState::Released(Released {})),
        4 => Some(DeliveryState::Rejected(Rejected { error: None })),
        5 => Some(DeliveryState::Modified(Modified {
            delivery_failed: None,
            undeliverable_here: None,
            message_annotations: None,
        })),
        6 => Some(DeliveryState::Received(Received { section_number: 0, section_offset: 0 })),
        _ => None,
    };
    Disposition {
        role: if choice & 0x18 == 0x18 { Role::Sender } else { Role::Receiver },
        first: script.number(),
        last: (choice & 0x20 == 0).then(|| script.number()),
        settled: choice & 0x40 == 0,
        state,
        batchable: false,
    }
}

pub(super) fn detach(script: &mut Script<'_>) -> Detach {
    Detach { handle: Handle(script.number()), closed: script.byte() & 1 == 1, error: None }
}
