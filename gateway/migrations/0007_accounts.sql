-- The gateway's own accounts (R8, R9): what proves that somebody is a user. Nothing here can be read back as a password or code.

CREATE TABLE accounts (
    site TEXT NOT NULL,
    name TEXT NOT NULL,          -- of the user
    account TEXT NOT NULL,       -- the name in its one spelling, as the login guard counts it
    password TEXT NOT NULL,      -- argon2id, PHC string format
    changed_s BIGINT NOT NULL,   -- when it was set, seconds since 1970
    must_change BIGINT NOT NULL CHECK (must_change IN (0, 1)),
    is_short BIGINT NOT NULL CHECK (is_short IN (0, 1)), -- good only beside a second factor
    totp TEXT,                   -- the authenticator's secret, sealed; none without one
    totp_algorithm TEXT CHECK (totp_algorithm IN ('SHA1', 'SHA256')),
    totp_last BIGINT,            -- the last time step of which a code was accepted
    PRIMARY KEY (site, name),
    UNIQUE (site, account),
    FOREIGN KEY (site, name) REFERENCES users (site, name)
);

CREATE TABLE account_passwords (  -- those before, which must not come back
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    password TEXT NOT NULL,
    until_s BIGINT NOT NULL,     -- when it was replaced
    PRIMARY KEY (site, name, password),
    FOREIGN KEY (site, name) REFERENCES accounts (site, name)
);

CREATE TABLE account_recovery (
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,          -- SHA-256, hexadecimal
    PRIMARY KEY (site, name, hash),
    FOREIGN KEY (site, name) REFERENCES accounts (site, name)
);
