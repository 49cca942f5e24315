//! `sekisho quickstart`: a whole clinic on one machine.

pub mod fhir;
