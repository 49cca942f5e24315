//! What is known of UTC: the sources' statements about our clock, and what follows from them.
//!
//! Each source says that UTC less our clock lies in an interval. Who keeps the clock (chronyd where it answers,
//! otherwise whoever keeps the kernel informed) is one voice, each server that is asked is another. The truth is
//! taken to lie where more than half of the voices agree (after Marzullo); whoever does not agree with it is named. Where
//! there is no such place nobody is believed.
//!
//! Pure: times come in as arguments.

use super::ntp::Leap;

/// The kernel lets its clock run this much faster or slower than true time, at most (`MAXFREQ`); so does a statement
/// age.
const DRIFT_PPM: u64 = 500;
/// The bound at which the kernel calls its clock unsynchronised (`NTP_PHASE_LIMIT`): nobody vouches for more.
pub(super) const LIMIT_NS: u64 = 16_000_000_000;

/// Who vouches for the clock, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Vouching {
    /// Nobody, or there is no agreement.
    Nobody,
    /// Whoever keeps the kernel informed: ntpd, systemd-timesyncd, the hypervisor.
    Kernel,
    /// chronyd.
    Chrony,
    /// The servers that the gateway asks.
    Servers,
    /// The kernel's keeper, and servers that agree with it.
    KernelAndServers,
    /// chronyd, and servers that agree with it.
    ChronyAndServers,
}

impl Vouching {
    const ALL: [Self; 6] =
        [Self::Nobody, Self::Kernel, Self::Chrony, Self::Servers, Self::KernelAndServers, Self::ChronyAndServers];

    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Kernel => "kernel",
            Self::Chrony => "chrony",
            Self::Servers => "servers",
            Self::KernelAndServers => "kernel+servers",
            Self::ChronyAndServers => "chrony+servers",
        }
    }

    pub(super) fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Nobody)
    }
}

/// One source's last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing was heard of it, or nothing for too long.
    Silent,
    /// It says that it does not know.
    Unsynchronised,
    /// UTC less our clock is `offset_ns`, give or take `error_ns`, at the monotonic time `at_ns`.
    Claim {
        /// UTC less our clock.
        offset_ns: i64,
        /// The bound of that.
        error_ns: u64,
        /// When it was so.
        at_ns: u64,
        /// A leap second that it announces.
        leap: Option<Leap>,
    },
}

/// Where UTC lies against our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// UTC is at least so much ahead of our clock.
    pub earliest_ns: i64,
    /// And at most so much.
    pub latest_ns: i64,
}

impl Word {
    /// The interval as it has become by `now_ns`; none if the source makes no claim, or one that is `stale_ns` old.
    fn interval(self, now_ns: u64, stale_ns: u64) -> Option<Interval> {
        let Self::Claim { offset_ns, error_ns, at_ns, .. } = self else { return None };
        let age = now_ns.saturating_sub(at_ns);
        let error = error_ns.saturating_add(age / 1_000_000 * DRIFT_PPM);
        if age > stale_ns || error >= LIMIT_NS {
            return None;
        }
        let error = i64::try_from(error).unwrap_or(i64::MAX);
        Some(Interval { earliest_ns: offset_ns.saturating_sub(error), latest_ns: offset_ns.saturating_add(error) })
    }

    /// The same of a clock that was moved.
    const fn moved(self, change_ns: i64) -> Self {
        match self {
            Self::Claim { offset_ns, error_ns, at_ns, leap } => {
                Self::Claim { offset_ns: offset_ns.saturating_sub(change_ns), error_ns, at_ns, leap }
            }
            Self::Silent | Self::Unsynchronised => self,
        }
    }
}

/// What a source's word counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It agrees with the majority.
    Agrees,
    /// It contradicts the majority, or there is none.
    Disagrees,
    /// It says that it does not know.
    Unsynchronised,
    /// Nothing is heard of it.
    Silent,
    /// Another speaks for the same clock.
    Unused,
}

impl Standing {
    /// The name in metrics and for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Disagrees => "disagrees",
            Self::Unsynchronised => "unsynchronised",
            Self::Silent => "silent",
            Self::Unused => "unused",
        }
    }

    /// Every standing.
    pub const ALL: [Self; 5] = [Self::Agrees, Self::Disagrees, Self::Unsynchronised, Self::Silent, Self::Unused];
}

/// What is known of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// `kernel`, `chrony` or the server's address.
    pub name: String,
    /// What it counts for.
    pub standing: Standing,
    /// Where it says that UTC lies.
    pub interval: Option<Interval>,
}

