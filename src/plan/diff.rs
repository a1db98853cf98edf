//! Desired minus observed: what to remove and what to make, and what is better left alone; pure and deterministic.

use std::collections::BTreeSet;

use super::blueprint::Blueprint;
use super::inspect::{Found, Observed};
use super::part::{Part, Parts, Phase};
use crate::slot::SlotId;

/// What brings the pool from what it is to what it should be. Empty when nothing is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Slots to take down first.
    pub remove: Vec<Removal>,
    /// Parts to make, slot by slot; never empty sets.
    pub make: Vec<Make>,
    /// What is not as it should be and stays so, because a lease stands on it.
    pub left_alone: Vec<LeftAlone>,
    /// Slots that are whole already.
    pub adopted: u32,
    /// Whether the host's own rules are to be made or replaced.
    pub root_rules: bool,
    /// Whether programs are to be hung on the blocks and on the uplink.
    pub host_programs: bool,
    /// What a whole slot consists of, to tell a new slot from a repair.
    pub whole: Parts,
}

/// A slot to take down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub slot: SlotId,
    /// Why, for people.
    pub why: String,
}

/// Parts of one slot to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Make {
    /// Which slot.
    pub slot: SlotId,
    /// Which parts.
    pub parts: Parts,
}

/// A leased slot that disagrees with the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// Which.
    pub slot: SlotId,
    /// In what.
    pub why: String,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.make.is_empty() && !self.root_rules && !self.host_programs
    }

    /// Slots that the plan speaks of: those that there will be, and leased ones beyond them.
    #[must_use]
    pub fn slots(&self) -> usize {
        // A leased slot may get a program and be left alone in the rest.
        let made = |slot: SlotId| self.make.iter().any(|m| m.slot == slot);
        let left = self.left_alone.iter().filter(|l| !made(l.slot)).count();
        self.adopted as usize + self.make.len() + left
    }

    /// Slots of which nothing is there yet, or nothing will be left.
    #[must_use]
    pub fn created(&self) -> usize {
        self.make.iter().filter(|m| m.parts.has(Part::Namespace)).count()
    }

    /// Slots that are whole but for the programs on them, which are to be put in the place of older ones.
    #[must_use]
    pub fn refreshed(&self) -> usize {
        self.make.iter().filter(|m| Parts::PROGRAMS.has_all(m.parts)).count()
    }

    /// Slots that are there and lack something.
    #[must_use]
    pub fn repaired(&self) -> usize {
        self.make.len() - self.created() - self.refreshed()
    }
}

/// What one phase has to make of it.
#[must_use]
pub fn of_phase(make: &[Make], phase: Phase) -> Vec<Make> {
    let part = |m: &Make| Make { slot: m.slot, parts: m.parts.of_phase(phase) };
    make.iter().map(part).filter(|m| !m.parts.is_empty()).collect()
}

/// Compares the whole pool. Of a leased slot nothing but its programs is touched: what else is wrong is reported.
#[must_use]
pub fn diff(blueprint: &Blueprint, observed: &Observed, leased: &BTreeSet<SlotId>) -> Plan {
    let mut plan = diff_of(blueprint, observed, leased, blueprint.slots());
    let wanted = blueprint.slots().len();
    for slot in observed.slots.keys().copied().filter(|s| s.index() >= wanted) {
        if leased.contains(&slot) {
            plan.leave(slot, format!("it is beyond the {wanted} slots of the config; run up again once it is free"));
        } else {
            plan.remove.push(Removal { slot, why: format!("beyond the {wanted} slots of the config") });
        }
    }
    plan
}

/// Compares those slots only, within the config's number or beyond it.
#[must_use]
pub fn diff_of(
    blueprint: &Blueprint,
    observed: &Observed,
    leased: &BTreeSet<SlotId>,
    wanted: impl Iterator<Item = SlotId>,
) -> Plan {
    let mut plan = Plan { whole: blueprint.whole(), ..Plan::default() };
    for slot in wanted {
        plan.consider(slot, observed.slots.get(&slot), leased.contains(&slot));
    }
    plan
}

impl Plan {
    fn consider(&mut self, slot: SlotId, found: Option<&Found>, is_leased: bool) {
        match found {
            None if is_leased => self.leave(slot, "its namespace and its devices are gone".into()),
            None => self.make.push(Make { slot, parts: self.whole }),
            Some(Found::Parts(there)) => {
                let missing = self.whole.without(*there);
                let programs = missing.common(Parts::PROGRAMS).with_needs_in(*there);
                let parts = if is_leased { programs } else { missing };
                if missing.is_empty() {
                    self.adopted += 1;
                }
                if parts != missing {
                    self.leave(slot, format!("it lacks: {}", missing.without(parts)));
                }
                if !parts.is_empty() {
                    self.make.push(Make { slot, parts });
                }
            }
            Some(Found::Wrong { why }) if is_leased => self.leave(slot, why.clone()),
            Some(Found::Wrong { why }) => {
                self.remove.push(Removal { slot, why: why.clone() });
                self.make.push(Make { slot, parts: self.whole });
            }
        }
    }

