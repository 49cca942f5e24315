//! Changing the registry. Every call is one transaction; `actor` is who makes the change, as the journal names them.

use gateway_tunnel::Network;
use policy::{DeviceId, RoleName, SiteName, UserName};

use super::edit::Edit;
use super::table::Table;
use super::{Device, DisplayName, EntryName, NamesEdit, Role, Site, Status, Store, StoreError, User, UserId, Verb};

/// An entry after an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited<T> {
    /// The entry as it stands.
    pub entry: T,
    /// False where it stood so before: then nothing was written.
    pub changed: bool,
}

/// A device to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Its site and name.
    pub id: DeviceId,
    /// What people call it.
    pub display_name: DisplayName,
    /// The user it is assigned to.
    pub user: Option<UserName>,
    /// Roles of whoever uses it.
    pub roles: Vec<RoleName>,
}

/// A user to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Site and name.
    pub id: UserId,
    /// What people call the user.
    pub display_name: DisplayName,
    /// The user's roles.
    pub roles: Vec<RoleName>,
}

/// Whom to assign a device to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Assignment {
    /// As it is.
    #[default]
    Keep,
    /// Nobody.
    Nobody,
    /// A user of the device's site.
    User(UserName),
}

/// Roles to give and to take. Taking one that is not held, and giving one that is, changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleEdit {
    /// To give.
    pub give: Vec<RoleName>,
    /// To take; wins over giving.
    pub take: Vec<RoleName>,
}

impl RoleEdit {
    fn apply(&self, held: &[RoleName]) -> Vec<RoleName> {
        let all = held.iter().chain(&self.give).filter(|role| !self.take.contains(role));
        sorted(all.cloned().collect())
    }

    fn named(&self) -> Vec<RoleName> {
        self.give.iter().chain(&self.take).cloned().collect()
    }
}

/// Fields of a device to be set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetDevice {
    /// What people call it, if that changes.
    pub display_name: Option<DisplayName>,
    /// Whom it is assigned to.
    pub user: Assignment,
    /// Its roles.
    pub roles: RoleEdit,
    /// What it calls itself in DICOM.
    pub ae_titles: NamesEdit,
}

/// Fields of a user to be set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetUser {
    /// What people call the user, if that changes.
    pub display_name: Option<DisplayName>,
    /// The user's roles.
    pub roles: RoleEdit,
}

/// Fields of a site to be set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetSite {
    /// What people call it, if that changes.
    pub display_name: Option<DisplayName>,
    /// Its ranges inside tunnels, if those change.
    pub inside: Option<Vec<Network>>,
    /// What it calls itself in HL7 v2.
    pub facilities: NamesEdit,
}

/// # Sites
///
/// Errors of every mutating call: [`StoreError::Busy`] if another process holds the store for more than five seconds,
/// [`StoreError::Io`] if it cannot be written; then nothing has changed.
impl Store {
    /// Adds an active site.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`].
    pub async fn site_add(&self, actor: &str, name: SiteName, display_name: DisplayName) -> Result<Site, StoreError> {
        self.site_add_inside(actor, name, display_name, Vec::new()).await
    }

    /// Adds an active site with ranges inside tunnels.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`]; [`StoreError::Overlap`] if a range overlaps another's.
    pub async fn site_add_inside(
        &self,
        actor: &str,
        name: SiteName,
        display_name: DisplayName,
        inside: Vec<Network>,
    ) -> Result<Site, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let (status, changed_at, facilities) = (Status::Active, String::new(), Vec::new());
        let site = Site { name, display_name, status, version: 0, changed_at, inside, facilities };
        let site = edit.add(site).await?;
        edit.check_inside(&site.name, &site.inside).await?;
        edit.commit().await?;
        Ok(site)
    }

    /// Sets fields of a site.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Overlap`] if a range overlaps another site's; [`StoreError::Outside`] if a device of the
    /// site has an address that no range holds any more.
    pub async fn site_set(&self, actor: &str, name: &SiteName, set: SetSite) -> Result<Edited<Site>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.find::<Site>(name).await?;
        if let Some(inside) = &set.inside {
            edit.check_inside(name, inside).await?;
        }
        let after = Site {
            display_name: set.display_name.unwrap_or_else(|| before.display_name.clone()),
            inside: set.inside.unwrap_or_else(|| before.inside.clone()),
            facilities: set.facilities.apply(&before.facilities),
            ..before.clone()
        };
        put(edit, before, after).await
    }

    /// Suspends a site: its devices are refused, live connections included (R27).
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn site_suspend(&self, actor: &str, name: &SiteName) -> Result<Edited<Site>, StoreError> {
        self.status(actor, name, Status::Suspended).await
    }

    /// Ends a site's suspension.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn site_resume(&self, actor: &str, name: &SiteName) -> Result<Edited<Site>, StoreError> {
        self.status(actor, name, Status::Active).await
    }

    /// Removes a site; with `cascade` its devices and users, too. Returns all that was removed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::InUse`] if it has devices or users and `cascade` is false.
    pub async fn site_remove(&self, actor: &str, name: &SiteName, cascade: bool) -> Result<Vec<EntryName>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let site = edit.find::<Site>(name).await?;
        let (devices, users) = edit.of_site(name).await?;
        if !cascade {
            refuse_if_used(EntryName::Site(name.clone()), devices.len(), users.len())?;
        }
        let mut removed = Vec::new();
        for device in devices {
            edit.forget(&device.id()).await?;
            removed.extend(edit.take_key(&device.id()).await?);
            removed.push(edit.remove(device).await?);
        }
        for user in users {
            removed.extend(edit.undelegate_user(&user.id()).await?);
            removed.extend(edit.unbind(&user.id(), |_| true).await?);
            removed.extend(edit.close_account(&user.id()).await?);
            removed.push(edit.remove(user).await?);
        }
        removed.push(edit.remove(site).await?);
        edit.commit().await?;
        Ok(removed)
    }

    async fn status<T: Table>(&self, actor: &str, key: &T::Key, status: Status) -> Result<Edited<T>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.find::<T>(key).await?;
        let entry = edit.set_status::<T>(key, status).await?;
        edit.commit().await?;
        Ok(Edited { changed: entry != before, entry })
    }
}

