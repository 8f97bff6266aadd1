//! A release after this one.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// Its version.
pub(crate) const VERSION: &str = "9999";

/// Its migrations on one of the databases: ours, and one more, which does this.
pub(crate) fn migrations(database: &str, up: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(database);
    for migration in fs::read_dir(ours).unwrap().map(|entry| entry.unwrap()) {
        let copy = folder.path().join(migration.file_name());
        fs::create_dir(&copy).unwrap();
        for file in ["up.sql", "down.sql"] {
            fs::copy(migration.path().join(file), copy.join(file)).unwrap();
        }
    }
    let later = folder.path().join(format!("{VERSION}_later"));
    fs::create_dir(&later).unwrap();
    fs::write(later.join("up.sql"), up).unwrap();
    fs::write(later.join("down.sql"), "SELECT 1").unwrap();
    folder
}
