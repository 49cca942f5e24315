//! Devices that come by WireGuard (R1, R3): whose key is whose, and which addresses a device has inside its tunnel.
//!
//! Of a preshared key the store keeps the sealed form; the key that it is sealed under lies in a file of its own beside the store.
//! No private key of a device is ever here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_tunnel::{Network, PresharedKey, PublicKey};
use policy::{DeviceId, DeviceName, SiteName};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use zeroize::Zeroizing;

use super::edit::Edit;
use super::inside::{self, Allotment};
use super::table::parsed;
use super::{Device, Entry, EntryName, Kind, NewDevice, Site, Store, StoreError, Verb};
use crate::sealing::Sealer;

/// A device's key, as journal and people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireguardKey {
    /// The site.
    pub site: SiteName,
    /// The device.
    pub name: DeviceName,
    /// The public key.
    #[serde(with = "base64_key")]
    pub public_key: PublicKey,
    /// Whether there is a preshared key.
    pub preshared_key: bool,
    /// The device's own addresses inside the tunnel.
    #[serde(with = "inside::texts")]
    pub addresses: Vec<Network>,
    /// Since when: RFC 3339, UTC.
    pub added_at: String,
}

impl WireguardKey {
    /// Site and name.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId { site: self.site.clone(), device: self.name.clone() }
    }
}

/// A device's key with what it shares with the gateway.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenedKey {
    /// The key.
    pub key: WireguardKey,
    /// The preshared key, where there is one.
    pub preshared_key: Preshared,
}

/// What became of a preshared key.
#[derive(Clone, PartialEq, Eq)]
pub enum Preshared {
    /// There is none.
    None,
    /// It was opened.
    Opened(PresharedKey),
    /// It cannot be opened: the device must not come in without it.
    Unreadable,
}

impl fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A key to be given to a device.
pub struct NewWireguardKey {
    /// The device, which must be registered.
    pub id: DeviceId,
    /// The public key.
    pub public_key: PublicKey,
    /// The preshared key; none for none.
    pub preshared_key: Option<Zeroizing<[u8; 32]>>,
    /// The device's own addresses; none: those that it has, or as `allotment` says.
    pub addresses: Option<Vec<Network>>,
    /// Out of what it gets addresses, and its site a range.
    pub allotment: Allotment,
}

/// A key that is about to be given. Dropped, it leaves nothing.
pub struct DraftKey<'s> {
    edit: Edit<'s>,
    key: WireguardKey,
}

impl DraftKey<'_> {
    /// The key as it will be.
    #[must_use]
    pub const fn key(&self) -> &WireguardKey {
        &self.key
    }

    /// From here on it counts.
    ///
    /// # Errors
    /// Those of every mutating call.
    pub async fn commit(self) -> Result<WireguardKey, StoreError> {
        self.edit.commit().await?;
        Ok(self.key)
    }
}

/// Keys in Base64, as WireGuard writes them.
mod base64_key {
    use super::{PublicKey, base64_text, read_base64};
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64_text(key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        read_base64(&text).ok_or_else(|| D::Error::custom("it must be a key in Base64"))
    }
}

/// A public key as WireGuard writes it.
#[must_use]
pub fn base64_text(key: &PublicKey) -> String {
    STANDARD.encode(key.0)
}

/// Reads a public key as WireGuard writes it: 32 bytes in Base64, in one way only.
#[must_use]
pub fn read_base64(text: &str) -> Option<PublicKey> {
    STANDARD.decode(text).ok()?.try_into().ok().map(PublicKey)
}

type Row = (String, String, String, Option<String>, String, String);

struct Kept {
    key: WireguardKey,
    sealed: Option<String>,
}

fn from_row((site, name, public_key, sealed, addresses, added_at): Row) -> sqlx::Result<Kept> {
    let public_key = read_base64(&public_key).ok_or_else(|| sqlx::Error::Decode("a key is not in Base64".into()))?;
    let key = WireguardKey {
        site: parsed(&site)?,
        name: parsed(&name)?,
        public_key,
        preshared_key: sealed.is_some(),
        addresses: inside::ranges(&addresses)?,
        added_at,
    };
    Ok(Kept { key, sealed })
}

