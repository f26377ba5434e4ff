//! Manifests for what a Service can be: behind a ClusterIP, with endpoints, headless, or somewhere else.

use std::{fmt::Write as _, net::SocketAddr};

/// What the Service `service-0` of [`service`] is.
#[derive(Debug, Clone, Copy)]
pub enum Service<'a> {
    /// With this address, which has the port of the Service.
    ClusterIp(SocketAddr),
    /// As above; the Ingress wants its endpoints dialled.
    DialEndpoints(SocketAddr),
    /// Without an address.
    Headless,
    /// A DNS name and a port.
    External(&'a str, u16),
}

/// An endpoint as its EndpointSlice has it.
#[derive(Debug, Clone, Copy)]
pub enum Endpoint {
    /// In service.
    Ready(SocketAddr),
    /// On its way out, and still answering.
    Terminating(SocketAddr),
}

/// A Service with these endpoints, and an Ingress that leads every request to it.
pub fn service(service: Service<'_>, endpoints: &[Endpoint]) -> String {
    let port = match service {
        Service::ClusterIp(address) | Service::DialEndpoints(address) => address.port(),
        Service::External(_, port) => port,
        Service::Headless => 80,
    };
    let spec = match service {
        Service::ClusterIp(address) | Service::DialEndpoints(address) => format!("clusterIP: \"{}\"", address.ip()),
        Service::Headless => "clusterIP: None".to_owned(),
        Service::External(name, _) => format!("type: ExternalName, externalName: \"{name}\""),
    };
    let annotations = if matches!(service, Service::DialEndpoints(_)) { "nodegate.dev/dial: endpoints" } else { "" };
    let mut yaml = format!(
        "---
apiVersion: v1
kind: Service
metadata: {{ name: service-0, namespace: tests }}
spec: {{ {spec}, ports: [{{ port: {port} }}] }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: ingress-0, namespace: tests, annotations: {{ {annotations} }} }}
spec:
  ingressClassName: nodegate
  defaultBackend: {{ service: {{ name: service-0, port: {{ number: {port} }} }} }}
"
    );
    for (index, endpoint) in endpoints.iter().enumerate() {
        let (address, ready) = match endpoint {
            Endpoint::Ready(address) => (address, true),
            Endpoint::Terminating(address) => (address, false),
        };
        let (ip, port, terminating) = (address.ip(), address.port(), !ready);
        // A slice for each: ports are the slice's.
        write!(
            yaml,
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: slice-{index}, namespace: tests, labels: {{ kubernetes.io/service-name: service-0 }} }}
addressType: IPv4
ports: [{{ port: {port} }}]
endpoints: [{{ addresses: [{ip}], conditions: {{ ready: {ready}, serving: true, terminating: {terminating} }} }}]
"
        )
        .unwrap();
    }
    yaml
}
