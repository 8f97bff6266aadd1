"""Values that JSON Schema cannot describe, for the positive half of the tests.

A schema can say how long a username or a password is, but not that a name is of
one script and a password hard to guess. The description gives both a format, and
the formats are generated here.
"""

import base64
import hashlib

import schemathesis
from hypothesis import strategies as st

usernames = st.from_regex(r"[a-z][a-z0-9]{2,40}([._-][a-z0-9]{1,10})?", fullmatch=True)


def unguessable(seed: int) -> str:
    digest = hashlib.sha256(seed.to_bytes(8, "big")).digest()
    return base64.b64encode(digest).decode()[:24]


passwords = st.integers(min_value=0, max_value=2**64 - 1).map(unguessable)

schemathesis.openapi.format("username", usernames)
schemathesis.openapi.format("password", passwords)
