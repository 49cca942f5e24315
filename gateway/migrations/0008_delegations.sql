-- Who may act for whom (代行, R23): users of one site, by an administrator's grant.

CREATE TABLE delegations (
    site TEXT NOT NULL,
    name TEXT NOT NULL,          -- of the user who may act
    acts_for TEXT NOT NULL,      -- of the user who is acted for
    until_s BIGINT,              -- when it ends, seconds since 1970; none: when it is removed
    added_at TEXT NOT NULL,      -- RFC 3339, UTC
    PRIMARY KEY (site, name, acts_for),
    FOREIGN KEY (site, name) REFERENCES users (site, name),
    FOREIGN KEY (site, acts_for) REFERENCES users (site, name)
);
CREATE INDEX delegations_by_acts_for ON delegations (site, acts_for);
