//! Everything that needs a real database or a running server, in one binary.
//!
//! `laws` are what every store must obey, run once for each; `copies` what a copy from each into each must; `support` is
//! what the tests share.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test says no")]
#![allow(clippy::duplicate_mod, reason = "what holds for every database is compiled once for each")]

mod architecture;
mod checks;
mod common_passwords;
mod containers;
mod database_settings;
mod journeys;
#[cfg(postgres)]
mod postgres_adapter;
mod setting_values;
mod settings;
mod support;

// Another database is another module of this form. The path keeps it from being sought in a folder of its own.
#[path = "."]
mod sqlite {
    mod laws;

    pub(crate) use crate::support::sqlite::fresh;
}

#[cfg(postgres)]
#[path = "."]
mod postgres {
    mod laws;

    // Those that are about what the database keeps, and two that need this one. The others are about files and HTTP.
    mod journeys {
        mod accounts;
        mod audit;
        mod backends;
        mod import;
        mod instances;
        mod log;
        mod migrations;
        mod names;
        mod operators;
        mod outages;
        mod own_account;
        mod sessions;
        mod throttle;
        mod users;

        use crate::support::postgres::{deployment, unmigrated};
    }

    pub(crate) use crate::support::postgres::fresh;
}

// Copies from each kind of database into each.
#[path = "."]
mod sqlite_to_sqlite {
    mod copies;

    use crate::support::sqlite::{fresh as source, fresh as target};
}

#[cfg(postgres)]
#[path = "."]
mod sqlite_to_postgres {
    mod copies;

    use crate::support::postgres::fresh as target;
    use crate::support::sqlite::fresh as source;
}

#[cfg(postgres)]
#[path = "."]
mod postgres_to_sqlite {
    mod copies;

    use crate::support::postgres::fresh as source;
    use crate::support::sqlite::fresh as target;
}

#[cfg(postgres)]
#[path = "."]
mod postgres_to_postgres {
    mod copies;

    use crate::support::postgres::{fresh as source, fresh as target};
}

#[cfg(not(postgres))]
#[test]
fn postgres() {
    let needs = "PostgreSQL's server (apt install postgresql), or TEST_POSTGRES_URL, the URL of one";
    support::foreign::skip("everything on PostgreSQL", needs);
}
