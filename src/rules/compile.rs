//! Rules in text → an image: loaded into a scratch namespace by nft or iptables themselves, dumped, put in order, and
//! replayed into a second one to see that the kernel takes them.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::dump::dump;
use super::error::RulesError;
use super::image::{Image, Purpose, Source};
use super::normal::Ruleset;
use super::object::Object;
use super::place::Uncapturable;
use super::replay::Replay;
use super::scratch;
use super::source::{self, Syntax};
use crate::address::inside;
use crate::limits::{RULES_LOOK_PAUSE_MS, RULES_LOOKS, RULES_SOURCES_MAX};
use crate::netlink::{Protocol, Socket};
use crate::slot::LinkName;

/// What is compiled, and for where.
#[derive(Debug)]
pub struct Order<'a> {
    /// The files; read once more by the programs that compile them.
    pub sources: &'a [(PathBuf, Source)],
    /// How all of them are written; `None` = each as it looks.
    pub syntax: Option<Syntax>,
    /// Where the rules are for.
    pub purpose: Purpose,
    /// Name of the tap in slots.
    pub tap: LinkName,
}

/// Compiles the files into one image.
///
/// # Errors
/// [`RulesError`].
pub fn compile(order: &Order<'_>) -> Result<Image, RulesError> {
    if order.sources.len() > RULES_SOURCES_MAX {
        return Err(RulesError::TooManySources(order.sources.len()));
    }
    let sources: Vec<Source> = order.sources.iter().map(|(_, source)| source.clone()).collect();
    let loaded = scratch::within(order.purpose, order.tap, || {
        load_all(order)?;
        settled(|| Ok(dump(&mut Socket::open_to(Protocol::Netfilter)?)?), |a, b| says_the_same(a, b))
    })?;
    let owned = sources.iter().find_map(source::owned_table);
    let rules = owned.map_or_else(|| Ruleset::of_dump(&loaded), Err).and_then(|rules| fits_every_slot(rules, order));
    let rules = rules.map_err(|error| uncapturable(&sources, &error))?;
    let image = Image { purpose: order.purpose, sources, features: rules.features(), rules };
    let again = replayed(order, &image, |socket| settled(|| Ok(dump(socket)?), |a, b| says_the_same(a, b)))?;
    let again = Ruleset::of_dump(&again).map_err(|error| uncapturable(&image.sources, &error))?;
    if again == image.rules { Ok(image) } else { Err(difference(&image, &again)) }
}

/// Asks until two answers in a row are the same. A hash that is still growing when it is dumped shows some elements twice
/// and others not at all: a dump of many messages goes on behind as many elements as it has shown, and they have moved
/// (nf_tables_dump_set, net/netfilter/nf_tables_api.c; nft's listing of 2,000 addresses just loaded lacked two, once in
/// some hundred runs on 6.18).
fn settled<T>(
    mut ask: impl FnMut() -> Result<T, RulesError>,
    is_same: impl Fn(&T, &T) -> bool,
) -> Result<T, RulesError> {
    let mut last = ask()?;
    for _ in 0..RULES_LOOKS {
        let next = ask()?;
        if is_same(&last, &next) {
            return Ok(next);
        }
        last = next;
        std::thread::sleep(Duration::from_millis(RULES_LOOK_PAUSE_MS));
    }
    Ok(last)
}

fn says_the_same(a: &[Object], b: &[Object]) -> bool {
    Ruleset::of_dump(a).ok() == Ruleset::of_dump(b).ok()
}

/// What the work finds in a scratch namespace that has the image's rules.
fn replayed<R: Send, E: Into<RulesError>>(
    order: &Order<'_>,
    image: &Image,
    work: impl FnOnce(&mut Socket) -> Result<R, E> + Send,
) -> Result<R, RulesError> {
    let untakeable = |error| RulesError::Untakeable { file: file_names(image), error };
    let replay = Replay::new(image).map_err(untakeable)?;
    scratch::within(order.purpose, order.tap, || {
        let mut socket = Socket::open_to(Protocol::Netfilter)?;
        replay.make(&mut socket).map_err(untakeable)?;
        work(&mut socket).map_err(Into::into)
    })
}

fn uncapturable(sources: &[Source], error: &Uncapturable) -> RulesError {
    RulesError::Uncapturable { place: source::place(sources, &error.words), words: error.to_string() }
}

/// Has this kernel make the rules of an image in a scratch namespace: what it lacks shows there, not in the first slot.
///
/// # Errors
/// [`RulesError::Untakeable`].
pub fn try_out(replay: &Replay, image: &Image, file: &Path, tap: LinkName) -> Result<(), RulesError> {
    scratch::within(image.purpose, tap, || {
        let mut socket = Socket::open_to(Protocol::Netfilter)?;
        let refused = |error| RulesError::Untakeable { file: file.display().to_string(), error };
        replay.make(&mut socket).map_err(refused)
    })
}