/// What is known of UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Where UTC lies against our clock; none if nobody can be believed.
    pub interval: Option<Interval>,
    /// Who says so.
    pub vouching: Vouching,
    /// The sources: kernel, chrony, servers.
    pub sources: Vec<SourceReport>,
    /// A leap second that somebody who agrees announces.
    pub leap: Option<Leap>,
}

impl Estimate {
    /// The bound of the clock's error, nanoseconds.
    #[must_use]
    pub fn error_ns(&self) -> Option<u64> {
        self.interval.map(|interval| interval.earliest_ns.unsigned_abs().max(interval.latest_ns.unsigned_abs()))
    }

    /// The sources of this standing, in one line.
    #[must_use]
    pub fn named(&self, standing: Standing) -> String {
        let names: Vec<&str> =
            self.sources.iter().filter(|s| s.standing == standing).map(|s| s.name.as_str()).collect();
        names.join(", ")
    }
}

/// The sources and their words.
#[derive(Debug, Clone)]
pub struct Sources {
    kernel: Word,
    /// None where nobody asks it.
    chrony: Option<Word>,
    servers: Vec<(String, Word)>,
    /// Silence after which a server's word counts no more.
    server_stale_ns: u64,
}

/// The same for chronyd and the kernel, which are asked all the time.
const DAEMON_STALE_NS: u64 = 10_000_000_000;

impl Sources {
    /// Sources of which nothing was heard. A server's word counts until `server_stale_ns` after it came.
    #[must_use]
    pub fn new(chrony: bool, servers: impl IntoIterator<Item = String>, server_stale_ns: u64) -> Self {
        let servers = servers.into_iter().map(|name| (name, Word::Silent)).collect();
        Self { kernel: Word::Silent, chrony: chrony.then_some(Word::Silent), servers, server_stale_ns }
    }

    /// Takes over what another had heard of the same sources.
    pub fn adopt(&mut self, other: &Self) {
        self.kernel = other.kernel;
        self.chrony = self.chrony.and(other.chrony).or(self.chrony);
        for (name, word) in &mut self.servers {
            let known = other.servers.iter().find(|(known, _)| known == name);
            *word = known.map_or(*word, |(_, known)| *known);
        }
    }

    /// The kernel's word.
    pub const fn kernel(&mut self, word: Word) {
        self.kernel = word;
    }

    /// chronyd's word; nothing where nobody asks it.
    pub fn chrony(&mut self, word: Word) {
        if let Some(chrony) = &mut self.chrony {
            *chrony = word;
        }
    }

    /// A server's word; nothing if there is no such server.
    pub fn server(&mut self, number: usize, word: Word) {
        if let Some((_, known)) = self.servers.get_mut(number) {
            *known = word;
        }
    }

    /// Our clock was moved by so much: what was said of it holds for where it was.
    pub fn stepped(&mut self, change_ns: i64) {
        let words = self.servers.iter_mut().map(|(_, word)| word).chain(self.chrony.as_mut());
        for word in words.chain([&mut self.kernel]) {
            *word = word.moved(change_ns);
        }
    }

    /// What follows, at monotonic time `now_ns`.
    #[must_use]
    pub fn estimate(&self, now_ns: u64) -> Estimate {
        let kernel = self.kernel.interval(now_ns, DAEMON_STALE_NS);
        let chrony = self.chrony.and_then(|word| word.interval(now_ns, DAEMON_STALE_NS));
        // chronyd knows better than what it tells the kernel, and tells it nothing unless `rtcsync` is set. One that
        // answers and does not know is believed in that, too.
        let chrony_speaks = chrony.is_some() || matches!(self.chrony, Some(Word::Unsynchronised));
        let servers = self
            .servers
            .iter()
            .map(|(name, word)| (name.clone(), *word, word.interval(now_ns, self.server_stale_ns), true));
        let voices: Vec<(String, Word, Option<Interval>, bool)> =
            [("kernel".to_owned(), self.kernel, kernel, !chrony_speaks)]
                .into_iter()
                .chain(self.chrony.map(|word| ("chrony".to_owned(), word, chrony, true)))
                .chain(servers)
                .collect();
        let claims: Vec<Interval> = voices.iter().filter(|voice| voice.3).filter_map(|voice| voice.2).collect();
        let interval = majority(&claims);
        let sources: Vec<SourceReport> = voices
            .into_iter()
            .map(|(name, word, claim, counts)| SourceReport {
                name,
                standing: standing(word, claim, counts, interval),
                interval: claim,
            })
            .collect();
        let agrees = |source: &SourceReport| source.standing == Standing::Agrees;
        let daemons = 1 + usize::from(self.chrony.is_some());
        let keeper = sources.iter().take(daemons).find(|source| agrees(source));
        let vouching = match (keeper.map(|source| source.name.as_str()), sources.iter().skip(daemons).any(agrees)) {
            (None, false) => Vouching::Nobody,
            (None, true) => Vouching::Servers,
            (Some("kernel"), false) => Vouching::Kernel,
            (Some("kernel"), true) => Vouching::KernelAndServers,
            (Some(_), false) => Vouching::Chrony,
            (Some(_), true) => Vouching::ChronyAndServers,
        };
        let words = [self.kernel].into_iter().chain(self.chrony).chain(self.servers.iter().map(|(_, word)| *word));
        let leap = words.zip(&sources).filter(|(_, source)| agrees(source)).find_map(|(word, _)| match word {
            Word::Claim { leap, .. } => leap,
            Word::Silent | Word::Unsynchronised => None,
        });
        Estimate { interval, vouching, sources, leap }
    }
}

