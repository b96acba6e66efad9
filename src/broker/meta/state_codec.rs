//! One partition's [`LogState`] as bytes, as a difference against an earlier one: a partition with
//! a thousand sealed segments that got a few records costs a few dozen bytes.

use crate::broker::meta::codec::{Decoder, Encoder};
use crate::log::files::leader_epochs::EpochStart;
use crate::log::producers::transactions::{AbortedTransaction, OpenTransaction};
use crate::log::segment::extent::SegmentExtent;
use crate::log::segment::state::{
    EndSnapshot, FileProof, IndexProofs, LastBatch, LogState, SegmentLayout, SegmentOrigin,
    SegmentState,
};

const HAS_LAST_BATCH: u8 = 1;
const EPOCHS_CHANGED: u8 = 2;
const OPEN_CHANGED: u8 = 4;
const ABORTED_CHANGED: u8 = 8;
const TRANSACTIONAL: u8 = 16;
const SETTLED: u8 = 32;
const PRODUCERS: u8 = 64;
const END_SNAPSHOT: u8 = 128;

const SEALED: u8 = 1;
const DENSE: u8 = 2;
const INDEX: u8 = 4;
const TIME_INDEX: u8 = 8;
const TRANSACTION_INDEX: u8 = 16;
const UNUSUAL_ORIGIN: u8 = 32;
const SNAPSHOT: u8 = 64;
const NO_PRODUCER: u8 = 128;

/// Layout, all numbers variable-length unless said:
///
/// ```text
/// state      signed start, end, recovery point; u8 flags; [last batch]; [end snapshot];
///            removed; put; [epochs] [open transactions] [aborted transactions]
/// flags      1 a last batch follows, 2 epochs, 4 open and 8 aborted transactions follow because
///            they differ from the entry before; 16 a transactional batch was ever written;
///            32 a clean stop left it so; 64 a batch with a producer id was ever written;
///            128 an end snapshot follows
/// last batch signed segment, unsigned position, signed base offset, u32 crc
/// end snapshot  signed offset, proof
/// removed    count, each: signed base offset of a segment that is gone
/// put        count, each a segment that is new or differs:
///            u8 flags, signed base offset, unsigned size, unsigned next - base, signed max
///            timestamp, signed its offset, signed first timestamp, [proofs in order of flags]
///            flags 1 sealed, 2 dense, 4 8 16 64 the proofs, 32 not by whom one of this layout
///            usually is: dense by us, sparse by another program; 128 no producer before it, and
///            so no .snapshot
/// proof      unsigned length, u32 crc
/// epochs     count, each: signed epoch, signed start offset
/// open       count, each: signed producer id, signed first offset
/// aborted    count, each: signed producer id, first, last and last stable offset
/// ```
pub(in crate::broker) fn encode_state(before: &LogState, state: &LogState, out: &mut Encoder) {
    out.signed(state.log_start_offset);
    out.signed(state.log_end_offset);
    out.signed(state.recovery_point);
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    out.u8(flag(state.last_batch.is_some(), HAS_LAST_BATCH)
        | flag(state.epochs != before.epochs, EPOCHS_CHANGED)
        | flag(state.open_transactions != before.open_transactions, OPEN_CHANGED)
        | flag(state.aborted != before.aborted, ABORTED_CHANGED)
        | flag(state.transactional, TRANSACTIONAL)
        | flag(state.settled, SETTLED)
        | flag(state.producers, PRODUCERS)
        | flag(state.end_snapshot.is_some(), END_SNAPSHOT));
    if let Some(last) = &state.last_batch {
        out.signed(last.segment);
        out.unsigned(last.position);
        out.signed(last.base_offset);
        out.u32(last.crc);
    }
    if let Some(snapshot) = &state.end_snapshot {
        out.signed(snapshot.offset);
        encode_proof(snapshot.proof, out);
    }
    let find = |among: &LogState, base: i64| {
        let at = among.segments.binary_search_by_key(&base, |s| s.extent.base_offset).ok()?;
        among.segments.get(at).copied()
    };
    let removed: Vec<i64> = before
        .segments
        .iter()
        .map(|s| s.extent.base_offset)
        .filter(|&base| find(state, base).is_none())
        .collect();
    out.unsigned(removed.len() as u64);
    removed.into_iter().for_each(|base| out.signed(base));
    let put: Vec<&SegmentState> =
        state.segments.iter().filter(|s| find(before, s.extent.base_offset) != Some(**s)).collect();
    out.unsigned(put.len() as u64);
    put.into_iter().for_each(|segment| encode_segment(segment, out));
    if state.epochs != before.epochs {
        out.unsigned(state.epochs.len() as u64);
        for epoch in &state.epochs {
            out.signed(i64::from(epoch.epoch));
            out.signed(epoch.start_offset);
        }
    }
    if state.open_transactions != before.open_transactions {
        out.unsigned(state.open_transactions.len() as u64);
        for open in &state.open_transactions {
            out.signed(open.producer_id);
            out.signed(open.first_offset);
        }
    }
    if state.aborted != before.aborted {
        out.unsigned(state.aborted.len() as u64);
        for aborted in &state.aborted {
            out.signed(aborted.producer_id);
            out.signed(aborted.first_offset);
            out.signed(aborted.last_offset);
            out.signed(aborted.last_stable_offset);
        }
    }
}

