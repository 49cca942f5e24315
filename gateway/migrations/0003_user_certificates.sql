-- Which user a certificate's holder is (R1): an HPKI card proves a national qualification, not a place of work.

CREATE TABLE user_certificates (
    issuer TEXT NOT NULL,        -- SHA-256 of the issuer's name (DER), hexadecimal
    number TEXT NOT NULL,        -- the subject's serialNumber
    site TEXT NOT NULL,
    name TEXT NOT NULL,          -- of the user
    added_at TEXT NOT NULL,      -- RFC 3339, UTC
    PRIMARY KEY (issuer, number),
    FOREIGN KEY (site, name) REFERENCES users (site, name)
);
CREATE INDEX user_certificates_by_user ON user_certificates (site, name);
