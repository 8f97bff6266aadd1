-- Marks the schema as ours, so that nobody's other database is ever taken for it. Its one row is there to be written
-- when somebody asks whether anything can be.
CREATE TABLE auth_api (
    mark boolean PRIMARY KEY CHECK (mark),
    written_at timestamptz NOT NULL
);
INSERT INTO auth_api (mark, written_at) VALUES (true, now());

CREATE TABLE users (
    -- A number that a deleted account had is never given again.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id > 0),
    -- As its owner typed it, and as it is compared. The domain makes both; no collation takes part, since equal is
    -- what has equal bytes.
    username text NOT NULL,
    username_key text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    credentials_epoch bigint NOT NULL DEFAULT 0 CHECK (credentials_epoch >= 0),
    disabled_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
