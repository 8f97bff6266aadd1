//! Whom the files belong to that root's commands make, beside a service that runs as another user.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use rustix::process::getuid;

use crate::support::cli::{PASSWORD, create};
use crate::support::external_tools::skip;
use crate::support::server::{Deployment, Finished};

/// A user and a group that are not root's, and need no name.
const SERVICE: (u32, u32) = (54_321, 54_322);

fn assert_done(finished: &Finished) {
    assert_eq!(finished.code, 0, "{finished:?}");
}

/// Every file and folder below this one.
fn all_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(all_below(&path));
        }
        all.push(path);
    }
    all
}

#[test]
fn files_that_root_makes_belong_to_the_owner_of_their_folder() {
    if !getuid().is_root() {
        return skip("files_that_root_makes_belong_to_the_owner_of_their_folder", "root");
    }
    let deployment = Deployment::new().set("AUTH_TOKEN__ALGORITHM", "EdDSA");
    chown(deployment.folder(), Some(SERVICE.0), Some(SERVICE.1)).unwrap();

    assert_done(&deployment.run(&["keys", "generate"]));
    assert_done(&deployment.run(&["keys", "rotate"]));
    assert_done(&deployment.run(&["keys", "rotate", "--now"]));
    assert_done(&create(&deployment, "ann"));
    assert_done(&deployment.run(&["database", "backup", "backup"]));
    assert_done(&deployment.run(&["users", "export", "--output", "users.jsonl"]));
    let copy = ["database", "copy", "--from", "sqlite://data/auth.db", "--to", "sqlite://other/copy.db"];
    assert_done(&deployment.run(&copy));
    let restored = deployment.clone().set("AUTH_DATABASE__URL", "sqlite://restored/auth.db");
    assert_done(&restored.run(&["database", "restore", "backup"]));
    // Only a server that signs by HS256 makes a secret for tokens.
    assert!(deployment.clone().set("AUTH_TOKEN__ALGORITHM", "HS256").serve().stop().success());
    let server = deployment.serve();
    assert_done(&deployment.run_with(&["users", "create", "bob"], PASSWORD));

    let all = all_below(deployment.folder());
    for expected in [
        "data",
        "data/keys/.lock",
        "data/token-secret",
        "data/refresh-key",
        "data/auth.db",
        "data/auth.db-wal",
        "data/auth.db-shm",
        "backup",
        "users.jsonl",
        "other/copy.db",
        "restored/auth.db",
    ] {
        assert!(all.contains(&deployment.folder().join(expected)), "{expected}: {all:?}");
    }
    for path in all {
        let owner = fs::symlink_metadata(&path).unwrap();
        assert_eq!((owner.uid(), owner.gid()), SERVICE, "{}", path.display());
        assert_eq!(owner.mode() & 0o077, 0, "{}", path.display());
    }
    assert!(server.stop().success());
}

#[test]
fn files_that_root_makes_in_its_own_folder_stay_its_own() {
    if !getuid().is_root() {
        return skip("files_that_root_makes_in_its_own_folder_stay_its_own", "root");
    }
    let deployment = Deployment::new().set("AUTH_TOKEN__ALGORITHM", "EdDSA");

    assert_done(&deployment.run(&["keys", "generate"]));
    assert_done(&create(&deployment, "ann"));

    assert!(all_below(deployment.folder()).iter().all(|path| fs::metadata(path).unwrap().uid() == 0));
}
