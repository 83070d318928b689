//! Which machine types there are, what they have, and what goes with them: custom sizes, local
//! disks, kinds of disks. The rules are the documented ones, cut down to what a check needs.

/// What is known of a series.
struct Series {
    name: &'static str,
    /// The sizes of its predefined types, and MiB of memory for each vCPU by kind.
    cpus: &'static [u32],
    kinds: &'static [(&'static str, u32)],
    custom: Option<Custom>,
    /// Up to so many vCPUs, these numbers of local disks; none at all if it is empty.
    local_ssds: &'static [(u32, &'static [u32])],
    disks: Disks,
    arm: bool,
    /// The quota that its vCPUs count for.
    quota: &'static str,
}

/// Custom sizes: even numbers of vCPUs (and one, where it may be), so many MiB for each.
struct Custom {
    one: bool,
    most_cpus: u32,
    least_mb: u32,
    most_mb: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Disks {
    Persistent,
    Both,
    Hyperdisk,
}

const STANDARD: &[(&str, u32)] = &[("standard", 4_096), ("highmem", 8_192), ("highcpu", 1_024)];
const OLD: &[(&str, u32)] = &[("standard", 3_840), ("highmem", 6_656), ("highcpu", 922)];
const EVEN: &[u32] = &[2, 4, 8, 16, 32, 48, 64, 80];
const SIZES_N1: &[u32] = &[1, 2, 4, 8, 16, 32, 64, 96];
const MANY: &[u32] = &[1, 2, 4, 8, 16, 24];
const N2_SSDS: &[(u32, &[u32])] = &[
    (10, MANY),
    (20, &[2, 4, 8, 16, 24]),
    (40, &[4, 8, 16, 24]),
    (80, &[8, 16, 24]),
    (128, &[16, 24]),
];
const N2D_SSDS: &[(u32, &[u32])] =
    &[(16, MANY), (48, &[2, 4, 8, 16, 24]), (80, &[4, 8, 16, 24]), (224, &[8, 16, 24])];
const N1_SSDS: &[(u32, &[u32])] = &[(96, &[1, 2, 3, 4, 5, 6, 7, 8, 16, 24])];

const fn custom(one: bool, most_cpus: u32, least_mb: u32, most_mb: u32) -> Option<Custom> {
    Some(Custom { one, most_cpus, least_mb, most_mb })
}

const SERIES: &[Series] = &[
    Series {
        name: "e2",
        cpus: &[2, 4, 8, 16, 32],
        kinds: STANDARD,
        custom: custom(false, 32, 512, 8_192),
        local_ssds: &[],
        disks: Disks::Persistent,
        arm: false,
        quota: "CPUS",
    },
    Series {
        name: "n1",
        cpus: SIZES_N1,
        kinds: OLD,
        custom: custom(true, 96, 922, 6_656),
        local_ssds: N1_SSDS,
        disks: Disks::Persistent,
        arm: false,
        quota: "CPUS",
    },
    Series {
        name: "n2",
        cpus: EVEN,
        kinds: STANDARD,
        custom: custom(false, 128, 512, 8_192),
        local_ssds: N2_SSDS,
        disks: Disks::Both,
        arm: false,
        quota: "N2_CPUS",
    },
    Series {
        name: "n2d",
        cpus: EVEN,
        kinds: STANDARD,
        custom: custom(false, 96, 512, 8_192),
        local_ssds: N2D_SSDS,
        disks: Disks::Both,
        arm: false,
        quota: "N2D_CPUS",
    },
    Series {
        name: "n4",
        cpus: EVEN,
        kinds: STANDARD,
        custom: custom(false, 80, 2_048, 8_192),
        local_ssds: &[],
        disks: Disks::Hyperdisk,
        arm: false,
        quota: "CPUS_PER_VM_FAMILY",
    },
    Series {
        name: "n4d",
        cpus: EVEN,
        kinds: STANDARD,
        custom: custom(false, 96, 2_048, 8_192),
        local_ssds: &[],
        disks: Disks::Hyperdisk,
        arm: false,
        quota: "CPUS_PER_VM_FAMILY",
    },
    Series {
        name: "n4a",
        cpus: SIZES_N1,
        kinds: STANDARD,
        custom: custom(true, 64, 2_048, 8_192),
        local_ssds: &[],
        disks: Disks::Hyperdisk,
        arm: true,
        quota: "CPUS_PER_VM_FAMILY",
    },
    Series {
        name: "c2",
        cpus: &[4, 8, 16, 30, 60],
        kinds: &[("standard", 4_096)],
        custom: None,
        local_ssds: &[(8, &[1, 2, 4, 8]), (16, &[2, 4, 8]), (30, &[4, 8]), (60, &[8])],
        disks: Disks::Persistent,
        arm: false,
        quota: "C2_CPUS",
    },
    Series {
        name: "c2d",
        cpus: &[2, 4, 8, 16, 32, 56, 112],
        kinds: STANDARD,
        custom: None,
        local_ssds: &[(16, &[1, 2, 4, 8]), (32, &[2, 4, 8]), (56, &[4, 8]), (112, &[8])],
        disks: Disks::Persistent,
        arm: false,
        quota: "C2D_CPUS",
    },
    Series {
        name: "c3",
        cpus: &[4, 8, 22, 44, 88, 176],
        kinds: &[("standard", 4_096), ("highmem", 8_192), ("highcpu", 2_048)],
        custom: None,
        local_ssds: &[],
        disks: Disks::Both,
        arm: false,
        quota: "C3_CPUS",
    },
    Series {
        name: "c3d",
        cpus: &[4, 8, 16, 30, 60, 90, 180, 360],
        kinds: &[("standard", 4_096), ("highmem", 8_192), ("highcpu", 2_048)],
        custom: None,
        local_ssds: &[],
        disks: Disks::Both,
        arm: false,
        quota: "CPUS_PER_VM_FAMILY",
    },
    Series {
        name: "c4",
        cpus: &[2, 4, 8, 16, 24, 32, 48, 96, 192],
        kinds: &[("standard", 3_840), ("highmem", 7_936), ("highcpu", 2_048)],
        custom: None,
        local_ssds: &[],
        disks: Disks::Hyperdisk,
        arm: false,
        quota: "CPUS_PER_VM_FAMILY",
    },
    Series {
        name: "c4a",
        cpus: &[1, 2, 4, 8, 16, 32, 48, 64, 72],
        kinds: &[("standard", 4_096), ("highmem", 8_192), ("highcpu", 2_048)],
        custom: None,
        local_ssds: &[],
        disks: Disks::Hyperdisk,
        arm: true,
        quota: "CPUS_PER_VM_FAMILY",
    },
    Series {
        name: "c4d",
        cpus: &[2, 4, 8, 16, 32, 48, 64, 96, 192, 384],
        kinds: &[("standard", 3_968), ("highmem", 8_064), ("highcpu", 1_920)],
        custom: None,
        local_ssds: &[],
        disks: Disks::Hyperdisk,
        arm: false,
        quota: "CPUS_PER_VM_FAMILY",
    },
    Series {
        name: "t2d",
        cpus: &[1, 2, 4, 8, 16, 32, 48, 60],
        kinds: &[("standard", 4_096)],
        custom: None,
        local_ssds: &[],
        disks: Disks::Persistent,
        arm: false,
        quota: "T2D_CPUS",
    },
    Series {
        name: "t2a",
        cpus: &[1, 2, 4, 8, 16, 32, 48],
        kinds: &[("standard", 4_096)],
        custom: None,
        local_ssds: &[],
        disks: Disks::Persistent,
        arm: true,
        quota: "T2A_CPUS",
    },
];

/// The `-lssd` types: what they bring along.
const BUNDLED: &[(&str, u32)] = &[
    ("c3-standard-4", 1),
    ("c3-standard-8", 2),
    ("c3-standard-22", 4),
    ("c3-standard-44", 8),
    ("c3-standard-88", 16),
    ("c3-standard-176", 32),
    ("c3d-standard-8", 1),
    ("c3d-standard-16", 1),
    ("c3d-standard-30", 2),
    ("c3d-standard-60", 4),
    ("c3d-highmem-8", 1),
    ("c3d-highmem-16", 1),
    ("c4-standard-4", 1),
    ("c4-standard-8", 1),
    ("c4-standard-16", 2),
    ("c4-standard-32", 5),
    ("c4a-standard-4", 1),
    ("c4a-standard-8", 2),
    ("c4a-standard-16", 4),
    ("c4d-standard-8", 1),
    ("c4d-standard-16", 1),
    ("c4d-standard-32", 2),
];

const SHARED: &[(&str, u32)] = &[("e2-micro", 1_024), ("e2-small", 2_048), ("e2-medium", 4_096)];

/// One machine type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineType {
    pub name: String,
    pub series: &'static str,
    pub cpus: u32,
    pub memory_mb: u32,
    /// Local disks that the type itself brings along.
    pub bundled_ssds: u32,
    pub shared: bool,
}