/// Holds nft's own listing of the sources against that of the image, each in a namespace of its own.
///
/// # Errors
/// [`RulesError::Differs`] with the first line that does.
pub fn check(order: &Order<'_>, image: &Image) -> Result<(), RulesError> {
    let was = scratch::within(order.purpose, order.tap, || {
        load_all(order)?;
        settled(|| listing(&["-s"]), String::eq)
    })?;
    let is = replayed(order, image, |_| settled(|| listing(&["-s"]), String::eq))?;
    if was == is {
        return Ok(());
    }
    let (mut was, mut is) = (was.lines(), is.lines());
    loop {
        let (a, b) = (was.next(), is.next());
        if a != b {
            let line = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
            return Err(RulesError::Differs { file: file_names(image), was: line(a), is: line(b) });
        }
        if a.is_none() {
            return Ok(()); // they differ in line ends alone
        }
    }
}

/// What `nft list ruleset` says in the calling thread's namespace; with `-s` without counts and what was used.
///
/// # Errors
/// [`RulesError::NoTool`], [`RulesError::Run`], [`RulesError::Refused`].
pub fn listing(options: &[&str]) -> Result<String, RulesError> {
    let args: Vec<&OsStr> = options.iter().chain(&["list", "ruleset"]).map(OsStr::new).collect();
    let output = run(Syntax::Nft, &args, Path::new("the listing"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(RulesError::Refused { tool: Syntax::Nft.tool(), path: "list ruleset".into(), words: words(&output), hint: "" })
}

fn load_all(order: &Order<'_>) -> Result<(), RulesError> {
    order.sources.iter().try_for_each(|(path, source)| {
        let syntax = order.syntax.unwrap_or_else(|| Syntax::of(&source.text));
        load(path, syntax, order.purpose)
    })
}

fn load(path: &Path, syntax: Syntax, purpose: Purpose) -> Result<(), RulesError> {
    // Absolute, as a name that begins with '-' would be an option.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let args: &[&OsStr] = match syntax {
        Syntax::Nft => &[OsStr::new("-f"), absolute.as_os_str()],
        Syntax::Iptables | Syntax::Ip6tables => &[absolute.as_os_str()],
    };
    let output = run(syntax, args, path)?;
    if output.status.success() {
        return Ok(());
    }
    let words = words(&output);
    let device = ["device", "nterface"].iter().any(|word| words.contains(word));
    let hint = match (device, purpose) {
        (false, _) => "",
        (true, Purpose::Slot) => {
            "\nthe devices in a slot are lo, br0, up0 and the tap; a rule that names another by iifname or oifname is \
             taken, and matches nothing"
        }
        (true, Purpose::Root) => {
            "\nthe host's rules are compiled where no device is but lo: name devices by iifname and oifname"
        }
    };
    Err(RulesError::Refused { tool: syntax.tool(), path: path.into(), words, hint })
}

/// Runs a program to its end, in plain English, and found where a boot stage has no PATH.
fn run(syntax: Syntax, args: &[&OsStr], path: &Path) -> Result<Output, RulesError> {
    let (tool, package) = (syntax.tool(), syntax.package());
    let dirs = format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(tool).args(args).env("LC_ALL", "C").env("PATH", dirs).stdin(Stdio::null()).output();
    output.map_err(|error| match error.kind() == io::ErrorKind::NotFound {
        true => RulesError::NoTool { tool, package, path: path.into() },
        false => RulesError::Run { tool, error },
    })
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

/// Refuses rules that hold the index of a tap, or hang on a device that no slot has. (From 6.16 on the kernel takes the
/// name of a device that may come later.)
fn fits_every_slot(rules: Ruleset, order: &Order<'_>) -> Result<Ruleset, Uncapturable> {
    let tap = order.tap.as_str();
    let index = scratch::TAP_INDEX.0;
    let in_slots = ["lo", inside::BRIDGE, inside::UP, tap];
    for (at, object) in rules.objects().iter().enumerate() {
        if object.attributes.windows(4).any(|bytes| bytes == index.to_ne_bytes() || bytes == index.to_be_bytes()) {
            let why = format!(
                "it holds the index of {tap}, which is another in every slot: write iifname or oifname \"{tap}\" in \
                 place of iif or oif"
            );
            return Err(Uncapturable { object: rules.name(at), why, words: vec!["if ".into(), tap.into()] });
        }
        let foreign = object.devices().into_iter().find(|name| !in_slots.contains(&name.as_str()));
        if let Some(name) = foreign.filter(|_| order.purpose == Purpose::Slot) {
            let why = format!("it hangs on {name}, and the devices in a slot are {}", in_slots.join(", "));
            return Err(Uncapturable { object: object.to_string(), why, words: vec![name] });
        }
    }
    Ok(rules)
}

fn difference(image: &Image, again: &Ruleset) -> RulesError {
    let length = image.rules.objects().len().max(again.objects().len());
    let differs = |at: &usize| image.rules.objects().get(*at) != again.objects().get(*at);
    let at = (0..length).find(differs).unwrap_or_default();
    let told = |rules: &Ruleset| match rules.objects().get(at) {
        Some(object) => format!("{}, {} bytes", rules.name(at), object.attributes.len()),
        None => "(the end)".into(),
    };
    RulesError::Differs { file: file_names(image), was: told(&image.rules), is: told(again) }
}

fn file_names(image: &Image) -> String {
    let names: Vec<&str> = image.sources.iter().map(|source| source.name.as_str()).collect();
    names.join(", ")
}
