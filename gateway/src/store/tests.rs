use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tempfile::TempDir;

use super::*;

const ACTOR: &str = "tester";

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn device_id(site: &str, device: &str) -> DeviceId {
    DeviceId { site: name(site), device: name(device) }
}

fn user_id(site: &str, user: &str) -> UserId {
    UserId { site: name(site), user: name(user) }
}

async fn store() -> (TempDir, Store) {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path().join("state/sekisho.db")).await.unwrap();
    (directory, store)
}

/// A site `s` with roles `doctor` and `nurse`, a doctor `u`, and a device `d` of hers.
async fn clinic() -> (TempDir, Store) {
    let (directory, store) = store().await;
    store.site_add(ACTOR, name("s"), name("さくら診療所")).await.unwrap();
    for role in ["doctor", "nurse"] {
        store.role_add(ACTOR, name(role), DisplayName::default()).await.unwrap();
    }
    let user = NewUser { id: user_id("s", "u"), display_name: DisplayName::default(), roles: vec![name("doctor")] };
    store.user_add(ACTOR, user).await.unwrap();
    let device = NewDevice {
        id: device_id("s", "d"),
        display_name: DisplayName::default(),
        user: Some(name("u")),
        roles: vec![name("nurse")],
    };
    store.device_add(ACTOR, device).await.unwrap();
    (directory, store)
}

fn message<T>(result: Result<T, StoreError>) -> String {
    result.err().map(|e| e.to_string()).unwrap()
}

#[tokio::test]
async fn file_and_directory_are_the_owners_only() {
    let (_directory, store) = clinic().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(store.path()), 0o600);
    assert_eq!(mode(store.path().parent().unwrap()), 0o700);
    let wal = std::path::PathBuf::from(format!("{}-wal", store.path().display()));
    assert_eq!(mode(&wal), 0o600);

    let path = store.path().to_owned();
    store.close().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    assert!(matches!(Store::open(&path).await, Err(StoreError::Permissions { mode: 0o604, .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(Store::open(&path).await.unwrap().site_list().await.unwrap().len(), 1);
}

/// Where the tests run as root, the directory is given away first; elsewhere it is the tester's own.
#[tokio::test]
async fn what_root_makes_belongs_to_the_directorys_owner() {
    let directory = TempDir::new().unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(directory.path(), Some(12345), Some(12345)).unwrap();
    }
    let owner = std::fs::metadata(directory.path()).unwrap().uid();
    let store = Store::open(directory.path().join("sekisho.db")).await.unwrap();
    store.site_add(ACTOR, name("s"), DisplayName::default()).await.unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let file = format!("{}{suffix}", store.path().display());
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), owner, "{file}");
    }
}

#[tokio::test]
async fn what_is_no_store_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.db");
    assert!(matches!(Store::open_existing(&path).await, Err(StoreError::Missing { .. })));
    assert!(!path.exists());
    std::fs::write(&path, "this is not a database, however long it may be; and it goes on and on").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(message(Store::open(&path).await).contains("x.db"));
    let blocked = path.join("below/a/file.db");
    assert!(message(Store::open(&blocked).await).contains("x.db"));
}

#[tokio::test]
async fn settings_promise_durability_and_references() {
    let (_directory, store) = store().await;
    for (pragma, expected) in [("PRAGMA synchronous", 2), ("PRAGMA foreign_keys", 1), ("PRAGMA busy_timeout", 5000)] {
        let (value,): (i64,) = sqlx::query_as(pragma).fetch_one(&store.pool).await.unwrap();
        assert_eq!(value, expected, "{pragma}");
    }
    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode").fetch_one(&store.pool).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_refused() {
    let (_directory, store) = store().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .execute(&store.pool)
    .await
    .unwrap();
    assert!(matches!(Store::open(store.path()).await, Err(StoreError::Migration { .. })));
}

#[tokio::test]
async fn entries_come_back_as_they_went_in() {
    let (_directory, store) = clinic().await;
    let site = store.site_show(&name("s")).await.unwrap();
    assert_eq!((site.display_name.as_str(), site.status, site.version), ("さくら診療所", Status::Active, 1));
    let device = store.device_show(&device_id("s", "d")).await.unwrap();
    assert_eq!(device.user, Some(name("u")));
    assert_eq!(device.roles, [name("nurse")]);
    let again = Store::open(store.path()).await.unwrap();
    assert_eq!(again.entries().await.unwrap(), store.entries().await.unwrap());
    assert_eq!(again.entries().await.unwrap().sequence, 5);
}

