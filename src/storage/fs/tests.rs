//! Tests of what only real files can show: blocks, full disks, descriptors and identities.

use super::*;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// The directory that a child test runs in, on a small disk of its own.
const SMALL_DISK: &str = "TOPICLITE_SMALL_DISK";

fn blocks_bytes(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn every_byte_of_a_grown_file_has_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = Fs::new().create(&path, 1 << 26, 1 << 16).unwrap();
    assert!(blocks_bytes(&path) >= 1 << 16);
    file.allocate(1 << 22).unwrap();
    assert!(blocks_bytes(&path) >= 1 << 22);
    assert!(blocks_bytes(&path) < 1 << 26, "what is only mapped takes no room");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_sparse_file_is_noticed() {
    let _bug = crate::storage::planted::enable(Planted::SparseFile);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    Fs::new().create(&path, 1 << 26, 1 << 22).unwrap();
    assert!(blocks_bytes(&path) < 1 << 22);
}

#[test]
fn zeros_are_written_where_allocation_is_unsupported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all_at(b"kept", 0).unwrap();
    // More than one write of zeros.
    pages::fill(&file, 4, 2_500_000).unwrap();
    let bytes = Fs::new().read_file(&path, 4 << 20).unwrap();
    assert_eq!(bytes.len(), 2_500_000);
    assert_eq!(&bytes[..4], b"kept");
    assert!(bytes[4..].iter().all(|byte| *byte == 0));
    assert!(blocks_bytes(&path) >= 2_500_000);
}

#[test]
fn prepared_pages_are_zeros_behind_what_is_stored_and_blocks_go_further() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = Fs::new().create(&path, 1 << 26, 1 << 14).unwrap();
    let region = file.region().unwrap();
    let mut writer = region.writer().unwrap();
    let mut stored = 0;
    // The second step has its blocks already.
    let steps =
        [(1 << 18, 1 << 20, 1 << 20), (1 << 20, 1 << 22, 1 << 20), (3 << 20, 1 << 22, 1 << 22)];
    for (len, reserve, grown) in steps {
        // Up to the border: what is prepared next begins in the middle of no page that is used.
        writer.write(stored, &vec![7; region.prepared() - stored]);
        stored = region.prepared();
        file.prepare(len, reserve).unwrap();
        assert_eq!(region.prepared() as u64, len);
        assert!(blocks_bytes(&path) >= grown, "a block for every byte");
        assert_eq!(file.len().unwrap(), grown);
    }
    assert!(writer.bytes(0..stored).iter().all(|byte| *byte == 7), "nothing is overwritten");
    assert!(writer.bytes(stored..3 << 20).iter().all(|byte| *byte == 0));
    assert!(blocks_bytes(&path) < 1 << 26, "what is only mapped takes no room");
    drop(writer);
    file.set_len(stored as u64).unwrap();
    assert_eq!((file.len().unwrap() as usize, region.prepared()), (stored, stored));
}

#[test]
fn descriptors_are_bounded_and_mappings_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let fs = Fs::with_descriptors_max(4);
    let files: Vec<_> = (0..40)
        .map(|i| fs.create(&dir.path().join(i.to_string()), 1 << 20, 4096).unwrap())
        .collect();
    assert_eq!((fs.mappings(), fs.descriptors()), (40, 0), "closed once mapped");
    for (i, file) in files.iter().enumerate() {
        file.region().unwrap().writer().unwrap().write(0, &[i as u8; 10]);
        file.sync_data().unwrap();
    }
    for (i, file) in files.iter().enumerate() {
        let mut out = [0; 10];
        file.read_exact_at(0, &mut out).unwrap();
        assert_eq!(out, [i as u8; 10]);
        assert!(fs.descriptors() <= 4);
    }
    let region = files[0].region().unwrap().clone();
    drop(files);
    assert_eq!((fs.mappings(), fs.descriptors()), (1, 0));
    drop(region);
    assert_eq!(fs.mappings(), 0);
}

