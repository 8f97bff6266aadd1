//! Files and folders for their owner only, which a command of root makes for the service's user.
//!
//! Root's cron runs a command, and the service runs as another user. What the command makes belongs to the owner of the
//! folder that it is in, or the service could not read it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::Path;

/// The user id of root.
const ROOT: u32 = 0;

/// Makes a folder of mode 700, and those that it is in, unless they are there.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    create_folder(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => give_to_owner_of(parent, &File::open(path)?),
        // Another process made it just now.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a new file to the owner of its folder, if root made it in the folder of another user.
pub fn give_to_owner_of(folder: &Path, file: &File) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let owner = fs::metadata(folder)?;
    if file.metadata()?.uid() != ROOT || owner.uid() == ROOT {
        return Ok(());
    }
    match fchown(file, Some(owner.uid()), Some(owner.gid())) {
        // A root that may not do that is one user among others.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}
