//! One node: namespaces with private directories where a real machine has them, and containerd, kubelet and kube-proxy in them.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{
    credentials::Credentials,
    daemon::Daemon,
    dns,
    images::{self, PAUSE},
    namespace::Namespace,
    network::{self, node_address},
    power, sandbox,
    wait::{PATIENCE, until},
};

/// What a kubelet sets for the whole machine (`setupKernelTunables`), as it wants it. Each node has files of its own in these places.
pub const TUNABLES: [(&str, &str); 6] = [
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/panic_on_oom", "0"),
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/keys/root_maxkeys", "1000000"),
    ("/proc/sys/kernel/keys/root_maxbytes", "25000000"),
];

/// Where the kubelet looks for pods that nobody has told the API server of, in the node's directory.
const STATIC_PODS: &str = "static-pods";

/// A node of the cluster.
#[derive(Debug)]
pub struct Node {
    /// `n1` and so on; also the name of its Node object.
    pub name: String,
    pub address: Ipv4Addr,
    pub namespace: Namespace,
    number: u8,
    containerd: Daemon,
    kubelet: Daemon,
    kube_proxy: Daemon,
    work: PathBuf,
}

impl Node {
    /// Makes node `number` of `nodes`, wired but with nothing running. `work` is a directory that all nodes see.
    pub fn create(number: u8, nodes: u8, binaries: &Path, credentials: &Credentials, work: &Path) -> Self {
        let name = format!("n{number}");
        let own = work.join(&name);
        let namespace = Namespace::create(&private_directories(&own, work));
        network::join_node(&namespace, number, nodes);
        make_control_groups(&name);
        let logs = work.join("logs").join(&name);
        fs::create_dir_all(&logs).expect("a directory for logs");
        let write = |file: &str, content: &str| fs::write(own.join(file), content).expect("a file of the node");
        write("pods.conflist", &pod_network(number));
        write("containerd.toml", &containerd_settings());
        let static_pods = own.join(STATIC_PODS);
        fs::create_dir_all(&static_pods).expect("a directory for static pods");
        write("kubelet.json", &kubelet_settings(&name, &static_pods));
        let file = |file: &str| own.join(file).to_str().expect("a path in UTF-8").to_owned();
        let daemon = |program: &str, flags: Vec<String>| {
            let mut line = namespace.prefix();
            line.push(program.to_owned());
            line.extend(flags);
            Daemon::new(Path::new(program).file_name().and_then(|name| name.to_str()).expect("a name"), line, &logs)
        };
        let built = |program: &str| binaries.join(program).to_str().expect("a path in UTF-8").to_owned();
        let kubelet = vec![
            format!("--config={}", file("kubelet.json")),
            format!("--kubeconfig={}", credentials.kubeconfig(&name)),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", node_address(number)),
        ];
        let kube_proxy = vec![
            format!("--kubeconfig={}", credentials.kubeconfig("proxy")),
            "--proxy-mode=iptables".to_owned(),
            format!("--hostname-override={name}"),
            "--cluster-cidr=10.42.0.0/16".to_owned(),
            // The limit belongs to the machine, and may not be set from in here.
            "--conntrack-max-per-core=0".to_owned(),
        ];
        Self {
            containerd: daemon("containerd", vec![format!("--config={}", file("containerd.toml"))]),
            kubelet: daemon(&built("kubelet"), kubelet),
            kube_proxy: daemon(&built("kube-proxy"), kube_proxy),
            address: node_address(number),
            work: own,
            name,
            namespace,
            number,
        }
    }

    /// Starts containerd, loads the images that every node has, and starts the rest. The kubelet registers the node once the API server answers.
    pub fn start(&self) {
        self.start_containerd();
        self.kube_proxy.start();
        for image in images::AT_START {
            self.load(image);
        }
        self.kubelet.start();
    }

    /// Loads one of the images into this node's containerd.
    pub fn load(&self, image: &str) {
        self.run(&["ctr", "--namespace", "k8s.io", "images", "import", images::archive(image).to_str().expect("a path in UTF-8")]);
    }

    /// Runs a command to its end on this node. Its standard output; panics with everything it said if it fails.
    #[track_caller]
    pub fn run(&self, line: &[&str]) -> String {
        self.namespace.run(line)
    }

    pub fn start_kubelet(&self) {
        self.kubelet.start();
    }

    /// Kills the kubelet; the node's pods run on.
    pub fn stop_kubelet(&self) {
        self.kubelet.stop();
    }

    pub fn start_kube_proxy(&self) {
        self.kube_proxy.start();
    }

    /// Kills kube-proxy; its rules stay as they are.
    pub fn stop_kube_proxy(&self) {
        self.kube_proxy.stop();
    }

    /// Pulls the node's cable, or puts it back.
    pub fn set_link(&self, up: bool) {
        network::set_link(self.number, up);
    }

    /// As a loss of power: all that runs on the node is gone at once, nobody hears of it, and nothing is left but its disk. Not for the first node, unless the control
    /// plane is stopped.
    ///
    /// What stays that no disk keeps are the rules of kube-proxy and the overlay. Both come back on a real node once the control plane does, or by themselves; here the
    /// overlay is part of the rig, and nobody would make it again. And the kubelet won't speak of a reboot: the boot's id is the machine's.
    pub fn power_off(&self) {
        // First, so that no kernel says goodbye for those who are killed.
        self.set_link(false);
        for daemon in [&self.kubelet, &self.kube_proxy, &self.containerd] {
            daemon.stop();
        }
        power::end_processes(&self.name, &self.namespace);
        // A kubelet that finds containers' groups asks for each container for seconds.
        sandbox::empty_groups(&self.name);
        power::forget_memory(&self.namespace);
    }

