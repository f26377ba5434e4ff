//! Paths of rules, and the table that answers which rule a request's path meets. The only user of matchit.

use std::{cmp::Ordering, cmp::Reverse, fmt, sync::Arc};

use matchit::Router;
use regex::{Regex, RegexBuilder};

use super::Route;

/// Up to so many exact paths and prefixes of one host are tried one by one, in a bounded number of short comparisons. Most hosts have two or three
/// paths, and in a table of ten thousand hosts a tree for each takes tens of megabytes.
const FEW: usize = 8;

/// The path of a rule. `Ord` is the order in which rules of one host are tried: exact ones, then the longest prefix, then the longest
/// expression; the text decides between equals.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Equal, a trailing slash included.
    Exact(Arc<str>),
    /// Element by element. Kept without its trailing slash, so `/` is the empty text: `p` matches `p` itself and whatever begins with `p/`.
    Prefix(Arc<str>),
    /// A regular expression that must match from the path's first byte on; its end is free unless it ends in `$`.
    Expression {
        /// As the Ingress spelt it.
        source: Arc<str>,
        /// Compiled, with the start anchored.
        regex: Regex,
    },
}

impl PathPattern {
    /// `Exact`.
    pub fn exact(path: &str) -> Self {
        Self::Exact(Arc::from(path))
    }

    /// `Prefix`: one trailing slash is ignored.
    pub fn prefix(path: &str) -> Self {
        Self::Prefix(Arc::from(path.strip_suffix('/').unwrap_or(path)))
    }

    /// A regular expression. `size_limit` bounds each of its compiled form and its per-thread cache, in bytes.
    ///
    /// # Errors
    /// The text is no regular expression, or too large once compiled.
    pub fn expression(source: &str, size_limit: usize) -> Result<Self, regex::Error> {
        let build = |text: &str| RegexBuilder::new(text).size_limit(size_limit).dfa_size_limit(size_limit).build();
        // On its own first: `/a)|(?:/b` would be valid only inside our own group, and then escape the anchor.
        build(source)?;
        Ok(Self::Expression { source: Arc::from(source), regex: build(&format!("^(?:{source})"))? })
    }

    /// Whether this rule alone would match a normalised path.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && !prefix.is_empty()))
            }
            Self::Expression { regex, .. } => regex.is_match(path),
        }
    }

    /// `exact`, `prefix` or `expression`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exact(_) => "exact",
            Self::Prefix(_) => "prefix",
            Self::Expression { .. } => "expression",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Expression { source: text, .. } => text,
        }
    }

    fn order(&self) -> (u8, Reverse<usize>, &str) {
        match self {
            // Two exact paths never match the same request: by text reads best.
            Self::Exact(text) => (0, Reverse(0), text),
            Self::Prefix(text) => (1, Reverse(text.len()), text),
            Self::Expression { source, .. } => (2, Reverse(source.len()), source),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        // What remains of `/` and of `//` once a trailing slash is taken off.
        let slash = if matches!(self, Self::Prefix(_)) && (text.is_empty() || text.ends_with('/')) { "/" } else { "" };
        write!(f, "{text}{slash}")
    }
}

impl Ord for PathPattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for PathPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PathPattern {}

/// One rule of one host that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) pattern: PathPattern,
    pub(super) route: Arc<Route>,
}

/// The rules of one host. One with few paths holds no tree at all: ten thousand such hosts stay small.
#[derive(Debug, Default)]
pub(super) struct PathTable {
    /// In the order of [`PathPattern`]: the first that matches is the one that [`PathTable::find`] returns.
    rules: Box<[Rule]>,
    /// Indices into `rules`.
    exact: Option<Box<Router<u32>>>,
    prefixes: Option<Box<Router<u32>>>,
    /// The prefix `/`.
    root: Option<u32>,
    /// Where those rules begin in `rules` that are tried one by one: the expressions, or all where they are few.
    listed: usize,
}

impl PathTable {
    /// `rules` are sorted and hold no pattern twice.
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let is_listed = |rule: &Rule| matches!(rule.pattern, PathPattern::Expression { .. });
        let in_trees = rules.iter().position(is_listed).unwrap_or(rules.len());
        if in_trees <= FEW {
            return Self { rules: rules.into_boxed_slice(), ..Self::default() };
        }
        let mut table = Self { listed: in_trees, ..Self::default() };
        for (index, rule) in (0_u32..).zip(&rules) {
            match &rule.pattern {
                PathPattern::Exact(path) => insert(table.exact.get_or_insert_default(), escape(path), index),
                PathPattern::Prefix(path) if path.is_empty() => table.root = Some(index),
                PathPattern::Prefix(path) => {
                    let (tree, path) = (table.prefixes.get_or_insert_default(), escape(path));
                    insert(tree, format!("{path}/{{*rest}}"), index);
                    // matchit's catch-all never matches nothing. Refused where a longer prefix is just that (of `/a//`, `/a/` remains): it came
                    // first, and wins.
                    let _ = tree.insert(format!("{path}/"), index);
                    insert(tree, path, index);
                }
                PathPattern::Expression { .. } => break,
            }
        }
        table.rules = rules.into_boxed_slice();
        table
    }

    /// The rule that a normalised path meets.
    pub(super) fn find(&self, path: &str) -> Option<&Rule> {
        let in_tree = |tree: &Option<Box<Router<u32>>>| tree.as_ref().and_then(|tree| tree.at(path).ok()).map(|found| *found.value);
        let index = in_tree(&self.exact).or_else(|| in_tree(&self.prefixes)).or_else(|| self.root.filter(|_| path.starts_with('/')));
        match index {
            Some(index) => self.rules.get(index as usize),
            None => self.rules.get(self.listed..)?.iter().find(|rule| rule.pattern.matches(path)),
        }
    }

    /// All rules, in the order in which they are tried.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// Equal rules make equal trees.