/// Every row, by site and name.
async fn all(conn: &mut SqliteConnection) -> sqlx::Result<Vec<Kept>> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT site, name, public_key, preshared_key, addresses, added_at FROM wireguard_keys")
            .fetch_all(conn)
            .await?;
    let mut all = rows.into_iter().map(from_row).collect::<sqlx::Result<Vec<_>>>()?;
    all.sort_by(|a, b| (&a.key.site, &a.key.name).cmp(&(&b.key.site, &b.key.name)));
    Ok(all)
}

/// The key that preshared keys are sealed under, once it was read. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Keyring(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    sealer: Option<Arc<Sealer>>,
    /// The file could not be read the last time. Told once.
    is_away: bool,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// The key of the file. Where that cannot be read, the one that was read last: a file that is away for a moment must not cut off
    /// every device.
    fn sealer(&self, path: &Path) -> Option<Arc<Sealer>> {
        let loaded = Sealer::load(path);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_away = std::mem::replace(&mut known.is_away, loaded.is_err());
        match loaded {
            Ok(sealer) => known.sealer = Some(Arc::new(sealer)),
            Err(_) if was_away => {}
            Err(error) if known.sealer.is_some() => {
                tracing::error!(%error, "the key of preshared keys cannot be read; until a restart the one read before is used");
            }
            Err(error) => tracing::error!(%error, "the key of preshared keys cannot be read"),
        }
        known.sealer.clone()
    }
}

/// A preshared key is opened as this device's beside this public key alone.
fn whose(id: &DeviceId, public_key: &PublicKey) -> String {
    format!("sekisho wireguard psk {id} {}", base64_text(public_key))
}

/// A file beside the store.
fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The file of the key that preshared keys of the store at that path are sealed under.
#[must_use]
pub fn sealing_key_of(store: &Path) -> PathBuf {
    beside(store, ".key")
}

/// How many preshared keys the store at that path has. Changes nothing there, and waits for nobody; none where it cannot be said.
pub async fn sealed_keys(store: &Path) -> Option<u64> {
    // A log that holds something has to be read as well, with the locks of whoever writes it.
    let is_quiet = std::fs::metadata(beside(store, "-wal")).map_or(true, |log| log.len() == 0);
    let options = SqliteConnectOptions::new().filename(store).read_only(true).immutable(is_quiet);
    let mut conn = options.disable_statement_logging().connect().await.ok()?;
    let count: sqlx::Result<i64> =
        sqlx::query_scalar("SELECT COUNT(*) FROM wireguard_keys WHERE preshared_key IS NOT NULL")
            .fetch_one(&mut conn)
            .await;
    let _ = conn.close().await;
    u64::try_from(count.ok()?).ok()
}

impl Store {
    /// The file of the key that preshared keys are sealed under.
    #[must_use]
    pub fn sealing_key_path(&self) -> PathBuf {
        sealing_key_of(self.path())
    }

    /// The key to seal under, made where nothing is sealed yet. One in the place of a key that is gone would leave behind what nobody can
    /// open, and the right one could not be put back any more.
    fn sealer_to_write(&self, known: &[Kept]) -> Result<Sealer, StoreError> {
        let path = self.sealing_key_path();
        let sealed = known.iter().filter(|kept| kept.sealed.is_some()).count();
        let is_gone = || matches!(path.try_exists(), Ok(false));
        if sealed > 0 && is_gone() {
            return Err(StoreError::SealingKeyGone { path, sealed });
        }
        if sealed > 0 { Sealer::load(&path) } else { Sealer::load_or_make(&path) }.map_err(StoreError::Sealing)
    }

    /// Every row with its preshared key. One that cannot be opened is said to be so, and keeps nobody else from coming in.
    pub(super) async fn opened(&self, conn: &mut SqliteConnection) -> sqlx::Result<Vec<OpenedKey>> {
        let all = all(conn).await?;
        let is_needed = all.iter().any(|kept| kept.sealed.is_some());
        let sealer = is_needed.then(|| self.keyring.sealer(&self.sealing_key_path())).flatten();
        let open = |kept: Kept| {
            let open = |sealed: String| {
                let opened = sealer.as_ref()?.open(&whose(&kept.key.id(), &kept.key.public_key), &sealed).ok()?;
                Some(Preshared::Opened(PresharedKey::new(opened.as_slice().try_into().ok()?)))
            };
            let preshared_key =
                kept.sealed.map_or(Preshared::None, |sealed| open(sealed).unwrap_or(Preshared::Unreadable));
            OpenedKey { key: kept.key, preshared_key }
        };
        Ok(all.into_iter().map(open).collect())
    }
}

