//! However the bytes are cut on their way in or out, what they say is the same; and no bytes make the engine panic.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What came of a connection, as far as its owner and its peer can see.
#[derive(Debug, PartialEq)]
struct Seen {
    deliveries: Vec<Incoming>,
    output: Vec<u8>,
    credit: u32,
    fault: Option<Fault>,
}

/// Feeds `bytes` in pieces that end at `cuts`, as a stream would: what is not used comes again, with more behind it.
fn feed(bytes: &[u8], cuts: &[usize], credit: u32) -> Seen {
    let mut link = Link::new(params());
    let (mut used, mut granted, mut output) = (0, false, Vec::new());
    for &end in cuts.iter().chain([&bytes.len()]) {
        match link.engine.input(link.now, &bytes[used..end], &mut link.deliveries) {
            Ok(n) => used += n,
            Err(_) => break,
        }
        if link.engine.is_attached() && !granted {
            link.engine.grant(credit);
            granted = true;
        }
        output.extend_from_slice(link.engine.output());
        link.engine.wrote(link.now, link.engine.output().len());
    }
    output.extend_from_slice(link.engine.output());
    Seen {
        credit: link.engine.outstanding_credit(),
        fault: link.engine.fault().cloned(),
        deliveries: link.deliveries,
        output,
    }
}

fn opening() -> Vec<u8> {
    let opening = [login(), AMQP.to_vec(), frame(0, &peer_open())].concat();
    [opening, frame(PEER_CHANNEL, &peer_begin()), frame(PEER_CHANNEL, &peer_attach())].concat()
}

/// A delivery: its payload, into how many frames it is cut, whether it is aborted in the end.
type Plan = (Vec<u8>, usize, bool);

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    vec((vec(any::<u8>(), 0..300), 1_usize..6, prop::bool::weighted(0.2)), 0..20)
}

/// The frames of the planned deliveries, with a heartbeat after each, and the deliveries that are to come of them.
fn planned(plans: &[Plan], first_id: u32) -> (Vec<u8>, Vec<(u32, Vec<u8>)>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for (n, (payload, frames, aborted)) in (0..).zip(plans) {
        let id = first_id.wrapping_add(n);
        let message = message(payload);
        let parts: Vec<_> = message.chunks(message.len().div_ceil(*frames)).collect();
        for (at, part) in parts.iter().enumerate() {
            let last = at + 1 == parts.len();
            let fields = if at == 0 { transfer(id) } else { continuation(false) };
            bytes.extend(transfer_frame(&Transfer { more: !last, aborted: last && *aborted, ..fields }, part));
        }
        if !aborted {
            expected.push((id, payload.clone()));
        }
        bytes.extend(frame::HEARTBEAT);
    }
    (bytes, expected)
}

fn sorted(cuts: &[Index], len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transfers_arrive_whole_and_in_order_however_the_stream_is_cut(
        plans in plans(),
        first_id in prop_oneof![Just(0), Just(u32::MAX - 5), any::<u32>()],
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let opening = opening();
        let (transfers, expected) = planned(&plans, first_id);
        let bytes = [opening.clone(), transfers].concat();
        // The link must stand before credit can be given, so one cut is certain.
        let mut cuts = sorted(&cuts, bytes.len());
        cuts.retain(|cut| *cut > opening.len());
        cuts.insert(0, opening.len());
        let seen = feed(&bytes, &cuts, 20);
        prop_assert_eq!(&seen.fault, &None);
        prop_assert_eq!(seen.credit as usize, 20 - plans.len());
        let given: Vec<_> =
            seen.deliveries.iter().map(|it| (it.delivery_id, it.message.as_ref().unwrap().payload().to_vec())).collect();
        prop_assert_eq!(given, expected);
        prop_assert_eq!(seen, feed(&bytes, &[opening.len()], 20));
    }

    #[test]
    fn any_bytes_are_a_fault_or_a_wait_and_never_a_panic(
        stage in any::<Index>(),
        garbage in vec(any::<u8>(), 0..200),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let opening = opening();
        let bytes = [&opening[..stage.index(opening.len() + 1)], &garbage].concat();
        let cuts = sorted(&cuts, bytes.len());
        let _ = feed(&bytes, &cuts, 3);
    }

    #[test]
    fn a_stream_with_a_few_wrong_bytes_means_the_same_in_one_piece_and_in_many(
        plans in plans(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let opening = opening();
        let mut bytes = [opening.clone(), planned(&plans, 0).0].concat();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut cuts = sorted(&cuts, bytes.len());
        cuts.retain(|cut| *cut > opening.len());
        cuts.insert(0, opening.len());
        prop_assert_eq!(feed(&bytes, &cuts, 20), feed(&bytes, &[opening.len()], 20));
    }

    #[test]
    fn output_goes_on_where_the_last_write_stopped(sizes in vec(1_usize..40, 1..200)) {
        let mut whole = Link::granted(50);
        let mut cut = Link::granted(50);
        let (mut expected, mut written) = (Vec::new(), Vec::new());
        for (n, size) in (0..).zip(sizes) {
            for link in [&mut whole, &mut cut] {
                link.engine.settle(n, n + 3, Outcome::Accepted);
            }
            expected.extend_from_slice(whole.engine.output());
            whole.engine.wrote(whole.now, whole.engine.output().len());
            let part = cut.engine.output()[..size.min(cut.engine.output().len())].to_vec();
            cut.engine.wrote(cut.now, part.len());
            written.extend(part);
        }
        written.extend_from_slice(cut.engine.output());
        prop_assert_eq!(written, expected);
    }
}

#[test]
fn bytes_one_at_a_time_mean_the_same_as_all_at_once() {
    let opening = opening();
    let plans: Vec<Plan> = vec![(b"a".to_vec(), 1, false), (vec![7; 200], 3, false), (vec![8; 50], 2, true)];
    let close = Close { error: Some(Error::new(fe2o3_amqp_types::definitions::AmqpError::InternalError, None, None)) };
    let bytes = [opening.clone(), planned(&plans, u32::MAX).0, frame(0, &close)].concat();
    let singly: Vec<usize> = (0..bytes.len()).collect();
    let seen = feed(&bytes, &singly, 5);
    assert_eq!(seen.deliveries.len(), 2);
    assert!(seen.fault.is_some());
    assert_eq!(seen, feed(&bytes, &[opening.len()], 5));
}