impl PartialEq for PathTable {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for PathTable {}

fn insert(tree: &mut Router<u32>, path: String, index: u32) {
    let inserted = tree.insert(path, index);
    // Two different escaped texts, each with at most a catch-all after a slash, are never ambiguous to matchit, and equal ones don't
    // come here. `tests/router_properties.rs` holds it to that.
    debug_assert!(inserted.is_ok(), "{inserted:?}");
}

/// Braces are matchit's own syntax.
fn escape(path: &str) -> String {
    path.replace('{', "{{").replace('}', "}}")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Backend, BackendId, Endpoints, IngressId, Policy, Protocol, Target},
        *,
    };

    #[test]
    fn prefixes_match_element_by_element() {
        let cases = [
            ("/", "/", true),
            ("/", "/any/thing", true),
            ("/", "*", false),
            ("/foo", "/foo", true),
            ("/foo", "/foo/", true),
            ("/foo", "/foo/x", true),
            ("/foo", "/foo//x", true),
            ("/foo", "/foobar", false),
            ("/foo", "/foo%2Fx", false),
            ("/foo", "/Foo", false),
            ("/foo", "//foo", false),
            ("/foo/", "/foo", true),
            ("/foo/", "/foo/", true),
            ("/foo/", "/foo/x", true),
            ("/foo/", "/foobar", false),
            ("//", "/", true),
            ("//", "//x", true),
            ("//", "/x", false),
        ];
        for (rule, path, expected) in cases {
            assert_eq!(PathPattern::prefix(rule).matches(path), expected, "{rule} {path}");
        }
    }

    #[test]
    fn prefixes_are_shown_as_they_mean() {
        for (rule, shown) in [("/", "/"), ("/foo/", "/foo"), ("/foo", "/foo"), ("//", "//"), ("/foo//", "/foo//")] {
            assert_eq!(PathPattern::prefix(rule).to_string(), shown);
        }
    }

    #[test]
    fn a_prefix_with_an_empty_element_goes_before_the_one_without() {
        let route = |name: &str| {
            let id = BackendId { namespace: "n".into(), service: "s".into(), port: "80".into() };
            let backend = Backend { id, protocol: Protocol::Http1, target: Target::Endpoints, endpoints: Endpoints::Unknown };
            Arc::new(Route {
                ingress: Arc::new(IngressId { namespace: "n".into(), name: name.into() }),
                backend: Arc::new(backend),
                policy: Policy::default(),
            })
        };
        let rule = |path: &str| Rule { pattern: PathPattern::prefix(path), route: route(path) };
        let few = vec![rule("/a//"), rule("/a")];
        let mut many = few.clone();
        many.extend((0..FEW).map(|number| rule(&format!("/{number}"))));
        many.sort_by(|one, other| one.pattern.cmp(&other.pattern));
        let (few, many) = (PathTable::new(few), PathTable::new(many));
        assert!(few.prefixes.is_none() && many.prefixes.is_some());
        for (path, expected) in [("/a", "/a"), ("/a/", "/a//"), ("/a//", "/a//"), ("/a//b", "/a//"), ("/a/b", "/a")] {
            for table in [&few, &many] {
                assert_eq!(table.find(path).map(|rule| &*rule.route.ingress.name), Some(expected), "{path}");
            }
        }
    }

    #[test]
    fn an_expression_matches_from_the_start_and_only_there() {
        let pattern = PathPattern::expression("/v[0-9]+/|/beta", 1 << 16).unwrap();
        for (path, expected) in
            [("/v1/x", true), ("/beta", true), ("/beta/x", true), ("/x/v1/", false), ("/x/beta", false), ("/V1/", false)]
        {
            assert_eq!(pattern.matches(path), expected, "{path}");
        }
    }

    #[test]
    fn bad_expressions_are_refused() {
        for source in ["/(", "/a)|(?:/b", "/[a-z]{1,100000}", "/(?=x)"] {
            assert!(PathPattern::expression(source, 1 << 16).is_err(), "{source}");
        }
    }
}
