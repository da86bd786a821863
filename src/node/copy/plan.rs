//! Which parts of a volume are copied, of which is written that they are zero, and which are left alone. Kept in units of at
//! least 64 KiB, so that it takes 1 MiB at most however large the volume is; a unit in doubt is copied.

use std::ops::Range;

use crate::node::units::Units;

/// The least unit, bytes: the least that a thin pool hands out.
const LEAST_UNIT: u64 = 64 << 10;
/// Units of one map.
const MOST_UNITS: u64 = 4 << 20;

/// What is done with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Copy,
    Zero,
    Leave,
}

/// The plan for a volume.
#[derive(Debug)]
pub(super) struct Plan {
    bytes: u64,
    unit: u64,
    /// Whether the target reads as zeroes wherever nothing is written to it.
    is_zeroed: bool,
    /// Units that nobody reads.
    free: Option<Units>,
    /// Units that do not read as zeroes for certain.
    mapped: Option<Units>,
}

/// Some of it that is done at once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What is copied, bytes.
    pub(super) copied: Vec<Range<u64>>,
    /// What becomes zero, bytes.
    pub(super) zeroed: Vec<Range<u64>>,
    /// Up to where the volume is done then.
    pub(super) end: u64,
    /// Bytes that are written for it.
    pub(super) work: u64,
}

/// Most ranges of a step.
const MOST_RANGES: usize = 1_024;

impl Plan {
    /// All of so many bytes.
    pub(super) fn all(bytes: u64, is_zeroed: bool) -> Self {
        let unit = bytes.div_ceil(MOST_UNITS).next_power_of_two().max(LEAST_UNIT);
        Self { bytes, unit, is_zeroed, free: None, mapped: None }
    }

    /// None of its units: to be filled with those that are wholly free, or of which a part is mapped, and to mean nothing before
    /// all of them are known.
    pub(super) fn no_units(&self) -> Units {
        Units::none(self.bytes, self.unit)
    }

    /// Without those that are free.
    pub(super) fn without_free(self, free: Units) -> Self {
        Self { free: Some(free), ..self }
    }

    /// With those that are mapped, and all else zero.
    pub(super) fn with_mapped(self, mapped: Units) -> Self {
        Self { mapped: Some(mapped), ..self }
    }

    fn units(&self) -> u64 {
        self.bytes.div_ceil(self.unit)
    }

    fn act(&self, unit: u64) -> Act {
        if self.free.as_ref().is_some_and(|free| free.has(unit)) {
            Act::Leave
        } else if self.mapped.as_ref().is_none_or(|mapped| mapped.has(unit)) {
            Act::Copy
        } else if self.is_zeroed {
            Act::Leave
        } else {
            Act::Zero
        }
    }

