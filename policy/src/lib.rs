//! Who may do what.
//!
//! The vocabulary every door shares (site, device, user, role, service, class of information, action), the one
//! closed list of refusals, the normal form of a request's target, the routes that turn a request into an action,
//! and the judge, which is the only maker of a [`Permit`].
//!
//! The crate is pure: no sockets, no files, no clock. Time and content come in as arguments, verdicts go out.
#![forbid(unsafe_code)]

pub mod account;
pub mod action;
pub mod cases;
pub mod judge;
pub mod login;
pub mod names;
pub mod oidc;
pub mod patients;
pub mod refusal;
pub mod route;
pub mod session;
pub mod subject;
pub mod target;
pub mod token;

pub use action::{Action, Effect};
pub use judge::{Denial, Judge, Permit, PolicyName};
pub use names::{DeviceName, InformationClass, InvalidName, RoleName, RouteName, ServiceName, SiteName, UserName};
pub use refusal::{Blame, Refusal};
pub use subject::{ActingFor, AuthenticationLevel, DeviceId, EntityVersions, InvalidPatient, Party, Patient, Subject};
