//! What the fuzz target `registry_state` does with its bytes: the registry of topics and the state
//! file, which are read before anything else of a directory.
//!
//! It reaches parts of the crate that are not public, so it lives inside it. It panics where a
//! promise is broken, and the unit tests run it on random and on mutated bytes.

use crate::broker::meta::codec::{Decoder, Encoder};
use crate::broker::meta::frame::{FramedFileKind, whole_file};
use crate::broker::meta::framed_file::{Contents, FramedFile};
use crate::broker::meta::registry::{REGISTRY_FILE, Registry, RegistryFound, RegistryImage};
use crate::broker::meta::state_codec::{decode_state, encode_state};
use crate::broker::meta::state_file::{CleanEnd, STATE_FILE, StateFile, StateFound, StateImage};
use crate::log::LogState;
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use std::path::Path;

const DIR: &str = "/d";

/// Arbitrary bytes as either file, as the payloads of well-framed ones, and as the state of one
/// partition: no panic, nothing out of proportion to the bytes, and what is accepted is written
/// again to bytes that are read as the same.
pub fn registry_state(bytes: &[u8]) {
    files(bytes, bytes);
    let frames = pieces(bytes);
    journal(bytes, &frames);
    files(
        &whole_file(FramedFileKind::Registry, 3, &frames),
        &whole_file(FramedFileKind::State, 3, &frames),
    );
    partition(&frames);
}

/// The bytes in pieces, each behind its length.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut out) = (bytes, Vec::new());
    while let Some((&len, behind)) = rest.split_first() {
        let (piece, later) = behind.split_at(behind.len().min(usize::from(len)));
        out.push(piece.to_vec());
        rest = later;
    }
    out
}

fn heap(registry: &[u8], state: &[u8]) -> Arc<dyn Storage> {
    let heap = Heap::new();
    let made = heap.create_dir(Path::new(DIR)).and_then(|()| {
        for (name, bytes) in [(REGISTRY_FILE, registry), (STATE_FILE, state)] {
            heap.create_cold(&Path::new(DIR).join(name))?.write_at(0, bytes)?;
        }
        Ok(())
    });
    assert!(made.is_ok(), "memory takes every file");
    Arc::new(heap)
}

/// Both files, as a broker loads them, and as it goes on with them.
fn files(registry: &[u8], state: &[u8]) {
    let storage = heap(registry, state);
    // A newer version is the only refusal.
    if let Ok((file, found)) = Registry::load(storage.clone(), Path::new(DIR)) {
        let image = file.image();
        assert!(!matches!(found, RegistryFound::Missing));
        check_registry(&image, registry.len());
        assert!(file.write(&[]).and_then(|()| file.confirm()).is_ok());
        let again = Registry::load(storage.clone(), Path::new(DIR));
        assert!(again.is_ok_and(|(again, _)| again.image() == image));
    }
    if let Ok((mut file, found)) = StateFile::load(storage.clone(), Path::new(DIR)) {
        assert!(!matches!(found, StateFound::Missing));
        check_state(&file.image, state.len());
        let mark = Some("a mark".to_owned());
        let mut before = file.image.clone();
        let unfinished = Some([1, 49].into());
        let end = CleanEnd { mark: mark.clone(), unfinished: unfinished.clone() };
        assert!(file.end(Vec::new(), end).is_ok());
        let Ok((again, StateFound::Image)) = StateFile::load(storage, Path::new(DIR)) else {
            panic!("what was written is read");
        };
        (before.clean, before.unfinished) = (Some(mark), unfinished);
        same(&again.image, &before);
    }
}

fn check_registry(image: &RegistryImage, len: usize) {
    let settings: usize = image.topics.values().map(|topic| topic.config.len()).sum();
    assert!(image.topics.len() + image.deleted.len() + settings <= len);
    let again = RegistryImage::from_frames(&[image.encode()]);
    assert_eq!(again.as_ref(), Some(image));
}

fn check_state(image: &StateImage, len: usize) {
    let states = image.states();
    let items = |state: &LogState| {
        let lists = [state.segments.len(), state.epochs.len(), state.open_transactions.len()];
        lists.iter().sum::<usize>() + state.aborted.len()
    };
    // An entry against the one before repeats what that has.
    let most = states.values().map(|state| items(state)).max().unwrap_or(0);
    assert!(states.len() <= len && most <= len && image.unread.len() <= len);
    assert!(image.unfinished.as_ref().is_none_or(|unfinished| unfinished.len() <= len));
    let again = StateImage::from_frames(vec![image.encode()]);
    assert!(again.is_some(), "what was written is read");
    if let Some(again) = again {
        same(&again, image);
    }
}

