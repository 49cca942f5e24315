//! Fetching a CRL (RFC 5280 4.2.1.13) or an OCSP response (RFC 6960 A.1) by plain HTTP: they are signed, and TLS would
//! only ask for another one.

use std::time::Duration;

use bytes::Bytes;
use certs::path::MAX_OCSP_BYTES;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where a URL leads, if it is one that is fetched from.
pub(crate) struct Place {
    host: String,
    port: u16,
    authority: String,
    target: String,
}

impl Place {
    /// Takes apart a URL of scheme `http` without user information. `hosts` are the only ones allowed, unless empty.
    pub(crate) fn of(url: &str, hosts: &[String]) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("`{}` is no URL: {error}", url.escape_debug()))?;
        let refused = |why: &str| format!("`{}` is not fetched from: {why}", url.escape_debug());
        if uri.scheme_str() != Some("http") {
            return Err(refused("its scheme is not `http`"));
        }
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(|| refused("it names no host, or a user"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if !hosts.is_empty() && !hosts.contains(&host) {
            return Err(refused("its host is not among `fetch_hosts`"));
        }
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(80),
            authority: authority.as_str().to_owned(),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        })
    }
}

/// What is fetched.
pub(crate) enum Wanted {
    /// A CRL of at most so many bytes.
    List(u64),
    /// An answer to this OCSP request.
    Answer(Bytes),
}

impl Wanted {
    const fn most(&self) -> u64 {
        match self {
            Self::List(most) => *most,
            Self::Answer(_) => MAX_OCSP_BYTES as u64,
        }
    }

    fn too_long(&self) -> String {
        match self {
            Self::List(most) => format!("it is larger than `max_crl_bytes`, {most}"),
            Self::Answer(_) => format!("it is larger than an OCSP response may be, {MAX_OCSP_BYTES} bytes"),
        }
    }

    fn request(&self, place: &Place) -> http::Result<Request<Full<Bytes>>> {
        let request = Request::builder()
            .uri(place.target.as_str())
            .header(HOST, place.authority.as_str())
            .header(USER_AGENT, concat!("sekisho/", env!("CARGO_PKG_VERSION")));
        match self {
            Self::List(_) => request.header(ACCEPT, "application/pkix-crl, */*;q=0.1").body(Full::default()),
            Self::Answer(question) => request
                .method(http::Method::POST)
                .header(ACCEPT, "application/ocsp-response, */*;q=0.1")
                .header(CONTENT_TYPE, "application/ocsp-request")
                .body(Full::new(question.clone())),
        }
    }
}

/// Fetches within this time. Redirects are not followed.
///
/// # Errors
/// What went wrong, safe for a terminal.
pub(crate) async fn fetch(place: &Place, wanted: &Wanted, timeout: Duration) -> Result<Bytes, String> {
    tokio::time::timeout(timeout, fetch_slowly(place, wanted))
        .await
        .unwrap_or_else(|_| Err(format!("it took longer than {} ms", timeout.as_millis())))
}

async fn fetch_slowly(place: &Place, wanted: &Wanted) -> Result<Bytes, String> {
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await;
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    let spoilt = |error: hyper::Error| format!("the exchange failed: {}", error.to_string().escape_debug());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(spoilt)?;
    let request = wanted.request(place).map_err(|error| error.to_string())?;
    let most = wanted.most();
    let exchange = async {
        let mut answer = sender.send_request(request).await.map_err(spoilt)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!("it answers {}, and redirects are not followed", status.as_u16()));
        }
        if status != StatusCode::OK {
            return Err(format!("it answers {}", status.as_u16()));
        }
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > most) {
            return Err(wanted.too_long());
        }
        let mut bytes = Vec::new();
        while let Some(frame) = answer.body_mut().frame().await {
            let Ok(data) = frame.map_err(spoilt)?.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > most {
                return Err(wanted.too_long());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Bytes::from(bytes))
    };
    // The connection ends with the exchange: nothing else drives it.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        outcome = &mut exchange => outcome,
        ended = &mut connection => {
            ended.map_err(spoilt)?;
            exchange.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_of_allowed_hosts_are_fetched_from() {
        let place =
            |url: &str, hosts: &[&str]| Place::of(url, &hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>());
        let good = place("http://CA.example:8080/a/b.crl?x=1", &["ca.example"]).unwrap();
        assert_eq!((good.host.as_str(), good.port, good.target.as_str()), ("ca.example", 8080, "/a/b.crl?x=1"));
        assert_eq!(place("http://ca.example", &[]).unwrap().target, "/");
        assert_eq!(place("http://[::1]/x", &["::1"]).unwrap().host, "::1");
        for bad in
            ["https://ca.example/a", "ldap://ca.example/a", "http:///a", "http://u@ca.example/a", "/a", "", "http://\n"]
        {
            assert!(place(bad, &[]).is_err(), "{bad}");
        }
        assert!(place("http://ca.example.evil/a", &["ca.example"]).is_err());
    }
}
