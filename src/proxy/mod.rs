//! The data plane: listeners, connections, the handler, upstream pools, tunnels.
