"""The proxies that are compared: how each is configured for a set of hosts and paths, started, and found again by its process."""

import os
import pathlib
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field

from . import configs, tls
from .configs import BACKEND, HOST, SOCKETS, Routes
from .process import DIRECT, cpu, metrics

HERE = pathlib.Path(__file__).resolve().parent
CONFIGS = HERE.parent / "peers"
PROXY_CORE, LOAD_CORE = "0", "1"
PORTS = {"relay": 8107, "nginx": 8101, "haproxy": 8102, "haproxy-64k": 8110, "envoy": 8103, "traefik": 8104, "caddy": 8105, "nodegate": 8106, "nodegate-2": 8108, "nodegate-few": 8109}
# Of HAProxy. As it comes, a small request is cheapest; a large body is with 64 KiB.
BUFFERS = {"haproxy": 16384, "haproxy-64k": 65536}
# Without these, the C library gives memory back and takes it again for every seventh of HAProxy's requests, which makes each a tenth dearer.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_TOP_PAD_": str(4 << 20)}
# For 12,000 connections of each proxy.
FILES = 32_000
# Some read 10,000 hosts for several seconds.
START_S = 60


def admin(name):
    """The admin listener of a Nodegate."""
    return f"{HOST}:{PORTS[name] + 100}"


def connections():
    """What each proxy is configured for: HAProxy insists on two and a half files for each."""
    return max(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 8, 12_000), 256)


