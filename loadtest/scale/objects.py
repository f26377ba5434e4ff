"""The configuration that is measured: many Ingresses, each with a host of its own and four paths, to one of 100 Services."""

NAMESPACE = "shop"
SERVICES = 100
PATHS = [("/", "Prefix"), ("/api", "Prefix"), ("/api/v2", "Prefix"), ("/health", "Exact")]


def metadata(name, **more):
    return {"name": name, "namespace": NAMESPACE, **more}


def service(number):
    spec = {"clusterIP": f"10.43.1.{number + 1}", "ports": [{"port": 80, "name": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(f"service-{number}"), "spec": spec}


def endpoints(number):
    """Where the Service's one pod is: nobody connects to it here."""
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "metadata": metadata(f"service-{number}", labels={"kubernetes.io/service-name": f"service-{number}"}),
        "endpoints": [{"addresses": [f"192.0.2.{number + 1}"], "conditions": {"ready": True}}],
    }


def rules(number, service):
    backend = {"service": {"name": f"service-{service}", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": kind, "backend": backend} for path, kind in PATHS]
    return [{"host": f"host-{number}.example.com", "http": {"paths": paths}}]


def ingress(number, service=None):
    """To another Service than usual, where one is told."""
    spec = {"ingressClassName": "nodegate", "rules": rules(number, number % SERVICES if service is None else service)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata(f"ingress-{number}"), "spec": spec}


def yaml(value, indent=""):
    """As people and kubectl write it: an entry a line."""
    if isinstance(value, dict):
        entries = (f"{indent}{key}:" + nested(entry, indent) for key, entry in value.items())
    else:
        entries = (f"{indent}- " + yaml(entry, indent + "  ").removeprefix(indent + "  ") for entry in value)
    return "".join(entries)


def nested(value, indent):
    return "\n" + yaml(value, indent + "  ") if isinstance(value, dict | list) else f" {value}\n"


def documents(objects):
    return "---\n".join(yaml(one) for one in objects)