/// # Devices
impl Store {
    /// Adds an active device.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such site or user; [`StoreError::UnknownRole`];
    /// [`StoreError::AlreadyExists`].
    pub async fn device_add(&self, actor: &str, new: NewDevice) -> Result<Device, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let device = edit.add_device(new).await?;
        edit.commit().await?;
        Ok(device)
    }

    /// Sets fields of a device.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such device or user; [`StoreError::UnknownRole`].
    pub async fn device_set(&self, actor: &str, id: &DeviceId, set: SetDevice) -> Result<Edited<Device>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.find::<Device>(id).await?;
        edit.check_roles(&set.roles.named()).await?;
        let user = match set.user {
            Assignment::Keep => before.user.clone(),
            Assignment::Nobody => None,
            Assignment::User(user) => {
                edit.find::<User>(&UserId { site: id.site.clone(), user: user.clone() }).await?;
                Some(user)
            }
        };
        let after = Device {
            display_name: set.display_name.unwrap_or_else(|| before.display_name.clone()),
            user,
            roles: set.roles.apply(&before.roles),
            ae_titles: set.ae_titles.apply(&before.ae_titles),
            ..before.clone()
        };
        put(edit, before, after).await
    }

    /// Suspends a device: it is refused, live connections included (R3, R27).
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn device_suspend(&self, actor: &str, id: &DeviceId) -> Result<Edited<Device>, StoreError> {
        self.status(actor, id, Status::Suspended).await
    }

    /// Ends a device's suspension.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn device_resume(&self, actor: &str, id: &DeviceId) -> Result<Edited<Device>, StoreError> {
        self.status(actor, id, Status::Active).await
    }

    /// Removes a device.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn device_remove(&self, actor: &str, id: &DeviceId) -> Result<Vec<EntryName>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let device = edit.find::<Device>(id).await?;
        edit.forget(id).await?;
        let mut removed: Vec<_> = edit.take_key(id).await?.into_iter().collect();
        removed.push(edit.remove(device).await?);
        edit.commit().await?;
        Ok(removed)
    }
}

/// # Users
impl Store {
    /// Adds an active user.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such site; [`StoreError::UnknownRole`]; [`StoreError::AlreadyExists`].
    pub async fn user_add(&self, actor: &str, new: NewUser) -> Result<User, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        edit.find::<Site>(&new.id.site).await?;
        edit.check_roles(&new.roles).await?;
        let user = User {
            site: new.id.site,
            name: new.id.user,
            display_name: new.display_name,
            status: Status::Active,
            roles: sorted(new.roles),
            version: 0,
            changed_at: String::new(),
        };
        let user = edit.add(user).await?;
        edit.commit().await?;
        Ok(user)
    }

    /// Sets fields of a user.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::UnknownRole`].
    pub async fn user_set(&self, actor: &str, id: &UserId, set: SetUser) -> Result<Edited<User>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.find::<User>(id).await?;
        edit.check_roles(&set.roles.named()).await?;
        let after = User {
            display_name: set.display_name.unwrap_or_else(|| before.display_name.clone()),
            roles: set.roles.apply(&before.roles),
            ..before.clone()
        };
        put(edit, before, after).await
    }

    /// Suspends a user: the user's certificates and devices assigned to the user are refused, live connections included (R27).
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn user_suspend(&self, actor: &str, id: &UserId) -> Result<Edited<User>, StoreError> {
        self.status(actor, id, Status::Suspended).await
    }

    /// Ends a user's suspension.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn user_resume(&self, actor: &str, id: &UserId) -> Result<Edited<User>, StoreError> {
        self.status(actor, id, Status::Active).await
    }

    /// Removes a user. With `cascade`, devices assigned to the user are suspended and assigned to nobody: what stood
    /// for one person must not go on for whoever sits there, until an operator says so. Returns what was removed, the
    /// user's certificates among it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::InUse`] if devices are assigned to the user and `cascade` is false.
    pub async fn user_remove(&self, actor: &str, id: &UserId, cascade: bool) -> Result<Vec<EntryName>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let user = edit.find::<User>(id).await?;
        let (mut devices, _) = edit.of_site(&id.site).await?;
        devices.retain(|device| device.user.as_ref() == Some(&id.user));
        if !cascade && !devices.is_empty() {
            let by = format!("{} assigned", counted(devices.len(), "device"));
            return Err(StoreError::InUse { entry: EntryName::User(id.clone()), by });
        }
        for device in devices {
            let suspended = Device { user: None, status: Status::Suspended, ..device.clone() };
            edit.replace(Verb::Suspend, device, suspended).await?;
        }
        let mut removed = edit.undelegate_user(id).await?;
        removed.extend(edit.unbind(id, |_| true).await?);
        removed.extend(edit.close_account(id).await?);
        removed.push(edit.remove(user).await?);
        edit.commit().await?;
        Ok(removed)
    }
}

