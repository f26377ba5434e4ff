//! From files to changes, one look at a time, without watching.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use super::*;
use crate::{
    compile::Subject,
    config::limits::{MANIFEST_EMPTY_HOLD, MANIFEST_HOLD},
    source::stores::Stores,
};

struct Rig {
    base: tempfile::TempDir,
    state: State,
    stores: Stores,
    now: Instant,
    last: Outcome,
}

fn service(name: &str, port: u16) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

impl Rig {
    fn new(files: &[(&str, String)]) -> Self {
        let base = tempfile::tempdir().unwrap();
        let stores = Stores::new(super::super::lists());
        let mut rig = Self { base, state: State::default(), stores, now: Instant::now(), last: Outcome::default() };
        for (name, text) in files {
            rig.write(name, text);
        }
        rig.look(0);
        rig
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// A file that no look comes by.
    fn elsewhere(&self, text: &str) -> PathBuf {
        self.write(".elsewhere", text);
        self.path(".elsewhere")
    }

    /// Puts something in place of `a.yaml`.
    fn replace_by(&self, put: impl FnOnce(&Path) -> io::Result<()>) {
        self.remove("a.yaml");
        put(&self.path("a.yaml")).unwrap();
    }

    /// Looks again, so many milliseconds later. Returns how many changes there were.
    fn look(&mut self, millis: u64) -> usize {
        self.look_at(None, millis)
    }

    /// Looks at these files, if they are named and that is enough, else at all.
    fn look_at(&mut self, named: Option<&[&str]>, millis: u64) -> usize {
        let named: Option<BTreeSet<PathBuf>> = named.map(|named| {
            let base = self.base.path().canonicalize().unwrap();
            named.iter().map(|name| base.join(name)).collect()
        });
        self.now += Duration::from_millis(millis);
        self.last = self.state.refresh(&[self.base.path().to_owned()], named.as_ref(), self.now);
        let changes = mem::take(&mut self.last.changes);
        let count = changes.len();
        for change in changes {
            self.stores.apply(change);
        }
        count
    }

    /// `name:port` of every Service in force.
    fn services(&self) -> String {
        let port = |service: &k8s_openapi::api::core::v1::Service| service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port;
        let objects = self.stores.objects();
        let mut all: Vec<_> = objects.services.iter().map(|s| format!("{}:{}", s.metadata.name.as_deref().unwrap(), port(s))).collect();
        all.sort();
        all.join(" ")
    }

    /// `code file` of every finding.
    fn findings(&self) -> Vec<String> {
        let all = self.last.findings.iter().chain(self.stores.diagnostics());
        let name = |found: &Diagnostic| match &found.subject {
            Subject::File { path, .. } => path.rsplit('/').next().unwrap().to_owned(),
            Subject::Object { name, .. } => name.to_string(),
        };
        let mut all: Vec<_> = all.map(|found| format!("{} {}", found.code, name(found))).collect();
        all.sort();
        all
    }
}

const HOLD: u64 = 101;

#[test]
fn the_first_look_completes_every_list_and_an_unchanged_file_is_not_read_again() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1) + &service("b", 1)), ("c.yaml", service("c", 1))]);
    assert!(rig.stores.complete());
    assert_eq!(rig.services(), "a:1 b:1 c:1");
    assert_eq!(rig.look(10), 0);
    rig.write("c.yaml", &service("c", 2));
    assert_eq!(rig.look(10), 1);
    assert_eq!(rig.services(), "a:1 b:1 c:2");
}

#[test]
fn a_rewrite_of_equal_length_within_one_tick_of_the_clock_is_seen() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1))]);
    for port in 2..10 {
        rig.write("a.yaml", &service("a", port));
        rig.look(0);
        assert_eq!(rig.services(), format!("a:{port}"));
    }
}

#[test]
fn a_malformed_file_keeps_all_it_had_and_the_others_go_on() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1) + &service("b", 1)), ("c.yaml", service("c", 1))]);
    rig.write("a.yaml", &(service("a", 2) + "---\nkind: [\n"));
    rig.write("c.yaml", &service("c", 2));
    rig.look(10);
    assert_eq!(rig.services(), "a:1 b:1 c:2");
    assert_eq!(rig.findings(), ["malformed a.yaml"]);
    assert!(rig.last.findings[0].message.contains("previous content stays in force"), "{:?}", rig.last.findings);
    rig.write("a.yaml", &service("a", 3));
    rig.look(10);
    assert_eq!((rig.services().as_str(), rig.findings().len()), ("a:3 c:2", 0));
}

