//! Wiring only: binds everything, starts the threads, drains.
