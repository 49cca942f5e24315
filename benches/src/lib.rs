//! What Sekisho costs: micro-benches in `benches/`, whole runs beside other proxies in `peer/`. README.md has the
//! figures and says how they came about.
#![forbid(unsafe_code)]
