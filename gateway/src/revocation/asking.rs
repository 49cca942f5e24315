//! Asks responders, a bounded number at once, on the control thread.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use certs::path::OcspId;
use tokio::task::{spawn_blocking, spawn_local};

use super::answers::Question;
use super::fetch::{Wanted, fetch};
use super::unix_seconds;
use crate::snapshot::Snapshots;

/// Questions at once. A responder answers in some ten milliseconds, and after a restart thousands of devices come back.
const AT_ONCE: usize = 32;
/// Questions at once to one URL: a responder that says nothing must not hold up another one.
const AT_ONCE_TO_ONE: usize = 16;

/// Questions that are put, and those that wait.
#[derive(Clone)]
pub(super) struct Asking {
    snapshots: Arc<Snapshots>,
    queue: Rc<RefCell<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Arc<str>, Question)>,
    /// Waiting or under way, by listener.
    known: HashSet<(Arc<str>, OcspId)>,
    under_way: HashMap<String, usize>,
    tasks: usize,
}

impl Asking {
    pub(super) fn new(snapshots: Arc<Snapshots>) -> Self {
        Self { snapshots, queue: Rc::default() }
    }

    /// Puts a listener's questions, but those that are put already.
    pub(super) fn begin(&self, listener: &str, questions: Vec<Question>) {
        if questions.is_empty() {
            return;
        }
        let tasks = self.queue.borrow_mut().take_in(&Arc::from(listener), questions);
        for _ in 0..tasks {
            let (snapshots, queue) = (Arc::clone(&self.snapshots), Rc::clone(&self.queue));
            spawn_local(async move {
                loop {
                    let Some((listener, mut question)) = queue.borrow_mut().next() else { break };
                    let (id, url) = (question.id, question.url.clone());
                    let request = std::mem::take(&mut question.request);
                    ask(&snapshots, &listener, question, request).await;
                    queue.borrow_mut().end(listener, id, &url);
                }
            });
        }
    }
}

impl Queue {
    /// How many tasks are to be begun.
    fn take_in(&mut self, listener: &Arc<str>, questions: Vec<Question>) -> usize {
        for question in questions {
            if self.known.insert((Arc::clone(listener), question.id)) {
                self.waiting.push_back((Arc::clone(listener), question));
            }
        }
        let more = AT_ONCE.saturating_sub(self.tasks).min(self.waiting.len());
        self.tasks += more;
        more
    }

    /// The first that waits for a responder with room; a task that gets none has ended.
    fn next(&mut self) -> Option<(Arc<str>, Question)> {
        let has_room = |url: &str| self.under_way.get(url).is_none_or(|count| *count < AT_ONCE_TO_ONE);
        let found = self.waiting.iter().position(|(_, question)| has_room(&question.url));
        let next = found.and_then(|found| self.waiting.remove(found));
        match &next {
            Some((_, question)) => *self.under_way.entry(question.url.clone()).or_default() += 1,
            None => self.tasks = self.tasks.saturating_sub(1),
        }
        next
    }

    fn end(&mut self, listener: Arc<str>, id: OcspId, url: &str) {
        self.known.remove(&(listener, id));
        if let Some(count) = self.under_way.get_mut(url) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.under_way.remove(url);
            }
        }
    }
}

async fn ask(snapshots: &Snapshots, listener: &str, question: Question, request: Vec<u8>) {
    let lists = || snapshots.load().door(listener).map(|door| Arc::clone(door.tls.lists()));
    let Some(before) = lists() else { return };
    let (_, timeout) = before.fetch_bounds();
    let fetched = match &question.place {
        Ok(place) => fetch(place, &Wanted::Answer(request.into()), timeout).await,
        Err(why) => Err(why.clone()),
    };
    // After a reload meanwhile, its lists are those that count.
    let Some(lists) = lists() else { return };
    let taken = spawn_blocking(move || {
        lists.take_answer(&question, fetched.as_deref().map_err(Clone::clone), unix_seconds());
    });
    if let Err(error) = taken.await {
        tracing::error!(%error, "an OCSP response could not be read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: u16, url: &str) -> Question {
        let id = certs::fingerprint(&number.to_be_bytes());
        Question { id, url: url.to_owned(), place: Err(String::new()), request: Vec::new() }
    }

    #[test]
    fn one_silent_responder_does_not_hold_up_another() {
        let mut queue = Queue::default();
        let listener: Arc<str> = "clinics".into();
        let silent: Vec<_> = (0..100).map(|number| question(number, "http://silent.example")).collect();
        assert_eq!(queue.take_in(&listener, silent), AT_ONCE);
        let put = std::iter::from_fn(|| queue.next()).count();
        assert_eq!((put, queue.tasks), (AT_ONCE_TO_ONE, AT_ONCE - 1), "the task that found nothing has ended");
        // The same again, and one to somebody else.
        let again = (0..101).map(|number| question(number, "http://silent.example"));
        let again = again.chain([question(500, "http://quick.example")]).collect();
        assert_eq!(queue.take_in(&listener, again), 1);
        assert_eq!(queue.waiting.len(), 100 - AT_ONCE_TO_ONE + 2);
        let (_, next) = queue.next().unwrap();
        assert_eq!(next.url, "http://quick.example");
        queue.end(Arc::clone(&listener), question(0, "").id, "http://silent.example");
        assert_eq!(queue.next().unwrap().1.url, "http://silent.example");
        assert!(queue.next().is_none());
    }
}
