//! The connections of `object_store`: our own, so that TLS and its authorities are those of the settings, and no other
//! TLS library is in the program.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway_audit::tiles::MAX_BUNDLE;
use http::header::IF_NONE_MATCH;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use super::settings::S3Settings;
use crate::http_client::{Client, HttpFailure};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer: a bundle, or a page of a listing.
const LONGEST: usize = MAX_BUNDLE + (1 << 20);

/// Gives the client of one store.
#[derive(Debug)]
pub(super) struct Connector {
    client: Arc<Client>,
    conditional: Arc<AtomicBool>,
}

impl Connector {
    pub(super) fn new(settings: &S3Settings) -> Result<Self, String> {
        let url: Uri =
            settings.endpoint.parse().map_err(|_| format!("`{}` is no URL", settings.endpoint.escape_debug()))?;
        let client = Client::new(&url, settings.ca_file.as_deref(), TIMEOUT, LONGEST)?;
        Ok(Self { client: Arc::new(client), conditional: Arc::new(AtomicBool::new(true)) })
    }

    /// Whether the store takes a put that is to replace nothing, as far as it is known: some S3-compatible ones answer 501.
    pub(super) fn conditional(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.conditional)
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service { client: Arc::clone(&self.client), conditional: self.conditional() }))
    }
}

#[derive(Debug)]
struct Service {
    client: Arc<Client>,
    conditional: Arc<AtomicBool>,
}

impl HttpService for Service {
    fn call<'a, 'async_trait>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
            head.uri = target.parse().map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            let is_conditional = head.headers.contains_key(IF_NONE_MATCH);
            let answer = self.client.exchange(Request::from_parts(head, Full::new(body))).await;
            let (mut head, body): (_, Bytes) = answer.map_err(failure)?.into_parts();
            if is_conditional && head.status == StatusCode::NOT_IMPLEMENTED {
                self.conditional.store(false, Ordering::Relaxed);
                // As it is, the library would try it again ten times.
                head.status = StatusCode::BAD_REQUEST;
            }
            Ok(Response::from_parts(head, body.into()))
        })
    }
}

fn failure(failure: HttpFailure) -> HttpError {
    let kind = match failure {
        HttpFailure::Connect { .. } => HttpErrorKind::Connect,
        HttpFailure::Broken { .. } => HttpErrorKind::Interrupted,
        HttpFailure::Late { .. } => HttpErrorKind::Timeout,
    };
    HttpError::new(kind, failure)
}
