//! How often the files are looked at, with the kernel's own events.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use k8s_openapi::api::core::v1::Service;

use crate::{
    compile::{Delta, Edit},
    source::shared::Work,
};

/// The Service that a change brings, and the change.
type Step = (&'static str, fn(&Path));

/// Looks until the store holds a Service of that name. Returns how many looks that took, and how many events.
async fn looks_until(watcher: &mut Watcher, shared: &Shared, service: &str, mut pause: Pause) -> (usize, u64) {
    let mut events = 0;
    for looks in 1.. {
        watcher.wait(pause).await;
        events += watcher.events;
        pause = watcher.look(shared).await.unwrap();
        let delta = if let Some(Work::Rebuild(inputs)) = shared.take() { inputs.delta } else { Delta::default() };
        let is_it = |edit: &Edit<Service>| if let Edit::Put(one) = edit { one.metadata.name.as_deref() == Some(service) } else { false };
        if delta.services.iter().any(is_it) {
            return (looks, events);
        }
    }
    unreachable!("counted to the end of numbers");
}

/// The first look, and those that follow since there was something new to watch.
async fn settled(watcher: &mut Watcher, shared: &Shared) -> Pause {
    loop {
        let pause = watcher.look(shared).await.unwrap();
        if !pause.again {
            return pause;
        }
    }
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 127.43.0.1, ports: [{{port: 80}}]}}\n")
}

#[tokio::test]
async fn a_busy_file_beside_a_manifest_causes_no_look() {
    let base = tempfile::tempdir().unwrap();
    let manifest = base.path().join("site.yaml");
    fs::write(&manifest, service("one")).unwrap();
    // Names that would count in a directory of manifests, and one that never does.
    for name in ["access.json", "access", "access.log"] {
        let mut watcher = Watcher::new(Files::open(vec![manifest.clone()]).unwrap(), Instant::now());
        let shared = Shared::new(Stores::new(lists()));
        let pause = settled(&mut watcher, &shared).await;
        for _ in 0..1_000 {
            fs::write(base.path().join(name), "line\n").unwrap();
        }
        let changed = format!("after-{name}");
        fs::write(&manifest, service(&changed)).unwrap();
        // The kernel tells events in order, so all of the log's were seen before the edit's, of which there are three: emptied, written, closed.
        let (looks, events) = looks_until(&mut watcher, &shared, &changed, pause).await;
        assert!(looks == 1 && events <= 3, "{name}: {looks} looks, {events} events");
    }
}

#[tokio::test]
async fn a_storm_beside_a_manifest_hides_no_edit_replacement_or_swapped_link() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().to_owned();
    fs::write(path.join("v1"), service("one")).unwrap();
    fs::write(path.join("v2"), service("two")).unwrap();
    std::os::unix::fs::symlink("v1", path.join("site.yaml")).unwrap();
    let mut watcher = Watcher::new(Files::open(vec![path.join("site.yaml")]).unwrap(), Instant::now());
    let shared = Shared::new(Stores::new(lists()));
    let mut pause = settled(&mut watcher, &shared).await;

    let over = std::sync::Arc::new(AtomicBool::new(false));
    let (told, log) = (std::sync::Arc::clone(&over), path.join("access.json"));
    let storm = std::thread::spawn(move || {
        let mut written = 0;
        while !told.load(Ordering::Relaxed) {
            fs::write(&log, "line\n").unwrap();
            written += 1;
        }
        written
    });
    let steps: [Step; 3] = [
        ("two", |path| {
            std::os::unix::fs::symlink("v2", path.join("next")).unwrap();
            fs::rename(path.join("next"), path.join("site.yaml")).unwrap();
        }),
        ("three", |path| fs::write(path.join("v2"), service("three")).unwrap()),
        ("four", |path| {
            fs::write(path.join("tmp"), service("four")).unwrap();
            fs::rename(path.join("tmp"), path.join("site.yaml")).unwrap();
        }),
    ];
    let mut looks = 0;
    for (name, step) in steps {
        step(&path);
        looks += looks_until(&mut watcher, &shared, name, pause).await.0;
        pause = settled(&mut watcher, &shared).await;
    }
    over.store(true, Ordering::Relaxed);
    let written = storm.join().unwrap();
    assert!(looks <= 2 * steps.len(), "{looks} looks for {} changes, among {written} writes", steps.len());
}

#[tokio::test]
async fn the_kernel_names_what_is_looked_at_and_the_look_at_all_comes_all_the_same() {
    let base = tempfile::tempdir().unwrap();
    let named = base.path().join("named.yaml");
    fs::write(&named, service("one")).unwrap();
    let mut watcher = Watcher::new(Files::open(vec![base.path().to_owned()]).unwrap(), Instant::now());
    let shared = Shared::new(Stores::new(lists()));
    let pause = settled(&mut watcher, &shared).await;
    let due = watcher.poll;

    fs::write(&named, service("two")).unwrap();
    let (looks, _) = looks_until(&mut watcher, &shared, "two", pause).await;
    assert_eq!((looks, watcher.poll), (1, due), "a look at the named file alone puts no other off");

    // As it would be if the kernel named that file without a pause.
    for (due, all) in [(Instant::now() + MANIFEST_POLL, false), (Instant::now(), true)] {
        (watcher.named, watcher.poll) = (Some([fs::canonicalize(&named).unwrap()].into()), due);
        watcher.look(&shared).await.unwrap();
        assert_eq!(watcher.poll != due, all);
    }

    // An edit behind a poll is looked at at once.
    watcher.events = 0;
    let pause = watcher.look(&shared).await.unwrap();
    assert!(pause.earliest <= Instant::now());
}

#[tokio::test]
async fn a_manifest_that_is_replaced_is_looked_at_alone_and_a_hidden_one_not_at_all() {
    let steps: [Step; 4] = [
        ("visible", |path| {
            fs::write(path.join("next"), service("visible")).unwrap();
            fs::rename(path.join("next"), path.join("site.yaml")).unwrap();
        }),
        ("hidden", |path| {
            fs::write(path.join(".site.yaml.tmp"), service("hidden")).unwrap();
            fs::rename(path.join(".site.yaml.tmp"), path.join("site.yaml")).unwrap();
        }),
        ("aside", |path| {
            fs::rename(path.join("site.yaml"), path.join(".site.yaml")).unwrap();
            fs::write(path.join("site.yaml"), service("aside")).unwrap();
        }),
        ("draft", |path| {
            fs::write(path.join(".next.yaml"), service("draft")).unwrap();
            fs::rename(path.join(".next.yaml"), path.join("site.yaml")).unwrap();
            fs::write(path.join(".next.yaml"), service("unfinished")).unwrap();
        }),
    ];
    for (name, step) in steps {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("site.yaml"), service("one")).unwrap();
        let mut watcher = Watcher::new(Files::open(vec![base.path().to_owned()]).unwrap(), Instant::now());
        let shared = Shared::new(Stores::new(lists()));
        let pause = settled(&mut watcher, &shared).await;
        let due = watcher.poll;
        step(base.path());
        let (looks, _) = looks_until(&mut watcher, &shared, name, pause).await;
        assert_eq!((looks, watcher.poll), (1, due), "{name}");
        let known = watcher.state.refresh(&[base.path().to_owned()], None, Instant::now());
        assert!(known.changes.is_empty(), "{name}: a look at all finds something else: {:?}", known.changes);
    }
}
