//! The registry's entries: the whole cast but the unregistered, and the device that comes by WireGuard.

use std::path::Path;
use std::thread;

use policy::{DeviceId, DeviceName, RoleName, SiteName, UserName};

use super::cast::{ROLES, SITES};
use super::error::QuickstartError;
use crate::store::{Certificate, DisplayName, NewDevice, NewUser, Right, Store, UserId};

/// Who made the entries, in the journal.
const ACTOR: &str = "quickstart";

/// Makes and fills the store, certificates included.
pub(super) fn make(dir: &Path, certificates: &[Certificate]) -> Result<(), QuickstartError> {
    let file = dir.join("state").join("sekisho.db");
    // A thread of its own, since a caller may be inside a runtime, which cannot be entered twice.
    let filled = thread::scope(|scope| {
        let work = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::from)?;
            runtime.block_on(fill(dir, &file, certificates))
        });
        work.join().unwrap_or_else(|_| Err("the store's thread ended by a panic".into()))
    });
    filled.map_err(|why| QuickstartError::Registry { file, why: why.to_string() })
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn fill(dir: &Path, file: &Path, certificates: &[Certificate]) -> Result<(), Failure> {
    let store = Store::open(file).await?;
    for (name, display_name) in ROLES {
        store.role_add(ACTOR, RoleName::new(name)?, display_name.parse()?).await?;
    }
    for site in SITES {
        let site_name = SiteName::new(site.name)?;
        store.site_add(ACTOR, site_name.clone(), site.display_name.parse()?).await?;
        for user in site.users {
            let id = UserId { site: site_name.clone(), user: UserName::new(user.name)? };
            let display_name: DisplayName = user.display_name.parse()?;
            store.user_add(ACTOR, NewUser { id, display_name, roles: roles(user.roles)? }).await?;
        }
        for device in site.devices {
            let new = NewDevice {
                id: DeviceId { site: site_name.clone(), device: DeviceName::new(device.name)? },
                display_name: device.display_name.parse()?,
                user: Some(UserName::new(device.user)?),
                roles: roles(device.roles)?,
            };
            store.device_add(ACTOR, new).await?;
        }
    }
    super::tunnel::register(&store, ACTOR, dir).await?;
    for certificate in certificates {
        store.certificate_add(ACTOR, certificate, Right::Operator, certificate.not_before).await?;
    }
    store.close().await;
    Ok(())
}

fn roles(names: &[&str]) -> Result<Vec<RoleName>, policy::InvalidName> {
    names.iter().map(|name| RoleName::new(name)).collect()
}