    /// The next step from there on, of about so many bytes to write; nothing when all is done.
    pub(super) fn step(&self, from: u64, most_work: u64) -> Option<Step> {
        (from < self.bytes).then_some(())?;
        let mut step = Step { end: from, ..Step::default() };
        while step.end < self.bytes && step.work < most_work && step.copied.len() + step.zeroed.len() < MOST_RANGES {
            let unit = step.end / self.unit;
            let range = step.end..((unit + 1) * self.unit).min(self.bytes);
            step.end = range.end;
            let ranges = match self.act(unit) {
                Act::Leave => continue,
                Act::Copy => &mut step.copied,
                Act::Zero => &mut step.zeroed,
            };
            step.work += range.end - range.start;
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        Some(step)
    }

    /// Bytes to write from there on.
    pub(super) fn work(&self, from: u64) -> u64 {
        let from = from.min(self.bytes);
        let bytes = |unit: u64| ((unit + 1) * self.unit).min(self.bytes) - (unit * self.unit).max(from);
        let units = from / self.unit..self.units();
        units.filter(|unit| self.act(*unit) != Act::Leave).map(bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNIT: u64 = LEAST_UNIT;

    fn one(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    fn steps(plan: &Plan, from: u64, most_work: u64) -> Vec<Step> {
        let (mut at, mut steps) = (from, Vec::new());
        while let Some(step) = plan.step(at, most_work) {
            assert!(step.end > at, "it does not get on");
            at = step.end;
            steps.push(step);
        }
        steps
    }

    #[test]
    fn what_is_free_is_left_and_what_is_not_mapped_is_zeroed_where_it_has_to_be() {
        for (is_zeroed, zeroed) in [(false, 1), (true, 0)] {
            let plan = Plan::all(10 * UNIT, is_zeroed);
            let (mut free, mut mapped) = (plan.no_units(), plan.no_units());
            // Not wholly free: the first and the last of these.
            free.add_whole(&(UNIT + 1..4 * UNIT - 1));
            mapped.add_touched(&(3 * UNIT + 5..8 * UNIT + 1));
            let plan = plan.without_free(free).with_mapped(mapped);
            let [step] = &steps(&plan, 0, u64::MAX)[..] else { panic!() };
            assert_eq!(step.copied, one(3 * UNIT..9 * UNIT));
            let expected: &[Range<u64>] = if zeroed == 1 { &[0..2 * UNIT, 9 * UNIT..10 * UNIT] } else { &[] };
            assert_eq!(step.zeroed, expected);
            assert_eq!((step.work, step.end), ((6 + 3 * zeroed) * UNIT, 10 * UNIT));
        }
    }

    #[test]
    fn without_any_knowledge_all_is_copied() {
        let plan = Plan::all(3 * UNIT + 4096, true);
        let [first, second] = &steps(&plan, UNIT, 2 * UNIT)[..] else { panic!() };
        assert_eq!((&first.copied, first.work), (&one(UNIT..3 * UNIT), 2 * UNIT));
        assert_eq!((&second.copied, second.work), (&one(3 * UNIT..3 * UNIT + 4096), 4096));
        assert_eq!((plan.work(0), plan.work(UNIT), plan.work(u64::MAX)), (3 * UNIT + 4096, 2 * UNIT + 4096, 0));
    }

    #[test]
    fn a_large_volume_takes_no_more_memory() {
        let plan = Plan::all(1 << 50, false);
        assert!(plan.units() <= MOST_UNITS);
    }

    proptest! {
        #[test]
        fn each_byte_that_may_hold_something_is_copied_once(
            units in 1_u64..300,
            free in proptest::collection::vec((0_u64..300 * 16, 0_u64..40 * 16), 0..9),
            mapped in proptest::collection::vec((0_u64..300 * 16, 0_u64..40 * 16), 0..9),
            most_work in 1_u64..40 * UNIT,
        ) {
            let (bytes, block) = (units * UNIT - 4096, 4096);
            let range = |(start, length): &(u64, u64)| (start * block).min(bytes)..((start + length) * block).min(bytes);
            let plan = Plan::all(bytes, false);
            let (mut free_units, mut mapped_units) = (plan.no_units(), plan.no_units());
            free.iter().map(range).for_each(|range| free_units.add_whole(&range));
            mapped.iter().map(range).for_each(|range| mapped_units.add_touched(&range));
            let plan = plan.without_free(free_units).with_mapped(mapped_units);
            let steps = steps(&plan, 0, most_work);
            let copied: Vec<_> = steps.iter().flat_map(|step| step.copied.clone()).collect();
            let zeroed: Vec<_> = steps.iter().flat_map(|step| step.zeroed.clone()).collect();
            let within = |ranges: &[Range<u64>], at: u64| ranges.iter().filter(|range| range.contains(&at)).count();
            let any = |ranges: &[(u64, u64)], at: u64| ranges.iter().any(|one| range(one).contains(&at));
            for at in (0..bytes).step_by(4096) {
                let (copies, zeroes) = (within(&copied, at), within(&zeroed, at));
                prop_assert!(copies + zeroes <= 1);
                if !any(&free, at) {
                    prop_assert_eq!(copies + zeroes, 1, "neither at {}", at);
                    prop_assert!(copies == 1 || !any(&mapped, at), "zeroed at {}", at);
                }
            }
            prop_assert_eq!(plan.work(0), steps.iter().map(|step| step.work).sum::<u64>());
        }
    }
}
