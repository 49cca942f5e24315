//! Backends behind TLS: only the pinned authority counts, for the right name, with the right protocol.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use policy::Refusal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::config::BackendTls;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, file: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join(file), issuer.pem()).unwrap();
        Self { issuer }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A backend over TLS that wants a client certificate of `clients`, if given; it serves HTTP/2 where agreed on, and
/// otherwise answers bytes.
async fn tls_backend(
    server: &Authority,
    name: &str,
    clients: Option<&Authority>,
    alpn: &[u8],
) -> (SocketAddr, Rc<Cell<usize>>) {
    let (certificate, key) = server.issue(name);
    let builder =
        rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), Rc::clone(&counted));
            spawn_local(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                counted.set(counted.get() + 1);
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    return over_h2::serve(TokioIo::new(stream), usize::MAX).await;
                }
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                    if buffer.starts_with(b"HEAD ") {
                        // As a server that forgets what HEAD is: head and body, each in a record of its own.
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 47\r\n\r\n").await.unwrap();
                        stream.flush().await.unwrap();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nmisplaced").await);
                    } else {
                        stream.write_all(OK).await.unwrap();
                    }
                    drop(stream.flush().await);
                }
            });
        }
    });
    (address, count)
}

fn tls_service(address: SocketAddr, folder: &Path, server_name: Option<&str>) -> Service {
    Service {
        tls: Some(BackendTls {
            ca_file: folder.join("ca.crt"),
            crl_files: Vec::new(),
            identity: None,
            server_name: server_name.map(str::to_owned),
        }),
        ..service(&[address])
    }
}

/// As start and reload make it.
fn client_config(service: &Service) -> Result<Option<Arc<rustls::ClientConfig>>, crate::load::LoadError> {
    crate::load::backend_tls(service, &mut Vec::new())
}

fn over_tls(service: &Service) -> Upstreams {
    Upstreams::new([(service, client_config(service).unwrap())], Arc::default()).unwrap()
}

#[test]
fn a_proved_backend_is_spoken_to_over_one_connection() {
    on_worker(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca.crt");
        for (name, server_name) in [("127.0.0.1", None), ("fhir.internal", Some("fhir.internal"))] {
            let (address, count) = tls_backend(&authority, name, None, b"http/1.1").await;
            let upstreams = over_tls(&tls_service(address, folder.path(), server_name));
            for _ in 0..4 {
                assert_eq!(text(send(&upstreams, get()).await.unwrap()).await, "ok");
            }
            assert_eq!(count.get(), 1, "session tickets on an idle connection do not end it");
        }
        let (address, count) = tls_backend(&authority, "127.0.0.1", None, b"h2").await;
        let upstreams = over_tls(&Service { http2: true, ..tls_service(address, folder.path(), None) });
        for _ in 0..3 {
            let answer = text(send(&upstreams, get()).await.unwrap()).await;
            assert!(answer.starts_with(&format!("GET https://{address}/fhir/Patient/1")), "{answer}");
        }
        assert_eq!(count.get(), 1);
    });
}

/// What a backend says unasked is nobody's answer, also where it is not yet decrypted.
#[test]
fn what_comes_behind_an_answer_ends_the_connection() {
    on_worker(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca.crt");
        let (address, count) = tls_backend(&authority, "127.0.0.1", None, b"http/1.1").await;
        let upstreams = over_tls(&tls_service(address, folder.path(), None));
        assert_eq!(text(send(&upstreams, request(Method::HEAD, "")).await.unwrap()).await, "");
        tokio::time::sleep(Duration::from_millis(80)).await;
        assert_eq!(text(send(&upstreams, get()).await.unwrap()).await, "ok");
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn a_backend_that_cannot_prove_itself_gets_nothing() {
    on_worker(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca.crt");
        let stranger = Authority::new(folder.path(), "other.crt");
        for (server, name, alpn, http2) in [
            (&stranger, "127.0.0.1", &b"http/1.1"[..], false),
            (&authority, "127.0.0.2", b"http/1.1", false),
            (&authority, "127.0.0.1", b"h2", false),
            (&authority, "127.0.0.1", b"http/1.1", true),
        ] {
            let (address, _) = tls_backend(server, name, None, alpn).await;
            let upstreams = over_tls(&Service { http2, ..tls_service(address, folder.path(), None) });
            let error = send(&upstreams, get()).await.unwrap_err();
            assert!(matches!(error.failure, Failure::Tls(_)), "{error}");
            assert_eq!(error.refusal(), Refusal::BackendUnavailable);
            assert_eq!(errors(&upstreams), [("tls", 1)]);
        }
    });
}

#[test]
fn the_gateway_proves_itself_where_asked() {
    on_worker(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca.crt");
        let (address, _) = tls_backend(&authority, "127.0.0.1", Some(&authority), b"http/1.1").await;
        let mut service = tls_service(address, folder.path(), None);
        assert!(send(&over_tls(&service), get()).await.is_err());
        let (certificate, key) = authority.issue("gateway");
        let files = (folder.path().join("gw.crt"), folder.path().join("gw.key"));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&files.1, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        service.tls.as_mut().unwrap().identity = Some(files);
        assert_eq!(text(send(&over_tls(&service), get()).await.unwrap()).await, "ok");
    });
}

#[test]
fn a_configuration_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = tls_service("127.0.0.1:1".parse().unwrap(), folder.path(), None);
    let error = client_config(&service).unwrap_err().to_string();
    assert!(error.contains("ca.crt"), "{error}");
    std::fs::write(folder.path().join("ca.crt"), "nothing").unwrap();
    assert!(client_config(&service).is_err());
    assert!(matches!(Upstreams::new([(&service, None)], Arc::default()).err(), Some(InvalidService::Tls { .. })));
    Authority::new(folder.path(), "ca.crt");
    let config = client_config(&service).unwrap();
    let named = tls_service("127.0.0.1:1".parse().unwrap(), folder.path(), Some("not a name"));
    assert!(matches!(
        Upstreams::new([(&named, config)], Arc::default()).err(),
        Some(InvalidService::ServerName { .. })
    ));
}
