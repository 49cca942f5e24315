//! The pool against a naive one, which remembers everything that happened and looks through it for each question.

use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds =
    Bounds { eject_after: 3, eject_ms: 100, max_ejected_percent: 50, unhealthy_after: 2, healthy_after: 2 };

fn states(pool: &Pool, now: u64) -> Vec<State> {
    (0..pool.servers.len()).map(|place| pool.standing(place, now, 0).state).collect()
}

fn fail(pool: &mut Pool, place: usize, times: usize, now: u64) {
    (0..times).for_each(|_| {
        pool.failed(place, now);
    });
}

#[test]
fn failures_in_a_row_eject_for_a_while_and_longer_each_time() {
    use State::{Ejected, In};
    let mut pool = Pool::new(BOUNDS, 2);
    fail(&mut pool, 0, 2, 10);
    pool.succeeded(0);
    fail(&mut pool, 0, 2, 11);
    assert_eq!(states(&pool, 11), [In, In], "not in a row");
    fail(&mut pool, 0, 1, 12);
    assert_eq!(states(&pool, 12), [Ejected, In]);
    assert_eq!(pool.takes_part_from(0), 112);
    assert_eq!(states(&pool, 112), [In, In], "it comes back by itself");
    assert!(pool.failed(0, 120), "on probation one failure is enough");
    assert_eq!(pool.takes_part_from(0), 320, "twice as long");
    pool.succeeded(0);
    assert!(!pool.is_troubled(0));
    fail(&mut pool, 0, 3, 5_000);
    assert_eq!(pool.takes_part_from(0), 5_100, "after a long time without trouble, as at first");
}

#[test]
fn ejection_leaves_the_floor_and_gives_way_to_what_is_certain() {
    use State::{Drained, Ejected, In, Unhealthy};
    let mut pool = Pool::new(BOUNDS, 4);
    for place in 0..4 {
        fail(&mut pool, place, 10, 10);
    }
    assert_eq!(states(&pool, 10), [Ejected, Ejected, In, In], "half may go");
    pool.set_drained(2, true, 20);
    assert_eq!(states(&pool, 20), [In, Ejected, Drained, In], "the first to return is needed");
    pool.checked(3, Checked::Failed, 30);
    pool.checked(3, Checked::Failed, 31);
    assert_eq!(states(&pool, 31), [In, In, Drained, Unhealthy]);
    fail(&mut pool, 0, 10, 32);
    assert_eq!(states(&pool, 32), [In, In, Drained, Unhealthy], "two must stay");
    let mut alone = Pool::new(Bounds { max_ejected_percent: 100, ..BOUNDS }, 1);
    fail(&mut alone, 0, 100, 1);
    assert_eq!(states(&alone, 1), [In], "the only one never goes");
}

#[test]
fn a_server_that_comes_back_is_started_slowly() {
    let mut pool = Pool::new(BOUNDS, 2);
    assert_eq!(pool.standing(0, 5, 50), Standing { state: State::In, since: 0, until: None });
    pool.set_drained(0, true, 10);
    assert_eq!(pool.takes_part_from(0), NEVER);
    pool.set_drained(0, false, 20);
    let starting = Standing { state: State::Starting, since: 20, until: Some(70) };
    assert_eq!(pool.standing(0, 20, 50), starting);
    assert_eq!(pool.standing(0, 70, 50).state, State::In);
    let carried = pool.carried(BOUNDS, &[Some(1), None, Some(0)], 80);
    assert_eq!((0..3).map(|place| carried.takes_part_from(place)).collect::<Vec<_>>(), [0, 80, 20]);
}

#[derive(Debug, Clone)]
enum Event {
    Drain(usize, bool),
    Check(usize, bool),
    Request(usize, bool),
}

/// Keeps all events of each server; ejections alone are kept as they were decided.
struct Naive {
    bounds: Bounds,
    events: Vec<(u64, Event)>,
    /// Server, from, until.
    ejections: Vec<(usize, u64, u64)>,
    count: usize,
}

impl Naive {
    fn is_drained(&self, place: usize) -> bool {
        let last = self.events.iter().rev().find_map(|(_, event)| match event {
            Event::Drain(of, drained) if *of == place => Some(*drained),
            Event::Drain(..) | Event::Check(..) | Event::Request(..) => None,
        });
        last == Some(true)
    }

