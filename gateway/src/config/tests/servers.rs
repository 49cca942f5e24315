//! What a service says of servers that are slow, sick or gone.

use super::*;

#[test]
fn what_a_service_says_of_its_servers_is_judged() {
    let service = |more: &str| {
        let backends = "backends = [\"http://127.0.0.1:8080\"]";
        assert_eq!(MINIMAL.matches(backends).count(), 1);
        problems(&MINIMAL.replace(backends, &format!("{backends}\n{more}")))
    };
    assert_eq!(
        service("eject_after = 0\nbalance = \"patient\"\n[service.health]\nkind = \"tcp\"\ninterval_ms = 100"),
        [""; 0]
    );
    for (text, why) in [
        ("balance = \"round-robin\"", "least-requests"),
        ("drained = [\"http://127.0.0.1:8081\"]", "none of `backends`"),
        ("max_ejected_percent = 101", "0 to 100"),
        ("[service.health]\nkind = \"icmp\"", "`http`"),
        ("[service.health]\nkind = \"grpc\"", "http2 = true"),
        ("[service.health]\nkind = \"tcp\"\nbody = \"x\"", "not of kind `http`"),
        ("[service.health]\npath = \"health\"", "from `/` on"),
        ("[service.health]\nbody = \"\"", "1 to 1024"),
        ("[service.health]\ngrpc_service = \"x\"", "not of kind `grpc`"),
        ("[service.health]\nstatus = [100]", "200 to 599"),
        ("[service.health]\nstatus = []", "200 to 599"),
        ("[service.health]\nstatus = [\"200\"]", "list of integers"),
    ] {
        let found = service(text);
        assert!(found.iter().any(|problem| problem.contains(why)), "{text}: {found:?}");
    }
    let many: Vec<_> = (1..=65).map(|last| format!("\"http://10.0.0.{last}:80\"")).collect();
    let found = problems(&MINIMAL.replace("\"http://127.0.0.1:8080\"", &many.join(", ")));
    assert!(found.iter().any(|problem| problem.contains("at most 64")), "{found:?}");
}