    fn leave(&mut self, slot: SlotId, why: String) {
        self.left_alone.push(LeftAlone { slot, why });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    /// A kernel made of sets: refuses a part whose needs are not there, or that is there already.
    fn apply(observed: &mut Observed, plan: &Plan) {
        for removal in &plan.remove {
            assert!(observed.slots.remove(&removal.slot).is_some(), "slot {} is not there to remove", removal.slot);
        }
        for phase in [Phase::Make, Phase::Raise, Phase::Host] {
            for make in of_phase(&plan.make, phase) {
                let found = observed.slots.entry(make.slot).or_insert(Found::Parts(Parts::NONE));
                let Found::Parts(there) = found else { panic!("slot {} was to be removed first", make.slot) };
                for part in make.parts.iter() {
                    assert!(there.has_all(part.needs()), "{part:?} before {:?}", part.needs().without(*there));
                    assert!(!there.has(part), "{part:?} made twice");
                    there.set(part, true);
                }
            }
        }
    }

    /// Any set of parts that a pass stopped somewhere can leave: closed under needs.
    fn reachable() -> impl Strategy<Value = Parts> {
        proptest::collection::vec(any::<bool>(), Part::ALL.len()).prop_map(|wanted| {
            let mut parts = Parts::NONE;
            for (part, wanted) in Part::ALL.into_iter().zip(wanted) {
                parts.set(part, wanted && parts.has_all(part.needs()));
            }
            parts
        })
    }

    fn found() -> impl Strategy<Value = Found> {
        prop_oneof![
            4 => reachable().prop_map(Found::Parts),
            1 => Just(Found::Wrong { why: "odd".into() }),
        ]
    }

    fn pool() -> impl Strategy<Value = (Blueprint, Observed, BTreeSet<SlotId>)> {
        let slots = proptest::collection::btree_map(0_u32..24, found(), 0..24);
        let leased = proptest::collection::btree_set(0_u32..24, 0..6);
        (0_u32..20, any::<bool>(), slots, leased).prop_map(|(count, v6, slots, leased)| {
            let mut config = Config { slots: count, ..Config::default() };
            if v6 {
                config.slot_cidr6 = "fd00:6e73::/64".parse().ok();
                config.guest.ip6 = "fd00:6775::2/64".parse().ok();
                config.guest.gateway_ip6 = "fd00:6775::1".parse().ok();
            }
            let id = |n| SlotId::new(n).expect("small");
            let slots = slots.into_iter().map(|(n, f)| (id(n), f)).collect();
            (Blueprint::new(&config, 1450), Observed { slots }, leased.into_iter().map(id).collect())
        })
    }

    proptest! {
        #[test]
        fn a_plan_carried_out_leaves_nothing_to_plan((blueprint, observed, leased) in pool()) {
            let plan = diff(&blueprint, &observed, &leased);
            let mut after = observed;
            apply(&mut after, &plan);
            let again = diff(&blueprint, &after, &leased);
            prop_assert!(again.is_empty(), "{again:?}");
            prop_assert_eq!(again.left_alone, plan.left_alone);
        }

        #[test]
        fn of_a_leased_slot_nothing_but_programs_is_touched((blueprint, observed, leased) in pool()) {
            let plan = diff(&blueprint, &observed, &leased);
            let made = plan.make.iter().filter(|m| !Parts::PROGRAMS.has_all(m.parts)).map(|m| m.slot);
            let touched = plan.remove.iter().map(|r| r.slot).chain(made);
            for slot in touched {
                prop_assert!(!leased.contains(&slot), "slot {slot}");
            }
        }

        #[test]
        fn every_wanted_slot_is_adopted_made_or_left_alone((blueprint, observed, leased) in pool()) {
            let plan = diff(&blueprint, &observed, &leased);
            let wanted = blueprint.slots().len();
            let left = plan.left_alone.iter().map(|l| l.slot).filter(|slot| slot.index() < wanted);
            let spoken_of: BTreeSet<SlotId> = left.chain(plan.make.iter().map(|m| m.slot)).collect();
            prop_assert_eq!(plan.adopted as usize + spoken_of.len(), wanted);
            prop_assert_eq!(&plan, &diff(&blueprint, &observed, &leased));
        }
    }
}
