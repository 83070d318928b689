//! A shape as far as somebody spelled it out: a job's tags, a class, a queue's defaults. Values are
//! parsed here and nowhere else; what is missing is filled in, and what is too much refused, by
//! whoever has the policy.

use std::time::Duration;

use super::word::{Word, nearest};
use super::{
    Bytes, Cpu, SizeError, TagError, parse_count, parse_cpu, parse_duration, parse_size, shown,
};
use crate::{Arch, Spot};

/// Google sells local SSD in these pieces; who asks for a size gets enough of them.
pub const LOCAL_SSD_GIB: u32 = 375;

/// Names are passed on to backends: longer ones, or ones with other characters, are nobody's.
const NAME_LENGTH: usize = 255;

/// What was spelled out; texts are borrowed from where they stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wish<'a> {
    pub(crate) cpu: Option<Cpu>,
    pub(crate) memory: Option<Bytes>,
    pub(crate) disk: Option<Bytes>,
    pub(crate) disk_type: Option<&'a str>,
    pub(crate) local_ssds: Option<u32>,
    pub(crate) arch: Option<Arch>,
    /// `n2,n2d`, checked.
    pub(crate) family: Option<&'a str>,
    pub(crate) gpu: Option<&'a str>,
    pub(crate) image: Option<&'a str>,
    pub(crate) spot: Option<Spot>,
    pub(crate) time: Option<Duration>,
    pub(crate) zone: Option<&'a str>,
    pub(crate) region: Option<&'a str>,
    pub(crate) class: Option<&'a str>,
}

impl<'a> Wish<'a> {
    /// Takes one word in. `*` and nothing at all mean "any", which is what the defaults are for.
    pub(crate) fn set(&mut self, word: Word, value: &'a str) -> Result<(), TagError> {
        let text = value.trim();
        if text.is_empty() || text == "*" {
            return Ok(());
        }
        self.parse(word, text).map_err(|SizeError { problem, remedy }| TagError {
            tag: shown_pair(word.name(), value),
            problem,
            remedy: remedy_for(word, &remedy),
        })
    }

    fn parse(&mut self, word: Word, text: &'a str) -> Result<(), SizeError> {
        match word {
            Word::Cpu => self.cpu = Some(positive(parse_cpu(text)?, "vCPUs", "2")?),
            Word::Memory => self.memory = Some(positive(parse_size(text)?, "memory", "4G")?),
            Word::Disk => self.disk = Some(positive(parse_size(text)?, "disk", "20G")?),
            Word::DiskType => self.disk_type = Some(parse_name(text, "pd-balanced")?),
            Word::LocalSsd => self.local_ssds = Some(parse_local_ssds(text)?),
            Word::Arch => self.arch = Some(parse_arch(text)?),
            Word::Family => {
                for family in text.split(',') {
                    parse_name(family.trim(), "n2 or n2,n2d")?;
                }
                self.family = Some(text);
            }
            Word::Gpu => self.gpu = Some(parse_name(text, "nvidia-l4 or nvidia-l4:2")?),
            Word::Image => self.image = Some(parse_name(text, "ci-debian-12")?),
            Word::Spot => self.spot = Some(parse_spot(text)?),
            Word::Time => self.time = Some(positive(parse_duration(text)?, "time", "30m")?),
            Word::Zone => self.zone = Some(parse_name(text, "europe-west4-a")?),
            Word::Region => self.region = Some(parse_name(text, "europe-west4")?),
            Word::Class => self.class = Some(text),
        }
        Ok(())
    }

    /// The same wish, with what it leaves open taken from `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.or(other.cpu),
            memory: self.memory.or(other.memory),
            disk: self.disk.or(other.disk),
            disk_type: self.disk_type.or(other.disk_type),
            local_ssds: self.local_ssds.or(other.local_ssds),
            arch: self.arch.or(other.arch),
            family: self.family.or(other.family),
            gpu: self.gpu.or(other.gpu),
            image: self.image.or(other.image),
            spot: self.spot.or(other.spot),
            time: self.time.or(other.time),
            zone: self.zone.or(other.zone),
            region: self.region.or(other.region),
            class: self.class.or(other.class),
        }
    }
}

