//! The sockets of a process, as the kernel shows them.
//!
//! Invariant: what is listed belongs to the process that was asked about.

use std::fs;

/// Inodes of all sockets that a process holds.
pub(crate) fn sockets_of(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| {
            let text = link.to_string_lossy().into_owned();
            text.strip_prefix("socket:[").map(|rest| rest.trim_end_matches(']').to_owned())
        })
        .collect()
}
