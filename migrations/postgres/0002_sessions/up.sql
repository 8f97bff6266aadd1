CREATE TABLE sessions (
    -- Of version 7, made by the domain.
    id uuid PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- What the MAC of its refresh tokens covers. Nothing in this row yields one without the server's key.
    nonce bytea NOT NULL CHECK (octet_length(nonce) = 16),
    generation bigint NOT NULL CHECK (generation >= 1),
    -- When the generations of the last burst of rotations were exchanged, the newest last.
    superseded timestamptz[] NOT NULL,
    -- Whether the newest generation was used.
    seen boolean NOT NULL,
    -- When its last lost answers were given again.
    recoveries timestamptz[] NOT NULL,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    -- When it is over unless it is used, and at the latest.
    expires_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_cause text,
    -- Of the login.
    address inet,
    user_agent text,
    CHECK (expires_at <= ends_at),
    CHECK ((ended_at IS NULL) = (end_cause IS NULL))
);

-- A user's list, their oldest, and what goes with the user.
CREATE INDEX sessions_of_user ON sessions (user_id, created_at);
-- What can be removed.
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- From where somebody has logged in: an IPv4 address, or the first address of an IPv6 /64.
CREATE TABLE known_networks (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network inet NOT NULL,
    last_login_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, network)
);

CREATE INDEX known_networks_by_age ON known_networks (last_login_at);
