//! Why a request gets the answer it gets: the winner, and each rule that could have been one, with the reason why it isn't.

use std::{fmt, sync::Arc};

use super::{
    Bound, Endpoints, Entry, HostCertificates, HostPattern, HostTable, IngressId, Loser, Place, Route, Snapshot, Target, host,
    render::shows_endpoints,
};

/// The answer to [`Snapshot::explain`]. Its `Display` is the one text that people see, offline and live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The request's host, as it was asked for.
    pub host: String,
    /// The request's path.
    pub path: String,
    /// The rule that wins, and its route; `None` is answered 404 `no_route`.
    pub winner: Option<(String, Arc<Route>)>,
    /// What a connection for this host gets, if anything but the proxy's own certificate.
    pub certificates: Option<HostCertificates>,
    /// The others, in the order in which they are tried.
    pub losers: Vec<Candidate>,
}

/// A rule that applies to the request's host and isn't the winner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Host and path of the rule, such as `host a.example.com, prefix /foo`.
    pub rule: String,
    /// Where it was written.
    pub ingress: Arc<IngressId>,
    /// Why it lost.
    pub verdict: Verdict,
}

/// Why a rule lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its path isn't the request's.
    PathDiffers,
    /// Another rule of the same host goes first: an exact path, a longer prefix, a prefix before an expression.
    TriedLater(&'static str),
    /// It matches, but a more specific host has a rule that matches too.
    LessSpecificHost(HostPattern),
    /// A default backend, where a rule matches.
    OnlyDefault,
    /// A default backend, where another one goes first.
    DefaultTriedLater,
    /// An older Ingress holds the same host, type and path, or the same place of a default backend.
    Shadowed(Arc<IngressId>),
}

