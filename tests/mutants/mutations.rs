//! The changes: each does one thing to one file or folder, and says what.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use topiclite::storage::sim::Random;

/// What a change leaves for others to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trace {
    /// What is missing may be another program's compaction or retention, and the rest is whole.
    pub hides: bool,
    /// Whole records may stand in the place of others: nothing in a batch says whose it is.
    pub moves: bool,
}

const NONE: Trace = Trace { hides: false, moves: false };
const HIDES: Trace = Trace { hides: true, moves: false };
const MOVES: Trace = Trace { hides: true, moves: true };

/// A directory that is changed, the file that was drawn, and its folder.
struct Place<'a> {
    dir: &'a Path,
    file: PathBuf,
}

/// Does one thing; `None` where it does nothing there.
type Change = fn(&mut Random, &Place<'_>) -> Option<String>;

/// All changes.
const CHANGES: &[(&str, Trace, Change)] = &[
    ("a bit is flipped", NONE, |draw, place| {
        edit(place, |bytes| {
            let at = below(draw, bytes.len())?;
            let bit = draw.below(8);
            bytes[at] ^= 1 << bit;
            Some(format!("bit {bit} of byte {at}"))
        })
    }),
    ("a byte is another", NONE, |draw, place| {
        edit(place, |bytes| {
            let at = below(draw, bytes.len())?;
            bytes[at] = draw.next() as u8;
            Some(format!("byte {at} is {}", bytes[at]))
        })
    }),
    ("all bits of a byte", NONE, |draw, place| {
        edit(place, |bytes| {
            let at = below(draw, bytes.len())?;
            bytes[at] = if draw.coin() { 0 } else { 255 };
            Some(format!("byte {at} is {}", bytes[at]))
        })
    }),
    ("a header is another", MOVES, |draw, place| {
        edit_batches(place, |bytes, batches| {
            let (start, _) = batches[below(draw, batches.len())?];
            let at = start + below(draw, 61)?;
            bytes[at] = draw.next() as u8;
            Some(format!("byte {at}, of the batch at {start}, is {}", bytes[at]))
        })
    }),
    ("a base offset is another", MOVES, |draw, place| {
        edit_batches(place, |bytes, batches| {
            let (start, _) = batches[below(draw, batches.len())?];
            let to = draw.below(60) as i64;
            bytes[start..start + 8].copy_from_slice(&to.to_be_bytes());
            Some(format!("the batch at {start} begins at offset {to}"))
        })
    }),
    ("cut", NONE, |draw, place| {
        edit(place, |bytes| {
            let to = below(draw, bytes.len())?;
            bytes.truncate(to);
            Some(format!("cut to {to}"))
        })
    }),
    ("cut between batches", HIDES, |draw, place| {
        edit_batches(place, |bytes, batches| {
            let (at, _) = batches[below(draw, batches.len())?];
            bytes.truncate(at);
            Some(format!("cut to {at}"))
        })
    }),
    ("emptied", HIDES, |_, place| {
        edit(place, |bytes| {
            bytes.clear();
            Some(String::new())
        })
    }),
    ("zeros", HIDES, |draw, place| {
        edit(place, |bytes| {
            let from = below(draw, bytes.len())?;
            let to = from + 1 + below(draw, bytes.len() - from)?;
            bytes[from..to].fill(0);
            Some(format!("{from} to {to}"))
        })
    }),
    ("zeros to the end", HIDES, |draw, place| {
        edit(place, |bytes| {
            let from = below(draw, bytes.len())?;
            bytes[from..].fill(0);
            Some(format!("from {from}"))
        })
    }),
    ("garbage", NONE, |draw, place| {
        edit(place, |bytes| {
            let from = below(draw, bytes.len())?;
            let to = (from + 1 + below(draw, 60)?).min(bytes.len());
            bytes[from..to].fill_with(|| draw.next() as u8);
            Some(format!("{from} to {to}"))
        })
    }),
    ("all garbage", NONE, |draw, place| {
        edit(place, |bytes| {
            bytes.fill_with(|| draw.next() as u8);
            Some(String::new())
        })
    }),
    ("longer by zeros", NONE, |draw, place| {
        edit(place, |bytes| {
            let by = 1 + below(draw, 9_000)?;
            bytes.resize(bytes.len() + by, 0);
            Some(format!("by {by}"))
        })
    }),
    ("longer by garbage", NONE, |draw, place| {
        edit(place, |bytes| {
            let by = 1 + below(draw, 300)?;
            bytes.extend((0..by).map(|_| draw.next() as u8));
            Some(format!("by {by}"))
        })
    }),
    ("doubled", MOVES, |_, place| {
        edit(place, |bytes| {
            bytes.extend_from_within(..);
            Some(String::new())
        })
    }),
    ("a sector of zeros", HIDES, |draw, place| {
        edit(place, |bytes| {
            let from = below(draw, bytes.len())? / 512 * 512;
            let to = (from + 512).min(bytes.len());
            bytes[from..to].fill(0);
            Some(format!("at {from}"))
        })
    }),
    ("a sector over another", MOVES, |draw, place| {
        edit(place, |bytes| {
            let [from, to] = [below(draw, bytes.len())? / 512 * 512, below(draw, bytes.len())?];
            let to = to / 512 * 512;
            let len = 512.min(bytes.len() - from).min(bytes.len() - to);
            bytes.copy_within(from..from + len, to);
            Some(format!("{from} over {to}"))
        })
    }),
    ("batches are exchanged", MOVES, |draw, place| {
        edit_batches(place, |bytes, batches| {
            let [one, other] = [below(draw, batches.len())?, below(draw, batches.len())?];
            let mut order: Vec<usize> = (0..batches.len()).collect();
            order.swap(one, other);
            *bytes = in_order(bytes, batches, &order);
            Some(format!("{one} and {other}"))
        })
    }),
    ("a batch is gone", HIDES, |draw, place| {
        edit_batches(place, |bytes, batches| {
            let gone = below(draw, batches.len())?;
            let order: Vec<usize> = (0..batches.len()).filter(|at| *at != gone).collect();
            *bytes = in_order(bytes, batches, &order);
            Some(format!("number {gone}"))
        })
    }),
    ("a batch is there twice", MOVES, |draw, place| {
        edit_batches(place, |bytes, batches| {
            let [one, at] = [below(draw, batches.len())?, below(draw, batches.len())?];
            let mut order: Vec<usize> = (0..batches.len()).collect();
            order.insert(at, one);
            *bytes = in_order(bytes, batches, &order);
            Some(format!("number {one}, before {at}"))
        })
    }),
    ("a file without an end", NONE, |_, place| {
        fs::OpenOptions::new().write(true).open(&place.file).ok()?.set_len(1 << 40).ok()?;
        Some(String::new())
    }),
    ("gone", HIDES, |_, place| {
        fs::remove_file(&place.file).ok()?;
        Some(String::new())
    }),
    ("another partition's", MOVES, |draw, place| {
        let extension = place.file.extension();
        let other = other(draw, place, |path| {
            path.extension() == extension && path.parent() != place.file.parent()
        })?;
        fs::copy(&other, &place.file).ok()?;
        Some(other.display().to_string())
    }),
    ("another file's", MOVES, |draw, place| {
        let other = other(draw, place, |path| path != place.file)?;
        fs::copy(&other, &place.file).ok()?;
        Some(other.display().to_string())
    }),
    ("exchanged with another", MOVES, |draw, place| {
        let other = other(draw, place, |path| path != place.file)?;
        let aside = place.dir.join("aside");
        fs::rename(&other, &aside).ok()?;
        fs::rename(&place.file, &other).ok()?;
        fs::rename(&aside, &place.file).ok()?;
        Some(other.display().to_string())
    }),
    ("a folder", HIDES, |_, place| {
        fs::remove_file(&place.file).ok()?;
        fs::create_dir(&place.file).ok()?;
        Some(String::new())
    }),
    ("a FIFO", HIDES, |_, place| {
        fs::remove_file(&place.file).ok()?;
        mknodat(CWD, &place.file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).ok()?;
        Some(String::new())
    }),
    ("a socket", HIDES, |_, place| {
        fs::remove_file(&place.file).ok()?;
        std::os::unix::net::UnixListener::bind(&place.file).ok()?;
        Some(String::new())
    }),
    ("a link to where it is now", NONE, |_, place| {
        let aside = place.dir.parent()?.join("elsewhere");
        fs::rename(&place.file, &aside).ok()?;
        std::os::unix::fs::symlink(&aside, &place.file).ok()?;
        Some(String::new())
    }),
    ("a link to nothing", HIDES, |_, place| {
        fs::remove_file(&place.file).ok()?;
        std::os::unix::fs::symlink("/nowhere/at/all", &place.file).ok()?;
        Some(String::new())
    }),
    ("a link to itself", HIDES, |_, place| {
        fs::remove_file(&place.file).ok()?;
        std::os::unix::fs::symlink(&place.file, &place.file).ok()?;
        Some(String::new())
    }),
    ("not to be read", NONE, |_, place| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&place.file, fs::Permissions::from_mode(0o000)).ok()?;
        Some(String::new())
    }),
    ("to be deleted", HIDES, |_, place| rename(place, |name| format!("{name}.deleted"))),
    ("half cleaned", HIDES, |_, place| rename(place, |name| format!("{name}.cleaned"))),
    ("half swapped in", MOVES, |_, place| rename(place, |name| format!("{name}.swap"))),
    ("of another name", MOVES, |draw, place| {
        let to = draw.below(90);
        rename(place, |name| match name.split_once('.') {
            Some((_, rest)) => format!("{to:020}.{rest}"),
            None => format!("{name}.{to}"),
        })
    }),
    ("a copy to be deleted", NONE, |_, place| copy(place, |name| format!("{name}.deleted"))),
    ("a copy half cleaned", NONE, |_, place| copy(place, |name| format!("{name}.cleaned"))),
    ("a copy half swapped in", MOVES, |_, place| copy(place, |name| format!("{name}.swap"))),
    ("a copy under another name", MOVES, |draw, place| {
        let to = draw.below(90);
        let (_, rest) = place.file.file_name()?.to_str()?.split_once('.')?;
        copy(place, |_| format!("{to:020}.{rest}"))
    }),
    ("its folder is gone", HIDES, |_, place| {
        let folder = folder(place)?;
        fs::remove_dir_all(&folder).ok()?;
        Some(folder.display().to_string())
    }),
    ("its folder is empty", HIDES, |_, place| {
        let folder = folder(place)?;
        fs::remove_dir_all(&folder).ok()?;
        fs::create_dir(&folder).ok()?;
        Some(folder.display().to_string())
    }),
    ("its folder is a file", HIDES, |_, place| {
        let folder = folder(place)?;
        fs::remove_dir_all(&folder).ok()?;
        fs::write(&folder, b"file").ok()?;
        Some(folder.display().to_string())
    }),
    ("its folder is elsewhere", NONE, |_, place| {
        let folder = folder(place)?;
        let aside = place.dir.parent()?.join("elsewhere");
        fs::rename(&folder, &aside).ok()?;
        std::os::unix::fs::symlink(&aside, &folder).ok()?;
        Some(folder.display().to_string())
    }),
    ("its folder is to be deleted", HIDES, |_, place| {
        let folder = folder(place)?;
        let name = folder.file_name()?.to_str()?;
        let to = format!("{name}.{:032x}-delete", 7);
        fs::rename(&folder, folder.with_file_name(to)).ok()?;
        Some(folder.display().to_string())
    }),
    ("its folder is of the future", HIDES, |_, place| {
        let folder = folder(place)?;
        let name = folder.file_name()?.to_str()?;
        let to = format!("{name}.{:032x}-future", 7);
        fs::rename(&folder, folder.with_file_name(to)).ok()?;
        Some(folder.display().to_string())
    }),
    ("its folder is another partition", MOVES, |draw, place| {
        let folder = folder(place)?;
        let name = folder.file_name()?.to_str()?;
        let (topic, _) = name.rsplit_once('-')?;
        let to = folder.with_file_name(format!("{topic}-{}", 1 + draw.below(9)));
        fs::rename(&folder, &to).ok()?;
        Some(to.display().to_string())
    }),
    ("a folder that nobody knows", NONE, |_, place| {
        let folder = folder(place)?;
        fs::create_dir(folder.with_file_name("stranger-0")).ok()?;
        fs::copy(&place.file, folder.with_file_name("stranger-0").join("00.log")).ok()?;
        Some(String::new())
    }),
];

