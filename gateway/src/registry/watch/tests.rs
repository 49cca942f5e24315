use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use policy::{DeviceId, Refusal};
use tempfile::TempDir;

use super::*;
use crate::store::{Allotment, DisplayName, NewDevice, NewWireguardKey};

/// Remembers what it was handed; fails to record while told to.
#[derive(Debug, Clone, Default)]
struct Gateway(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    directory: Mutex<Arc<Directory>>,
    published: Mutex<Vec<u64>>,
    recorded: Mutex<Vec<u64>>,
    audit_broken: AtomicBool,
    audit_hangs: AtomicBool,
}

impl OnChange for Gateway {
    type Error = &'static str;

    fn publish(&self, directory: Arc<Directory>, changes: &[Change]) {
        *self.0.directory.lock().unwrap() = directory;
        self.0.published.lock().unwrap().extend(changes.iter().map(|change| change.sequence));
    }

    async fn record(&self, change: &Change) -> Result<(), Self::Error> {
        if self.0.audit_hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.0.audit_broken.load(Ordering::Relaxed) {
            return Err("disk full");
        }
        self.0.recorded.lock().unwrap().push(change.sequence);
        Ok(())
    }
}

impl Gateway {
    fn lookup(&self, site: &str) -> Result<(), Refusal> {
        self.0.directory.lock().unwrap().lookup(&device(site)).map(drop)
    }

    fn recorded(&self) -> Vec<u64> {
        self.0.recorded.lock().unwrap().clone()
    }
}

fn device(site: &str) -> DeviceId {
    DeviceId { site: site.parse().unwrap(), device: "d".parse().unwrap() }
}

async fn add(store: &Store, site: &str) {
    store.site_add("tester", site.parse().unwrap(), DisplayName::default()).await.unwrap();
    let new = NewDevice { id: device(site), display_name: DisplayName::default(), user: None, roles: vec![] };
    store.device_add("tester", new).await.unwrap();
}

/// A store with a site `s` and a device `s/d`: two changes.
async fn store() -> (TempDir, Store) {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path().join("sekisho.db")).await.unwrap();
    add(&store, "s").await;
    (directory, store)
}

/// Starts a gateway as a process would, with a handle of its own.
async fn start(store: &Store, gateway: &Gateway) -> (tokio::task::JoinHandle<()>, watch::Receiver<WatchState>) {
    let mut watch = Watch::new(Store::open(store.path()).await.unwrap(), "gw1", gateway.clone());
    let directory = watch.catch_up(0).await.unwrap();
    *gateway.0.directory.lock().unwrap() = directory;
    let state = watch.state();
    let task = tokio::spawn(async move {
        watch.run().await;
    });
    (task, state)
}

/// How long until it holds; fails after five seconds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn a_change_by_another_process_is_acted_on_within_a_second() {
    let (_directory, store) = store().await;
    let gateway = Gateway::default();
    let (task, state) = start(&store, &gateway).await;
    assert_eq!(gateway.lookup("s"), Ok(()));
    store.device_suspend("tester", &device("s")).await.unwrap();
    let took = until("revoked", || gateway.lookup("s") == Err(Refusal::DeviceSuspended)).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    until("recorded", || gateway.recorded() == [1, 2, 3]).await;
    assert_eq!(*gateway.0.published.lock().unwrap(), [3]);
    until("marked", || state.borrow().recorded == 3).await;
    assert_eq!(store.recorded_up_to("gw1").await.unwrap(), 3);
    assert_eq!(state.borrow().published, 3);
    task.abort();
}

#[tokio::test]
async fn what_changed_while_nobody_ran_is_recorded_once_before_serving() {
    let (_directory, store) = store().await;
    let gateway = Gateway::default();
    let (task, _) = start(&store, &gateway).await;
    assert_eq!(gateway.recorded(), [1, 2]);
    task.abort();
    store.device_suspend("tester", &device("s")).await.unwrap();
    let again = Gateway::default();
    let (task, _) = start(&store, &again).await;
    assert_eq!(again.recorded(), [3]);
    assert_eq!(again.lookup("s"), Err(Refusal::DeviceSuspended));
    task.abort();
    let third = Gateway::default();
    let (task, _) = start(&store, &third).await;
    assert!(third.recorded().is_empty());
    task.abort();
}

