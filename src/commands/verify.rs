//! `netslot verify` and `netslot show --diff`: slots held against what they were made as; changes nothing in them.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netslot_abi::SlotState;
use serde::Serialize;

use super::output::{Output, visible};
use super::{Context, Exit, Failure, daemon, pool};
use crate::cli::VerifyArgs;
use crate::config::Config;
use crate::execute::{self, PassError};
use crate::fingerprint::{Line, line};
use crate::scrub::{Eyes, PristineError, ScrubError, Site, census};
use crate::slot::SlotId;
use crate::sys::vault::Vault;

/// A slot may be given back between two looks: one that differs is looked at again for so long.
const PATIENCE: Duration = Duration::from_millis(200);
/// A socket that was closed, as one is by each look, counts until a grace period is over, on a busy host half a second: one
/// that differs also by what goes of its own accord is looked at for so long.
const PATIENCE_WITH_TRACES: Duration = Duration::from_secs(2);
/// Between the first two looks; between the later ones, twice as long each time, so that the last is long after the one
/// before it.
const PAUSE: Duration = Duration::from_millis(20);

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Slots that are as they were made.
    equal: usize,
    /// Slots that are not.
    differ: Vec<Differing>,
    /// Slots that are being made or cleaned.
    passed_over: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Differing {
    slot: u32,
    state: Option<&'static str>,
    differences: Vec<Line>,
}

/// What is to be said of one slot.
enum Seen {
    Equal,
    Differs(Vec<Line>),
    PassedOver,
}

impl From<ScrubError> for Failure {
    fn from(error: ScrubError) -> Self {
        let exit = if error.is_permission() { Exit::Unreachable } else { Exit::Failed };
        Self::new(exit, error)
    }
}

impl From<PristineError> for Failure {
    fn from(error: PristineError) -> Self {
        match error {
            PristineError::Make(error) => error.into(),
            PristineError::Look(error) => (*error).into(),
            PristineError::Restless => Self::new(Exit::Failed, error),
        }
    }
}

/// Verifies.
pub(super) fn run(args: &VerifyArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let verifier = Verifier::open(context)?;
    let slots =
        if args.slots.is_empty() { verifier.vault.slots().map_err(PassError::from)? } else { args.slots.clone() };
    let mut report = Report { equal: 0, differ: Vec::new(), passed_over: Vec::new() };
    for (slot, seen) in verifier.look(&slots)? {
        match seen {
            Seen::Equal => report.equal += 1,
            Seen::PassedOver => report.passed_over.push(slot.number()),
            Seen::Differs(differences) => {
                let state = verifier.state(slot)?.map(SlotState::name);
                report.differ.push(Differing { slot: slot.number(), state, differences });
            }
        }
    }
    let exit = if report.differ.is_empty() { Exit::Ok } else { Exit::Differs };
    if out.json() {
        out.value(&report)?;
        return Ok(exit);
    }
    for Differing { slot, state, differences } in &report.differ {
        let state = state.map(|state| format!(" ({state})")).unwrap_or_default();
        out.line(format_args!("slot {slot}{state} is not as it was made:"))?;
        for line in differences {
            out.line(format_args!("  {}", visible(&line.to_string())))?;
        }
    }
    let over = match report.passed_over.len() {
        0 => String::new(),
        some => format!("; {some} are being made or cleaned"),
    };
    out.line(format_args!("{} slots are as they were made, {} are not{over}", report.equal, report.differ.len()))?;
    Ok(exit)
}

/// Shows the differences of one slot.
pub(super) fn show(slot: SlotId, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let verifier = Verifier::open(context)?;
    let seen = verifier.look(&[slot])?.remove(&slot);
    let differences = match seen {
        Some(Seen::Differs(differences)) => differences,
        Some(Seen::Equal) => Vec::new(),
        Some(Seen::PassedOver) | None => {
            return Err(Failure::because(Exit::Failed, format!("slot {slot} is being made or cleaned")));
        }
    };
    if out.json() {
        out.value(&differences)?;
    } else {
        for line in &differences {
            out.line(visible(&line.to_string()))?;
        }
    }
    Ok(if differences.is_empty() { Exit::Ok } else { Exit::Differs })
}

