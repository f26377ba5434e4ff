//! One Ingress for each thing that an Ingress can say, and the backends that they lead to.

use crate::images::ECHO;

/// Where all of it is.
pub const NAMESPACE: &str = "semantics";
/// Ingresses that are somebody else's, or nobody's.
pub const FOREIGN: [&str; 4] = ["of-another-controller", "of-no-class", "of-no-class-by-annotation", "of-a-misspelt-class"];
/// A class of another controller. It has no namespace.
pub const CLASS: &str = "semantics-other";

/// What is there before Nodegate. So is the Ingress without a class: later the API server would write the default one into it.
pub fn first() -> String {
    format!("{BACKENDS}{SERVICES}{CLASSES}{INGRESSES}{CONTESTED}").replace("IMAGE", ECHO)
}

/// What comes while Nodegate runs.
pub const SECOND: &str = r"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: everything-else, namespace: semantics }
spec:
  ingressClassName: nodegate
  defaultBackend: { service: { name: fallback, port: { number: 80 } } }
---
# First by its name, and still not before the older one.
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: a-younger, namespace: semantics }
spec:
  ingressClassName: nodegate
  rules:
  - host: contested.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: blue, port: { number: 80 } } } }] }
---
# By now the API server writes the default class into it.
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: classless-later, namespace: semantics }
spec:
  rules:
  - host: classless-later.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: blue, port: { number: 80 } } } }] }
---
apiVersion: v1
kind: Service
metadata: { name: missing, namespace: semantics }
spec: { selector: { app: colours }, ports: [{ port: 80, targetPort: 8002 }] }
";

/// One pod that answers under four names, and one that isn't there yet.
const BACKENDS: &str = r"
apiVersion: v1
kind: Namespace
metadata: { name: semantics }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: colours, namespace: semantics }
spec:
  selector: { matchLabels: { app: colours } }
  template:
    metadata: { labels: { app: colours } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: red
        image: IMAGE
        imagePullPolicy: Never
        args: [--listen, '0.0.0.0:8001', --name, red]
        readinessProbe: { httpGet: { path: /, port: 8001 }, periodSeconds: 1 }
      - name: green
        image: IMAGE
        imagePullPolicy: Never
        args: [--listen, '0.0.0.0:8002', --name, green]
        readinessProbe: { httpGet: { path: /, port: 8002 }, periodSeconds: 1 }
      - name: blue
        image: IMAGE
        imagePullPolicy: Never
        args: [--listen, '0.0.0.0:8003', --name, blue]
        readinessProbe: { httpGet: { path: /, port: 8003 }, periodSeconds: 1 }
      - name: fallback
        image: IMAGE
        imagePullPolicy: Never
        args: [--listen, '0.0.0.0:8004', --name, fallback]
        readinessProbe: { httpGet: { path: /, port: 8004 }, periodSeconds: 1 }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: late, namespace: semantics }
spec:
  replicas: 0
  selector: { matchLabels: { app: late } }
  template:
    metadata: { labels: { app: late } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: late
        image: IMAGE
        imagePullPolicy: Never
        args: [--listen, '0.0.0.0:8000', --name, late]
        readinessProbe: { httpGet: { path: /, port: 8000 }, periodSeconds: 1 }
";

const SERVICES: &str = r"
---
apiVersion: v1
kind: Service
metadata: { name: red, namespace: semantics }
spec: { selector: { app: colours }, ports: [{ port: 80, targetPort: 8001 }] }
---
apiVersion: v1
kind: Service
metadata: { name: green, namespace: semantics }
spec: { selector: { app: colours }, ports: [{ port: 80, targetPort: 8002 }] }
---
apiVersion: v1
kind: Service
metadata: { name: blue, namespace: semantics }
spec: { selector: { app: colours }, ports: [{ port: 80, targetPort: 8003 }] }
---
apiVersion: v1
kind: Service
metadata: { name: fallback, namespace: semantics }
spec: { selector: { app: colours }, ports: [{ port: 80, targetPort: 8004 }] }
---
apiVersion: v1
kind: Service
metadata: { name: two-ports, namespace: semantics }
spec:
  selector: { app: colours }
  ports:
  - { name: the-green, port: 80, targetPort: 8002 }
  - { name: the-blue, port: 81, targetPort: 8003 }
---
apiVersion: v1
kind: Service
metadata: { name: late, namespace: semantics }
spec: { selector: { app: late }, ports: [{ port: 80, targetPort: 8000 }] }
---
apiVersion: v1
kind: Service
metadata: { name: by-name, namespace: semantics }
spec: { type: ExternalName, externalName: red.semantics.svc.cluster.local }
";

/// One is Nodegate's by an annotation, one because Nodegate's class is the default; and those that aren't.
const CLASSES: &str = r"
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: { name: semantics-other }
spec: { controller: other.example/ingress-controller }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: of-another-controller, namespace: semantics }
spec:
  ingressClassName: semantics-other
  rules:
  - host: another.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: red, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: of-no-class, namespace: semantics }
