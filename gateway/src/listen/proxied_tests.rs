use super::*;
use proptest::prelude::*;

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 0x01, 0xbb];

fn client() -> Said {
    let (source, destination) = ("192.0.2.7:50000".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    Said::Client { source, destination }
}

#[test]
fn what_a_header_says() {
    let long = [&V4[..], &[0x04; 300]].concat();
    let v6: Vec<u8> = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat();
    let v6 = [&v6[..], &[0, 1, 0, 2]].concat();
    for (header, said) in [
        (v2(0x21, 0x11, &V4), Ok(client())),
        (v2(0x21, 0x11, &long), Ok(client())),
        (v2(0x20, 0x00, &[]), Ok(Said::Own)),
        (v2(0x20, 0x11, &V4), Ok(Said::Own)),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n".to_vec(), Ok(client())),
        (v2(0x21, 0x21, &v6), parse(b"PROXY TCP6 2001:db8::1 2001:db8::1 1 2\r\n")),
        (v2(0x21, 0x00, &[]), Ok(Said::Nobody)),
        (v2(0x21, 0x31, &[0; 216]), Ok(Said::Nobody)),
        (v2(0x21, 0x12, &V4), Err("datagrams")),
        (v2(0x21, 0x11, &[0, 0, 0, 0, 198, 51, 100, 1, 0xc3, 0x50, 0x01, 0xbb]), Err("that no client has")),
        (v2(0x21, 0x11, &V4[..11]), Err("malformed")),
        (v2(0x22, 0x11, &V4), Err("malformed")),
        (v2(0x11, 0x11, &V4), Err("malformed")),
        (v2(0x21, 0x13, &V4), Err("malformed")),
        (v2(0x21, 0x41, &V4), Err("malformed")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Ok(Said::Nobody)),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 +5000 443\r\n".to_vec(), Err("malformed")),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\n".to_vec(), Err("malformed")),
        (b"PROXY TCP4 192.0.2.07 198.51.100.1 50000 443\r\n".to_vec(), Err("malformed")),
        (b"PROXY TCP4 2001:db8::1 198.51.100.1 50000 443\r\n".to_vec(), Err("malformed")),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 66666\r\n".to_vec(), Err("malformed")),
        (b"PROXY UDP4 192.0.2.7 198.51.100.1 50000 443\r\n".to_vec(), Err("malformed")),
    ] {
        match (parse(&header), said) {
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}: {header:?}"),
            (is, wanted) => assert_eq!(is, wanted, "{header:?}"),
        }
    }
}

#[tokio::test]
async fn not_a_byte_behind_the_header_is_taken() {
    for header in [v2(0x21, 0x11, &V4), b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n".to_vec()] {
        let bytes = [&header[..], b"\x16\x03\x01rest"].concat();
        let mut stream = &bytes[..];
        assert_eq!(read(&mut stream).await, Ok(client()));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\x16\x03\x01rest");
        for cut in 0..header.len() {
            assert!(read(&mut &header[..cut]).await.is_err(), "{cut}");
        }
    }
}

#[tokio::test]
async fn a_header_has_a_bound() {
    let fits = [&V4[..], &vec![0xe0; LONGEST_V2 - 16 - V4.len()]].concat();
    assert_eq!(read(&mut &v2(0x21, 0x11, &fits)[..]).await, Ok(client()));
    let beyond = [&fits[..], &[0]].concat();
    assert!(read(&mut &v2(0x21, 0x11, &beyond)[..]).await.unwrap_err().contains("longer than 4096"));
    let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    assert!(read(&mut &line[..]).await.unwrap_err().contains("longer than 107"));
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = parse(&[&SIGNATURE[..], &bytes].concat());
        let _ = parse(&[&b"PROXY "[..], &bytes, b"\r\n"].concat());
    }

    #[test]
    fn what_is_written_is_read(source: SocketAddr, port: u16, v6: bool, tlvs in proptest::collection::vec(any::<u8>(), 0..64)) {
        prop_assume!(!source.ip().is_unspecified() && !source.ip().is_multicast());
        let destination: SocketAddr = match (source.is_ipv4(), v6) {
            (true, _) => ([127, 0, 0, 1], port).into(),
            (false, _) => (std::net::Ipv6Addr::LOCALHOST, port).into(),
        };
        let source = SocketAddr::new(source.ip(), source.port());
        let header = crate::upstream::Client { source, destination }.header().unwrap();
        prop_assert_eq!(parse(&header), Ok(Said::Client { source, destination }));
        let length = u16::from_be_bytes([header[14], header[15]]) + u16::try_from(tlvs.len()).unwrap();
        let longer = [&header[..14], &length.to_be_bytes(), &header[16..], &tlvs].concat();
        prop_assert_eq!(parse(&longer), Ok(Said::Client { source, destination }));
    }
}
