//! Errors: what their kinds say, and how they are told.

use super::*;

#[test]
fn an_error_is_one_word_wide() {
    assert_eq!(size_of::<Error>(), size_of::<usize>());
}

#[test]
fn no_kind_is_both_retriable_and_fatal_and_each_has_a_kafka_name() {
    for &kind in ErrorKind::ALL {
        let error = Error::new(kind, "");
        assert!(!(error.is_retriable() && error.is_fatal()), "{kind:?}");
        assert!(!error.kafka_name().is_empty(), "{kind:?}");
    }
}

#[test]
fn what_aborts_a_transaction_is_told_by_the_kind_or_by_its_cause() {
    let too_large = Error::new(ErrorKind::RecordTooLarge, "too large");
    assert!(too_large.requires_abort() && !too_large.is_fatal());
    assert!(Error::new(ErrorKind::Kafka, "").with_source(too_large).requires_abort());
    for stays in [ErrorKind::IllegalState, ErrorKind::ProducerFenced, ErrorKind::Kafka] {
        assert!(!Error::new(stays, "").requires_abort(), "{stays:?}");
    }
    // What may pass for a call is over for the transaction that it failed in.
    for &kind in ErrorKind::ALL {
        let error = Error::new(kind, "");
        let of_a_producer =
            !matches!(kind, ErrorKind::UnstableOffsetCommit | ErrorKind::RetriableCommitFailed);
        assert!(!(error.is_retriable() && of_a_producer) || error.requires_abort(), "{kind:?}");
    }
}

/// The guarantees have a row for each kind, which says of it what its predicates say.
#[test]
fn the_guarantees_class_every_kind_as_it_is() {
    let text = include_str!("../../docs/guarantees.md");
    let (_, section) = text.split_once("## Error kinds").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut left = ErrorKind::ALL.to_vec();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        let at = left.iter().position(|kind| kind.name() == name);
        let kind = left.remove(at.unwrap_or_else(|| panic!("{name} is no kind, or twice")));
        assert_eq!(cells[2..5], kind.row(), "{name}");
        let error = Error::new(kind, "");
        let is = match (error.is_retriable(), error.is_fatal()) {
            (true, _) => "retriable",
            (_, true) => "fatal",
            _ => "plain",
        };
        assert_eq!((cells[2], cells[3] == "aborts"), (is, error.requires_abort()), "{name}");
    }
    assert_eq!(left, [], "kinds without a row");
}

#[test]
fn what_ends_its_handle_is_fatal_whatever_its_kind_and_its_cause_are() {
    for &kind in ErrorKind::ALL {
        for error in [
            Error::new(kind, "").ending_its_handle(),
            Error::new(ErrorKind::Kafka, "").with_source(Error::new(kind, "")).ending_its_handle(),
        ] {
            assert!(error.is_fatal() && !error.is_retriable() && !error.requires_abort());
        }
    }
}

#[test]
fn a_chain_tells_each_cause_once() {
    let chain = |error: &Error| {
        let mut text = error.to_string();
        let causes = std::iter::successors(std::error::Error::source(error), |e| e.source());
        causes.for_each(|cause| text += &format!(" <- {cause}"));
        text
    };
    let refused = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let io = Error::io(refused(), "reading", Path::new("a.log"));
    assert_eq!(chain(&io), "io in a.log: reading: permission denied");
    let told = Error::new(ErrorKind::Kafka, "it failed: reading: permission denied");
    assert_eq!(
        chain(&told.with_source(io.clone())),
        "kafka: it failed: reading: permission denied"
    );
    let bare = Error::new(ErrorKind::StorageFailed, "a sync failed").with_source(io);
    let expected = "storage failed: a sync failed <- io in a.log: reading: permission denied";
    assert_eq!(chain(&bare), expected);
    assert_eq!(bare.root_kind(), ErrorKind::Io);
    assert_eq!(bare.causes().count(), 2);
    assert_eq!(bare.io_error().unwrap().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(std::io::Error::from(bare).kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn what_the_operating_system_refuses_for_good_is_not_retriable() {
    use std::io::ErrorKind::*;
    for (kind, retriable) in [
        (NotFound, false),
        (PermissionDenied, false),
        (ReadOnlyFilesystem, false),
        (NotADirectory, false),
        (Interrupted, true),
        (StorageFull, true),
        (Other, true),
    ] {
        let error = Error::io(kind.into(), "appending", Path::new("a.log"));
        assert_eq!(error.is_retriable(), retriable, "{kind}");
    }
    for (number, retriable) in [(5, true), (6, false), (19, false), (28, true), (30, false)] {
        let error = std::io::Error::from_raw_os_error(number);
        let error = Error::io(error, "appending", Path::new("a.log"));
        assert_eq!(error.is_retriable(), retriable, "{error}");
    }
    assert!(Error::new(ErrorKind::Io, "injected").is_retriable());
    assert!(!Error::new(ErrorKind::UnknownTopicOrPartition, "a typo").is_retriable());
}

#[test]
fn display_names_the_place_and_the_reason() {
    let error = Error::new(ErrorKind::CorruptRecord, "checksum 0x1c2e, expected 0x9f00")
        .with_partition("orders", 3)
        .with_offset(812)
        .with_position(40960)
        .with_path("00000000000000000512.log");
    assert_eq!(
        error.to_string(),
        "corrupt record orders-3 at offset 812 at position 40960 of \
         00000000000000000512.log: checksum 0x1c2e, expected 0x9f00"
    );
}
