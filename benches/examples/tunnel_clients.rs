//! Many WireGuard clients in one process, and a flood of forged handshakes: what `benches/peer/peers.py` measures a gateway with.
//!
//! ```text
//! tunnel_clients ask FOLDER INSIDE COUNT SECONDS      each of the clients asks once a second; prints what came of it
//! tunnel_clients send FOLDER INSIDE SECONDS           one client uploads for so long; prints MiB a second
//! tunnel_clients flood ADDRESS KEY RATE SECONDS KIND  forged initiations with a `valid` or a `wrong` mac1, or `noise`
//! ```
//! FOLDER has the clients' configurations, `tunnel-1.conf` and so on; INSIDE is the gateway's address and port in the tunnel.
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2_10::digest::{FixedOutput as _, Mac as _, consts::U16};
use blake2_10::{Blake2s256, Blake2sMac, Digest as _};
use gateway_tunnel::client::{Client, ClientConfig, ConnectionId};
use gateway_tunnel::{PresharedKey, PrivateKey, PublicKey, StreamError};
use tokio::net::UdpSocket;

type Failure = Box<dyn Error + Send + Sync>;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments[..] {
        ["ask", folder, inside, count, seconds] => {
            runtime.block_on(ask(folder, inside.parse()?, count.parse()?, Duration::from_secs(seconds.parse()?)))
        }
        ["send", folder, inside, seconds] => {
            runtime.block_on(send(folder, inside.parse()?, Duration::from_secs(seconds.parse()?)))
        }
        ["flood", address, key, rate, seconds, kind] => {
            flood(address.parse()?, &bytes_of(key)?, rate.parse()?, Duration::from_secs(seconds.parse()?), kind)
        }
        _ => Err("see the top of the source for how it is called".into()),
    }
}

/// A client with its socket.
struct Peer {
    client: Client,
    socket: UdpSocket,
    gateway: IpAddr,
}

impl Peer {
    async fn new(folder: &str, number: usize) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(format!("{folder}/tunnel-{number}.conf"))?;
        let field = |name: &str| {
            let found = text.lines().filter_map(|line| line.split_once(" = ")).find(|(key, _)| *key == name);
            found.map(|(_, value)| value.trim()).ok_or(format!("tunnel-{number}.conf has no {name}"))
        };
        let address = field("Address")?.split([',', '/']).next().unwrap_or_default().parse()?;
        let config = ClientConfig {
            key: PrivateKey::new(bytes_of(field("PrivateKey")?)?),
            gateway: PublicKey(bytes_of(field("PublicKey")?)?),
            preshared_key: Some(PresharedKey::new(bytes_of(field("PresharedKey")?)?)),
            addresses: vec![address],
            mtu: 1420,
        };
        let endpoint: SocketAddr = field("Endpoint")?.parse()?;
        let socket = UdpSocket::bind((if endpoint.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).await?;
        socket.connect(endpoint).await?;
        let seed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok(Self { client: Client::new(Instant::now(), &config, seed), socket, gateway: endpoint.ip() })
    }

    /// Sends what is to be sent, and takes what comes until `until` or the first datagram.
    async fn turn(&mut self, until: Instant) -> Result<(), Failure> {
        let mut buffer = [0; 2048];
        while let Some(datagram) = self.client.poll_transmit() {
            let _ = self.socket.send(&datagram).await;
        }
        let due = self.client.poll_timeout(Instant::now()).min(until);
        match tokio::time::timeout_at(due.into(), self.socket.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                self.client.handle_datagram(Instant::now(), self.gateway, buffer.get(..length).unwrap_or_default());
                // More may have come.
                while let Ok(length) = self.socket.try_recv(&mut buffer) {
                    self.client.handle_datagram(Instant::now(), self.gateway, buffer.get(..length).unwrap_or_default());
                }
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => self.client.handle_timeout(Instant::now()),
        }
        Ok(())
    }

    async fn connect(&mut self, inside: SocketAddr) -> Result<ConnectionId, Failure> {
        let connection = self.client.connect(Instant::now(), inside)?;
        let until = Instant::now() + PATIENCE;
        while self.client.is_open(connection).is_err() {
            if Instant::now() > until {
                return Err("no connection".into());
            }
            self.turn(until).await?;
        }
        Ok(connection)
    }

