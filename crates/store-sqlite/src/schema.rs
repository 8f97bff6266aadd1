//! The tables as diesel knows them, kept in step with `migrations/sqlite` by hand; the tests would notice.

diesel::table! {
    users (id) {
        id -> BigInt,
        username -> Text,
        username_key -> Text,
        password_hash -> Text,
        credentials_epoch -> BigInt,
        disabled_at -> Nullable<BigInt>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    sessions (id) {
        id -> Binary,
        user_id -> BigInt,
        nonce -> Binary,
        generation -> BigInt,
        superseded -> Binary,
        seen -> Bool,
        recoveries -> Binary,
        created_at -> BigInt,
        last_used_at -> BigInt,
        expires_at -> BigInt,
        ends_at -> BigInt,
        ended_at -> Nullable<BigInt>,
        end_cause -> Nullable<Text>,
        address -> Nullable<Text>,
        user_agent -> Nullable<Text>,
    }
}

diesel::table! {
    known_networks (user_id, network) {
        user_id -> BigInt,
        network -> Text,
        last_login_at -> BigInt,
    }
}

diesel::table! {
    throttles (name, whence) {
        name -> Binary,
        whence -> Binary,
        failures -> BigInt,
        failed_at -> BigInt,
        undecided -> Binary,
        is_stray -> Bool,
    }
}

diesel::table! {
    audit_events (number) {
        number -> BigInt,
        at -> BigInt,
        event -> Text,
        outcome -> Text,
        reason -> Nullable<Text>,
        count -> BigInt,
        user_id -> Nullable<BigInt>,
        name_digest -> Nullable<Text>,
        request_id -> Nullable<Text>,
        salt -> Nullable<Binary>,
        address -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        client_digest -> Nullable<Binary>,
        seal -> Binary,
    }
}

diesel::table! {
    audit_erasures (user_id) {
        user_id -> BigInt,
        blanked_to -> BigInt,
    }
}

diesel::table! {
    audit_anchor (only_row) {
        only_row -> Integer,
        number -> BigInt,
        seal -> Binary,
        proof -> Binary,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(sessions, users);
diesel::allow_tables_to_appear_in_same_query!(known_networks, users);
diesel::allow_tables_to_appear_in_same_query!(audit_events, users);

// diesel's own record of what has been applied. Its harness makes the table when it is asked what is in it,
// which is more than a look at somebody else's file may do.
diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

diesel::table! {
    sqlite_master (name) {
        name -> Text,
    }
}

// The highest number that AUTOINCREMENT ever gave in a table (<https://www.sqlite.org/autoinc.html>).
diesel::table! {
    sqlite_sequence (name) {
        name -> Text,
        seq -> BigInt,
    }
}

// Pragmas as tables (<https://www.sqlite.org/pragma.html#pragfunc>), so that the DSL can read them.
diesel::table! {
    pragma_application_id (application_id) {
        application_id -> Integer,
    }
}

diesel::table! {
    pragma_journal_mode (journal_mode) {
        journal_mode -> Text,
    }
}

diesel::table! {
    pragma_data_version (data_version) {
        data_version -> BigInt,
    }
}

diesel::table! {
    pragma_integrity_check (integrity_check) {
        integrity_check -> Text,
    }
}

diesel::table! {
    pragma_foreign_key_check (child) {
        #[sql_name = "table"]
        child -> Text,
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    fn sqlite_version() -> Text;
}
