-- The registry: who may come in at all (R1, R3, R27), and the journal of every change of it.
-- Portable SQL: the same file and the same statements serve SQLite and PostgreSQL.

-- One row. Every change locks it first, so that changes commit in the order of their numbers.
CREATE TABLE counter (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL, -- of the last change; without gaps
    version BIGINT NOT NULL   -- last version given to any entry; never given twice
);
INSERT INTO counter (id, sequence, version) VALUES (1, 0, 0);

CREATE TABLE sites (
    name TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    version BIGINT NOT NULL UNIQUE,
    changed_at TEXT NOT NULL -- RFC 3339, UTC
);

CREATE TABLE roles (
    name TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    version BIGINT NOT NULL UNIQUE,
    changed_at TEXT NOT NULL
);

CREATE TABLE users (
    site TEXT NOT NULL REFERENCES sites (name),
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    version BIGINT NOT NULL UNIQUE,
    changed_at TEXT NOT NULL,
    PRIMARY KEY (site, name)
);

CREATE TABLE user_roles (
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL REFERENCES roles (name),
    PRIMARY KEY (site, name, role),
    FOREIGN KEY (site, name) REFERENCES users (site, name)
);
CREATE INDEX user_roles_by_role ON user_roles (role);

CREATE TABLE devices (
    site TEXT NOT NULL REFERENCES sites (name),
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    assigned_user TEXT, -- of the same site
    version BIGINT NOT NULL UNIQUE,
    changed_at TEXT NOT NULL,
    PRIMARY KEY (site, name),
    FOREIGN KEY (site, assigned_user) REFERENCES users (site, name)
);
CREATE INDEX devices_by_user ON devices (site, assigned_user);

CREATE TABLE device_roles (
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL REFERENCES roles (name),
    PRIMARY KEY (site, name, role),
    FOREIGN KEY (site, name) REFERENCES devices (site, name)
);
CREATE INDEX device_roles_by_role ON device_roles (role);

CREATE TABLE changes (
    sequence BIGINT PRIMARY KEY,
    time TEXT NOT NULL, -- RFC 3339, UTC
    actor TEXT NOT NULL,
    change TEXT NOT NULL -- JSON: verb, before, after
);

-- How far each gateway node has put the changes into its audit log.
CREATE TABLE change_cursor (
    node TEXT PRIMARY KEY,
    sequence BIGINT NOT NULL
);
