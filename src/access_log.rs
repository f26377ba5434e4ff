//! The access log: one JSON line a request, formatted and written by a thread of its own. A full pipe drops lines and counts them.
