//! The calls to a module, in the order that PKCS#11 wants them. Runs on the module's own thread.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use certs::issue::KeyKind;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;

use super::pin::Pin;
use super::uri::{KeyUri, Token};
use super::{Public, TokenError};
use crate::authority::random;

/// DER of the curves' identifiers (RFC 5480 2.1.1.1), which are their `CKA_EC_PARAMS`.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// Identifiers that are drawn for new keys, in bytes.
const ID_BYTES: usize = 16;

/// A module, and what is open in it.
pub(super) struct Driver {
    path: PathBuf,
    context: Option<Pkcs11>,
    is_initialised: bool,
    /// Before `context` is finalised, these are dropped.
    open: BTreeMap<KeyUri, Open>,
    /// The hash of a PIN that a token refused: it counts attempts, and locks.
    refused: BTreeMap<Token, String>,
}

/// A session that is logged in, and the key in it.
struct Open {
    session: Session,
    key: ObjectHandle,
}

impl Driver {
    pub(super) fn new(path: &Path) -> Self {
        let (open, refused) = (BTreeMap::new(), BTreeMap::new());
        Self { path: path.to_owned(), context: None, is_initialised: false, open, refused }
    }

    /// Signs a digest. What fails in a session that was good before is tried once more in a new one: the token may have
    /// been away in between.
    pub(super) fn sign(&mut self, uri: &KeyUri, pin: &Pin, digest: &[u8]) -> Result<Vec<u8>, TokenError> {
        if let Some(open) = self.open.get(uri) {
            match open.session.sign(&Mechanism::Ecdsa, open.key, digest) {
                Ok(signature) => return Ok(signature),
                Err(error) => {
                    let error = failed(uri, &error);
                    tracing::warn!(%error, "a token's session has ended; opening another");
                    self.reset();
                }
            }
        }
        self.fresh(|driver| {
            let session = driver.session(uri, pin, false)?;
            let key = one(&session, uri, ObjectClass::PRIVATE_KEY)?;
            fit(&session, key, uri)?;
            let signature = session.sign(&Mechanism::Ecdsa, key, digest).map_err(|error| failed(uri, &error))?;
            driver.open.insert(uri.clone(), Open { session, key });
            Ok(signature)
        })
    }

    /// Makes a key that never leaves the token.
    pub(super) fn generate(&mut self, uri: &KeyUri, pin: &Pin, kind: KeyKind) -> Result<Public, TokenError> {
        self.fresh(|driver| {
            let session = driver.session(uri, pin, true)?;
            if !all(&session, uri, ObjectClass::PRIVATE_KEY)?.is_empty() {
                return Err(TokenError::Exists { token: uri.token_name(), object: uri.key_name() });
            }
            let id = match &uri.id {
                Some(id) => id.clone(),
                None => drawn(uri)?,
            };
            let mut shared = vec![Attribute::Token(true), Attribute::Id(id)];
            shared.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
            let params = match kind {
                KeyKind::P256 => P256,
                KeyKind::P384 => P384,
            };
            let public = [
                Attribute::EcParams(params.to_vec()),
                Attribute::Private(false),
                Attribute::Verify(true),
                Attribute::Encrypt(false),
                Attribute::Wrap(false),
            ];
            let private = [
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
                Attribute::Decrypt(false),
                Attribute::Derive(false),
                Attribute::Unwrap(false),
            ];
            let public = [shared.as_slice(), &public].concat();
            let private = [shared.as_slice(), &private].concat();
            let (public, private) = session
                .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
                .map_err(|error| failed(uri, &error))?;
            let made = fit(&session, private, uri).and_then(|()| point(&session, public, uri));
            if made.is_err() {
                let _ = session.destroy_object(private);
                let _ = session.destroy_object(public);
            }
            Ok(Public { kind, point: made? })
        })
    }

    /// The public half of a key that is there.
    pub(super) fn public(&mut self, uri: &KeyUri, pin: &Pin) -> Result<Public, TokenError> {
        self.fresh(|driver| {
            let session = driver.session(uri, pin, false)?;
            let private = one(&session, uri, ObjectClass::PRIVATE_KEY)?;
            fit(&session, private, uri)?;
            let found = all(&session, uri, ObjectClass::PUBLIC_KEY)?;
            let [public] = found.as_slice() else {
                return Err(unfit(uri, "its public half is not on the token, or not alone"));
            };
            let public = *public;
            let params = session.get_attributes(public, &[AttributeType::EcParams]);
            let kind = match params.map_err(|error| failed(uri, &error))?.as_slice() {
                [Attribute::EcParams(params)] if params == P256 => KeyKind::P256,
                [Attribute::EcParams(params)] if params == P384 => KeyKind::P384,
                _ => return Err(unfit(uri, "it is not one of P-256 or P-384")),
            };
            Ok(Public { kind, point: point(&session, public, uri)? })
        })
    }