#[test]
fn of_a_file_that_never_was_whole_whatever_can_be_read_is_in_force() {
    let bad = "---\nkind: [\n";
    let mut rig = Rig::new(&[("a.yaml", service("a", 1) + &service("b", 1) + bad)]);
    assert_eq!(rig.services(), "a:1 b:1");
    rig.write("a.yaml", &(service("a", 2) + bad + bad));
    rig.look(10);
    assert_eq!(rig.services(), "a:2 b:1", "b may be the one that is broken now");
    rig.write("a.yaml", &service("a", 2));
    rig.look(10);
    assert_eq!(rig.services(), "a:2");
}

#[test]
fn a_document_that_cannot_be_decoded_keeps_its_own_version_alone() {
    let broken = service("b", 1).replace("port: 1", "port: one");
    let mut rig = Rig::new(&[("a.yaml", service("a", 1) + &service("b", 1))]);
    rig.write("a.yaml", &(service("a", 2) + &broken));
    rig.look(10);
    assert_eq!(rig.services(), "a:2 b:1");
    assert_eq!(rig.findings(), ["undecodable a.yaml"]);
    rig.write("a.yaml", &service("a", 2));
    rig.look(10);
    assert_eq!((rig.services().as_str(), rig.findings().len()), ("a:2", 0));
}

#[test]
fn a_file_that_vanished_or_was_emptied_keeps_its_objects_for_a_moment() {
    for (emptied, hold) in [(false, MANIFEST_HOLD), (true, MANIFEST_EMPTY_HOLD)] {
        let mut rig = Rig::new(&[("a.yaml", service("a", 1)), ("b.yaml", service("b", 1))]);
        let vanish = |rig: &Rig| if emptied { rig.write("a.yaml", "") } else { rig.remove("a.yaml") };
        vanish(&rig);
        rig.look(10);
        assert_eq!(rig.services(), "a:1 b:1", "emptied: {emptied}");
        assert_eq!(rig.last.again, Some(rig.now + hold));
        rig.look(millis(hold) - 10);
        assert_eq!(rig.services(), "a:1 b:1", "emptied: {emptied}");
        rig.write("a.yaml", &service("a", 2));
        rig.look(5);
        assert_eq!((rig.services().as_str(), rig.last.again), ("a:2 b:1", None));
        vanish(&rig);
        rig.look(10);
        rig.look(millis(hold));
        assert_eq!((rig.services().as_str(), rig.last.again), ("b:1", None), "emptied: {emptied}");
    }
}

#[test]
fn an_empty_file_in_place_of_one_that_vanished_is_about_to_be_written() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1))]);
    rig.remove("a.yaml");
    rig.look(10);
    rig.write("a.yaml", "");
    rig.look(10);
    rig.look(HOLD);
    assert_eq!(rig.services(), "a:1");
    rig.write("a.yaml", &service("a", 2));
    rig.look(10);
    assert_eq!((rig.services().as_str(), rig.last.again), ("a:2", None));
}

#[test]
fn the_same_content_back_after_a_gap_is_in_force_as_before() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1))]);
    rig.write("a.yaml", "");
    rig.look(10);
    rig.write("a.yaml", &service("a", 1));
    rig.look(10);
    rig.look(millis(MANIFEST_EMPTY_HOLD));
    assert_eq!((rig.services().as_str(), rig.last.again), ("a:1", None));
}

#[test]
fn of_two_files_that_define_an_object_the_first_counts_and_the_other_takes_over() {
    let mut rig = Rig::new(&[("a.yaml", service("x", 1)), ("b.yaml", service("x", 2))]);
    assert_eq!(rig.services(), "x:1");
    assert_eq!(rig.findings(), ["duplicate_object b.yaml"]);
    rig.write("a.yaml", &service("y", 1));
    rig.look(10);
    assert_eq!((rig.services().as_str(), rig.findings().len()), ("x:2 y:1", 0));
    rig.write("a.yaml", &(service("x", 3) + &service("x", 4)));
    rig.look(10);
    assert_eq!(rig.services(), "x:3");
    assert_eq!(rig.findings(), ["duplicate_object a.yaml", "duplicate_object b.yaml"]);
}

#[test]
fn of_two_documents_that_define_an_object_the_first_counts() {
    let rig = Rig::new(&[("a.yaml", [service("x", 1), service("y", 2), service("x", 3)].concat())]);
    assert_eq!(rig.services(), "x:1 y:2");
    let found: Vec<String> = rig.last.findings.iter().map(|finding| finding.subject.to_string()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("document 3"), "{found:?}");
}

