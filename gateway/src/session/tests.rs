//! Tests of sessions in memory.
