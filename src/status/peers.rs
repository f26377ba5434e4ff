//! Where Nodegates are Ready: which addresses follow from what is known of our pods and their nodes. No I/O.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::facts::{Facts, NodeFacts, PodFacts};
use crate::config::{
    Address,
    limits::{STATUS_REMOVAL_HOLD, STATUS_RETURN_CALM, STATUS_RETURN_HOLD_MAX, STATUS_RETURN_HOLD_MIN},
};

/// The pods of a namespace and the nodes, as last seen.
#[derive(Debug)]
pub(super) struct Peers {
    own: String,
    /// The uid of our own controller, once known: our own pod may be gone before this process is.
    controller: Option<String>,
    pods: Option<HashMap<String, PodFacts>>,
    nodes: Option<HashMap<String, NodeFacts>>,
    /// Our pods that were looked at before. By name, which a container that restarts keeps, and a pod of a rolling update hasn't yet.
    known: Option<HashMap<String, Known>>,
}

/// What is remembered of a pod between two looks.
#[derive(Debug, Clone, Copy)]
struct Known {
    standing: Standing,
    /// Times that it was withdrawn, since its last calm. Falls before it was told again aren't among them: they changed no Ingress.
    falls: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Has never been up.
    Starting,
    /// Ready, on a Ready node, since that moment.
    Up(Instant),
    /// Went down at that moment, and may come back before anybody is told.
    Down(Instant),
    /// Down, and withdrawn.
    Out,
    /// Was withdrawn, and is up again since that moment; whether it stays has to be seen.
    Returning(Instant),
}

/// Which addresses an Ingress may bear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Those of nodes where a Nodegate is Ready.
    pub ready: BTreeSet<Address>,
    /// Those of nodes whose Nodegate went down a moment ago: they stay where they are.
    pub held: BTreeSet<Address>,
    /// None of our pods is there to come back, so that there may be no address at all. Otherwise an empty set is no news: the last one stays.
    pub may_be_empty: bool,
}

impl Peers {
    /// Nothing was seen yet. `own`: the name of our own pod.
    pub(super) fn new(own: String) -> Self {
        Self { own, controller: None, pods: None, nodes: None, known: None }
    }

    pub(super) fn pods(&mut self, facts: Facts<PodFacts>) {
        take(&mut self.pods, facts);
        if let Some(own) = self.pods.as_ref().and_then(|pods| pods.get(&self.own)) {
            self.controller.clone_from(&own.controller);
        }
    }

    pub(super) fn nodes(&mut self, facts: Facts<NodeFacts>) {
        take(&mut self.nodes, facts);
    }

    /// Whether the list of pods is there, but our own isn't in it and never was: a wrong name, most likely.
    pub(super) fn lost_itself(&self) -> bool {
        self.controller.is_none() && self.pods.as_ref().is_some_and(|pods| !pods.contains_key(&self.own))
    }

    /// Whether any of our pods is there and doesn't leave. Nothing before the list of pods is complete and our own pod is known.
    pub(super) fn any_stays(&self, leaving: bool) -> Option<bool> {
        Some(!self.staying(leaving)?.is_empty())
    }

    /// The same, each with what is known of it.
    pub(super) fn siblings(&self) -> Option<HashMap<String, PodFacts>> {
        Some(self.staying(false)?.into_iter().map(|(name, pod)| (name.clone(), pod.clone())).collect())
    }

    /// Those of our pods that don't leave. Nothing before the list of pods is complete and our own pod is known.
    fn staying(&self, leaving: bool) -> Option<Vec<(&String, &PodFacts)>> {
        let pods = self.pods.as_ref()?;
        if self.controller.is_none() && !pods.contains_key(&self.own) {
            return None;
        }
        let is_ours = |name: &String, pod: &PodFacts| *name == self.own || (self.controller.is_some() && pod.controller == self.controller);
        let stays = |name: &String, pod: &PodFacts| !(pod.leaving || (leaving && *name == self.own));
        Some(pods.iter().filter(|(name, pod)| is_ours(name, pod) && stays(name, pod)).collect())
    }

