//! Lists: filters, order, pages, and what they leave out when they are told to.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::due::after;
use super::settings::strike;
use super::{BASE, Compute};
use crate::cloud::discovery::DISCOVERY;
use crate::cloud::filter::Filter;
use crate::cloud::refusal::Refusal;

const MOST_RESULTS: usize = 500;
/// Before the key of a page's last item, so that the first page has a token too.
const AFTER: &str = "after ";

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Instances,
    Disks,
    Operations,
    MachineTypes,
    Zones,
    Regions,
}

impl Listed {
    /// The schema of one item, and the key of the items of a scope.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Instances => ("Instance", "instances"),
            Self::Disks => ("Disk", "disks"),
            Self::Operations => ("Operation", "operations"),
            Self::MachineTypes => ("MachineType", "machineTypes"),
            Self::Zones => ("Zone", "zones"),
            Self::Regions => ("Region", "regions"),
        }
    }
}

/// What a list's query says.
#[derive(Debug)]
struct Wanted {
    filter: Option<Filter>,
    most: usize,
    /// The key after which the page begins.
    from: Option<String>,
    newest_first: bool,
}

/// An item with the key that it is ordered by.
type Item = (String, Value);

struct Page {
    items: Vec<Item>,
    next: Option<String>,
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn token(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{AFTER}{key}"))
}

fn read_token(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    String::from_utf8(bytes).ok()?.strip_prefix(AFTER).map(str::to_owned)
}

impl Wanted {
    fn read(listed: Listed, query: &[(String, String)]) -> Result<Self, Refusal> {
        let invalid =
            |field: &str, value: &str, why: &str| Err(Refusal::invalid(field, value, why));
        let filter = match parameter(query, "filter").filter(|text| !text.trim().is_empty()) {
            None => None,
            Some(text) => match Filter::read(text) {
                Err(why) => {
                    return invalid(
                        "filter",
                        text,
                        &format!("Invalid list filter expression: {why}."),
                    );
                }
                Ok(filter) => {
                    let known = DISCOVERY.compute_schema(listed.names().0);
                    let stranger =
                        filter.fields().into_iter().find(|it| !known.properties.contains_key(*it));
                    if let Some(field) = stranger {
                        return invalid(
                            "filter",
                            text,
                            &format!(
                                "Invalid list filter expression: there is no field '{field}'."
                            ),
                        );
                    }
                    Some(filter)
                }
            },
        };
        let most = parameter(query, "maxResults").and_then(|text| text.parse().ok());
        let most = most.unwrap_or(MOST_RESULTS);
        if most > MOST_RESULTS {
            return invalid(
                "maxResults",
                &most.to_string(),
                "Values must be within the following range: [0, 500].",
            );
        }
        let from = match parameter(query, "pageToken").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => match read_token(text) {
                None => return invalid("pageToken", text, "Invalid page token."),
                Some(key) => Some(key),
            },
        };
        let newest_first = match parameter(query, "orderBy").unwrap_or_default() {
            "" | "name" => false,
            "creationTimestamp desc" => true,
            other => {
                return invalid(
                    "orderBy",
                    other,
                    "Only name and creationTimestamp desc are supported.",
                );
            }
        };
        Ok(Self { filter, most: if most == 0 { MOST_RESULTS } else { most }, from, newest_first })
    }

    fn key(&self, scope: &str, shown: &Value) -> String {
        let text = |key: &str| shown.get(key).and_then(Value::as_str).unwrap_or_default();
        if !self.newest_first {
            return format!("{scope}\n{}", text("name"));
        }
        let created = text("creationTimestamp").parse::<Timestamp>().unwrap_or_default();
        format!("{:020}\n{scope}\n{}", i64::MAX - created.as_microsecond(), text("name"))
    }

    fn page(&self, mut items: Vec<Item>) -> Page {
        items.retain(|(_, shown)| self.filter.as_ref().is_none_or(|filter| filter.takes(shown)));
        items.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(from) = &self.from {
            items.retain(|(key, _)| key > from);
        }
        let more = items.len() > self.most;
        items.truncate(self.most);
        let next = items.last().filter(|_| more).map(|(key, _)| token(key));
        Page { items, next }
    }
}

fn warning(code: &str, message: &str, data: &[(&str, &str)]) -> Value {
    let data: Vec<Value> =
        data.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"code": code, "message": message, "data": data})
}

impl Compute {
    /// A list of a zone, or of the project for what is in none.
    pub(super) fn list(
        &mut self,
        listed: Listed,
        zone: Option<&str>,
        query: &[(String, String)],
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let wanted = Wanted::read(listed, query)?;
        if let Some(zone) = zone {
            self.check_zone(zone)?;
            if self.knobs.unreachable_zones.contains(zone) {
                return Err(Refusal::unavailable(&self.zone_path(zone)));
            }
        }
        let shown = self.shown(listed, zone, now);
        let mut items: Vec<Item> =
            shown.into_iter().map(|(scope, it)| (wanted.key(&scope, &it), it)).collect();
        let (name, plural) = listed.names();
        let place = zone
            .map_or_else(|| format!("projects/{}", self.settings.project), |it| self.zone_path(it));
        let mut answer = json!({
            "kind": format!("compute#{}List", lower(name)), "id": format!("{place}/{plural}"),
            "selfLink": format!("{BASE}{place}/{plural}"),
        });
        if strike(&mut self.knobs.empty_pages) {
            let again = wanted.from.as_deref().unwrap_or_default();
            answer["nextPageToken"] = json!(token(again));
            return Ok(answer);
        }
        if strike(&mut self.knobs.partial_lists) {
            items.sort_by(|a, b| a.0.cmp(&b.0));
            let mut keep = false;
            items.retain(|_| {
                keep = !keep;
                keep
            });
            answer["warning"] = warning("PARTIAL_SUCCESS", "Not everything could be listed.", &[]);
        }
        let page = wanted.page(items);
        if !page.items.is_empty() {
            answer["items"] = page.items.into_iter().map(|(_, shown)| shown).collect();
        }
        if let Some(next) = page.next {
            answer["nextPageToken"] = json!(next);
        }
        Ok(answer)
    }

