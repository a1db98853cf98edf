//! From the committed object and what is pinned to a running set of programs: adopted where it is the same, loaded
//! anew beside the old where it is not. It hangs nothing on a device.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader};
use netslot_abi::ConfigRecord;
use zerocopy::IntoBytes as _;

use super::error::DatapathError;
use super::layout::{self, Fate};
use super::{Maps, OBJECT, Program, pins, told};
use crate::sys::{bpf, thread};

/// Where the programs came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Pinned by an earlier start, of the same object and with the same configuration.
    Adopted,
    /// Loaded by this one; [`Datapath::commit`] pins them once they are attached.
    Loaded,
}

/// The programs, by where they came from.
#[derive(Debug)]
enum Programs {
    Adopted(Vec<SchedClassifier>),
    /// In the loader's hands, all of them loaded; and what they are told, to be pinned with them.
    Loaded(Ebpf, MapData),
}

/// The programs and their maps.
#[derive(Debug)]
pub struct Datapath {
    dir: PathBuf,
    record: ConfigRecord,
    programs: Programs,
    maps: Maps,
}

impl Datapath {
    /// Opens what is pinned below `dir`, and loads what is not, or is not the same.
    ///
    /// Maps that hold state are reused whatever programs come or go. Those that are made are pinned at once, so that
    /// state is never lost; programs and configuration that are made are pinned by [`Self::commit`], which the caller
    /// calls when they are attached: until then the old ones are the ones that a killed start leaves behind.
    ///
    /// # Errors
    /// [`DatapathError`].
    pub fn open(dir: &Path, record: &ConfigRecord) -> Result<Self, DatapathError> {
        pins::prepare(dir)?;
        match Self::adopted(dir, Some(record))? {
            Some(adopted) => Ok(adopted),
            None => Self::load(dir, record),
        }
    }

    /// The pinned set, if it is whole and, where `record` is given, told the same. It makes nothing.
    ///
    /// # Errors
    /// [`DatapathError`].
    pub fn adopted(dir: &Path, record: Option<&ConfigRecord>) -> Result<Option<Self>, DatapathError> {
        let Some(pinned) = told::read(dir)? else { return Ok(None) };
        if record.is_some_and(|record| pinned.as_bytes() != record.as_bytes()) {
            return Ok(None);
        }
        let mut programs = Vec::with_capacity(Program::ALL.len());
        for program in Program::ALL {
            let path = dir.join(program.name());
            if !pins::exists(&path)? {
                return Ok(None);
            }
            let failed = |error| DatapathError::Program { name: program.name(), error: Box::new(error) };
            programs.push(SchedClassifier::from_pin(&path).map_err(failed)?);
        }
        let Some(maps) = Maps::open_known(dir)?.filter(|maps| maps.is_even() && maps.slots() >= pinned.slots) else {
            return Ok(None);
        };
        Ok(Some(Self { dir: dir.into(), record: pinned, programs: Programs::Adopted(programs), maps }))
    }

    fn load(dir: &Path, record: &ConfigRecord) -> Result<Self, DatapathError> {
        let mut loader = EbpfLoader::new();
        // The programs touch no kernel structure, so the kernel's own types are not needed.
        loader.btf(None);
        let pinned = told::read(dir)?;
        let old = Maps::open_known(dir)?;
        if let (Some(pinned), Some(old)) = (&pinned, &old)
            && let Fate::Migrate(step) = layout::fate(pinned.layout_version)
        {
            old.migrate(step)?;
        }
        let slots = old.as_ref().map_or(record.slots, |old| old.slots().max(record.slots));
        // An array cannot grow: larger ones get what the old ones hold, and take their place with the new programs.
        let outgrown = old.filter(|old| !old.is_even() || old.slots() < record.slots);
        for kind in &pins::STATE {
            loader.map_max_entries(kind.name, pins::elements(kind, slots));
            if outgrown.is_none() {
                loader.map_pin_path(kind.name, dir.join(kind.name));
            }
        }
        let mut object = loader.load(OBJECT).map_err(|error| DatapathError::Object(Box::new(error)))?;
        let config = told(&mut object, dir, record)?;
        verify(&mut object)?;
        let mut state = Vec::with_capacity(pins::STATE.len());
        for kind in &pins::STATE {
            state.push(taken(&mut object, kind.name)?);
        }
        let state = <[MapData; 4]>::try_from(state).map_err(|_| DatapathError::Incomplete("maps"))?;
        let maps = Maps::of(dir, state)?;
        if let Some(old) = &outgrown {
            // Without this pin nothing is adopted or served, until `commit` makes it again.
            pins::unlink(&dir.join(pins::CONFIG.name))?;
            maps.take_over(old)?;
            maps.pin()?;
        }
        Ok(Self { dir: dir.into(), record: *record, maps, programs: Programs::Loaded(object, config) })
    }

