-- Servers of services that take no new requests since an operator said so (R20).

CREATE TABLE backend_drains (
    service TEXT NOT NULL,
    server TEXT NOT NULL,
    since TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (service, server)
);