/// # Roles
impl Store {
    /// Adds an active role.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`].
    pub async fn role_add(&self, actor: &str, name: RoleName, display_name: DisplayName) -> Result<Role, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let role = Role { name, display_name, status: Status::Active, version: 0, changed_at: String::new() };
        let role = edit.add(role).await?;
        edit.commit().await?;
        Ok(role)
    }

    /// Sets a role's display name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn role_set(
        &self,
        actor: &str,
        name: &RoleName,
        display_name: DisplayName,
    ) -> Result<Edited<Role>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.find::<Role>(name).await?;
        let after = Role { display_name, ..before.clone() };
        put(edit, before, after).await
    }

    /// Suspends a role: nobody has it, whoever it is assigned to.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn role_suspend(&self, actor: &str, name: &RoleName) -> Result<Edited<Role>, StoreError> {
        self.role_status(actor, name, Status::Suspended).await
    }

    /// Ends a role's suspension.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn role_resume(&self, actor: &str, name: &RoleName) -> Result<Edited<Role>, StoreError> {
        self.role_status(actor, name, Status::Active).await
    }

    async fn role_status(&self, actor: &str, name: &RoleName, status: Status) -> Result<Edited<Role>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.find::<Role>(name).await?;
        let role = edit.set_status::<Role>(name, status).await?;
        let changed = role != before;
        if changed {
            let (devices, users) = edit.with_role(name).await?;
            for device in devices {
                edit.touch(device).await?;
            }
            for user in users {
                edit.touch(user).await?;
            }
        }
        edit.commit().await?;
        Ok(Edited { entry: role, changed })
    }

    /// Removes a role; with `cascade` it is first taken from everybody who has it. Returns what was removed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::InUse`] if it is assigned and `cascade` is false.
    pub async fn role_remove(&self, actor: &str, name: &RoleName, cascade: bool) -> Result<Vec<EntryName>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let role = edit.find::<Role>(name).await?;
        let (devices, users) = edit.with_role(name).await?;
        if !cascade {
            refuse_if_used(EntryName::Role(name.clone()), devices.len(), users.len())?;
        }
        let take = RoleEdit { give: Vec::new(), take: vec![name.clone()] };
        for device in devices {
            let without = Device { roles: take.apply(&device.roles), ..device.clone() };
            edit.replace(Verb::Set, device, without).await?;
        }
        for user in users {
            let without = User { roles: take.apply(&user.roles), ..user.clone() };
            edit.replace(Verb::Set, user, without).await?;
        }
        let removed = edit.remove(role).await?;
        edit.commit().await?;
        Ok(vec![removed])
    }
}

impl Edit<'_> {
    /// Adds an active device.
    pub(super) async fn add_device(&mut self, new: NewDevice) -> Result<Device, StoreError> {
        self.find::<Site>(&new.id.site).await?;
        if let Some(user) = &new.user {
            self.find::<User>(&UserId { site: new.id.site.clone(), user: user.clone() }).await?;
        }
        self.check_roles(&new.roles).await?;
        let device = Device {
            site: new.id.site,
            name: new.id.device,
            display_name: new.display_name,
            status: Status::Active,
            user: new.user,
            roles: sorted(new.roles),
            ae_titles: Vec::new(),
            version: 0,
            changed_at: String::new(),
        };
        self.add(device).await
    }
}

async fn put<T: Table>(mut edit: Edit<'_>, before: T, after: T) -> Result<Edited<T>, StoreError> {
    let entry = edit.replace(Verb::Set, before.clone(), after).await?;
    edit.commit().await?;
    Ok(Edited { changed: entry != before, entry })
}

fn refuse_if_used(entry: EntryName, devices: usize, users: usize) -> Result<(), StoreError> {
    let by = match (devices, users) {
        (0, 0) => return Ok(()),
        (_, 0) => counted(devices, "device"),
        (0, _) => counted(users, "user"),
        (_, _) => format!("{} and {}", counted(devices, "device"), counted(users, "user")),
    };
    Err(StoreError::InUse { entry, by })
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn sorted(mut roles: Vec<RoleName>) -> Vec<RoleName> {
    roles.sort();
    roles.dedup();
    roles
}
