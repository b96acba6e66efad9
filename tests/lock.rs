//! The lock of a directory between processes: another process of ours, a program that holds only
//! one of the two locks, a Java program that asks as Kafka asks, and the same process by another
//! path. Children are this very binary, told by a variable what to hold; they say on their
//! standard output when they hold it, and let go when their standard input ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use topiclite::storage::{Fs, HeldElsewhere, Storage};

const ROLE: &str = "TOPICLITE_LOCK_ROLE";
const FILE: &str = "TOPICLITE_LOCK_FILE";

/// A process that holds something.
struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Holder {
    fn start(mut command: Command) -> Holder {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the child starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let held =
            stdout.by_ref().lines().map_while(Result::ok).any(|line| line.ends_with("holding"));
        assert!(held, "the child took its lock");
        let stdin = child.stdin.take();
        Holder { child, stdin, stdout }
    }

    /// This binary in a role.
    fn role(role: &str, file: &Path) -> Holder {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command
            .args(["--exact", "a_child_plays_its_role", "--nocapture"])
            .env(ROLE, role)
            .env(FILE, file);
        Holder::start(command)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn let_go(mut self) {
        self.stdin = None;
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("its last words");
        assert!(self.child.wait().expect("the child ends").success());
    }

    fn kill(mut self) {
        self.child.kill().expect("the child is killed");
        self.child.wait().expect("the child ends");
    }
}

fn hold_until_the_end_of_input() {
    println!("holding");
    std::io::stdout().flush().expect("the parent listens");
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).expect("the parent's end of the pipe");
}

/// Does nothing unless this process was started by [`Holder::role`].
#[test]
fn a_child_plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = PathBuf::from(std::env::var_os(FILE).expect("a file to hold"));
    let raw = || {
        let options = OpenOptions::new().read(true).write(true).create(true).clone();
        options.open(&path).expect("the lock file")
    };
    match role.as_str() {
        "topiclite" => {
            let _lock = Fs::new().lock(&path).expect("the lock is free");
            hold_until_the_end_of_input();
        }
        "flock" => {
            let file = raw();
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("free");
            hold_until_the_end_of_input();
        }
        "posix" => {
            let file: File = raw();
            rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).expect("free");
            hold_until_the_end_of_input();
        }
        other => panic!("no role {other}"),
    }
}

fn lock_file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(".lock");
    (dir, path)
}

/// The pid that a refusal names.
fn refused(path: &Path) -> Option<u32> {
    let error = Fs::new().lock(path).expect_err("the lock is held");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    HeldElsewhere::of(&error).expect("the reason is inside").pid
}

#[test]
fn another_process_is_refused_and_told_who_holds_the_lock() {
    let (_dir, path) = lock_file();
    let holder = Holder::role("topiclite", &path);
    assert_eq!(refused(&path), Some(holder.pid()));
    assert_eq!(refused(&path), Some(holder.pid()), "a refusal frees nothing");
    let text = std::fs::read_to_string(&path).expect("the lock file is text");
    assert_eq!(text.trim(), holder.pid().to_string());
    holder.let_go();
    drop(Fs::new().lock(&path).expect("free again"));
}

#[test]
fn a_killed_holder_leaves_a_free_lock() {
    let (_dir, path) = lock_file();
    let holder = Holder::role("topiclite", &path);
    assert!(refused(&path).is_some());
    holder.kill();
    drop(Fs::new().lock(&path).expect("free again"));
}

#[test]
fn a_program_with_only_a_posix_lock_is_seen_and_named() {
    let (_dir, path) = lock_file();
    let holder = Holder::role("posix", &path);
    assert_eq!(refused(&path), Some(holder.pid()));
    holder.let_go();
    drop(Fs::new().lock(&path).expect("free again"));
}

#[test]
fn a_program_with_only_a_flock_is_seen() {
    let (_dir, path) = lock_file();
    let holder = Holder::role("flock", &path);
    assert_eq!(refused(&path), None, "nobody can tell who holds a flock");
    holder.let_go();
    drop(Fs::new().lock(&path).expect("free again"));
}

#[test]
fn the_same_process_is_refused_by_every_path() {
    let (dir, path) = lock_file();
    let lock = Fs::new().lock(&path).expect("free");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).expect("a link");
    let hard = dir.path().join("hard");
    std::fs::hard_link(&path, &hard).expect("a second name");
    let own = Some(std::process::id());
    for other in [path.clone(), link.join(".lock"), dir.path().join("./.lock"), hard] {
        assert_eq!(refused(&other), own, "{}", other.display());
    }
    // The refusals above must not have freed the lock, which closing any descriptor would do.
    let holder = can_another_process_lock(&path);
    assert!(!holder, "the lock is still held");
    drop(lock);
    assert!(can_another_process_lock(&path));
}

/// Whether a child gets both locks at once.
fn can_another_process_lock(path: &Path) -> bool {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    let output = command
        .args(["--exact", "a_child_plays_its_role", "--nocapture"])
        .env(ROLE, "topiclite")
        .env(FILE, path)
        .stdin(Stdio::null())
        .output()
        .expect("the child runs");
    output.status.success()
}

/// A POSIX lock would be gone with the first of these closes.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn a_close_of_the_lock_file_frees_nothing() {
    let (dir, path) = lock_file();
    let lock = Fs::new().lock(&path).expect("free");
    assert!(std::fs::read_to_string(&path).expect("text").contains(char::is_numeric));
    drop(OpenOptions::new().write(true).open(&path).expect("the lock file"));
    std::fs::copy(&path, dir.path().join("copy")).expect("a copy");
    assert!(!can_another_process_lock(&path), "the lock is still held");
    drop(lock);
    assert!(can_another_process_lock(&path));
}

