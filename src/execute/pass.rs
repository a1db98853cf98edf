//! The boot pass from end to end: look, plan, turn the host's knobs, remove, make, raise, turn back; and the same for
//! a few slots at a time. Says what came of it; decides by `plan` alone.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::error::PassError;
use super::host::Host;
use super::knobs::{self, Knobs, OutOfReach};
use super::leases;
use super::make::Site;
use super::observe;
use super::parallel;
use super::programs::{Ground, Programs};
use super::progress::{PhaseTime, Progress};
use super::rules::Rules;
use super::strip;
use super::template::Template;
use crate::config::Config;
use crate::netlink::Socket;
use crate::plan::diff::{LeftAlone, Make, diff, diff_of, of_phase};
use crate::plan::{Blueprint, Found, Observed, Part, Parts, Phase, Plan};
use crate::slot::SlotId;
use crate::sys::lock::Lock;
use crate::sys::vault::{Inside, Vault};

/// What a pass is given.
pub struct Orders<'a> {
    /// The pool that should be.
    pub config: &'a Config,
    /// Slots that must not be touched.
    pub leased: &'a BTreeSet<SlotId>,
    /// Set from outside to stop the pass at the next slot.
    pub stop: &'a AtomicBool,
    /// Where it says how far it is.
    pub progress: &'a Progress,
    /// Told of slots as they become whole: first `ready_after` of them, then the rest.
    pub on_whole: &'a (dyn Fn(&[SlotId]) + Sync),
}

impl std::fmt::Debug for Orders<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orders").field("config", self.config).field("leased", self.leased).finish_non_exhaustive()
    }
}

/// What came of a pass.
#[derive(Debug)]
pub struct Summary {
    /// Slots that the pool has now.
    pub slots: u32,
    /// Of them, made from nothing.
    pub created: usize,
    /// Whole before.
    pub adopted: usize,
    /// There before, and completed.
    pub repaired: usize,
    /// Of the adopted ones, those whose programs were replaced by newer ones.
    pub refreshed: usize,
    /// Taken down.
    pub removed: usize,
    /// Leased, and not as they should be.
    pub left_alone: Vec<LeftAlone>,
    /// Host knobs that could not be turned.
    pub out_of_reach: Vec<OutOfReach>,
    /// The whole pass.
    pub took: Duration,
    /// Each phase.
    pub phases: Vec<PhaseTime>,
    /// How long each slot took in the phase that makes it, microseconds, in the order of making.
    pub slot_us: Vec<u32>,
}

/// A pass that stopped, and what stands.
#[derive(Debug, thiserror::Error)]
#[error("{error}\n{standing}; run `netslot up` again to go on from there")]
pub struct Broken {
    /// Why.
    pub error: PassError,
    /// What the pool is now.
    pub standing: Standing,
}

/// What there is of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Slots that are whole.
    pub whole: usize,
    /// Slots of which something is there.
    pub partial: usize,
    /// Slots of which nothing is there.
    pub absent: usize,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { whole, partial, absent } = self;
        write!(f, "{whole} slots are whole, {partial} half-made, {absent} not begun")
    }
}

/// Which slots a pass is about.
#[derive(Clone, Copy, Debug)]
enum Scope<'a> {
    /// The config's, and whatever lies beyond.
    Pool,
    /// These alone, taken down first where anything of them is there.
    Anew(&'a BTreeSet<SlotId>),
}

/// Brings the pool to what the config says.
///
/// # Errors
/// [`Broken`]: the first failure, or a stop, with what stands. The host's knobs are turned back in any case.
pub fn up(orders: &Orders<'_>) -> Result<Summary, Broken> {
    run(orders, Scope::Pool)
}

/// Makes those slots from nothing, taking down first what is there of them. They may lie beyond `slots`, up to
/// `slots_max`; no other slot is looked at.
///
/// # Errors
/// As [`up`].
pub fn rebuild(orders: &Orders<'_>, slots: &BTreeSet<SlotId>) -> Result<Summary, Broken> {
    run(orders, Scope::Anew(slots))
}

/// What `up` would do.
///
/// # Errors
/// [`PassError`].
pub fn dry_run(orders: &Orders<'_>) -> Result<Plan, PassError> {
    let rules = Rules::load(orders.config)?;
    let vault = Vault::open(&orders.config.run_dir)?;
    leases::must_be_known(orders.config, vault.as_ref())?;
    let mut socket = Socket::open()?;
    let root = observe::root(&mut socket)?;
    let ground = Ground::find(orders.config, &root)?;
    let programs = Programs::look(orders.config, &ground)?;
    let wanted = Wanted { ground: &ground, rules: Some(&rules), programs: programs.as_ref() };
    Ok(View::look(orders, Scope::Pool, &wanted, root, &mut socket, vault.as_ref())?.plan)
}