#[tokio::test]
async fn errors_name_the_thing_and_the_nearest() {
    let (_directory, store) = clinic().await;
    store.site_add(ACTOR, name("sakura-clinic"), DisplayName::default()).await.unwrap();
    assert_eq!(
        message(store.site_show(&name("sakura-clinc")).await),
        "no site `sakura-clinc`; did you mean `sakura-clinic`?"
    );
    assert_eq!(message(store.user_show(&user_id("x", "y")).await), "no user `x/y`");
    assert_eq!(message(store.site_add(ACTOR, name("s"), DisplayName::default()).await), "site `s` exists already");
    let set = SetUser { roles: RoleEdit { give: vec![name("docter")], take: vec![] }, ..SetUser::default() };
    assert_eq!(
        message(store.user_set(ACTOR, &user_id("s", "u"), set).await),
        "no role `docter`; did you mean `doctor`?; known roles: `doctor`, `nurse`"
    );
    let set = SetDevice { user: Assignment::User(name("nobody")), ..SetDevice::default() };
    assert_eq!(message(store.device_set(ACTOR, &device_id("s", "d"), set).await), "no user `s/nobody`");
    let device =
        NewDevice { id: device_id("unknown", "d"), display_name: DisplayName::default(), user: None, roles: vec![] };
    assert_eq!(message(store.device_add(ACTOR, device).await), "no site `unknown`");
}

#[tokio::test]
async fn what_is_in_use_is_not_removed_without_cascade() {
    let (_directory, store) = clinic().await;
    let before = store.entries().await.unwrap();
    assert_eq!(
        message(store.site_remove(ACTOR, &name("s"), false).await),
        "site `s` has 1 device and 1 user; remove them first or pass --cascade"
    );
    assert_eq!(
        message(store.user_remove(ACTOR, &user_id("s", "u"), false).await),
        "user `s/u` has 1 device assigned; remove them first or pass --cascade"
    );
    assert_eq!(
        message(store.role_remove(ACTOR, &name("nurse"), false).await),
        "role `nurse` has 1 device; remove them first or pass --cascade"
    );
    assert_eq!(store.entries().await.unwrap(), before);

    let removed = store.site_remove(ACTOR, &name("s"), true).await.unwrap();
    let removed: Vec<String> = removed.iter().map(|e| format!("{} {e}", e.kind())).collect();
    assert_eq!(removed, ["device s/d", "user s/u", "site s"]);
    let after = store.entries().await.unwrap();
    assert_eq!(after.sequence, before.sequence + 3);
    assert!(after.sites.is_empty() && after.devices.is_empty() && after.users.is_empty());
}

#[tokio::test]
async fn removing_a_user_closes_the_devices_assigned_to_them() {
    let (_directory, store) = clinic().await;
    store.user_remove(ACTOR, &user_id("s", "u"), true).await.unwrap();
    let device = store.device_show(&device_id("s", "d")).await.unwrap();
    assert_eq!((device.status, device.user), (Status::Suspended, None));
    let refusal = store.directory().await.unwrap().lookup(&device_id("s", "d"));
    assert_eq!(refusal, Err(policy::Refusal::DeviceSuspended));
    let verbs: Vec<Verb> = store.changes_after(5, 9).await.unwrap().iter().map(|c| c.body.verb).collect();
    assert_eq!(verbs, [Verb::Suspend, Verb::Remove]);
}

#[tokio::test]
async fn removing_a_role_takes_it_from_its_holders() {
    let (_directory, store) = clinic().await;
    store.role_remove(ACTOR, &name("doctor"), true).await.unwrap();
    assert!(store.user_show(&user_id("s", "u")).await.unwrap().roles.is_empty());
    let subject = store.directory().await.unwrap().lookup(&device_id("s", "d")).unwrap();
    assert_eq!(subject.roles.to_vec(), [name("nurse")]);
}

#[tokio::test]
async fn suspending_a_role_gives_each_holder_a_version_of_its_own() {
    let (_directory, store) = clinic().await;
    let device = NewDevice { id: device_id("s", "e"), display_name: name(""), user: None, roles: vec![name("nurse")] };
    store.device_add(ACTOR, device).await.unwrap();
    let before = store.entries().await.unwrap();
    store.role_suspend(ACTOR, &name("nurse")).await.unwrap();
    let after = store.entries().await.unwrap();
    let old: Vec<u64> = before.devices.iter().map(|d| d.version).collect();
    let new: Vec<u64> = after.devices.iter().map(|d| d.version).collect();
    assert!(new.iter().all(|v| !old.contains(v)) && new.first() != new.last(), "{old:?} {new:?}");
    assert_eq!(after.users, before.users);
    assert_eq!(after.sequence, before.sequence + 1);
    let subject = store.directory().await.unwrap().lookup(&device_id("s", "d")).unwrap();
    assert_eq!(subject.roles.to_vec(), [name("doctor")]);
}

#[tokio::test]
async fn doing_it_twice_changes_nothing_the_second_time() {
    let (_directory, store) = clinic().await;
    let first = store.device_suspend(ACTOR, &device_id("s", "d")).await.unwrap();
    let second = store.device_suspend(ACTOR, &device_id("s", "d")).await.unwrap();
    assert!(first.changed && !second.changed);
    assert_eq!(first.entry, second.entry);
    assert_eq!(store.sequence().await.unwrap(), 6);
}

