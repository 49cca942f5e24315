-- Sessions (R10): what the gateway must not forget when it ends. No secret stands here, nor anything that a secret can be
-- guessed by: `hash` is an HMAC under a key in another file.
-- Times are monotonic and count only within the boot that they were taken in.

CREATE TABLE sessions (
    name TEXT PRIMARY KEY,       -- what people and records call it
    kind TEXT NOT NULL,
    realm TEXT NOT NULL,
    account TEXT NOT NULL,
    site TEXT NOT NULL,          -- empty where there is none
    device TEXT NOT NULL,        -- or `user/` or `patient/` and a name
    user_name TEXT,              -- the registry's user, where the account is one
    acting_for TEXT,
    tag TEXT,                    -- what an identity provider calls it
    level TEXT NOT NULL,
    factors BIGINT NOT NULL,
    boot TEXT NOT NULL,          -- the kernel's boot id
    begun_ns BIGINT NOT NULL,
    authenticated_ns BIGINT NOT NULL,
    used_ns BIGINT NOT NULL,
    idle_ns BIGINT NOT NULL,
    absolute_ns BIGINT NOT NULL,
    since TEXT NOT NULL,         -- RFC 3339, UTC: for people
    ended TEXT,                  -- why it is over; empty while it lasts
    ended_ns BIGINT
);
CREATE INDEX sessions_by_end ON sessions (ended, ended_ns);

CREATE TABLE session_secrets (
    hash TEXT PRIMARY KEY,       -- 64 hexadecimal digits
    name TEXT NOT NULL REFERENCES sessions (name) ON DELETE CASCADE,
    at_ns BIGINT NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX session_secrets_by_name ON session_secrets (name);
