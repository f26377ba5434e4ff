//! Keeps the layout that the design states: who may import whom, what is pure, how long files get, and that every limit is in use.
//! Each check is a function from sources to complaints, run on the tree, and on a bad sample that it has to complain about.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

use std::{fs, path::Path, sync::LazyLock};

use regex::Regex;

/// What each module at the top may import of ours: a module, or one of its parts. `app`, `main` and `lib` see everything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("certificate", &[]),
    ("route", &["certificate", "config::limits"]),
    ("message", &["config::limits"]),
    ("compile", &["certificate", "route", "message", "config::limits"]),
    ("table", &["route", "config::limits"]),
    ("config", &["message", "compile"]),
    ("source", &["route", "compile", "table", "config::limits", "config::StateDir"]),
    ("waiting", &[]),
    ("leader", &["source", "config::limits"]),
    ("convergence", &["source", "status", "waiting", "config::limits"]),
    ("event", &["compile", "source", "leader", "convergence", "status", "waiting", "config::limits"]),
    ("status", &["source", "leader", "waiting", "config::limits", "config::Address"]),
    ("metrics", &["route", "table", "compile", "source", "event", "config::limits"]),
    ("access_log", &["route", "config::limits"]),
    ("proxy", &["certificate", "route", "message", "table", "metrics", "access_log", "config::limits"]),
    ("handover", &["config::limits"]),
    (
        "admin",
        &[
            "route",
            "message",
            "compile",
            "table",
            "source",
            "metrics",
            "event",
            "proxy",
            "access_log",
            "config",
            "leader",
            "status",
            "convergence",
        ],
    ),
];
const SEES_EVERYTHING: &[&str] = &["app", "main", "lib"];

/// Modules without I/O, clock, environment, logging and asynchrony.
const PURE: &[&str] = &["certificate", "route", "message", "compile"];
const IMPURE_WORDS: &str = r"\b(tokio|tracing|hyper|hyper_util|socket2|std::(fs|env|io|process|thread)|SystemTime|Instant|TcpStream|TcpListener|UdpSocket|e?println|rand)\b";

/// Crates that only some modules may name: `route/path.rs` means that file, `route` the module.
const CRATES: &[(&str, &[&str])] = &[
    ("matchit", &["route/path.rs"]),
    ("k8s_openapi", &["compile", "source", "config", "app", "main", "leader", "convergence", "event", "status"]),
    ("kube", &["source", "app", "leader", "convergence", "event", "status"]),
    ("clap", &["config", "app", "main"]),
    ("prometheus_client", &["metrics"]),
    ("hickory_resolver", &["proxy"]),
    ("arc_swap", &["table"]),
    ("rustls", &["certificate", "proxy"]),
    ("x509_parser", &["certificate"]),
    ("rcgen", &["proxy/tls/own.rs"]),
    ("notify", &["source"]),
    ("serde_saphyr", &["source"]),
    ("anyhow", &["app", "main"]),
];

const CODE_LINES: usize = 300;
const FILE_LINES: usize = 500;
const OPENING_LINES: usize = 4;

#[test]
fn modules_import_only_what_the_design_allows() {
    assert_clean(&imports(&tree(&["src"])));
    for bad in [
        "use crate::compile::Diagnostic;",
        "use crate::{message, compile};",
        "use crate::{\n    message::{self, Path},\n    source::Report,\n};",
        "fn f() { crate::app::run() }",
        "use super::super::compile;",
        "use crate::config::Arguments;",
        "use crate::config::{limits, Arguments};",
    ] {
        assert_complains(&imports(&[Source::sample("src/proxy/handler.rs", bad)]), "src/proxy/handler.rs");
    }
    assert_complains(&imports(&[Source::sample("src/invented.rs", "")]), "invented");
    for good in [
        "use crate::{config::limits, table::Reader};",
        "use super::pool;",
        "/// [`crate::compile`]",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::compile;\n}",
    ] {
        assert_clean(&imports(&[Source::sample("src/proxy/handler.rs", good)]));
    }
}

#[test]
fn the_core_is_pure() {
    assert_clean(&purity(&tree(&["src"])));
    for bad in ["use std::fs;", "use tokio::net;", "let now = Instant::now();", "tracing::info!(\"x\");", "println!();"] {
        assert_complains(&purity(&[Source::sample("src/route/mod.rs", bad)]), "src/route/mod.rs");
    }
    assert_clean(&purity(&[Source::sample("src/route/mod.rs", "use std::net::IpAddr;\n// tokio would be wrong here")]));
}

