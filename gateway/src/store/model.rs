//! A naive registry in memory, and random mutations put to it and to the store: both must agree on success, on the
//! directory and on the journal, and no version may ever come back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use policy::{DeviceId, Refusal};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Mutation {
    SiteAdd(u8),
    SiteStatus(u8, bool),
    SiteRemove(u8, bool),
    RoleAdd(u8),
    RoleStatus(u8, bool),
    RoleRemove(u8, bool),
    UserAdd(u8, u8, Vec<u8>),
    UserRoles(u8, u8, Vec<u8>, Vec<u8>),
    UserStatus(u8, u8, bool),
    UserRemove(u8, u8, bool),
    DeviceAdd(u8, u8, Option<u8>, Vec<u8>),
    DeviceAssign(u8, u8, Option<u8>),
    DeviceStatus(u8, u8, bool),
    DeviceRemove(u8, u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let n = || 0..3u8;
    let roles = || proptest::collection::vec(0..3u8, 0..3);
    let user = || proptest::option::of(0..3u8);
    prop_oneof![
        3 => n().prop_map(SiteAdd),
        1 => (n(), any::<bool>()).prop_map(|(s, on)| SiteStatus(s, on)),
        1 => (n(), any::<bool>()).prop_map(|(s, c)| SiteRemove(s, c)),
        3 => n().prop_map(RoleAdd),
        1 => (n(), any::<bool>()).prop_map(|(r, on)| RoleStatus(r, on)),
        1 => (n(), any::<bool>()).prop_map(|(r, c)| RoleRemove(r, c)),
        4 => (n(), n(), roles()).prop_map(|(s, u, r)| UserAdd(s, u, r)),
        2 => (n(), n(), roles(), roles()).prop_map(|(s, u, g, t)| UserRoles(s, u, g, t)),
        2 => (n(), n(), any::<bool>()).prop_map(|(s, u, on)| UserStatus(s, u, on)),
        1 => (n(), n(), any::<bool>()).prop_map(|(s, u, c)| UserRemove(s, u, c)),
        5 => (n(), n(), user(), roles()).prop_map(|(s, d, u, r)| DeviceAdd(s, d, u, r)),
        2 => (n(), n(), user()).prop_map(|(s, d, u)| DeviceAssign(s, d, u)),
        2 => (n(), n(), any::<bool>()).prop_map(|(s, d, on)| DeviceStatus(s, d, on)),
        1 => (n(), n()).prop_map(|(s, d)| DeviceRemove(s, d)),
    ]
}

/// Whether it is active, its user and its roles.
type ModelDevice = (bool, Option<u8>, BTreeSet<u8>);

#[derive(Debug, Clone, Default)]
struct Model {
    sites: BTreeMap<u8, bool>,
    roles: BTreeMap<u8, bool>,
    users: BTreeMap<(u8, u8), (bool, BTreeSet<u8>)>,
    devices: BTreeMap<(u8, u8), ModelDevice>,
}