fn series(name: &str) -> Option<&'static Series> {
    SERIES.iter().find(|series| series.name == name)
}

impl MachineType {
    /// Every predefined type.
    pub(crate) fn all() -> Vec<Self> {
        let mut all: Vec<Self> = SHARED.iter().map(|(name, mb)| Self::shared(name, *mb)).collect();
        for series in SERIES {
            for (kind, mb) in series.kinds {
                all.extend(series.cpus.iter().map(|cpus| Self {
                    name: format!("{}-{kind}-{cpus}", series.name),
                    series: series.name,
                    cpus: *cpus,
                    memory_mb: cpus * mb,
                    bundled_ssds: 0,
                    shared: false,
                }));
            }
        }
        let bundled = BUNDLED.iter().filter_map(|(base, ssds)| {
            let plain = all.iter().find(|one| one.name == *base)?;
            Some(Self { name: format!("{base}-lssd"), bundled_ssds: *ssds, ..plain.clone() })
        });
        let bundled: Vec<Self> = bundled.collect();
        all.extend(bundled);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn shared(name: &str, memory_mb: u32) -> Self {
        let name = name.to_owned();
        Self { name, series: "e2", cpus: 2, memory_mb, bundled_ssds: 0, shared: true }
    }

    /// The type of this name, custom ones too, or what is wrong with it.
    pub(crate) fn named(name: &str, known: &[Self]) -> Result<Self, String> {
        if let Some(found) = known.iter().find(|one| one.name == name) {
            return Ok(found.clone());
        }
        let absent = || format!("Machine type with name '{name}' does not exist");
        let (series_name, sizes) = match name.strip_prefix("custom-") {
            Some(sizes) => ("n1", sizes),
            None => name.split_once("-custom-").ok_or_else(absent)?,
        };
        let series = series(series_name).ok_or_else(absent)?;
        let custom = series.custom.as_ref().ok_or_else(|| {
            format!("Machine type family '{series_name}' does not support custom machine types")
        })?;
        let (sizes, extended) =
            sizes.strip_suffix("-ext").map_or((sizes, false), |sizes| (sizes, true));
        let (cpus, memory_mb) = sizes
            .split_once('-')
            .and_then(|(cpus, mb)| Some((cpus.parse().ok()?, mb.parse().ok()?)))
            .ok_or_else(absent)?;
        custom.check(cpus, memory_mb, extended)?;
        let name = name.to_owned();
        Ok(Self { name, series: series.name, cpus, memory_mb, bundled_ssds: 0, shared: false })
    }

    /// The quota that its vCPUs count for on demand.
    pub(crate) fn cpu_metric(&self) -> &'static str {
        series(self.series).map_or("CPUS", |series| series.quota)
    }

