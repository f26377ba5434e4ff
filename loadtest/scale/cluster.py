"""The same from a real API server: one etcd and one kube-apiserver on loopback, without nodes."""

import http.client
import json
import pathlib
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from objects import NAMESPACE, SERVICES, endpoints, ingress, rules, service
from running import DEADLINE, Nodegate, row

API, ETCD, ETCD_PEER = "127.0.0.1:6497", "127.0.0.1:2397", "127.0.0.1:2398"
TOKEN = "scale-token"
NETWORKING = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses"


class Client:
    """One connection."""

    def __init__(self, directory):
        self.connection = http.client.HTTPSConnection(API, timeout=60, context=ssl.create_default_context(cafile=directory / "api.crt"))

    def send(self, method, path, body=None, kind="application/json"):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        self.connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text[:500]}"

    def is_ready(self):
        try:
            self.send("GET", "/readyz")
            return True
        except (OSError, http.client.HTTPException, AssertionError):
            self.connection.close()
            return False


class Cluster:
    """A control plane. Whoever has the token may do everything."""

    def __init__(self, binaries, directory):
        self.directory, self.processes = pathlib.Path(directory) / "cluster", []
        self.directory.mkdir()
        # Not an authority of its own: rustls takes none of these for a server's.
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
        self.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, "-keyout", "api.key", "-out", "api.crt")
        (self.directory / "tokens.csv").write_text(f"{TOKEN},scale,1,system:masters\n")
        kubeconfig = {
            "apiVersion": "v1", "kind": "Config", "current-context": "scale",
            "clusters": [{"name": "scale", "cluster": {"server": f"https://{API}", "certificate-authority": str(self.directory / "api.crt")}}],
            "users": [{"name": "scale", "user": {"token": TOKEN}}], "contexts": [{"name": "scale", "context": {"cluster": "scale", "user": "scale"}}],
        }
        self.kubeconfig = self.directory / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig))
        self.start(
            f"{binaries}/etcd", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=4294967296",
            f"--listen-client-urls=http://{ETCD}", f"--advertise-client-urls=http://{ETCD}", f"--listen-peer-urls=http://{ETCD_PEER}",
            f"--initial-advertise-peer-urls=http://{ETCD_PEER}", f"--initial-cluster=default=http://{ETCD_PEER}")
        address, port = API.split(":")
        self.start(
            f"{binaries}/kube-apiserver", f"--etcd-servers=http://{ETCD}", f"--bind-address={address}", f"--secure-port={port}", "--tls-cert-file=api.crt",
            "--tls-private-key-file=api.key", "--service-cluster-ip-range=10.43.0.0/16", "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
            "--token-auth-file=tokens.csv", "--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=api.crt", "--service-account-signing-key-file=api.key")

    def run(self, *command):
        subprocess.run(command, cwd=self.directory, check=True, capture_output=True)

    def start(self, *command):
        with open(self.directory / f"{pathlib.Path(command[0]).name}.log", "w") as log:
            self.processes.append(subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log))

    def __enter__(self):
        client, deadline = Client(self.directory), time.monotonic() + DEADLINE
        while not client.is_ready():
            if time.monotonic() > deadline or any(one.poll() is not None for one in self.processes):
                logs = "".join(path.read_text()[-2000:] for path in self.directory.glob("*.log"))
                self.__exit__()
                raise SystemExit(f"scale: the control plane doesn't start:\n{logs}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_):
        # The API server before its etcd.
        for one in reversed(self.processes):
            one.kill()
            one.wait()

    def fill(self, first, count):
        """With the Ingresses of these numbers; with the first, all that they need besides."""
        with ThreadPoolExecutor(8) as threads:
            clients = [Client(self.directory) for _ in range(8)]
            if first == 0:
                clients[0].send("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
                controller = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nodegate"}, "spec": {"controller": "nodegate.dev/ingress-controller"}}
                clients[0].send("POST", "/apis/networking.k8s.io/v1/ingressclasses", controller)
                for number in range(SERVICES):
                    clients[0].send("POST", f"/api/v1/namespaces/{NAMESPACE}/services", service(number))
                    clients[0].send("POST", f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", endpoints(number))

            def create(client, share):
                for number in range(first + share, count, len(clients)):
                    client.send("POST", NETWORKING, ingress(number))

            for made in [threads.submit(create, client, share) for share, client in enumerate(clients)]:
                made.result()


def measure(program, binaries, counts, directory):
    with Cluster(binaries, directory) as cluster:
        client, filled = Client(cluster.directory), 0
        for count in counts:
            cluster.fill(filled, count)
            filled = count

            def edit(number):
                patch = {"spec": {"rules": rules(count // 2, number % SERVICES)}}
                client.send("PATCH", f"{NETWORKING}/ingress-{count // 2}", patch, "application/merge-patch+json")

            edit(SERVICES - 1)
            with Nodegate(program, environment={"KUBECONFIG": str(cluster.kubeconfig)}) as nodegate:
                row(count, "API server", nodegate, edit)
