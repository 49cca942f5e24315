//! Accounts over a real store: what a login has proved counts for as long as the account is what it was, and no longer.

use std::time::Duration;

use policy::account::totp::{Algorithm, Secret};
use policy::account::{Profile, Proved};
use policy::login::Spelling;
use sqlx::Connection as _;

use super::*;
use crate::accounts::stages::Goal;
use crate::config::Hashing;
use crate::store::{DisplayName, NewUser};

const CHEAP: Hashing = Hashing { memory_kib: 64, passes: 1, lanes: 1 };
const OLD: Hashing = Hashing { memory_kib: 32, passes: 2, lanes: 1 };
const GOOD: &str = "Kumo-9 to hashi, 2 tabi";
const OTHER: &str = "Yuki-7 no ato ni 3 asa";

struct Node {
    _folder: tempfile::TempDir,
    store: Store,
    accounts: Accounts,
    id: UserId,
    account: AccountName,
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn origin(device: &str) -> Origin {
    Origin { site: "s".into(), device: device.into() }
}

fn by(origin: &Origin) -> (&Origin, Start) {
    (origin, Start::default())
}

impl Node {
    /// A user whose password, [`GOOD`], was hashed at these costs.
    async fn new(hashing: Hashing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("s.db")).await.unwrap();
        store.site_add("a", "s".parse().unwrap(), DisplayName::default()).await.unwrap();
        let id = UserId { site: "s".parse().unwrap(), user: "tanaka".parse().unwrap() };
        let new = NewUser { id: id.clone(), display_name: DisplayName::default(), roles: Vec::new() };
        store.user_add("a", new).await.unwrap();
        let config = config::Account {
            profile: Profile::Mhlw7,
            hashing: CHEAP,
            threads: 1,
            queue: 16,
            remember: 2,
            totp_window: 1,
            stage: Duration::from_mins(5),
            issuer: "x".to_owned(),
            key_file: folder.path().join("account.key"),
            notice_ja: None,
            notice_en: None,
        };
        let accounts = Accounts::start(&config, store.clone(), Arc::new(KernelClock::new().unwrap())).unwrap();
        let account = AccountName::new("tanaka", Spelling::default()).unwrap();
        let node = Self { _folder: folder, store, accounts, id, account };
        node.set(GOOD, hashing, None).await;
        node
    }

    async fn set(&self, text: &str, hashing: Hashing, identified_by: Option<&str>) {
        let new = NewHash {
            password: Hasher::new(hashing).unwrap().hash(&password(text)).unwrap(),
            instead_of: None,
            must_change: false,
            is_short: false,
            at_s: 1,
            remember: 2,
            identified_by: identified_by.map(str::to_owned),
        };
        self.store.account_password("a", &self.id, new).await.unwrap();
    }

    async fn authenticator(&self, byte: u8) -> Secret {
        let secret = Secret::new(&[byte; 32], Algorithm::Sha256);
        let sealed = self.accounts.work.key.seal(&self.id, &secret, None).unwrap();
        self.store.account_totp("a", &self.id, Some(sealed), Some("in person".to_owned())).await.unwrap();
        secret
    }

    async fn recovery(&self, count: u8) -> Vec<String> {
        let codes: Vec<_> = (0..count).map(|n| recovery::code(&[n; recovery::CODE_BYTES]).to_string()).collect();
        let hashes: Vec<_> = codes.iter().map(|code| recovery::hash(&self.id.to_string(), code).unwrap()).collect();
        self.store.account_recovery("a", &self.id, &hashes, None).await.unwrap();
        codes
    }

    async fn verify(&self, text: &str) -> Option<Credential> {
        let found = self.accounts.verify(&self.id.site, &self.account, password(text), by(&origin("d"))).await;
        found.unwrap()
    }

    /// A login whose password was right.
    async fn stage(&self) -> Stage {
        let found = self.verify(GOOD).await.unwrap();
        Stage::of(&self.account, &found, Proved { password: true, second: None }, Goal::default())
    }

    async fn factor(&self, stage: &Stage, code: &str) -> Factored {
        let code = Factor::Code(code.to_owned().into());
        self.accounts.factor(stage, code, by(&origin("d"))).await.unwrap()
    }

