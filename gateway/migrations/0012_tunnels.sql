-- Devices that come by WireGuard (R1, R3): which addresses are a site's inside the tunnels, and which key and addresses a device has.

ALTER TABLE sites ADD COLUMN inside TEXT NOT NULL DEFAULT ''; -- ranges, CIDR, a blank between two

CREATE TABLE wireguard_keys (
    site TEXT NOT NULL,
    name TEXT NOT NULL,                -- of the device
    public_key TEXT NOT NULL UNIQUE,   -- Base64
    preshared_key TEXT,                -- sealed; none without one
    addresses TEXT NOT NULL,           -- ranges, CIDR, a blank between two
    added_at TEXT NOT NULL,            -- RFC 3339, UTC
    PRIMARY KEY (site, name),
    FOREIGN KEY (site, name) REFERENCES devices (site, name)
);

CREATE TABLE sightings (
    site TEXT PRIMARY KEY,
    hours TEXT NOT NULL,               -- in which hours of the last weeks it was seen
    last_seen_s BIGINT,                -- seconds since 1970
    silent_since_s BIGINT              -- seconds since 1970; none while it is not silent
);
