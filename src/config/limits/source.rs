//! The configuration's limits: manifests, and how often the table is rebuilt.

use std::time::Duration;

/// Quiet time after an event before the table is rebuilt: a burst becomes one rebuild.
pub const REBUILD_DEBOUNCE: Duration = Duration::from_millis(20);

/// Between two looks at whether all workers have let go of the table that was replaced: they do so with their next request, or the next
/// [`DEADLINE_TICK`](super::DEADLINE_TICK).
pub const RETIRED_TABLE_LOOK: Duration = Duration::from_millis(100);

/// Longest that a storm of events may put a rebuild off.
pub const REBUILD_CEILING: Duration = Duration::from_millis(150);

/// Bytes of one manifest file. Beyond: a diagnostic, and the file's last good content stays.
pub const MANIFEST_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of manifest files that are held at once while they are read, and one file more: ten thousand files never are in the memory together.
pub const MANIFEST_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Threads that read manifests beside each other, where there are as many cores. Mostly at the start, when nothing else is to be done.
pub const MANIFEST_READERS: usize = 4;

/// New documents for each thread, which takes as long to begin as reading a few of them. An edit rarely has so many.
pub const MANIFEST_READER_DOCUMENTS: usize = 64;

/// How often in a row a manifest file is read that changes while it is read. Beyond: what was read last counts, until the next look.
pub const MANIFEST_READS: usize = 100;

/// How often the files under `--manifests` are compared with what was read, for file systems that report no events (NFS, FUSE) and for an
/// exhausted inotify limit. With very many files it becomes rarer, so that it takes no more than a hundredth of one core.
pub const MANIFEST_POLL: Duration = Duration::from_secs(2);

/// Entries of a burst that are looked at alone, because the kernel named them. Beyond: everything is looked at, as a burst of so many is likely to
/// be about more than files that were overwritten.
pub const MANIFEST_NAMED: usize = 64;

/// After a look at the files that events have caused, and that found nothing new, how many times as long as it took the next one is put off: so
/// that a storm of irrelevant changes to ten thousand files costs a fifth of a core at most.
pub const MANIFEST_REST: u32 = 4;

/// How long a file that vanished keeps its objects: editors that replace a file in two steps leave such a gap. Well below the 200 ms in which a
/// deletion is to be live.
pub const MANIFEST_HOLD: Duration = Duration::from_millis(100);

/// How long a file that was emptied keeps its objects. Whoever overwrites a file empties it first, and a busy machine may hold them up for some 100 ms
/// before they write; nobody deletes by emptying, so that this may take longer than a deletion.
pub const MANIFEST_EMPTY_HOLD: Duration = Duration::from_secs(2);

/// Nodes (scalars, sequences, mappings) of one YAML document. Beyond: the document is malformed. A `List` of 10,000 Ingresses has half a million.
pub const MANIFEST_NODES: usize = 4_000_000;

/// Parts of one YAML document that its aliases (`*name`) may repeat. Beyond: the document is malformed. People repeat a few dozen; a "billion
/// laughs" a billion.
pub const MANIFEST_ALIASED: usize = 20_000;
