//! Every installation that is shipped, rendered.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::Value;

use crate::built::built;

/// What the chart pretends to be installed into.
const NAMESPACE: &str = "nodegate-system";

/// One installation: the base, or an overlay.
#[derive(Debug)]
pub struct Installation {
    /// Its folder below `manifests`, such as `overlays/k3s-cloudflare`.
    pub name: String,
    /// What `kubectl kustomize` makes of it.
    pub kustomize: Vec<Value>,
    /// What `helm template` makes of it.
    pub helm: Vec<Value>,
}

/// All of them, the base first.
pub static INSTALLATIONS: LazyLock<Vec<Installation>> = LazyLock::new(|| {
    let kubectl = built(&["kubectl"]).join("kubectl");
    let helm = built(&["helm"]).join("helm");
    let manifests = manifests();
    let render = |directory: PathBuf| {
        let values = directory.join("values.yaml");
        let name = directory.strip_prefix(&manifests).unwrap().to_str().unwrap().to_owned();
        assert!(values.exists() || name == "base", "{name} has no values.yaml for the chart");
        Installation {
            kustomize: run(&name, Command::new(&kubectl).arg("kustomize").arg(&directory)),
            helm: run(&name, template(&helm).args(values.exists().then_some(["--values".as_ref(), values.as_os_str()]).iter().flatten())),
            name,
        }
    };
    let mut all = vec![render(manifests.join("base"))];
    all.extend(overlays(&manifests.join("overlays")).into_iter().map(render));
    all
});

/// The chart, with values on the command line: for what no overlay has.
pub fn chart_with(values: &[&str]) -> Vec<Value> {
    let helm = built(&["helm"]).join("helm");
    run("the chart", template(&helm).args(values.iter().flat_map(|value| ["--set", value])))
}

/// Why the chart refuses these values.
pub fn chart_refuses(values: &[&str]) -> String {
    let helm = built(&["helm"]).join("helm");
    let output = template(&helm).args(values.iter().flat_map(|value| ["--set", value])).output().unwrap();
    assert!(!output.status.success(), "{values:?} were taken");
    String::from_utf8(output.stderr).unwrap()
}

/// What `kubectl kustomize` makes of an example of the guide: the block of docs/install-k3s.md that begins with `# NAME/kustomization.yaml`, in a
/// folder of that name beside a checkout called `nodegate`.
pub fn example(name: &str) -> Vec<Value> {
    let guide = fs::read_to_string(manifests().join("../docs/install-k3s.md")).unwrap();
    let begin = format!("    # {name}/kustomization.yaml\n");
    let (_, rest) = guide.split_once(&begin).unwrap_or_else(|| panic!("no example {name}"));
    let block: Vec<&str> = rest.lines().map_while(|line| line.strip_prefix("    ")).collect();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join(name);
    fs::create_dir_all(root.path().join("nodegate")).unwrap();
    std::os::unix::fs::symlink(manifests(), root.path().join("nodegate/manifests")).unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("kustomization.yaml"), block.join("\n")).unwrap();
    run(name, Command::new(built(&["kubectl"]).join("kubectl")).arg("kustomize").arg(&directory))
}

/// The overlay of that name.
pub fn overlay(name: &str) -> &'static Installation {
    INSTALLATIONS.iter().find(|installation| installation.name == format!("overlays/{name}")).unwrap_or_else(|| panic!("no overlay {name}"))
}

impl Installation {
    /// The object of that kind; there is one of each.
    pub fn object(&self, kind: &str) -> &Value {
        let mut found = self.kustomize.iter().filter(|object| object["kind"] == kind);
        found.next().filter(|_| found.next().is_none()).unwrap_or_else(|| panic!("{}: not one {kind}", self.name))
    }

    /// The pod that every node runs.
    pub fn pod(&self) -> &Value {
        &self.object("DaemonSet")["spec"]["template"]["spec"]
    }

    /// Its one container.
    pub fn container(&self) -> &Value {
        let containers = self.pod()["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{}", self.name);
        &containers[0]
    }
}

impl Display for Installation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Where they are.
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

/// The folders at or below this one that are kustomizations, in order.
fn overlays(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .flat_map(|path| {
            path.join("kustomization.yaml").exists().then(|| path.clone()).into_iter().chain(overlays(&path)).collect::<Vec<_>>()
        })
        .collect();
    found.sort();
    found
}

fn template(helm: &Path) -> Command {
    let mut command = Command::new(helm);
    // Nothing of whoever runs the tests: no kubeconfig, no settings.
    command.env("HELM_NAMESPACE", NAMESPACE).env_remove("KUBECONFIG");
    command.arg("template").arg("nodegate").arg(manifests().join("helm/nodegate"));
    // Helm's own idea of Kubernetes, when it wasn't built by its makers, is an old one.
    command.args(["--kube-version", "1.34.0"]);
    command
}

fn run(name: &str, command: &mut Command) -> Vec<Value> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
    assert!(!objects.is_empty(), "{name}: nothing rendered");
    objects
}