    /// Pins programs and configuration, each in one step over its predecessor. Call it when the programs are attached.
    ///
    /// # Errors
    /// [`DatapathError::Pin`], [`DatapathError::Call`].
    pub fn commit(&self) -> Result<(), DatapathError> {
        let Programs::Loaded(_, config) = &self.programs else { return Ok(()) };
        for program in Program::ALL {
            pins::replace(&self.dir.join(program.name()), self.program(program)?)?;
        }
        // Last: without it nothing is adopted, so a half-made set is never taken for a whole one.
        pins::replace(&self.dir.join(pins::CONFIG.name), config.fd())
    }

    /// Whether the programs were there already.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self.programs {
            Programs::Adopted(_) => Origin::Adopted,
            Programs::Loaded(..) => Origin::Loaded,
        }
    }

    /// What the programs were told.
    #[must_use]
    pub const fn record(&self) -> &ConfigRecord {
        &self.record
    }

    /// A program's descriptor.
    ///
    /// # Errors
    /// [`DatapathError::Program`].
    pub fn program(&self, program: Program) -> Result<BorrowedFd<'_>, DatapathError> {
        let failed = |error| DatapathError::Program { name: program.name(), error: Box::new(error) };
        Ok(self.classifier(program)?.fd().map_err(failed)?.as_fd())
    }

    /// A program as the library knows it: for its id and for test runs.
    ///
    /// # Errors
    /// [`DatapathError::Incomplete`].
    pub fn classifier(&self, program: Program) -> Result<&SchedClassifier, DatapathError> {
        match &self.programs {
            Programs::Adopted(programs) => Ok(&programs[program as usize]),
            Programs::Loaded(object, _) => match object.program(program.name()) {
                Some(aya::programs::Program::SchedClassifier(classifier)) => Ok(classifier),
                _ => Err(DatapathError::Incomplete(program.name())),
            },
        }
    }

    /// The maps that hold state.
    #[must_use]
    pub const fn maps(&self) -> &Maps {
        &self.maps
    }

    /// A program's number in the kernel, which a filter shows.
    ///
    /// # Errors
    /// [`DatapathError::Program`].
    pub fn id(&self, program: Program) -> Result<u32, DatapathError> {
        let failed = |error| DatapathError::Program { name: program.name(), error: Box::new(error) };
        Ok(self.classifier(program)?.info().map_err(failed)?.id())
    }
}

/// Writes what the programs are told, and freezes it.
fn told(object: &mut Ebpf, dir: &Path, record: &ConfigRecord) -> Result<MapData, DatapathError> {
    let failed = |error| DatapathError::Map { path: dir.join(pins::CONFIG.name), error: Box::new(error) };
    let mut map = object.take_map(pins::CONFIG.name).ok_or(DatapathError::Incomplete("config map"))?;
    let bytes: [u8; size_of::<ConfigRecord>()] = zerocopy::transmute!(*record);
    let mut array = Array::<_, [u8; size_of::<ConfigRecord>()]>::try_from(&mut map).map_err(failed)?;
    array.set(0, bytes, 0).map_err(failed)?;
    let Map::Array(data) = map else { return Err(DatapathError::Incomplete("config map")) };
    bpf::freeze(data.fd()).map_err(DatapathError::Freeze)?;
    Ok(data)
}

fn taken(object: &mut Ebpf, name: &'static str) -> Result<MapData, DatapathError> {
    match object.take_map(name) {
        Some(Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data)) => Ok(data),
        _ => Err(DatapathError::Incomplete(name)),
    }
}

/// Gives each program to the kernel on a thread of its own: what takes the time is the verifier, which holds no lock
/// (0.4 s for all of them, one after another).
fn verify(object: &mut Ebpf) -> Result<(), DatapathError> {
    let mut classifiers: BTreeMap<String, &mut SchedClassifier> = BTreeMap::new();
    for (name, program) in object.programs_mut() {
        if let aya::programs::Program::SchedClassifier(classifier) = program {
            classifiers.insert(name.to_owned(), classifier);
        }
    }
    let mut wanted = Vec::with_capacity(Program::ALL.len());
    for name in Program::ALL.map(Program::name) {
        wanted.push((name, classifiers.remove(name).ok_or(DatapathError::Incomplete(name))?));
    }
    std::thread::scope(|scope| {
        let load = |(name, classifier): (&'static str, &mut SchedClassifier)| {
            classifier.load().map_err(|error| DatapathError::Program { name, error: Box::new(error) })
        };
        let threads: Vec<_> = wanted.into_iter().map(|one| thread::beside(scope, move || load(one))).collect();
        threads.into_iter().try_for_each(|started| {
            let loaded = started.map_err(DatapathError::Thread)?.join();
            loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}
