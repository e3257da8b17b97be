//! Files that hold a secret: nobody else may have written them, and nobody else may read them.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::process::geteuid;

/// Who may do anything to any file anyway.
const ROOT: u32 = 0;

/// What a file may be to others than its owner: readable for a group, which is how a file is shared with
/// a service.
const ALLOWED: u32 = 0o740;

/// Refuses a file that is not root's or ours, or that others may read or write, and says what to do.
pub fn check(path: &Path) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    judge(path, &found, geteuid().as_raw())
}

fn judge(path: &Path, found: &Metadata, us: u32) -> Result<(), String> {
    let (path, owner, mode) = (path.display(), found.uid(), found.mode() & 0o777);
    if owner != ROOT && owner != us {
        return Err(format!(
            "{path} holds a secret and belongs to user {owner}, who can read and replace it; expected root or the \
             user of this process ({us}): chown {us} {path}"
        ));
    }
    if mode & !ALLOWED != 0 {
        return Err(format!(
            "{path} holds a secret and is open to others than its owner (its mode is {mode:04o}); expected 0600, or \
             0640 for a group that may read it: chmod 600 {path}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

    use super::*;

    fn file(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tollgate-{name}-{}", std::process::id()));
        fs::write(&path, "s").unwrap();
        path
    }

    #[test]
    fn what_others_may_read_or_change_is_refused() {
        let path = file("secret-mode");
        for (mode, is_fine) in [
            (0o600, true),
            (0o400, true),
            (0o700, true),
            (0o640, true),
            (0o440, true),
            (0o644, false),
            (0o660, false),
            (0o650, false),
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

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let path = file("secret-owner");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(judge(&path, &found, found.uid()), Ok(()));
        let other = judge(&path, &found, found.uid() + 1);
        if found.uid() == ROOT {
            // Root could read it anyway.
            assert_eq!(other, Ok(()));
            std::os::unix::fs::chown(&path, Some(1), None).unwrap();
            let why = judge(&path, &fs::metadata(&path).unwrap(), ROOT).unwrap_err();
            assert!(why.contains("belongs to user 1,") && why.contains("chown 0 "), "{why}");
        } else {
            let why = other.unwrap_err();
            let us = found.uid() + 1;
            assert!(why.contains(&format!("user {},", found.uid())) && why.contains(&format!("chown {us} ")), "{why}");
        }
        fs::remove_file(&path).unwrap();
    }
}
