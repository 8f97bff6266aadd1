//! What `make` and `.ci` promise, with stubs in place of the programs that they call.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// What stands in the output where the advisory database is out of reach.
const REPORT: &str = "!!! ADVISORIES NOT CHECKED";

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A folder of programs that come before all others.
struct Stubs(TempDir);

impl Stubs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A program that is this shell script.
    fn with(self, name: &str, script: &str) -> Self {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn run(&self, folder: &Path, command: &str) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        // What runs this test may be `make` itself, which speaks to others through the environment.
        let shell = Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(folder)
            .env_clear()
            .env("PATH", path)
            .output();
        shell.unwrap()
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A folder with what `make docker-up` needs of ours.
fn checkout() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("docker")).unwrap();
    for file in ["Makefile", "docker/make-env"] {
        fs::copy(Path::new(ROOT).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn is_untouched(folder: &Path) -> bool {
    !folder.join(".env").exists() && !folder.join("data").exists()
}

#[test]
fn docker_up_without_compose_writes_nothing() {
    let none = Stubs::new().with("docker", "exit 1").with("docker-compose", "exit 127");
    let absent = Stubs::new().with("docker", "exit 127");
    let unreachable = Stubs::new().with("docker", "[ \"$2\" != ps ]");
    for stubs in [none, absent, unreachable] {
        let folder = checkout();

        let done = stubs.run(folder.path(), "make docker-up");

        assert!(!done.status.success(), "{done:?}");
        assert!(text(&done).contains("nothing was written"), "{done:?}");
        assert!(is_untouched(folder.path()), "{done:?}");
    }
}

#[test]
fn docker_up_with_compose_makes_the_secrets_first() {
    let folder = checkout();
    let plugin = Stubs::new().with("docker", "echo \"$*\" >> calls; [ \"$2\" != up ] || [ -s .env ]");

    let done = plugin.run(folder.path(), "make docker-up");

    assert!(done.status.success(), "{done:?}");
    assert!(fs::read_to_string(folder.path().join(".env")).unwrap().contains("AUTH_ENV=production"));
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    assert_eq!(calls.lines().last(), Some("compose up --build --detach"), "{calls}");

    let folder = checkout();
    let program = Stubs::new().with("docker", "exit 1").with("docker-compose", "exit 0");
    assert!(program.run(folder.path(), "make docker-up").status.success());
    assert!(!is_untouched(folder.path()));
}

#[test]
fn advisory_hit_fails_and_missing_database_is_reported() {
    // What cargo-deny answers to `fetch db` and to `check advisories`.
    let cargo = |fetch: u8, check: u8| {
        let script =
            format!("case \"$*\" in *fetch*) exit {fetch};; *check*) echo checked; exit {check};; esac");
        Stubs::new().with("cargo", &script).run(Path::new(ROOT), ".ci/advisories")
    };

    let unreachable = cargo(1, 0);
    assert!(unreachable.status.success(), "{unreachable:?}");
    assert!(
        text(&unreachable).contains(REPORT) && !text(&unreachable).contains("checked"),
        "{unreachable:?}"
    );

    let clean = cargo(0, 0);
    assert!(clean.status.success() && !text(&clean).contains(REPORT), "{clean:?}");

    let hit = cargo(0, 1);
    assert!(!hit.status.success() && !text(&hit).contains(REPORT), "{hit:?}");

    let broken = Stubs::new().with("cargo", "exit 2").run(Path::new(ROOT), ".ci/advisories");
    assert!(!broken.status.success(), "{broken:?}");
}

#[test]
fn advisories_are_a_step_of_continuous_integration() {
    let steps = fs::read_to_string(Path::new(ROOT).join(".ci/run")).unwrap();

    assert!(steps.lines().any(|line| line == "make advisories"));
}

#[test]
fn test_run_ends_with_a_count_of_what_was_skipped() {
    let run = |script: &str| {
        let done = Stubs::new().with("cargo", script).run(Path::new(ROOT), "make test");
        (done.status.success(), String::from_utf8(done.stdout).unwrap().lines().last().unwrap().to_owned())
    };

    assert_eq!(run("exit 0"), (true, "no test was skipped".to_owned()));
    let skips = r#"[ "$1" = build ] || printf '%s\n' "a browser	one" "PyJWT	two" "a browser	three" >> "$TESTS_SKIPPED""#;
    let summary = "3 tests were skipped: 1 for want of PyJWT; 2 for want of a browser";
    assert_eq!(run(skips), (true, summary.to_owned()));
    assert!(!run("[ \"$1\" = build ]").0, "a failing test");
}

#[test]
fn files_that_may_hold_secrets_stay_out_of_git_and_images() {
    let lines = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
        text.lines().map(|line| line.trim_start_matches("**/").to_owned()).collect()
    };
    for file in [".gitignore", ".dockerignore"] {
        for pattern in ["*.pem", "*.key", "*.secret", ".env"] {
            assert!(lines(file).iter().any(|line| line == pattern), "{file} lacks {pattern}");
        }
    }
}
