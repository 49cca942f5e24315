//! Reading `proxy_protocol` and `forwarded` of `[[listener]]`.

use gateway_tunnel::Network;

use super::edge::{ForwardedField, ForwardedFrom, ProxyProtocol};
use super::knob;
use super::table::Table;

/// Networks of proxies: each is looked at for every connection.
const MAX_NETWORKS: usize = 64;

/// An absent table is no load balancer; the outer `None` is a problem that is noted.
pub(super) fn proxy_protocol(table: &Table<'_>) -> Option<Option<ProxyProtocol>> {
    if !table.is_present() {
        return Some(None);
    }
    let from = networks(table);
    let timeout = table.millis("timeout_ms", &knob::PROXY_TIMEOUT_MS);
    Some(Some(ProxyProtocol { from: from?, timeout }))
}

/// An absent table is no proxy; the outer `None` is a problem that is noted.
pub(super) fn forwarded(table: &Table<'_>) -> Option<Option<ForwardedFrom>> {
    const FIELDS: &[(&str, ForwardedField)] =
        &[("forwarded", ForwardedField::Forwarded), ("x-forwarded", ForwardedField::XForwarded)];
    if !table.is_present() {
        return Some(None);
    }
    let from = networks(table);
    let field = table.choice("field", ForwardedField::Forwarded, FIELDS);
    Some(Some(ForwardedFrom { from: from?, field }))
}

fn networks(table: &Table<'_>) -> Option<Vec<Network>> {
    let mut networks: Vec<Network> = Vec::new();
    for text in table.texts("from") {
        match text.text.parse::<Network>() {
            Err(why) => table.refuse(&text, &why.to_string()),
            Ok(network) if network.length() == 0 => {
                table.refuse(&text, "it is everybody: whoever comes could say who they are");
            }
            Ok(network) if networks.contains(&network) => table.refuse(&text, "it is there twice"),
            Ok(network) => networks.push(network),
        }
    }
    if networks.len() > MAX_NETWORKS {
        let (key, count) = (table.key("from"), networks.len());
        table.problem("from", format!("`{key}` has {count} networks; at most {MAX_NETWORKS} are looked at"));
    }
    (!networks.is_empty()).then_some(networks)
}
