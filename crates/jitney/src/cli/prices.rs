//! `prices`: which virtual machines there are and what they cost, as the tables say that ship with
//! Jitney and the operator's own file over them; and whether the two fit each other. The prices of
//! one shape are `plan`'s.

use std::sync::Arc;

use planner::{Custom, Family, FamilyPrices, Nanos, RegionPrices, SsdPrices, Tables};
use serde_json::{Value, json};

use super::arguments::PriceList;
use super::screen::NOTHING;
use super::{Answer, Context, Exit, Failure, Screen, configuration};
use crate::config::Config;

pub(super) fn prices(asked: &PriceList, context: &Context<'_>) -> Result<Answer, Failure> {
    // Nobody needs a configuration to look something up; a broken one is refused all the same.
    let tables = match (configuration::path(None, context), context.config) {
        (Ok(path), _) => configuration::load(&path, context)?.tables(),
        (Err(failure), Some(_)) => return Err(failure),
        (Err(_), None) => Config::shipped_tables(),
    };
    let regions: Vec<(&Arc<str>, &RegionPrices)> = match &asked.region {
        None => tables.prices.regions.iter().collect(),
        Some(name) => match tables.prices.regions.get_key_value(name.as_str()) {
            Some(region) => vec![region],
            None => {
                let known: Vec<&str> = tables.prices.regions.keys().map(|name| &**name).collect();
                let words = format!(
                    "the list has no prices for {name}, only for {}; others are reckoned at the dearest of \
                     these",
                    known.join(", ")
                );
                return Err(Failure::new(Exit::NotGood, words));
            }
        },
    };
    let problems = tables.problems();
    let exit = if problems.is_empty() { Exit::Ok } else { Exit::NotGood };
    if asked.json {
        return Ok(Answer::json(&as_json(&tables, &regions, &problems), exit));
    }
    Ok(Answer { text: as_text(&tables, &regions, &problems, context.screen), exit })
}

fn as_text(
    tables: &Tables,
    regions: &[(&Arc<str>, &RegionPrices)],
    problems: &[String],
    screen: Screen,
) -> String {
    let (families, prices) = (&tables.families, &tables.prices);
    let mut text = format!("Machine families, as of {}\n\n", families.as_of);
    let heads =
        ["family", "processors", "custom types", "types", "local SSDs", "boot disks", "quota"];
    text.push_str(&screen.table(heads, families.families.iter().map(family)));
    text.push_str(&format!(
        "\nPrices in {}, as of {}: a vCPU and a GiB for an hour; local SSD a GiB for a month\n",
        prices.currency, prices.as_of
    ));
    for (name, region) in regions {
        let mut disks: Vec<String> =
            region.disks.iter().map(|(disk, price)| format!("{disk} {price}")).collect();
        disks.extend(region.local_ssd.map(|ssd| format!("local SSD {}", ssd_price(ssd))));
        let disks = disks.join(", ");
        text.push_str(&format!("\n{}; a GiB for a month: {disks}\n", screen.strong(name)));
        let rows = region.families.iter().map(|(family, prices)| price_row(family, prices));
        let heads = ["family", "vCPU", "GiB", "spot vCPU", "spot GiB", "of it", "local SSD"];
        text.push_str(&screen.table(heads, rows));
    }
    let percent = |permille: u32| format!("{}.{} %", permille / 10, permille % 10);
    text.push_str(&format!(
        "\nA custom type costs {} more, extended memory {} of other memory.\n",
        percent(prices.custom_premium),
        percent(prices.extended_memory)
    ));
    if prices.discount_permille > 0 {
        let discount = percent(prices.discount_permille);
        text.push_str(&format!("{discount} are taken off all of these by `prices.discount`.\n"));
    }
    let unpriced = tables.unpriced();
    if !unpriced.is_empty() {
        let list = unpriced.join(", ");
        text.push_str(&format!("No region has a price for {list}: nobody is offered these.\n"));
    }
    for problem in problems {
        text.push_str(&format!("{} {problem}\n", screen.bad("wrong:")));
    }
    text
}

fn family((name, family): (&Arc<str>, &Family)) -> [String; 7] {
    let types: usize = family.types.iter().map(|types| types.sizes.len()).sum();
    let bundled = family.types.iter().flat_map(|types| &types.sizes).map(|size| size.bundled).max();
    let ssds = match (family.local_ssd.is_empty(), bundled.unwrap_or_default()) {
        (false, _) => "attached".to_owned(),
        (true, 0) => NOTHING.to_owned(),
        (true, most) => format!("with the type, up to {most}"),
    };
    [
        name.to_string(),
        family.arch.to_string(),
        family.custom.as_ref().map_or_else(|| NOTHING.to_owned(), custom),
        types.to_string(),
        ssds,
        family.disks.join(", "),
        family.quota.to_string(),
    ]
}

/// `2-32/2 vCPU, up to 128 GiB`.
fn custom(custom: &Custom) -> String {
    let Custom { cpu, most, extended, .. } = custom;
    let most = extended.map_or(*most, |extended| extended.max(*most));
    format!("{cpu} vCPU, up to {most}")
}

fn price_row(name: &Arc<str>, prices: &FamilyPrices) -> [String; 7] {
    let FamilyPrices { cpu, memory, spot_cpu, spot_memory, local_ssd } = prices;
    [
        name.to_string(),
        cpu.to_string(),
        memory.to_string(),
        spot_cpu.to_string(),
        spot_memory.to_string(),
        share(*spot_cpu, *cpu),
        local_ssd.map_or_else(|| NOTHING.to_owned(), ssd_price),
    ]
}

/// What a spot machine costs of one on demand.
fn share(spot: Nanos, of: Nanos) -> String {
    match of.0 {
        0 => NOTHING.to_owned(),
        of => format!("{} %", spot.0.saturating_mul(100) / of),
    }
}

fn ssd_price(ssd: SsdPrices) -> String {
    format!("{} (spot {})", ssd.on_demand, ssd.spot)
}

fn as_json(tables: &Tables, regions: &[(&Arc<str>, &RegionPrices)], problems: &[String]) -> Value {
    let prices = &tables.prices;
    let regions: serde_json::Map<String, Value> =
        regions.iter().map(|(name, region)| (name.to_string(), json!(region))).collect();
    json!({
        "families": tables.families,
        "prices": {
            "currency": prices.currency,
            "as_of": prices.as_of,
            "custom_premium_permille": prices.custom_premium,
            "extended_memory_permille": prices.extended_memory,
            "discount_permille": prices.discount_permille,
            "regions": regions,
        },
        "unpriced": tables.unpriced(),
        "problems": problems,
    })
}
