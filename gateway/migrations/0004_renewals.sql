-- A certificate is renewed once: which key took the place of which certificate, and the answer for a client that lost it.

CREATE TABLE renewals (
    old_serial TEXT PRIMARY KEY,  -- of the certificate before, hexadecimal
    serial TEXT NOT NULL,         -- of the certificate after
    key_hash TEXT NOT NULL,       -- SHA-256 of the new SubjectPublicKeyInfo, hexadecimal
    certificate TEXT NOT NULL,    -- DER of the certificate after, hexadecimal
    ends_at BIGINT NOT NULL       -- the end of the certificate before: after it nobody asks any more
);
CREATE INDEX renewals_by_end ON renewals (ends_at);
