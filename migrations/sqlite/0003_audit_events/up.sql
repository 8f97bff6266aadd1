-- Who tried what, in one chain: each seal is a MAC over the row and the seal before it, under a key that is not here.
-- Times are microseconds since 1970, UTC.
CREATE TABLE audit_events (
    -- Counted without a gap; the seal covers it.
    number INTEGER PRIMARY KEY NOT NULL CHECK (number >= 1),
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    -- How many of a kind the row stands for.
    count INTEGER NOT NULL CHECK (count >= 1),
    -- No reference: the row outlives the account.
    user_id INTEGER,
    -- A MAC of the name that the row is about. Of a change of username, `old>new`, both under the salt, which is blanked.
    name_digest TEXT,
    request_id TEXT,
    -- What could point to a person, blanked when the account is deleted. The seal covers the digest of it.
    salt BLOB CHECK (length(salt) = 16),
    address TEXT,
    user_agent TEXT,
    client_digest BLOB CHECK (length(client_digest) = 32),
    seal BLOB NOT NULL CHECK (length(seal) = 32),
    CHECK ((salt IS NULL) = (address IS NULL))
) STRICT;

CREATE INDEX audit_events_of_user ON audit_events (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_events_of_name ON audit_events (name_digest) WHERE name_digest IS NOT NULL;

-- Deleted accounts whose rows in audit_events are not all blanked yet. A large account is blanked in batches.
CREATE TABLE audit_erasures (
    user_id INTEGER PRIMARY KEY NOT NULL,
    -- All rows of the account with numbers up to this one are blanked.
    blanked_to INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The last row that was removed for its age, and the proof that it was removed and not lost.
CREATE TABLE audit_anchor (
    only_row INTEGER PRIMARY KEY NOT NULL CHECK (only_row = 1),
    number INTEGER NOT NULL CHECK (number >= 1),
    seal BLOB NOT NULL CHECK (length(seal) = 32),
    proof BLOB NOT NULL CHECK (length(proof) = 32)
) STRICT;
