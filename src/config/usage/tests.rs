//! What command lines come to. The environment is tested with the binary (`tests/cli/refusals.rs`), since it belongs to the whole process.

use super::*;
use crate::config::{AccessLog, ServeSettings, args::Form};

fn read(line: &str) -> Result<Invocation, String> {
    parse(std::iter::once("nodegate").chain(line.split_whitespace()).map(OsString::from))
}

fn serve(line: &str) -> Result<ServeSettings, String> {
    match read(line)? {
        Invocation::Run(Command::Serve(args)) => ServeSettings::try_from(*args).map_err(|error| error.to_string()),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn every_long_flag_reads_its_variable() {
    for subcommand in Arguments::command().get_subcommands() {
        for argument in subcommand.get_arguments() {
            let Some(long) = argument.get_long().filter(|long| !["help", "version", "cluster"].contains(long)) else { continue };
            let expected = format!("NODEGATE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "{} --{long}", subcommand.get_name());
        }
    }
}

#[test]
fn wrong_lines_are_one_clear_line() {
    for (line, expected) in [
        ("", "'nodegate' requires a subcommand but one was not provided"),
        ("sreve", "unrecognized subcommand 'sreve'; tip: a similar subcommand exists: 'serve'"),
        ("serve --htpp 127.0.0.1:0", "unexpected argument '--htpp' found; tip: a similar argument exists: '--http'"),
        ("serve --http nonsense", "invalid value 'nonsense' for '--http <ADDR>': invalid socket address syntax"),
        ("serve --workers 0", "invalid value '0' for '--workers <N>': number would be zero for non-zero type"),
        ("serve --keep-alive-timeout 75", "the unit must be one of ms, s, m, h, as in 75s, 500ms or 2m"),
        ("serve --keep-alive-timeout 0s", "invalid value for '--keep-alive-timeout': must be more than 0"),
        ("serve --request-head-bytes 100", "invalid value for '--request-head-bytes': must be from 8192 to 1048576"),
        ("serve --log-level nodegate=loud", "invalid value for '--log-level'"),
        ("serve --trusted-proxies clouflare", "invalid value for '--trusted-proxies'"),
        ("serve --cloudflare-ranges 10.0.0.0/33", "for '--cloudflare-ranges <CIDR>'"),
        ("serve --host-ownership mine", "invalid value 'mine' for '--host-ownership <HOW>'; [possible values: shared, namespace]"),
        ("serve --handover a/b", "invalid value for '--handover': expected auto, on, off, or a name"),
        ("serve --after-handover leave", "invalid value 'leave' for '--after-handover <HOW>'; [possible values: wait, exit]"),
        ("serve --https 0.0.0.0:80", "invalid value for '--https': 0.0.0.0:80 is an address for --http, too"),
        ("serve --tls-min-version 1.1", "invalid value '1.1' for '--tls-min-version <VERSION>'; [possible values: 1.2, 1.3]"),
        ("serve --default-certificate cert", "expected the Secret's namespace and name, as in shop/certificate"),
        ("serve --default-certificate a/b --watch-namespace c", "the namespace a isn't watched"),
        ("wait", "the following required arguments were not provided: --ingress <NS/NAME>"),
        ("wait --ingress web", "expected the Ingress's namespace and name, as in shop/web"),
        ("check", "check needs --manifests PATH or --cluster"),
        ("check --manifests a --cluster", "--manifests and --cluster can't be used together"),
        ("routes", "routes needs --manifests PATH or --admin URL"),
        ("routes --manifests a --admin b", "--manifests and --admin can't be used together"),
        ("explain --manifests a", "the following required arguments were not provided: <URL>"),
        ("explain http://a/", "explain needs --manifests PATH or --admin URL"),
    ] {
        let error = if line.starts_with("serve") { serve(line).map(|_| ()) } else { read(line).map(|_| ()) }.unwrap_err();
        assert!(error.contains(expected), "{line}\n got: {error}\nwant: {expected}");
        assert!(!error.contains('\n') && !error.contains("Usage"), "{error}");
    }
}

#[test]
fn serve_without_flags_has_the_documented_defaults() {
    let settings = serve("serve").unwrap();
    assert!(settings.manifests.is_empty() && settings.compile.watch_namespaces.is_empty());
    assert_eq!(settings.http.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:80", "[::]:80"]);
    assert!(settings.http_is_default);
    assert_eq!(settings.admin.to_string(), "127.0.0.1:9080");
    assert_eq!(settings.handover.name.as_deref(), Some("127.0.0.1:9080"));
    assert_eq!((settings.metrics, settings.access_log), (None, AccessLog::Stdout));
    assert_eq!(settings.limits, crate::config::limits::Limits::default());
    assert!(settings.allow_peers.is_none());
    assert!(settings.server_header);
    assert!(settings.workers >= 1);
    assert_eq!(settings.compile.class_names, ["nodegate"]);
    assert_eq!(settings.compile.controllers, ["nodegate.dev/ingress-controller"]);
    assert!(settings.compile.endpoints_authoritative, "a cluster's EndpointSlices are all there are");
}

#[test]
fn serve_takes_every_flag() {
    let settings = serve(
        "serve --manifests a --manifests b,c --http 127.0.0.1:8080 --http [::1]:8080 --admin 127.0.0.1:0 --metrics 0.0.0.0:9100 --handover edge --after-handover exit --workers 3 \
         --ingress-class x --controller traefik.io/ingress-controller,k8s.io/ingress-nginx --watch-namespace n --adopt-classless \
         --host-ownership namespace --allow-unsafe-external --trusted-proxies 10.0.0.0/8,cloudflare --allow-peers cloudflare \
         --cloudflare-ranges 192.0.2.0/24 --no-server-header --access-log /tmp/x.log --log-level info,nodegate=debug --drain-timeout 0s \
         --keep-alive-timeout 5m --connect-timeout 500ms --max-connections 10 --body-min-rate 0",
    )
    .unwrap();
    assert_eq!(settings.manifests, ["a", "b", "c"].map(std::path::PathBuf::from));
    assert_eq!(settings.http.len(), 2);
    assert!(!settings.http_is_default);
    assert_eq!(settings.workers, 3);
    assert_eq!(
        settings.handover,
        crate::config::Handover { name: Some("edge".into()), standby: None, after: crate::config::AfterHandover::Exit }
    );
    assert_eq!(settings.compile.controllers, ["traefik.io/ingress-controller", "k8s.io/ingress-nginx"]);
    assert_eq!(settings.compile.class_names, ["x"], "a flag replaces the default");
    assert_eq!(settings.compile.watch_namespaces, ["n"]);
    assert!(settings.compile.adopt_classless && settings.compile.allow_unsafe_external);
    assert_eq!(settings.compile.host_ownership, crate::compile::HostOwnership::Namespace);
    assert!(!settings.compile.endpoints_authoritative, "manifests may not name any");
    assert!(settings.allow_peers.is_some() && !settings.server_header);
    assert_eq!(settings.access_log, AccessLog::File("/tmp/x.log".into()));
    let limits = &settings.limits;
    assert_eq!(
        (limits.drain_timeout.as_millis(), limits.keep_alive_timeout.as_secs(), limits.connect_timeout.as_millis(), limits.max_connections),
        (0, 300, 500, 10)
    );
    assert_eq!(settings.shown["limits"]["keep-alive-timeout"], "5m");
    assert_eq!(settings.shown["trusted-proxies"], serde_json::json!(["10.0.0.0/8", "cloudflare"]));
}

/// Whether `nodegate.dev/ssl-redirect` can be in force, and whether somebody should know that it might have no end.
#[test]
fn what_can_count_as_https_follows_from_who_listens_and_who_is_believed() {
    use crate::compile::Https::{Never, PassedOn, Possible};
    for (line, https) in [
        ("serve", Never),
        ("serve --trusted-proxies none", Never),
        ("serve --proxy-protocol 10.0.0.0/8", Never),
        ("serve --trusted-proxies cloudflare", Possible),
        ("serve --https 127.0.0.1:0", Possible),
        ("serve --https 127.0.0.1:0 --proxy-protocol none", Possible),
        ("serve --https 127.0.0.1:0 --proxy-protocol 10.0.0.0/8", PassedOn),
        ("serve --trusted-proxies cloudflare --proxy-protocol 10.0.0.0/8", PassedOn),
    ] {
        assert_eq!(serve(line).unwrap().compile.https, https, "{line}");
    }
}

#[test]
fn every_flag_of_serve_is_shown_in_config() {
    let settings = serve("serve").unwrap();
    let command = Arguments::command();
    let serve = command.find_subcommand("serve").unwrap();
    for long in serve.get_arguments().filter_map(clap::Arg::get_long).filter(|long| *long != "help") {
        let groups = [&settings.shown, &settings.shown["limits"], &settings.shown["cluster"]];
        assert!(groups.iter().any(|group| group.get(long).is_some()), "--{long}");
    }
}

#[test]
fn help_and_version_are_texts_and_no_errors() {
    for (line, expected) in [("--help", "explain"), ("serve --help", "--keep-alive-timeout"), ("--version", env!("CARGO_PKG_VERSION"))] {
        match read(line).unwrap() {
            Invocation::Print(text) => assert!(text.contains(expected), "{line}: {text}"),
            other @ Invocation::Run(_) => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn looking_commands_take_their_place_and_form() {
    match read("routes --admin http://127.0.0.1:9080 --output json").unwrap() {
        Invocation::Run(Command::Routes(routes)) => {
            assert_eq!((routes.source.admin.as_deref(), routes.output), (Some("http://127.0.0.1:9080"), Form::Json));
        }
        other => panic!("{other:?}"),
    }
    match read("ready").unwrap() {
        Invocation::Run(Command::Ready(ready)) => assert_eq!(ready.admin, "127.0.0.1:9080", "where serve answers by default"),
        other => panic!("{other:?}"),
    }
    match read("explain http://a/b --method POST --header X:1 --header Y:2 --manifests m").unwrap() {
        Invocation::Run(Command::Explain(explain)) => {
            assert_eq!((explain.url.as_str(), explain.method.as_str(), explain.header.len()), ("http://a/b", "POST", 2));
            assert_eq!(explain.source.manifests, [std::path::PathBuf::from("m")]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_are_joined_readably() {
    for (text, expected) in [("a\n\n  b\n", "a; b"), ("missing:\n  x", "missing: x"), ("", ""), ("one", "one")] {
        assert_eq!(one_line(text), expected);
    }
}