/// Reads what [`encode_state`] wrote against the same earlier state.
pub(in crate::broker) fn decode_state(
    before: &LogState,
    input: &mut Decoder<'_>,
) -> Option<LogState> {
    let mut state = before.clone();
    state.log_start_offset = input.signed()?;
    state.log_end_offset = input.signed()?;
    state.recovery_point = input.signed()?;
    let flags = input.u8()?;
    state.transactional = flags & TRANSACTIONAL != 0;
    state.settled = flags & SETTLED != 0;
    state.last_batch = match flags & HAS_LAST_BATCH != 0 {
        false => None,
        true => Some(LastBatch {
            segment: input.signed()?,
            position: input.unsigned()?,
            base_offset: input.signed()?,
            crc: input.u32()?,
        }),
    };
    state.producers = flags & PRODUCERS != 0;
    state.end_snapshot = match flags & END_SNAPSHOT != 0 {
        false => None,
        true => Some(EndSnapshot { offset: input.signed()?, proof: decode_proof(input)? }),
    };
    decode_segments(&mut state.segments, input)?;
    if flags & EPOCHS_CHANGED != 0 {
        state.epochs = decode_list(input, 2, |input| {
            Some(EpochStart { epoch: input.i32()?, start_offset: input.signed()? })
        })?;
    }
    if flags & OPEN_CHANGED != 0 {
        state.open_transactions = decode_list(input, 2, |input| {
            Some(OpenTransaction { producer_id: input.signed()?, first_offset: input.signed()? })
        })?;
    }
    if flags & ABORTED_CHANGED != 0 {
        state.aborted = decode_list(input, 4, |input| {
            Some(AbortedTransaction {
                producer_id: input.signed()?,
                first_offset: input.signed()?,
                last_offset: input.signed()?,
                last_stable_offset: input.signed()?,
            })
        })?;
    }
    Some(state)
}

