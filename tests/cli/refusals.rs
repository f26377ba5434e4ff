//! What a command line or a machine doesn't let it do: one line says so, and the exit code is 2.

use super::*;

#[test]
fn usage_errors_are_one_line_and_exit_2() {
    for (arguments, expected) in [
        (&[][..], "requires a subcommand"),
        (&["sevre"], "a similar subcommand exists: 'serve'"),
        (&["serve", "--htpp", "127.0.0.1:0"], "unexpected argument '--htpp' found; tip: a similar argument exists: '--http'"),
        (&["serve", "--http", "localhost"], "invalid value 'localhost' for '--http <ADDR>'"),
        (&["serve", "--connect-timeout", "3"], "the unit must be one of ms, s, m, h"),
        (&["serve", "--trusted-proxies", "cloudfare"], "invalid value for '--trusted-proxies'"),
        (&["serve", "--standby"], "'--standby': needs --state-dir"),
        (&["serve", "--standby", "--state-dir", "/s", "--handover", "off"], "'--standby': needs --handover"),
        (&["serve", "--standby", "--state-dir", "/s", "--admin", "127.0.0.1:0"], "'--standby': looks at the address of --admin"),
        (&["serve", "--standby", "--state-dir", "/s", "--after-handover", "wait"], "'--standby': can't be used with --after-handover wait"),
        (&["check"], "check needs --manifests PATH or --cluster"),
        (&["routes", "--manifests", "a", "--admin", "http://b"], "can't be used together"),
        (&["explain"], "<URL>"),
        (&["wait", "--ingress", "a/b", "--timeout", "25h"], "invalid value for '--timeout': must be more than 0, and not more than 24h"),
        (&["wait", "--ingress", "a/b"], "no cluster to reach"),
        (&["explain", "ftp://a/", "--manifests", "/"], "scheme must be http or https"),
    ] {
        assert_refused(&run(arguments), expected);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (arguments, expected) in [
        (&["--help"][..], "explain"),
        (&["serve", "--help"], "NODEGATE_KEEP_ALIVE_TIMEOUT"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["version"], concat!("nodegate ", env!("CARGO_PKG_VERSION"), "\n")),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains(expected), "{arguments:?}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn every_flag_reads_the_environment() {
    for (variable, value, expected) in [
        ("NODEGATE_HTTP", "nonsense", "--http"),
        ("NODEGATE_WORKERS", "0", "--workers"),
        ("NODEGATE_ADOPT_CLASSLESS", "perhaps", "--adopt-classless"),
        ("NODEGATE_DRAIN_TIMEOUT", "soon", "--drain-timeout"),
        ("NODEGATE_MANIFESTS", "/nonexistent/a,/nonexistent/b", "/nonexistent/a"),
    ] {
        assert_refused(&nodegate(&["serve"]).env(variable, value).output().unwrap(), expected);
    }
}

#[test]
fn what_is_written_wins_over_the_environment() {
    let directory = manifests(nobody(), "");
    let routes =
        |command: &mut Command| command.env("NODEGATE_ADMIN", "127.0.0.1:1").env("NODEGATE_MANIFESTS", "/nonexistent").output().unwrap();
    let written = routes(&mut nodegate(&["routes", "--manifests", utf8(directory.path())]));
    assert_eq!(written.status.code(), Some(0), "{}", text(&written.stderr));
    // Neither is written: the running proxy is asked.
    assert_refused(&routes(&mut nodegate(&["routes"])), "can't ask 127.0.0.1:1");
}

#[test]
fn missing_manifests_are_one_line_and_exit_2() {
    let missing = ["--manifests", "/nonexistent/shop.yaml"];
    for command in [&["serve"][..], &["check"], &["routes"], &["explain", "http://a/"]] {
        assert_refused(&run(&[command, &missing].concat()), "/nonexistent/shop.yaml");
    }
}

#[test]
fn no_cluster_is_one_line_and_exit_2() {
    for command in [&["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"][..], &["check", "--cluster"]] {
        assert_refused(&run(command), "cluster");
        assert_refused(&nodegate(command).env("KUBECONFIG", "/nonexistent/config").output().unwrap(), "cluster");
    }
}

#[test]
fn port_in_use_is_one_line_and_exit_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let directory = manifests(nobody(), "");
    let path = utf8(directory.path());
    for (http, admin, metrics) in
        [(taken.as_str(), "127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:0", &taken, "127.0.0.1:0"), ("127.0.0.1:0", "127.0.0.1:0", &taken)]
    {
        let output = run(&["serve", "--manifests", path, "--http", http, "--admin", admin, "--metrics", metrics]);
        let name = if http == taken {
            "http"
        } else if admin == taken {
            "admin"
        } else {
            "metrics"
        };
        assert_refused_after_log(&output, &[name, &taken, "in use"]);
    }
}

#[test]
fn second_nodegate_on_the_same_port_is_refused() {
    let directory = manifests(nobody(), "");
    let first = Serving::start(&["--manifests", utf8(directory.path())]).ready();
    let http = first.http.to_string();
    let output = run(&["serve", "--manifests", utf8(directory.path()), "--http", &http, "--admin", "127.0.0.1:0"]);
    assert_refused_after_log(&output, &["http", &http, "in use"]);
}

#[test]
fn access_log_that_cant_be_opened_is_one_line_and_exit_2() {
    let directory = manifests(nobody(), "");
    let output = run(&[
        "serve",
        "--manifests",
        utf8(directory.path()),
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--access-log",
        "/nonexistent/access.log",
    ]);
    assert_refused_after_log(&output, &["can't open the access log /nonexistent/access.log"]);
}

/// As [`assert_refused`], for errors that come after logging has begun: every other line is a line of the log, and none says that anything listens.
fn assert_refused_after_log(output: &Output, expected: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    let (log, lines): (Vec<&str>, Vec<&str>) = error.lines().partition(|line| line.starts_with('{'));
    assert_eq!(lines.len(), 1, "{error}");
    assert!(!log.iter().any(|line| line.contains("\"listening\"")), "{error}");
    for part in expected {
        assert!(lines[0].starts_with("nodegate: ") && lines[0].contains(part), "got: {error}want: {part}");
    }
}
