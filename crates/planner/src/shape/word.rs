//! The words that a job may use in its tags, and what somebody probably meant who used another.

/// A word of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    Cpu,
    Memory,
    Disk,
    DiskType,
    LocalSsd,
    Arch,
    Family,
    Gpu,
    Image,
    Spot,
    Time,
    Zone,
    Region,
    Class,
}

impl Word {
    pub(crate) const ALL: [Self; 14] = [
        Self::Cpu,
        Self::Memory,
        Self::Disk,
        Self::DiskType,
        Self::LocalSsd,
        Self::Arch,
        Self::Family,
        Self::Gpu,
        Self::Image,
        Self::Spot,
        Self::Time,
        Self::Zone,
        Self::Region,
        Self::Class,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::DiskType => "disk-type",
            Self::LocalSsd => "local-ssd",
            Self::Arch => "arch",
            Self::Family => "family",
            Self::Gpu => "gpu",
            Self::Image => "image",
            Self::Spot => "spot",
            Self::Time => "time",
            Self::Zone => "zone",
            Self::Region => "region",
            Self::Class => "class",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "cpu" => Self::Cpu,
            "memory" => Self::Memory,
            "disk" => Self::Disk,
            "disk-type" => Self::DiskType,
            "local-ssd" => Self::LocalSsd,
            "arch" => Self::Arch,
            "family" => Self::Family,
            "gpu" => Self::Gpu,
            "image" => Self::Image,
            "spot" => Self::Spot,
            "time" => Self::Time,
            "zone" => Self::Zone,
            "region" => Self::Region,
            "class" => Self::Class,
            _ => return None,
        })
    }
}

/// What people write who mean a word of ours: too far from it for a count of letters to see.
const SYNONYMS: [(&str, Word); 16] = [
    ("mem", Word::Memory),
    ("ram", Word::Memory),
    ("cpus", Word::Cpu),
    ("cores", Word::Cpu),
    ("vcpu", Word::Cpu),
    ("vcpus", Word::Cpu),
    ("storage", Word::Disk),
    ("disk-size", Word::Disk),
    ("ssd", Word::LocalSsd),
    ("architecture", Word::Arch),
    ("machine-family", Word::Family),
    ("gpus", Word::Gpu),
    ("preemptible", Word::Spot),
    ("timeout", Word::Time),
    ("size", Word::Class),
    ("instance-class", Word::Class),
];

/// The tag that was probably meant: a word of a shape, or one of `others`.
pub(crate) fn nearest_tag<'a>(tag: &str, others: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = tag.to_lowercase().replace('_', "-");
    if let Some((_, word)) = SYNONYMS.iter().find(|(synonym, _)| *synonym == plain) {
        return Some(word.name());
    }
    let words = Word::ALL.into_iter().map(|word| -> &'a str { word.name() });
    nearest(&plain, words.chain(others))
}

/// The candidate that is at most a third of its letters away from `text`, if there is one.
pub(crate) fn nearest<'a>(
    text: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // A tag may be as long as somebody likes, and the distance takes the product of both lengths.
    if text.len() > 64 {
        return None;
    }
    candidates
        .filter_map(|candidate| {
            let most = (candidate.len() / 3).max(1);
            // A distance is never less than the difference in length, and far dearer to find.
            let near = candidate.len().abs_diff(text.len()) <= most;
            let distance = near.then(|| strsim::osa_distance(text, candidate))?;
            (distance <= most).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