/// How many there are.
pub fn count() -> usize {
    CHANGES.len()
}

/// Changes the directory; what was done, and what it leaves to be seen.
pub fn mutate(draw: &mut Random, dir: &Path) -> (String, Trace) {
    loop {
        let Some(file) = chosen(draw, dir) else { return ("nothing".into(), NONE) };
        let shown = file.strip_prefix(dir).unwrap().display().to_string();
        let place = Place { dir, file };
        let (name, trace, change) = &CHANGES[draw.below(CHANGES.len() as u64) as usize];
        if let Some(how) = change(draw, &place) {
            return (format!("{shown}: {name}: {how}"), *trace);
        }
    }
}

/// Every file of the directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => dirs.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// A file, by what it is, so that the small ones get their share.
fn chosen(draw: &mut Random, dir: &Path) -> Option<PathBuf> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in files(dir) {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let kind = match path.extension() {
            Some(extension) if name.starts_with("000") => extension.to_string_lossy().into_owned(),
            _ => name,
        };
        kinds.entry(kind).or_default().push(path);
    }
    // Logs hold what matters most.
    let logs = kinds.get("log").cloned().unwrap_or_default();
    let kind = draw.below(2 * kinds.len().max(1) as u64) as usize;
    let files = kinds.into_values().nth(kind).unwrap_or(logs);
    let at = below(draw, files.len())?;
    files.into_iter().nth(at)
}

