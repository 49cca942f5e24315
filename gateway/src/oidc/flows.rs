//! Browsers that are at a provider: what each must come back with. In memory alone, each for its device and a few minutes, and
//! once; a restart of the gateway has them begin anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use policy::login::Origin;
use zeroize::Zeroizing;

use crate::accounts::stages::hash;
use crate::accounts::{AccountError, random};
use crate::session::Session;

/// Most of all devices; whoever comes then is told to try again.
const MOST: usize = 16_384;
/// Most of one device, for tabs that are opened again all at once; of more, the oldest is forgotten.
const MOST_OF_DEVICE: usize = 32;

/// A browser that is at a provider.
#[derive(Clone)]
pub struct Flow {
    /// At which.
    pub provider: Arc<str>,
    /// The gateway as this browser knows it.
    pub origin: String,
    /// What for.
    pub purpose: Purpose,
}

/// What a browser is at a provider for.
#[derive(Clone)]
pub enum Purpose {
    /// To log in.
    Login {
        /// What the answer must fit.
        secrets: Secrets,
        /// Where it was to come back to.
        redirect_uri: String,
        /// When it was sent there, monotonic nanoseconds.
        asked_ns: u64,
        /// The earliest that its user may have proved anything, nanoseconds since 1970.
        earliest_ns: i64,
        /// Where it wants to go.
        target: Option<String>,
        /// The session that is to be raised, rather than replaced.
        raises: Option<Arc<Session>>,
    },
    /// To log out; its session here is over.
    Logout,
}

/// What a login's answer must fit. Each is 32 random bytes in base64url.
#[derive(Clone)]
pub struct Secrets {
    /// In the ID token.
    pub nonce: String,
    /// Behind the challenge (RFC 7636).
    pub verifier: Zeroizing<String>,
}

impl Secrets {
    /// New ones.
    ///
    /// # Errors
    /// [`AccountError::Random`].
    pub fn make() -> Result<Self, AccountError> {
        Ok(Self { nonce: name()?, verifier: Zeroizing::new(name()?) })
    }
}

fn name() -> Result<String, AccountError> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

/// What a browser takes along.
pub struct Begun {
    /// The `state`.
    pub state: String,
    /// The value of the browser's cookie.
    pub browser: String,
}

struct Kept {
    flow: Flow,
    origin: Origin,
    browser: [u8; 32],
    until_ns: u64,
}

/// See the [module](self).
#[derive(Default)]
pub struct Flows {
    kept: HashMap<[u8; 32], Kept>,
    devices: HashMap<Origin, VecDeque<[u8; 32]>>,
    swept_ns: u64,
}