#[tokio::test]
async fn a_crash_before_the_mark_hands_the_change_over_again() {
    let (_directory, store) = store().await;
    let gateway = Gateway::default();
    // The record is durable; the process dies before `mark_recorded`.
    for change in store.changes_after(0, 10).await.unwrap() {
        gateway.record(&change).await.unwrap();
    }
    let (task, _) = start(&store, &gateway).await;
    assert_eq!(gateway.recorded(), [1, 2, 1, 2]);
    task.abort();

    // An audit log that says how far it got is not handed the same again.
    store.device_suspend("tester", &device("s")).await.unwrap();
    let mut watch = Watch::new(store.clone(), "gw1", gateway.clone());
    watch.catch_up(3).await.unwrap();
    assert_eq!(gateway.recorded(), [1, 2, 1, 2]);
    assert_eq!(store.recorded_up_to("gw1").await.unwrap(), 3);
}

#[tokio::test]
async fn a_gateway_that_cannot_record_does_not_start() {
    let (_directory, store) = store().await;
    let gateway = Gateway::default();
    gateway.0.audit_broken.store(true, Ordering::Relaxed);
    let error = Watch::new(store.clone(), "gw1", gateway).catch_up(0).await.unwrap_err();
    assert_eq!(error.to_string(), "change 1 of the registry cannot be recorded: disk full");
    assert_eq!(store.recorded_up_to("gw1").await.unwrap(), 0);
}

#[tokio::test]
async fn a_store_behind_its_audit_log_does_not_start() {
    let (_directory, store) = store().await;
    let error = Watch::new(store, "gw1", Gateway::default()).catch_up(3).await.unwrap_err();
    assert!(matches!(error, CatchUpError::Store(StoreError::RolledBack { sequence: 3, .. })), "{error}");
}

#[tokio::test]
async fn a_broken_or_hanging_audit_log_does_not_delay_a_revocation() {
    let (_directory, store) = store().await;
    let gateway = Gateway::default();
    let (task, state) = start(&store, &gateway).await;
    gateway.0.audit_broken.store(true, Ordering::Relaxed);
    store.device_suspend("tester", &device("s")).await.unwrap();
    until("revoked", || gateway.lookup("s") == Err(Refusal::DeviceSuspended)).await;
    until("reported", || state.borrow().record_error.is_some()).await;
    assert_eq!(store.recorded_up_to("gw1").await.unwrap(), 2);
    gateway.0.audit_broken.store(false, Ordering::Relaxed);
    until("recorded", || state.borrow().record_error.is_none()).await;
    assert_eq!(gateway.recorded(), [1, 2, 3]);

    gateway.0.audit_hangs.store(true, Ordering::Relaxed);
    store.device_resume("tester", &device("s")).await.unwrap();
    until("resumed", || gateway.lookup("s").is_ok()).await;
    store.site_suspend("tester", &"s".parse().unwrap()).await.unwrap();
    until("revoked", || gateway.lookup("s") == Err(Refusal::SiteSuspended)).await;
    task.abort();
}

#[tokio::test]
async fn losing_the_store_keeps_the_last_directory() {
    let (directory, store) = store().await;
    store.device_suspend("tester", &device("s")).await.unwrap();
    let gateway = Gateway::default();
    let (task, state) = start(&store, &gateway).await;
    std::fs::rename(store.path(), directory.path().join("elsewhere.db")).unwrap();
    until("reported", || state.borrow().store_error.is_some()).await;
    assert_eq!(gateway.lookup("s"), Err(Refusal::DeviceSuspended));
    assert!(state.borrow().store_failures > 0);
    std::fs::rename(directory.path().join("elsewhere.db"), store.path()).unwrap();
    until("recovered", || state.borrow().store_error.is_none()).await;
    store.device_resume("tester", &device("s")).await.unwrap();
    until("followed again", || gateway.lookup("s").is_ok()).await;
    task.abort();
}

/// Copies the store as an operator would who takes a backup while nobody writes.
async fn copy(from: &Store, to: &std::path::Path) {
    let closed = Store::open(from.path()).await.unwrap();
    closed.checkpoint().await;
    std::fs::copy(from.path(), to).unwrap();
}

