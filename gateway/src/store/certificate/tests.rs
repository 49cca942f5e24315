use super::*;
use crate::store::{DisplayName, NewDevice};

const NOW: u64 = 1_800_000_000;
const HASH: &str = "00112233445566778899";

fn id(device: &str) -> DeviceId {
    DeviceId { site: SiteName::new("sakura").unwrap(), device: DeviceName::new(device).unwrap() }
}

fn certificate(serial: &str, device: &str, origin: Origin) -> Certificate {
    Certificate {
        serial: serial.to_owned(),
        issuer: "aa".to_owned(),
        site: id(device).site,
        device: id(device).device,
        fingerprint: "bb".to_owned(),
        not_before: NOW,
        not_after: NOW + 90 * 86_400,
        origin,
        revoked_at: None,
        reason: None,
    }
}

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("s.db")).await.unwrap();
    store.site_add("t", id("a").site, DisplayName::default()).await.unwrap();
    for device in ["a", "b"] {
        let new = NewDevice { id: id(device), display_name: DisplayName::default(), user: None, roles: Vec::new() };
        store.device_add("t", new).await.unwrap();
    }
    (folder, store)
}

#[tokio::test]
async fn a_code_is_of_one_device_and_of_one_time() {
    let (_folder, store) = store().await;
    store.code_add("alice", &id("a"), HASH, NOW + 10, NOW).await.unwrap();
    store.code_check(&id("a"), HASH, NOW + 9).await.unwrap();
    for (device, hash, now) in [("b", HASH, NOW), ("a", "other", NOW), ("a", HASH, NOW + 10)] {
        assert!(matches!(store.code_check(&id(device), hash, now).await, Err(StoreError::Code)));
        let entry = certificate("01", device, Origin::Code);
        assert!(matches!(store.certificate_add("x", &entry, Right::Code(hash), now).await, Err(StoreError::Code)));
    }
    assert!(store.certificates_of(&id("a")).await.unwrap().is_empty());
    // Of many at once, one is taken.
    let all: Vec<_> = (0..8)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let entry = certificate(&format!("{number:02}"), "a", Origin::Code);
                store.certificate_add("x", &entry, Right::Code(HASH), NOW).await
            })
        })
        .collect();
    let mut taken = 0;
    for one in all {
        match one.await.unwrap() {
            Ok(()) => taken += 1,
            Err(error) => assert!(matches!(error, StoreError::Code), "{error}"),
        }
    }
    assert_eq!(taken, 1);
    assert_eq!(store.certificates_of(&id("a")).await.unwrap().len(), 1);
    let verbs: Vec<Verb> =
        store.changes_after(3, 100).await.unwrap().into_iter().map(|change| change.body.verb).collect();
    assert_eq!(verbs, [Verb::Add, Verb::Use, Verb::Issue]);
    let journal = serde_json::to_string(&store.changes_after(3, 100).await.unwrap()).unwrap();
    assert!(!journal.contains(HASH), "a hash in the journal is more than a name: {journal}");
}

#[tokio::test]
async fn whoever_is_suspended_does_not_enrol_itself() {
    let (_folder, store) = store().await;
    store.code_add("alice", &id("a"), HASH, NOW + 10, NOW).await.unwrap();
    store.device_suspend("alice", &id("a")).await.unwrap();
    let by_code = certificate("01", "a", Origin::Code);
    assert!(matches!(
        store.certificate_add("x", &by_code, Right::Code(HASH), NOW).await,
        Err(StoreError::NotActive(_))
    ));
    store.device_resume("alice", &id("a")).await.unwrap();
    store.site_suspend("alice", &id("a").site).await.unwrap();
    let renewal = certificate("02", "a", Origin::Renewal);
    assert!(matches!(
        store.certificate_renew("x", &renewal, b"", Renewal { old: "01", key: "k" }, NOW).await,
        Err(StoreError::NotActive(_))
    ));
    store.site_resume("alice", &id("a").site).await.unwrap();
    store.certificate_add("x", &by_code, Right::Code(HASH), NOW).await.unwrap();
}

#[tokio::test]
async fn a_list_holds_what_is_revoked_until_after_its_end() {
    let (_folder, store) = store().await;
    for serial in ["01", "02", "03"] {
        let device = if serial == "03" { "b" } else { "a" };
        store.certificate_add("x", &certificate(serial, device, Origin::Key), Right::Operator, NOW).await.unwrap();
    }
    let publish = async |now| {
        let draft = store.crl_publish("aa", now + 10, now, |_| Ok::<_, StoreError>(())).await.unwrap();
        (draft.number, draft.revoked.into_iter().map(|entry| entry.serial).collect::<Vec<_>>())
    };
    assert_eq!(publish(NOW).await, (NOW, vec![]));
    let one = store.certificates_revoke("alice", &id("a"), Some("01"), "superseded", NOW + 1).await.unwrap();
    assert_eq!(one.len(), 1);
    assert!(store.crl_state("aa").await.unwrap().unwrap().stale);
    assert_eq!(publish(NOW).await, (NOW + 1, vec!["01".to_owned()]), "a number is never given twice");
    assert!(!store.crl_state("aa").await.unwrap().unwrap().stale);
    let rest = store.certificates_revoke("alice", &id("a"), None, "keyCompromise", NOW + 2).await.unwrap();
    assert_eq!(rest.len(), 1, "what is revoked stays as it is");
    assert_eq!(publish(NOW + 50).await, (NOW + 50, vec!["01".to_owned(), "02".to_owned()]));
    let failed = store.crl_publish("aa", NOW, NOW, |_| Err(StoreError::Code)).await;
    assert!(failed.is_err());
    assert_eq!(store.crl_state("aa").await.unwrap().unwrap().number, NOW + 50);
    assert_eq!(publish(NOW + 90 * 86_400 + 1).await.1.len(), 2, "one list after its end still has it");
    assert_eq!(publish(NOW + 98 * 86_400).await.1.len(), 0);
}

