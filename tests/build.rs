//! Finds PostgreSQL, so that the tests that need one are there where there is one.

#[path = "../crates/test-postgres/src/programs.rs"]
mod programs;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(postgres)");
    for variable in ["PATH", "TEST_POSTGRES_URL"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    for path in ["/usr/lib/postgresql", "../crates/test-postgres/src/programs.rs", "build.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }

    if programs::programs().is_some() || programs::variable("TEST_POSTGRES_URL").is_some() {
        println!("cargo::rustc-cfg=postgres");
    } else {
        println!(
            "cargo::warning=there is no PostgreSQL, so what needs one is skipped (apt install postgresql)"
        );
    }
}