#[test]
fn files_that_are_too_many_to_be_held_at_once_are_all_read() {
    let big = |name: &str| format!("# {}\n{}", "x".repeat(MANIFEST_BATCH_BYTES / 2), service(name, 1));
    let rig = Rig::new(&[("a.yaml", big("a")), ("b.yaml", big("b")), ("c.yaml", big("c")), ("d.yaml", service("d", 1))]);
    assert_eq!(rig.services(), "a:1 b:1 c:1 d:1");
}

#[test]
fn a_renamed_file_is_neither_an_outage_nor_a_duplicate() {
    let mut rig = Rig::new(&[("a.yaml", service("x", 1))]);
    rig.remove("a.yaml");
    rig.write("b.yaml", &service("x", 2));
    rig.look(10);
    assert_eq!((rig.services().as_str(), rig.findings().len()), ("x:2", 0), "the new file counts at once");
    rig.look(HOLD);
    assert_eq!(rig.services(), "x:2");
}

#[test]
fn a_root_that_vanished_keeps_everything_and_a_subdirectory_takes_its_objects_along() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1))]);
    fs::create_dir(rig.base.path().join("sub")).unwrap();
    rig.write("sub/b.yaml", &service("b", 1));
    rig.look(10);
    assert_eq!(rig.services(), "a:1 b:1");
    fs::remove_dir_all(rig.base.path().join("sub")).unwrap();
    rig.look(10);
    rig.look(HOLD);
    assert_eq!(rig.services(), "a:1");
    fs::remove_dir_all(rig.base.path()).unwrap();
    rig.look(10);
    rig.look(HOLD);
    assert_eq!(rig.services(), "a:1");
    assert!(rig.findings()[0].starts_with("unreadable "), "{:?}", rig.findings());
}

#[test]
fn an_unreadable_file_keeps_its_objects_until_it_is_readable_again() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1))]);
    // Permissions don't stop root, so the file also turns into bytes that are no text.
    let path = rig.path("a.yaml");
    fs::write(&path, b"kind: \n\xff\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    rig.look(10);
    assert_eq!(rig.services(), "a:1");
    assert_eq!(rig.findings().len(), 1);
    assert!(rig.last.findings[0].message.contains("previous content stays in force"), "{:?}", rig.last.findings);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    rig.write("a.yaml", &service("a", 1));
    rig.look(10);
    assert_eq!((rig.services().as_str(), rig.findings().len()), ("a:1", 0));
}

#[test]
fn a_directory_without_manifests_is_a_warning() {
    let mut rig = Rig::new(&[]);
    assert!(rig.stores.complete());
    assert_eq!(rig.last.findings.len(), 1);
    assert!(rig.last.findings[0].to_string().starts_with("warning[no_manifests]"), "{}", rig.last.findings[0]);
    rig.write("a.yaml", &service("a", 1));
    rig.look(0);
    assert_eq!(rig.last.findings.len(), 0);
}

#[test]
fn an_edit_of_one_document_among_many_changes_that_object_alone() {
    let text =
        |edited: u16| (0..200).map(|number| service(&format!("s{number}"), if number == 7 { edited } else { 80 })).collect::<String>();
    let mut rig = Rig::new(&[("many.yaml", text(80))]);
    rig.write("many.yaml", &text(81));
    assert_eq!(rig.look(10), 1);
    assert!(rig.services().contains("s7:81"));

    // One in front of all of them moves every other, and changes none.
    rig.write("many.yaml", &(service("first", 80) + &text(81)));
    assert_eq!(rig.look(10), 1);
    rig.write("many.yaml", &text(81).replace(&service("s9", 80), ""));
    assert_eq!(rig.look(10), 2, "the first and s9 are gone");

    // Whose definition counts may have changed meanwhile.
    rig.remove("many.yaml");
    rig.look(10);
    rig.write("many.yaml", &text(81));
    assert_eq!(rig.look(10), 200);
}

