//! Which worker a datagram is for: read from it by the kernel's filter, and once more by whoever it came to.
//!
//! A session's index carries its worker's number ([`gateway_tunnel::config::Shard`]), and stands where the white paper (5.4) puts the
//! receiver: at offset 4 of data and of cookie replies, at 8 of responses; little-endian, so that its second byte holds the
//! lowest bits of what is shifted right by 8. The filter is an optimisation: sockets of a process that is about to end stand in the same
//! group and shift the others' places, and a kernel may have no such filter. Who gets another worker's datagram passes it on.

use std::io;
use std::os::fd::AsFd;

use gateway_tunnel::MAX_DATAGRAM;
use nix::libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_RET, BPF_W,
    sock_filter, sock_fprog,
};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;

/// `BPF_A` of a return: the accumulator.
pub(crate) const RETURN_A: u32 = 0x10;
/// The kernel's own choice, by the addresses: no socket has that place.
pub(crate) const BY_HASH: u32 = u32::MAX;
/// The shortest message: transport data that is a keepalive.
const SHORTEST: u32 = 32;

const RESPONSE: u8 = 2;
const COOKIE: u8 = 3;
const DATA: u8 = 4;
/// How long messages of these kinds are, in bytes (white paper, 5.4).
const RESPONSE_LENGTH: usize = 92;
const COOKIE_LENGTH: usize = 64;
/// Where the byte stands that carries the worker's number.
const IN_RESPONSE: u32 = 9;
const IN_OTHERS: u32 = 5;

/// Workers that tunnels are spread over, and the bits of a number that tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    /// How many.
    pub(crate) workers: usize,
    /// How many bits their numbers have.
    pub(crate) bits: u8,
}

impl Spread {
    /// Over as many workers as there are, and as their numbers allow.
    pub(crate) fn over(workers: usize) -> Self {
        let most = 1_usize << gateway_tunnel::config::Shard::MAX_BITS;
        let workers = workers.clamp(1, most);
        Self { workers, bits: u8::try_from(workers.next_power_of_two().trailing_zeros()).unwrap_or(0) }
    }

    pub(crate) fn mask(self) -> u8 {
        (1_u8 << self.bits).wrapping_sub(1)
    }

    /// The worker that has the session of this datagram, if it says one. What cannot be such a message is nobody else's: whoever it came
    /// to drops it, and no other worker is woken for it.
    pub(super) fn worker_of(self, datagram: &[u8]) -> Option<usize> {
        let place = match (*datagram.first()?, datagram.len()) {
            (RESPONSE, RESPONSE_LENGTH) => IN_RESPONSE,
            (COOKIE, COOKIE_LENGTH) => IN_OTHERS,
            (DATA, length) if (SHORTEST as usize..=MAX_DATAGRAM).contains(&length) => IN_OTHERS,
            _ => return None,
        };
        let byte = *datagram.get(usize::try_from(place).ok()?)?;
        Some(usize::from(byte & self.mask())).filter(|worker| *worker < self.workers)
    }

    /// The filter for the sockets' group. It sees a datagram without its UDP header.
    fn filter(self) -> [sock_filter; 12] {
        [
            op(BPF_LD | BPF_W | BPF_LEN, 0, 0, 0),
            op(BPF_JMP | BPF_JGE | BPF_K, 0, 4, SHORTEST),
            op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
            op(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, u32::from(DATA)),
            op(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, u32::from(COOKIE)),
            op(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, u32::from(RESPONSE)),
            op(BPF_RET | BPF_K, 0, 0, BY_HASH),
            op(BPF_LD | BPF_B | BPF_ABS, 0, 0, IN_OTHERS),
            op(BPF_JMP | BPF_JA, 0, 0, 1),
            op(BPF_LD | BPF_B | BPF_ABS, 0, 0, IN_RESPONSE),
            op(BPF_ALU | BPF_AND | BPF_K, 0, 0, u32::from(self.mask())),
            op(BPF_RET | RETURN_A, 0, 0, 0),
        ]
    }

