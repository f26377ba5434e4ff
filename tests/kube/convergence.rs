//! Which versions nodes report to serve, and who waits for them: `nodegate wait`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Event, ServiceAccount},
    networking::v1::Ingress,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::rig::{App, Cluster, Directory, Nodegate, Process, Site, eventually, get, objects};

const SERVES: &str = "nodegate.dev/serves";
const HELD: &str = "nodegate.dev/held";

/// A site with an Ingress `web` for `<namespace>.example`, whose one Nodegate is in the pod `n1`.
async fn begin(namespace: &'static str) -> (Site, App, Nodegate) {
    let cluster = Cluster::shared();
    let site = Site::new(cluster, namespace).await;
    let app = App::deploy(&site.client, namespace, "app").await;
    objects::create(&site.client, namespace, &objects::ingress("web", &format!("{namespace}.example"), "app")).await;
    let nodegate = site.member(&cluster.nodegate_kubeconfig(cluster.api_address()), "n1", "192.0.2.81").await;
    (site, app, nodegate)
}

impl Site {
    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// The version of the Ingress `web`.
    async fn version(&self) -> u64 {
        let ingress = Api::<Ingress>::namespaced(self.client.clone(), self.namespace).get("web").await.expect("the Ingress");
        ingress.metadata.resource_version.and_then(|version| version.parse().ok()).expect("a number")
    }

    /// Changes the host of the Ingress `web`. Returns its version then.
    async fn edit(&self, host: &str) -> u64 {
        let patch = json!({ "spec": { "rules": objects::rules(host, "app") } });
        objects::change::<Ingress>(&self.client, self.namespace, "web", patch).await;
        self.version().await
    }

    /// Waits until a pod reports to serve that version, or a later one. Returns its annotations.
    async fn reports(&self, pod: &str, version: u64) -> BTreeMap<String, String> {
        let leases = self.leases();
        eventually(&format!("{pod} reports {version}"), async || {
            let lease = leases.get(&format!("{pod}.serves")).await.map_err(|error| error.to_string())?;
            let annotations = lease.metadata.annotations.unwrap_or_default();
            let text = annotations.get(SERVES).cloned().unwrap_or_default();
            let reached = text.strip_prefix(&format!("{}=", self.namespace)).and_then(|version| version.parse::<u64>().ok());
            if reached.is_some_and(|reached| reached >= version) { Ok(annotations) } else { Err(text) }
        })
        .await
    }

    /// A node with a Ready pod whose Nodegate is this test: what it reports is what [`Site::says`] says.
    async fn puppet(&self, name: &str) {
        self.node(name, &[]).await;
        self.pod(name, name).await;
        self.pod_ready(name, true).await;
    }

    async fn says(&self, pod: &str, version: u64, held: &str) {
        self.says_all(pod, &format!("{}={version}", self.namespace), held).await;
    }