    /// Starts what was on before [`Self::power_off`]. Images are still on the disk.
    pub fn power_on(&self) {
        self.set_link(true);
        self.start_containerd();
        self.kube_proxy.start();
        self.kubelet.start();
    }

    fn start_containerd(&self) {
        self.containerd.start();
        until("containerd answers", PATIENCE, || {
            self.containerd.check()?;
            let output = self.namespace.command(&["ctr", "version"]).output().map_err(|error| error.to_string())?;
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        });
    }

    /// Fails if one of its daemons ended by itself.
    pub fn check(&self) -> Result<(), String> {
        [&self.containerd, &self.kubelet, &self.kube_proxy].into_iter().try_for_each(Daemon::check)
    }

    /// Where the kubelet keeps pods' logs, seen from the sandbox.
    pub fn pod_logs(&self) -> PathBuf {
        self.work.join("log/pods")
    }

    /// Where a pod's manifest makes the kubelet run it, API server or not, for as long as it is there. Seen from the sandbox.
    pub fn static_pods(&self) -> PathBuf {
        self.work.join(STATIC_PODS)
    }
}

/// Gives a node its own /run, /var/lib, /var/log, /etc and [`TUNABLES`], with the shared directory still in place.
fn private_directories(own: &Path, work: &Path) -> String {
    let tunables: String = TUNABLES
        .map(|(path, value)| format!("install -D /dev/stdin $own/tunables{path} <<<{value} && mount --bind $own/tunables{path} {path}\n"))
        .concat();
    format!(
        "own={} work={}
         mkdir -p $own/run/${{work#/run/}} $own/lib $own/log $own/etc $own/etc.work
         mount --bind $own/lib /var/lib
         mount --bind $own/log /var/log
         mount -t overlay overlay -o lowerdir=/etc,upperdir=$own/etc,workdir=$own/etc.work /etc
         rm -f /etc/resolv.conf && echo nameserver {} >/etc/resolv.conf
         {tunables}
         mkdir -p /etc/cni/net.d && ln -s $own/pods.conflist /etc/cni/net.d/10-pods.conflist
         mount --rbind $work $own/run/${{work#/run/}}
         mount --rbind $own/run /run",
        own.display(),
        work.display(),
        dns::ADDRESS,
    )
}

/// A bridge for the node's pods; the overlay's routes lead to the others'.
fn pod_network(number: u8) -> String {
    serde_json::json!({ "cniVersion": "0.4.0", "name": "pods", "plugins": [
        { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true, "mtu": 1450, "ipam": {
            "type": "host-local", "ranges": [[{ "subnet": format!("10.42.{number}.0/24") }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ] })
    .to_string()
}

fn containerd_settings() -> String {
    // Where a process may not lower its oom_score_adj, containers fail with "can't get final child's PID from pipe" unless it is restricted.
    // Unprivileged ports inside pods are as K3s has them.
    format!(
        "version = 2
disabled_plugins = [\"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \
\"io.containerd.snapshotter.v1.zfs\", \"io.containerd.internal.v1.opt\", \"io.containerd.tracing.processor.v1.otlp\"]
[plugins.\"io.containerd.grpc.v1.cri\"]
  sandbox_image = \"{PAUSE}\"
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  [plugins.\"io.containerd.grpc.v1.cri\".cni]
    bin_dir = \"/usr/lib/cni\"
    conf_dir = \"/etc/cni/net.d\"
"
    )
}

fn kubelet_settings(name: &str, static_pods: &Path) -> String {
    serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{name}", sandbox::name()),
        "enforceNodeAllocatable": [],
        // These nodes may be on a machine that still has the first version, and are not told to swap.
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": [dns::ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "/dev/null",
        // The disk is memory, and images are loaded by hand: nothing is evicted or collected.
        "evictionHard": { "memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%" },
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
        "localStorageCapacityIsolation": false,
        // A lease is renewed after a quarter of this.
        "nodeLeaseDurationSeconds": 8,
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "5s",
        "staticPodPath": static_pods,
        "fileCheckFrequency": "1s",
        "shutdownGracePeriod": "0s",
    })
    .to_string()
}

/// Why the kernel may refuse controllers, and what helps.
const UNIFIED: &str = "The kernel says busy where control groups begin with a container's own, which has processes in it: run the container privileged and \
in the machine's namespace of control groups (docker run --privileged --cgroupns=host), or move its processes into a group below first";

/// The kubelet wants its root in every hierarchy, and in that of cpusets it starts out without any processor.
fn make_control_groups(node: &str) {
    for hierarchy in sandbox::hierarchies() {
        let parent = hierarchy.join(sandbox::name());
        let group = parent.join(node);
        fs::create_dir_all(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
        if sandbox::is_unified() {
            for directory in [&hierarchy, &parent, &group] {
                let control = directory.join("cgroup.subtree_control");
                if let Err(error) = fs::write(&control, "+cpu +cpuset +memory +pids") {
                    panic!("{}: {error}. {UNIFIED}", control.display());
                }
            }
        } else if hierarchy.ends_with("cpuset") {
            for (from, to) in [(&hierarchy, &parent), (&parent, &group)] {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = fs::read(from.join(file)).expect("a setting of the control group above");
                    fs::write(to.join(file), value).expect("a setting of our own control group");
                }
            }
        }
    }
}
