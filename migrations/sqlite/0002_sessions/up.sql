-- Times are microseconds since 1970, UTC; several in one column are 8 bytes each, the most significant first.
CREATE TABLE sessions (
    -- A UUID of version 7, made by the domain.
    id BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- What the MAC of its refresh tokens covers. Nothing in this row yields one without the server's key.
    nonce BLOB NOT NULL CHECK (length(nonce) = 16),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    -- When the generations of the last burst of rotations were exchanged, the newest last.
    superseded BLOB NOT NULL CHECK (length(superseded) % 8 = 0),
    -- Whether the newest generation was used.
    seen INTEGER NOT NULL CHECK (seen IN (0, 1)),
    -- When its last lost answers were given again.
    recoveries BLOB NOT NULL CHECK (length(recoveries) % 8 = 0),
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    -- When it is over unless it is used, and at the latest.
    expires_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    ended_at INTEGER,
    end_cause TEXT,
    -- Of the login.
    address TEXT,
    user_agent TEXT,
    CHECK (expires_at <= ends_at),
    CHECK ((ended_at IS NULL) = (end_cause IS NULL))
) STRICT, WITHOUT ROWID;

-- A user's list, their oldest, and what goes with the user.
CREATE INDEX sessions_of_user ON sessions (user_id, created_at);
-- What can be removed.
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- From where somebody has logged in: an IPv4 address, or the first address of an IPv6 /64.
CREATE TABLE known_networks (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    last_login_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, network)
) STRICT, WITHOUT ROWID;

CREATE INDEX known_networks_by_age ON known_networks (last_login_at);
