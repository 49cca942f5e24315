//! What devices and sites call themselves in clinical protocols, which prove nothing: it only counts beside who was proved.

use policy::{DeviceId, SiteName};

use super::Directory;

impl Directory {
    /// Whether the device calls itself that in DICOM.
    #[must_use]
    pub fn has_title(&self, id: &DeviceId, title: &str) -> bool {
        let site = self.sites.get(&id.site);
        site.and_then(|site| site.ae_titles.get(&id.device)).is_some_and(|titles| titles.iter().any(|own| own == title))
    }

    /// Whether any device of the site calls itself that in DICOM.
    #[must_use]
    pub fn is_title_at(&self, site: &SiteName, title: &str) -> bool {
        let site = self.sites.get(site);
        site.is_some_and(|site| site.ae_titles.values().flatten().any(|own| own == title))
    }

    /// Whether the site calls itself that in HL7 v2.
    #[must_use]
    pub fn has_facility(&self, site: &SiteName, facility: &str) -> bool {
        self.sites.get(site).is_some_and(|site| site.facilities.iter().any(|own| own == facility))
    }
}