#[test]
fn another_file_of_the_same_name_is_not_mistaken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let fs = Fs::new();
    let file = fs.create(&path, 4096, 16).unwrap();
    // By other hands than this storage's, so that it does not know.
    fs::remove_file(&path).unwrap();
    fs::write(&path, [1; 16]).unwrap();
    for error in [file.sync_data().unwrap_err(), file.read_at(0, &mut [0]).unwrap_err()] {
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
    assert!(file.allocate(32).is_err());
    assert_eq!(fs::read(&path).unwrap(), [1; 16]);
}

#[test]
fn a_write_through_the_mapping_is_seen_by_reads_and_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let fs = Fs::new();
    let file = fs.create(&path, 1 << 16, 1 << 14).unwrap();
    let mut writer = file.region().unwrap().writer().unwrap();
    writer.write(5000, b"mapped");
    let other = fs.open(&path).unwrap();
    let mut out = [0; 6];
    other.read_exact_at(5000, &mut out).unwrap();
    assert_eq!(&out, b"mapped", "published or not, an attached reader finds it");
}

#[test]
fn the_boot_is_known_on_linux() {
    assert_eq!(Fs::new().boot_id().is_empty(), !cfg!(target_os = "linux"));
}

#[test]
fn names_that_are_no_text_and_dangling_links_are_listed() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"a\xff")), b"x").unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.path().join("b")).unwrap();
    let listed = Fs::new().list(dir.path()).unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].name.as_str(), listed[0].len), ("a\u{fffd}", 1));
    assert_eq!(listed[1].name, "b");
}

/// A full disk must be an error value, never a signal, and must leave the file as it was. Runs
/// the next test again in a mount namespace with a small disk: tmpfs, and ext4 where it can be
/// made.
#[test]
fn a_full_disk_is_an_error_and_no_signal() {
    if !rustix::process::geteuid().is_root() || !cfg!(target_os = "linux") {
        println!("skipped: a small disk takes Linux and root");
        return;
    }
    let tmpfs = "mount -t tmpfs -o size=8m none \"$1\"";
    let ext4 = "mount -t tmpfs -o size=20m none \"$1\" && truncate -s 14m \"$1/disk\" && \
                mkfs.ext4 -q \"$1/disk\" && mount -o loop \"$1/disk\" \"$1\"";
    for (name, mount) in [("tmpfs", tmpfs), ("ext4", ext4)] {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("{{ {mount}; }} 2>&1 || exit 77; exec \"$2\" --exact \"$3\"");
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(dir.path())
            .arg(std::env::current_exe().unwrap())
            .arg("storage::fs::tests::a_child_fills_its_small_disk")
            .env(SMALL_DISK, dir.path())
            .output();
        let Ok(output) = output else {
            println!("skipped: no unshare");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.code() == Some(77) {
            println!("skipped {name}: {}", text.trim());
            continue;
        }
        assert!(output.status.success(), "{name}: {:?}\n{text}", output.status);
        assert!(text.contains("1 passed"), "{name}: {text}");
    }
}

/// Does nothing unless the test above started this process.
#[test]
fn a_child_fills_its_small_disk() {
    let Some(dir) = std::env::var_os(SMALL_DISK).map(PathBuf::from) else { return };
    let fs = Fs::new();
    let file = fs.create(&dir.join("f"), 1 << 30, 1 << 16).unwrap();
    let region = file.region().unwrap();
    let mut writer = region.writer().unwrap();
    let full = loop {
        let at = region.prepared();
        let len = at as u64 + (1 << 16);
        let grown = if at & (1 << 16) == 0 { file.allocate(len) } else { file.prepare(len, len) };
        match grown {
            Ok(()) => writer.write(at, &[7; 1 << 16]),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), region.prepared() as u64, "the file is as it was");
    // All that was prepared can be written: the blocks are there.
    let prepared = region.prepared();
    assert!(prepared > 4 << 20);
    writer.write(0, &vec![8; prepared]);
    file.sync_data().unwrap();
    let full = fs.create(&dir.join("g"), 1 << 30, 1 << 22).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert!(!fs.exists(&dir.join("g")).unwrap(), "nothing stays behind");
    assert!(fs.disk_free(&dir).unwrap() < 1 << 22);
    drop(writer);
    file.set_len(4096).unwrap();
    file.allocate(1 << 20).unwrap();
    assert!(region.prepared() == 1 << 20, "freed space can be used again");
}
