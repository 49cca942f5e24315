//! Which worker a datagram is for: read from the connection id by the kernel's filter, and once more by whoever it came to.
//!
//! Ids are ours in packets with a short header (RFC 9000 17.3) and in Handshake packets (17.2.4). What stands in the others a
//! client may have chosen: those come to the worker that the kernel chooses by the addresses, as they did before.

use std::io;
use std::os::fd::AsFd;

use nix::libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LEN, BPF_RET,
    BPF_W,
};

use super::ids::LENGTH;
use crate::tunnels::{BY_HASH, RETURN_A, Spread, attach, op};

/// No shorter datagram is looked at: the least that a packet of a connection has (RFC 9000 10.3).
const SHORTEST: u32 = 21;
const LONG_HEADER: u8 = 0x80;
const PACKET_TYPE: u8 = 0x30;
const HANDSHAKE: u8 = 0x20;
/// Where the id stands: after the first byte, or after that, the version and its length.
const IN_SHORT: u32 = 1;
const LENGTH_IN_LONG: u32 = 5;
const IN_LONG: u32 = 6;

/// The worker that has this datagram's connection, if it says one.
pub(super) fn worker_of(spread: Spread, datagram: &[u8]) -> Option<usize> {
    if datagram.len() < SHORTEST as usize {
        return None;
    }
    let at = |place: u32| datagram.get(usize::try_from(place).unwrap_or(usize::MAX)).copied();
    let first = at(0)?;
    let byte = if first & LONG_HEADER == 0 {
        at(IN_SHORT)?
    } else if first & PACKET_TYPE == HANDSHAKE && usize::from(at(LENGTH_IN_LONG)?) == LENGTH {
        at(IN_LONG)?
    } else {
        return None;
    };
    Some(usize::from(byte & spread.mask())).filter(|worker| *worker < spread.workers)
}

/// Has the kernel choose among the sockets that share this one's port, in the order in which they were bound.
///
/// # Errors
/// The system's; then it chooses by the addresses, and workers pass on what is another's.
pub(super) fn steer(spread: Spread, socket: &impl AsFd) -> io::Result<()> {
    let mut filter = [
        op(BPF_LD | BPF_W | BPF_LEN, 0, 0, 0),
        op(BPF_JMP | BPF_JGE | BPF_K, 0, 11, SHORTEST),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
        op(BPF_JMP | BPF_JSET | BPF_K, 0, 6, u32::from(LONG_HEADER)),
        op(BPF_ALU | BPF_AND | BPF_K, 0, 0, u32::from(PACKET_TYPE)),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 7, u32::from(HANDSHAKE)),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, LENGTH_IN_LONG),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, u32::try_from(LENGTH).unwrap_or(0)),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, IN_LONG),
        op(BPF_JMP | BPF_JA, 0, 0, 1),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, IN_SHORT),
        op(BPF_ALU | BPF_AND | BPF_K, 0, 0, u32::from(spread.mask())),
        op(BPF_RET | RETURN_A, 0, 0, 0),
        op(BPF_RET | BPF_K, 0, 0, BY_HASH),
    ];
    attach(&mut filter, socket)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::tunnels::bind;

    fn short(first: u8) -> Vec<u8> {
        let mut datagram = vec![0x40; 40];
        datagram[1] = first;
        datagram
    }

    fn long(kind: u8, length: usize, first: u8) -> Vec<u8> {
        let mut datagram = vec![0; 60];
        datagram[0] = 0xc0 | kind;
        datagram[4] = 1;
        datagram[5] = u8::try_from(length).unwrap();
        datagram[6] = first;
        datagram
    }

    #[test]
    fn an_id_of_ours_says_its_worker() {
        let spread = Spread::over(3);
        assert_eq!(worker_of(spread, &short(0xfe)), Some(2));
        assert_eq!(worker_of(spread, &short(0xff)), None, "there are three");
        assert_eq!(worker_of(spread, &long(HANDSHAKE, LENGTH, 0xfd)), Some(1));
        assert_eq!(worker_of(spread, &long(HANDSHAKE, 8, 0xfd)), None, "no id of ours is as long");
        assert_eq!(worker_of(spread, &long(0, LENGTH, 0xfd)), None, "an Initial's id may be the client's");
        assert_eq!(worker_of(spread, &long(0x10, LENGTH, 0xfd)), None, "so may that of 0-RTT");
        assert_eq!(worker_of(spread, &short(1)[..20]), None);
        assert_eq!(worker_of(spread, &[]), None);
    }

    /// The kernel's word: each datagram comes to the socket that its id names, from whatever port it was sent.
    #[test]
    fn the_kernel_reads_the_id() {
        let spread = Spread::over(3);
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let mut sockets: Vec<UdpSocket> = vec![first];
        sockets.extend((1..3).map(|_| bind(address).unwrap()));
        steer(spread, &sockets[0]).unwrap();
        for socket in &sockets {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        }
        for _ in 0..8 {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for (datagram, worker) in [
                (short(0x10), 0),
                (short(0xf1), 1),
                (short(0x42), 2),
                (long(HANDSHAKE, LENGTH, 1), 1),
                (long(HANDSHAKE, LENGTH, 2), 2),
            ] {
                sender.send_to(&datagram, address).unwrap();
                let mut received = [0; 128];
                let (length, _) = sockets[worker].recv_from(&mut received).unwrap();
                assert_eq!(received[..length], datagram);
            }
        }
    }
}
