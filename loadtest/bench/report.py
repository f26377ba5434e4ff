"""The page and the plots, from the raw data alone."""

import statistics

from . import plot

NAMES = {"direct": "no proxy", "relay": "byte relay", "nodegate": "Nodegate", "nginx": "nginx", "haproxy": "HAProxy", "haproxy-64k": "HAProxy, 64 KiB buffers", "envoy": "Envoy", "traefik": "Traefik",
         "caddy": "Caddy"}
# Workloads over TLS, which have a goal each.
SECURE = ("tls", "http2", "http2-64", "full-1.3", "resumed-1.3", "full-1.2", "resumed-1.2")
# Idle connections, by how they are reached.
IDLE = {"idle": "HTTP/1.1", "idle-tls": "HTTP/1.1 over TLS", "idle-http2": "HTTP/2 over TLS"}


def median_sample(samples):
    """The sample in the middle by its CPU time: its other figures belong to it."""
    return sorted(samples, key=lambda sample: sample["cpu"])[len(samples) // 2]


def median(samples, key):
    return statistics.median(sample[key] for sample in samples)


def paired(ours, theirs, of):
    """A figure of each round: what the machine did then fell on both samples. `None` where too much failed for that to say anything."""
    return None if is_void(ours) or is_void(theirs) else [of(one, other) for one, other in zip(ours, theirs)]


def ratio(key):
    return lambda one, other: one[key] / other[key]


def middle(values, form):
    """The middle half of some values: how far a median can be trusted."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{form.format(low)} to {form.format(high)}"


def is_void(samples):
    """Whether so many requests failed that the rest tell nothing: an error is answered quickly."""
    return failed(samples) > 0.001 * sum(sample["requests"] for sample in samples)


def micros(value):
    return f"{value:.1f} µs" if value < 1000 else f"{value / 1000:.2f} ms"


def latencies(samples):
    return [micros(median(samples, key)) for key in ("p50", "p99", "p99.9")]


def failed(samples):
    return sum(sample["failed"] for sample in samples)


def mebibytes(value):
    return f"{value / (1 << 20):.1f} MiB"


def table(head, rows):
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)]) + "\n"


class Page:
    def __init__(self, data):
        self.data = data
        self.parts = []

    def ratios(self, workload, peer):
        """Nodegate's CPU time to a peer's, as `paired`; none where it wasn't measured."""
        samples = self.data["workloads"].get(workload, {}).get("samples", {})
        return paired(samples["nodegate"], samples[peer], ratio("cpu")) if samples.keys() >= {"nodegate", peer} else []

    def cheaper(self, workload, *peers):
        """Of a peer's variants the one that takes less; the first where none was measured."""
        samples = self.data["workloads"].get(workload, {}).get("samples", {})
        return min((peer for peer in peers if peer in samples), key=lambda peer: median(samples[peer], "cpu"), default=peers[0])

    def goals(self):
        """(goal, figure, in the rounds, kept), those that are missed first."""
        found = []

        def at_most(text, values, limit, form="{:.2f}"):
            if values is None:
                found.append((text, "void: too many requests failed", "", False))
            elif values:
                value = statistics.median(values)
                found.append((text, f"{form.format(value)} (at most {form.format(limit)})", middle(values, form), value <= limit))

        for workload, peer, limit in (("get-64", "nginx", 0.85), ("get-64", "haproxy", 0.75), ("get-64", "traefik", 1 / 6), ("get-64", "relay", 1.4),
                                      ("get-1000", "nginx", 1), ("connect", "nginx", 1), *((name, "nginx", 1) for name in SECURE), ("http2", "traefik", 1 / 4), ("down-1m", self.cheaper("down-1m", "haproxy", "haproxy-64k"), 0.9), ("down-1m", "relay", 1.35)):
            at_most(f"CPU, {self.title(workload)}: Nodegate to {NAMES[peer]}", self.ratios(workload, peer), limit)
        if self.data.get("rate"):
            rate = {peer: samples for peer, samples in self.data["rate"]["samples"].items() if not is_void(samples)}
            best = min((peer for peer in rate if peer not in ("direct", "relay", "nodegate")), key=lambda peer: median(rate[peer], "p99"), default=None)
            to_best, added = None, None
            if best and "nodegate" in rate and "direct" in rate:
                to_best = paired(rate["nodegate"], rate[best], ratio("p99"))
                added = paired(rate["nodegate"], rate["direct"], lambda a, b: (a["p99"] - b["p99"]) / 1000)
            at_most(f"p99 at the fixed rate: Nodegate to the best peer ({NAMES.get(best, '?')})", to_best, 1)
            at_most("p99 at the fixed rate: what Nodegate adds, in ms", added, 1)
        if self.data.get("idle"):
            at_most("memory of an idle connection, in KiB", [value / 1024 for value in self.data["idle"]["samples"]["nodegate"]], 10, "{:.1f}")
        if "get-64" in self.data["workloads"]:
            serving = self.data["workloads"]["get-64"]["samples"]["nodegate"]
            at_most("resident memory serving 64 connections, in MiB", [sample["resident"] / (1 << 20) for sample in serving], 20, "{:.1f}")
        if self.data.get("hosts"):
            samples = self.data["hosts"]["samples"]
            at_most("CPU with 10,000 hosts to CPU with 10", paired(samples["nodegate"], samples["nodegate-few"], ratio("cpu")), 1.05, "{:.3f}")
        if self.data.get("edits"):
            samples = self.data["edits"]["samples"]
            # Without edits, the two below would be easily kept.
            tables = [sample["tables"] for sample in samples["edited"]]
            found.append(("tables put in force in a round of these edits", f"{statistics.median(tables):.0f} (more than 1)", middle(tables, "{:.0f}"), min(tables) > 1))
            lost = failed(samples["edited"])
            found.append(("requests that failed while an Ingress was edited every 100 ms", f"{lost} (none)", "all", lost == 0))
            at_most("p99 with these edits to p99 without", paired(samples["edited"], samples["quiet"], ratio("p99")), 1.1)
        if self.data.get("stuck"):
            samples = self.data["stuck"]["samples"]
            lost = failed(samples["stuck"])
            found.append((f"requests that failed beside {3 * self.data['stuck']['each']:,} stuck connections", f"{lost} (none)", "all", lost == 0))
            at_most("p99 beside these connections to p99 without", paired(samples["stuck"], samples["quiet"], ratio("p99")), 1.1)
        return sorted(found, key=lambda goal: goal[3])

    def title(self, workload):
        return self.data["workloads"].get(workload, {}).get("title", workload)

    def add(self, *texts):
        self.parts.extend(texts)

    def text(self):
        data, machine = self.data, self.data["machine"]
        settings = data["settings"]
        rounds = f"{settings['rounds']} rounds of {settings['seconds']} s" if settings["rounds"] > 1 else "one round"
        self.add("# Measured side by side\n")
        self.add("Written by `make bench`, which anyone can run; the raw data is in [results/data.json](results/data.json). "
                 "The method, and what the figures don't say, is in [README.md](README.md).\n")
        if settings["quick"]:
            self.add("**A quick run: it shows that everything works, and its figures are not to be quoted.**\n")
        self.add(f"{machine['date']}, revision {data['versions']['revision']}; {machine['cpu']}, {machine['cores']} cores, {machine['memory'] / (1 << 30):.0f} GiB, "
                 f"Linux {machine['kernel']}, load {machine['load']:.1f} before. {rounds.capitalize()}, interleaved; the median round is shown.\n")
        self.add(f"Nodegate was compiled by {data['rustc']}.\n", "Versions: " + ", ".join(version for name, version in data["versions"].items() if name not in ("revision", "envoy", "traefik", "caddy"))
                 + f", Envoy {data['versions']['envoy']}, Traefik {data['versions']['traefik']}, Caddy {data['versions']['caddy']}.\n")
        goals = self.goals()
        if goals:
            self.add("## Our goals, those that we miss first\n",
                     "A figure that compares two is of samples of the same round, and the median of the rounds counts; beside it is the middle half of the rounds. "
                     "What keeps us from the goals that we miss is in [README.md](README.md#what-limits-nodegate).\n",
                     table(("goal", "figure", "in half of the rounds", ""), [(*goal, "kept" if kept else "**missed**") for *goal, kept in goals]))
        self.costs()
        self.latencies()
        self.rates()
        self.memory()
        self.special()
        return "\n".join(self.parts)

    def costs(self):
        workloads = self.data["workloads"]
        if not workloads:
            return
        peers = [peer for peer in NAMES if any(peer in one["samples"] for one in workloads.values())]
        self.add("## CPU time\n", "Microseconds of a core, of the proxy's processes: user and system time.\n")
        if "get-64" in workloads:
            self.add("![CPU time of a small request](results/cpu.svg)\n")
        rows = []
        for name, one in workloads.items():
            cells = []
            for peer in peers:
                if peer not in one["samples"]:
                    cells.append("")
                    continue
                sample = median_sample(one["samples"][peer])
                lost = failed(one["samples"][peer])
                figure = "void" if is_void(one["samples"][peer]) else f"{sample['cpu']:.1f}"
                cells.append(figure + (f" ({lost} failed)" if lost else ""))
            rows.append((f"{one['title']}, for each {one['unit']}", *cells))
        self.add(table(("", *(NAMES[peer] for peer in peers)), rows))
        others = [peer for peer in peers if peer != "nodegate"]
        ratios = [(one["title"], *(f"{statistics.median(found):.2f}" if (found := self.ratios(name, peer)) else "" for peer in others)) for name, one in workloads.items()]
        self.add("Nodegate's share of what each peer needs, the median of what it was in each round:\n", table(("", *(NAMES[peer] for peer in others)), ratios))
        rows = []
        for peer in peers:
            found = workloads.get("get-64", {}).get("samples", {}).get(peer)
            if found:
                sample = median_sample(found)
                rows.append((NAMES[peer], f"{sample['user']:.1f}", f"{sample['system']:.1f}", f"{min(one['cpu'] for one in found):.1f} to {max(one['cpu'] for one in found):.1f}"))
        if rows:
            self.add("Small GET, 64 connections, in its parts, and over all rounds:\n", table(("", "user", "system", "rounds"), rows))

    def latencies(self):
        rate = self.data.get("rate")
        if not rate:
            return
        self.add(f"## Latency at {rate['rate']:,} requests a second\n",
                 "Half of what the slowest proxy bears; oha, 64 connections, each request timed from its turn. CPU time at this rate, which is the same for all, in microseconds.\n", "![Latency](results/latency.svg)\n")
        rows = [(NAMES[peer], *latencies(samples), f"{median(samples, 'cpu'):.1f}", failed(samples))
                for peer, samples in rate["samples"].items()]
        self.add(table(("", "p50", "p99", "p99.9", "CPU", "failed"), rows))

    def rates(self):
        workloads = self.data["workloads"]
        rows = []
        for name in ("get-1", "get-64", "get-1000", "connect", "tls", "http2"):
            for peer, samples in workloads.get(name, {}).get("samples", {}).items():
                # h2load tells no percentiles.
                told = [micros(median(samples, key)) if key in samples[0] else "" for key in ("p50", "p99")]
                rows.append((self.title(name), NAMES[peer], f"{median(samples, 'rate'):,.0f}", *told))
        if rows:
            self.add("## Requests a second, in a closed loop\n", "wrk or h2load on the backend's core, which limits the faster proxies: what they could do is more.\n",
                     table(("", "", "requests/s", "p50", "p99"), rows))

    def memory(self):
        idle = {name: self.data[name] for name in IDLE if name in self.data}
        if idle:
            limited = lambda name, count: " (as many as the limit on open files, which all proxies are given, has room for)" if name == "idle" and count < 10_000 else ""
            counts = ", ".join(f"{one['connections']:,} with {IDLE[name]}{limited(name, one['connections'])}" for name, one in idle.items())
            self.add("## Memory\n", f"Keep-alive connections that had one answer each and are idle for 3 s, {counts}; what the process grew by, for each, in KiB:\n")
            if "idle" in idle:
                self.add("![Memory](results/memory.svg)\n")
            peers = list(dict.fromkeys(peer for one in idle.values() for peer in one["samples"]))
            self.add(table(("", *(IDLE[name] for name in idle)), [(NAMES[peer], *(f"{statistics.median(one['samples'][peer]) / 1024:.1f}" for one in idle.values())) for peer in peers]))
        get = self.data["workloads"].get("get-64")
        if get:
            self.add("Resident memory after 64 connections' load:\n", table(("", "MiB"), [(NAMES[peer], f"{median(samples, 'resident') / (1 << 20):.1f}") for peer, samples in get["samples"].items()]))

    def special(self):
        edits = self.data.get("edits")
        if edits:
            rows = [({"quiet": "no edit", "edited": "an edit every 100 ms"}[name], *latencies(samples), failed(samples), f"{median(samples, 'tables'):.0f}")
                    for name, samples in edits["samples"].items()]
            self.add(f"## Edits under load\n", f"Nodegate at {edits['rate']:,} requests a second, its control plane on the same core:\n",
                     table(("", "p50", "p99", "p99.9", "failed", "tables put in force in a round"), rows))
        stuck = self.data.get("stuck")
        if stuck:
            rows = [({"quiet": "none of them", "stuck": f"{stuck['each']} of each"}[name], *latencies(samples), failed(samples))
                    for name, samples in stuck["samples"].items()]
            self.add("## Stuck connections\n", f"Nodegate at {stuck['rate']:,} requests a second over TLS, beside silent connections, half handshakes, and half prefaces of HTTP/2:\n",
                     table(("", "p50", "p99", "p99.9", "failed"), rows))
        hosts = self.data.get("hosts")
        if hosts:
            rows = [({"nodegate": "10,000 hosts", "nodegate-few": "10 hosts"}[name], micros(median_sample(samples)["cpu"]), mebibytes(median(samples, "resident")))
                    for name, samples in hosts["samples"].items()]
            self.add("## Hosts\n", "Two Nodegates in turn, small GET, 64 connections, each of its hosts as often as the others:\n", table(("", "CPU", "resident"), rows))
        workers = self.data.get("workers")
        if workers:
            rows = [({"nodegate": "1 worker, core 0", "nodegate-2": "2 workers, cores 0 and 1"}[name], micros(median_sample(samples)["cpu"]), f"{median(samples, 'rate'):,.0f}",
                     mebibytes(median(samples, "resident"))) for name, samples in workers["samples"].items()]
            self.add("## Workers\n", "Small GET, 64 connections. The load shares a core with the second worker.\n", table(("", "CPU", "requests/s", "resident"), rows))


def write(data, out):
    results = out / "results"
    get = data["workloads"].get("get-64")
    if get:
        groups = [(NAMES[peer], [(None, median_sample(samples)["cpu"], plot.colour(peer))]) for peer, samples in get["samples"].items()]
        (results / "cpu.svg").write_text(plot.bars("CPU time of one small request", "64 keep-alive connections, microseconds of a core; less is better", groups, micros))
    rate = data.get("rate")
    if rate:
        groups = [(NAMES[peer], [(key, median(samples, key), shade) for key, shade in zip(("p50", "p99", "p99.9"), plot.SHADES)]) for peer, samples in rate["samples"].items()]
        (results / "latency.svg").write_text(plot.bars(f"Latency at {rate['rate']:,} requests a second", "64 connections; less is better", groups, micros))
    idle = data.get("idle")
    if idle:
        groups = [(NAMES[peer], [(None, statistics.median(values) / 1024, plot.colour(peer))]) for peer, values in idle["samples"].items()]
        (results / "memory.svg").write_text(plot.bars("Memory of one idle connection", "less is better", groups, "{:.1f} KiB".format))
    (out / "RESULTS.md").write_text(Page(data).text())
