//! Keeps every listener's lists and answers, on the control thread.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{spawn_blocking, spawn_local};

use super::asking::Asking;
use super::fetch::{Wanted, fetch};
use super::lists::{Fetch, Lists};
use super::points::Key;
use super::record::Recorder;
use super::unix_seconds;
use crate::audit::ControlLane;
use crate::snapshot::Snapshots;

/// How often files are looked at and points are fetched from: what is revoked is out within a second, and half of it is
/// for reading the list and judging the connections.
const PERIOD: Duration = Duration::from_millis(250);
/// Fetches at once.
const FETCHES: usize = 8;

type UnderWay = Rc<RefCell<HashSet<(String, Key)>>>;

/// Looks at files, fetches, and puts what changed in force and on record, for ever.
pub async fn keep(snapshots: Arc<Snapshots>, lane: ControlLane) -> Infallible {
    let under_way = UnderWay::default();
    let asking = Asking::new(Arc::clone(&snapshots));
    let mut recorder = Recorder::new(lane);
    let mut told = BTreeSet::new();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let snapshot = snapshots.load();
        let mut changed = false;
        let mut due = BTreeSet::new();
        for door in snapshot.doors.iter().filter(|door| door.tls.lists().is_on()) {
            let (now, lists) = (unix_seconds(), door.tls.lists());
            poll(Arc::clone(lists), now).await;
            for job in lists.due(now) {
                begin(&snapshots, &under_way, &door.listener.name, job);
            }
            asking.begin(&door.listener.name, lists.questions(now));
            // Read before it is put in force: nothing is on record that is not.
            let news = (lists.turned(), lists.set());
            changed |= door.tls.take_lists();
            recorder.record(&door.listener.name, lists, news);
            changed |= lists.ran_out(now);
            let late = lists.report(now).into_iter().filter(|report| report.due);
            due.extend(late.map(|report| (door.listener.name.clone(), report.issuer, report.next_update)));
        }
        for (listener, issuer, next_update) in due.difference(&told) {
            let left = next_update.saturating_sub(unix_seconds());
            tracing::warn!(%listener, %issuer, next_update, left_s = left, "a CRL's next update is due, and it is not there");
        }
        told = due;
        recorder.forget(|listener| snapshot.door(listener).is_some());
        if changed {
            let version = snapshots.publish_revocation();
            tracing::info!(snapshot = version, "other CRLs or OCSP answers are in force");
        }
    }
}

async fn poll(lists: Arc<Lists>, now: i64) {
    if let Err(error) = spawn_blocking(move || lists.poll(now)).await {
        tracing::error!(%error, "the files of CRLs could not be looked at");
    }
}

/// Begins a fetch, unless it is under way or too many are.
fn begin(snapshots: &Arc<Snapshots>, under_way: &UnderWay, listener: &str, job: Fetch) {
    let name = (listener.to_owned(), job.key);
    if under_way.borrow().len() >= FETCHES || !under_way.borrow_mut().insert(name.clone()) {
        return;
    }
    let (snapshots, under_way) = (Arc::clone(snapshots), Rc::clone(under_way));
    spawn_local(async move {
        run(&snapshots, &name.0, job).await;
        under_way.borrow_mut().remove(&name);
    });
}

async fn run(snapshots: &Snapshots, listener: &str, job: Fetch) {
    let lists = || snapshots.load().door(listener).map(|door| Arc::clone(door.tls.lists()));
    let Some(before) = lists() else { return };
    let (most, timeout) = before.fetch_bounds();
    let fetched = match &job.place {
        Ok(place) => fetch(place, &Wanted::List(most), timeout).await,
        Err(why) => Err(why.clone()),
    };
    // After a reload meanwhile, its lists are those that count.
    let Some(lists) = lists() else { return };
    let taken = spawn_blocking(move || lists.take(&job.key, fetched.as_deref().map_err(Clone::clone), unix_seconds()));
    if let Err(error) = taken.await {
        tracing::error!(%error, url = %job.url.escape_debug(), "a fetched CRL could not be read");
    }
}
