//! What the product promises: one file per promise, each broken on purpose from outside.
//!
//! C1 to C17 are classes of mistakes that other gateways made; a file's first lines say which.

mod admin;
mod audit_clock;
mod audit_complete;
mod audit_failures;
mod audit_kill;
mod audit_offline;
mod audit_one_writer;
mod audit_order;
mod audit_show;
mod audit_slow_disk;
mod audit_tools;
mod audit_write_back;
mod backend_answers;
mod c10_h2_exhaustion;
mod c12_slow_peers;
mod c15_log_forging;
mod c16_control_plane;
mod c17_unsafe;
mod c1_framing;
mod c2_early_answers;
mod c3_upgrades;
mod c4_h2_desync;
mod c5_paths;
mod c6_identity_headers;
mod c7_fails_open;
mod c8_resumption;
mod c9_certificates;
mod cert_show;
mod crl;
mod device_budget;
mod drain;
mod h2_bounds;
mod limits;
mod mtls_refusals;
mod operator;
mod orthanc;
mod policy_matrix;
mod registry_cli;
mod reload;
mod revocation;
mod server_identities;
mod systemd;
mod timeouts;
mod tls_profiles;