impl Model {
    /// None where the mutation must be refused, and then nothing has changed.
    fn apply(&mut self, mutation: &Mutation) -> Option<()> {
        let roles_known = |model: &Self, roles: &[u8]| roles.iter().all(|r| model.roles.contains_key(r));
        match mutation {
            Mutation::SiteAdd(s) => match self.sites.insert(*s, true) {
                None => Some(()),
                Some(before) => {
                    self.sites.insert(*s, before);
                    None
                }
            },
            Mutation::SiteStatus(s, on) => self.sites.get_mut(s).map(|status| *status = *on),
            Mutation::SiteRemove(s, cascade) => {
                self.sites.get(s)?;
                let used = self.users.keys().chain(self.devices.keys()).any(|(site, _)| site == s);
                if used && !cascade {
                    return None;
                }
                self.users.retain(|(site, _), _| site != s);
                self.devices.retain(|(site, _), _| site != s);
                self.sites.remove(s).map(|_| ())
            }
            Mutation::RoleAdd(r) => {
                if self.roles.contains_key(r) {
                    return None;
                }
                self.roles.insert(*r, true);
                Some(())
            }
            Mutation::RoleStatus(r, on) => self.roles.get_mut(r).map(|status| *status = *on),
            Mutation::RoleRemove(r, cascade) => {
                self.roles.get(r)?;
                let mut held: Vec<&mut BTreeSet<u8>> = self.users.values_mut().map(|u| &mut u.1).collect();
                held.extend(self.devices.values_mut().map(|d| &mut d.2));
                if !cascade && held.iter().any(|roles| roles.contains(r)) {
                    return None;
                }
                for roles in held {
                    roles.remove(r);
                }
                self.roles.remove(r).map(|_| ())
            }
            Mutation::UserAdd(s, u, roles) => {
                if !self.sites.contains_key(s) || self.users.contains_key(&(*s, *u)) || !roles_known(self, roles) {
                    return None;
                }
                self.users.insert((*s, *u), (true, roles.iter().copied().collect()));
                Some(())
            }
            Mutation::UserRoles(s, u, give, take) => {
                if !roles_known(self, give) || !roles_known(self, take) {
                    return None;
                }
                let user = self.users.get_mut(&(*s, *u))?;
                user.1.extend(give);
                user.1.retain(|role| !take.contains(role));
                Some(())
            }
            Mutation::UserStatus(s, u, on) => self.users.get_mut(&(*s, *u)).map(|user| user.0 = *on),
            Mutation::UserRemove(s, u, cascade) => {
                self.users.get(&(*s, *u))?;
                let assigned: Vec<_> =
                    self.devices.iter_mut().filter(|((site, _), d)| site == s && d.1 == Some(*u)).collect();
                if !assigned.is_empty() && !cascade {
                    return None;
                }
                for (_, device) in assigned {
                    device.0 = false;
                    device.1 = None;
                }
                self.users.remove(&(*s, *u)).map(|_| ())
            }
            Mutation::DeviceAdd(s, d, user, roles) => {
                let user_known = user.is_none_or(|u| self.users.contains_key(&(*s, u)));
                let free = !self.devices.contains_key(&(*s, *d));
                if !self.sites.contains_key(s) || !user_known || !roles_known(self, roles) || !free {
                    return None;
                }
                self.devices.insert((*s, *d), (true, *user, roles.iter().copied().collect()));
                Some(())
            }
            Mutation::DeviceAssign(s, d, user) => {
                if user.is_some_and(|u| !self.users.contains_key(&(*s, u))) {
                    return None;
                }
                self.devices.get_mut(&(*s, *d)).map(|device| device.1 = *user)
            }
            Mutation::DeviceStatus(s, d, on) => self.devices.get_mut(&(*s, *d)).map(|device| device.0 = *on),
            Mutation::DeviceRemove(s, d) => self.devices.remove(&(*s, *d)).map(|_| ()),
        }
    }

    fn lookup(&self, s: u8, d: u8) -> Result<(Option<u8>, Vec<u8>), Refusal> {
        if !*self.sites.get(&s).ok_or(Refusal::SiteUnregistered)? {
            return Err(Refusal::SiteSuspended);
        }
        let (active, user, roles) = self.devices.get(&(s, d)).ok_or(Refusal::DeviceUnregistered)?;
        if !active {
            return Err(Refusal::DeviceSuspended);
        }
        let mut roles = roles.clone();
        if let Some(user) = user {
            let (active, held) = self.users.get(&(s, *user)).ok_or(Refusal::UserSuspended)?;
            if !active {
                return Err(Refusal::UserSuspended);
            }
            roles.extend(held);
        }
        Ok((*user, roles.into_iter().filter(|r| self.roles.get(r) == Some(&true)).collect()))
    }
}

fn name<T: std::str::FromStr>(number: u8) -> T
where
    T::Err: std::fmt::Debug,
{
    number.to_string().parse().unwrap()
}

fn names<T: std::str::FromStr>(numbers: &[u8]) -> Vec<T>
where
    T::Err: std::fmt::Debug,
{
    numbers.iter().map(|number| name(*number)).collect()
}