    async fn says_all(&self, pod: &str, serves: &str, held: &str) {
        let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": self.pod_uid(pod).await });
        let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {
            "name": format!("{pod}.serves"), "labels": { "nodegate.dev/report": "serves" },
            "annotations": { SERVES: serves, HELD: held }, "ownerReferences": [owner] } });
        let params = PatchParams::apply("puppet").force();
        self.leases().patch(&format!("{pod}.serves"), &params, &Patch::Apply(lease)).await.expect("a Lease");
    }

    /// What the Event about an edit says: the version, the message, and how often.
    async fn told(&self) -> Option<(String, String, i32)> {
        let events = Api::<Event>::namespaced(self.client.clone(), self.namespace).list(&ListParams::default()).await.expect("a list");
        let mut told = events.items.into_iter().filter(|event| event.reason.as_deref() == Some("Programmed"));
        let event = told.next()?;
        assert!(told.next().is_none(), "one for all edits");
        let version = event.involved_object.resource_version.unwrap_or_default();
        Some((version, event.message.unwrap_or_default(), event.count.unwrap_or_default()))
    }

    async fn is_told(&self, version: u64, message: &str, count: i32) {
        eventually(&format!("an Event about {version}"), async || match self.told().await {
            Some(told) if told == (version.to_string(), message.to_owned(), count) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// `nodegate wait` for the Ingress `web`, with more arguments.
    fn wait(&self, kubeconfig: &Path, more: &[&str]) -> Wait {
        let ingress = format!("{}/web", self.namespace);
        Wait::start(kubeconfig, &[&["--ingress", &ingress, "--nodegate-namespace", self.namespace], more].concat())
    }
}

/// A `nodegate wait` that runs.
struct Wait {
    process: Process,
    _directory: Directory,
}

impl Wait {
    fn start(kubeconfig: &Path, arguments: &[&str]) -> Self {
        let directory = Directory::create("wait");
        let environment = [("KUBECONFIG", kubeconfig.as_os_str()), ("NO_PROXY", OsStr::new("*"))];
        let arguments = ["wait"].iter().chain(arguments);
        let process = Process::start("wait", Path::new(env!("CARGO_BIN_EXE_nodegate")), arguments, &environment, directory.path());
        Self { process, _directory: directory }
    }

    /// Waits until it has said that.
    async fn said(&mut self, text: &str) {
        eventually(&format!("wait says {text:?}"), async || {
            self.process.assert_runs();
            let log = self.process.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Its exit code, once it has ended, and everything it has said.
    async fn ended(mut self) -> (Option<i32>, String) {
        let status = eventually("wait ends", async || self.process.ended().ok_or_else(|| self.process.log())).await;
        (status.code(), self.process.log())
    }

    /// Ended in vain, and said all of that.
    async fn fails(self, expected: &[&str]) {
        let (code, text) = self.ended().await;
        assert!(code == Some(1) && expected.iter().all(|part| text.contains(part)), "exit {code:?}, expected 1 and {expected:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_reports_the_version_that_it_serves_and_every_edit_moves_it_on() {
    let (site, _app, nodegate) = begin("reported").await;
    site.reports("n1", site.version().await).await;
    let lease = site.leases().get("n1.serves").await.expect("the report");
    let owners = serde_json::to_value(&lease.metadata.owner_references).expect("JSON");
    assert_eq!(owners, json!([{ "apiVersion": "v1", "kind": "Pod", "name": "n1", "uid": site.pod_uid("n1").await }]));

    let version = site.edit("reported-edited.example").await;
    let annotations = site.reports("n1", version).await;
    assert_eq!(annotations[HELD], "");
    let answer = get(nodegate.http, "reported-edited.example", "/").await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "app"), "served at the first try");
    // Nothing but the status: the table is what it was, and the version isn't.
    let generation = nodegate.metric("nodegate_snapshot_generation").await;
    let status = Patch::Merge(json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.5" }] } } }));
    let ingresses = Api::<Ingress>::namespaced(site.client.clone(), site.namespace);
    ingresses.patch_status("web", &PatchParams::default(), &status).await.expect("a status");
    site.reports("n1", site.version().await).await;
    assert_eq!(nodegate.metric("nodegate_snapshot_generation").await, generation);

    // Whoever restarts in the same pod goes on with the same Lease, and is told nothing twice.
    assert!(nodegate.metric("nodegate_reports_written_total").await.expect("a count") >= 2);
    assert_eq!(nodegate.metric("nodegate_report_errors_total").await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_report_serves_and_says_so_once() {
    let cluster = Cluster::start().await;
    let site = Site::new(&cluster, "mute").await;
    let _app = App::deploy(&site.client, "mute", "app").await;
    objects::create(&site.client, "mute", &objects::ingress("web", "mute.example", "app")).await;
    cluster.revoke(Some("leases")).await;
    let nodegate = site.member(&cluster.nodegate_kubeconfig(cluster.api_address()), "n1", "192.0.2.82").await;
    nodegate.serves("mute.example", "app").await;
    eventually("some tries", async || match nodegate.metric("nodegate_report_errors_total").await {
        Ok(tries) if tries > 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let lines = |text: &str| nodegate.log().iter().filter(|line| line.to_string().contains(text)).count();
    assert_eq!(lines("can't report what this node serves"), 1);
    cluster.revoke(None).await;
    site.reports("n1", site.version().await).await;
    eventually("its end is said", async || if lines("is reported again") == 1 { Ok(()) } else { Err("not yet") }).await;
    nodegate.serves("mute.example", "app").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_returns_when_every_node_serves_the_edit_with_no_more_rights_than_the_documented_ones() {
    let (site, _app, nodegate) = begin("waited").await;
    let kubeconfig = pipeline(&site).await;
    site.puppet("n2").await;
    let lagging = site.node_name("n2");
    site.wait(&kubeconfig, &["--timeout", "2s"]).fails(&["1 of 2 nodes serve it", &lagging, "no report"]).await;

    let before = site.version().await;
    site.says("n2", before, "").await;
    let version = site.edit("waited-second.example").await;
    site.wait(&kubeconfig, &["--timeout", "3s"])
        .fails(&["isn't in force everywhere after 3s: 1 of 2 nodes serve it; waiting for", &lagging])
        .await;

    let mut wait = site.wait(&kubeconfig, &["--timeout", "1m"]);
    wait.said("waiting for").await;
    site.says("n2", version + 1_000_000, "").await;
    let (code, text) = wait.ended().await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("waited/web is in force on 2 of 2 nodes (resourceVersion "), "{text}");

    // From now on only the real one can lag.
    for number in 0..5 {
        let host = format!("waited-{number}.example");
        site.edit(&host).await;
        let (code, text) = site.wait(&kubeconfig, &[]).ended().await;
        let answer = get(nodegate.http, &host, "/").await.expect("an answer");
        assert_eq!((code, answer.status), (Some(0), 200), "edit {number}: {text}");
    }

    // Who isn't Ready, or leaves, isn't waited for.
    site.says("n2", before, "").await;
    site.pod_ready("n2", false).await;
    site.pod_terminates("n2").await;
    let (code, text) = site.wait(&kubeconfig, &[]).ended().await;
    assert!(code == Some(0) && text.contains("on 1 of 1 nodes"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_says_what_will_never_be_and_what_to_do() {
    let (site, _app, _nodegate) = begin("hopeless").await;
    let cluster = Cluster::shared();
    let kubeconfig = cluster.admin_kubeconfig();
    site.puppet("n2").await;
    site.says("n2", u64::MAX, "hopeless/api,hopeless/web").await;
    site.wait(&kubeconfig, &[])
        .fails(&["isn't in force on", &site.node_name("n2"), "kubectl describe ingress web --namespace hopeless"])
        .await;
    site.says("n2", u64::MAX, "hopeless/api,...").await;
    site.wait(&kubeconfig, &[]).fails(&["nobody can tell whether hopeless/web is", "kubectl describe"]).await;

    let wait = |arguments: &[&str]| Wait::start(&kubeconfig, arguments);
    wait(&["--ingress", "hopeless/nowhere"]).fails(&["there is no Ingress hopeless/nowhere"]).await;
    wait(&["--ingress", "hopeless/web", "--nodegate-namespace", "default"])
        .fails(&["there is no pod of Nodegate in the namespace default", "--nodegate-namespace"])
        .await;
    objects::create(&site.client, site.namespace, &objects::ingress_of_class("foreign", Some("other"), "hopeless-foreign.example", "app"))
        .await;
    wait(&["--ingress", "hopeless/foreign", "--nodegate-namespace", "hopeless"]).fails(&["isn't Nodegate's by its class"]).await;
    objects::create(
        &site.client,
        site.namespace,
        &objects::ingress_of_class("misspelt", Some("nodgate"), "hopeless-misspelt.example", "app"),
    )
    .await;
    wait(&["--ingress", "hopeless/misspelt", "--nodegate-namespace", "hopeless"]).fails(&["did you mean `nodegate`?"]).await;
    let stranger = cluster.kubeconfig_of("stranger", "no-token-of-this-cluster");
    site.wait(&stranger, &[]).fails(&["not allowed to get Ingress hopeless/web", "docs/wait.md"]).await;

    // The only node that counts looks elsewhere; then it has no numbers.
    site.pod_ready("n1", false).await;
    site.says_all("n2", "other=5", "").await;
    site.wait(&kubeconfig, &[]).fails(&["doesn't watch the namespace hopeless on", "--watch-namespace"]).await;
    site.says_all("n2", "hopeless=?", "").await;
    site.wait(&kubeconfig, &[]).fails(&["are no numbers on", &site.node_name("n2")]).await;
    site.pod_ready("n2", false).await;
    site.wait(&kubeconfig, &["--timeout", "1s"]).fails(&["no pod of Nodegate is Ready"]).await;
    site.pod_ready("n2", true).await;

    // It goes while somebody waits for it.
    site.says("n2", 1, "").await;
    let mut waiting = site.wait(&kubeconfig, &[]);
    waiting.said("waiting for").await;
    objects::delete::<Ingress>(&site.client, site.namespace, "web").await;
    waiting.fails(&["was deleted meanwhile"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_has_one_event_once_every_node_serves_it_and_the_next_the_same_one() {
    let (site, _app, nodegate) = begin("told").await;
    // It leads, and knows who is there.
    let ingresses = Api::<Ingress>::namespaced(site.client.clone(), site.namespace);
    eventually("the node's address", async || {
        let status = ingresses.get("web").await.map_err(|error| error.to_string())?.status;
        if format!("{status:?}").contains("192.0.2.81") { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert!(nodegate.log().iter().any(|line| line["message"] == "leading"));
    let first = site.edit("told-first.example").await;
    site.is_told(first, "in force on 1/1 nodes", 1).await;

    site.puppet("n2").await;
    site.says("n2", first, "").await;
    let second = site.edit("told-second.example").await;
    site.reports("n1", second).await;
    assert_eq!(site.told().await.map(|told| told.0), Some(first.to_string()), "not before the other node has it");
    site.says("n2", second, "").await;
    site.is_told(second, "in force on 2/2 nodes", 2).await;

    // A status is no edit; that nothing was told of it shows in the count of the next one.
    let status = Patch::Merge(json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.5" }] } } }));
    ingresses.patch_status("web", &PatchParams::default(), &status).await.expect("a status");
    let version = site.version().await;
    site.reports("n1", version).await;
    site.says("n2", u64::MAX, "").await;
    let third = site.edit("told-third.example").await;
    site.is_told(third, "in force on 2/2 nodes", 3).await;

    let description = Cluster::shared().kubectl(&["describe", "ingress", "web", "--namespace", site.namespace]);
    let line = description.lines().find(|line| line.contains("Programmed")).unwrap_or_else(|| panic!("{description}"));
    assert!(line.contains("Normal") && line.contains("(x3 over") && line.ends_with("in force on 2/2 nodes"), "{description}");
}

/// A kubeconfig of a pipeline's account, with the rights that the documentation says it needs.
async fn pipeline(site: &Site) -> PathBuf {
    let (cluster, namespace) = (Cluster::shared(), site.namespace);
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wait.md")).expect("the documentation");
    let (_, behind) = text.split_once("```yaml\n").expect("the roles");
    let (roles, behind) = behind.split_once("```").expect("their end");
    let roles: Vec<Value> = serde_saphyr::from_multiple(roles).expect("YAML");
    let directory = Directory::create("pipeline");
    for mut role in roles {
        if role["metadata"]["namespace"].is_string() {
            role["metadata"]["namespace"] = namespace.into();
        }
        let file = directory.write("role.json", &role.to_string());
        cluster.kubectl(&["apply", "-f", file.to_str().expect("UTF-8")]);
    }
    objects::create::<ServiceAccount>(&site.client, namespace, &objects::object(json!({ "metadata": { "name": "ci" } }))).await;
    let (_, commands) = behind.split_once("```\n").expect("the bindings");
    let (commands, _) = commands.split_once("```").expect("their end");
    for command in commands.replace("shop:ci", &format!("{namespace}:ci")).lines() {
        let words = command.split_whitespace().map(|word| if matches!(word, "shop" | "nodegate-system") { namespace } else { word });
        cluster.kubectl(&words.skip(1).collect::<Vec<_>>());
    }
    let token = cluster.kubectl(&["create", "token", "ci", "--namespace", namespace]);
    cluster.kubeconfig_of("ci", token.trim())
}