fn decode_list<T>(
    input: &mut Decoder<'_>,
    least: usize,
    read: impl Fn(&mut Decoder<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = input.count(least)?;
    (0..count).map(|_| read(input)).collect()
}

fn decode_segments(segments: &mut Vec<SegmentState>, input: &mut Decoder<'_>) -> Option<()> {
    let removed = decode_list(input, 1, |input| input.signed())?;
    let put = decode_list(input, 7, decode_segment)?;
    if !removed.is_sorted() || !put.is_sorted_by(|a, b| a.extent.base_offset < b.extent.base_offset)
    {
        return None;
    }
    let replaced = |base: i64| {
        removed.binary_search(&base).is_ok()
            || put.binary_search_by_key(&base, |s| s.extent.base_offset).is_ok()
    };
    segments.retain(|s| !replaced(s.extent.base_offset));
    segments.extend_from_slice(&put);
    segments.sort_by_key(|s| s.extent.base_offset);
    Some(())
}

fn encode_proof(proof: FileProof, out: &mut Encoder) {
    out.unsigned(proof.len);
    out.u32(proof.crc);
}

fn decode_proof(input: &mut Decoder<'_>) -> Option<FileProof> {
    Some(FileProof { len: input.unsigned()?, crc: input.u32()? })
}

fn encode_segment(segment: &SegmentState, out: &mut Encoder) {
    let nothing = Some(FileProof::default());
    let proofs = [
        (segment.proofs.index, INDEX),
        (segment.proofs.time_index, TIME_INDEX),
        (segment.proofs.transaction_index, TRANSACTION_INDEX),
        (segment.snapshot.filter(|_| segment.snapshot != nothing), SNAPSHOT),
    ];
    let mut flags = 0;
    flags |= if segment.snapshot == nothing { NO_PRODUCER } else { 0 };
    flags |= if segment.sealed { SEALED } else { 0 };
    flags |= if segment.layout.is_dense() { DENSE } else { 0 };
    flags |= if segment.origin == usual_origin(segment.layout) { 0 } else { UNUSUAL_ORIGIN };
    for (proof, bit) in &proofs {
        flags |= if proof.is_some() { *bit } else { 0 };
    }
    out.u8(flags);
    out.signed(segment.extent.base_offset);
    out.unsigned(segment.extent.size_bytes);
    out.signed(segment.extent.next_offset.wrapping_sub(segment.extent.base_offset));
    out.signed(segment.extent.max_timestamp);
    out.signed(segment.extent.max_timestamp_offset);
    out.signed(segment.extent.first_timestamp);
    for proof in proofs.into_iter().filter_map(|(proof, _)| proof) {
        encode_proof(proof, out);
    }
}

/// Who writes segments of a layout, as long as nobody here compacts.
fn usual_origin(layout: SegmentLayout) -> SegmentOrigin {
    match layout {
        SegmentLayout::Dense => SegmentOrigin::Ours,
        SegmentLayout::Sparse => SegmentOrigin::Foreign,
    }
}

fn decode_segment(input: &mut Decoder<'_>) -> Option<SegmentState> {
    let flags = input.u8()?;
    let base_offset = input.signed()?;
    let (layout, other) = match flags & DENSE != 0 {
        true => (SegmentLayout::Dense, SegmentLayout::Sparse),
        false => (SegmentLayout::Sparse, SegmentLayout::Dense),
    };
    let unusual = flags & UNUSUAL_ORIGIN != 0;
    let extent = SegmentExtent {
        base_offset,
        size_bytes: input.unsigned()?,
        next_offset: base_offset.wrapping_add(input.signed()?),
        max_timestamp: input.signed()?,
        max_timestamp_offset: input.signed()?,
        first_timestamp: input.signed()?,
    };
    let mut segment = SegmentState {
        extent,
        proofs: IndexProofs::default(),
        snapshot: None,
        sealed: flags & SEALED != 0,
        layout,
        origin: usual_origin(if unusual { other } else { layout }),
    };
    let mut proof = |bit: u8| match flags & bit != 0 {
        false => Some(None),
        true => decode_proof(input).map(Some),
    };
    segment.proofs.index = proof(INDEX)?;
    segment.proofs.time_index = proof(TIME_INDEX)?;
    segment.proofs.transaction_index = proof(TRANSACTION_INDEX)?;
    segment.snapshot = match flags & NO_PRODUCER != 0 {
        true => Some(FileProof::default()),
        false => proof(SNAPSHOT)?,
    };
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment() -> impl Strategy<Value = SegmentState> {
        let proof = || {
            proptest::option::of(
                (any::<u64>(), any::<u32>()).prop_map(|(len, crc)| FileProof { len, crc }),
            )
        };
        let numbers = (0i64..20, any::<u64>(), any::<i64>(), any::<i64>(), any::<i64>());
        let snapshot = prop_oneof![proof(), Just(Some(FileProof::default()))];
        (numbers, (proof(), proof(), proof(), snapshot), any::<bool>(), any::<[bool; 2]>())
            .prop_map(|((base_offset, size_bytes, a, b, c), proofs, sealed, [dense, ours])| {
                SegmentState {
                    extent: SegmentExtent {
                        base_offset,
                        size_bytes,
                        next_offset: a,
                        max_timestamp: b,
                        max_timestamp_offset: c,
                        first_timestamp: a ^ b,
                    },
                    proofs: IndexProofs {
                        index: proofs.0,
                        time_index: proofs.1,
                        transaction_index: proofs.2,
                    },
                    snapshot: proofs.3,
                    sealed,
                    layout: if dense { SegmentLayout::Dense } else { SegmentLayout::Sparse },
                    origin: if ours { SegmentOrigin::Ours } else { SegmentOrigin::Foreign },
                }
            })
    }

    fn state() -> impl Strategy<Value = LogState> {
        let last = (any::<i64>(), any::<u64>(), any::<i64>(), any::<u32>()).prop_map(
            |(segment, position, base_offset, crc)| LastBatch {
                segment,
                position,
                base_offset,
                crc,
            },
        );
        let epochs = (any::<i32>(), any::<i64>())
            .prop_map(|(epoch, start_offset)| EpochStart { epoch, start_offset });
        let open = (any::<i64>(), any::<i64>())
            .prop_map(|(producer_id, first_offset)| OpenTransaction { producer_id, first_offset });
        (
            proptest::collection::vec(segment(), 0..6),
            proptest::option::of(last),
            proptest::collection::vec(epochs, 0..3),
            proptest::collection::vec(open, 0..3),
            any::<[i64; 3]>(),
        )
            .prop_map(|(mut segments, last_batch, epochs, open_transactions, borders)| {
                segments.sort_by_key(|s| s.extent.base_offset);
                segments.dedup_by_key(|s| s.extent.base_offset);
                let aborted = open_transactions
                    .iter()
                    .map(|open| AbortedTransaction {
                        producer_id: open.first_offset,
                        first_offset: open.producer_id,
                        last_offset: borders[0],
                        last_stable_offset: borders[1],
                    })
                    .collect();
                LogState {
                    log_start_offset: borders[0],
                    log_end_offset: borders[1],
                    recovery_point: borders[2],
                    segments,
                    last_batch,
                    epochs,
                    transactional: borders[0] % 2 == 0,
                    open_transactions,
                    aborted,
                    producers: borders[2] % 2 == 0,
                    end_snapshot: (borders[0] % 3 == 0).then_some(EndSnapshot {
                        offset: borders[1],
                        proof: FileProof { len: 56, crc: 7 },
                    }),
                    suspect: false,
                    settled: borders[1] % 2 == 0,
                }
            })
    }

    #[test]
    fn the_flags_of_a_segment_are_those_of_earlier_versions_and_one_more() {
        use SegmentLayout::{Dense, Sparse};
        use SegmentOrigin::{Foreign, Ours};
        for (layout, origin, flags) in
            [(Sparse, Foreign, 0), (Dense, Ours, 2), (Sparse, Ours, 32), (Dense, Foreign, 34)]
        {
            let segment = SegmentState { layout, origin, ..SegmentState::empty(7) };
            let mut out = Encoder::new();
            encode_segment(&segment, &mut out);
            let bytes = out.bytes();
            assert_eq!(bytes[0], flags);
            assert_eq!(decode_segment(&mut Decoder::new(&bytes)), Some(segment));
        }
    }

    proptest! {
        #[test]
        fn any_state_is_read_back_against_any_earlier_one(before in state(), after in state()) {
            let mut out = Encoder::new();
            encode_state(&before, &after, &mut out);
            let bytes = out.bytes();
            let mut input = Decoder::new(&bytes);
            prop_assert_eq!(decode_state(&before, &mut input), Some(after));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(
            before in state(),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            decode_state(&before, &mut Decoder::new(&bytes));
        }
    }
}