impl Snapshot {
    /// Explains what [`Snapshot::find`] answers for the same arguments.
    pub fn explain(&self, host: &str, path: &str) -> Explanation {
        let levels = self.levels(host);
        let mut candidates: Vec<(Entry<'_>, bool)> = Vec::new();
        for (pattern, table) in &levels {
            let winner = table.paths.find(path);
            for rule in table.paths.rules() {
                let entry = Entry { host: pattern.clone(), place: Place::Path(&rule.pattern), route: &rule.route };
                candidates.push((entry, winner.is_some_and(|winner| std::ptr::eq(winner, rule))));
            }
        }
        // A level's first choice wins if no level before it has one; defaults come after the rules of all levels.
        for (pattern, table) in &levels {
            candidates.extend(table.default.iter().map(|route| (Entry { host: pattern.clone(), place: Place::HostDefault, route }, true)));
        }
        candidates.extend(self.default.iter().map(|route| (Entry { host: HostPattern::Any, place: Place::Otherwise, route }, true)));

        let winner = candidates.iter().position(|(_, chosen)| *chosen);
        let winner = winner.map(|at| candidates.remove(at).0);
        let mut losers: Vec<Candidate> = candidates.iter().map(|(entry, _)| lost(entry, winner.as_ref(), path)).collect();
        for (pattern, table) in &levels {
            losers.extend(table.losers.iter().map(|loser| shadowed(pattern, loser)));
        }
        losers.extend(self.losers.iter().map(|loser| Candidate { rule: "anything else".to_owned(), ..shadowed(&HostPattern::Any, loser) }));
        Explanation {
            host: host.to_owned(),
            path: path.to_owned(),
            winner: winner.map(|entry| (rule_text(&entry), Arc::clone(entry.route))),
            certificates: self.certificates(Some(host)).cloned(),
            losers,
        }
    }

    /// The tables that apply to a host, the most specific first.
    fn levels(&self, host: &str) -> Vec<(HostPattern, &HostTable)> {
        let exact = self.exact.get_key_value(host).map(|(name, table)| (HostPattern::Exact(Arc::clone(name)), &**table));
        let wildcard = host::parent(host).and_then(|parent| self.wildcard.get_key_value(parent));
        let wildcard = wildcard.map(|(name, table)| (HostPattern::Wildcard(Arc::clone(name)), &**table));
        exact.into_iter().chain(wildcard).chain([(HostPattern::Any, &*self.any)]).collect()
    }
}

fn lost(entry: &Entry<'_>, winner: Option<&Entry<'_>>, path: &str) -> Candidate {
    let verdict = match (entry.place, winner.map(|winner| winner.place)) {
        (Place::Path(pattern), _) if !pattern.matches(path) => Verdict::PathDiffers,
        (Place::Path(pattern), Some(Place::Path(first))) => match winner.filter(|winner| winner.host != entry.host) {
            Some(winner) => Verdict::LessSpecificHost(winner.host.clone()),
            None if first.kind() == "exact" => Verdict::TriedLater("an exact path goes before it"),
            None if pattern.kind() == "prefix" => Verdict::TriedLater("a longer prefix goes before it"),
            None if first.kind() == "prefix" => Verdict::TriedLater("prefixes go before expressions"),
            None => Verdict::TriedLater("a longer expression goes before it"),
        },
        // A rule whose path matches never loses to a default backend.
        (Place::Path(_), Some(Place::HostDefault | Place::Otherwise) | None) => Verdict::PathDiffers,
        (Place::HostDefault | Place::Otherwise, Some(Place::Path(_)) | None) => Verdict::OnlyDefault,
        (Place::HostDefault | Place::Otherwise, Some(Place::HostDefault | Place::Otherwise)) => Verdict::DefaultTriedLater,
    };
    Candidate { rule: rule_text(entry), ingress: Arc::clone(&entry.route.ingress), verdict }
}

fn shadowed(host: &HostPattern, loser: &Loser) -> Candidate {
    let place = loser.pattern.as_ref().map_or(Place::HostDefault, Place::Path);
    Candidate {
        rule: rule_text(&Entry { host: host.clone(), place, route: &loser.route }),
        ingress: Arc::clone(&loser.route.ingress),
        verdict: Verdict::Shadowed(Arc::clone(&loser.winner.ingress)),
    }
}

fn rule_text(entry: &Entry<'_>) -> String {
    match (&entry.place, &entry.host) {
        (Place::Otherwise, _) => "anything else".to_owned(),
        (place, HostPattern::Any) => format!("any host, {place}"),
        (place, host) => format!("host {host}, {place}"),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "request    {} {}", self.host, self.path)?;
        match &self.winner {
            None => writeln!(f, "answer     404 no_route: no rule matches, and there is no default backend")?,
            Some((rule, route)) => write_winner(f, rule, route)?,
        }
        for Bound { certificate, ingress } in self.certificates.iter().flat_map(HostCertificates::iter) {
            let whose = ingress.as_ref().map_or_else(|| "the default".to_owned(), |ingress| format!("of Ingress {ingress}"));
            writeln!(f, "tls        {} {}, {whose}", certificate.algorithm(), certificate.source())?;
        }
        if !self.losers.is_empty() {
            writeln!(f, "\nnot chosen")?;
        }
        let widest = |text: fn(&Candidate) -> usize| self.losers.iter().map(text).max().unwrap_or_default();
        let rule_width = widest(|candidate| candidate.rule.chars().count());
        let ingress_width = widest(|candidate| candidate.ingress.to_string().chars().count());
        for Candidate { rule, ingress, verdict } in &self.losers {
            writeln!(f, "  {rule:<rule_width$}  {:<ingress_width$}  {verdict}", ingress.to_string())?;
        }
        Ok(())
    }
}

fn write_winner(f: &mut fmt::Formatter<'_>, rule: &str, route: &Route) -> fmt::Result {
    let backend = &route.backend;
    match (&backend.target, &backend.endpoints) {
        (Target::Unavailable(why), _) => writeln!(f, "answer     503 bad_backend: {why}")?,
        (Target::ClusterIp(_) | Target::Endpoints, Endpoints::Known(ready)) if ready.is_empty() => {
            writeln!(f, "answer     503 no_endpoints: no endpoint of the Service is ready")?;
        }
        (Target::ClusterIp(_) | Target::Endpoints | Target::Dns { .. }, _) => writeln!(f, "answer     forwarded to the backend")?,
    }
    writeln!(f, "rule       {rule}")?;
    writeln!(f, "ingress    {}", route.ingress)?;
    writeln!(f, "backend    {}", backend.id)?;
    writeln!(f, "target     {}", backend.target)?;
    if shows_endpoints(&backend.target) {
        writeln!(f, "endpoints  {}", backend.endpoints)?;
    }
    Ok(())
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathDiffers => f.write_str("its path does not match"),
            Self::TriedLater(why) => f.write_str(why),
            Self::LessSpecificHost(host) => write!(f, "its host is less specific than {host}"),
            Self::OnlyDefault => f.write_str("a default backend answers only what no rule matches"),
            Self::DefaultTriedLater => f.write_str("the default backend of a more specific host goes before it"),
            Self::Shadowed(winner) => write!(f, "Ingress {winner}, which is older (or first by name), holds the same place"),
        }
    }
}
