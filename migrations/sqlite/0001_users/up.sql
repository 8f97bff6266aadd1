-- Marks the file as ours ("auth" in ASCII), so that nobody's other database is ever taken for it.
PRAGMA application_id = 1635087464;

CREATE TABLE users (
    -- AUTOINCREMENT: a number that a deleted account had is never given again.
    id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
    -- As its owner typed it, and as it is compared. The domain makes both; no collation takes part.
    username TEXT NOT NULL,
    username_key TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    credentials_epoch INTEGER NOT NULL DEFAULT 0 CHECK (credentials_epoch >= 0),
    -- Microseconds since 1970, UTC.
    disabled_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
