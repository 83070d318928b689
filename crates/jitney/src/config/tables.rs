//! Which virtual machines there are and what they cost: the tables that ship with Jitney, and a
//! file of the operator's over them.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use planner::{FAMILIES, OwnTables, PRICES, Prices, Tables, Vms};

use super::backends::clouds::Gce;
use super::backends::{Backend, Kind};
use super::problem::{Complaint, Problem};
use super::tree::SyntaxError;
use super::words::nearest;
use super::{Config, ConfigError, read_file};

/// The tables that ship.
static SHIPPED: LazyLock<Arc<Tables>> = LazyLock::new(|| {
    Arc::new(Tables {
        families: serde_saphyr::from_str(FAMILIES).expect("a test reads the families"),
        prices: serde_saphyr::from_str(PRICES).expect("a test reads the prices"),
    })
});

impl Config {
    /// The families and prices that hold here, with the discount.
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        let tables = self.tables.as_ref().unwrap_or(&SHIPPED);
        match self.prices.discount_permille {
            0 => Arc::clone(tables),
            discount_permille => Arc::new(Tables {
                families: tables.families.clone(),
                prices: Prices { discount_permille, ..tables.prices.clone() },
            }),
        }
    }

    /// Those that ship, where there is no configuration.
    #[must_use]
    pub fn shipped_tables() -> Arc<Tables> {
        Arc::clone(&SHIPPED)
    }

    /// Reads the operator's own tables, and looks whether what the file says fits the tables.
    pub(super) fn read_tables(&mut self, file: &str) -> Result<(), ConfigError> {
        if let Some(path) = &self.prices.file {
            let own = own_tables(path).map_err(|complaint| one(file, "prices.file", complaint))?;
            let tables = Tables::clone(&SHIPPED).with(own);
            if let Some(problem) = tables.problems().into_iter().next() {
                let complaint = Complaint::new(problem, "`jitney prices` shows the tables");
                return Err(one(file, "prices.file", complaint));
            }
            self.tables = Some(Arc::new(tables));
        }
        let problems = self.unfit();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::new(file, String::new(), problems))
        }
    }

    /// What the configuration says of virtual machines and the tables do not know.
    fn unfit(&self) -> Vec<Problem> {
        let vms = self.backends.iter().filter_map(|(name, backend)| Some((name, backend.vms()?)));
        let vms: Vec<_> = vms.collect();
        // Who makes none and has no list has no use for ours either: it is not read.
        if vms.is_empty() && self.tables.is_none() {
            return Vec::new();
        }
        let tables = self.tables.as_ref().unwrap_or(&SHIPPED);
        let mut problems = Vec::new();
        for (name, gce) in vms {
            let known = &tables.families.families;
            for family in gce.families.iter().filter(|family| !known.contains_key(family.as_str()))
            {
                let names = known.keys().map(|name| &**name);
                let remedy = match nearest(family, names) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "`jitney prices` lists the families".into(),
                };
                let complaint = Complaint::new(format!("{family} is no family"), remedy);
                let key = format!("backends.{name}.gce.families");
                problems.push(Problem::new(None, &key, complaint));
            }
        }
        let (ours, theirs) = (&self.prices.currency, &tables.prices.currency);
        if **ours != **theirs {
            let words = format!("{ours} is asked for, and the list of prices is in {theirs}");
            let remedy = format!("name a list of your own with prices.file, or write {theirs}");
            problems.push(Problem::new(None, "prices.currency", Complaint::new(words, remedy)));
        }
        problems
    }
}

fn one(file: &str, key: &str, complaint: Complaint) -> ConfigError {
    ConfigError::new(file, String::new(), vec![Problem::new(None, key, complaint)])
}

fn own_tables(path: &Path) -> Result<OwnTables, Complaint> {
    let shown = path.display();
    let text = read_file(path).map_err(|Complaint { message, .. }| {
        Complaint::new(format!("{shown} {message}"), "check the path, the file and its permissions")
    })?;
    serde_saphyr::from_str(&text).map_err(|error| {
        let SyntaxError { place, message } = SyntaxError::of(error.without_snippet(), &text);
        let at = match place.line {
            0 => String::new(),
            line => format!("line {line}, column {} of ", place.column),
        };
        Complaint::new(format!("{at}{shown}: {message}"), "docs/google-cloud.md shows the form")
    })
}

impl Backend {
    fn vms(&self) -> Option<&Gce> {
        match &self.kind {
            Kind::Gce(gce) => Some(gce),
            Kind::Process(_) | Kind::Http(_) | Kind::Kubernetes(_) | Kind::CloudRun(_) => None,
        }
    }
}

impl Gce {
    /// What the core has to know of its machines.
    pub(super) fn vms(&self, tables: &Arc<Tables>) -> Vms {
        let names = |list: &[String]| list.iter().map(|name| Arc::from(name.as_str())).collect();
        Vms {
            zones: names(&self.zones),
            families: names(&self.families),
            disk_type: self.disk_type.as_deref().map(Arc::from),
            tables: Arc::clone(tables),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_that_ship_are_read() {
        assert_eq!((SHIPPED.problems(), SHIPPED.unpriced()), (vec![], vec![]));
    }
}
