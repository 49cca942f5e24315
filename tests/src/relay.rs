//! A bad line: a UDP relay that loses, delays, reorders and repeats datagrams.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the line does to every so many datagrams, counted: nothing depends on luck.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Every so many is lost; 0: none.
    pub loses: u64,
    /// Every so many comes twice; 0: none.
    pub repeats: u64,
    /// Every so many is held back by four times the delay, so that others overtake it; 0: none.
    pub holds: u64,
    /// How long each takes.
    pub delay: Duration,
}

/// The relay. Ends when it is dropped.
pub struct Relay {
    /// Where clients find it.
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Relay {
    /// A line from a free port of `own` to `to`.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(own: std::net::IpAddr, to: SocketAddr, line: Line) -> Self {
        let front = UdpSocket::bind((own, 0)).expect("a free port");
        let address = front.local_addr().expect("its address");
        let (over, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ended, losses) = (Arc::clone(&over), Arc::clone(&lost));
        std::thread::spawn(move || carry(&front, to, line, &ended, &losses).expect("a relay that works"));
        Self { address, over, lost }
    }

    /// How many it has lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn carry(front: &UdpSocket, to: SocketAddr, line: Line, over: &AtomicBool, lost: &AtomicU64) -> io::Result<()> {
    let mut backs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    // What is on its way: when, in which order, which client's, and whether it goes to the client.
    let mut under_way: BTreeMap<(Instant, u64), (SocketAddr, bool, Vec<u8>)> = BTreeMap::new();
    let mut count = 0_u64;
    let mut buffer = vec![0; 65_536];
    front.set_nonblocking(true)?;
    while !over.load(Ordering::Relaxed) {
        let mut came = Vec::new();
        while let Ok((length, client)) = front.recv_from(&mut buffer) {
            if let Entry::Vacant(entry) = backs.entry(client) {
                let back = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
                back.connect(to)?;
                back.set_nonblocking(true)?;
                entry.insert(back);
            }
            came.push((client, false, buffer[..length].to_vec()));
        }
        for (client, back) in &backs {
            while let Ok(length) = back.recv(&mut buffer) {
                came.push((*client, true, buffer[..length].to_vec()));
            }
        }
        for datagram in came {
            count += 1;
            let is_each = |number: u64| number > 0 && count.is_multiple_of(number);
            if is_each(line.loses) {
                lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let delay = if is_each(line.holds) { line.delay * 4 } else { line.delay };
            let due = Instant::now() + delay;
            if is_each(line.repeats) {
                under_way.insert((due + line.delay, count), datagram.clone());
            }
            under_way.insert((due, count), datagram);
        }
        let now = Instant::now();
        while let Some(entry) = under_way.first_entry().filter(|entry| entry.key().0 <= now) {
            let (client, is_back, datagram) = entry.remove();
            // A full buffer loses one more.
            let _ = match (is_back, backs.get(&client)) {
                (true, _) => front.send_to(&datagram, client),
                (false, Some(back)) => back.send(&datagram),
                (false, None) => Ok(0),
            };
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}