    /// Takes back a key that was made and is not needed after all.
    pub(super) fn destroy(&mut self, uri: &KeyUri, pin: &Pin) -> Result<(), TokenError> {
        self.open.remove(uri);
        self.fresh(|driver| {
            let session = driver.session(uri, pin, true)?;
            for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
                let key = one(&session, uri, class)?;
                session.destroy_object(key).map_err(|error| failed(uri, &error))?;
            }
            Ok(())
        })
    }

    /// What fails may fail since the module still thinks of what was there before; it begins anew the next time.
    fn fresh<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, TokenError>) -> Result<T, TokenError> {
        let done = work(self);
        if matches!(done, Err(TokenError::NoToken { .. } | TokenError::NoKey { .. } | TokenError::Failed { .. })) {
            self.reset();
        }
        done
    }

    /// Ends all sessions, and the module's idea of which tokens there are.
    fn reset(&mut self) {
        self.open.clear();
        if let Some(context) = self.context.as_ref().filter(|_| self.is_initialised) {
            let _ = context.clone().finalize();
            self.is_initialised = false;
        }
    }

    fn context(&mut self) -> Result<Pkcs11, TokenError> {
        let fault = |reason: String| TokenError::Module { module: self.path.clone(), reason };
        let context = match &self.context {
            Some(context) => context.clone(),
            None => {
                let metadata = std::fs::metadata(&self.path).map_err(|error| fault(error.to_string()))?;
                // Its code gets the gateway's rights.
                if metadata.mode() & 0o022 != 0 {
                    return Err(fault("others than its owner may write it".to_owned()));
                }
                if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
                    return Err(fault("it belongs to neither root nor the gateway's user".to_owned()));
                }
                Pkcs11::new(&self.path).map_err(|error| fault(error.to_string()))?
            }
        };
        if !self.is_initialised {
            match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
                Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
                Err(error) => {
                    let (operation, reason) = words(&error);
                    return Err(fault(format!("{operation}: {reason}")));
                }
            }
            self.is_initialised = true;
        }
        self.context = Some(context.clone());
        Ok(context)
    }

    fn session(&mut self, uri: &KeyUri, pin: &Pin, writes: bool) -> Result<Session, TokenError> {
        let context = self.context()?;
        let (slot, info) = self.slot(&context, uri)?;
        let opened = if writes { context.open_rw_session(slot) } else { context.open_ro_session(slot) };
        let session = opened.map_err(|error| failed(uri, &error))?;
        if info.protected_authentication_path() {
            // The token has a keypad of its own.
            return logged_in(session.login(UserType::User, None), uri, "").map(|()| session);
        }
        let pin =
            pin.read().map_err(|error| TokenError::NoPin { token: uri.token_name(), reason: error.to_string() })?;
        let hash = certs::hex(&certs::fingerprint(pin.as_bytes()));
        let left = if info.user_pin_final_try() {
            "; one more wrong one locks it"
        } else if info.user_pin_count_low() {
            "; there were wrong ones before"
        } else {
            ""
        };
        if self.refused.get(&uri.token) == Some(&hash) {
            return Err(TokenError::WrongPin { token: uri.token_name(), left });
        }
        let done = logged_in(session.login(UserType::User, Some(&AuthPin::from(pin))), uri, left);
        match &done {
            Err(TokenError::WrongPin { .. }) => self.refused.insert(uri.token.clone(), hash),
            Ok(()) => self.refused.remove(&uri.token),
            Err(_) => None,
        };
        done.map(|()| session)
    }

    fn slot(&self, context: &Pkcs11, uri: &KeyUri) -> Result<(Slot, TokenInfo), TokenError> {
        let slots = context.get_slots_with_token().map_err(|error| failed(uri, &error))?;
        // A slot whose token cannot be read is not the one that is looked for.
        let known = slots.into_iter().filter_map(|slot| Some((slot, context.get_token_info(slot).ok()?)));
        let mut found = known.filter(|(_, info)| info.token_initialized() && is_token(&uri.token, info));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(TokenError::NoToken { module: self.path.clone(), token: uri.token_name() }),
            (Some(_), Some(_)) => Err(TokenError::SeveralTokens { module: self.path.clone(), token: uri.token_name() }),
        }
    }
}

