//! When a burst is over, in paused time with events of our own making, and what is watched, with the kernel's.

use notify::event::{CreateKind, DataChange, MetadataKind, RenameMode};

use super::*;

const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
const CREATED: EventKind = EventKind::Create(CreateKind::File);
const TOUCHED: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
const OPENED: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));

fn note(watch: &Watch, kind: EventKind, path: &str) {
    watch.signal.note(Ok(Event::new(kind).add_path(path.into())), &HashSet::from([PathBuf::from("named.conf")]));
}

/// How long until the burst is over, and how long ago it began; `None` if only the deadline came.
async fn settled(watch: &Watch) -> Option<(u128, u128)> {
    let begun = Instant::now();
    let since = watch.changed(begun + REBUILD_CEILING * 10).await;
    let took = begun.elapsed();
    (took < REBUILD_CEILING * 10).then(|| (took.as_millis(), since.elapsed().as_millis()))
}

#[tokio::test(start_paused = true)]
async fn events_that_cannot_concern_a_manifest_are_ignored() {
    let quiet = REBUILD_DEBOUNCE.as_millis();
    let cases = [
        ("reading", OPENED, "a.yaml", None),
        ("a log that grows", WRITTEN, "access.log", None),
        ("a log that is closed", CLOSED, "access.log", None),
        ("a rename, which may be a link or a directory", RENAMED, "..data", Some((quiet, quiet))),
        ("a new file", CREATED, "a.yaml", Some((quiet, quiet))),
        ("permissions", TOUCHED, "a.yaml", Some((quiet, quiet))),
        ("the end of a write", CLOSED, "a.yaml", Some((quiet, quiet))),
        ("a path given, whatever its name", CLOSED, "named.conf", Some((quiet, quiet))),
    ];
    for (label, kind, path, expected) in cases {
        let watch = Watch::new(&[]);
        note(&watch, kind, path);
        let found = settled(&watch).await;
        // Timers have a resolution of 1 ms.
        let near = |found: u128, expected: u128| found.abs_diff(expected) <= 2;
        let alike = match (found, expected) {
            (Some(found), Some(expected)) => near(found.0, expected.0) && near(found.1, expected.1),
            (found, expected) => found == expected,
        };
        assert!(alike, "{label}: {found:?}, not {expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_waited_for_but_not_for_ever() {
    let watch = Watch::new(&[]);
    note(&watch, WRITTEN, "a.yaml");
    let calm = tokio::time::timeout(REBUILD_DEBOUNCE * 3, settled(&watch)).await;
    assert!(calm.is_err(), "taken for finished: {calm:?}");
    note(&watch, CLOSED, "a.yaml");
    let (waited, since) = settled(&watch).await.unwrap();
    assert!(waited <= REBUILD_DEBOUNCE.as_millis() + 2, "{waited}");
    assert!(since >= (REBUILD_DEBOUNCE * 4).as_millis(), "measured from the first event: {since}");

    note(&watch, WRITTEN, "a.yaml");
    let (waited, _) = settled(&watch).await.unwrap();
    assert!(waited.abs_diff(REBUILD_CEILING.as_millis()) <= 2, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_counts_as_one() {
    let watch = Watch::new(&[]);
    watch.signal.note(Err(notify::Error::generic("overflow")), &HashSet::new());
    assert!(settled(&watch).await.is_some());
}

#[test]
fn a_directory_replaced_by_another_of_its_name_is_watched_anew() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("d");
    fs::create_dir(&path).unwrap();
    let wanted = BTreeSet::from([path.clone()]);
    let mut watch = Watch::new(&[]);
    assert!(watch.follow(&wanted));
    assert!(!watch.follow(&wanted), "once is enough");
    fs::rename(&path, base.path().join("old")).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(watch.follow(&wanted));
    assert!(watch.fault().is_none());
    assert!(!watch.follow(&BTreeSet::new()) && watch.watched.is_empty());
}
