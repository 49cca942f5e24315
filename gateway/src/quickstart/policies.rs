//! The policies of the shipped example, as files that their owner may edit.

use std::path::Path;

use super::error::QuickstartError;
use super::layout;

/// Name and text. The example's cases are tested with them.
const POLICIES: &[(&str, &str)] = &[
    ("limits.cedar", include_str!("../../../policy/examples/clinic/limits.cedar")),
    ("roles.cedar", include_str!("../../../policy/examples/clinic/roles.cedar")),
];

/// Writes the policies.
pub(super) fn make(dir: &Path) -> Result<(), QuickstartError> {
    POLICIES.iter().try_for_each(|(name, text)| layout::write(&dir.join("policy").join(name), text, 0o644))
}
