//! `Objects -> Compiled`: Kubernetes objects into a route table, purely. No I/O, clock, environment or logging.

mod admit;
mod annotations;
mod backend;
mod certificates;
mod class;
mod diagnostic;
mod endpoints;
mod external;
mod incremental;
mod index;
mod ingress;
mod options;
mod parse;
mod same;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};

pub use admit::admit;
pub(crate) use certificates::SECRET_KEYS;
pub use class::claim;
pub use diagnostic::{Diagnostic, Severity, Subject};
pub use incremental::{Delta, Edit, Incremental, Standing, Update};
pub use options::{HostOwnership, Https, OWN_CONTROLLER, Options, Tls};
pub(crate) use same::Same;

use self::{
    certificates::Looked,
    incremental::{Secrets, Services},
    index::{Index, IndexedIngress},
    ingress::Finished,
};
use crate::route::{Backend, IngressId, Snapshot};

/// The input: the objects of one moment, in any order.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// networking.k8s.io/v1 Ingress.
    pub ingresses: Vec<Arc<Ingress>>,
    /// networking.k8s.io/v1 IngressClass.
    pub classes: Vec<Arc<IngressClass>>,
    /// v1 Service.
    pub services: Vec<Arc<Service>>,
    /// discovery.k8s.io/v1 EndpointSlice.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// v1 Secret.
    pub secrets: Vec<Arc<Secret>>,
}

/// The names of the Secrets that an Ingress wants, which are in its namespace.
pub(crate) fn secrets_named(ingress: &Ingress) -> impl Iterator<Item = &str> {
    let tls = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    let of_tls = tls.filter_map(|tls| tls.secret_name.as_deref()).filter(|name| !name.is_empty());
    of_tls.chain(annotations::secrets(ingress))
}

/// The output.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The table.
    pub snapshot: Snapshot,
    /// What was found wrong, sorted by object; equal findings once.
    pub diagnostics: Vec<Diagnostic>,
    /// The Ingresses that are ours by their class, whatever is wrong with them otherwise; in any order.
    pub accepted: Vec<Arc<IngressId>>,
}

/// What comes of each Ingress, and of all together.
struct Together<'a> {
    snapshot: Snapshot,
    each: Vec<Outcome<'a>>,
    /// What is wrong with what belongs to no Ingress.
    general: Vec<Diagnostic>,
    /// All that were asked for.
    backends: Vec<Arc<Backend>>,
    /// All that were asked for.
    secrets: Looked,
}

/// What earlier compilations have made, and may be used again.
#[derive(Debug, Default)]
struct Earlier {
    services: Services,
    secrets: Secrets,
}

struct Outcome<'a> {
    ingress: &'a IndexedIngress<'a>,
    accepted: bool,
    findings: Findings,
}

/// What is wrong with an Ingress, and with what it leads to.
#[derive(Debug, Default)]
struct Findings {
    own: Vec<Diagnostic>,
    /// With Services and their EndpointSlices: of one Service the same for all that lead there, who may be thousands.
    of_services: Vec<Arc<[Diagnostic]>>,
    /// All of it answers 503, since something that may protect it isn't understood.
    refuses: bool,
}

impl Findings {
    /// All, sorted by object; equal ones once.
    fn all<'f>(each: impl Iterator<Item = &'f Self> + Clone, general: impl Iterator<Item = &'f Diagnostic>) -> Vec<Diagnostic> {
        let shared: HashMap<_, _> =
            each.clone().flat_map(|findings| &findings.of_services).map(|shared| (Arc::as_ptr(shared), shared)).collect();
        let all = each.flat_map(|findings| &findings.own).chain(shared.values().flat_map(|shared| shared.iter()));
        let mut all: Vec<Diagnostic> = all.chain(general).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Compiles the objects of one moment. Can't fail: what is wrong with an object costs that object (or that rule, or that path) alone, and
/// yields a diagnostic. The output doesn't depend on the order of the input.
pub fn compile(objects: &Objects, options: &Options) -> Compiled {
    let (index, earlier) = (Index::new(objects), Earlier::default());
    let Together { snapshot, each, general, .. } = compile_each(&index, options, &earlier);
    let accepted = each.iter().filter(|outcome| outcome.accepted).map(|outcome| Arc::clone(&outcome.ingress.id)).collect();
    let diagnostics = Findings::all(each.iter().map(|outcome| &outcome.findings), general.iter());
    Compiled { snapshot, diagnostics, accepted }
}

/// Compiles, and tells whose each finding is: that of every Ingress on whose way it was met. `earlier` is what may be used again.
fn compile_each<'a>(index: &'a Index<'a>, options: &'a Options, earlier: &'a Earlier) -> Together<'a> {
    let classes = class::Classes::new(index, options);
    let mut table = ingress::Compiler::new(index, options, earlier);
    let mut each: Vec<_> =
        index.ingresses.iter().map(|ingress| Outcome { ingress, accepted: false, findings: Findings::default() }).collect();
    for (position, Outcome { ingress, accepted, findings }) in each.iter_mut().enumerate() {
        if let Some(origin) = classes.claim(ingress, &mut findings.own) {
            table.ingress(position, ingress, origin, findings);
            *accepted = true;
        }
    }
    let Finished { snapshot, backends, secrets, late, general } = table.finish();
    for (position, finding) in late {
        if let Some(outcome) = each.get_mut(position) {
            outcome.findings.own.push(finding);
        }
    }
    Together { snapshot, each, general, backends, secrets }
}
