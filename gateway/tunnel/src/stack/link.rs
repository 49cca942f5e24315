//! The link between a site's stack and its tunnels, as smoltcp wants to see it: packets in and packets out.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// How many packets a stack makes at a time.
const BATCH: usize = 32;
/// Spare buffers that are kept.
const SPARE: usize = 64;

/// Packets that a stack made.
#[derive(Default)]
pub(crate) struct Packets {
    made: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Packets {
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        self.made.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.made.len()
    }

    /// Those that were made after there were so many.
    pub(super) fn made_since(&self, before: usize) -> impl Iterator<Item = &Vec<u8>> {
        self.made.iter().skip(before)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.made.len() >= BATCH
    }

    /// Gives a buffer back, to make packets in.
    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// For one call of smoltcp.
pub(super) struct Link<'a> {
    pub(super) arriving: Option<&'a [u8]>,
    pub(super) packets: &'a mut Packets,
    pub(super) mtu: usize,
}

impl Device for Link<'_> {
    type RxToken<'t>
        = Arriving<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Leaving<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Arriving<'_>, Leaving<'_>)> {
        Some((Arriving(self.arriving.take()?), Leaving(self.packets)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        (!self.packets.is_full()).then_some(Leaving(self.packets))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(super) struct Arriving<'t>(&'t [u8]);

impl RxToken for Arriving<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Leaving<'t>(&'t mut Packets);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut buffer = self.0.spare.pop().unwrap_or_default();
        buffer.resize(length, 0);
        let result = f(&mut buffer);
        self.0.made.push_back(buffer);
        result
    }
}
