//! The commands that only look: `check`, `routes`, `explain`.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Context;

use super::print;
use crate::{
    admin::{self, Question, client},
    compile::{self, Compiled, Diagnostic, Objects, Severity},
    config::{
        args::{CheckArgs, ExplainArgs, Form, ReadyArgs, RoutesArgs, TableArgs},
        options,
    },
    source,
};

/// `nodegate check`: exit 1 if any finding is an error.
pub(super) async fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let CheckArgs { manifests, cluster, table } = args;
    let (objects, found) =
        if cluster { source::list_cluster(None, table.watch_namespace.clone()).await? } else { source::load(&manifests)? };
    let ingresses = objects.ingresses.len();
    let Compiled { snapshot: _, diagnostics, .. } = compiled(&objects, &table, cluster, found);
    let mut text = String::new();
    for diagnostic in &diagnostics {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{diagnostic}");
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let warnings = diagnostics.len() - errors;
    let _ = writeln!(
        text,
        "{}, {}, {}",
        count(ingresses, "Ingress", "Ingresses"),
        count(errors, "error", "errors"),
        count(warnings, "warning", "warnings")
    );
    print(&text)?;
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// `nodegate routes`: the text is that of `/routes`.
pub(super) async fn routes(args: RoutesArgs) -> anyhow::Result<ExitCode> {
    let RoutesArgs { source, output } = args;
    if let Some(admin) = source.admin {
        let format = match output {
            Form::Text => "text",
            Form::Json => "json",
        };
        return print(&client::get(&admin, "/routes", &[("format", format)]).await?);
    }
    let (objects, found) = source::load(&source.manifests)?;
    let Compiled { snapshot, diagnostics, .. } = compiled(&objects, &source.table, false, found);
    report(&diagnostics);
    print(&match output {
        Form::Text => snapshot.render(),
        Form::Json => snapshot.render_json(),
    })
}

/// `nodegate explain`: the text is that of `/explain`.
pub(super) async fn explain(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let ExplainArgs { url, method, header, source } = args;
    // Asked here too in the live form, so that a bad question gets the same answer.
    let question = Question::new(&url, &method, &header)?;
    if let Some(admin) = source.admin {
        let mut query = vec![("url", url.as_str()), ("method", method.as_str())];
        query.extend(header.iter().map(|header| ("header", header.as_str())));
        return print(&client::get(&admin, "/explain", &query).await?);
    }
    let (objects, found) = source::load(&source.manifests)?;
    let Compiled { snapshot, diagnostics, .. } = compiled(&objects, &source.table, false, found);
    report(&diagnostics);
    print(&question.answer(&snapshot))
}

/// `nodegate ready`: exit 1 if the process in this container doesn't serve. On a node's own address another one may answer, whom this one is about to
/// replace; that is why a new pod's startup can't be probed over HTTP alone.
pub(super) async fn ready(args: ReadyArgs) -> anyhow::Result<ExitCode> {
    let ReadyArgs { admin } = args;
    let process = admin::process_namespace().context("can't tell which container this is")?;
    match client::get(&admin, "/readyz", &[("process", &process)]).await {
        Ok(text) => print(&text),
        Err(error @ client::ClientError::Refused { .. }) => {
            eprintln!("{error}");
            Ok(ExitCode::from(1))
        }
        Err(error) => Err(error.into()),
    }
}

/// The table, with everything that was found wrong on the way, sorted.
fn compiled(objects: &Objects, table: &TableArgs, cluster: bool, found: Vec<Diagnostic>) -> Compiled {
    let mut compiled = compile::compile(objects, &options(table, cluster));
    compiled.diagnostics.extend(found);
    compiled.diagnostics.sort();
    compiled.diagnostics.dedup();
    compiled
}

/// On standard error, so that standard output is what the admin listener would say.
fn report(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        eprintln!("{diagnostic}");
    }
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}