#[test]
fn named_files_are_looked_at_alone_where_that_is_enough() {
    type Happened = fn(&Rig);
    // What happens to the named file, and whether it has to be left to a look at all of them.
    let cases: [(&str, Happened, &str, bool); 8] = [
        ("it is overwritten", |rig| rig.write("a.yaml", &service("a", 2)), "a:2 b:1", false),
        ("another takes its place", |rig| fs::rename(rig.elsewhere(&service("a", 2)), rig.path("a.yaml")).unwrap(), "a:2 b:1", false),
        ("it is malformed", |rig| rig.write("a.yaml", "kind: ["), "a:1 b:1", false),
        ("it is gone", |rig| rig.remove("a.yaml"), "a:1 b:2", true),
        ("a link takes its place", |rig| rig.replace_by(|path| symlink(rig.elsewhere(&service("a", 2)), path)), "a:2 b:2", true),
        ("a hard link takes its place", |rig| rig.replace_by(|path| fs::hard_link(rig.elsewhere(&service("a", 2)), path)), "a:2 b:2", true),
        ("a directory takes its place", |rig| rig.replace_by(|path| fs::create_dir(path)), "a:1 b:2", true),
        ("nothing", |_| {}, "a:1 b:1", false),
    ];
    for (label, happened, expected, all) in cases {
        let mut rig = Rig::new(&[("a.yaml", service("a", 1)), ("b.yaml", service("b", 1))]);
        happened(&rig);
        rig.write("b.yaml", &service("b", 2));
        rig.look_at(Some(&["a.yaml"]), 10);
        assert_eq!((rig.services().as_str(), rig.last.interest.is_some()), (expected, all), "{label}");
        rig.look(10);
        assert!(rig.services().ends_with("b:2"), "{label}: {}", rig.services());
    }
}

#[test]
fn a_file_of_two_names_is_never_looked_at_alone() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1))]);
    fs::hard_link(rig.path("a.yaml"), rig.path("b.yaml")).unwrap();
    rig.look(10);
    rig.remove("a.yaml");
    rig.write("a.yaml", &service("c", 1));
    rig.look_at(Some(&["a.yaml"]), 10);
    assert_eq!(rig.services(), "a:1 c:1", "b.yaml has what a.yaml had");
}

#[test]
fn entries_that_are_no_manifests_are_passed_over_unless_they_lead_to_some() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1))]);
    rig.write("notes", &service("b", 1));
    rig.look_at(Some(&["notes", "absent"]), 10);
    assert_eq!((rig.services().as_str(), rig.last.interest.is_some()), ("a:1", false));
    fs::create_dir(rig.path("sub")).unwrap();
    rig.look_at(Some(&["sub"]), 10);
    assert!(rig.last.interest.is_some());
}

#[test]
fn a_named_file_may_be_a_new_one_unless_its_directory_was_none_or_something_is_missing() {
    let mut rig = Rig::new(&[("a.yaml", service("a", 1))]);
    rig.write("b.yaml", &service("b", 1));
    rig.look_at(Some(&["b.yaml"]), 10);
    assert_eq!((rig.services().as_str(), rig.last.interest.is_some()), ("a:1 b:1", false));

    fs::create_dir(rig.path("sub")).unwrap();
    rig.write("sub/c.yaml", &service("c", 1));
    rig.look_at(Some(&["sub/c.yaml"]), 10);
    assert_eq!((rig.services().as_str(), rig.last.interest.is_some()), ("a:1 b:1 c:1", true));

    rig.remove("a.yaml");
    rig.look_at(Some(&["a.yaml"]), 10);
    rig.write("b.yaml", &service("b", 2));
    rig.look_at(Some(&["b.yaml"]), HOLD);
    assert_eq!((rig.services().as_str(), rig.last.interest.is_some()), ("b:2 c:1", true), "a is gone for good, which no event tells");

    let mut rig = Rig::new(&[]);
    rig.write("a.yaml", &service("a", 1));
    rig.look_at(Some(&["a.yaml"]), 10);
    assert_eq!((rig.services().as_str(), rig.findings().len()), ("a:1", 0), "the directory isn't empty any more");
}

#[test]
fn a_file_that_is_overwritten_while_it_is_read_gives_one_version_or_the_other() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("a.yaml");
    let versions = ["one\n".repeat(500), "another\n".repeat(300)];
    fs::write(&path, &versions[0]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in versions.iter().cycle().take_while(|_| !stop.load(Relaxed)) {
                fs::write(&path, version).unwrap();
            }
        });
        let texts: Vec<String> = (0..20_000).map(|_| read(&path).unwrap()).collect();
        stop.store(true, Relaxed);
        for text in texts.iter().filter(|text| !text.is_empty()) {
            assert!(versions.contains(text), "a mixture of {} bytes: {text}", text.len());
        }
    });
}