#[test]
fn crates_stay_in_their_modules() {
    assert_clean(&crates(&tree(&["src"])));
    for bad in ["use kube::Client;", "use k8s_openapi::api;", "let r = matchit::Router::new();"] {
        assert_complains(&crates(&[Source::sample("src/proxy/mod.rs", bad)]), "src/proxy/mod.rs");
    }
    assert_complains(&crates(&[Source::sample("src/route/host.rs", "use matchit::Router;")]), "matchit");
}

#[test]
fn files_open_with_what_they_are_for() {
    assert_clean(&openings(&tree(&["src", "tests", "examples", "benches"])));
    assert_complains(&openings(&[Source::sample("src/a.rs", "use std::fmt;")]), "src/a.rs");
    assert_complains(&openings(&[Source::sample("src/a.rs", &"//! Long.\n".repeat(5))]), "src/a.rs");
}

#[test]
fn files_stay_short() {
    assert_clean(&lengths(&tree(&["src", "tests", "examples", "benches"])));
    assert_complains(&lengths(&[Source::sample("src/a.rs", &"x\n".repeat(301))]), "300 lines");
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(299), "x\n".repeat(150));
    assert_clean(&lengths(&[Source::sample("src/a.rs", &tested)]));
    assert_complains(&lengths(&[Source::sample("src/a.rs", &"#[cfg(test)]\nmod tests {\n}\n".repeat(200))]), "500 lines");
}

#[test]
fn every_limit_is_documented_and_in_use() {
    assert_clean(&limits(&tree(&["src"])));
    assert_complains(&limits_of("pub const SIZE: usize = 1;", "SIZE"), "no documentation");
    assert_complains(&limits_of("/// Bytes.\npub const SIZE: usize = 1;", "RESIZE"), "not used");
    assert_complains(&limits_of("/// Bytes.\npub const SIZE: usize = 1;\nLimits { size: SIZE }", ""), "not used");
    assert_clean(&limits_of("/// Bytes.\npub const SIZE: usize = 1;\nLimits { size: SIZE }", "limits.size"));
    assert_clean(&limits_of("/// Bytes.\npub const SIZE: usize = 1;", "limits::SIZE"));
}

#[test]
fn no_test_is_switched_off() {
    assert_clean(&ignored(&tree(&["src", "tests", "examples", "benches"])));
    assert_complains(&ignored(&[Source::sample("tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}")]), "tests/a.rs");
}

/// One Rust file.
struct Source {
    /// From the root of the checkout, such as `src/route/mod.rs`.
    path: String,
    text: String,
}

impl Source {
    fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// `route` of `src/route/mod.rs`, `app` of `src/app.rs`.
    fn module(&self) -> &str {
        let below = self.path.trim_start_matches("src/");
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    /// How many modules this one lies below the crate's root.
    fn depth(&self) -> usize {
        self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").split('/').count()
    }

    /// Without the test module at the end, which may use what it likes.
    fn untested(&self) -> &str {
        let is_tests = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        if is_tests { "" } else { self.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default() }
    }

    /// Without tests and comments.
    fn code(&self) -> String {
        let lines = self.untested().lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.map(|line| line.split(" // ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }
}

/// Every Rust file below these directories.
fn tree(directories: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending: Vec<_> = directories.iter().map(|directory| root.join(directory)).filter(|path| path.exists()).collect();
    let mut sources = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            sources.push(Source { path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text });
        }
    }
    assert!(!sources.is_empty(), "nothing below {directories:?}");
    sources
}

fn imports(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !SEES_EVERYTHING.contains(&source.module())) {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(module, _)| *module == source.module()) else {
            complaints.push(format!("{}: say in MAY_IMPORT what module {} may import", source.path, source.module()));
            continue;
        };
        for import in imported(source) {
            let own = import.split("::").next() == Some(source.module());
            let fits = |allowed: &&str| import == **allowed || import.starts_with(&format!("{allowed}::"));
            if !own && !allowed.iter().any(fits) {
                complaints.push(format!("{}: {} may not import crate::{import}", source.path, source.module()));
            }
        }
    }
    complaints
}

/// The paths below `crate` that a file names, `crate::{a, b::c}` taken apart, and those that it reaches with `super`.
fn imported(source: &Source) -> Vec<String> {
    static STEM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(crate::|(?:super::)+)").unwrap());
    let code = source.code();
    let mut found = Vec::new();
    for stem in STEM.find_iter(&code) {
        if stem.as_str().matches("super").count() < source.depth() && stem.as_str() != "crate::" {
            continue;
        }
        found.extend(paths(&code[stem.end()..]));
    }
    found
}