@dataclass
class Fleet:
    """Processes of one set of routes, ended with it."""

    run: pathlib.Path
    tools: dict
    routes: Routes
    roots: dict = field(default_factory=dict)

    def __enter__(self):
        try:
            if self.routes.secure:
                configs.issue(self.run, self.routes.hosts)
            self.start_backend()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.roots.values():
            process.terminate()
        for process in self.roots.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def spawn(self, name, core, *command, **environment):
        # To append: what has been written is thrown away between two runs.
        out, err = (open(self.run / f"{name}.{kind}", "ab") for kind in ("out", "errors"))
        with out, err:
            self.roots[name] = subprocess.Popen(["taskset", "-c", core, *map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                                env={**os.environ, **environment}, cwd=self.run)

    def write(self, config, name, routes="", **also):
        address, port = (BACKEND, BACKEND) if name == "backend" else (HOST, str(PORTS[name]))
        text = (CONFIGS / config).read_text().replace("@ROUTES@", routes)
        backend_host, backend_port = BACKEND.split(":")
        secure = self.routes.secure and name != "backend"
        also = {**also, **(configs.reached(name, f"{address}:{port}", self.run) if secure else {})}
        for key, value in {"RUN": str(self.run), "LISTEN": f"{address}:{port}", "TLS": "", "SCHEME": "https" if secure else "http", "HOST": HOST, "PORT": port, "BACKEND": BACKEND, "BACKEND_HOST": backend_host,
                           "BACKEND_PORT": backend_port, "SOCKETS": SOCKETS, "CONNECTIONS": connections(), **also}.items():
            text = text.replace(f"@{key}@", str(value))
        (self.run / config).write_text(text)
        return self.run / config

    def start_backend(self):
        self.spawn("backend", LOAD_CORE, "nginx", "-c", self.write("backend.conf", "backend"))
        self.spawn("sockets", LOAD_CORE, sys.executable, HERE / "sockets.py", SOCKETS)
        for name, address in (("backend", BACKEND), ("sockets", SOCKETS)):
            host, port = address.split(":")
            self.wait(name, address, lambda: socket.create_connection((host, int(port)), timeout=5).close())

    def start(self, name, core=PROXY_CORE, routes=None):
        routes = routes or self.routes
        # Whoever has the port would answer for it, or share it.
        with socket.socket() as probe:
            if probe.connect_ex((HOST, PORTS[name])) == 0:
                sys.exit(f"something listens at port {PORTS[name]} already: end it, {name} is to have that port")
        command, environment = self.command(name, routes)
        self.spawn(name, core, *command, **environment)
        address = f"{'https' if routes.secure else 'http'}://{HOST}:{PORTS[name]}{routes.paths[-1]}"
        request = urllib.request.Request(address, headers={"Host": routes.hosts[-1]})
        plain = lambda: DIRECT.open(request, timeout=5).read()
        self.wait(name, address, (lambda: tls.Client(PORTS[name], routes.hosts[-1]).get()) if routes.secure else plain)

    def command(self, name, routes):
        """How to start a proxy, and with which environment; its configuration is written."""
        run = self.run
        match name:
            case "relay":
                return (self.tools["relay"], PORTS[name], *BACKEND.split(":")), {}
            case "nginx":
                return ("nginx", "-c", self.write("nginx.conf", name, configs.nginx(routes))), {}
            case "haproxy" | "haproxy-64k":
                return ("haproxy", "-db", "-f", self.write("haproxy.cfg", name, configs.haproxy(routes, run), BUFFER=BUFFERS[name])), KEEP_MEMORY
            case "envoy":
                config = self.write("envoy.yaml", name, configs.envoy(routes))
                return (self.tools["envoy"], "-c", config, "--concurrency", "1", "-l", "error", "--disable-hot-restart"), {}
            case "traefik":
                (run / "traefik-routes.yaml").write_text(configs.traefik(routes, run))
                return (self.tools["traefik"], f"--configFile={self.write('traefik.yaml', name)}"), {"GOMAXPROCS": "1"}
            case "caddy":
                config = self.write("Caddyfile", name, configs.caddy(routes))
                return (self.tools["caddy"], "run", "--adapter", "caddyfile", "--config", config), {"GOMAXPROCS": "1", "HOME": str(run)}
        manifests = run / f"{name}-manifests"
        manifests.mkdir(exist_ok=True)
        (manifests / "routes.yaml").write_text(configs.nodegate(routes, run))
        workers = "2" if name == "nodegate-2" else "1"
        listen = ["--http", f"{HOST}:{PORTS[name]}"]
        if routes.secure:
            listen = ["--http", f"{HOST}:{PORTS[name] + 200}", "--https", f"{HOST}:{PORTS[name]}"]
        return (self.tools["nodegate"], "serve", "--manifests", manifests, *listen, "--admin", admin(name), "--workers", workers,
                "--access-log", run / f"{name}.log"), {}

    def wait(self, name, address, attempt):
        """Until an attempt succeeds, which raises an `OSError` as long as nobody answers there."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                return attempt()
            except OSError as error:
                if self.roots[name].poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{name} doesn't answer at {address} ({error}): {self.complaint(name)}")
                time.sleep(0.1)

    def complaint(self, name):
        texts = (path.read_text(errors="replace")[-2000:] for path in self.run.glob(f"{name}.*") if path.suffix in (".errors", ".err", ".out"))
        return " ".join(texts).strip() or "it says nothing"

    def processes(self, name):
        """A proxy's processes; none where there is no proxy."""
        if name not in self.roots:
            return []
        root = self.roots[name].pid
        children = pathlib.Path(f"/proc/{root}/task/{root}/children").read_text().split()
        return [root, *map(int, children)]

    def cpu(self, name):
        """User and system time of a proxy so far, in microseconds."""
        times = [cpu(pid) for pid in self.processes(name)]
        return tuple(sum(time[kind] for time in times) * 1e6 for kind in (0, 1))

    def served(self):
        """Requests that the backend has had so far, these questions included."""
        with DIRECT.open(f"http://{BACKEND}/served", timeout=10) as answer:
            return int(answer.read().splitlines()[2].split()[2])

    def resident(self, name):
        """Resident memory in bytes. Pages that a master and its worker share count once; those of files do so although others have them, too, as the backend has nginx's."""
        own, files = 0, 0
        for pid in self.processes(name):
            lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
            own += sizes["Pss_Anon"]
            files = max(files, sizes["Rss"] - sizes["Anonymous"])
        return own + files

    def generation(self, name):
        """Tables that Nodegate has put in force so far."""
        return int(metrics(admin(name))["nodegate_snapshot_generation"])

    def forget_logs(self):
        """Throws the access logs away: they lie in memory here."""
        for path in self.run.iterdir():
            if path.suffix in (".log", ".out"):
                os.truncate(path, 0)


def versions(tools):
    """What is compared, in its own words."""
    def first(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "?")

    def traefik():
        lines = subprocess.run([tools["traefik"], "version"], capture_output=True, text=True).stdout.splitlines()
        return next((line.split()[-1] for line in lines if line.startswith("Version")), "?")

    return {
        "nodegate": first(tools["nodegate"], "--version"), "nginx": first("nginx", "-v").removeprefix("nginx version: "),
        "haproxy": first("haproxy", "-v").split(" 20")[0], "envoy": first(tools["envoy"], "--version").split("/")[-4], "traefik": traefik(),
        "caddy": first(tools["caddy"], "version").split()[0], "wrk": first("wrk", "-v").split(" [")[0], "oha": first(tools["oha"], "--version"),
        "h2load": first("h2load", "--version"), "openssl": ssl.OPENSSL_VERSION,
    }


def find_tools(arguments):
    """Programs that aren't on the path."""
    tools = {"nodegate": arguments.nodegate, "relay": arguments.relay, "oha": arguments.oha}
    for name in ("traefik", "caddy"):
        tools[name] = str(pathlib.Path(arguments.venv) / "bin" / name)
    tools["envoy"] = str(next(pathlib.Path(arguments.venv).glob("lib/**/envoy/_bin/envoy"), "envoy"))
    for name, path in tools.items():
        if not shutil.which(path):
            sys.exit(f"bench: {name} isn't there ({path}): loadtest/run installs it")
    return tools
