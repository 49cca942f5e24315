//! Reading `[quota]`.

use std::collections::BTreeMap;

use policy::SiteName;

use super::knob::{self, Knob};
use super::table::Table;
use crate::quota::{Quota, Quotas};

pub(super) fn quotas(table: &Table<'_>) -> Quotas {
    let mut sites = BTreeMap::new();
    for element in table.elements_optional("sites").unwrap_or_default() {
        element.read(|element| {
            let quota = quota(element, ["requests_per_second", "bytes_per_second", "concurrent_requests"]);
            let Some(name) = element.text("name") else { return };
            match name.text.parse::<SiteName>() {
                Err(_) => element.refuse(&name, "no site has such a name"),
                Ok(site) if sites.contains_key(&site) => element.refuse(&name, "it is there twice"),
                Ok(site) => drop(sites.insert(site, quota)),
            }
        });
    }
    Quotas {
        burst: table.seconds("burst_s", &knob::QUOTA_BURST_S),
        site: quota(table, ["site_requests_per_second", "site_bytes_per_second", "site_concurrent_requests"]),
        device: quota(table, ["device_requests_per_second", "device_bytes_per_second", "device_concurrent_requests"]),
        sites,
    }
}

fn quota(table: &Table<'_>, keys: [&'static str; 3]) -> Quota {
    let [requests, bytes, concurrent] = keys;
    let number = |key: &'static str, knob: &Knob| knob::limit(table.number(key, knob));
    Quota {
        requests_per_second: number(requests, &knob::QUOTA_REQUESTS),
        bytes_per_second: number(bytes, &knob::QUOTA_BYTES),
        concurrent_requests: number(concurrent, &knob::QUOTA_CONCURRENT),
    }
}