    async fn unrelated_change(&self, site: &str) {
        self.store.site_add("a", site.parse().unwrap(), DisplayName::default()).await.unwrap();
    }

    /// Holds the one thread until told to go on.
    async fn hold(&self) -> std::sync::mpsc::Sender<()> {
        let (go, wait) = std::sync::mpsc::channel();
        let (begun, running) = tokio::sync::oneshot::channel();
        let job = self.accounts.pool.run((), || true, move |_| begun.send(()).is_ok() && wait.recv().is_ok());
        tokio::select! {
            _ = job => panic!("it ends before it was told"),
            begun = running => begun.unwrap(),
        }
        go
    }
}

fn now_code(secret: &Secret, node: &Node) -> String {
    format!("{:06}", secret.code(node.accounts.now_s() / 30))
}

#[tokio::test]
async fn what_was_proved_by_an_authenticator_goes_with_it() {
    let node = Node::new(CHEAP).await;
    let secret = node.authenticator(1).await;
    let codes = node.recovery(2).await;
    let stage = node.stage().await;
    node.unrelated_change("t").await;
    let Factored::Right(found, Factors::TOTP) = node.factor(&stage, &now_code(&secret, &node)).await else {
        panic!("it is right")
    };
    assert_eq!(found.as_of, stage.as_of, "as of what was proved first, not of what was read last");
    let proved =
        Stage::of(&node.account, &found, Proved { password: true, second: Some(Factors::TOTP) }, Goal::default());
    assert!(node.accounts.still(&proved).await.unwrap().is_some());
    // A code of recovery says of whom it is as well, and is used up by that.
    let Factored::Right(found, Factors::RECOVERY) = node.factor(&stage, &codes[0]).await else { panic!("it is right") };
    assert_eq!(found.as_of, stage.as_of);
    assert!(matches!(node.factor(&stage, &codes[0]).await, Factored::Wrong));

    let next = node.authenticator(2).await;
    assert!(node.accounts.still(&proved).await.unwrap().is_none(), "what the stolen one has proved is over");
    assert!(matches!(node.factor(&stage, &now_code(&next, &node)).await, Factored::Over));
    assert!(matches!(node.factor(&stage, &codes[1]).await, Factored::Over));
    let again = node.stage().await;
    assert!(matches!(node.factor(&again, &codes[1]).await, Factored::Right(..)), "nothing was used up by that");
}

#[tokio::test]
async fn a_new_password_is_the_one_that_was_chosen_and_not_one_that_came_after() {
    let node = Node::new(CHEAP).await;
    let stage = node.stage().await;
    node.unrelated_change("t").await;
    let changed = node.accounts.change(&stage, password(OTHER), &origin("d")).await.unwrap();
    let Changed::Done(found) = changed else { panic!("it is changed") };
    assert_eq!(found.as_of, stage.as_of);
    let proved = Stage::of(&node.account, &found, stage.proved, Goal::default());
    assert!(node.accounts.still(&proved).await.unwrap().is_some());
    assert!(node.accounts.still(&stage).await.unwrap().is_none());
    node.set("Tsuki-5 ga deta, 8 ji", CHEAP, Some("in person")).await;
    assert!(node.accounts.still(&proved).await.unwrap().is_none(), "nobody has proved an administrator's");
    let elsewhere = node.accounts.change(&proved, password(GOOD), &origin("d")).await.unwrap();
    assert!(matches!(elsewhere, Changed::Elsewhere));
}