/// Whether `tag` is a word of a shape and `value` one that it can have: what the configuration asks
/// about its classes and defaults. `None` where the word is not one of ours.
#[must_use]
pub fn check_tag(tag: &str, value: &str) -> Option<Result<(), TagError>> {
    Word::from_name(tag).map(|word| Wish::default().set(word, value))
}

/// `memory=64GB!`, cut where it is long: what a reader finds again in the pipeline.
pub(crate) fn shown_pair(name: &str, value: &str) -> String {
    crate::words::crop(&format!("{name}={value}"), 80)
}

/// `write 64G` becomes `write memory: 64G`, as it stands in a pipeline.
fn remedy_for(word: Word, remedy: &str) -> String {
    let name = word.name();
    match remedy.strip_prefix("write ") {
        Some(value) if !value.starts_with(name) => format!("write {name}: {value}"),
        Some(_) | None => remedy.to_string(),
    }
}

fn positive<T: Default + PartialEq>(value: T, what: &str, example: &str) -> Result<T, SizeError> {
    if value == T::default() {
        return Err(SizeError::new(format!("no machine has 0 {what}"), format!("write {example}")));
    }
    Ok(value)
}

/// A count, or a size that is rounded up to whole disks.
fn parse_local_ssds(text: &str) -> Result<u32, SizeError> {
    let remedy = "write 2 (disks of 375 GiB) or 750G";
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_count(text).map_err(|error| SizeError::new(error.problem, remedy));
    }
    let bytes = parse_size(text).map_err(|error| SizeError::new(error.problem, remedy))?;
    u32::try_from(bytes.get().div_ceil(Bytes::gib(LOCAL_SSD_GIB.into()).get()))
        .map_err(|_| SizeError::new(format!("{} is too large", shown(text)), remedy))
}

fn parse_arch(text: &str) -> Result<Arch, SizeError> {
    match text {
        "amd64" | "x86_64" | "x86-64" | "x64" => Ok(Arch::Amd64),
        "arm64" | "aarch64" => Ok(Arch::Arm64),
        _ => Err(SizeError::new(
            format!("{} is not an architecture", shown(text)),
            "write amd64 or arm64",
        )),
    }
}

/// The four words; `true` and `false` for who thinks of it as a switch.
fn parse_spot(text: &str) -> Result<Spot, SizeError> {
    match text {
        "allow" => Ok(Spot::Allow),
        "prefer" | "true" => Ok(Spot::Prefer),
        "require" => Ok(Spot::Require),
        "never" | "false" => Ok(Spot::Never),
        _ => {
            let near = nearest(text, ["allow", "prefer", "require", "never"].into_iter());
            let problem = format!("{} is not a word for spot", shown(text));
            let remedy = match near {
                Some(near) => format!("write {near} (or allow, prefer, require, never)"),
                None => "write allow, prefer, require or never".to_string(),
            };
            Err(SizeError::new(problem, remedy))
        }
    }
}

/// A name as clouds and registries have them; anything else would only fail later, and less clearly.
fn parse_name<'a>(text: &'a str, example: &str) -> Result<&'a str, SizeError> {
    let remedy = format!("write a name such as {example}");
    if text.is_empty() {
        return Err(SizeError::new("a name is missing", remedy));
    }
    if text.len() > NAME_LENGTH {
        return Err(SizeError::new(format!("it is longer than {NAME_LENGTH} characters"), remedy));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        None => Ok(text),
        Some(wrong) => {
            Err(SizeError::new(format!("a name cannot contain {}", wrong.escape_debug()), remedy))
        }
    }
}