/// # Keys of WireGuard
impl Store {
    /// Gives a device a key, in place of the one that it had, which ends with it.
    ///
    /// A site without a range gets one of each version of IP, and a device without an address one out of each of those.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such device; [`StoreError::UnusableKey`]; [`StoreError::KeyInUse`] if another
    /// device has the key; [`StoreError::Overlap`], [`StoreError::Outside`] or [`StoreError::NoAddress`] of the addresses;
    /// [`StoreError::Sealing`]; [`StoreError::SealingKeyGone`] if others are sealed under a key whose file is gone.
    pub async fn wireguard_key_put(&self, actor: &str, new: NewWireguardKey) -> Result<WireguardKey, StoreError> {
        self.wireguard_key_draft(actor, None, new).await?.commit().await
    }

    /// As [`wireguard_key_put`](Self::wireguard_key_put), up to the moment at which it counts, so that what the device needs can be
    /// written before. `device` is added with it where it is given; it has the same name.
    ///
    /// # Errors
    /// As [`wireguard_key_put`](Self::wireguard_key_put) and [`device_add`](Self::device_add).
    pub async fn wireguard_key_draft<'s>(
        &'s self,
        actor: &'s str,
        device: Option<NewDevice>,
        new: NewWireguardKey,
    ) -> Result<DraftKey<'s>, StoreError> {
        let NewWireguardKey { id, public_key, preshared_key, addresses, allotment } = new;
        if !public_key.is_usable() {
            return Err(StoreError::UnusableKey(id));
        }
        let mut edit = Edit::begin(self, actor).await?;
        match device {
            Some(device) => drop(edit.add_device(device).await?),
            None => drop(edit.find::<Device>(&id).await?),
        }
        let known = all(edit.conn()).await.map_err(|e| self.sql(e))?;
        if let Some(other) = known.iter().find(|kept| kept.key.public_key == public_key && kept.key.id() != id) {
            return Err(StoreError::KeyInUse { device: id, owner: other.key.id() });
        }
        let sealed = match preshared_key {
            Some(secret) => {
                let sealer = self.sealer_to_write(&known)?;
                Some(sealer.seal(&whose(&id, &public_key), &*secret).map_err(StoreError::Sealing)?)
            }
            None => None,
        };
        let before = known.iter().find(|kept| kept.key.id() == id).map(|kept| kept.key.clone());
        let site = edit.with_range(&id.site, &allotment, addresses.is_some()).await?;
        let taken = || known.iter().filter(|kept| kept.key.id() != id);
        let addresses =
            addresses.or_else(|| before.as_ref().map(|before| before.addresses.clone())).unwrap_or_else(|| {
                let taken: Vec<Network> = taken().flat_map(|kept| kept.key.addresses.iter().copied()).collect();
                allotment.device(&site.inside, &taken)
            });
        if addresses.is_empty() {
            return Err(StoreError::NoAddress { device: id, ranges: inside::text(&site.inside) });
        }
        if let Some(own) = allotment.own.iter().find(|own| addresses.iter().any(|range| range.contains(**own))) {
            let range =
                addresses.iter().find(|range| range.contains(*own)).map(ToString::to_string).unwrap_or_default();
            return Err(StoreError::Overlap { range, other: own.to_string(), owner: "the gateway".to_owned() });
        }
        let others = taken().map(|kept| (kept.key.id(), kept.key.addresses.as_slice()));
        inside::check_device(&id, &addresses, &site.inside, others)?;
        let after = WireguardKey {
            site: id.site.clone(),
            name: id.device.clone(),
            public_key,
            preshared_key: sealed.is_some(),
            addresses,
            added_at: edit.time().to_owned(),
        };
        write(edit.conn(), &after, sealed).await.map_err(|e| self.sql(e))?;
        let verb = if before.is_some() { Verb::Set } else { Verb::Add };
        let before = before.map(Entry::WireguardKey);
        edit.journal_entries(verb, before, Some(Entry::WireguardKey(after.clone()))).await?;
        Ok(DraftKey { edit, key: after })
    }

    /// Every key, or those of a site.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such site.
    pub async fn wireguard_key_list(&self, site: Option<&SiteName>) -> Result<Vec<WireguardKey>, StoreError> {
        if let Some(site) = site {
            self.site_show(site).await?;
        }
        let mut transaction = self.begin().await?;
        let all = all(&mut transaction).await.map_err(|e| self.sql(e))?;
        let is_wanted = |key: &WireguardKey| site.is_none_or(|site| key.site == *site);
        Ok(all.into_iter().map(|kept| kept.key).filter(is_wanted).collect())
    }

    /// Takes a device's key away: its tunnel ends at once (R27).
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such device, or it has none.
    pub async fn wireguard_key_remove(&self, actor: &str, id: &DeviceId) -> Result<EntryName, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        edit.find::<Device>(id).await?;
        let removed = edit.take_key(id).await?;
        let missing = || StoreError::NotFound { kind: Kind::WireguardKey, name: id.to_string(), nearest: None };
        let removed = removed.ok_or_else(missing)?;
        edit.commit().await?;
        Ok(removed)
    }
}

