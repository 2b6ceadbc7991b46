//! On which file system a path lies, from `/proc/self/mountinfo` (proc(5)). Where that can't be read or is of another
//! form, nothing is refused: the check is a help, SQLite's own checks come after it.

use std::path::{Path, PathBuf};

/// File systems whose locks or shared memory do not reach over hosts as the WAL needs.
const NETWORK: [&str; 15] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "afs",
    "lustre",
    "gpfs",
    "glusterfs",
    "beegfs",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.rclone",
];

/// The network file system that a file lies on or would be created on, if it is one.
pub(super) fn network_file_system(file: &Path) -> Option<String> {
    let absolute = std::path::absolute(file).ok()?;
    let folder = absolute.parent()?.canonicalize().ok()?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let kind = file_system_of(&table, &folder)?;
    NETWORK.contains(&kind.as_str()).then_some(kind)
}

/// The type of the file system that holds a folder: of the longest mount point above it the last one mounted.
fn file_system_of(table: &str, folder: &Path) -> Option<String> {
    table
        .lines()
        .filter_map(|line| {
            let (mount, device) = line.split_once(" - ")?;
            let point = PathBuf::from(unescape(mount.split(' ').nth(4)?));
            let kind = device.split(' ').next()?;
            folder.starts_with(&point).then(|| (point.components().count(), kind.to_owned()))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
}

/// proc(5) writes space, tab, line feed and backslash as octal.
fn unescape(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
28 27 0:25 / /srv/with\\040space rw shared:1 - nfs4 host:/x rw
29 27 0:26 / /data rw - nfs host:/y rw
30 29 0:27 / /data rw - xfs /dev/vdb rw";

    #[test]
    fn the_deepest_and_last_mount_decides() {
        let kind = |path: &str| file_system_of(TABLE, Path::new(path));
        assert_eq!(kind("/home/x").as_deref(), Some("ext4"));
        assert_eq!(kind("/srv/with space/db").as_deref(), Some("nfs4"));
        assert_eq!(kind("/srv/with").as_deref(), Some("ext4"));
        assert_eq!(kind("/data/db").as_deref(), Some("xfs"), "the mount on top hides the one below");
    }

    #[test]
    fn a_table_of_another_form_names_nothing() {
        assert_eq!(file_system_of("nonsense\n\n - ", Path::new("/")), None);
    }
}