impl Flows {
    /// Remembers a browser. `browser` is the cookie that it has already: several of its tabs may be on their way. `None`: there is
    /// no room.
    ///
    /// # Errors
    /// [`AccountError::Random`].
    pub fn begin(
        &mut self,
        now_ns: u64,
        lifetime: Duration,
        (origin, browser): (&Origin, Option<&str>),
        flow: Flow,
    ) -> Result<Option<Begun>, AccountError> {
        // Every minute, so that what nobody came back for does not stay; and where it is in the way.
        if self.kept.len() >= MOST || now_ns.saturating_sub(self.swept_ns) >= 60_000_000_000 {
            self.sweep(now_ns);
        }
        let is_full = self.devices.get(origin).is_some_and(|device| device.len() >= MOST_OF_DEVICE);
        if is_full && let Some(oldest) = self.devices.get_mut(origin).and_then(VecDeque::pop_front) {
            self.kept.remove(&oldest);
        }
        if self.kept.len() >= MOST {
            return Ok(None);
        }
        let browser = match browser.filter(|browser| hash(browser).is_some()) {
            Some(known) => known.to_owned(),
            None => name()?,
        };
        let state = name()?;
        let (Some(key), Some(of_browser)) = (hash(&state), hash(&browser)) else { return Ok(None) };
        let until_ns = now_ns.saturating_add(u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX));
        self.kept.insert(key, Kept { flow, origin: origin.clone(), browser: of_browser, until_ns });
        self.devices.entry(origin.clone()).or_default().push_back(key);
        Ok(Some(Begun { state, browser }))
    }

    /// What the browser was at the provider for, if it is this device's, this browser's, and its time is not over. It is known no
    /// more: whoever comes second finds nothing. Another's is left alone.
    pub fn take(&mut self, now_ns: u64, (origin, browser): (&Origin, Option<&str>), state: &str) -> Option<Flow> {
        let (key, browser) = (hash(state)?, hash(browser?)?);
        let kept = self.kept.get(&key)?;
        let is_its = kept.origin == *origin && kept.browser == browser;
        if !is_its {
            return None;
        }
        let kept = self.forget(&key)?;
        (kept.until_ns > now_ns).then_some(kept.flow)
    }

    fn forget(&mut self, key: &[u8; 32]) -> Option<Kept> {
        let kept = self.kept.remove(key)?;
        if let Some(device) = self.devices.get_mut(&kept.origin) {
            device.retain(|known| known != key);
            if device.is_empty() {
                self.devices.remove(&kept.origin);
            }
        }
        Some(kept)
    }

    fn sweep(&mut self, now_ns: u64) {
        self.swept_ns = now_ns;
        self.kept.retain(|_, kept| kept.until_ns > now_ns);
        self.devices.retain(|_, device| {
            device.retain(|key| self.kept.contains_key(key));
            !device.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    fn at(device: &str) -> Origin {
        Origin { site: "sakura".into(), device: device.into() }
    }

    fn flow() -> Flow {
        Flow { provider: "idp".into(), origin: "https://gw.example".to_owned(), purpose: Purpose::Logout }
    }

    #[test]
    fn a_browser_comes_back_once_in_time_and_from_its_own_device() {
        let mut flows = Flows::default();
        let begun = flows.begin(0, LIFE, (&at("a"), None), flow()).unwrap().unwrap();
        let browser = Some(begun.browser.as_str());
        let other = name().unwrap();
        assert!(flows.take(1, (&at("b"), browser), &begun.state).is_none(), "another device");
        assert!(flows.take(1, (&at("a"), None), &begun.state).is_none(), "no cookie");
        assert!(flows.take(1, (&at("a"), Some(&other)), &begun.state).is_none(), "another browser");
        assert!(flows.take(1, (&at("a"), browser), &other).is_none(), "another state");
        assert!(flows.take(1, (&at("a"), browser), "short").is_none());
        assert!(flows.take(1, (&at("a"), browser), &begun.state).is_some(), "what others tried took nothing away");
        assert!(flows.take(1, (&at("a"), browser), &begun.state).is_none(), "once");
        let late = flows.begin(0, LIFE, (&at("a"), browser), flow()).unwrap().unwrap();
        assert_eq!(late.browser, begun.browser, "tabs share the cookie");
        assert!(flows.take(60_000_000_000, (&at("a"), browser), &late.state).is_none(), "too late");
        assert!(flows.kept.is_empty() && flows.devices.is_empty());
    }

    #[test]
    fn no_device_has_more_than_its_share_and_none_takes_anothers() {
        let mut flows = Flows::default();
        let first = flows.begin(0, LIFE, (&at("quiet"), None), flow()).unwrap().unwrap();
        for _ in 0..1_000 {
            assert!(flows.begin(0, LIFE, (&at("loud"), None), flow()).unwrap().is_some());
        }
        assert_eq!(flows.kept.len(), MOST_OF_DEVICE + 1);
        for number in 0..MOST {
            let _ = flows.begin(0, LIFE, (&at(&format!("d{number}")), None), flow()).unwrap();
        }
        assert_eq!(flows.kept.len(), MOST);
        assert!(flows.begin(0, LIFE, (&at("late"), None), flow()).unwrap().is_none());
        assert!(flows.take(1, (&at("quiet"), Some(&first.browser)), &first.state).is_some());
        // What is over gives room.
        assert!(flows.begin(61_000_000_000, LIFE, (&at("late"), None), flow()).unwrap().is_some());
        assert_eq!((flows.kept.len(), flows.devices.len()), (1, 1));
    }
}