async fn write(conn: &mut SqliteConnection, key: &WireguardKey, sealed: Option<String>) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO wireguard_keys (site, name, public_key, preshared_key, addresses, added_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (site, name) DO UPDATE SET public_key = excluded.public_key, \
         preshared_key = excluded.preshared_key, addresses = excluded.addresses, added_at = excluded.added_at",
    )
    .bind(key.site.as_str())
    .bind(key.name.as_str())
    .bind(base64_text(&key.public_key))
    .bind(sealed)
    .bind(inside::text(&key.addresses))
    .bind(&key.added_at)
    .execute(conn)
    .await?;
    Ok(())
}

impl Edit<'_> {
    /// A site, with a range of its own: one is given where it has none, unless `is_said` which addresses are wanted.
    async fn with_range(&mut self, name: &SiteName, plan: &Allotment, is_said: bool) -> Result<Site, StoreError> {
        let before = self.find::<Site>(name).await?;
        if !before.inside.is_empty() || is_said {
            return Ok(before);
        }
        let taken: Vec<Network> = self.all::<Site>().await?.into_iter().flat_map(|site| site.inside).collect();
        let inside = plan.site(&taken);
        if inside.is_empty() {
            return Err(StoreError::NoRange { site: name.clone(), ranges: inside::text(&plan.ranges) });
        }
        let after = Site { inside, ..before.clone() };
        self.replace(Verb::Set, before, after).await
    }

    /// Refuses ranges of a site that overlap another's, and such as leave a device of the site without the addresses it has.
    pub(super) async fn check_inside(&mut self, site: &SiteName, ranges: &[Network]) -> Result<(), StoreError> {
        let store = self.store();
        let others = self.all::<Site>().await?.into_iter().map(|site| (site.name, site.inside));
        inside::check_site(site, ranges, others)?;
        let keys = all(self.conn()).await.map_err(|e| store.sql(e))?;
        for kept in keys.iter().filter(|kept| kept.key.site == *site) {
            inside::check_device(&kept.key.id(), &kept.key.addresses, ranges, std::iter::empty())?;
        }
        Ok(())
    }

    /// Removes the key of a device, where it has one.
    pub(super) async fn take_key(&mut self, id: &DeviceId) -> Result<Option<EntryName>, StoreError> {
        let store = self.store();
        let known = all(self.conn()).await.map_err(|e| store.sql(e))?;
        let Some(before) = known.into_iter().find(|kept| kept.key.id() == *id) else { return Ok(None) };
        sqlx::query("DELETE FROM wireguard_keys WHERE site = $1 AND name = $2")
            .bind(id.site.as_str())
            .bind(id.device.as_str())
            .execute(self.conn())
            .await
            .map_err(|e| store.sql(e))?;
        self.journal_entries(Verb::Remove, Some(Entry::WireguardKey(before.key)), None).await?;
        Ok(Some(EntryName::WireguardKey(id.clone())))
    }
}

#[cfg(test)]
mod tests;