fn is_token(wanted: &Token, info: &TokenInfo) -> bool {
    let is = |wanted: &Option<String>, have: &str| wanted.as_ref().is_none_or(|wanted| wanted == have.trim_end());
    is(&wanted.label, info.label())
        && is(&wanted.serial, info.serial_number())
        && is(&wanted.manufacturer, info.manufacturer_id())
        && is(&wanted.model, info.model())
}

fn all(session: &Session, uri: &KeyUri, class: ObjectClass) -> Result<Vec<ObjectHandle>, TokenError> {
    let mut template = vec![Attribute::Class(class), Attribute::KeyType(KeyType::EC)];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    session.find_objects(&template).map_err(|error| failed(uri, &error))
}

fn one(session: &Session, uri: &KeyUri, class: ObjectClass) -> Result<ObjectHandle, TokenError> {
    let found = all(session, uri, class)?;
    let (token, object) = (uri.token_name(), uri.key_name());
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(TokenError::NoKey { token, object }),
        [..] => Err(TokenError::SeveralKeys { token, object }),
    }
}

/// A key that can be copied off the token is no better than a file.
fn fit(session: &Session, key: ObjectHandle, uri: &KeyUri) -> Result<(), TokenError> {
    let asked = [AttributeType::Sensitive, AttributeType::Extractable, AttributeType::Sign];
    let attributes = session.get_attributes(key, &asked).map_err(|error| failed(uri, &error))?;
    if !attributes.contains(&Attribute::Extractable(false)) || !attributes.contains(&Attribute::Sensitive(true)) {
        return Err(unfit(uri, "it can be taken off the token"));
    }
    if attributes.contains(&Attribute::Sign(false)) {
        return Err(unfit(uri, "it is not for signing"));
    }
    Ok(())
}

/// The uncompressed point: `CKA_EC_POINT` is an OCTET STRING that holds it, and with some tokens the point itself.
fn point(session: &Session, key: ObjectHandle, uri: &KeyUri) -> Result<Vec<u8>, TokenError> {
    let attributes = session.get_attributes(key, &[AttributeType::EcPoint]).map_err(|error| failed(uri, &error))?;
    let point = attributes
        .into_iter()
        .find_map(|attribute| if let Attribute::EcPoint(point) = attribute { Some(point) } else { None });
    match point.as_deref() {
        Some([4, 65 | 97, point @ ..]) if matches!(point, [4, ..]) && matches!(point.len(), 65 | 97) => {
            Ok(point.to_vec())
        }
        Some(point @ [4, ..]) if matches!(point.len(), 65 | 97) => Ok(point.to_vec()),
        Some(_) | None => Err(unfit(uri, "the token does not show its public half")),
    }
}

fn logged_in(done: cryptoki::error::Result<()>, uri: &KeyUri, left: &'static str) -> Result<(), TokenError> {
    let token = uri.token_name();
    match done {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
            Err(TokenError::WrongPin { token, left })
        }
        Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::PinLocked { token }),
        Err(error) => Err(failed(uri, &error)),
    }
}

fn unfit(uri: &KeyUri, reason: &'static str) -> TokenError {
    TokenError::Unfit { token: uri.token_name(), object: uri.key_name(), reason }
}

fn drawn(uri: &KeyUri) -> Result<Vec<u8>, TokenError> {
    random::<ID_BYTES>().map(Vec::from).map_err(|error| TokenError::Failed {
        token: uri.token_name(),
        operation: "an identifier for the key".to_owned(),
        reason: error.to_string(),
    })
}

fn failed(uri: &KeyUri, error: &Error) -> TokenError {
    let (operation, reason) = words(error);
    TokenError::Failed { token: uri.token_name(), operation, reason }
}

/// The function and its return value by their names: the library's own texts fill paragraphs.
fn words(error: &Error) -> (String, String) {
    if let Error::Pkcs11(value, function) = error {
        (format!("C_{function:?}"), format!("{value:?}"))
    } else {
        ("the module".to_owned(), error.to_string())
    }
}
