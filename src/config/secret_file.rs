//! Files that hold a secret: nobody else may read them.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Refuses a file that others may read or write, and says what to do.
///
/// A group may read a file that is not ours, for that is how a file of root's is shared with a service.
pub fn check(path: &Path) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // `/proc/self` belongs to whom we run as.
    let is_ours = fs::metadata("/proc/self").map_or(true, |own| own.uid() == found.uid());
    let allowed = if is_ours { 0o700 } else { 0o740 };
    let mode = found.mode() & 0o777;
    if mode & !allowed == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(format!("{path} can be read by others than its owner (its mode is {mode:04o}): chmod 600 {path}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_may_read_is_refused() {
        let path = std::env::temp_dir().join(format!("tollgate-secret-{}", std::process::id()));
        fs::write(&path, "s").unwrap();
        for (mode, is_fine) in [
            (0o600, true),
            (0o400, true),
            (0o700, true),
            (0o644, false),
            (0o640, false),
            (0o606, false),
            (0o602, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let checked = check(&path);
            assert_eq!(checked.is_ok(), is_fine, "{mode:o} {checked:?}");
            if let Err(why) = checked {
                assert!(why.contains(&format!("{mode:04o}")) && why.contains("chmod 600"), "{why}");
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(check(&path).unwrap_err().contains("cannot read"));
    }
}
