//! A reset, a suspension and an operator's word end what was proved before them, in whatever order login and change are noticed.

use std::sync::Arc;

use policy::login::{AccountName, Spelling};
use policy::session::{Factors, Kind, Limits, Reason, Rules};
use policy::{AuthenticationLevel, DeviceId, Party, Refusal};
use tempfile::TempDir;

use crate::clock::KernelClock;
use crate::config;
use crate::session::entry::Session;
use crate::session::{Begin, Kept, SessionKey, Sessions, prepare};
use crate::store::{DisplayName, NewHash, NewUser, Store, UserId};

/// A registry with one account, and sessions beside it.
struct Node {
    _folder: TempDir,
    store: Store,
    user: UserId,
    sessions: Arc<Sessions>,
    _kept: Kept,
    followed: u64,
}

impl Node {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path().join("sekisho.db")).await.unwrap();
        let user = UserId { site: "a".parse().unwrap(), user: "tanaka".parse().unwrap() };
        store.site_add("tester", user.site.clone(), DisplayName::default()).await.unwrap();
        let new = NewUser { id: user.clone(), display_name: DisplayName::default(), roles: Vec::new() };
        store.user_add("tester", new).await.unwrap();
        let rules =
            Rules { default: Limits { idle_ns: 1 << 60, absolute_ns: 1 << 60, concurrent: 0 }, rules: Vec::new() };
        let config = config::Session { rules, most: 100, key_file: "unused".into() };
        let clock = Arc::new(KernelClock::new().unwrap());
        let (sessions, kept) = prepare(&config, SessionKey::new(&[1; 32]), clock);
        let mut node = Self { _folder: folder, store, user, sessions, _kept: kept, followed: 0 };
        node.reset(None).await;
        node.follow().await;
        node
    }

    async fn reset(&self, identified_by: Option<&str>) {
        let new = NewHash {
            password: "hash".to_owned(),
            instead_of: None,
            must_change: false,
            is_short: false,
            at_s: 1,
            remember: 0,
            identified_by: identified_by.map(str::to_owned),
        };
        self.store.account_password("tester", &self.user, new).await.unwrap();
    }

    /// What a login is proved under.
    async fn proved(&self) -> u64 {
        let account = AccountName::new("tanaka", Spelling::default()).unwrap();
        self.store.account_find(&self.user.site, &account).await.unwrap().unwrap().as_of
    }

    fn begin(&self, as_of: u64) -> Result<Arc<Session>, Refusal> {
        let device = DeviceId { site: self.user.site.clone(), device: "one".parse().unwrap() };
        let begin = Begin {
            kind: Kind::Local,
            realm: "local",
            party: &Party::Device { device, user: None },
            user: Some(self.user.user.clone()),
            account: "tanaka",
            acting_for: None,
            level: AuthenticationLevel::User,
            factors: Factors::PASSWORD,
            authenticated_ns: 1,
            asked_ns: 1,
            as_of,
            tag: None,
            limits: self.sessions.limits(None, &[]),
        };
        Ok(self.sessions.begin(&begin)?.1)
    }

    /// What the gateway does when it looks at the registry.
    async fn follow(&mut self) {
        for change in self.store.changes_after(self.followed, 100).await.unwrap() {
            self.sessions.follow(&change);
            self.followed = change.sequence;
        }
    }
}

#[tokio::test]
async fn whoever_logs_in_by_what_a_reset_made_stays() {
    let mut node = Node::new().await;
    let earlier = node.begin(node.proved().await).unwrap();
    node.reset(Some("staff card")).await;
    let later = node.begin(node.proved().await).unwrap();
    node.follow().await;
    assert_eq!((earlier.ended(), later.ended()), (Some(Reason::Operator), None));
}

#[tokio::test]
async fn what_was_proved_before_a_reset_begins_nothing_after_it() {
    let mut node = Node::new().await;
    let earlier = node.proved().await;
    node.reset(Some("staff card")).await;
    node.follow().await;
    let stays = node.begin(node.proved().await).unwrap();
    assert_eq!(node.begin(earlier).unwrap_err(), Refusal::SessionUnavailable);
    assert_eq!(stays.ended(), None, "what may not begin takes nobody's place");
    // The user's own change of the password is no reset.
    let own = node.proved().await;
    node.reset(None).await;
    node.follow().await;
    assert!(node.begin(own).is_ok());
    // However many ends came since.
    for _ in 0..=super::MOST_ENDS {
        node.sessions.end_earlier(&crate::session::Of::Name("x".to_owned()), Reason::Operator, 1 << 40);
    }
    assert_eq!(node.begin(own).unwrap_err(), Refusal::SessionUnavailable);
}

#[tokio::test]
async fn a_suspension_that_was_taken_back_before_anybody_looked_ends_sessions() {
    let mut node = Node::new().await;
    let earlier = node.begin(node.proved().await).unwrap();
    node.store.user_suspend("tester", &node.user).await.unwrap();
    node.store.user_resume("tester", &node.user).await.unwrap();
    let later = node.begin(node.proved().await).unwrap();
    node.follow().await;
    assert_eq!((earlier.ended(), later.ended()), (Some(Reason::Revoked), None));
}
