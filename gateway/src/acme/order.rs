//! One certificate, from the order to the pair of files (RFC 8555 7.4).

use std::sync::Arc;
use std::time::Duration;

use certs::ServerIdentity;
use certs::issue::{challenge_config, server_request};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rustls::pki_types::UnixTime;

use super::http::Client;
use super::state;
use crate::config::Acme;
use crate::listen::TlsListener;
use crate::snapshot::Snapshots;

/// How long a server may take to look at the names, and again to issue.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).timeout(Duration::from_secs(90));

/// What RFC 8555 6.7 calls the error of a server that has forgotten an account.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// The chain and the key of a new certificate for these names.
pub(super) struct Pair {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Gets a certificate for these names. Says why not, for the log and `/readyz`.
pub(super) async fn order(acme: &Acme, names: &[String], snapshots: &Snapshots, now: UnixTime) -> Result<Pair, String> {
    match attempt(acme, names, snapshots, now, false).await {
        Err(Fault::NoAccount) => {
            tracing::warn!(server = acme.directory_url, "the ACME server does not know the account; making another");
            attempt(acme, names, snapshots, now, true).await.map_err(Fault::told)
        }
        other => other.map_err(Fault::told),
    }
}

enum Fault {
    NoAccount,
    Other(String),
}

impl Fault {
    fn told(self) -> String {
        match self {
            Self::NoAccount => "the ACME server does not know the account".to_owned(),
            Self::Other(why) => why,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if let Error::Api(problem) = &error
            && problem.r#type.as_deref() == Some(NO_ACCOUNT)
        {
            return Self::NoAccount;
        }
        Self::Other(error.to_string().escape_debug().to_string())
    }
}

fn other(error: impl ToString) -> Fault {
    Fault::Other(error.to_string())
}

async fn attempt(
    acme: &Acme,
    names: &[String],
    snapshots: &Snapshots,
    now: UnixTime,
    anew: bool,
) -> Result<Pair, Fault> {
    let account = account(acme, anew).await?;
    let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let answers = Answers { snapshots, names };
    prove(&mut order, &answers, now).await?;
    let ready = order.poll_ready(&PATIENCE).await;
    if !matches!(ready, Ok(OrderStatus::Ready)) {
        return Err(why_not(&mut order).await.unwrap_or_else(|| match ready {
            Err(error) => error.into(),
            Ok(status) => Fault::Other(format!("the order is {status:?}")),
        }));
    }
    drop(answers);
    let (key, request) = server_request(names).map_err(other)?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    // What cannot be used must not take the place of what can.
    let identity = ServerIdentity::from_pem(chain.as_bytes(), key.expose().as_bytes()).map_err(other)?;
    if let Some(name) = names.iter().find(|name| !identity.names().contains(name)) {
        return Err(Fault::Other(format!("the certificate that came is not for `{name}`")));
    }
    Ok(Pair { chain, key: key.expose().to_owned() })
}

async fn account(acme: &Acme, anew: bool) -> Result<Account, Fault> {
    let builder = Account::builder_with_http(Box::new(Client::new(acme).map_err(Fault::Other)?));
    let known = if anew { None } else { state::account(&acme.state_directory, &acme.directory_url).map_err(other)? };
    if let Some(credentials) = known {
        return Ok(builder.from_credentials(credentials).await?);
    }
    let contact: Vec<&str> = acme.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&new, acme.directory_url.clone(), None).await?;
    state::keep_account(&acme.state_directory, &acme.directory_url, credentials).map_err(other)?;
    tracing::info!(server = acme.directory_url, "made an account at the ACME server");
    Ok(account)
}

/// Answers every challenge that the server has.
async fn prove(order: &mut Order, answers: &Answers<'_>, now: UnixTime) -> Result<(), Fault> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let status = authorization.status;
        if status == AuthorizationStatus::Valid {
            continue;
        }
        if status != AuthorizationStatus::Pending {
            return Err(Fault::Other(format!("an authorization is {status:?}")));
        }
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(Fault::Other("the ACME server does not offer `tls-alpn-01`".to_owned()));
        };
        let name = challenge.identifier().to_string();
        let digest = challenge.key_authorization().digest();
        answers.set(&name, digest.as_ref(), now)?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// What the server found when it looked at the names.
async fn why_not(order: &mut Order) -> Option<Fault> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let state = authorization.refresh().await.ok()?;
        let name = state.identifier().to_string();
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            let said = problem.to_string();
            return Some(Fault::Other(format!("`{name}`: {}", said.escape_debug())));
        }
    }
    None
}

/// The answers to this order's challenges, at every listener that gets certificates by ACME; gone when it is dropped.
struct Answers<'a> {
    snapshots: &'a Snapshots,
    names: &'a [String],
}

impl Answers<'_> {
    fn set(&self, name: &str, digest: &[u8], now: UnixTime) -> Result<(), Fault> {
        // Nobody but us decides which names are answered for.
        if !self.names.iter().any(|own| own == name) {
            return Err(Fault::Other(format!(
                "the ACME server asks about `{}`, which is no name of the order",
                name.escape_debug()
            )));
        }
        self.at_each(|tls| {
            let config = challenge_config(tls.profile(), name, digest, now).map_err(other)?;
            tls.identities().set_challenge(name, Some(Arc::new(config)));
            Ok(())
        })
    }

    fn at_each(&self, mut act: impl FnMut(&TlsListener) -> Result<(), Fault>) -> Result<(), Fault> {
        let snapshot = self.snapshots.load();
        let mut by_acme =
            snapshot.doors.iter().filter(|door| door.listener.tls.identities.iter().any(|own| own.acme.is_some()));
        by_acme.try_for_each(|door| act(&door.tls))
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        let _ = self.at_each(|tls| {
            for name in self.names {
                tls.identities().set_challenge(name, None);
            }
            Ok(())
        });
    }
}
