//! Which Ingresses are ours, and whose they were before.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use super::{
    Diagnostic, OWN_CONTROLLER, Objects, Options, Subject,
    index::{Index, IndexedIngress, name},
};

/// What a class was called before `spec.ingressClassName` existed; cert-manager still writes it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Marks the IngressClass for Ingresses that name none.
const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// How near a class name must be to ours to be called a spelling mistake, in edits.
const NEAR: usize = 2;

/// Whose Ingress it was written for: decides how another controller's annotations are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Ours.
    Own,
    /// Taken over from ingress-nginx.
    IngressNginx,
    /// Taken over from Traefik.
    Traefik,
    /// Somebody's whom we can't tell: adopted without a class, or of a class of a third controller.
    Unknown,
}

/// Whether this Ingress is ours, with these IngressClasses, as [`super::compile`] has it.
///
/// # Errors
/// It isn't; with what compiling it would find in that, which is nothing where it is plainly another controller's.
pub fn claim(ingress: Ingress, classes: Vec<IngressClass>, options: &Options) -> Result<(), Vec<Diagnostic>> {
    let classes = classes.into_iter().map(Arc::new).collect();
    let objects = Objects { ingresses: vec![Arc::new(ingress)], classes, ..Objects::default() };
    let index = Index::new(&objects);
    let classes = Classes::new(&index, options);
    let mut findings = Vec::new();
    let origin = index.ingresses.first().and_then(|ingress| classes.claim(ingress, &mut findings));
    origin.map(|_| ()).ok_or(findings)
}

/// The classes of the moment, and what the options say about them.
pub(super) struct Classes<'a> {
    index: &'a Index<'a>,
    options: &'a Options,
    /// The class that an Ingress without one gets, if that class is ours.
    default: Option<Origin>,
    /// Another controller takes the Ingresses without a class.
    default_elsewhere: bool,
}

impl<'a> Classes<'a> {
    pub(super) fn new(index: &'a Index<'a>, options: &'a Options) -> Self {
        let defaults = || index.classes.values().filter(|class| is_default(class));
        Self {
            index,
            options,
            default: defaults().find(|class| is_ours(class, options)).map(|class| origin_of_controller(controller(class))),
            default_elsewhere: defaults().any(|class| !is_ours(class, options)),
        }
    }

    /// Whether an Ingress is ours: then, whose it was.
    pub(super) fn claim(&self, ingress: &IndexedIngress<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Origin> {
        let watched = &self.options.watch_namespaces;
        if !watched.is_empty() && !watched.iter().any(|namespace| **namespace == *ingress.id.namespace) {
            return None;
        }
        let field = ingress.object.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref()).filter(|class| !class.is_empty());
        let annotations = ingress.object.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|all| all.get(CLASS_ANNOTATION)).map(String::as_str).filter(|class| !class.is_empty());

        let Some(class) = field.or(annotation) else { return self.claim_classless(ingress, diagnostics) };
        let origin = self.origin_of_class(class);
        if origin.is_none() && !self.index.classes.contains_key(class) {
            diagnostics.extend(self.misspelt(ingress, class, field.is_some()));
        }
        if let (Some(_), Some(annotation)) = (field, annotation)
            && (origin.is_some() || self.origin_of_class(annotation).is_some())
        {
            diagnostics.push(Diagnostic::warning(
                "class_twice",
                subject(ingress, format!("metadata.annotations[{CLASS_ANNOTATION}]")),
                format!("names the class `{annotation}`, and spec.ingressClassName names `{class}`: the field wins"),
                "remove the annotation",
            ));
        }
        origin
    }

    fn claim_classless(&self, ingress: &IndexedIngress<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Origin> {
        if let Some(origin) = self.default {
            return Some(origin);
        }
        if self.options.adopt_classless {
            return Some(Origin::Unknown);
        }
        if !self.default_elsewhere {
            diagnostics.push(Diagnostic::warning(
                "no_class",
                subject(ingress, "spec.ingressClassName".to_owned()),
                "no class is named, and no IngressClass is the default: it is not routed here",
                format!("write `ingressClassName: {}`, or run with --adopt-classless", self.own_name()),
            ));
        }
        None
    }

    /// A class is ours by its controller; by its name only where no such object exists.
    fn origin_of_class(&self, class: &str) -> Option<Origin> {
        match self.index.classes.get(class) {
            Some(object) => is_ours(object, self.options).then(|| origin_of_controller(controller(object))),
            None => self.options.class_names.iter().any(|name| name == class).then(|| origin_of_name(class)),
        }
    }

    fn misspelt(&self, ingress: &IndexedIngress<'_>, class: &str, in_field: bool) -> Option<Diagnostic> {
        let ours = self.index.classes.iter().filter(|(_, object)| is_ours(object, self.options)).map(|(name, _)| *name);
        let known = ours.chain(self.options.class_names.iter().map(String::as_str));
        let nearest = known.map(|name| (strsim::osa_distance(name, class), name)).min().filter(|(distance, _)| *distance <= NEAR)?.1;
        let field = if in_field { "spec.ingressClassName".to_owned() } else { format!("metadata.annotations[{CLASS_ANNOTATION}]") };
        Some(Diagnostic::warning(
            "unknown_class",
            subject(ingress, field),
            format!("the class `{class}` does not exist: the Ingress is not routed here"),
            format!("did you mean `{nearest}`?"),
        ))
    }

    fn own_name(&self) -> &str {
        let ours = self.index.classes.iter().find(|(_, object)| is_ours(object, self.options)).map(|(name, _)| *name);
        ours.or_else(|| self.options.class_names.first().map(String::as_str)).unwrap_or("nodegate")
    }
}

fn subject(ingress: &IndexedIngress<'_>, field: String) -> Subject {
    Subject::ingress(&ingress.id, field)
}

fn controller(class: &IngressClass) -> &str {
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default()
}

fn is_ours(class: &IngressClass, options: &Options) -> bool {
    options.controllers.iter().any(|ours| ours == controller(class)) && !name(&class.metadata).is_empty()
}

fn is_default(class: &IngressClass) -> bool {
    class.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CLASS_ANNOTATION)).is_some_and(|value| value == "true")
}

fn origin_of_controller(controller: &str) -> Origin {
    match controller {
        OWN_CONTROLLER => Origin::Own,
        "k8s.io/ingress-nginx" => Origin::IngressNginx,
        "traefik.io/ingress-controller" => Origin::Traefik,
        _ => Origin::Unknown,
    }
}

/// Without an IngressClass object, the customary names tell.
fn origin_of_name(class: &str) -> Origin {
    match class {
        "nginx" => Origin::IngressNginx,
        "traefik" => Origin::Traefik,
        _ => Origin::Own,
    }
}