    /// The last two checks that agree decide, since both thresholds are two.
    fn is_unhealthy(&self, place: usize) -> bool {
        let checks: Vec<bool> = self
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Check(of, passed) if *of == place => Some(*passed),
                Event::Drain(..) | Event::Check(..) | Event::Request(..) => None,
            })
            .collect();
        checks.windows(2).rev().find(|two| two[0] == two[1]).is_some_and(|two| !two[0])
    }

    fn is_out(&self, place: usize) -> bool {
        self.is_drained(place) || self.is_unhealthy(place)
    }

    fn is_ejected(&self, place: usize, now: u64) -> bool {
        self.ejections.iter().any(|(of, from, until)| *of == place && (*from..*until).contains(&now))
    }

    fn taking_part(&self, now: u64) -> usize {
        (0..self.count).filter(|place| !self.is_out(*place) && !self.is_ejected(*place, now)).count()
    }

    fn floor(&self) -> usize {
        (self.count - self.count * self.bounds.max_ejected_percent as usize / 100).max(1)
    }
}

fn event(count: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..count, any::<bool>()).prop_map(|(place, drained)| Event::Drain(place, drained)),
        2 => (0..count, any::<bool>()).prop_map(|(place, passed)| Event::Check(place, passed)),
        8 => (0..count, prop::bool::weighted(0.3)).prop_map(|(place, good)| Event::Request(place, good)),
    ]
}

proptest! {
    #[test]
    fn the_pool_is_as_the_naive_one(
        (count, percent) in (1usize..6, 0u32..=100),
        events in prop::collection::vec((0u64..60, event(5)), 0..200),
    ) {
        let bounds = Bounds { max_ejected_percent: percent, ..BOUNDS };
        let mut pool = Pool::new(bounds, count);
        let mut naive = Naive { bounds, events: Vec::new(), ejections: Vec::new(), count };
        let mut now = 1;
        for (pause, event) in events {
            now += pause;
            naive.events.push((now, event.clone()));
            match event {
                Event::Drain(place, drained) if place < count => pool.set_drained(place, drained, now),
                Event::Check(place, passed) if place < count => {
                    pool.checked(place, if passed { Checked::Passed } else { Checked::Failed }, now);
                }
                Event::Request(place, true) if place < count => pool.succeeded(place),
                Event::Request(place, false) if place < count => {
                    let could = !naive.is_out(place) && !naive.is_ejected(place, now)
                        && naive.taking_part(now) > naive.floor();
                    let ejects = pool.failed(place, now);
                    prop_assert!(could || !ejects, "an ejection that the floor forbids");
                    if ejects {
                        naive.ejections.push((place, now, pool.takes_part_from(place)));
                    }
                }
                Event::Drain(..) | Event::Check(..) | Event::Request(..) => continue,
            }
            // Whoever the pool let in early must have been needed.
            for place in 0..count {
                let in_pool = pool.takes_part_from(place) <= now;
                if naive.is_ejected(place, now) && !naive.is_out(place) && in_pool {
                    prop_assert!(naive.taking_part(now) < naive.floor(), "{place} was let in for nothing");
                    naive.ejections.iter_mut().filter(|(of, ..)| *of == place).for_each(|(_, _, until)| *until = now.min(*until));
                }
            }
            for place in 0..count {
                let expected = !naive.is_out(place) && !naive.is_ejected(place, now);
                prop_assert_eq!(pool.takes_part_from(place) <= now, expected, "server {} at {}", place, now);
                let state = pool.standing(place, now, 10).state;
                prop_assert_eq!(state == State::Drained, naive.is_drained(place));
                prop_assert_eq!(matches!(state, State::In | State::Starting), expected);
            }
            // The promise: what is not certainly gone takes part, but for those that may be ejected.
            let left = (0..count).filter(|place| !naive.is_out(*place)).count();
            prop_assert!(naive.taking_part(now) >= left.min(naive.floor()));
        }
    }

    /// Three failures in a row of a server on its own are an ejection, and nothing else is.
    #[test]
    fn rows_of_failures_are_counted_as_they_come(outcomes in prop::collection::vec(any::<bool>(), 0..100)) {
        let mut pool = Pool::new(Bounds { eject_ms: 1_000_000, ..BOUNDS }, 4);
        let mut row = 0;
        for (now, good) in outcomes.into_iter().enumerate() {
            let now = now as u64 + 1;
            let ejected = if good { pool.succeeded(0); false } else { pool.failed(0, now) };
            row = if good { 0 } else { row + 1 };
            prop_assert_eq!(ejected, row == 3);
            if ejected {
                break;
            }
        }
    }
}
