use std::num::NonZeroU32;

use super::*;
use crate::header::Pseudonym;
use crate::keyfile::period;
use proptest::prelude::*;

const DAY: i64 = NANOS_PER_DAY;
const START: i64 = 20_000 * DAY;

fn key(first: u64, day: i64) -> KeyFile {
    KeyFile {
        origin: "sekisho.example/gw1/lane-1".into(),
        site: Some("sakura-clinic".into()),
        pseudonym: Pseudonym([1; 8]),
        class: Some("clinical".into()),
        period: period(day * DAY, NonZeroU32::MIN),
        days: NonZeroU32::MIN,
        key: KeyId([u8::try_from(first % 251).unwrap(); 16]),
        first,
        wrapped: Vec::new(),
    }
}

fn look(earliest_ns: i64, monotonic_ns: i64) -> Look<'static> {
    Look { earliest_ns, vouched: false, boot: "b1", monotonic_ns: u64::try_from(monotonic_ns).unwrap() }
}

fn keep(days: u32) -> Keep {
    Keep { days, knob: "audit.retention.days".into() }
}

fn rule(site: Option<&str>, class: Option<&str>, days: u32) -> Rule {
    Rule { site: site.map(str::to_owned), class: class.map(str::to_owned), days }
}

#[test]
fn r30_the_rule_that_says_most_holds_and_of_two_the_longer() {
    let rules = Rules {
        days: 3_650,
        provider_days: 400,
        rules: vec![
            rule(Some("a"), None, 100),
            rule(None, Some("clinical"), 200),
            rule(Some("a"), Some("imaging"), 50),
            rule(None, Some("imaging"), 900),
        ],
    };
    let of = |site, class| {
        let keep = rules.of(site, class);
        (keep.days, keep.knob)
    };
    assert_eq!(of(Some("a"), Some("clinical")), (200, "audit.retention.rule of class `clinical`".into()));
    assert_eq!(of(Some("a"), Some("imaging")), (50, "audit.retention.rule of site `a` and class `imaging`".into()));
    assert_eq!(of(Some("a"), None), (100, "audit.retention.rule of site `a`".into()));
    assert_eq!(of(Some("b"), Some("imaging")), (900, "audit.retention.rule of class `imaging`".into()));
    assert_eq!(of(Some("b"), Some("other")), (3_650, "audit.retention.days".into()));
    assert_eq!(of(None, None), (400, "audit.retention.provider_days".into()));
    assert_eq!(of(None, Some("clinical")).0, 200);
}

#[test]
fn a11_a_clock_that_jumps_a_year_ahead_ages_nothing() {
    let old = key(1, 19_990);
    let mut memory = Memory::begin(&look(START - 9 * DAY, 0), [&old]);
    // A day goes by, in which the clock jumps.
    memory.look(&look(START + 365 * DAY, DAY), [&old]);
    assert!(memory.time_ns() <= START - 8 * DAY + DAY / 1_000);
    assert!(!memory.may_go(&old, &keep(30), None));
    // Another boot with the same wrong clock ages nothing at all.
    let before = memory.time_ns();
    memory.look(&Look { boot: "b2", ..look(START + 365 * DAY, 5 * DAY) }, [&old]);
    assert_eq!(memory.time_ns(), before);
    // A clock that is behind does not take time back.
    memory.look(&Look { boot: "b2", ..look(0, 6 * DAY) }, [&old]);
    assert_eq!(memory.time_ns(), before);
    // Others vouch for what the clock says.
    memory.look(&Look { vouched: true, boot: "b2", ..look(START + 365 * DAY, 6 * DAY) }, [&old]);
    assert_eq!(memory.time_ns(), START + 365 * DAY);
    assert!(memory.may_go(&old, &keep(30), None));
}

#[test]
fn r30_a_key_goes_when_its_period_was_over_for_so_long_and_not_a_moment_before() {
    let own = key(1, 20_000);
    let mut memory = Memory::begin(&look(START, 0), [&own]);
    let due = START + 31 * DAY;
    assert_eq!(memory.due_ns(&own, &keep(30)), due);
    let elapsed = due - START - 1;
    memory.look(&look(due - 1, elapsed), [&own]);
    assert!(!memory.may_go(&own, &keep(30), None));
    memory.look(&look(due, elapsed + 1), [&own]);
    assert!(memory.may_go(&own, &keep(30), None) && !memory.may_go(&own, &keep(31), None));
    // What a required copy does not hold stays.
    assert!(!memory.may_go(&own, &keep(30), Some(START + DAY)));
    assert!(memory.may_go(&own, &keep(30), Some(START + 2 * DAY)));
}

