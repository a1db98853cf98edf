//! A plan in words, runs of slots with the same work on one line; what `up --dry-run` prints.

use std::fmt;

use super::diff::Plan;
use super::part::Parts;
use crate::slot::SlotId;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.adopted > 0 {
            writeln!(f, "adopt   {} as they are", counted(self.adopted as usize))?;
        }
        if self.root_rules {
            writeln!(f, "rules   of the host: replace")?;
        }
        if self.host_programs {
            writeln!(f, "attach  programs to the host ends' blocks and the uplink")?;
        }
        for (slots, why) in runs(self.remove.iter().map(|r| (r.slot, r.why.as_str()))) {
            writeln!(f, "remove  {slots}: {why}")?;
        }
        for (slots, parts) in runs(self.make.iter().map(|m| (m.slot, m.parts))) {
            let word = match parts {
                parts if parts == self.whole => "make  ",
                parts if Parts::PROGRAMS.has_all(parts) => "attach",
                _ => "repair",
            };
            writeln!(f, "{word}  {slots}: {parts}")?;
        }
        for (slots, why) in runs(self.left_alone.iter().map(|l| (l.slot, l.why.as_str()))) {
            writeln!(f, "leave   {slots} (leased): {why}")?;
        }
        if self.is_empty() {
            writeln!(f, "nothing to do")?;
        }
        Ok(())
    }
}

fn counted(slots: usize) -> String {
    if slots == 1 { "1 slot".into() } else { format!("{slots} slots") }
}

/// Joins neighbours with the same work: `slots 0-3999`, `slot 7`.
fn runs<W: PartialEq + Copy>(work: impl Iterator<Item = (SlotId, W)>) -> Vec<(String, W)> {
    let mut runs: Vec<(SlotId, SlotId, W)> = Vec::new();
    for (slot, work) in work {
        match runs.last_mut() {
            Some((_, last, same)) if *same == work && last.number() + 1 == slot.number() => *last = slot,
            _ => runs.push((slot, slot, work)),
        }
    }
    let name = |first, last| if first == last { format!("slot {first}") } else { format!("slots {first}-{last}") };
    runs.into_iter().map(|(first, last, work)| (name(first, last), work)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Blueprint, Found, Observed, Part, Parts, diff};
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_plan_reads_as_one_line_for_each_run_of_equal_work() {
        let blueprint = Blueprint::new(&Config { slots: 10, ..Config::default() }, 1450);
        let slot = |n| SlotId::new(n).expect("small");
        let mut observed = Observed::default();
        observed.slots.insert(slot(0), Found::Parts(blueprint.whole()));
        observed.slots.insert(slot(1), Found::Parts(blueprint.whole().without(Parts::of(&[Part::HostRoute]))));
        let odd = Found::Wrong { why: "br0 has MTU 1500, not 1450".into() };
        observed.slots.insert(slot(2), odd.clone());
        observed.slots.insert(slot(3), odd);
        observed.slots.insert(slot(12), Found::Parts(Parts::of(&[Part::Namespace])));
        let plan = diff(&blueprint, &observed, &BTreeSet::from([slot(3)]));
        let whole = blueprint.whole();
        let expected = format!(
            "adopt   1 slot as they are\n\
             remove  slot 2: br0 has MTU 1500, not 1450\n\
             remove  slot 12: beyond the 10 slots of the config\n\
             repair  slot 1: host route\n\
             make    slot 2: {whole}\n\
             make    slots 4-9: {whole}\n\
             leave   slot 3 (leased): br0 has MTU 1500, not 1450\n"
        );
        assert_eq!(plan.to_string(), expected);
    }
}