fn run(orders: &Orders<'_>, scope: Scope<'_>) -> Result<Summary, Broken> {
    let began = Instant::now();
    let done = carry_out(orders, scope).map_err(|error| Broken { standing: standing(orders, scope), error })?;
    let plan = done.plan;
    Ok(Summary {
        slots: u32::try_from(plan.slots()).unwrap_or(u32::MAX),
        created: plan.created(),
        adopted: plan.adopted as usize + plan.refreshed(),
        repaired: plan.repaired(),
        refreshed: plan.refreshed(),
        removed: plan.remove.len(),
        left_alone: plan.left_alone,
        out_of_reach: done.out_of_reach,
        took: began.elapsed(),
        phases: orders.progress.finished(),
        slot_us: done.slot_us,
    })
}

struct Done {
    plan: Plan,
    out_of_reach: Vec<OutOfReach>,
    slot_us: Vec<u32>,
}

fn carry_out(orders: &Orders<'_>, scope: Scope<'_>) -> Result<Done, PassError> {
    let run_dir = &orders.config.run_dir;
    let _alone = Lock::take(&run_dir.join("pass.lock"))?;
    Knobs::repair(run_dir);
    let mut socket = Socket::open()?;
    let root = socket.netns()?;
    let vault = match Vault::open(run_dir)? {
        Some(vault) => vault,
        None => Vault::make(run_dir)?,
    };
    leases::must_be_known(orders.config, Some(&vault))?;
    let rules = Rules::load(orders.config)?;
    let seen = observe::root(&mut socket)?;
    let ground = Ground::find(orders.config, &seen)?;
    let programs = match scope {
        Scope::Pool => Programs::open(orders.config, &ground)?,
        Scope::Anew(_) => Programs::of_pool(orders.config, &ground)?,
    };
    let wanted = Wanted { ground: &ground, rules: Some(&rules), programs: Some(&programs) };
    let View { blueprint, plan, .. } = View::look(orders, scope, &wanted, seen, &mut socket, Some(&vault))?;
    if plan.is_empty() {
        return Ok(Done { plan, out_of_reach: Vec::new(), slot_us: Vec::new() });
    }
    if plan.root_rules || (matches!(scope, Scope::Pool) && plan.make.iter().any(|m| m.parts.has(Part::Rules))) {
        rules.try_out(orders.config)?;
    }
    if plan.root_rules {
        rules.replace_in_root()?;
    }
    let (_turned, mut out_of_reach) = Knobs::turn(run_dir).map_err(|error| PassError::File {
        call: "record the host's knobs in",
        path: run_dir.clone(),
        error,
    })?;
    let template = Template::make(blueprint.whole().has(Part::HostRoute6), blueprint.has_tunnels())?;
    // What we cannot see may be set already: the namespace made from the template shows it.
    out_of_reach.retain(|knob| match knob.path {
        knobs::INHERIT => !template.is_inherited(),
        knobs::FALLBACK_TUNNELS => !template.is_bare(),
        _ => true,
    });
    let site = Site::open(&blueprint, &vault, &template, &root, rules.slot(), &programs)?;
    let mut host = Host { blueprint: &blueprint, socket: &mut socket, root: &root, programs: &programs };
    remove(orders, scope, &plan, &mut host, &vault)?;
    // The group message raises every host end there is: not while one of them is to be left alone.
    let as_group = matches!(scope, Scope::Pool) && plan.left_alone.is_empty();
    let mut slot_us = Vec::with_capacity(plan.make.len());
    for (number, round) in rounds(&plan, orders.config.ready_after).iter().enumerate() {
        slot_us.extend(make_round(orders, round, &site, &mut host, as_group)?);
        if number == 0 {
            programs.commit()?;
        }
        let slots: Vec<SlotId> = round.iter().map(|m| m.slot).collect();
        (orders.on_whole)(&slots);
    }
    if plan.make.is_empty() {
        programs.attach(host.socket)?;
        programs.commit()?;
    }
    Ok(Done { plan, out_of_reach, slot_us })
}

/// What a pass has found out about the pool that should be, beyond the config.
struct Wanted<'a> {
    ground: &'a Ground,
    /// `None` = not to be had, and a slot is whole without them.
    rules: Option<&'a Rules>,
    /// `None` = none are pinned that are told the same.
    programs: Option<&'a Programs>,
}

/// What there is, and what follows from it.
struct View {
    blueprint: Blueprint,
    observed: Observed,
    plan: Plan,
}

impl View {
    fn look(
        orders: &Orders<'_>,
        scope: Scope<'_>,
        wanted: &Wanted<'_>,
        root: observe::Root,
        socket: &mut Socket,
        vault: Option<&Vault>,
    ) -> Result<Self, PassError> {
        let tap_program = wanted.programs.map(Programs::tap_program).transpose()?;
        let mut blueprint = wanted.ground.blueprint(orders.config).with_tap_program(tap_program);
        if let Some(rules) = wanted.rules {
            blueprint = blueprint.with_rules(rules.slot().tables().to_vec());
        }
        let only = match scope {
            Scope::Pool => None,
            Scope::Anew(slots) => Some(slots),
        };
        let threads = orders.config.threads;
        let mut observed = observe::pool(&blueprint, vault, root, only, threads, orders.stop, orders.progress)?;
        let mut plan = match scope {
            Scope::Pool => diff(&blueprint, &observed, orders.leased),
            Scope::Anew(slots) => {
                for found in observed.slots.values_mut() {
                    *found = Found::Wrong { why: "to be made anew".into() };
                }
                diff_of(&blueprint, &observed, orders.leased, slots.iter().copied())
            }
        };
        if let Scope::Pool = scope {
            plan.root_rules = wanted.rules.map_or(Ok(false), Rules::differ_in_root)?;
            plan.host_programs = !wanted.programs.map_or(Ok(false), |programs| programs.are_attached(socket))?;
        }
        Ok(Self { blueprint, observed, plan })
    }
}

