use super::*;

fn request(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Request<()> {
    build(Request::post("https://gateway.example/x")).body(()).unwrap()
}

#[test]
fn what_the_library_lets_pass_is_refused() {
    assert_eq!(check(&request(|r| r)), Ok(None));
    assert_eq!(check(&request(|r| r.header("te", "trailers").header("content-length", "12"))), Ok(Some(12)));
    assert_eq!(check(&request(|r| r.header("content-length", "12").header("content-length", "12"))), Ok(Some(12)));
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "x"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("content-length", "+1"),
        ("content-length", ""),
        ("content-length", "1, 1"),
        ("content-length", "99999999999999999999999"),
    ] {
        assert!(check(&request(|r| r.header(name, value))).is_err(), "{name}: {value}");
    }
    assert!(check(&request(|r| r.header("content-length", "1").header("content-length", "2"))).is_err());
    assert!(check(&Request::get("/x").body(()).unwrap()).is_err(), "no scheme");
    assert!(check(&Request::connect("gateway.example:443").body(()).unwrap()).is_ok(), "the pipeline refuses it");
}
