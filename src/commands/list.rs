//! `netslot list`: all slots, or those that the filters leave.

use netslot_protocol::snapshot::Slot;

use super::output::Output;
use super::view::{SlotView, slot_table};
use super::{Context, Exit, Failure, daemon};
use crate::cli::ListArgs;

/// Lists.
pub(super) fn run(args: &ListArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let listing = daemon::connect(context)?.list()?;
    let wanted = listing.slots.iter().filter(|slot| wants(args, slot));
    let slots: Vec<SlotView> = wanted.map(|slot| SlotView::new(slot, listing.taken_at_ns, "")).collect();
    if out.json() {
        out.value(&slots)?
    } else {
        out.table(&slot_table(&slots))?
    }
    Ok(Exit::Ok)
}

/// Whether every filter lets the slot through; those by owner let no slot through that has none.
fn wants(args: &ListArgs, slot: &Slot) -> bool {
    let state = args.state.is_none_or(|state| state as u8 == slot.state.number());
    let uid = args.uid.is_none_or(|uid| slot.owner.is_some_and(|owner| owner.uid == uid));
    let tag = args.tag.as_ref().is_none_or(|tag| slot.owner.is_some_and(|owner| *owner.tag == **tag));
    state && uid && tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use netslot_abi::SlotState;
    use netslot_protocol::snapshot::Owner;
    use netslot_protocol::{Policy, State, Text};

    #[test]
    fn filters_narrow_each_other() {
        let free = Slot { slot: 0, generation: 2, state: State::Free, reason: 0, owner: None, binding: None };
        let leased = |slot, uid, tag: &str| {
            let owner = Owner { uid, gid: 0, pid: 1, since_ns: 0, policy: Policy::Explicit, tag: Text::cut(tag) };
            Slot { slot, state: State::Leased, owner: Some(owner), ..free }
        };
        let pool = [free, leased(1, 0, ""), leased(2, 1000, "a"), leased(3, 1000, "b")];
        let left = |state, uid, tag: Option<&str>| {
            let args = ListArgs { state, uid, tag: tag.map(str::to_owned) };
            pool.iter().filter(|slot| wants(&args, slot)).map(|slot| slot.slot).collect::<Vec<_>>()
        };
        assert_eq!(left(None, None, None), [0, 1, 2, 3]);
        assert_eq!(left(Some(SlotState::Leased), None, None), [1, 2, 3]);
        assert_eq!(left(Some(SlotState::Quarantined), None, None), [0; 0]);
        assert_eq!(left(None, Some(1000), None), [2, 3]);
        assert_eq!(left(None, Some(1000), Some("b")), [3]);
        assert_eq!(left(Some(SlotState::Free), None, Some("b")), [0; 0]);
    }
}
