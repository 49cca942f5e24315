//! What a request asks for, as records tell it.

use bytes::Bytes;
use http::uri::PathAndQuery;
use policy::patients::{Patients, plan, target_patients};
use policy::route::Resolved;
use policy::target::CanonicalTarget;
use policy::{Action, InformationClass, RouteName, ServiceName};

use super::patients::Bodies;

/// A target as it came.
pub(super) enum Target {
    /// In origin-form, shared with the request.
    Origin(PathAndQuery),
    /// Of a request that was never made.
    Raw(Bytes),
}

impl Target {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Origin(target) => target.as_str().as_bytes(),
            Self::Raw(target) => target,
        }
    }
}

/// What a request asks for, once its route is known.
pub(super) struct Asked {
    pub(super) route: RouteName,
    pub(super) service: ServiceName,
    pub(super) class: InformationClass,
    pub(super) action: Action,
    pub(super) patients: Patients,
    pub(super) bodies: Option<Box<Bodies>>,
    /// It opens a WebSocket, whose bytes nobody reads for patients.
    pub(super) opens: bool,
}

impl Asked {
    pub(super) fn new(resolved: &Resolved<'_>, target: &CanonicalTarget<'_>, opens: bool) -> Self {
        Self {
            route: resolved.route.name().clone(),
            service: resolved.route.service().clone(),
            class: resolved.class.clone(),
            action: resolved.action,
            patients: target_patients(resolved, target),
            bodies: plan(resolved, target).filter(|_| !opens).map(|plan| Box::new(Bodies::new(plan))),
            opens,
        }
    }
}