/// What stands after a pass that broke off; looked at afresh, as a failure says nothing of what came before it.
fn standing(orders: &Orders<'_>, scope: Scope<'_>) -> Standing {
    let look = || -> Result<View, PassError> {
        let orders = Orders { stop: &AtomicBool::new(false), progress: &Progress::new(), ..*orders };
        let vault = Vault::open(&orders.config.run_dir)?;
        // Where the rules are why it broke off, a slot counts without them.
        let rules = Rules::load(orders.config).ok();
        let mut socket = Socket::open()?;
        let root = observe::root(&mut socket)?;
        let ground = Ground::find(orders.config, &root)?;
        let programs = Programs::look(orders.config, &ground)?;
        let wanted = Wanted { ground: &ground, rules: rules.as_ref(), programs: programs.as_ref() };
        View::look(&orders, Scope::Pool, &wanted, root, &mut socket, vault.as_ref())
    };
    let Ok(view) = look() else { return Standing::default() };
    let wanted: Vec<SlotId> = match scope {
        Scope::Pool => view.blueprint.slots().collect(),
        Scope::Anew(slots) => slots.iter().copied().collect(),
    };
    let mut standing = Standing::default();
    for slot in wanted {
        match view.observed.slots.get(&slot) {
            Some(Found::Parts(parts)) if parts.has_all(view.blueprint.whole()) => standing.whole += 1,
            Some(_) => standing.partial += 1,
            None => standing.absent += 1,
        }
    }
    standing
}

/// The slots up to `ready_after` go through all phases first, so that the pool can be of use while the rest is made; and
/// whatever is there already, so that no slot has an older program when the new ones are pinned.
fn rounds(plan: &Plan, ready_after: Option<u32>) -> Vec<Vec<Make>> {
    let first = ready_after.unwrap_or(u32::MAX);
    let is_early = |m: &Make| m.slot.number() < first || !m.parts.has(Part::Namespace);
    let (early, late): (Vec<_>, Vec<_>) = plan.make.iter().copied().partition(is_early);
    [early, late].into_iter().filter(|round| !round.is_empty()).collect()
}

fn remove(
    orders: &Orders<'_>,
    scope: Scope<'_>,
    plan: &Plan,
    host: &mut Host<'_>,
    vault: &Vault,
) -> Result<(), PassError> {
    if plan.remove.is_empty() {
        return Ok(());
    }
    let slots: Vec<SlotId> = plan.remove.iter().map(|r| r.slot).collect();
    orders.progress.phase("remove", slots.len(), || {
        host.delete(&slots)?;
        let prepare = || Ok(vault.enter()?);
        let blueprint = host.blueprint;
        // The devices of one that only goes are the kernel's, which takes thousands of namespaces down together; so are those
        // of a whole pool that is made again, unless its tunnel devices would be in the way: one by one takes 50 ms each.
        let one_by_one = matches!(scope, Scope::Anew(_)) || blueprint.has_tunnels();
        let again = plan.make.iter().map(|make| make.slot).filter(|_| one_by_one);
        let again: BTreeSet<SlotId> = again.collect();
        let forget = |inside: &mut Inside<'_>, slot: &SlotId| {
            if again.contains(slot) {
                strip::strip(vault, *slot, blueprint.slot(*slot).tap.index);
            }
            inside.forget(*slot)?;
            orders.progress.advance(1);
            Ok(())
        };
        Ok(parallel::for_each(1, &slots, orders.stop, prepare, forget)?)
    })
}

fn make_round(
    orders: &Orders<'_>,
    round: &[Make],
    site: &Site<'_>,
    host: &mut Host<'_>,
    as_group: bool,
) -> Result<Vec<u32>, PassError> {
    let (threads, stop, progress) = (orders.config.threads, orders.stop, orders.progress);
    let [make, raise, outside] = [Phase::Make, Phase::Raise, Phase::Host].map(|phase| of_phase(round, phase));
    let times = progress.phase("make", make.len(), || site.make(&make, threads, stop, progress))?;
    progress.phase("raise", raise.len(), || site.make(&raise, threads, stop, progress))?;
    progress.phase("host", outside.len(), || host.make(&outside, as_group, stop, progress))?;
    let pairs = Parts::of(&[Part::UplinkUp, Part::HostEndUp]);
    let raised: Vec<SlotId> = round.iter().filter(|m| m.parts.has_any(pairs)).map(|m| m.slot).collect();
    progress.phase("settle", raised.len(), || host.settle(&raised, stop, progress))?;
    Ok(times)
}
