//! Which sites have live connections, as workers tell it: a word when a site's first one comes and its last one goes, and none for a
//! request. Nobody holds the lock for longer than that takes.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use policy::SiteName;

/// Sites of one worker that came or went since somebody asked, and whether they are there. At most as many as are registered.
type News = Arc<Mutex<HashMap<SiteName, bool>>>;

/// What all workers told. One for a gateway.
#[derive(Debug, Clone, Default)]
pub struct Sightings(Arc<Mutex<Vec<News>>>);

impl Sightings {
    /// A place for one worker.
    #[must_use]
    pub fn worker(&self) -> Present {
        let news = News::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&news));
        Present { counts: Rc::default(), news }
    }
}

/// One worker's sites.
#[derive(Debug)]
pub struct Present {
    counts: Rc<RefCell<HashMap<SiteName, usize>>>,
    news: News,
}

impl Present {
    /// A connection of a site has come. It has gone when what this returns is dropped.
    #[must_use]
    pub fn enter(&self, site: &SiteName) -> Entered {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(site.clone()).or_default();
        *count += 1;
        if *count == 1 {
            tell(&self.news, site, true);
        }
        Entered { counts: Rc::clone(&self.counts), news: Arc::clone(&self.news), site: site.clone() }
    }
}

fn tell(news: &News, site: &SiteName, is_there: bool) {
    news.lock().unwrap_or_else(PoisonError::into_inner).insert(site.clone(), is_there);
}

/// A live connection.
#[derive(Debug)]
pub struct Entered {
    counts: Rc<RefCell<HashMap<SiteName, usize>>>,
    news: News,
    site: SiteName,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut counts = self.counts.borrow_mut();
        let Some(count) = counts.get_mut(&self.site) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&self.site);
            tell(&self.news, &self.site, false);
        }
    }
}

/// What somebody has heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// By worker: who is there.
    there: Vec<HashSet<SiteName>>,
}

impl Heard {
    /// The sites that are there, or were since the last time.
    pub fn listen(&mut self, sightings: &Sightings) -> HashSet<SiteName> {
        let workers = sightings.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.there.resize_with(workers.len(), HashSet::new);
        let mut seen = HashSet::new();
        for (there, news) in self.there.iter_mut().zip(&workers) {
            let news = std::mem::take(&mut *news.lock().unwrap_or_else(PoisonError::into_inner));
            for (site, is_there) in news {
                if is_there {
                    there.insert(site.clone());
                } else {
                    there.remove(&site);
                }
                seen.insert(site);
            }
            seen.extend(there.iter().cloned());
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_and_went_was_there() {
        let (sightings, mut heard) = (Sightings::default(), Heard::default());
        let workers = [sightings.worker(), sightings.worker()];
        let site: SiteName = "s".parse().unwrap();
        assert!(heard.listen(&sightings).is_empty());
        drop(workers[0].enter(&site));
        assert!(heard.listen(&sightings).contains(&site), "between two looks");
        assert!(heard.listen(&sightings).is_empty());
        let held = [workers[0].enter(&site), workers[0].enter(&site), workers[1].enter(&site)];
        for _ in 0..3 {
            assert_eq!(heard.listen(&sightings).len(), 1);
        }
        let [first, second, third] = held;
        drop((first, third));
        assert_eq!(heard.listen(&sightings).len(), 1);
        assert_eq!(heard.listen(&sightings).len(), 1, "one is left");
        drop(second);
        assert_eq!(heard.listen(&sightings).len(), 1, "it went since");
        assert!(heard.listen(&sightings).is_empty());
        assert!(workers[0].counts.borrow().is_empty());
    }
}
