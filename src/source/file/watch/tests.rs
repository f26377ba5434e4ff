//! When a burst is over, in paused time with events of our own making, and what is watched, with the kernel's.

use std::path::Path;

use notify::event::{CreateKind, DataChange, MetadataKind, RenameMode};

use super::*;

const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
const CREATED: EventKind = EventKind::Create(CreateKind::File);
const TOUCHED: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
const OPENED: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));

/// An event, and the path below the working directory that it is about.
type Happening<'a> = (EventKind, &'a str);

/// A watch over the working directory's entries and a path elsewhere, for made-up events.
fn watch() -> Watch {
    let watch = Watch::new();
    let mut interest = Interest::default();
    interest.walked("/w".into());
    interest.given(Path::new("/none/named.conf")).unwrap();
    interest.given(Path::new("/w/..data")).unwrap();
    interest.given(Path::new("/w/given.yaml")).unwrap();
    watch.signal.lock().interest = interest;
    watch
}

fn note(watch: &Watch, kind: EventKind, path: &str) {
    watch.signal.note(Ok(Event::new(kind).add_path(Path::new("/w").join(path))));
}

/// How long until the burst is over, and how long ago it began; `None` if only the deadline came.
async fn settled(watch: &Watch) -> Option<(u128, u128)> {
    let begun = Instant::now();
    let burst = watch.changed(begun, begun + REBUILD_CEILING * 10).await;
    let took = begun.elapsed();
    (took < REBUILD_CEILING * 10).then(|| (took.as_millis(), burst.since.elapsed().as_millis()))
}

#[tokio::test(start_paused = true)]
async fn events_that_cannot_concern_a_manifest_are_ignored() {
    let quiet = REBUILD_DEBOUNCE.as_millis();
    let cases = [
        ("reading", OPENED, "a.yaml", None),
        ("a log that grows", WRITTEN, "access.log", None),
        ("a log that is closed", CLOSED, "access.log", None),
        ("a log without an extension", WRITTEN, "access", None),
        ("a manifest's name beside a path given", WRITTEN, "/none/access.json", None),
        ("permissions of a log", TOUCHED, "access.log", None),
        ("a log that is rotated away", EventKind::Modify(ModifyKind::Name(RenameMode::From)), "access.log", None),
        ("an editor's file", CREATED, ".a.yaml.swp", None),
        ("a rename, which may be a link or a directory", RENAMED, "..data", Some((quiet, quiet))),
        ("a new file", CREATED, "a.yaml", Some((quiet, quiet))),
        ("permissions", TOUCHED, "a.yaml", Some((quiet, quiet))),
        ("the end of a write", CLOSED, "a.yaml", Some((quiet, quiet))),
        ("a path given, whatever its name", CLOSED, "/none/named.conf", Some((quiet, quiet))),
    ];
    for (label, kind, path, expected) in cases {
        let watch = watch();
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
    let watch = watch();
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
    let watch = watch();
    watch.signal.note(Err(notify::Error::generic("overflow")));
    assert!(settled(&watch).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_burst_names_its_manifests_unless_it_is_about_anything_else() {
    let many: Vec<String> = (0..=MANIFEST_NAMED).map(|number| format!("{number}.yaml")).collect();
    let many: Vec<Happening<'_>> = many.iter().map(|name| (CLOSED, name.as_str())).collect();
    let cases: [(&str, &[Happening<'_>], Option<usize>); 9] = [
        ("one", &[(WRITTEN, "a.yaml"), (CLOSED, "a.yaml")], Some(1)),
        ("two", &[(CLOSED, "a.yaml"), (RENAMED, "b.yaml"), (CREATED, "a.yaml")], Some(2)),
        ("a link on the way", &[(CLOSED, "a.yaml"), (RENAMED, "..data")], None),
        ("that, and then a manifest", &[(RENAMED, "..data"), (CLOSED, "a.yaml")], None),
        ("a path given", &[(CLOSED, "/none/named.conf")], None),
        ("a path given, in a directory that was walked", &[(CLOSED, "given.yaml")], None),
        ("what may be a directory", &[(CREATED, "sub")], Some(1)),
        ("as many as are looked at alone", many.get(..MANIFEST_NAMED).unwrap(), Some(MANIFEST_NAMED)),
        ("one more", &many, None),
    ];
    for (label, events, expected) in cases {
        let watch = watch();
        for (kind, path) in events {
            note(&watch, *kind, path);
        }
        let now = Instant::now();
        let burst = watch.changed(now, now + REBUILD_CEILING * 10).await;
        assert_eq!(burst.named.map(|named| named.len()), expected, "{label}");
        assert_eq!(burst.events, u64::try_from(events.len()).unwrap(), "{label}");
    }
    let (watch, renamed) = (watch(), EventKind::Modify(ModifyKind::Name(RenameMode::Both)));
    watch.signal.note(Ok(Event::new(renamed).add_path("/w/.hidden.yaml".into()).add_path("/w/a.yaml".into())));
    let now = Instant::now();
    let burst = watch.changed(now, now + REBUILD_CEILING * 10).await;
    assert_eq!(burst.named, Some([PathBuf::from("/w/a.yaml")].into()), "the other name is none of ours");
    note(&watch, CLOSED, "a.yaml");
    watch.signal.note(Err(notify::Error::generic("overflow")));
    let now = Instant::now();
    assert!(watch.changed(now, now + REBUILD_CEILING * 10).await.named.is_none(), "events were lost");
}

#[tokio::test(start_paused = true)]
async fn a_rest_is_kept_even_if_something_happened() {
    let watch = watch();
    note(&watch, CLOSED, "a.yaml");
    let begun = Instant::now();
    watch.changed(begun + REBUILD_CEILING * 3, begun + REBUILD_CEILING * 10).await;
    assert!(begun.elapsed() >= REBUILD_CEILING * 3, "{:?}", begun.elapsed());
}

#[test]
fn a_directory_replaced_by_another_of_its_name_is_watched_anew() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().canonicalize().unwrap().join("d");
    fs::create_dir(&path).unwrap();
    let mut wanted = Interest::default();
    wanted.walked(path.clone());
    let mut watch = Watch::new();
    assert!(watch.follow(&wanted));
    assert!(!watch.follow(&wanted), "once is enough");
    fs::rename(&path, base.path().join("old")).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(watch.follow(&wanted));
    assert!(watch.fault().is_none());
    assert!(!watch.follow(&Interest::default()) && watch.watched.is_empty());
}

#[test]
fn a_path_in_a_directory_that_is_watched_already_is_new_all_the_same() {
    let base = tempfile::tempdir().unwrap();
    let mut wanted = Interest::default();
    wanted.given(&base.path().join("a.yaml")).unwrap();
    let mut watch = Watch::new();
    assert!(watch.follow(&wanted));
    wanted.given(&base.path().join("b.yaml")).unwrap();
    assert!(watch.follow(&wanted), "it may have changed while events of it were ignored");
}