fn standing(word: Word, claim: Option<Interval>, counts: bool, truth: Option<Interval>) -> Standing {
    match (word, claim, truth) {
        (Word::Silent, _, _) => Standing::Silent,
        _ if !counts => Standing::Unused,
        (Word::Unsynchronised, _, _) => Standing::Unsynchronised,
        (Word::Claim { .. }, None, _) => Standing::Silent,
        (_, Some(claim), Some(truth))
            if claim.earliest_ns <= truth.latest_ns && claim.latest_ns >= truth.earliest_ns =>
        {
            Standing::Agrees
        }
        (_, Some(_), _) => Standing::Disagrees,
    }
}

/// From the first to the last place that more than half of the claims hold: as long as more than half of the sources tell
/// the truth, it is in there. None if there is no such place.
fn majority(claims: &[Interval]) -> Option<Interval> {
    let mut edges: Vec<(i64, bool)> =
        claims.iter().flat_map(|c| [(c.earliest_ns, false), (c.latest_ns, true)]).collect();
    // At the same place beginnings come before ends: intervals that touch agree.
    edges.sort_unstable();
    let mut open = 0_usize;
    let (mut earliest_ns, mut latest_ns) = (None, None);
    for (at, is_end) in edges {
        if is_end {
            if open * 2 > claims.len() {
                latest_ns = Some(at);
            }
            open -= 1;
        } else {
            open += 1;
            if open * 2 > claims.len() {
                earliest_ns = earliest_ns.or(Some(at));
            }
        }
    }
    Some(Interval { earliest_ns: earliest_ns?, latest_ns: latest_ns? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn claim(offset_ms: i64, error_ms: i64, at_ns: u64) -> Word {
        Word::Claim { offset_ns: offset_ms * MS, error_ns: u64::try_from(error_ms * MS).unwrap(), at_ns, leap: None }
    }

    fn sources(chrony: Option<Word>, servers: &[Word]) -> Sources {
        let names = (0..servers.len()).map(|number| format!("ntp{number}"));
        let mut all = Sources::new(chrony.is_some(), names, 1_000_000_000_000);
        all.kernel(Word::Unsynchronised);
        chrony.into_iter().for_each(|word| all.chrony(word));
        servers.iter().enumerate().for_each(|(number, word)| all.server(number, *word));
        all
    }

    #[test]
    fn the_daemon_alone_is_believed_until_it_falls_silent() {
        let mut all = Sources::new(false, [], 0);
        assert_eq!(all.estimate(0).vouching, Vouching::Nobody);
        all.kernel(claim(0, 20, 0));
        assert_eq!(all.estimate(0).error_ns(), Some(20_000_000));
        let aged = all.estimate(10_000_000_000);
        assert_eq!((aged.vouching, aged.error_ns()), (Vouching::Kernel, Some(25_000_000)));
        assert_eq!(all.estimate(10_000_000_001).error_ns(), None);
    }

    #[test]
    fn chrony_speaks_for_the_kernel_and_may_say_that_it_does_not_know() {
        let mut all = sources(Some(claim(0, 3, 0)), &[]);
        let estimate = all.estimate(0);
        assert_eq!((estimate.vouching, estimate.error_ns()), (Vouching::Chrony, Some(3_000_000)));
        all.kernel(claim(0, 50, 0));
        assert_eq!(all.estimate(0).sources[0].standing, Standing::Unused);
        all.chrony(Word::Unsynchronised);
        assert_eq!(all.estimate(0).vouching, Vouching::Nobody);
        all.chrony(Word::Silent);
        let estimate = all.estimate(0);
        assert_eq!((estimate.vouching, estimate.named(Standing::Silent).as_str()), (Vouching::Kernel, "chrony"));
    }

    #[test]
    fn a_falseticker_is_named_and_outvoted() {
        let all = sources(Some(claim(0, 5, 0)), &[claim(2, 8, 0), claim(5_000, 8, 0), claim(-1, 30, 0)]);
        let estimate = all.estimate(0);
        assert_eq!(estimate.vouching, Vouching::ChronyAndServers);
        assert_eq!(estimate.interval, Some(Interval { earliest_ns: -5 * MS, latest_ns: 5 * MS }));
        assert_eq!(estimate.named(Standing::Disagrees), "ntp1");
        assert_eq!(estimate.named(Standing::Agrees), "chrony, ntp0, ntp2");
    }

    #[test]
    fn without_a_majority_nobody_is_believed() {
        let estimate = sources(Some(claim(0, 5, 0)), &[claim(5_000, 5, 0)]).estimate(0);
        assert_eq!((estimate.interval, estimate.vouching), (None, Vouching::Nobody));
        assert_eq!(estimate.named(Standing::Disagrees), "chrony, ntp0");
        // Three that agree two by two and never all: the truth may be where the first two meet, or the last two.
        let chain = sources(None, &[claim(0, 5, 0), claim(8, 5, 0), claim(16, 5, 0)]).estimate(0);
        assert_eq!(chain.interval, Some(Interval { earliest_ns: 3 * MS, latest_ns: 13 * MS }));
    }

    #[test]
    fn a_step_makes_the_servers_contradict_at_once() {
        let mut all = sources(Some(claim(0, 5, 0)), &[claim(0, 5, 0), claim(1, 5, 0)]);
        all.stepped(2_000 * MS);
        let estimate = all.estimate(0);
        assert_eq!(estimate.interval, Some(Interval { earliest_ns: -2_005 * MS, latest_ns: -1_995 * MS }));
        assert_eq!(estimate.error_ns(), Some(2_005_000_000));
        // The daemon, asked again of a clock that only we see wrong.
        all.chrony(claim(0, 5, 0));
        assert_eq!(all.estimate(0).named(Standing::Disagrees), "chrony");
        assert_eq!(all.estimate(0).vouching, Vouching::Servers);
    }

    #[test]
    fn what_was_heard_outlives_another_list_of_sources() {
        let old = sources(Some(claim(0, 5, 0)), &[claim(1, 5, 0), claim(2, 5, 0)]);
        let mut new = Sources::new(true, ["ntp1".to_owned(), "ntp9".to_owned()], 1_000);
        new.adopt(&old);
        let estimate = new.estimate(0);
        assert_eq!(estimate.named(Standing::Agrees), "chrony, ntp1");
        assert_eq!(estimate.named(Standing::Silent), "ntp9");
        let mut without = Sources::new(false, [], 0);
        without.adopt(&old);
        assert_eq!(without.estimate(0).sources.len(), 1);
    }

    #[test]
    fn a_leap_second_is_believed_of_who_agrees() {
        let with = |word, leap| match word {
            Word::Claim { offset_ns, error_ns, at_ns, .. } => Word::Claim { offset_ns, error_ns, at_ns, leap },
            Word::Silent | Word::Unsynchronised => word,
        };
        let insert = Some(Leap::Insert);
        assert_eq!(sources(Some(with(claim(0, 5, 0), insert)), &[]).estimate(0).leap, insert);
        let liar = with(claim(9_000, 5, 0), insert);
        assert_eq!(sources(Some(claim(0, 5, 0)), &[liar, claim(1, 5, 0)]).estimate(0).leap, None);
    }

    proptest! {
        /// As long as more than half of the sources tell the truth, the estimate holds it.
        #[test]
        fn the_truth_is_in_the_estimate(
            truth in -1_000..1_000_i64,
            honest in proptest::collection::vec((0..100_i64, 0..100_i64), 1..6),
            liars in proptest::collection::vec((-5_000..5_000_i64, 0..200_i64), 0..6),
        ) {
            prop_assume!(honest.len() > liars.len());
            let claims: Vec<Interval> = honest
                .iter()
                .map(|(below, above)| Interval { earliest_ns: truth - below, latest_ns: truth + above })
                .chain(liars.iter().map(|(at, error)| Interval { earliest_ns: at - error, latest_ns: at + error }))
                .collect();
            let found = majority(&claims).unwrap();
            prop_assert!(found.earliest_ns <= truth && truth <= found.latest_ns);
        }
    }
}
