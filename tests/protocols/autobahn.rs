//! Autobahn's WebSocket suite: the same verdicts through the proxy, with TLS and without, as without a proxy.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    built::made_by,
    support::{PATIENCE, Proxy, within},
};

/// All of the suite's chapters but those about compression.
const CHAPTERS: [&str; 9] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];
/// The chapters about compression have 216 cases, which differ in what is compressed, with what parameters and in messages of what size, and take six
/// minutes. The proxy never looks into a message: of 18 sizes, 16 and 1024 bytes stand for all.
const COMPRESSION: [(u32, u32); 2] = [(12, 5), (13, 7)];
const SIZES: [u32; 2] = [1, 4];
/// How many cases those are.
const CASES: usize = 325;

/// How long one run of the suite may take: three run here at a time, half a minute on an idle machine with two cores.
const RUN: Duration = Duration::from_mins(5);

/// How many reports a failure shows in full.
const SHOWN: usize = 3;

/// The suite's own programs. Dropping it ends them.
struct Program(Child);

impl Program {
    fn start(python: &Path, arguments: &[&str], stdout: Stdio, log: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocols/autobahn/wstest.py");
        // Of things that Python will drop one day the suite is full.
        let mut command = Command::new(python);
        command.args(["-W", "ignore"]).arg(script).args(arguments).stdin(Stdio::null()).stdout(stdout);
        Self(command.stderr(File::create(log).unwrap()).spawn().unwrap_or_else(|error| panic!("{}: {error}", python.display())))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The WebSocket server with which Autobahn tests itself: it sends every message back.
fn echo(python: &Path, directory: &Path) -> (Program, SocketAddr) {
    let log = directory.join("echo.log");
    let mut program = Program::start(python, &["echo"], Stdio::piped(), &log);
    let output = program.0.stdout.take().unwrap();
    let port = first_line(output).unwrap_or_else(|| panic!("the echo server named no port within {PATIENCE:?}: {}", read(&log)));
    (program, SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
}

fn first_line(output: ChildStdout) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    // It waits for as long as the program lives, where nothing comes.
    thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    receiver.recv_timeout(PATIENCE).ok()
}

/// What the suite found at a URL.
struct Verdicts {
    label: &'static str,
    reports: PathBuf,
    /// By case.
    cases: Map<String, Value>,
}

impl Verdicts {
    fn find(python: &Path, directory: &Path, label: &'static str, url: &str) -> Self {
        let file = |name: &str| directory.join(format!("{label}-{name}"));
        let (reports, log, spec) = (file("reports"), file("log"), file("spec.json"));
        let sizes = |chapter: u32, section: u32| SIZES.map(|size| format!("{chapter}.{section}.{size}"));
        let compression = COMPRESSION.into_iter().flat_map(|(chapter, last)| (1..=last).flat_map(move |section| sizes(chapter, section)));
        let cases: Vec<String> = CHAPTERS.into_iter().map(str::to_owned).chain(compression).collect();
        let text = json!({ "outdir": reports, "servers": [{ "agent": label, "url": url }], "cases": cases });
        fs::write(&spec, text.to_string()).unwrap();
        let output = File::create(file("output")).unwrap();
        let mut program = Program::start(python, &["spec", spec.to_str().unwrap()], output.into(), &log);
        let status = within(RUN, &format!("the suite's run {label}: {}", file("output").display()), || program.0.try_wait().unwrap());
        let complete = status.success().then(|| fs::read(reports.join("index.json")).ok()).flatten();
        let index = complete.unwrap_or_else(|| panic!("{label}: the suite ended with {status}, and no report: {}", read(&log)));
        let mut index: Value = serde_json::from_slice(&index).unwrap();
        let Value::Object(mut cases) = index[label].take() else {
            panic!("{label}: the suite has run no case at {url}: {}", read(&file("output")))
        };
        for verdict in cases.values_mut() {
            verdict.as_object_mut().unwrap().remove("duration");
        }
        Self { label, reports, cases }
    }

    /// The suite's own report about a case.
    fn report(&self, case: &str) -> String {
        let name = self.cases.get(case).map_or("missing", |verdict| verdict["reportfile"].as_str().unwrap());
        read(&self.reports.join(name))
    }
}

#[test]
fn autobahn_finds_what_it_finds_without_a_proxy() {
    let python = made_by("tests/protocols/autobahn/install.sh", &[]);
    let directory = tempfile::tempdir().unwrap();
    let (_echo, backend) = echo(&python, directory.path());
    let proxy = Proxy::to_with(backend, |settings| settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))]);
    let [http, https] = proxy.addresses[..] else { panic!("{:?}", proxy.addresses) };
    let run = |label, url: String| Verdicts::find(&python, directory.path(), label, &url);
    // Most of the time is spent in waiting, for what mustn't come.
    let (direct, proxied) = thread::scope(|scope| {
        let plain = scope.spawn(|| run("proxied", format!("ws://{http}")));
        let secured = scope.spawn(|| run("secured", format!("wss://{https}")));
        (run("direct", format!("ws://{backend}")), [plain.join().unwrap(), secured.join().unwrap()])
    });
    assert_eq!(direct.cases.len(), CASES, "cases that were run without a proxy");
    // Where Autobahn fails by itself, nothing could be seen of what the proxy does.
    let acceptable = |verdict: &Value| ["OK", "INFORMATIONAL"].iter().any(|word| verdict["behavior"] == *word);
    let failed: Vec<_> = direct.cases.iter().filter(|(_, verdict)| !acceptable(verdict)).collect();
    assert!(failed.is_empty(), "without a proxy: {failed:#?}");
    for through in proxied {
        let differing = differing(&direct, &through);
        assert!(differing.is_empty(), "{}:\n{differing}", through.label);
    }
}

/// The cases that came out otherwise, and what the suite says of them.
fn differing(direct: &Verdicts, through: &Verdicts) -> String {
    let mut text = String::new();
    let verdict = |verdicts: &Verdicts, case: &str| {
        let mut verdict = verdicts.cases.get(case).cloned().unwrap_or_default();
        // Its name has the label in it.
        verdict.as_object_mut().map(|verdict| verdict.remove("reportfile"));
        verdict
    };
    let every = direct.cases.keys().chain(through.cases.keys().filter(|case| !direct.cases.contains_key(*case)));
    let cases: Vec<&String> = every.filter(|case| verdict(direct, case) != verdict(through, case)).collect();
    for case in &cases {
        writeln!(text, "{case}: {} without a proxy, {} through it", verdict(direct, case), verdict(through, case)).unwrap();
    }
    for case in cases.iter().take(SHOWN) {
        writeln!(text, "{case} without a proxy: {}\n{case} through it: {}", direct.report(case), through.report(case)).unwrap();
    }
    text
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}
