-- What our own authority issued (R3, R27), the codes that devices enrol with, and the lists of what was revoked.

CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,     -- hexadecimal; 126 random bits, so that it is unique among all issuers
    issuer TEXT NOT NULL,        -- the issuer's key identifier, hexadecimal
    site TEXT NOT NULL,          -- the device may be gone: what it was given is still to be revoked
    device TEXT NOT NULL,
    fingerprint TEXT NOT NULL,   -- SHA-256 of the DER, hexadecimal
    not_before BIGINT NOT NULL,  -- seconds since 1970
    not_after BIGINT NOT NULL,
    origin TEXT NOT NULL,
    revoked_at BIGINT,
    reason TEXT                  -- RFC 5280 5.3.1
);
CREATE INDEX certificates_by_device ON certificates (site, device);
CREATE INDEX certificates_revoked ON certificates (issuer, revoked_at);

-- A code is not here, only its hash.
CREATE TABLE enrolment_codes (
    hash TEXT PRIMARY KEY,       -- SHA-256, hexadecimal
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (site, device) REFERENCES devices (site, name)
);

CREATE TABLE crls (
    issuer TEXT PRIMARY KEY,
    number BIGINT NOT NULL,      -- of the last list: its time, or one more than the one before
    next_update BIGINT NOT NULL,
    stale BIGINT NOT NULL        -- 1: something was revoked that no list tells yet
);