    /// The addresses, and when to ask again although nothing happens. Nothing before both lists are complete and our own pod is known. `leaving`: this
    /// process drains, whatever its pod says.
    pub(super) fn view(&mut self, now: Instant, leaving: bool) -> Option<(View, Option<Instant>)> {
        let nodes = self.nodes.as_ref()?;
        let ours = self.staying(leaving)?;
        let mut now_known = HashMap::new();
        for (name, pod) in &ours {
            let up = pod.ready && nodes.get(&pod.node).is_some_and(|node| node.ready);
            let known = match &self.known {
                Some(known) => known.get(*name).copied().unwrap_or(Known { standing: Standing::Starting, falls: 0 }),
                // A new leader doesn't know since when it is down: for all it knows, a moment.
                None => Known { standing: Standing::Up(now), falls: 0 },
            };
            now_known.insert((*name).clone(), known.next(up, now));
        }
        let is_told = |known: &Known| matches!(known.standing, Standing::Up(_) | Standing::Down(_));
        // Rather one that may not last than none: an empty set is no news, and a new Ingress would be left without an address.
        if !now_known.values().any(is_told) {
            now_known.values_mut().for_each(Known::admit);
        }
        // Where none is left, what was written last stays: nobody was withdrawn.
        if now_known.values().any(is_told) {
            let before = |name| self.known.as_ref().and_then(|known| known.get(name)).map(|known| known.standing);
            let fell = |name, known: &Known| known.standing == Standing::Out && matches!(before(name), Some(Standing::Down(_)));
            for (_, known) in now_known.iter_mut().filter(|(name, known)| fell(*name, known)) {
                known.falls = known.falls.saturating_add(1);
            }
        }

        let (mut view, mut again) = (View { may_be_empty: ours.is_empty(), ..View::default() }, None);
        for (name, pod) in &ours {
            let Some(known) = now_known.get(*name) else { continue };
            let addresses = nodes.get(&pod.node).into_iter().flat_map(|node| node.addresses.iter().cloned());
            match known.standing {
                Standing::Up(_) => view.ready.extend(addresses),
                Standing::Down(_) => view.held.extend(addresses),
                Standing::Starting | Standing::Out | Standing::Returning(_) => {}
            }
            again = again.into_iter().chain(known.again()).min();
        }
        self.known = Some(now_known);
        Some((view, again))
    }
}

impl Known {
    /// What becomes of it with this look.
    fn next(self, up: bool, now: Instant) -> Self {
        let Self { standing, mut falls } = self;
        let for_longer = |since, time| now.saturating_duration_since(since) >= time;
        let standing = match standing {
            Standing::Starting | Standing::Down(_) if up => Standing::Up(now),
            Standing::Starting => Standing::Starting,
            Standing::Up(since) if up => Standing::Up(since),
            Standing::Up(since) => {
                if for_longer(since, STATUS_RETURN_CALM) {
                    falls = 0;
                }
                Standing::Down(now)
            }
            Standing::Down(since) if for_longer(since, STATUS_REMOVAL_HOLD) => Standing::Out,
            Standing::Down(since) => Standing::Down(since),
            Standing::Out | Standing::Returning(_) if !up => Standing::Out,
            Standing::Out if self.return_hold().is_zero() => Standing::Up(now),
            Standing::Out => Standing::Returning(now),
            Standing::Returning(since) if for_longer(since, self.return_hold()) => Standing::Up(since),
            Standing::Returning(since) => Standing::Returning(since),
        };
        Self { standing, falls }
    }

    /// How long it must be up before it is told again. The first return is taken at its word: nodes do lose their link, once.
    fn return_hold(&self) -> Duration {
        match self.falls {
            0 | 1 => Duration::ZERO,
            falls => STATUS_RETURN_HOLD_MIN.saturating_mul(1 << (falls - 2).min(16)).min(STATUS_RETURN_HOLD_MAX),
        }
    }

    /// It is told again without its hold.
    fn admit(&mut self) {
        if let Standing::Returning(since) = self.standing {
            self.standing = Standing::Up(since);
        }
    }

    /// When its standing changes although nothing happens.
    fn again(&self) -> Option<Instant> {
        match self.standing {
            Standing::Down(since) => Some(since + STATUS_REMOVAL_HOLD),
            Standing::Returning(since) => Some(since + self.return_hold()),
            Standing::Starting | Standing::Up(_) | Standing::Out => None,
        }
    }
}

fn take<T>(all: &mut Option<HashMap<String, T>>, facts: Facts<T>) {
    match (facts, all) {
        (Facts::All(new), all) => *all = Some(new),
        (Facts::Is(name, object), Some(all)) => {
            all.insert(name, object);
        }
        (Facts::Gone(name), Some(all)) => {
            all.remove(&name);
        }
        // A watch begins with a list.
        (Facts::Is(..) | Facts::Gone(_), None) => {}
    }
}

#[cfg(test)]
mod tests;
