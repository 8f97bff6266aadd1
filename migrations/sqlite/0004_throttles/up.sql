-- How many wrong passwords were tried for a name in a row, whether somebody has it or not, and who is trying one now.
-- Times are microseconds since 1970, UTC; several in one column are 8 bytes each, the most significant first.
CREATE TABLE throttles (
    -- A MAC of the name, under a key that is not here.
    name BLOB NOT NULL CHECK (length(name) = 16),
    -- From a network that its owner has logged in from: an IPv4 address, or the first half of an IPv6 one. Nothing for
    -- everywhere else.
    whence BLOB NOT NULL CHECK (length(whence) IN (0, 4, 8)),
    failures INTEGER NOT NULL CHECK (failures >= 0),
    failed_at INTEGER NOT NULL,
    -- Since when each attempt is under way.
    undecided BLOB NOT NULL CHECK (length(undecided) % 8 = 0),
    -- Nobody has the name.
    is_stray INTEGER NOT NULL CHECK (is_stray IN (0, 1)),
    PRIMARY KEY (name, whence)
) STRICT, WITHOUT ROWID;

-- What can be removed.
CREATE INDEX throttles_by_age ON throttles (is_stray, failed_at);
