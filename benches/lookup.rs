//! The cost of a lookup must not grow with the number of hosts; and how long ten thousand Ingresses take to compile.

#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "its objects are well-formed, and criterion's macros bring functions without documentation"
)]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use nodegate::compile::{Objects, Options, compile};
use serde_json::json;

/// The binary's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `hosts` Ingresses, each with a host of its own, three prefixes and an exact path, to one of a hundred Services.
fn objects(hosts: usize) -> Objects {
    let path = |kind: &str, path: &str, service: usize| json!({"path": path, "pathType": kind, "backend": {"service": {"name": format!("service-{service}"), "port": {"number": 80}}}});
    let ingress = |number: usize| {
        let service = number % 100;
        let paths = [
            path("Prefix", "/", service),
            path("Prefix", "/api", service),
            path("Prefix", "/api/v2", service),
            path("Exact", "/health", service),
        ];
        let host = format!("host-{number}.example.com");
        json!({
            "metadata": {"namespace": "shop", "name": format!("ingress-{number}"), "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"ingressClassName": "nodegate", "rules": [{"host": host, "http": {"paths": paths}}]},
        })
    };
    let service = |number: usize| {
        json!({
            "metadata": {"namespace": "shop", "name": format!("service-{number}")},
            "spec": {"clusterIP": format!("10.43.1.{number}"), "ports": [{"port": 80, "name": "http"}]},
        })
    };
    let typed = "the objects above are well-formed";
    Objects {
        ingresses: (0..hosts).map(|number| Arc::new(serde_json::from_value(ingress(number)).expect(typed))).collect(),
        services: (0..100).map(|number| Arc::new(serde_json::from_value(service(number)).expect(typed))).collect(),
        ..Objects::default()
    }
}

fn lookup(criterion: &mut Criterion) {
    for hosts in [10, 10_000] {
        let table = compile(&objects(hosts), &Options::default()).snapshot;
        // Ten hosts, spread over all there are: with more, what is measured is how many tables fit into the processor's caches.
        let hosts_asked: Vec<String> = (0..10).map(|index| format!("host-{}.example.com", index * hosts / 10)).collect();
        let paths = ["/", "/health", "/api/v2/users/7", "/static/app.js"];
        criterion.bench_function(&format!("lookup/{hosts}_hosts"), |bencher| {
            bencher.iter(|| {
                for host in &hosts_asked {
                    for path in paths {
                        black_box(table.find(black_box(host), black_box(path)));
                    }
                }
            });
        });
    }
}

fn compile_all(criterion: &mut Criterion) {
    let objects = objects(10_000);
    let options = Options::default();
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    group.bench_function("10000_ingresses", |bencher| bencher.iter(|| compile(black_box(&objects), &options)));
    let (one, other) = (compile(&objects, &options).snapshot, compile(&objects, &options).snapshot);
    group.bench_function("10000_ingresses_compared", |bencher| bencher.iter(|| black_box(&one) == black_box(&other)));
    group.finish();
}

criterion_group!(benches, lookup, compile_all);
criterion_main!(benches);