spec:
  ingressClassName: somebody-elses
  rules:
  - host: no-class.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: no-such-service, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: of-no-class-by-annotation, namespace: semantics, annotations: { kubernetes.io/ingress.class: somebody-elses } }
spec:
  rules:
  - host: no-class-by-annotation.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: red, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: of-a-misspelt-class, namespace: semantics }
spec:
  ingressClassName: nodegaet
  rules:
  - host: misspelt.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: red, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: by-annotation, namespace: semantics, annotations: { kubernetes.io/ingress.class: nodegate } }
spec:
  rules:
  - host: annotation.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: green, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: classless, namespace: semantics }
spec:
  rules:
  - host: classless.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: blue, port: { number: 80 } } } }] }
";

const INGRESSES: &str = r"
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: hosts, namespace: semantics }
spec:
  ingressClassName: nodegate
  rules:
  - host: '*.wild.example'
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: blue, port: { number: 80 } } } }] }
  - host: api.wild.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: red, port: { number: 80 } } } }] }
  - host: half.wild.example
    http: { paths: [{ path: /half, pathType: Prefix, backend: { service: { name: red, port: { number: 80 } } } }] }
  - http: { paths: [{ path: /everywhere, pathType: Prefix, backend: { service: { name: green, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: paths, namespace: semantics }
spec:
  ingressClassName: nodegate
  rules:
  - host: paths.example
    http:
      paths:
      - { path: /foo, pathType: Prefix, backend: { service: { name: green, port: { number: 80 } } } }
      - { path: /foo, pathType: Exact, backend: { service: { name: red, port: { number: 80 } } } }
      - { path: /foo/bar/, pathType: Prefix, backend: { service: { name: blue, port: { number: 80 } } } }
      - { path: /exact, pathType: Exact, backend: { service: { name: red, port: { number: 80 } } } }
      - { path: /slash/, pathType: Exact, backend: { service: { name: blue, port: { number: 80 } } } }
      - { path: /free, pathType: ImplementationSpecific, backend: { service: { name: blue, port: { number: 80 } } } }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: expressions, namespace: semantics, annotations: { nodegate.dev/use-regex: 'true' } }
spec:
  ingressClassName: nodegate
  rules:
  - host: paths.example
    http: { paths: [{ path: '/v[0-9]+/items$', pathType: ImplementationSpecific, backend: { service: { name: green, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: own-default, namespace: semantics }
spec:
  ingressClassName: nodegate
  defaultBackend: { service: { name: blue, port: { number: 80 } } }
  rules:
  - host: default.example
    http: { paths: [{ path: /app, pathType: Prefix, backend: { service: { name: red, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: backends, namespace: semantics }
spec:
  ingressClassName: nodegate
  rules:
  - host: backends.example
    http:
      paths:
      - { path: /, pathType: Prefix, backend: { service: { name: red, port: { number: 80 } } } }
      - { path: /number, pathType: Prefix, backend: { service: { name: two-ports, port: { number: 80 } } } }
      - { path: /other-number, pathType: Prefix, backend: { service: { name: two-ports, port: { number: 81 } } } }
      - { path: /name, pathType: Prefix, backend: { service: { name: two-ports, port: { name: the-blue } } } }
      - { path: /no-such-name, pathType: Prefix, backend: { service: { name: two-ports, port: { name: the-red } } } }
      - { path: /no-such-number, pathType: Prefix, backend: { service: { name: two-ports, port: { number: 8001 } } } }
      - { path: /missing, pathType: Prefix, backend: { service: { name: missing, port: { number: 80 } } } }
      - { path: /late, pathType: Prefix, backend: { service: { name: late, port: { number: 80 } } } }
      - { path: /external, pathType: Prefix, backend: { service: { name: by-name, port: { number: 80 } } } }
      - { path: /resource, pathType: Prefix, backend: { resource: { apiGroup: example.com, kind: Bucket, name: pictures } } }
";

/// What is changed and deleted later.
const CONTESTED: &str = r"
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: z-older, namespace: semantics }
spec:
  ingressClassName: nodegate
  rules:
  - host: contested.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: red, port: { number: 80 } } } }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: edited, namespace: semantics }
spec:
  ingressClassName: nodegate
  rules:
  - host: edited.example
    http: { paths: [{ path: /before, pathType: Prefix, backend: { service: { name: green, port: { number: 80 } } } }] }
";
