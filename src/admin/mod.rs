//! The admin listener: health, metrics, routes, explain. Reads snapshots; changes nothing.
