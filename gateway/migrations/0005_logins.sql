-- Attempts to log in (R8): what the login guard must not forget when the gateway ends, however it ends.
-- Times are monotonic and count only within the boot that they were taken in.

CREATE TABLE login_attempts (
    id BIGINT PRIMARY KEY,
    realm TEXT NOT NULL,
    account TEXT NOT NULL,       -- in its one spelling
    site TEXT NOT NULL,          -- the site may be gone, and its attempts count
    device TEXT NOT NULL,
    address TEXT NOT NULL,
    boot TEXT NOT NULL,          -- the kernel's boot id
    at_ns BIGINT NOT NULL,       -- of its reservation, or of its failure
    -- pending: nobody knows yet, so it counts as failed; cleared: a success took it back for its account.
    state TEXT NOT NULL CHECK (state IN ('pending', 'failed', 'cleared'))
);
CREATE INDEX login_attempts_by_account ON login_attempts (account, realm, site, device);
CREATE INDEX login_attempts_by_time ON login_attempts (boot, at_ns);

CREATE TABLE lockouts (
    kind TEXT NOT NULL CHECK (kind IN ('account', 'account-at-site', 'account-at-device', 'device', 'site', 'address')),
    realm TEXT NOT NULL,         -- what a kind does not have is empty
    account TEXT NOT NULL,
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    address TEXT NOT NULL,
    boot TEXT NOT NULL,
    until_ns BIGINT NOT NULL,
    lasts_ns BIGINT NOT NULL,    -- its whole length
    since TEXT NOT NULL,         -- RFC 3339, UTC: for people
    PRIMARY KEY (kind, realm, account, site, device, address)
);
