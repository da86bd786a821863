//! Parts of a volume, a bit for each unit of it: what takes little memory however scattered they are.

use std::ops::Range;

/// Units of a volume that are in it.
#[derive(Debug)]
pub(super) struct Units {
    unit: u64,
    bits: Vec<u64>,
}

impl Units {
    /// None, of a volume of so many bytes in units of so many bytes.
    pub(super) fn none(bytes: u64, unit: u64) -> Self {
        let words = bytes.div_ceil(unit).div_ceil(64);
        Self { unit, bits: vec![0; usize::try_from(words).unwrap_or_default()] }
    }

    /// Adds the units of which a part is in a range, bytes.
    pub(super) fn add_touched(&mut self, range: &Range<u64>) {
        self.set(range.start / self.unit..range.end.div_ceil(self.unit));
    }

    /// Adds the units that are wholly in a range, bytes.
    pub(super) fn add_whole(&mut self, range: &Range<u64>) {
        self.set(range.start.div_ceil(self.unit)..range.end / self.unit);
    }

    /// Whether a unit is in it, by its number.
    pub(super) fn has(&self, unit: u64) -> bool {
        let word = usize::try_from(unit / 64).ok().and_then(|word| self.bits.get(word));
        word.is_some_and(|word| word & (1 << (unit % 64)) != 0)
    }

    /// The first stretch of them from the unit on that a place is in, bytes.
    pub(super) fn next(&self, from: u64) -> Option<Range<u64>> {
        let start = self.find(from / self.unit, true)?;
        let end = self.find(start, false).unwrap_or(self.bits.len() as u64 * 64);
        Some(start * self.unit..end * self.unit)
    }

    /// The first unit from there on that is in it, or is not.
    fn find(&self, from: u64, is_in: bool) -> Option<u64> {
        let mut mask = u64::MAX << (from % 64);
        for word in from / 64.. {
            let bits = self.bits.get(usize::try_from(word).ok()?)?;
            let found = if is_in { *bits } else { !*bits } & mask;
            if found != 0 {
                return Some(word * 64 + u64::from(found.trailing_zeros()));
            }
            mask = u64::MAX;
        }
        None
    }

    fn set(&mut self, units: Range<u64>) {
        let mut at = units.start;
        while at < units.end {
            let (word, bit) = (at / 64, at % 64);
            let count = (64 - bit).min(units.end - at);
            let Some(word) = usize::try_from(word).ok().and_then(|word| self.bits.get_mut(word)) else { return };
            *word |= (u64::MAX >> (64 - count)) << bit;
            at += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_unit_that_is_touched_is_not_wholly_there() {
        let mut touched = Units::none(1_000, 100);
        touched.add_touched(&(199..301));
        assert_eq!((touched.next(0), touched.next(399), touched.next(400)), (Some(100..400), Some(300..400), None));
        let mut whole = Units::none(1_000, 100);
        whole.add_whole(&(101..400));
        assert_eq!((whole.next(0), whole.has(1), whole.has(2)), (Some(200..400), false, true));
    }

    proptest! {
        #[test]
        fn all_that_was_added_is_told_and_nothing_else(
            ranges in proptest::collection::vec((0_u64..700, 0_u64..200), 0..9), from in 0_u64..800,
        ) {
            let (count, unit) = (700, 3);
            let mut units = Units::none(count * unit, unit);
            let ranges: Vec<_> = ranges.into_iter().map(|(start, length)| start..(start + length).min(count)).collect();
            for range in &ranges {
                units.add_touched(&(range.start * unit..range.end * unit));
            }
            let mut told = Vec::new();
            let mut at = from * unit;
            while let Some(range) = units.next(at) {
                prop_assert!(range.end > at && !range.is_empty());
                at = range.end;
                told.push(range);
            }
            for number in from..count {
                let is_told = told.iter().any(|range| range.contains(&(number * unit)));
                prop_assert_eq!(is_told, ranges.iter().any(|range| range.contains(&number)), "{}", number);
                prop_assert_eq!(is_told, units.has(number));
            }
        }
    }
}
