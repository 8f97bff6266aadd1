//! Migrations are embedded by a macro, which cannot see that a folder was added.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations/postgres");
}
