"""What each proxy is told: the hosts and paths that it routes, and how it is reached."""

import base64
import subprocess
from dataclasses import dataclass

# Addresses of the loopback interface only. The backend's stands for a ClusterIP.
HOST, BACKEND, SOCKETS = "127.0.0.1", "127.43.200.1:9001", "127.43.200.1:9002"
CERTIFICATE, KEY, BOTH = "tls.crt", "tls.key", "tls.pem"


@dataclass(frozen=True)
class Routes:
    """What a proxy routes: every host has every path, and all lead to the same backend."""

    hosts: tuple
    paths: tuple = ("/",)
    # Reached by TLS, and nothing else, with HTTP/1.1 or HTTP/2.
    secure: bool = False


ONE = Routes(("api.example.com",))
SECURE = Routes(ONE.hosts, secure=True)
TEN = Routes(tuple(f"h{number}.example.com" for number in range(10)))
MANY = Routes(tuple(f"h{number}.example.com" for number in range(10_000)))
PATHS = Routes(("api.example.com",), tuple(f"/r{number}" for number in range(100)))


def nginx(routes):
    locations = " ".join(f"location {path} {{ proxy_pass http://backend; }}" for path in routes.paths)
    return "\n".join(f"  server {{ listen @LISTEN@; server_name {host}; {locations} }}" for host in routes.hosts)


def haproxy(routes, run):
    # Its documentation's way for many hosts, and for paths: maps.
    table = run / "haproxy.map"
    if routes.paths == ("/",):
        table.write_text("".join(f"{host} api\n" for host in routes.hosts))
        return f"  use_backend %[req.hdr(host),field(1,:),lower,map({table})]"
    table.write_text("".join(f"{host}{path} api\n" for host in routes.hosts for path in routes.paths))
    return f"  use_backend %[base,map_beg({table})]"


def envoy(routes):
    pad = " " * 12
    matches = ", ".join(f"{{match: {{{'prefix' if path == '/' else 'path_separated_prefix'}: {path}}}, route: {{cluster: api, timeout: 0s}}}}" for path in routes.paths)
    return "\n".join(f"{pad}- {{name: {host}, domains: [{host}], routes: [{matches}]}}" for host in routes.hosts)


def traefik(routes, run):
    rules = [(host, path, f"r{number}") for number, (host, path) in enumerate((host, path) for host in routes.hosts for path in routes.paths)]
    rule = lambda host, path: f"Host(`{host}`)" + ("" if path == "/" else f" && PathPrefix(`{path}`)")
    routers = "".join(f'    {name}: {{rule: "{rule(host, path)}", service: api, entryPoints: [web]}}\n' for host, path, name in rules)
    tls = f"tls: {{certificates: [{{certFile: {run / CERTIFICATE}, keyFile: {run / KEY}}}]}}\n" if routes.secure else ""
    return f'http:\n  routers:\n{routers}  services: {{api: {{loadBalancer: {{servers: [{{url: "http://{BACKEND}"}}]}}}}}}\n{tls}'


def caddy(routes):
    handles = "\timport api"
    if routes.paths != ("/",):
        handles = "\t@api path " + " ".join(f"{path} {path}/*" for path in routes.paths) + "\n\thandle @api {\n\t\timport api\n\t}"
    # One block for all hosts: it takes minutes to read 10,000.
    addresses = ", ".join(f"@SCHEME@://{host}:@PORT@" for host in routes.hosts)
    return f"{addresses} {{\n\timport site\n{handles}\n}}"


def ingress(host, paths, name, secure=False):
    """An Ingress, and nothing that Nodegate would have to guess."""
    rules = "\n".join(f"      - {{path: {path}, pathType: Prefix, backend: {{service: {{name: api, port: {{number: 9001}}}}}}}}" for path in paths)
    tls = f"  tls: [{{hosts: [{host}], secretName: certificate}}]\n" if secure else ""
    return (f"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: bench}}\nspec:\n  ingressClassName: nodegate\n{tls}"
            f"  rules:\n  - host: {host}\n    http:\n      paths:\n{rules}\n")


def nodegate(routes, run=None):
    """`run` is where the certificate is, if there is one."""
    address, port = BACKEND.split(":")
    service = f"apiVersion: v1\nkind: Service\nmetadata: {{name: api, namespace: bench}}\nspec: {{clusterIP: {address}, ports: [{{port: {port}}}]}}\n"
    # As any cluster has it for each Service.
    pods = ("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
            "metadata: {name: api, namespace: bench, labels: {kubernetes.io/service-name: api}}\n"
            f"endpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]\nports: [{{port: {port}}}]\n")
    secrets = [secret(run)] if routes.secure else []
    return "---\n".join([service, pods, *secrets, *(ingress(host, routes.paths, f"i{number}", routes.secure) for number, host in enumerate(routes.hosts))])


def secret(run):
    encoded = (f"{name}: {base64.b64encode((run / name).read_bytes()).decode()}" for name in (CERTIFICATE, KEY))
    return f"apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: certificate, namespace: bench}}\ndata: {{{', '.join(encoded)}}}\n"


def issue(run, hosts):
    """The certificate that all proxies have: ECDSA with P-256, of its own authority."""
    names = ",".join(f"DNS:{host}" for host in hosts)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={hosts[0]}",
                    "-addext", f"subjectAltName={names}", "-keyout", run / KEY, "-out", run / CERTIFICATE], check=True, capture_output=True)
    # As HAProxy wants it.
    (run / BOTH).write_bytes((run / CERTIFICATE).read_bytes() + (run / KEY).read_bytes())


def reached(name, address, run):
    """What a configuration says of TLS: versions 1.2 and 1.3, HTTP/2 for whoever offers it, and for the rest what it comes with."""
    certificate, key = run / CERTIFICATE, run / KEY
    match name:
        case "nginx":
            # Tickets are its default; the cache is for clients without them, as its documentation advises.
            return {"LISTEN": f"{address} ssl http2",
                    "TLS": f"  ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;"}
        case "haproxy":
            return {"LISTEN": f"{address} ssl crt {run / BOTH} alpn h2,http/1.1"}
        case "envoy":
            files = f"tls_certificates: [{{certificate_chain: {{filename: {certificate}}}, private_key: {{filename: {key}}}}}]"
            context = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
            return {"TLS": f'      transport_socket: {{name: tls, typed_config: {{"@type": {context}, common_tls_context: {{alpn_protocols: [h2, http/1.1], {files}}}}}}}'}
        case "traefik":
            return {"TLS": "    http: {tls: {}}"}
        case "caddy":
            return {"TLS": f"\ttls {certificate} {key}"}
    return {}
