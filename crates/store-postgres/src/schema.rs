//! The tables as diesel knows them, kept in step with `migrations/postgres` by hand; the store contract would notice.

use diesel::sql_types::{Bool, Nullable, Text};

diesel::table! {
    /// One row, and a mark.
    auth_api (mark) {
        mark -> Bool,
        written_at -> Timestamptz,
    }
}

diesel::table! {
    users (id) {
        id -> BigInt,
        username -> Text,
        username_key -> Text,
        password_hash -> Text,
        credentials_epoch -> BigInt,
        disabled_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

// The sequence that users' numbers come from, which reads as a table of one row.
diesel::table! {
    users_id_seq (last_value) {
        last_value -> BigInt,
        is_called -> Bool,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        user_id -> BigInt,
        nonce -> Binary,
        generation -> BigInt,
        superseded -> Array<Timestamptz>,
        seen -> Bool,
        recoveries -> Array<Timestamptz>,
        created_at -> Timestamptz,
        last_used_at -> Timestamptz,
        expires_at -> Timestamptz,
        ends_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
        end_cause -> Nullable<Text>,
        address -> Nullable<Inet>,
        user_agent -> Nullable<Text>,
    }
}

diesel::table! {
    known_networks (user_id, network) {
        user_id -> BigInt,
        network -> Inet,
        last_login_at -> Timestamptz,
    }
}

diesel::table! {
    throttles (name, whence) {
        name -> Binary,
        whence -> Binary,
        failures -> BigInt,
        failed_at -> Timestamptz,
        undecided -> Array<Timestamptz>,
        is_stray -> Bool,
    }
}

diesel::table! {
    audit_events (id) {
        id -> BigInt,
        number -> Nullable<BigInt>,
        at -> Timestamptz,
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
        mark -> Nullable<Binary>,
        seal -> Nullable<Binary>,
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
        only_row -> Bool,
        number -> Nullable<BigInt>,
        seal -> Nullable<Binary>,
        proof -> Nullable<Binary>,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(sessions, users);
diesel::allow_tables_to_appear_in_same_query!(known_networks, users);
diesel::allow_tables_to_appear_in_same_query!(audit_events, users);

// diesel's own record of what has been applied.
diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

// What there is, as every engine that speaks the protocol tells it.
diesel::table! {
    pg_catalog.pg_tables (tablename) {
        schemaname -> Text,
        tablename -> Text,
    }
}

diesel::table! {
    pg_catalog.pg_proc (proname) {
        proname -> Text,
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    fn current_schema() -> Nullable<Text>;

    fn has_schema_privilege(schema: Nullable<Text>, privilege: Text) -> Nullable<Bool>;

    fn has_table_privilege(table: Text, privilege: Text) -> Bool;

    fn quote_ident(name: Text) -> Text;

    fn current_setting(name: Text, missing_ok: Bool) -> Nullable<Text>;
}
