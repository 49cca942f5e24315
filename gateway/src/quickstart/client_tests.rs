//! Against the plainest server that wants certificates.

use std::net::TcpListener;

use certs::{Anchors, PeerVerifier, Profile, TrustDomain};
use http::Response;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::quickstart::layout::{Asked, Layout, prepare};

fn quickstart(dir: &Path) -> Layout {
    let free = Some("127.0.0.1:0".parse().unwrap());
    prepare(dir, Asked { listen: free, admin: free }).unwrap()
}

fn server(dir: &Path, protocol: &[u8]) -> SocketAddr {
    let anchors = Anchors::load_file(&dir.join("ca.crt")).unwrap();
    let domain = TrustDomain::new(crate::quickstart::cast::TRUST_DOMAIN).unwrap();
    let verifier = Arc::new(PeerVerifier::new(&anchors, Profile::CryptrecHigh, domain, Arc::new(|_| Ok(()))));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            certificates(&dir.join("tls/server.crt")).unwrap(),
            PrivateKeyDer::from_pem_file(dir.join("tls/server.key")).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let h2 = protocol == b"h2";
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let io = TokioIo::new(stream);
            let service = service_fn(|_| async { hyper::Result::Ok(Response::new(Full::<Bytes>::from("hello"))) });
            if h2 {
                tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
            } else {
                tokio::spawn(http1::Builder::new().serve_connection(io, service));
            }
        }
    });
    address
}

fn request() -> Request<Full<Bytes>> {
    Request::get("https://localhost/").header("host", "localhost").body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_device_of_the_cast_gets_an_answer_over_either_version() {
    let dir = tempfile::tempdir().unwrap();
    let layout = quickstart(dir.path());
    let doctor = layout.client("sakura-clinic", "doctor-terminal");
    for (version, protocol) in [(Version::H1, &b"http/1.1"[..]), (Version::H2, b"h2")] {
        let client = Client::new(server(dir.path(), protocol), &layout.ca_certificate()).unwrap();
        let Seen::Answer { status: 200, body, .. } = client.ask(Some(&doctor), version, request()).await else {
            panic!("{version:?}");
        };
        assert_eq!(body, "hello");
    }
}

#[tokio::test]
async fn a_refused_certificate_shows_its_alert() {
    let dir = tempfile::tempdir().unwrap();
    let layout = quickstart(dir.path());
    let client = Client::new(server(dir.path(), b"http/1.1"), &layout.ca_certificate()).unwrap();
    let nobody = client.knock(None).await;
    assert!(matches!(nobody, Seen::Alert(AlertDescription::CertificateRequired)), "{nobody:?}");
    let stranger = client.knock(Some(&layout.client("sakura-clinic", "stranger"))).await;
    assert!(
        matches!(stranger, Seen::Alert(AlertDescription::UnknownCA | AlertDescription::DecryptError)),
        "{stranger:?}"
    );
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_spoken_to() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let layout = quickstart(dir.path());
    let _other = quickstart(other.path());
    let client = Client::new(server(other.path(), b"http/1.1"), &layout.ca_certificate()).unwrap();
    let seen = client.ask(None, Version::H1, request()).await;
    assert!(matches!(seen, Seen::Failed(_)), "{seen:?}");
}

#[tokio::test]
async fn a_plain_request_is_answered_and_a_closed_port_is_a_failure() {
    let refused = get_plain("127.0.0.1:1".parse().unwrap(), "/").await;
    assert!(matches!(refused, Seen::Failed(_)), "{refused:?}");
    let dir = tempfile::tempdir().unwrap();
    let layout = quickstart(dir.path());
    let options = crate::quickstart::fhir::Options { base: String::new(), echo_headers: false };
    let server = crate::quickstart::fhir::Server::start(layout.backend_listener().unwrap(), options).unwrap();
    let seen = get_plain(server.address(), "/fhir/metadata").await;
    assert!(matches!(seen, Seen::Answer { status: 200, .. }), "{seen:?}");
}
