//! Everything that needs a real database or a running server, in one binary.
//!
//! `store_contract` runs once per store, `database_copy` once per pair of stores, `end_to_end` against the real binary; `support` is
//! what the tests share.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test says no")]
#![allow(clippy::duplicate_mod, reason = "what holds for every database is compiled once for each")]

mod architecture;
mod checks;
mod common_passwords;
mod containers;
mod database_settings;
mod end_to_end;
#[cfg(postgres)]
mod postgres_adapter;
mod setting_values;
mod settings;
mod support;

// Another database is another module of this form. The path keeps it from being sought in a folder of its own.
#[path = "."]
mod sqlite {
    mod store_contract;

    pub(crate) use crate::support::sqlite::fresh;
}

#[cfg(postgres)]
#[path = "."]
mod postgres {
    mod store_contract;

    // Those that are about what the database keeps, and two that need this one. The others are about files and HTTP.
    mod end_to_end {
        mod audit;
        mod cli_users;
        mod import;
        mod introspection;
        mod log;
        mod migrations;
        mod multi_instance;
        mod names;
        mod ops_listener;
        mod outages;
        mod self_service;
        mod sessions;
        mod sign_up_and_login;
        mod throttle;

        use crate::support::postgres::{deployment, unmigrated};
    }

    pub(crate) use crate::support::postgres::fresh;
}

// Copies from each kind of database into each.
#[path = "."]
mod sqlite_to_sqlite {
    mod database_copy;

    use crate::support::sqlite::{fresh as source, fresh as target};
}

#[cfg(postgres)]
#[path = "."]
mod sqlite_to_postgres {
    mod database_copy;

    use crate::support::postgres::fresh as target;
    use crate::support::sqlite::fresh as source;
}

#[cfg(postgres)]
#[path = "."]
mod postgres_to_sqlite {
    mod database_copy;

    use crate::support::postgres::fresh as source;
    use crate::support::sqlite::fresh as target;
}

#[cfg(postgres)]
#[path = "."]
mod postgres_to_postgres {
    mod database_copy;

    use crate::support::postgres::{fresh as source, fresh as target};
}

#[cfg(not(postgres))]
#[test]
fn postgres() {
    let needs = "PostgreSQL's server (apt install postgresql), or TEST_POSTGRES_URL, the URL of one";
    support::external_tools::skip("everything on PostgreSQL", needs);
}
