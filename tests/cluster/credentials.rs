//! Keys, tokens and kubeconfigs of one cluster, in a directory that is gone with it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::network::node_address;

/// Only the requests of our own service accounts are worth the disk.
const AUDIT_POLICY: &str = r#"{ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
    { "level": "Metadata", "userGroups": ["system:serviceaccounts:nodegate-system"] }, { "level": "None" } ] }"#;

/// The files of one cluster's API server and of those who ask it.
#[derive(Debug)]
pub struct Credentials {
    directory: PathBuf,
}

impl Credentials {
    /// Makes them in a directory that exists: a certificate that is its own authority, a key for service-account tokens, users' tokens.
    pub fn create(directory: &Path, nodes: u8) -> Self {
        let credentials = Self { directory: directory.to_owned() };
        let names = [node_address(1).to_string(), "10.43.0.1".into(), "kubernetes.default.svc".into(), "kubernetes.default".into()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        credentials.write("api.crt", &made.cert.pem());
        credentials.write("api.key", &made.signing_key.serialize_pem());
        let accounts = rcgen::KeyPair::generate().expect("a key");
        credentials.write("accounts.key", &accounts.serialize_pem());
        credentials.write("accounts.pub", &accounts.public_key_pem());
        credentials.write("audit-policy.json", AUDIT_POLICY);
        // Token, user, uid, groups. Nobody but these namespaces reaches the API server.
        let mut tokens = String::from(
            "admin-token,admin,1,system:masters\nmanager-token,system:kube-controller-manager,2\n\
             scheduler-token,system:kube-scheduler,3\nproxy-token,system:kube-proxy,4\n",
        );
        for user in ["admin", "manager", "scheduler", "proxy"] {
            credentials.write_kubeconfig(user);
        }
        for number in 1..=nodes {
            tokens += &format!("n{number}-token,system:node:n{number},n{number},system:nodes\n");
            credentials.write_kubeconfig(&format!("n{number}"));
        }
        credentials.write("tokens.csv", &tokens);
        credentials
    }

    /// The path of one of the files.
    pub fn file(&self, name: &str) -> String {
        self.directory.join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// The kubeconfig of `admin`, `manager`, `scheduler`, `proxy`, or of a node.
    pub fn kubeconfig(&self, user: &str) -> String {
        self.file(&format!("{user}.kubeconfig"))
    }

    fn write_kubeconfig(&self, user: &str) {
        let server: Ipv4Addr = node_address(1);
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
            "clusters": [{ "name": "e2e", "cluster": { "server": format!("https://{server}:6443"), "certificate-authority": self.file("api.crt") } }],
            "users": [{ "name": user, "user": { "token": format!("{user}-token") } }],
            "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": user } }],
        });
        self.write(&format!("{user}.kubeconfig"), &kubeconfig.to_string());
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.directory.join(name), content).expect("a file in the cluster's directory");
    }
}