    /// A request; gives the time until its answer's head was there.
    async fn ask(&mut self, connection: ConnectionId) -> Result<Duration, Failure> {
        let begun = Instant::now();
        self.client.write(begun, connection, b"GET /x HTTP/1.1\r\nHost: bench.test\r\n\r\n")?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        let length = loop {
            match self.client.read(Instant::now(), connection, &mut buffer) {
                Ok(0) => return Err("the connection ended".into()),
                Ok(length) => answer.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(StreamError::Blocked) if begun.elapsed() < PATIENCE => self.turn(begun + PATIENCE).await?,
                Err(StreamError::Blocked) => return Err("no answer".into()),
                Err(error) => return Err(error.into()),
            }
            if let Some(place) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(answer.get(..place).unwrap_or_default()).to_lowercase();
                if !head.starts_with("http/1.1 200") {
                    return Err(head.into());
                }
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let whole = place + 4 + length.unwrap_or(0);
                if answer.len() >= whole {
                    break answer.len() - whole;
                }
            }
        };
        if length == 0 { Ok(begun.elapsed()) } else { Err("more than an answer".into()) }
    }
}

/// Each asks once a second, at a time of its own within the second.
async fn ask(folder: &str, inside: SocketAddr, count: usize, time: Duration) -> Result<(), Failure> {
    let mut tasks = Vec::new();
    for number in 1..=count {
        let mut peer = Peer::new(folder, number).await?;
        tasks.push(tokio::spawn(async move {
            // Everybody connects within the first ten seconds.
            let first = Instant::now() + Duration::from_secs(10).mul_f64(number as f64 / count as f64);
            tokio::time::sleep_until(first.into()).await;
            let connection = peer.connect(inside).await?;
            let mut took = Vec::new();
            let (mut next, end) = (Instant::now(), first + time);
            while next < end {
                while Instant::now() < next {
                    peer.turn(next).await?;
                }
                took.push(peer.ask(connection).await?);
                next += Duration::from_secs(1);
            }
            Ok::<_, Failure>(took)
        }));
    }
    let (mut took, mut failed) = (Vec::new(), Vec::new());
    for task in tasks {
        match task.await? {
            Ok(times) => took.extend(times),
            Err(error) => failed.push(error.to_string()),
        }
    }
    took.sort_unstable();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).map_or(0, Duration::as_micros);
    say(&format!(
        "{{\"answers\": {}, \"failed_clients\": {}, \"first_failure\": {:?}, \"p50_us\": {}, \"p99_us\": {}}}",
        took.len(),
        failed.len(),
        failed.first().map_or("", String::as_str),
        at(0.5),
        at(0.99)
    ))
}

/// One upload without an end; what was taken in the time is counted.
async fn send(folder: &str, inside: SocketAddr, time: Duration) -> Result<(), Failure> {
    let mut peer = Peer::new(folder, 1).await?;
    let connection = peer.connect(inside).await?;
    let head = b"PUT /uploads/file HTTP/1.1\r\nHost: bench.test\r\nContent-Length: 17000000000\r\n\r\n";
    peer.client.write(Instant::now(), connection, head)?;
    let data = vec![0; 64 << 10];
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < time {
        match peer.client.write(Instant::now(), connection, &data) {
            Ok(length) => sent += length,
            Err(StreamError::Blocked) => peer.turn(begun + time).await?,
            Err(error) => return Err(error.into()),
        }
    }
    say(&format!("{{\"mib_per_s\": {:.2}}}", sent as f64 / f64::from(1 << 20) / begun.elapsed().as_secs_f64()))
}

/// Initiations as an attacker makes them, from 200 addresses of loopback and with no operation on the curve.
fn flood(to: SocketAddr, key: &[u8; 32], rate: u64, time: Duration, kind: &str) -> Result<(), Failure> {
    let from = |number: u8| std::net::UdpSocket::bind(SocketAddr::from(([127, 9, 9, number], 0)));
    let sockets: Vec<_> = (1..=200).map(from).collect::<Result<_, _>>()?;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let mut hash = Blake2s256::new();
    hash.update(b"mac1----");
    hash.update(key);
    let mac_key = hash.finalize();
    let mut message = [0; 148];
    message[0] = u8::from(kind != "noise");
    let (begun, mut sent, mut state) = (Instant::now(), 0_u64, 1_u64);
    while begun.elapsed() < time {
        if u128::from(sent) * 1_000_000 > begun.elapsed().as_micros() * u128::from(rate) {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        for byte in &mut message[4..132] {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        if kind == "valid" {
            let mut mac = <Blake2sMac<U16> as blake2_10::digest::KeyInit>::new_from_slice(&mac_key)?;
            mac.update(&message[..116]);
            message[116..132].copy_from_slice(&mac.finalize_fixed());
        }
        let at = (sent % sockets.len() as u64) as usize;
        if let Some(socket) = sockets.get(at) {
            let _ = socket.send_to(&message, to);
        }
        sent += 1;
    }
    say(&format!("{{\"sent\": {sent}, \"per_s\": {:.0}}}", sent as f64 / begun.elapsed().as_secs_f64()))
}

fn say(line: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn bytes_of(text: &str) -> Result<[u8; 32], Failure> {
    STANDARD.decode(text)?.try_into().map_err(|_| "a key has 32 bytes".into())
}