#[test]
fn what_is_no_file_is_never_taken_for_a_lock_file() {
    let (dir, path) = lock_file();
    let other = dir.path().join("precious");
    std::fs::write(&other, b"precious").expect("a file");
    std::os::unix::fs::symlink(&other, &path).expect("a link");
    let told = |path: &Path| Fs::new().lock(path).expect_err("refused").to_string();
    assert!(told(&path).contains("symbolic link"), "{}", told(&path));
    assert_eq!(std::fs::read(&other).expect("the file"), b"precious");
    std::fs::remove_file(&path).expect("removed");
    // A link that leads nowhere makes no file there either.
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &path).expect("a link");
    assert!(told(&path).contains("symbolic link"));
    assert!(!dir.path().join("nowhere").exists());
    std::fs::remove_file(&path).expect("removed");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a FIFO");
    assert!(told(&path).contains("FIFO"), "{}", told(&path));
}

/// What is left in the file is the number of a process that is gone: nobody is named by it.
#[test]
fn a_number_that_an_earlier_holder_left_is_not_believed() {
    let (_dir, path) = lock_file();
    std::fs::write(&path, b"1\n").expect("a number");
    let holder = Holder::role("flock", &path);
    assert_eq!(refused(&path), None);
    holder.let_go();
    // Whoever is refused changes nothing of it.
    assert_eq!(std::fs::read(&path).expect("the number"), b"1\n");
    drop(Fs::new().lock(&path).expect("free again"));
}

#[test]
fn a_lock_file_that_was_taken_away_is_noticed() {
    let (dir, path) = lock_file();
    let lock = Fs::new().lock(&path).expect("free");
    assert!(lock.can_be_lost() && lock.check().is_ok());
    let aside = dir.path().join("aside");
    std::fs::rename(&path, &aside).expect("moved away");
    let lost = lock.check().expect_err("it is gone");
    assert!(topiclite::storage::LockLost::is_in(&lost), "{lost}");
    std::fs::write(&path, b"").expect("another one");
    assert!(lock.check().is_err(), "another file is another lock");
    std::fs::rename(&aside, &path).expect("put back");
    assert!(lock.check().is_ok());
}

#[test]
fn nobody_of_this_process_opens_and_closes_the_lock_file() {
    let (dir, path) = lock_file();
    let fs = Fs::new();
    let lock = fs.lock(&path).expect("free");
    for error in [fs.open(&path).err(), fs.open_cold(&path).err(), fs.create_cold(&path).err()] {
        assert_eq!(error.expect("refused").kind(), ErrorKind::ResourceBusy);
    }
    assert_eq!(fs.list(dir.path()).expect("a listing").len(), 1);
    assert!(!can_another_process_lock(&path), "the lock is still held");
    drop(lock);
    assert!(fs.open(&path).is_ok());
}

#[test]
fn of_many_threads_one_holds_the_lock() {
    let (_dir, path) = lock_file();
    let inside = Arc::new(AtomicUsize::new(0));
    let won = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (path, inside, won) = (path.clone(), Arc::clone(&inside), Arc::clone(&won));
            std::thread::spawn(move || {
                let fs = Fs::new();
                for _ in 0..500 {
                    let Ok(lock) = fs.lock(&path) else { continue };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    won.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(lock);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no two holders");
    }
    assert!(won.load(Ordering::SeqCst) >= 1);
}

const JAVA: &str = r#"
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Paths;
import java.nio.file.StandardOpenOption;

public class TryLock {
    public static void main(String[] args) throws Exception {
        FileChannel channel = FileChannel.open(Paths.get(args[0]),
            StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        FileLock lock = channel.tryLock();
        if (lock == null) {
            System.out.println("refused");
            return;
        }
        System.out.println("holding");
        while (System.in.read() >= 0) { }
        lock.release();
    }
}
"#;

/// Kafka takes its lock as this program does, so each must see the other.
#[test]
fn a_java_program_and_this_crate_see_each_others_lock() {
    let (dir, path) = lock_file();
    let source = dir.path().join("TryLock.java");
    std::fs::write(&source, JAVA).expect("the source");
    let compiled = Command::new("javac").arg("-d").arg(dir.path()).arg(&source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("skipped: no javac, so no Java program to lock against");
        return;
    }
    let java = || {
        let mut command = Command::new("java");
        command.arg("-Xshare:auto").arg("-cp").arg(dir.path()).arg("TryLock").arg(&path);
        command
    };
    let lock = Fs::new().lock(&path).expect("free");
    let output = java().stdin(Stdio::null()).output().expect("java runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "refused");
    drop(lock);
    let holder = Holder::start(java());
    assert_eq!(refused(&path), Some(holder.pid()));
    holder.let_go();
    drop(Fs::new().lock(&path).expect("free again"));
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_lock_that_is_not_held_is_noticed() {
    use topiclite::storage::planted::{Planted, enable};
    let (_dir, path) = lock_file();
    let bug = enable(Planted::LockNotHeld);
    let lock = Fs::new().lock(&path).expect("free");
    drop(bug);
    assert!(can_another_process_lock(&path), "the planted bug lets others in");
    drop(lock);
}