    pub(crate) fn is_arm(&self) -> bool {
        series(self.series).is_some_and(|series| series.arm)
    }

    /// What is wrong with so many local disks.
    pub(crate) fn check_local_ssds(&self, count: u32) -> Result<(), String> {
        if count == 0 {
            return Ok(());
        }
        let rules = series(self.series).map_or(&[][..], |series| series.local_ssds);
        let allowed = rules.iter().find(|(most, _)| self.cpus <= *most).map(|(_, counts)| *counts);
        match allowed {
            Some(counts) if counts.contains(&count) => Ok(()),
            Some(counts) => Err(format!(
                "[{}] is not one of the numbers of local SSDs that {} takes: {counts:?}",
                count, self.name
            )),
            None => Err(format!("{} does not take local SSDs", self.name)),
        }
    }

    /// What is wrong with a disk of this type.
    pub(crate) fn check_disk_type(&self, disk_type: &str) -> Result<(), String> {
        let known = [
            "pd-standard",
            "pd-balanced",
            "pd-ssd",
            "pd-extreme",
            "hyperdisk-balanced",
            "hyperdisk-extreme",
            "hyperdisk-throughput",
        ];
        if !known.contains(&disk_type) {
            return Err(format!("The disk type '{disk_type}' does not exist"));
        }
        let takes = series(self.series).map_or(Disks::Both, |series| series.disks);
        let hyperdisk = disk_type.starts_with("hyperdisk-");
        let fits = match takes {
            Disks::Both => true,
            Disks::Persistent => !hyperdisk,
            Disks::Hyperdisk => hyperdisk,
        };
        if fits {
            Ok(())
        } else {
            Err(format!("[{}] features and [{disk_type}] disk type are not compatible", self.name))
        }
    }