/// The paths that a text begins with: `a::b`, or of `a::{b, c::D}` each member behind its stem.
fn paths(text: &str) -> Vec<String> {
    let stem = path_of(text);
    let Some(group) = text[stem.len()..].trim_start_matches("::").strip_prefix('{') else {
        return vec![stem];
    };
    let join = |member: String| if stem.is_empty() { member } else { format!("{stem}::{member}") };
    members(group).into_iter().flat_map(paths).map(join).collect()
}

/// The leading `a::b::C` of a text.
fn path_of(text: &str) -> String {
    let end = text.find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':')).unwrap_or(text.len());
    text[..end].trim_end_matches(':').to_owned()
}

/// The members of a group whose `{` has been read, nested groups left whole.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                members.push(group[start..at].trim());
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    members.retain(|member| !member.is_empty());
    members
}

fn purity(sources: &[Source]) -> Vec<String> {
    let impure = Regex::new(IMPURE_WORDS).unwrap();
    let pure = sources.iter().filter(|source| PURE.contains(&source.module()));
    pure.flat_map(|source| {
        let code = source.code();
        let complain = |word: regex::Match<'_>| format!("{}: `{}` in a pure module", source.path, word.as_str());
        impure.find_iter(&code).map(complain).collect::<Vec<_>>()
    })
    .collect()
}

fn crates(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, allowed) in CRATES {
        let used = Regex::new(&format!(r"(?m)(^|[^:\w]){name}::|\buse {name}\b")).unwrap();
        for source in sources {
            let allowed = allowed.iter().any(|place| source.path == format!("src/{place}") || source.module() == *place);
            if !allowed && used.is_match(&source.code()) {
                complaints.push(format!("{}: names the crate {name}", source.path));
            }
        }
    }
    complaints
}

fn openings(sources: &[Source]) -> Vec<String> {
    let opening = |source: &Source| source.text.lines().take_while(|line| line.starts_with("//!")).count();
    // The crate's own page is longer: it is where a reader starts.
    let wrong = |source: &&Source| opening(source) == 0 || (opening(source) > OPENING_LINES && source.path != "src/lib.rs");
    let complain = |source: &Source| format!("{}: opens with {} lines of `//!`, not 1 to {OPENING_LINES}", source.path, opening(source));
    sources.iter().filter(wrong).map(complain).collect()
}

fn lengths(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let (code, all) = (source.untested().lines().count(), source.text.lines().count());
        if code > CODE_LINES && source.path.starts_with("src/") {
            complaints.push(format!("{}: {code} lines without tests; split it by responsibility below {CODE_LINES} lines", source.path));
        }
        if all > FILE_LINES {
            complaints.push(format!("{}: {all} lines; split it by responsibility below {FILE_LINES} lines", source.path));
        }
    }
    complaints
}

/// Every constant in `config/limits.rs` has a text, and is named in other code, itself or through the field that it is the default of.
fn limits(sources: &[Source]) -> Vec<String> {
    let limits: String =
        sources.iter().filter(|source| source.path.starts_with("src/config/limits")).map(|source| source.text.as_str()).collect();
    // A flag's value that goes as it is to whoever uses it has no field among the limits.
    let is_other = |source: &&Source| !source.path.starts_with("src/config/") || source.path == "src/config/args/state.rs";
    let others: String = sources.iter().filter(is_other).map(Source::code).collect();
    limits_of(&limits, &others)
}

fn limits_of(limits: &str, others: &str) -> Vec<String> {
    let names = |word: &str| Regex::new(&format!(r"\b{word}\b")).unwrap().is_match(others);
    let mut complaints = Vec::new();
    for (at, _) in limits.match_indices("pub const ") {
        let name = path_of(&limits[at + "pub const ".len()..]);
        if !limits[..at].trim_end().lines().last().is_some_and(|line| line.starts_with("///")) {
            complaints.push(format!("{name}: no documentation"));
        }
        let field = Regex::new(&format!(r"(\w+): {name}\b")).unwrap();
        let through_field = field.captures(limits).is_some_and(|found| names(&found[1]));
        if !names(&name) && !through_field {
            complaints.push(format!("{name}: not used"));
        }
    }
    complaints
}

fn ignored(sources: &[Source]) -> Vec<String> {
    let marked = |source: &&Source| source.text.lines().any(|line| line.trim_start().starts_with("#[ignore"));
    sources.iter().filter(marked).map(|source| format!("{}: a test is switched off", source.path)).collect()
}

#[track_caller]
fn assert_clean(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[track_caller]
fn assert_complains(complaints: &[String], about: &str) {
    assert!(complaints.iter().any(|complaint| complaint.contains(about)), "no complaint about {about}: {complaints:?}");
}
