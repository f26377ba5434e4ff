//! Traefik as K3s's chart sets it up, and the Ingresses that it serves.

use crate::{
    images::TRAEFIK,
    sample::{Sample, list, namespace},
};

/// Where the Ingresses and their backends are.
pub const SHOP: &str = "takeover-shop";
pub const BACKENDS: [&str; 3] = ["api", "web", "fallback"];
/// The Ingress that is neither's.
pub const NOT_OURS: &str = "not-ours";
/// Where Traefik is.
pub const TRAEFIK_NAMESPACE: &str = "takeover-traefik";

/// How Traefik gets port 80 of its node.
#[derive(Debug, Clone, Copy)]
pub enum Port {
    /// By a host port, as K3s's ServiceLB does it: rules for packets, and no socket.
    Forwarded,
    /// In the node's own network, by a socket there. Its chart wants an update strategy then that ends the old pod first.
    Own,
}

/// Traefik itself.
pub fn traefik(port: Port) -> String {
    let (number, network) = match port {
        Port::Forwarded => ("8000", "hostNetwork: false"),
        Port::Own => ("80", "hostNetwork: true"),
    };
    PROXY.replace("IMAGE", TRAEFIK).replace("NUMBER", number).replace("NETWORK", network)
}

/// Backends that tell their names.
pub fn backends() -> String {
    let of = |name| Sample { namespace: SHOP, name, port: 8000, answers_as: name };
    let objects = BACKENDS.map(|name| {
        let mut service = of(name).service(80);
        service["spec"]["ports"][0]["name"] = "http".into();
        [of(name).deployment(1), service]
    });
    list(&[&[namespace(SHOP)], objects.as_flattened()].concat())
}

const PROXY: &str = r"
apiVersion: v1
kind: Namespace
metadata: { name: takeover-traefik }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: traefik, namespace: takeover-traefik }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: takeover-traefik }
rules:
- { apiGroups: [''], resources: [nodes, services, secrets], verbs: [get, list, watch] }
- { apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch] }
- { apiGroups: [networking.k8s.io], resources: [ingresses, ingressclasses], verbs: [get, list, watch] }
- { apiGroups: [networking.k8s.io], resources: [ingresses/status], verbs: [update] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: takeover-traefik }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: takeover-traefik }
subjects: [{ kind: ServiceAccount, name: traefik, namespace: takeover-traefik }]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: { name: traefik }
spec: { controller: traefik.io/ingress-controller }
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: traefik, namespace: takeover-traefik }
spec:
  selector: { matchLabels: { app: traefik } }
  updateStrategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } }
  template:
    metadata: { labels: { app: traefik } }
    spec:
      NETWORK
      serviceAccountName: traefik
      terminationGracePeriodSeconds: 60
      securityContext: { runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, seccompProfile: { type: RuntimeDefault } }
      containers:
      - name: traefik
        image: IMAGE
        imagePullPolicy: Never
        args:
        - --global.checknewversion=false
        - --global.sendanonymoususage=false
        - --entryPoints.traefik.address=:8080/tcp
        - --entryPoints.web.address=:NUMBER/tcp
        - --ping=true
        - --providers.kubernetesingress
        - --providers.kubernetesingress.allowEmptyServices=true
        ports:
        - { name: web, containerPort: NUMBER, hostPort: 80 }
        readinessProbe: { httpGet: { path: /ping, port: 8080 }, periodSeconds: 1 }
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: { drop: [ALL], add: [NET_BIND_SERVICE] }
";

/// Ingresses of all kinds. All but the last are Traefik's. `annotated` has annotations that Traefik reads.
pub const INGRESSES: &str = r"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: shop, namespace: takeover-shop }
spec:
  ingressClassName: traefik
  rules:
  - host: shop.example
    http:
      paths:
      - { path: /, pathType: Prefix, backend: { service: { name: web, port: { name: http } } } }
      - { path: /api, pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }
      - { path: /healthz, pathType: Exact, backend: { service: { name: api, port: { number: 80 } } } }
      - { path: /ok, pathType: Exact, backend: { service: { name: api, port: { number: 80 } } } }
      - { path: /old, pathType: ImplementationSpecific, backend: { service: { name: api, port: { number: 80 } } } }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: wildcard, namespace: takeover-shop }
spec:
  ingressClassName: traefik
  rules:
  - host: '*.apps.example'
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] }
  - host: api.apps.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: by-annotation
  namespace: takeover-shop
  annotations: { kubernetes.io/ingress.class: traefik }
spec:
  rules:
  - host: annotation.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: without-class, namespace: takeover-shop }
spec:
  rules:
  - host: classless.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: annotated
  namespace: takeover-shop
  annotations: { traefik.ingress.kubernetes.io/router.entrypoints: web, traefik.ingress.kubernetes.io/router.priority: '42' }
spec:
  ingressClassName: traefik
  rules:
  - host: annotated.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: broken, namespace: takeover-shop }
spec:
  ingressClassName: traefik
  rules:
  - host: broken.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: gone, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: guarded
  namespace: takeover-shop
  annotations: { traefik.ingress.kubernetes.io/router.middlewares: takeover-shop-auth@kubernetescrd }
spec:
  ingressClassName: traefik
  rules:
  - host: guarded.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: everything-else, namespace: takeover-shop }
spec:
  ingressClassName: traefik
  defaultBackend: { service: { name: fallback, port: { number: 80 } } }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: not-ours, namespace: takeover-shop }
spec:
  ingressClassName: somebody-elses
  rules:
  - host: other.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }] }
";