fn below(draw: &mut Random, bound: usize) -> Option<usize> {
    (bound > 0).then(|| draw.below(bound as u64) as usize)
}

fn other(draw: &mut Random, place: &Place<'_>, fits: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    // What stands in the internal topics, and what a controller begins with, nobody reads here.
    let known = |path: &PathBuf| {
        !path.to_string_lossy().contains("/__") && !path.ends_with("bootstrap.checkpoint")
    };
    let all: Vec<_> =
        files(place.dir).into_iter().filter(|path| known(path) && fits(path)).collect();
    let at = below(draw, all.len())?;
    all.into_iter().nth(at)
}

/// The folder of the partition, if the file is in one.
fn folder(place: &Place<'_>) -> Option<PathBuf> {
    place.file.parent().filter(|folder| *folder != place.dir).map(Path::to_owned)
}

/// Changes the bytes of the file.
fn edit(place: &Place<'_>, change: impl FnOnce(&mut Vec<u8>) -> Option<String>) -> Option<String> {
    let before = fs::read(&place.file).ok()?;
    let mut bytes = before.clone();
    let how = change(&mut bytes)?;
    if bytes == before {
        return None;
    }
    fs::write(&place.file, bytes).ok()?;
    Some(how)
}

/// Changes the bytes of a log: where its batches lie is given, too.
fn edit_batches(
    place: &Place<'_>,
    change: impl FnOnce(&mut Vec<u8>, &[(usize, usize)]) -> Option<String>,
) -> Option<String> {
    place.file.extension().filter(|extension| *extension == "log")?;
    edit(place, |bytes| {
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(length) = bytes.get(at + 8..at + 12) {
            let size = 12 + u32::from_be_bytes(length.try_into().ok()?) as usize;
            if size < 61 || at + size > bytes.len() {
                break;
            }
            found.push((at, size));
            at += size;
        }
        change(bytes, &found)
    })
}

fn in_order(bytes: &[u8], batches: &[(usize, usize)], order: &[usize]) -> Vec<u8> {
    let end = batches.last().map_or(0, |(at, size)| at + size);
    let mut all: Vec<u8> = Vec::new();
    for number in order {
        let (at, size) = batches[*number];
        all.extend(&bytes[at..at + size]);
    }
    all.extend(&bytes[end..]);
    all
}

fn renamed(place: &Place<'_>, to: impl FnOnce(&str) -> String) -> Option<PathBuf> {
    let to = place.file.with_file_name(to(place.file.file_name()?.to_str()?));
    (to != place.file).then_some(to)
}

fn rename(place: &Place<'_>, to: impl FnOnce(&str) -> String) -> Option<String> {
    let to = renamed(place, to)?;
    fs::rename(&place.file, &to).ok()?;
    Some(to.file_name()?.to_string_lossy().into_owned())
}

fn copy(place: &Place<'_>, to: impl FnOnce(&str) -> String) -> Option<String> {
    let to = renamed(place, to)?;
    fs::copy(&place.file, &to).ok()?;
    Some(to.file_name()?.to_string_lossy().into_owned())
}
