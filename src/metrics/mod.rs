//! The numbers of each worker, and their Prometheus text. Workers count in plain integers of their own; a scrape asks each for a copy.
