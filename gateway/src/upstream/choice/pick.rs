//! The choice among servers that take part.

/// A set of servers by their places, one bit each.
pub(in crate::upstream) type Set = u64;

/// The weight of a server that takes its whole share.
const FULL: u64 = 256;

/// A hash that is the same on every node and in every version: FNV-1a, mixed.
#[must_use]
pub fn affinity_of(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(fnv)
}

/// Spreads every bit over all (splitmix64's finaliser).
#[must_use]
pub(in crate::upstream) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The share of 256 that a server takes which takes part since `from`: rising in a line over `slow_start`, from a tenth
/// on. A server that was never away (`from` 0) has its whole share.
pub(in crate::upstream) fn weight(from: u64, now: u64, slow_start: u64) -> u64 {
    let since = now.saturating_sub(from);
    if from == 0 || since >= slow_start {
        return FULL;
    }
    (since.saturating_mul(FULL) / slow_start).max(FULL / 10)
}

/// The place of the bit of that rank, counted from 0.
fn nth(set: Set, rank: u64) -> usize {
    let mut rest = set;
    for _ in 0..rank {
        rest &= rest.wrapping_sub(1);
    }
    rest.trailing_zeros() as usize
}

/// Draws two servers and takes the one with fewer requests outstanding. One that is being started slowly is drawn as
/// seldom as its weight says. None if the set is empty.
pub(in crate::upstream) fn least_of_two(
    set: Set,
    random: u64,
    weight: impl Fn(usize) -> u64,
    outstanding: impl Fn(usize) -> u64,
) -> Option<usize> {
    let count = u64::from(set.count_ones());
    if count < 2 {
        return (count == 1).then(|| set.trailing_zeros() as usize);
    }
    // 24 bits each choose the two; 8 bits each say whether they stay.
    let first = (random & 0xff_ffff) % count;
    let second = (first + 1 + ((random >> 24) & 0xff_ffff) % (count - 1)) % count;
    let (first, second) = (nth(set, first), nth(set, second));
    let stays = |place: usize, bits: u64| (bits & 0xff) < weight(place);
    Some(match (stays(first, random >> 48), stays(second, random >> 56)) {
        (true, false) => first,
        (false, true) => second,
        (true, true) => {
            if outstanding(second) < outstanding(first) {
                second
            } else {
                first
            }
        }
        // Both are new: the one that is further on.
        (false, false) => {
            if weight(second) > weight(first) {
                second
            } else {
                first
            }
        }
    })
}

/// The server of a key: the highest of the hashes of key and server (rendezvous hashing), so that only the keys of a
/// server that goes get another. While a server is started slowly, it has as many of its keys as its weight says.
pub(in crate::upstream) fn by_hash(
    set: Set,
    key: u64,
    id: impl Fn(usize) -> u64,
    weight: impl Fn(usize) -> u64,
) -> Option<usize> {
    let mut rest = set;
    let mut best: Option<(bool, u64, usize)> = None;
    while rest != 0 {
        let place = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        let score = mix(key ^ id(place));
        // Whether the server is new enough to be passed over for this key depends on other bits of the hash.
        let stays = (mix(score) & 0xff) < weight(place);
        best = best.max(Some((stays, score, place)));
    }
    best.map(|(_, _, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(set: Set) -> Vec<usize> {
        (0..64).filter(|place| set >> place & 1 == 1).collect()
    }

    proptest! {
        #[test]
        fn the_choice_is_one_of_the_set_and_not_the_busier_of_the_two(
            set: u64, random: u64, load in prop::collection::vec(0u64..5, 64),
        ) {
            let chosen = least_of_two(set, random, |_| FULL, |place| load[place]);
            let all = places(set);
            prop_assert_eq!(chosen.is_some(), !all.is_empty());
            if let Some(chosen) = chosen {
                prop_assert!(all.contains(&chosen));
                // Of two drawn the busiest of all never wins, unless others are as busy.
                let busiest = all.iter().filter(|place| load[**place] >= load[chosen]).count();
                prop_assert!(all.len() == 1 || busiest >= 2);
            }
        }

        #[test]
        fn every_server_of_the_set_is_drawn_about_equally_often(set in 1u64..256, seed: u64) {
            let all = places(set);
            let mut drawn = [0u32; 64];
            let rounds = 2_000 * all.len() as u32;
            for round in 0..rounds {
                drawn[least_of_two(set, mix(seed.wrapping_add(u64::from(round))), |_| FULL, |_| 0).unwrap()] += 1;
            }
            for place in all {
                prop_assert!((1_500..2_500).contains(&drawn[place]), "{place}: {}", drawn[place]);
            }
        }

        #[test]
        fn a_key_keeps_its_server_when_another_goes_and_gets_it_back(set in 1u64.., key: u64, gone in 0usize..64) {
            let id = |place: usize| affinity_of(format!("10.0.0.{place}:80").as_bytes());
            let of = |set| by_hash(set, key, id, |_| FULL);
            let before = of(set).unwrap();
            prop_assert!(places(set).contains(&before));
            let left = set & !(1 << gone);
            if gone != before {
                prop_assert_eq!(of(left), Some(before));
            } else {
                prop_assert_ne!(of(left), Some(before));
                prop_assert_eq!(of(left).is_some(), left != 0);
            }
            // The naive choice: the greatest score of all.
            let naive = places(set).into_iter().max_by_key(|place| mix(key ^ id(*place))).unwrap();
            prop_assert_eq!(before, naive);
        }

        #[test]
        fn weight_rises_in_a_line_to_the_whole(from in 1u64..1_000, slow in 0u64..10_000, a in 0u64..12_000, b in 0u64..12_000) {
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(weight(from, from + a, slow) <= weight(from, from + b, slow));
            prop_assert_eq!(weight(from, from + slow, slow), FULL);
            prop_assert_eq!(weight(0, a, slow), FULL);
        }
    }

    #[test]
    fn a_new_server_gets_its_share_slowly() {
        let share = |now: u64| {
            let weigh = |place: usize| if place == 0 { FULL } else { weight(1, 1 + now, 1_000) };
            (0..10_000u64).filter(|round| least_of_two(0b11, mix(*round), weigh, |_| 0) == Some(1)).count()
        };
        let shares = [0, 250, 500, 750, 1_000].map(share);
        for (share, expected) in shares.into_iter().zip([500, 1_250, 2_500, 3_750, 5_000]) {
            assert!(share.abs_diff(expected) < 250, "{shares:?}");
        }
        let id = |place: usize| mix(place as u64);
        let keys = |now: u64| {
            let weigh = |place: usize| if place == 0 { FULL } else { weight(1, 1 + now, 1_000) };
            (0..10_000u64).filter(|key| by_hash(0b11, mix(*key), id, weigh) == Some(1)).collect::<Vec<_>>()
        };
        let (early, half, late) = (keys(100), keys(500), keys(1_000));
        assert!(early.iter().all(|key| half.contains(key)) && half.iter().all(|key| late.contains(key)));
        assert!(half.len().abs_diff(2_500) < 250 && late.len().abs_diff(5_000) < 250, "{} {}", half.len(), late.len());
    }

    #[test]
    fn hashes_are_the_same_on_every_node() {
        assert_eq!(affinity_of(b"sakura-clinic"), 0xebe4_3f69_064a_80a4);
        assert_eq!(affinity_of(b""), 0xc381_7c01_6ba4_ff30);
    }
}