/// One account, tried from one device again and again, leaves the queue to the others, and what only reads waits for none of it.
#[tokio::test]
async fn a_device_has_its_share_of_the_queue_and_reads_take_none_of_it() {
    let node = Node::new(CHEAP).await;
    let stage = node.stage().await;
    let go = node.hold().await;
    let (device, other) = (origin("d"), origin("e"));
    let verify = |origin| node.accounts.verify(&node.id.site, &node.account, password(GOOD), by(origin));
    let (mut one, mut two) = (Box::pin(verify(&device)), Box::pin(verify(&device)));
    let waits = |result: Result<_, _>| assert!(Result::<(), _>::is_err(&result.map(|_: Result<_, Refusal>| ())));
    waits(tokio::time::timeout(Duration::ZERO, &mut one).await);
    waits(tokio::time::timeout(Duration::ZERO, &mut two).await);
    assert_eq!(verify(&device).await.err(), Some(Refusal::LoginUnavailable));
    // Whoever hangs up has had a place of the queue all the same.
    drop(two);
    assert_eq!(verify(&device).await.err(), Some(Refusal::LoginUnavailable));
    let change = node.accounts.change(&stage, password(OTHER), &other);
    let mut change = Box::pin(change);
    assert!(tokio::time::timeout(Duration::ZERO, &mut change).await.is_err());
    assert_eq!(verify(&other).await.err(), Some(Refusal::LoginUnavailable), "a change takes all of it");
    assert!(node.accounts.still(&stage).await.unwrap().is_some(), "while the thread is held");
    go.send(()).unwrap();
    assert!(one.await.unwrap().is_some());
    assert!(matches!(change.await.unwrap(), Changed::Done(_)));
    assert!(verify(&device).await.unwrap().is_none(), "the share is given back");
}

#[tokio::test]
async fn two_logins_at_once_after_other_costs_are_both_right() {
    let node = Node::new(OLD).await;
    let work = &node.accounts.work;
    let old = node.store.account_find(&node.id.site, &node.account).await.unwrap().unwrap();
    let first = node.verify(GOOD).await.unwrap();
    assert!(work.hasher.is_current(&first.password) && first.password != old.password);
    // The other one read the old hash as well, and comes second with the new one.
    let second = work.rehash(&node.store, &node.account, old.clone(), &password(GOOD)).await.unwrap().unwrap();
    let stage = Stage::of(&node.account, &second, Proved { password: true, second: None }, Goal::default());
    assert!(node.accounts.still(&stage).await.unwrap().is_some(), "its login is not over");
    // Where the password itself was changed in between, it is not right any more.
    node.set(OTHER, CHEAP, None).await;
    assert!(work.rehash(&node.store, &node.account, old, &password(GOOD)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_right_password_is_right_where_its_hash_cannot_be_written() {
    let node = Node::new(OLD).await;
    let url = format!("sqlite://{}", node.store.path().display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let refuse = "CREATE TRIGGER x BEFORE UPDATE ON accounts BEGIN SELECT RAISE(ABORT, 'no'); END";
    sqlx::query(refuse).execute(&mut other).await.unwrap();
    let found = node.verify(GOOD).await.expect("it is right");
    assert!(!node.accounts.work.hasher.is_current(&found.password));
    let stage = Stage::of(&node.account, &found, Proved { password: true, second: None }, Goal::default());
    assert!(node.accounts.still(&stage).await.unwrap().is_some());
}

/// C14: after other costs were configured, a name that nobody has is checked at those that accounts still have.
#[tokio::test]
async fn an_unknown_name_costs_what_an_account_costs() {
    let node = Node::new(OLD).await;
    let work = &node.accounts.work;
    let mark = work.key.mark(&node.id.site, &AccountName::new("noone", Spelling::default()).unwrap());
    let cost = async |now_ns| {
        let stand_in = work.costs.stand_in::<Failed>(&node.store, &work.hasher, now_ns, mark).await.unwrap();
        stand_in.rsplitn(3, '$').nth(2).unwrap().to_owned()
    };
    let now_ns = node.accounts.clock.monotonic_ns();
    assert_eq!(cost(now_ns).await, "$argon2id$v=19$m=32,t=2,p=1");
    assert!(node.verify(GOOD).await.is_some(), "and now the only account has the new ones");
    assert_eq!(cost(now_ns.saturating_add(600_000_000_000)).await, "$argon2id$v=19$m=64,t=1,p=1");
    let unknown = AccountName::new("noone", Spelling::default()).unwrap();
    let found = node.accounts.verify(&node.id.site, &unknown, password(GOOD), by(&origin("d"))).await.unwrap();
    assert!(found.is_none());
}