#[tokio::test]
async fn an_older_copy_put_in_place_does_not_un_revoke() {
    let (directory, store) = store().await;
    let backup = directory.path().join("backup.db");
    copy(&store, &backup).await;
    store.device_suspend("tester", &device("s")).await.unwrap();
    let gateway = Gateway::default();
    let (task, state) = start(&store, &gateway).await;
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", store.path().display())).unwrap();
    }
    std::fs::rename(&backup, store.path()).unwrap();
    until("reported", || state.borrow().store_error.is_some()).await;
    assert!(state.borrow().store_error.as_ref().unwrap().contains("change 3 is gone"), "{:?}", state.borrow());
    // Even where the copy's history grows past the one that was followed.
    let other = Store::open(store.path()).await.unwrap();
    add(&other, "t").await;
    tokio::time::sleep(POLL_INTERVAL * 3).await;
    assert_eq!(gateway.lookup("s"), Err(Refusal::DeviceSuspended));
    assert_eq!(gateway.lookup("t"), Err(Refusal::SiteUnregistered));
    task.abort();
}

#[tokio::test]
async fn a_copy_that_goes_on_from_there_is_taken_up() {
    let (directory, store) = store().await;
    let gateway = Gateway::default();
    let (task, state) = start(&store, &gateway).await;
    let moved = directory.path().join("moved.db");
    copy(&store, &moved).await;
    let other = Store::open(&moved).await.unwrap();
    other.device_suspend("tester", &device("s")).await.unwrap();
    other.checkpoint().await;
    other.close().await;
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", store.path().display())).unwrap();
    }
    std::fs::rename(&moved, store.path()).unwrap();
    until("revoked", || gateway.lookup("s") == Err(Refusal::DeviceSuspended)).await;
    until("recorded", || state.borrow().recorded == 3).await;
    assert_eq!(gateway.recorded(), [1, 2, 3]);
    task.abort();
}

/// A device of a tunnel whose preshared key cannot be opened: once the file is back, so is the device, without a change.
#[tokio::test]
async fn keys_that_could_not_be_opened_are_tried_again() {
    let (_directory, store) = store().await;
    let key = NewWireguardKey {
        id: device("s"),
        public_key: gateway_tunnel::PrivateKey::new([1; 32]).public(),
        preshared_key: Some(zeroize::Zeroizing::new([2; 32])),
        addresses: None,
        allotment: Allotment {
            ranges: vec!["10.64.0.0/10".parse().unwrap()],
            prefix_v4: 24,
            prefix_v6: 64,
            own: Vec::new(),
        },
    };
    store.wireguard_key_put("t", key).await.unwrap();
    let file = store.sealing_key_path();
    let away = file.with_extension("away");
    std::fs::rename(&file, &away).unwrap();
    let own = Store::open(store.path()).await.unwrap();
    let mut follower = Follower { store: own, sequence: 0, last: None, unreadable: None };
    let directory = follower.start().await.unwrap();
    assert_eq!((directory.tunnel_keys().len(), directory.unreadable_tunnel_keys()), (0, 1));
    let passes = |follower: &mut Follower| {
        let (_, tried) = follower.unreadable.as_mut().unwrap();
        *tried = tried.checked_sub(REOPEN_KEYS).unwrap();
    };
    passes(&mut follower);
    assert!(follower.poll().await.unwrap().is_none(), "no news");
    std::fs::rename(&away, &file).unwrap();
    passes(&mut follower);
    let (directory, changes) = follower.poll().await.unwrap().unwrap();
    assert_eq!((directory.tunnel_keys().len(), directory.unreadable_tunnel_keys()), (1, 0));
    assert!(changes.is_empty() && follower.unreadable.is_none());
    assert!(follower.poll().await.unwrap().is_none());
}

/// Whoever keeps something in the store learns of the file that took its place.
#[tokio::test]
async fn a_store_that_took_anothers_place_is_handed_on() {
    let (directory, store) = store().await;
    store.checkpoint().await;
    let copy = directory.path().join("copy.db");
    std::fs::copy(store.path(), &copy).unwrap();
    let mut watch = Watch::new(Store::open(store.path()).await.unwrap(), "gw1", Gateway::default());
    watch.catch_up(0).await.unwrap();
    let mut stores = watch.stores();
    assert!(stores.borrow_and_update().is_same_file(&store));
    let task = tokio::spawn(async move {
        watch.run().await;
    });
    store.close().await;
    std::fs::rename(&copy, store.path()).unwrap();
    tokio::time::timeout(Duration::from_secs(60), stores.changed()).await.unwrap().unwrap();
    assert!(!stores.borrow().is_same_file(&store));
    assert!(stores.borrow().check_in_place().is_ok());
    task.abort();
}
