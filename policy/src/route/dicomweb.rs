//! DICOMweb: what a method and a path below the service's base do (DICOM PS3.18 sections 8 to 11).
//!
//! QIDO-RS searches, WADO-RS reads, STOW-RS creates; DELETE, which servers add, deletes. UPS-RS (worklists) is
//! operated. A path that the standard does not know is no route's: closed by default, opened by a rule. OPTIONS asks
//! for capabilities (PS3.18 section 8.9) and is a read.

use std::borrow::Cow;

use super::{Meaning, Method};
use crate::{Action, Effect, Refusal};

/// What the request means, by the shape of its path.
pub(super) fn meaning(method: Method, segments: &[Cow<'_, str>]) -> Result<Meaning, Refusal> {
    let resource = resource(segments).ok_or(Refusal::RouteUnknown)?;
    let (action, effect) = action(resource, method).ok_or(Refusal::MethodNotAllowed)?;
    let study_at = matches!(segments, [first, _study, ..] if first == "studies").then_some(1);
    Ok(Meaning { study_at, ..Meaning::new(action, effect) })
}

/// What a path addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resource {
    /// The service itself.
    Service,
    /// All studies: searched, and stored into.
    Studies,
    /// Series or instances, of one study or of all: only searched.
    Collection,
    /// One study: retrieved, stored into, deleted.
    Study,
    /// One series or instance.
    Object,
    /// A part or a rendering of an object.
    Part,
    /// Worklist items, or one of them.
    Workitem,
    /// The other transactions of worklists: state, cancellation, subscriptions, event channels.
    WorkitemTransaction,
}

fn resource(segments: &[Cow<'_, str>]) -> Option<Resource> {
    let [first, rest @ ..] = segments else { return Some(Resource::Service) };
    match &**first {
        "studies" => match rest {
            [] => Some(Resource::Studies),
            [_study] => Some(Resource::Study),
            [_study, rest @ ..] => within_study(rest),
        },
        "series" | "instances" if rest.is_empty() => Some(Resource::Collection),
        "workitems" if rest.len() <= 1 => Some(Resource::Workitem),
        "workitems" => Some(Resource::WorkitemTransaction),
        "subscribers" if rest.len() == 1 => Some(Resource::WorkitemTransaction),
        _ => None,
    }
}

fn within_study(rest: &[Cow<'_, str>]) -> Option<Resource> {
    match rest {
        [name] if name == "series" || name == "instances" => Some(Resource::Collection),
        [name, _series] if name == "series" => Some(Resource::Object),
        [name, _series, rest @ ..] if name == "series" => within_series(rest),
        _ => part(rest),
    }
}

fn within_series(rest: &[Cow<'_, str>]) -> Option<Resource> {
    match rest {
        [name] if name == "instances" => Some(Resource::Collection),
        [name, _instance] if name == "instances" => Some(Resource::Object),
        [name, _instance, rest @ ..] if name == "instances" => part(rest),
        _ => part(rest),
    }
}

fn part(rest: &[Cow<'_, str>]) -> Option<Resource> {
    let [first, rest @ ..] = rest else { return None };
    let known = match (&**first, rest) {
        ("metadata" | "rendered" | "thumbnail" | "pixeldata", []) => true,
        // A bulk data item is named by whatever path the server made up.
        ("bulkdata", _) => true,
        ("frames", [_list]) => true,
        ("frames", [_list, rendering]) => matches!(&**rendering, "rendered" | "thumbnail"),
        _ => false,
    };
    known.then_some(Resource::Part)
}

fn action(resource: Resource, method: Method) -> Option<(Action, Effect)> {
    use Resource as R;
    let read = (Action::Read, Effect::ReadOnly);
    let operate = (Action::Operate, Effect::Changing);
    match method {
        Method::Options => Some(read),
        Method::Get | Method::Head => match resource {
            R::Service => None,
            R::Studies | R::Collection => Some((Action::Search, Effect::ReadOnly)),
            R::Study | R::Object | R::Part => Some(read),
            R::Workitem => Some((Action::Operate, Effect::ReadOnly)),
            // A GET here opens an event channel, which delivers what is taken off the server's queue.
            R::WorkitemTransaction => Some(operate),
        },
        Method::Post => match resource {
            R::Studies | R::Study => Some((Action::Create, Effect::Changing)),
            R::Workitem | R::WorkitemTransaction => Some(operate),
            R::Service | R::Collection | R::Object | R::Part => None,
        },
        Method::Put | Method::Patch => match resource {
            R::Workitem | R::WorkitemTransaction => Some(operate),
            R::Service | R::Studies | R::Collection | R::Study | R::Object | R::Part => None,
        },
        Method::Delete => match resource {
            R::Study | R::Object => Some((Action::Delete, Effect::Changing)),
            R::Workitem | R::WorkitemTransaction => Some(operate),
            R::Service | R::Studies | R::Collection | R::Part => None,
        },
    }
}
