-- Who tried what, in one chain: each seal is a MAC over the row and the seal before it, under a key that is not here.
-- A row is written with the change that it tells of, and gets its place in the chain a moment later: so writers do not
-- queue for the end of the chain.
CREATE TABLE audit_events (
    -- The order in which the chain goes on, about that of writing. It has gaps, and is not sealed.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Counted without a gap, once there is a seal; the seal covers it.
    number bigint UNIQUE CHECK (number >= 1),
    at timestamptz NOT NULL,
    event text NOT NULL,
    outcome text NOT NULL,
    reason text,
    -- How many of a kind the row stands for.
    count bigint NOT NULL CHECK (count >= 1),
    -- No reference: the row outlives the account.
    user_id bigint,
    -- A MAC of the name that the row is about. Of a change of username, `old>new`, both under the salt, which is blanked.
    name_digest text,
    request_id text,
    -- What could point to a person, blanked when the account is deleted. The seal covers the digest of it, and that is
    -- made of the address as it is written: a text, not an `inet`, which has several for one address.
    salt bytea CHECK (octet_length(salt) = 16),
    address text,
    user_agent text,
    client_digest bytea CHECK (octet_length(client_digest) = 32),
    -- A MAC over the row alone, until there is a seal.
    mark bytea CHECK (octet_length(mark) = 32),
    seal bytea CHECK (octet_length(seal) = 32),
    CHECK ((salt IS NULL) = (address IS NULL)),
    CHECK ((number IS NULL) = (seal IS NULL))
);

CREATE INDEX audit_events_of_user ON audit_events (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_events_of_name ON audit_events (name_digest) WHERE name_digest IS NOT NULL;
CREATE INDEX audit_events_unsealed ON audit_events (id) WHERE number IS NULL;

-- Deleted accounts whose rows in audit_events are not all blanked yet. A large account is blanked in batches.
CREATE TABLE audit_erasures (
    user_id bigint PRIMARY KEY,
    -- All rows of the account with identifiers up to this one are blanked.
    blanked_to bigint NOT NULL DEFAULT 0
);

-- The last row that was removed for its age, and the proof that it was removed and not lost. Whoever makes the chain
-- longer or shorter locks this row, which is there from the start.
CREATE TABLE audit_anchor (
    only_row boolean PRIMARY KEY CHECK (only_row),
    number bigint CHECK (number >= 1),
    seal bytea CHECK (octet_length(seal) = 32),
    proof bytea CHECK (octet_length(proof) = 32),
    CHECK ((number IS NULL) = (seal IS NULL) AND (number IS NULL) = (proof IS NULL))
);
INSERT INTO audit_anchor (only_row) VALUES (true);