#[tokio::test]
async fn the_journal_says_who_did_what_from_what_to_what() {
    let (_directory, store) = clinic().await;
    store.site_suspend("alice", &name("s")).await.unwrap();
    let changes = store.changes_after(5, 10).await.unwrap();
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((change.sequence, change.actor.as_str(), change.body.verb), (6, "alice", Verb::Suspend));
    assert_eq!(change.entry(), Some(EntryName::Site(name("s"))));
    let json = serde_json::to_value(change).unwrap();
    assert_eq!(json["before"]["status"], "active");
    assert_eq!(json["after"]["status"], "suspended");
    assert_eq!(json["after"]["kind"], "site");
    assert_eq!(json["verb"], "suspend");
    assert!(change.time.parse::<jiff::Timestamp>().is_ok());
    assert_eq!(store.changes_after(0, 2).await.unwrap().len(), 2);
    assert_eq!(store.change(6).await.unwrap().as_ref(), Some(change));
}

#[tokio::test]
async fn the_cursor_is_each_nodes_own_and_never_moves_back() {
    let (_directory, store) = clinic().await;
    assert_eq!(store.recorded_up_to("gw1").await.unwrap(), 0);
    store.mark_recorded("gw1", 4).await.unwrap();
    store.mark_recorded("gw1", 2).await.unwrap();
    assert_eq!(store.recorded_up_to("gw1").await.unwrap(), 4);
    assert_eq!(store.recorded_up_to("gw2").await.unwrap(), 0);
}

#[tokio::test]
async fn a_version_never_comes_back() {
    let (_directory, store) = store().await;
    let first = store.site_add(ACTOR, name("s"), DisplayName::default()).await.unwrap().version;
    store.site_remove(ACTOR, &name("s"), false).await.unwrap();
    let second = store.site_add(ACTOR, name("s"), DisplayName::default()).await.unwrap().version;
    assert!(second > first);
}

/// Two handles stand for two processes: each has its own connections.
#[tokio::test]
async fn writers_take_turns_and_no_number_is_lost() {
    let (_directory, store) = store().await;
    let other = Store::open(store.path()).await.unwrap();
    let write = |store: Store, prefix: &'static str| async move {
        for number in 0..25 {
            store.site_add(prefix, name(&format!("{prefix}{number}")), DisplayName::default()).await.unwrap();
        }
    };
    let (a, b) = tokio::join!(tokio::spawn(write(store.clone(), "a")), tokio::spawn(write(other, "b")));
    a.unwrap();
    b.unwrap();
    let changes = store.changes_after(0, 100).await.unwrap();
    let sequences: Vec<u64> = changes.iter().map(|c| c.sequence).collect();
    assert_eq!(sequences, (1..=50).collect::<Vec<u64>>());
    let mut versions: Vec<u64> = store.site_list().await.unwrap().iter().map(|s| s.version).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 50);
}

#[tokio::test]
async fn many_may_make_the_same_store_at_once() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sekisho.db");
    let open = |number: usize| {
        let path = path.clone();
        tokio::spawn(async move {
            let store = Store::open(&path).await.unwrap();
            store.site_add(ACTOR, name(&format!("s{number}")), DisplayName::default()).await.unwrap();
        })
    };
    for task in (0..6).map(open).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(Store::open(&path).await.unwrap().site_list().await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_replaced_file_is_noticed() {
    let (_directory, store) = clinic().await;
    store.check_in_place().unwrap();
    std::fs::rename(store.path(), store.path().with_extension("old")).unwrap();
    assert!(matches!(store.check_in_place(), Err(StoreError::Replaced { .. })));
}

#[tokio::test]
async fn a_row_from_another_hand_fails_the_whole_reading() {
    let (_directory, store) = clinic().await;
    sqlx::query("UPDATE sites SET display_name = $1").bind("a\u{1b}[2J").execute(&store.pool).await.unwrap();
    assert!(matches!(store.directory().await, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn the_database_itself_refuses_dangling_references() {
    let (_directory, store) = clinic().await;
    for statement in ["DELETE FROM users", "DELETE FROM sites", "DELETE FROM roles"] {
        assert!(sqlx::query(statement).execute(&store.pool).await.is_err(), "{statement}");
    }
}

/// The folder is the gateway's, and root opens the store too: a link there must lead nobody anywhere.
#[tokio::test]
async fn a_lock_that_is_a_link_is_not_followed() {
    let (directory, store) = store().await;
    let path = store.path().to_owned();
    drop(store);
    let lock = directory.path().join("state/sekisho.db.lock");
    std::fs::remove_file(&lock).unwrap();
    let target = directory.path().join("target");
    std::fs::write(&target, "somebody else's").unwrap();
    for make in [std::os::unix::fs::symlink::<_, _>, std::fs::hard_link::<_, _>] {
        make(&target, &lock).unwrap();
        assert!(matches!(Store::open(&path).await, Err(StoreError::Io { .. })));
        std::fs::remove_file(&lock).unwrap();
    }
    assert_eq!(std::fs::read(&target).unwrap(), b"somebody else's");
}
