-- How many wrong passwords were tried for a name in a row, whether somebody has it or not, and who is trying one now.
CREATE TABLE throttles (
    -- A MAC of the name, under a key that is not here.
    name bytea NOT NULL CHECK (octet_length(name) = 16),
    -- From a network that its owner has logged in from: an IPv4 address, or the first half of an IPv6 one. Nothing for
    -- everywhere else.
    whence bytea NOT NULL CHECK (octet_length(whence) IN (0, 4, 8)),
    failures bigint NOT NULL CHECK (failures >= 0),
    failed_at timestamptz NOT NULL,
    -- Since when each attempt is under way.
    undecided timestamptz[] NOT NULL,
    -- Nobody has the name.
    is_stray boolean NOT NULL,
    PRIMARY KEY (name, whence)
);

-- What can be removed.
CREATE INDEX throttles_by_age ON throttles (is_stray, failed_at);