fn same(a: &StateImage, b: &StateImage) {
    assert_eq!((&a.life, &a.clean, a.highest_epoch), (&b.life, &b.clean, b.highest_epoch));
    assert_eq!(a.ids_before_cut, b.ids_before_cut);
    assert_eq!((&a.unread, &a.unfinished, a.states()), (&b.unread, &b.unfinished, b.states()));
}

/// A file of whole frames is read as these frames, and with garbage behind them as a prefix.
fn journal(bytes: &[u8], frames: &[Vec<u8>]) {
    let load = |file: &[u8]| {
        let storage = heap(file, b"");
        let path = Path::new(DIR).join(REGISTRY_FILE);
        FramedFile::load(storage, path, FramedFileKind::Registry).map(|(_, contents)| contents).ok()
    };
    let mut file = whole_file(FramedFileKind::Registry, 7, frames);
    match load(&file) {
        Some(Contents::Frames(found)) => assert_eq!(found, frames),
        other => assert!(frames.is_empty(), "{other:?}"),
    }
    file.extend_from_slice(bytes);
    if let Some(Contents::Frames(found)) = load(&file) {
        assert!(found.starts_with(frames));
    }
}

/// Each piece as a partition's state against the one before.
fn partition(frames: &[Vec<u8>]) {
    let mut before = LogState::default();
    for frame in frames {
        let Some(state) = decode_state(&before, &mut Decoder::new(frame)) else { continue };
        for earlier in [&before, &LogState::default()] {
            let mut out = Encoder::new();
            encode_state(earlier, &state, &mut out);
            let bytes = out.bytes();
            let mut input = Decoder::new(&bytes);
            assert_eq!(decode_state(earlier, &mut input).as_ref(), Some(&state));
            assert!(input.is_empty());
        }
        before = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::meta::registry::{RegistryEntry, TopicEntry};
    use crate::broker::meta::state_file::Life;
    use crate::log::segment::state::SegmentState;
    use crate::topic::TopicId;
    use proptest::prelude::*;

    /// Both files as a broker leaves them after a few changes.
    fn real_files() -> [Vec<u8>; 2] {
        let storage: Arc<dyn Storage> = Arc::new(Heap::new());
        let dir = Path::new(DIR);
        storage.create_dir(dir).unwrap();
        let (registry, _) = Registry::load(storage.clone(), dir).unwrap();
        let (mut state, _) = StateFile::load(storage.clone(), dir).unwrap();
        state.begin(Life { incarnation: 4, page_cache: "a boot and-mount".into() }, 3000).unwrap();
        for number in 0..3u8 {
            let topic = TopicEntry {
                name: format!("topic-{number}").into(),
                id: TopicId([number; 16]),
                partitions: 3,
                adopted: number == 1,
                config: vec![("retention.ms".into(), "5".into())],
            };
            registry.write(&[RegistryEntry::Topic(topic)]).unwrap();
            let reserved = 1000 * i64::from(number + 1);
            registry.write(&[RegistryEntry::ProducerIds(reserved)]).unwrap();
            let mut known = LogState { log_end_offset: 50, ..LogState::default() };
            known.segments = (0..4).map(|base| SegmentState::empty(base * 10)).collect();
            state.record(vec![((TopicId([number; 16]), 0), known)], &[]).unwrap();
        }
        let end = CleanEnd { mark: Some("mark".into()), unfinished: Some([7].into()) };
        state.end(Vec::new(), end).unwrap();
        [REGISTRY_FILE, STATE_FILE].map(|name| storage.read_file(&dir.join(name), 1 << 20).unwrap())
    }

    /// The payloads of a real file, each in pieces that [`pieces`] finds again.
    fn as_pieces(file: &[u8]) -> Vec<u8> {
        let (mut rest, mut out) = (&file[20..], Vec::new());
        while let Some((head, behind)) = rest.split_first_chunk::<12>() {
            let len = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
            assert!(len < 256);
            out.push(len as u8);
            out.extend(&behind[..len]);
            rest = &behind[len..];
        }
        out
    }

    #[test]
    fn real_files_are_taken_as_they_are() {
        for file in real_files() {
            registry_state(&file);
            registry_state(&as_pieces(&file));
        }
        registry_state(b"");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_bytes_break_the_registry_or_the_state_file(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            registry_state(&bytes);
        }

        #[test]
        fn no_change_of_real_bytes_breaks_them(
            which in 0usize..4,
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6,
            ),
        ) {
            let [registry, state] = real_files();
            let mut bytes = match which {
                0 => registry,
                1 => state,
                2 => as_pieces(&registry),
                _ => as_pieces(&state),
            };
            for (at, byte, how) in changes {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            registry_state(&bytes);
        }
    }
}