async fn apply(store: &Store, mutation: &Mutation) -> Result<(), StoreError> {
    let a = "model";
    let device = |s: u8, d: u8| DeviceId { site: name(s), device: name(d) };
    let user = |s: u8, u: u8| UserId { site: name(s), user: name(u) };
    match mutation.clone() {
        Mutation::SiteAdd(s) => store.site_add(a, name(s), DisplayName::default()).await.map(drop),
        Mutation::SiteStatus(s, true) => store.site_resume(a, &name(s)).await.map(drop),
        Mutation::SiteStatus(s, false) => store.site_suspend(a, &name(s)).await.map(drop),
        Mutation::SiteRemove(s, cascade) => store.site_remove(a, &name(s), cascade).await.map(drop),
        Mutation::RoleAdd(r) => store.role_add(a, name(r), DisplayName::default()).await.map(drop),
        Mutation::RoleStatus(r, true) => store.role_resume(a, &name(r)).await.map(drop),
        Mutation::RoleStatus(r, false) => store.role_suspend(a, &name(r)).await.map(drop),
        Mutation::RoleRemove(r, cascade) => store.role_remove(a, &name(r), cascade).await.map(drop),
        Mutation::UserAdd(s, u, roles) => {
            let new = NewUser { id: user(s, u), display_name: DisplayName::default(), roles: names(&roles) };
            store.user_add(a, new).await.map(drop)
        }
        Mutation::UserRoles(s, u, give, take) => {
            let roles = RoleEdit { give: names(&give), take: names(&take) };
            store.user_set(a, &user(s, u), SetUser { roles, ..SetUser::default() }).await.map(drop)
        }
        Mutation::UserStatus(s, u, true) => store.user_resume(a, &user(s, u)).await.map(drop),
        Mutation::UserStatus(s, u, false) => store.user_suspend(a, &user(s, u)).await.map(drop),
        Mutation::UserRemove(s, u, cascade) => store.user_remove(a, &user(s, u), cascade).await.map(drop),
        Mutation::DeviceAdd(s, d, u, roles) => {
            let display_name = DisplayName::default();
            let new = NewDevice { id: device(s, d), display_name, user: u.map(name), roles: names(&roles) };
            store.device_add(a, new).await.map(drop)
        }
        Mutation::DeviceAssign(s, d, u) => {
            let user = u.map_or(Assignment::Nobody, |u| Assignment::User(name(u)));
            store.device_set(a, &device(s, d), SetDevice { user, ..SetDevice::default() }).await.map(drop)
        }
        Mutation::DeviceStatus(s, d, true) => store.device_resume(a, &device(s, d)).await.map(drop),
        Mutation::DeviceStatus(s, d, false) => store.device_suspend(a, &device(s, d)).await.map(drop),
        Mutation::DeviceRemove(s, d) => store.device_remove(a, &device(s, d)).await.map(drop),
    }
}

/// What a version stands for: the entry, and all of it that a decision depends on.
fn meanings(entries: &Entries) -> Vec<(u64, String)> {
    let active = |roles: &[RoleName]| {
        let active = |role: &&RoleName| entries.roles.iter().any(|r| r.name == **role && r.status == Status::Active);
        format!("{:?}", roles.iter().filter(active).collect::<Vec<_>>())
    };
    let mut all = Vec::new();
    for site in &entries.sites {
        all.push((site.version, format!("site {} {}", site.name, site.status)));
    }
    for role in &entries.roles {
        all.push((role.version, format!("role {} {}", role.name, role.status)));
    }
    for user in &entries.users {
        all.push((user.version, format!("user {} {} {}", user.id(), user.status, active(&user.roles))));
    }
    for device in &entries.devices {
        let roles = active(&device.roles);
        all.push((device.version, format!("device {} {} {:?} {roles}", device.id(), device.status, device.user)));
    }
    all
}

async fn agree(mutations: Vec<Mutation>) {
    let directory = tempfile::TempDir::new().unwrap();
    let store = Store::open(directory.path().join("sekisho.db")).await.unwrap();
    let (mut model, mut meaning_of) = (Model::default(), HashMap::<u64, String>::new());
    let mut last = 0;
    for mutation in mutations {
        let mut next = model.clone();
        let expected = next.apply(&mutation).is_some();
        if expected {
            model = next;
        }
        let done = apply(&store, &mutation).await;
        assert_eq!(done.is_ok(), expected, "{mutation:?}: {done:?}");
        let entries = store.entries().await.unwrap();
        let changes = store.changes_after(last, 100).await.unwrap();
        assert_eq!(entries.sequence, last + changes.len() as u64, "{mutation:?}");
        assert!(expected || changes.is_empty(), "{mutation:?} was refused and journalled");
        last = entries.sequence;
        for (version, meaning) in meanings(&entries) {
            let before = meaning_of.entry(version).or_insert_with(|| meaning.clone());
            assert_eq!(*before, meaning, "version {version} means two things after {mutation:?}");
        }
        let found = Directory::build(&entries);
        for (s, d) in (0..3).flat_map(|s| (0..3).map(move |d| (s, d))) {
            let subject = found.lookup(&DeviceId { site: name(s), device: name(d) });
            let subject = subject.map(|subject| (subject.user().cloned(), subject.roles.to_vec()));
            let expected = model.lookup(s, d).map(|(user, roles)| (user.map(name), names(&roles)));
            assert_eq!(subject, expected, "device {s}/{d} after {mutation:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_store_agrees_with_a_naive_model(mutations in proptest::collection::vec(mutation(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(agree(mutations));
    }
}
