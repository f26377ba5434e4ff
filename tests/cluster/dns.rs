//! Cluster DNS: CoreDNS as a Deployment at its usual address, with a few names of the client namespace for ExternalName Services.

use std::time::Duration;

use crate::{images::COREDNS, network};

/// The Service `kube-dns`.
pub const ADDRESS: &str = "10.43.0.10";

/// How long an answer holds: the cache allows no less.
pub const TTL: Duration = Duration::from_secs(5);

/// What has to be applied.
pub fn manifests() -> String {
    let external: String =
        network::CLIENTS.map(|last| format!("      {} c{last}.external.test\n", network::client_address(last))).collect();
    let ttl = TTL.as_secs().to_string();
    MANIFESTS.replace("ADDRESS", ADDRESS).replace("TTL", &ttl).replace("COREDNS", COREDNS).replace("      EXTERNAL\n", &external)
}

/// `c10.external.test` and so on are the client namespace's addresses; an answer is good for [`TTL`].
const MANIFESTS: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: { name: coredns, namespace: kube-system }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: coredns }
rules:
- { apiGroups: [''], resources: [services, namespaces], verbs: [list, watch] }
- { apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: coredns }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: coredns }
subjects: [{ kind: ServiceAccount, name: coredns, namespace: kube-system }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: kube-proxy }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:node-proxier' }
subjects: [{ kind: User, name: 'system:kube-proxy', apiGroup: rbac.authorization.k8s.io }]
---
apiVersion: v1
kind: ConfigMap
metadata: { name: coredns, namespace: kube-system }
data:
  Corefile: |
    . {
      errors
      ready
      hosts {
        ttl TTL
      EXTERNAL
        fallthrough
      }
      kubernetes cluster.local in-addr.arpa
      cache TTL
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: coredns, namespace: kube-system }
spec:
  selector: { matchLabels: { k8s-app: kube-dns } }
  template:
    metadata: { labels: { k8s-app: kube-dns } }
    spec:
      serviceAccountName: coredns
      dnsPolicy: Default
      terminationGracePeriodSeconds: 1
      tolerations: [{ operator: Exists }]
      volumes: [{ name: config, configMap: { name: coredns } }]
      containers:
      - name: coredns
        image: COREDNS
        imagePullPolicy: Never
        args: [-conf, /config/Corefile]
        volumeMounts: [{ name: config, mountPath: /config }]
        readinessProbe: { httpGet: { path: /ready, port: 8181 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: kube-dns, namespace: kube-system }
spec:
  clusterIP: ADDRESS
  selector: { k8s-app: kube-dns }
  ports:
  - { name: dns, port: 53, protocol: UDP }
  - { name: dns-tcp, port: 53, protocol: TCP }
";
