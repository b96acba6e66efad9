//! A file system that is really full: stores through a mapping into a block that is not there
//! would end the process by SIGBUS. It is mounted in a namespace of its own, for a child, and
//! goes with it.

use crate::place::{create, fill, send, told, value};
use std::path::Path;
use std::process::Command;
use topiclite::{Broker, ErrorKind};

const ROLE: &str = "TOPICLITE_FULL_DIR";

#[test]
fn a_file_system_that_is_really_full_is_an_error_and_no_signal() {
    let home = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=6m tmpfs \"$0\" || exit 99; exec \"$@\"";
    let child = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", mount])
        .arg(home.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tmpfs::a_child_fills_its_file_system", "--nocapture"])
        .env(ROLE, home.path())
        .output();
    match child {
        Ok(child) if child.status.success() => {
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(said.contains("filled and freed"), "{said}");
        }
        // What this machine does not let a user do: make a namespace, or mount in it.
        Ok(child) if child.status.code() == Some(99) || child.stdout.is_empty() => {
            println!("skipped: {}", String::from_utf8_lossy(&child.stderr));
        }
        Ok(child) => panic!("{child:?}"),
        Err(error) => println!("skipped: {error}"),
    }
}

/// Does nothing unless this process was started on a file system of its own.
#[test]
fn a_child_fills_its_file_system() {
    let Some(home) = std::env::var_os(ROLE) else { return };
    let home = Path::new(&home);
    for segment_bytes in ["600", "100000000"] {
        let dir = home.join(segment_bytes);
        let broker = Broker::open(&dir).unwrap();
        create(&broker, "t", segment_bytes).unwrap();
        fill(&broker, 0..10);
        let ballast = home.join("ballast");
        let written = std::fs::write(&ballast, vec![1; 8 << 20]);
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        let mut count = 10;
        let error = loop {
            match send(&broker, "t", &value(count)) {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        told(&error, ErrorKind::StorageFull, &["t-0", "free space"]);
        // The registry may have room in its last block.
        let mut made = 0;
        let refused = loop {
            match create(&broker, &format!("u{made}"), "600") {
                Ok(()) => made += 1,
                Err(refused) => break refused,
            }
        };
        told(&refused, ErrorKind::StorageFull, &["topiclite.registry", "free space"]);
        assert_eq!(broker.admin().list_topics().unwrap().len(), 1 + made);
        std::fs::remove_file(&ballast).unwrap();
        fill(&broker, count..count + 10);
        create(&broker, &format!("u{made}"), "600").unwrap();
        broker.close().unwrap();
        let broker = Broker::open(&dir).unwrap();
        crate::place::holds(&broker, count + 10);
        assert_eq!(broker.admin().list_topics().unwrap().len(), 2 + made);
        broker.close().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
    println!("filled and freed");
}