    /// A list of all zones, scope by scope.
    pub(super) fn aggregated(
        &mut self,
        listed: Listed,
        query: &[(String, String)],
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let wanted = Wanted::read(listed, query)?;
        let (name, plural) = listed.names();
        let place = format!("projects/{}/aggregated/{plural}", self.settings.project);
        let mut answer = json!({
            "kind": format!("compute#{}AggregatedList", lower(name)), "id": place,
            "selfLink": format!("{BASE}{place}"), "items": {},
        });
        if strike(&mut self.knobs.empty_pages) {
            answer["nextPageToken"] = json!(token(wanted.from.as_deref().unwrap_or_default()));
            return Ok(answer);
        }
        let unreachable = self.unreachable_now();
        let shown = self.shown(listed, None, now).into_iter();
        let reached = shown.filter(|(scope, _)| !unreachable.contains(scope));
        let mut scopes = BTreeMap::new();
        let items: Vec<Item> = reached
            .map(|(scope, shown)| {
                let key = wanted.key(&scope, &shown);
                scopes.insert(key.clone(), scope);
                (key, shown)
            })
            .collect();
        let page = wanted.page(items);
        let mut by_scope: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (key, shown) in page.items {
            by_scope.entry(&scopes[&key]).or_default().push(shown);
        }
        let all = self.settings.zones.iter().map(|zone| {
            let items = by_scope.remove(zone.as_str());
            (format!("zones/{zone}"), scoped(zone, plural, items, unreachable.contains(zone)))
        });
        let all: Map<String, Value> = all.collect();
        answer["items"] = Value::Object(all);
        if !unreachable.is_empty() {
            let names = unreachable.iter().map(|zone| format!("zones/{zone}"));
            answer["unreachables"] = names.collect::<Vec<_>>().into();
        }
        if let Some(next) = page.next {
            answer["nextPageToken"] = json!(next);
        }
        Ok(answer)
    }

    /// The zones that are out of reach, and every second one when a list is to be partial.
    fn unreachable_now(&mut self) -> BTreeSet<String> {
        let mut zones = self.knobs.unreachable_zones.clone();
        if strike(&mut self.knobs.partial_lists) {
            zones.extend(self.settings.zones.iter().skip(1).step_by(2).cloned());
        }
        zones
    }

    /// Everything of a kind, in this zone or anywhere, with its zone.
    fn shown(&self, listed: Listed, zone: Option<&str>, now: Timestamp) -> Vec<(String, Value)> {
        let here = |it: &str| zone.is_none_or(|zone| zone == it);
        let lag = self.knobs.list_lag_ms;
        match listed {
            Listed::Instances => {
                let seen = self.instances.values().filter(|it| here(&it.zone));
                let seen = seen.filter(|it| lag == 0 || after(it.created_at, lag) <= now);
                seen.map(|it| (it.zone.clone(), self.show_instance(it))).collect()
            }
            Listed::Disks => {
                let seen = self.disks.values().filter(|it| here(&it.zone));
                seen.map(|it| (it.zone.clone(), self.show_disk(it))).collect()
            }
            Listed::Operations => {
                let seen = self.operations.values().filter(|it| here(&it.zone));
                seen.map(|it| (it.zone.clone(), self.show_operation(it))).collect()
            }
            Listed::MachineTypes => {
                let zones = self.settings.zones.iter().filter(|zone| here(zone));
                let all = zones.flat_map(|zone| {
                    let there = self.types.iter().filter(|it| !self.knobs.lacks(zone, it.series));
                    there.map(move |it| (zone.clone(), self.show_type(zone, it)))
                });
                all.collect()
            }
            Listed::Zones => {
                let all = self.settings.zones.iter();
                all.map(|zone| (String::new(), self.show_zone(zone))).collect()
            }
            Listed::Regions => {
                let all = self.settings.regions().into_iter();
                all.map(|region| (String::new(), self.show_region(region))).collect()
            }
        }
    }
}

fn scoped(zone: &str, plural: &str, items: Option<Vec<Value>>, unreachable: bool) -> Value {
    let scope = format!("zones/{zone}");
    if unreachable {
        let words = format!("The scope '{scope}' could not be reached.");
        return json!({"warning": warning("UNREACHABLE", &words, &[("scope", &scope)])});
    }
    match items {
        Some(items) => {
            let mut found = Map::new();
            found.insert(plural.to_owned(), Value::Array(items));
            Value::Object(found)
        }
        None => {
            let words = format!("There are no results for scope '{scope}' on this page.");
            json!({"warning": warning("NO_RESULTS_ON_PAGE", &words, &[("scope", &scope)])})
        }
    }
}

/// `machineType` of `MachineType`.
fn lower(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