#[test]
fn a11_what_was_made_under_a_clock_that_was_behind_is_kept_from_when_it_turned_up() {
    let good = key(1, 19_999);
    let mut memory = Memory::begin(&look(START, 0), [&good]);
    let behind = key(50, 3);
    memory.look(&look(START + DAY, DAY), [&good, &behind]);
    assert_eq!(memory.hold_ns(behind.key), Some(START + DAY));
    assert_eq!(memory.due_ns(&behind, &keep(30)), START + 31 * DAY);
    assert!(!memory.may_go(&behind, &keep(30), None));
    // The next look does not move it, and does not hold what was there before.
    memory.look(&look(START + 2 * DAY, 2 * DAY), [&good, &behind]);
    assert_eq!((memory.hold_ns(behind.key), memory.hold_ns(good.key)), (Some(START + DAY), None));
    // What is there at the very first look is kept from then.
    let begun = Memory::begin(&look(START, 0), [&behind]);
    assert_eq!(begun.hold_ns(behind.key), Some(START));
    memory.forget(behind.key);
    assert_eq!(memory.hold_ns(behind.key), None);
}

#[test]
fn a_memory_is_read_strictly() {
    let mut memory = Memory::begin(&look(START, 7), [&key(5, 3), &key(4, 20_001)]);
    memory.look(&look(START + 1, 8), [&key(6, 9)]);
    let text = memory.to_string();
    assert_eq!(Memory::parse(text.as_bytes()), Ok(memory));
    for (from, to, line) in [
        ("v1", "v2", 1),
        ("time ", "time -", 2),
        ("boot", "Boot", 3),
        ("monotonic 8", "monotonic", 4),
        ("seen sek", "seen +sek", 5),
        ("hold 05", "hold 5", 6),
    ] {
        assert_eq!(Memory::parse(text.replacen(from, to, 1).as_bytes()), Err(MemoryError(line)), "{to}");
    }
    assert_eq!(Memory::parse(text.trim_end().as_bytes()), Err(MemoryError(1)));
    assert_eq!(Memory::parse(&[0xff]), Err(MemoryError(1)));
}

#[derive(Debug, Clone)]
enum Step {
    /// True time passes on the running machine.
    Runs(i64),
    /// The machine is off.
    Off(i64),
    /// The wall clock is set to so much more than true time.
    Clock(i64),
    /// A key is made.
    Makes,
    /// Keys are looked at.
    Looks,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3 * DAY).prop_map(Step::Runs),
        (0..400 * DAY).prop_map(Step::Off),
        (-800 * DAY..800 * DAY).prop_map(Step::Clock),
        Just(Step::Clock(0)),
        Just(Step::Makes),
        Just(Step::Looks),
        Just(Step::Looks),
    ]
}

proptest! {
    /// Whatever the wall clock does: as long as nobody vouches for it wrongly, no key may go before true time has passed
    /// for as long as it is kept since it was made.
    #[test]
    fn a11_no_clock_destroys_a_key_early(
        steps in prop::collection::vec(step(), 1..60), days in 1_u32..40, vouched: bool,
    ) {
        let (mut truth, mut monotonic, mut boot, mut offset) = (START, 0_i64, 0_u32, 0_i64);
        let mut keys: Vec<(KeyFile, i64)> = Vec::new();
        let mut memory: Option<Memory> = None;
        let keep = keep(days);
        for step in steps {
            let looked = matches!(step, Step::Looks);
            match step {
                Step::Runs(time) => {
                    truth += time;
                    monotonic += time;
                }
                Step::Off(time) => {
                    truth += time;
                    monotonic = 0;
                    boot += 1;
                }
                // Where servers vouch, they say by how much the clock is wrong; who does not ask believes it.
                Step::Clock(by) => offset = by,
                Step::Makes => {
                    let first = u64::try_from(keys.len()).unwrap() * 3 + 1;
                    keys.push((key(first, (truth + offset).div_euclid(DAY)), truth));
                }
                Step::Looks => {
                    let earliest = if vouched { truth } else { truth + offset };
                    let boot = boot.to_string();
                    let look = Look { vouched, boot: &boot, ..look(earliest, monotonic) };
                    match &mut memory {
                        // The first look believes the clock: there was none before to compare it with.
                        None => memory = Some(Memory::begin(&Look { earliest_ns: truth, ..look }, keys.iter().map(|(key, _)| key))),
                        Some(memory) => memory.look(&look, keys.iter().map(|(key, _)| key)),
                    }
                }
            }
            let (Some(memory), true) = (&memory, looked) else { continue };
            // 500 ppm of the machine's own time is what may be counted too much.
            let slack = (truth - START) / 1_000;
            for (key, made) in &keys {
                let age = truth - made;
                let may_go = memory.may_go(key, &keep, None);
                prop_assert!(!may_go || age + slack >= i64::from(days) * DAY, "{} days {age}", key.period);
            }
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes: Vec<u8>) {
        prop_assert!(Memory::parse(&bytes).is_err());
    }
}