/// What it takes to look.
struct Verifier {
    config: Arc<Config>,
    vault: Vault,
    site: Site,
    /// Whether a daemon makes and cleans slots meanwhile.
    served: bool,
}

impl Verifier {
    fn open(context: &Context) -> Result<Self, Failure> {
        let config = Arc::new(context.config()?);
        let Some(vault) = Vault::open(&config.run_dir).map_err(PassError::from)? else {
            return Err(Failure::because(Exit::Failed, "there is no pool: 'netslot up' makes one"));
        };
        let blueprint = execute::blueprint(&config)?;
        let opened = Site::open(&config, blueprint);
        let failed = |error| PassError::File { call: "open", path: "/dev/net".into(), error };
        let site = opened.map_err(failed)?;
        let served = daemon::connect(context).is_ok();
        Ok(Self { config, vault, site, served })
    }

    fn state(&self, slot: SlotId) -> Result<Option<SlotState>, Failure> {
        Ok(pool::states(&self.config)?.get(&slot).copied().flatten())
    }

    /// Looks at each, on as many threads as a pass uses; at those that differ once more, until they have had their time.
    fn look(&self, slots: &[SlotId]) -> Result<BTreeMap<SlotId, Seen>, Failure> {
        let began = Instant::now();
        let mut all = self.look_once(slots)?;
        let mut pause = PAUSE;
        loop {
            let may_pass = |lines: &[Line]| {
                let patience = if lines.iter().any(|line| line.trace) { PATIENCE_WITH_TRACES } else { PATIENCE };
                began.elapsed() < patience
            };
            let again = all.iter().filter(|(_, seen)| matches!(seen, Seen::Differs(lines) if may_pass(lines)));
            let again: Vec<SlotId> = again.map(|(slot, _)| *slot).collect();
            if again.is_empty() {
                return Ok(all);
            }
            std::thread::sleep(pause);
            pause *= 2;
            all.extend(self.look_once(&again)?);
        }
    }

    fn look_once(&self, slots: &[SlotId]) -> Result<BTreeMap<SlotId, Seen>, Failure> {
        let states = pool::states(&self.config)?;
        let census = census();
        let all = Mutex::new(BTreeMap::new());
        let look = |eyes: &mut Eyes, slot: &SlotId| -> Result<(), Failure> {
            let leased = match states.get(slot).copied().flatten() {
                None | Some(SlotState::Free | SlotState::Quarantined) => false,
                // Before the first daemon, all records say so.
                Some(SlotState::Building) if !self.served => false,
                Some(SlotState::Leased) => true,
                Some(SlotState::Building | SlotState::Scrubbing | SlotState::Rebuilding) => {
                    all.lock().expect("no holder panics").insert(*slot, Seen::PassedOver);
                    return Ok(());
                }
            };
            let namespace = self.vault.netns(*slot).map_err(PassError::from)?;
            let namespace =
                namespace.ok_or_else(|| Failure::because(Exit::Failed, format!("there is no slot {slot}")))?;
            let mut differences = self.site.differences(eyes, *slot, namespace.as_fd(), &census)?;
            differences.retain(|difference| !(leased && difference.is_trace()));
            let spec = self.site.blueprint().slot(*slot);
            let lines: Vec<Line> = differences.iter().flat_map(|difference| line(difference, &spec)).collect();
            let seen = if lines.is_empty() { Seen::Equal } else { Seen::Differs(lines) };
            all.lock().expect("no holder panics").insert(*slot, seen);
            Ok(())
        };
        let never = AtomicBool::new(false);
        let looked = execute::for_each(self.config.threads, slots, &never, || Ok(Eyes::default()), look);
        match looked {
            Ok(()) | Err(execute::Halt::Stopped) => Ok(all.into_inner().expect("no holder panics")),
            Err(execute::Halt::Failed(error)) => Err(error),
            Err(execute::Halt::NoThread(errno)) => Err(PassError::Call { call: "start a thread", errno }.into()),
        }
    }
}