    /// Has the kernel choose among the sockets that share this one's port, in the order in which they were bound.
    ///
    /// # Errors
    /// The system's; then it chooses by the addresses.
    pub(super) fn steer(self, socket: &impl AsFd) -> io::Result<()> {
        attach(&mut self.filter(), socket)
    }
}

/// One instruction of a filter.
pub(crate) fn op(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    // INVARIANT: codes of classic BPF have 16 bits.
    sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}

/// Has the kernel choose by this filter among the sockets that share this one's port.
///
/// # Errors
/// The system's; then it chooses by the addresses.
pub(crate) fn attach(filter: &mut [sock_filter], socket: &impl AsFd) -> io::Result<()> {
    let program = sock_fprog { len: u16::try_from(filter.len()).unwrap_or(0), filter: filter.as_mut_ptr() };
    setsockopt(socket, AttachReusePortCbpf, &program).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::super::socket::bind;
    use super::*;

    fn datagram(kind: u8, index: u32) -> Vec<u8> {
        let mut datagram = vec![0; if kind == RESPONSE { RESPONSE_LENGTH } else { COOKIE_LENGTH }];
        datagram[0] = kind;
        let place = if kind == RESPONSE { 8 } else { 4 };
        datagram[place..place + 4].copy_from_slice(&index.to_le_bytes());
        datagram
    }

    #[test]
    fn numbers_have_as_many_bits_as_they_need() {
        for (workers, expected) in [(0, (1, 0)), (1, (1, 0)), (2, (2, 1)), (3, (3, 2)), (4, (4, 2)), (99, (64, 6))] {
            let spread = Spread::over(workers);
            assert_eq!((spread.workers, spread.bits), expected, "{workers}");
        }
        let spread = Spread::over(3);
        assert_eq!(spread.worker_of(&datagram(DATA, 0xdead_0201)), Some(2));
        assert_eq!(spread.worker_of(&datagram(RESPONSE, 0xdead_0101)), Some(1));
        assert_eq!(spread.worker_of(&datagram(COOKIE, 0xdead_0301)), None, "there are three");
        assert_eq!(spread.worker_of(&datagram(1, 0xdead_0201)), None, "an initiation says nothing");
        assert_eq!(spread.worker_of(&[DATA]), None);
        for (kind, length, worker) in [
            (DATA, 31, None),
            (DATA, 32, Some(2)),
            (DATA, MAX_DATAGRAM, Some(2)),
            (DATA, MAX_DATAGRAM + 1, None),
            (COOKIE, 63, None),
            (COOKIE, 65, None),
            (RESPONSE, 91, None),
            (RESPONSE, 93, None),
        ] {
            let mut cut = datagram(kind, 0xdead_0201);
            cut.resize(length, 0);
            assert_eq!(spread.worker_of(&cut), worker, "{kind} of {length} bytes");
        }
    }

    /// The kernel's word: each datagram comes to the socket that its index names, from whatever port it was sent.
    #[test]
    fn the_kernel_reads_the_index() {
        let spread = Spread::over(3);
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let mut sockets: Vec<UdpSocket> = vec![first];
        sockets.extend((1..3).map(|_| bind(address).unwrap()));
        spread.steer(&sockets[0]).unwrap();
        for socket in &sockets {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        }
        for port in 0..8_u32 {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for (kind, worker) in [(DATA, 0), (DATA, 1), (DATA, 2), (COOKIE, 1), (RESPONSE, 2), (RESPONSE, 0)] {
                let sent = datagram(kind, (port << 16) | (worker << 8) | 1);
                sender.send_to(&sent, address).unwrap();
                let mut received = [0; 128];
                let (length, _) = sockets[worker as usize].recv_from(&mut received).unwrap();
                assert_eq!(received[..length], sent);
            }
        }
    }
}
