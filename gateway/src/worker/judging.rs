//! Judging again what lives, at every change and every second.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::snapshot::Snapshot;

/// How long the tunnel of a device that may no more outlives the connections inside it.
const FAREWELL: Duration = Duration::from_millis(20);

impl Worker {
    /// Judges the live connections again at every change of the snapshot, for as long as the worker runs.
    pub async fn keep_judging(self: Rc<Self>) {
        let mut changes = self.shared.snapshots.subscribe();
        let mut ended = self.shared.sessions.subscribe();
        let mut judged = self.snapshot();
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                // Whoever is to be added waits for whoever is to be cut.
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                changed = ended.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.cut_sessions();
                    continue;
                }
                // Certificates end without anything changing.
                _ = every_second.tick() => {}
                () = self.add_keys(), if self.has_keys_to_add() => continue,
            }
            self.cut_sessions();
            let snapshot = self.snapshot();
            self.tell_limited(snapshot.config.audit.refusal_interval, false);
            let new_trust = snapshot.has_other_trust(&judged);
            judged = Arc::clone(&snapshot);
            let cut = self.live.rejudge(&snapshot, new_trust).await;
            if cut > 0 {
                tracing::info!(worker = self.index, cut, snapshot = snapshot.version, "ended live connections");
            }
            if cut > 0 && !self.tunnels.borrow().is_empty() {
                // What was cut tells the other end so, while there still is a way there.
                tokio::time::sleep(FAREWELL).await;
            }
            // After the connections inside them, so that these end for the true reason.
            self.follow_keys(&snapshot);
        }
    }

    /// Goes by the snapshot's keys of tunnels: whoever may no more is cut now, whoever is new is still to be [added](Self::add_keys).
    pub(super) fn follow_keys(&self, snapshot: &Snapshot) {
        for endpoint in self.tunnels.borrow().iter() {
            if let Some(door) = snapshot.door(endpoint.listener()) {
                endpoint.follow_keys(snapshot.directory.tunnel_keys(), &door.listener);
            }
        }
    }

    pub(super) fn has_keys_to_add(&self) -> bool {
        self.tunnels.borrow().iter().any(|endpoint| endpoint.has_more())
    }

    /// Adds some of the keys that are new, and lets others go on.
    pub(super) async fn add_keys(&self) {
        self.tunnels.borrow().iter().for_each(|endpoint| endpoint.add_some());
        tokio::task::yield_now().await;
    }
}