    pub(crate) fn default_disk_type(&self) -> &'static str {
        match series(self.series).map_or(Disks::Persistent, |series| series.disks) {
            Disks::Persistent => "pd-standard",
            Disks::Both if self.series == "c3" || self.series == "c3d" => "pd-balanced",
            Disks::Both => "pd-standard",
            Disks::Hyperdisk => "hyperdisk-balanced",
        }
    }
}

impl Custom {
    fn check(&self, cpus: u32, memory_mb: u32, extended: bool) -> Result<(), String> {
        let even = cpus.is_multiple_of(2) || cpus == 1 && self.one;
        if cpus == 0 || !even || cpus > self.most_cpus {
            return Err(format!(
                "The number of vCPUs [{cpus}] is not one that custom machines of this family take (at most {})",
                self.most_cpus
            ));
        }
        if !memory_mb.is_multiple_of(256) {
            return Err(format!(
                "Memory should be a multiple of 256MB, while {memory_mb}MB is requested"
            ));
        }
        let least = cpus * self.least_mb;
        let most = cpus * self.most_mb;
        if memory_mb < least {
            return Err(format!(
                "Memory size for {cpus} vCPU instance should be at least {least}MB, while {memory_mb}MB is requested"
            ));
        }
        if memory_mb > most && !extended {
            return Err(format!(
                "Memory size for {cpus} vCPU instance should be at most {most}MB, while {memory_mb}MB is requested"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_machine_has() {
        let known = MachineType::all();
        let check = |name: &str, expected: &str| {
            let told = match MachineType::named(name, &known) {
                Ok(it) => format!("{} {} {} {}", it.series, it.cpus, it.memory_mb, it.cpu_metric()),
                Err(words) => words,
            };
            assert!(told.starts_with(expected), "{name}\n  is: {told}\n  not: {expected}");
        };
        check("n2-standard-4", "n2 4 16384 N2_CPUS");
        check("e2-medium", "e2 2 4096 CPUS");
        check("c4-standard-8-lssd", "c4 8 30720 CPUS_PER_VM_FAMILY");
        check("n2-custom-6-12288", "n2 6 12288 N2_CPUS");
        check("custom-1-1024", "n1 1 1024 CPUS");
        check("n2-custom-2-65536-ext", "n2 2 65536");
        check("n2-custom-2-65536", "Memory size for 2 vCPU instance should be at most 16384MB");
        check("n2-custom-3-4096", "The number of vCPUs [3]");
        check("n2-custom-4-4100", "Memory should be a multiple of 256MB");
        check("n4-custom-4-2048", "Memory size for 4 vCPU instance should be at least 8192MB");
        check("c3-custom-4-8192", "Machine type family 'c3' does not support custom machine types");
        check("x9-standard-4", "Machine type with name 'x9-standard-4' does not exist");
        check("n2-custom-many", "Machine type with name 'n2-custom-many' does not exist");
    }

    #[test]
    fn disks_have_to_fit() {
        let known = MachineType::all();
        let named = |name| MachineType::named(name, &known).unwrap();
        assert!(named("n2-standard-4").check_local_ssds(2).is_ok());
        assert!(
            named("n2-standard-16").check_local_ssds(1).unwrap_err().contains("[2, 4, 8, 16, 24]")
        );
        assert!(named("e2-standard-4").check_local_ssds(1).unwrap_err().contains("does not take"));
        assert!(named("n4-standard-4").check_disk_type("pd-balanced").is_err());
        assert!(named("n4-standard-4").check_disk_type("hyperdisk-balanced").is_ok());
        assert!(named("e2-standard-4").check_disk_type("hyperdisk-balanced").is_err());
        assert!(
            named("e2-standard-4")
                .check_disk_type("pd-fast")
                .unwrap_err()
                .contains("does not exist")
        );
    }
}
