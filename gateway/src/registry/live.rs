//! Live connections: registered before their first request, judged again whenever the registry changes (R3, R27).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use policy::Refusal;
use slab::Slab;

use crate::clock::Clock as _;
use crate::listen::Connection;
use crate::snapshot::Snapshot;

/// Connections that are judged by other anchors or CRLs before a worker does something else.
const AT_ONCE: usize = 16;

/// The live connections of one worker. Nothing else holds them all, so nothing has to be locked.
#[derive(Default)]
pub struct Live {
    connections: RefCell<Slab<Rc<Connection>>>,
    draining: Cell<bool>,
}

/// A connection's place among the living; given up when dropped.
pub struct Registered<'a> {
    live: &'a Live,
    key: usize,
}

impl Live {
    /// Registers, then judges: a change between the handshake, which `judged_by` judged, and this moment is seen here,
    /// and one after it by [`Live::rejudge`].
    pub fn register(&self, connection: &Rc<Connection>, judged_by: &Snapshot) -> Registered<'_> {
        let key = self.connections.borrow_mut().insert(Rc::clone(connection));
        if self.draining.get() {
            connection.control.drain();
        }
        let snapshot = connection.worker.snapshot();
        if let Err(refusal) = judge(connection, &snapshot, snapshot.has_other_trust(judged_by)) {
            connection.control.cut(refusal);
        }
        Registered { live: self, key }
    }

    /// Cuts every connection whose peer `snapshot` does not take any more; `new_trust` says that its certificate has
    /// to be verified anew, since anchors or CRLs may have changed. Returns how many.
    pub async fn rejudge(&self, snapshot: &Snapshot, new_trust: bool) -> usize {
        let mut cut = 0;
        // Those that come meanwhile are judged by `register`.
        let living: Vec<_> = self.connections.borrow().iter().map(|(_, connection)| Rc::clone(connection)).collect();
        for some in living.chunks(AT_ONCE) {
            for connection in some {
                if let Err(refusal) = judge(connection, snapshot, new_trust) {
                    connection.control.cut(refusal);
                    cut += 1;
                }
            }
            // A chain that nobody remembers costs several signature checks, and requests must not wait for all of them.
            if new_trust {
                tokio::task::yield_now().await;
            }
        }
        cut
    }

    /// Lets every connection finish what it is doing, those to come included.
    pub fn drain(&self) {
        self.draining.set(true);
        for (_, connection) in self.connections.borrow().iter() {
            connection.control.drain();
        }
    }

    /// Ends every connection.
    pub fn cut_all(&self, reason: Refusal) {
        for (_, connection) in self.connections.borrow().iter() {
            connection.control.cut(reason);
        }
    }

    /// How many live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// None lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.live.connections.borrow_mut().try_remove(self.key);
    }
}

/// Whether the snapshot still takes the peer: its listener, its certificate, the key of its tunnel, its site, its device or user, and whoever a
/// token of a request under way names.
fn judge(connection: &Connection, snapshot: &Snapshot, new_trust: bool) -> Result<(), Refusal> {
    let door = snapshot.door(&connection.listener.name).ok_or(Refusal::Draining)?;
    let now = connection.worker.clock.now().unix_ns;
    connection.peer.suits(&door.listener, connection.tls_version.is_some())?;
    connection.takes_version(&door.listener)?;
    connection.peer.recheck(door, snapshot, new_trust, now)?;
    connection.admits_bearers(snapshot, now)
}
