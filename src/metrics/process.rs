//! What the kernel says about this process, from `/proc/self`. Whatever can't be read is left out.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// One reading.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    /// User and system time, in seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// Resident memory.
    pub(super) resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub(super) open_files: Option<u64>,
    /// The soft limit on them; `None` where there is none.
    pub(super) max_files: Option<u64>,
    /// Threads.
    pub(super) threads: Option<u64>,
}

/// Reads everything once.
pub(super) fn read() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Process {
        cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)),
        resident_bytes: status_field(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
        open_files: fs::read_dir("/proc/self/fd").ok().and_then(|entries| u64::try_from(entries.count()).ok()),
        max_files: getrlimit(Resource::Nofile).current,
        threads: status_field(&status, "Threads:"),
    }
}

/// Fields 14 and 15 of proc_pid_stat(5), in clock ticks; counted from behind the command's closing parenthesis, since it may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some((f64::from(user) + f64::from(system)) / f64::from(ticks))
}

fn status_field(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let process = read();
        assert!(process.cpu_seconds.is_some());
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(process.open_files.is_some_and(|files| files >= 3));
        assert!(process.threads.is_some_and(|threads| threads >= 1));
    }

    #[test]
    fn command_with_spaces_and_parentheses_moves_nothing() {
        let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
        let stat = format!("12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 {} {} 0 0 20", 2 * ticks, ticks / 2);
        assert_eq!(cpu_seconds(&stat), Some(2.5));
    }
}