/// A device that comes later under the same name must not inherit anything.
#[tokio::test]
async fn a_removed_device_leaves_nothing_that_opens_a_door() {
    let (_folder, store) = store().await;
    let far = u64::try_from(jiff::Timestamp::now().as_second()).unwrap() + 1_000_000;
    let entry = Certificate { not_after: far, ..certificate("01", "a", Origin::Key) };
    store.certificate_add("x", &entry, Right::Operator, NOW).await.unwrap();
    store.code_add("alice", &id("a"), HASH, far, NOW).await.unwrap();
    store.device_remove("alice", &id("a")).await.unwrap();
    let left = store.certificates_of(&id("a")).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.reason.as_deref()).collect::<Vec<_>>(), [Some("cessationOfOperation")]);
    assert!(store.code_check(&id("a"), HASH, NOW).await.is_err());
    store.site_remove("alice", &id("a").site, true).await.unwrap();
}

#[tokio::test]
async fn what_is_revoked_renews_nothing_and_codes_go_with_it() {
    let (_folder, store) = store().await;
    store.certificate_add("x", &certificate("01", "a", Origin::Key), Right::Operator, NOW).await.unwrap();
    let renew = async |serial: &str, old: &str, now| {
        let entry = certificate(serial, "a", Origin::Renewal);
        store.certificate_renew("x", &entry, b"der", Renewal { old, key: "k" }, now).await
    };
    assert_eq!(renew("02", "01", NOW).await.unwrap(), None);
    for (old, now) in [("99", NOW), ("01", NOW + 90 * 86_400)] {
        assert!(matches!(renew("03", old, now).await, Err(StoreError::Renewal)));
    }
    store.certificate_add("x", &certificate("04", "b", Origin::Key), Right::Operator, NOW).await.unwrap();
    assert!(matches!(renew("03", "04", NOW).await, Err(StoreError::Renewal)), "another device's");
    store.code_add("alice", &id("a"), HASH, NOW + 10, NOW).await.unwrap();
    store.certificates_revoke("alice", &id("a"), None, "keyCompromise", NOW).await.unwrap();
    assert!(matches!(renew("03", "02", NOW).await, Err(StoreError::Renewal)));
    assert!(matches!(store.code_check(&id("a"), HASH, NOW).await, Err(StoreError::Code)));
}

#[tokio::test]
async fn a_certificate_is_renewed_once_and_the_same_request_gets_the_same_answer() {
    let (_folder, store) = store().await;
    store.certificate_add("x", &certificate("01", "a", Origin::Key), Right::Operator, NOW).await.unwrap();
    let renew = async |serial: &str, old: &str, key: &str| {
        let entry = certificate(serial, "a", Origin::Renewal);
        store.certificate_renew("x", &entry, serial.as_bytes(), Renewal { old, key }, NOW).await
    };
    assert_eq!(store.renewal_before(Renewal { old: "01", key: "k" }).await.unwrap(), None);
    assert_eq!(renew("02", "01", "k").await.unwrap(), None);
    assert_eq!(renew("03", "01", "k").await.unwrap(), Some(b"02".to_vec()), "the answer was lost");
    assert_eq!(store.renewal_before(Renewal { old: "01", key: "k" }).await.unwrap(), Some(b"02".to_vec()));
    assert!(matches!(renew("04", "01", "other").await, Err(StoreError::Renewed)));
    assert!(matches!(store.renewal_before(Renewal { old: "01", key: "other" }).await, Err(StoreError::Renewed)));
    assert_eq!(renew("05", "02", "k").await.unwrap(), None, "the next of the line");
    store.certificates_revoke("alice", &id("a"), Some("02"), "superseded", NOW).await.unwrap();
    assert!(matches!(renew("06", "01", "k").await, Err(StoreError::Renewed)), "what is revoked is not handed out");
    let serials: Vec<_> = store.certificates_of(&id("a")).await.unwrap().into_iter().map(|one| one.serial).collect();
    assert_eq!(serials, ["01", "02", "05"]);
}

#[tokio::test]
async fn of_many_renewals_at_once_one_is_made() {
    let (_folder, store) = store().await;
    store.certificate_add("x", &certificate("01", "a", Origin::Key), Right::Operator, NOW).await.unwrap();
    let all: Vec<_> = (10..18)
        .map(|number: u32| {
            let store = store.clone();
            tokio::spawn(async move {
                let serial = number.to_string();
                // Of each key there are two requests.
                let key = (number / 2).to_string();
                let entry = certificate(&serial, "a", Origin::Renewal);
                let renewal = Renewal { old: "01", key: &key };
                (key.clone(), store.certificate_renew("x", &entry, serial.as_bytes(), renewal, NOW).await)
            })
        })
        .collect();
    let (mut made, mut again, mut refused) = (Vec::new(), Vec::new(), 0);
    for one in all {
        match one.await.unwrap() {
            (key, Ok(None)) => made.push(key),
            (key, Ok(Some(_))) => again.push(key),
            (_, Err(StoreError::Renewed)) => refused += 1,
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!((made.len(), refused), (1, 6));
    assert_eq!(again, made, "its twin got the same certificate");
    assert_eq!(store.certificates_of(&id("a")).await.unwrap().len(), 2);
}
