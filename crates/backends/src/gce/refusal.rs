//! What Google's refusals mean: those of calls, and those with which operations end. Pure; the
//! words are for whoever wrote the pipeline.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::contract::{Class, Error};

/// For how long a subnet without addresses is left alone.
const NO_ADDRESS_S: u64 = 30;
const QUOTED: usize = 400;

/// What is to be done about a refusal beyond its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is not there.
    Gone,
    /// Its name is taken.
    Exists,
    /// Another change of it is under way.
    Busy,
    /// The token was not taken.
    Token,
    /// The minute's calls are used up.
    Rate,
    /// We lack a permission.
    Forbidden,
    Other,
}

/// A refusal, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) error: Error,
}

/// Where a machine was to be made, for the words.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) project: &'a str,
    pub(super) zone: &'a str,
    pub(super) machine_type: &'a str,
    pub(super) spot: bool,
}

/// The body of a call that was refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    error: Said,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    message: String,
    errors: Vec<Reason>,
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    reason: String,
}

/// `error` of an operation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failures {
    errors: Vec<Failure>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Failure {
    code: String,
    message: String,
    error_details: Vec<Detail>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    error_info: Option<Info>,
    quota_info: Option<Quota>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    metadatas: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Quota {
    metric_name: String,
    limit: Option<f64>,
    dimensions: BTreeMap<String, String>,
}

/// What a call was refused with. Bodies that are not Google's are quoted.
pub(super) fn of_call(status: u16, body: &[u8], asked: Asked<'_>) -> Refusal {
    let said = serde_json::from_slice::<Body>(body).unwrap_or_default().error;
    let reason = said.errors.first().map_or("", |first| first.reason.as_str());
    let message = if said.message.is_empty() {
        let text = String::from_utf8_lossy(body);
        format!("Google answered {status}: {}", crop(text.trim()))
    } else {
        crop(&said.message)
    };
    let code = if reason.is_empty() { said.status.as_str() } else { reason };
    let mut refusal = match (status, reason) {
        (_, "rateLimitExceeded" | "userRateLimitExceeded") | (429, _) => {
            of(Kind::Rate, Class::Rate, format!("Google wants fewer calls a minute: {message}"))
        }
        (_, "quotaExceeded") => quota(&message, None, asked),
        (_, "insufficientCapacity" | "requestExceedsCapacity") => stockout(&message, "", asked),
        (401, _) => of(
            Kind::Token,
            Class::Denied,
            format!("Google does not take our credentials: {message}"),
        ),
        (403, _) => of(Kind::Forbidden, denial(&message), forbidden(&message, reason)),
        (404, _) => of(Kind::Gone, Class::Rejected, message),
        (409, _) => of(Kind::Exists, Class::Ambiguous, message),
        (400, "resourceNotReady") => of(Kind::Busy, Class::Ambiguous, message),
        (412, _) if message.contains("onstraint constraints/") => {
            of(Kind::Other, denial(&message), policy(&message))
        }
        (408 | 412 | 425, _) => of(Kind::Other, Class::Ambiguous, message),
        (400..=499, _) => of(Kind::Other, Class::Rejected, message),
        _ => of(Kind::Other, Class::Ambiguous, message),
    };
    refusal.note("status", &status.to_string());
    refusal.note("code", code);
    refusal
}

/// What an operation ended with; `None` where it ended well.
pub(super) fn of_operation(failures: Option<&Failures>, asked: Asked<'_>) -> Option<Refusal> {
    let failure = failures?.errors.first()?;
    let message = crop(&failure.message);
    let code = failure.code.as_str();
    let words = || format!("{message} ({code})");
    let mut refusal = match code {
        _ if code.contains("RESOURCE_POOL_EXHAUSTED") || code.contains("STOCKOUT") => {
            stockout(&message, &failure.info("zonesAvailable"), asked)
        }
        "insufficientCapacity" | "requestExceedsCapacity" => stockout(&message, "", asked),
        // What an interruptible machine ends with that is taken away while it is made.
        "UNSUPPORTED_OPERATION" if asked.spot => of(Kind::Other, Class::Capacity, words()),
        "QUOTA_EXCEEDED" | "quotaExceeded" => {
            let details = failure.error_details.iter();
            quota(&message, details.filter_map(|one| one.quota_info.as_ref()).next(), asked)
        }
        _ if code.starts_with("IP_SPACE_EXHAUSTED") => no_address(&message),
        "RESOURCE_OPERATION_RATE_EXCEEDED" | "RATE_LIMIT_EXCEEDED" | "rateLimitExceeded" => {
            of(Kind::Rate, Class::Rate, words())
        }
        // Of another machine's disk; the next attempt has another name.
        "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE" => of(Kind::Other, Class::Capacity, words()),
        // The machine itself not being there is what some stockouts look like.
        "RESOURCE_NOT_FOUND" if message.contains("/instances/") => {
            of(Kind::Other, Class::Capacity, words())
        }
        _ if message.contains("onstraint constraints/") => {
            of(Kind::Other, denial(&message), policy(&message))
        }
        "PERMISSION_DENIED" | "FORBIDDEN" | "IAM_PERMISSION_DENIED" | "forbidden" => {
            of(Kind::Other, denial(&message), forbidden(&message, code))
        }
        _ if is_of_the_request(code) => of(Kind::Other, Class::Rejected, words()),
        // It has ended, so it is no riddle whether there is a machine: there is none.
        _ => of(Kind::Other, Class::Capacity, words()),
    };
    refusal.note("code", code);
    Some(refusal)
}

fn is_of_the_request(code: &str) -> bool {
    const CODES: [&str; 6] = [
        "RESOURCE_NOT_FOUND",
        "UNSUPPORTED_OPERATION",
        "CONDITION_NOT_MET",
        "BAD_REQUEST",
        "VM_MIN_CPU_PLATFORM_NOT_AVAILABLE",
        "invalid",
    ];
    code.starts_with("INVALID_") || CODES.contains(&code)
}

fn of(kind: Kind, class: Class, words: String) -> Refusal {
    Refusal { kind, error: Error::new(class, words) }
}

impl Refusal {
    fn note(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.error.fields.insert(key.to_owned(), value.to_owned());
        }
    }
}

impl Failure {
    fn info(&self, key: &str) -> String {
        let infos = self.error_details.iter().filter_map(|detail| detail.error_info.as_ref());
        infos.filter_map(|info| info.metadatas.get(key)).next().cloned().unwrap_or_default()
    }
}

fn stockout(message: &str, elsewhere: &str, asked: Asked<'_>) -> Refusal {
    let Asked { zone, machine_type, spot, .. } = asked;
    let spot = if spot { " on spot" } else { "" };
    let hint = if elsewhere.is_empty() {
        String::new()
    } else {
        format!("; Google has it in {elsewhere}")
    };
    let words = if machine_type.is_empty() {
        message.to_owned()
    } else {
        format!("{zone} has no room for a {machine_type}{spot} now{hint}")
    };
    let mut refusal = of(Kind::Other, Class::Capacity, words);
    refusal.note("room_in", elsewhere);
    refusal.note("zone", zone);
    refusal
}

/// `Quota 'N2_CPUS' exceeded.  Limit: 24.0 in region us-central1.`
fn quota(message: &str, detail: Option<&Quota>, asked: Asked<'_>) -> Refusal {
    let metric = between(message, "Quota '", "'").map(str::to_owned).or_else(|| {
        let (_, name) = detail?.metric_name.rsplit_once('/')?;
        Some(name.to_uppercase())
    });
    let Some(said) = metric else { return of(Kind::Other, Class::Quota, message.to_owned()) };
    // One quota for each family, which Google counts under one name.
    let family = detail.and_then(|detail| detail.dimensions.get("vm_family"));
    let metric = match family {
        Some(family) if said.ends_with("_PER_VM_FAMILY") => {
            format!("{}_CPUS", family.to_uppercase())
        }
        Some(_) | None => said.clone(),
    };
    let limit = detail
        .and_then(|detail| detail.limit)
        .map(|limit| limit.to_string())
        .or_else(|| between(message, "Limit: ", " ").map(|text| text.replace(".0", "")));
    let region = between(message, "in region ", ".").unwrap_or("");
    let place = if region.is_empty() { String::new() } else { format!(" of the region {region}") };
    let limit_words = limit.as_ref().map_or_else(String::new, |limit| format!(": {limit} is all"));
    let words = format!(
        "the quota {said}{place} is used up{limit_words}; it is raised at https://console.cloud.google.com/iam-admin/quotas?project={}",
        asked.project
    );
    let mut refusal = of(Kind::Other, Class::Quota, words);
    refusal.note("metric", &metric);
    refusal.note("region", region);
    refusal.note("limit", limit.as_deref().unwrap_or_default());
    refusal
}

fn no_address(message: &str) -> Refusal {
    let words = format!("the subnetwork has no address left: {message}");
    let mut refusal = of(Kind::Other, Class::Quota, words);
    // Not of any family, so that no other one is tried in that region.
    refusal.note("metric", "IP_SPACE");
    refusal.error.retry_after = Some(std::time::Duration::from_secs(NO_ADDRESS_S));
    refusal
}

fn forbidden(message: &str, reason: &str) -> String {
    let off = message.contains("has not been used in project")
        || reason == "accessNotConfigured"
        || message.contains("SERVICE_DISABLED");
    if off {
        return format!("an API that we need is not enabled in the project: {message}");
    }
    format!("Google does not let us: {message}")
}

/// An image is the job's own choice: that we may not use it says nothing about other jobs, which
/// must not wait for it.
fn denial(message: &str) -> Class {
    let of_an_image = message.contains("/global/images/")
        || message.contains("constraints/compute.trustedImageProjects");
    if of_an_image { Class::Rejected } else { Class::Denied }
}

fn policy(message: &str) -> String {
    let rest = message.split_once("constraints/").map_or("", |(_, rest)| rest);
    let name: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
    format!("the organisation's policy constraints/{name} does not allow it: {message}")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after).map_or(rest, |(found, _)| found))
}

/// One line, short enough for a notification.
fn crop(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    match line.char_indices().nth(QUOTED) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ASKED: Asked<'_> =
        Asked { project: "p", zone: "us-central1-a", machine_type: "n2-standard-4", spot: false };

    fn called(status: u16, reason: &str, message: &str) -> Refusal {
        let body = json!({"error": {
            "code": status, "message": message, "status": "X",
            "errors": [{"domain": "global", "reason": reason, "message": message}],
        }});
        of_call(status, body.to_string().as_bytes(), ASKED)
    }

    fn ended(code: &str, message: &str, details: serde_json::Value, spot: bool) -> Refusal {
        let failures = json!({"errors": [
            {"code": code, "message": message, "errorDetails": details}
        ]});
        let failures: Failures = serde_json::from_value(failures).expect("an operation's error");
        of_operation(Some(&failures), Asked { spot, ..ASKED }).expect("it has failed")
    }

    #[test]
    fn calls_are_classified() {
        let check = |status: u16, reason: &str, message: &str, kind: Kind, class: Class| {
            let found = called(status, reason, message);
            assert_eq!((found.kind, found.error.class), (kind, class), "{status} {reason}");
            assert!(!found.error.words.is_empty(), "{status} {reason}");
        };
        check(403, "rateLimitExceeded", "Quota exceeded for", Kind::Rate, Class::Rate);
        check(429, "rateLimitExceeded", "slow", Kind::Rate, Class::Rate);
        check(429, "", "slow", Kind::Rate, Class::Rate);
        check(403, "quotaExceeded", "Quota 'CPUS' exceeded.", Kind::Other, Class::Quota);
        check(403, "forbidden", "Required 'x'", Kind::Forbidden, Class::Denied);
        let image =
            "Required 'compute.images.useReadOnly' permission for 'projects/o/global/images/i'";
        check(403, "forbidden", image, Kind::Forbidden, Class::Rejected);
        let image = "Constraint constraints/compute.trustedImageProjects violated for project p.";
        check(412, "conditionNotMet", image, Kind::Other, Class::Rejected);
        check(403, "accessNotConfigured", "off", Kind::Forbidden, Class::Denied);
        check(401, "authError", "no", Kind::Token, Class::Denied);
        check(400, "invalid", "Invalid value", Kind::Other, Class::Rejected);
        check(400, "badRequest", "Invalid value", Kind::Other, Class::Rejected);
        check(400, "resourceNotReady", "not ready", Kind::Busy, Class::Ambiguous);
        check(404, "notFound", "was not found", Kind::Gone, Class::Rejected);
        check(409, "alreadyExists", "already exists", Kind::Exists, Class::Ambiguous);
        check(412, "conditionNotMet", "Fingerprint", Kind::Other, Class::Ambiguous);
        check(500, "internalError", "oh", Kind::Other, Class::Ambiguous);
        check(503, "backendError", "oh", Kind::Other, Class::Ambiguous);
        check(503, "insufficientCapacity", "no room", Kind::Other, Class::Capacity);
        let words = "Constraint constraints/compute.vmExternalIpAccess violated for project p.";
        check(412, "conditionNotMet", words, Kind::Other, Class::Denied);
        let named = called(412, "conditionNotMet", words).error.words;
        assert!(
            named.starts_with("the organisation's policy constraints/compute.vmExternalIpAccess "),
            "{named}"
        );
    }

    #[test]
    fn what_is_not_of_google_is_quoted() {
        let found = of_call(502, b"<html>\nbad gateway", ASKED);
        assert_eq!(found.error.class, Class::Ambiguous);
        assert_eq!(found.error.words, "Google answered 502: <html> bad gateway");
        assert_eq!(of_call(403, b"no", ASKED).error.class, Class::Denied);
    }

    #[test]
    fn operations_are_classified() {
        let check = |code: &str, message: &str, spot: bool, class: Class| {
            let found = ended(code, message, json!([]), spot);
            assert_eq!(found.error.class, class, "{code} {message}");
        };
        for code in [
            "ZONE_RESOURCE_POOL_EXHAUSTED",
            "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
            "REGION_RESOURCE_POOL_EXHAUSTED",
            "RESOURCE_POOL_EXHAUSTED",
            "GPU_STOCKOUT",
        ] {
            check(code, "x", false, Class::Capacity);
        }
        check("UNSUPPORTED_OPERATION", "x", true, Class::Capacity);
        check("UNSUPPORTED_OPERATION", "x", false, Class::Rejected);
        check("IP_SPACE_EXHAUSTED_WITH_DETAILS", "x", false, Class::Quota);
        check("RESOURCE_OPERATION_RATE_EXCEEDED", "x", false, Class::Rate);
        check("RESOURCE_NOT_FOUND", "'projects/p/global/images/i'", false, Class::Rejected);
        check("RESOURCE_NOT_FOUND", "'projects/p/zones/z/instances/m'", false, Class::Capacity);
        check("INVALID_FIELD_VALUE", "x", false, Class::Rejected);
        check("INVALID_USAGE", "x", false, Class::Rejected);
        check("PERMISSION_DENIED", "x", false, Class::Denied);
        check("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "x", false, Class::Capacity);
        check("INTERNAL_ERROR", "x", false, Class::Capacity);
        check("CONDITION_NOT_MET", "Constraint constraints/a.b violated", false, Class::Denied);
        assert_eq!(of_operation(None, ASKED), None);
    }

    #[test]
    fn a_stockout_names_the_machine_and_where_there_is_room() {
        let details = json!([
            {"help": {"links": []}},
            {"errorInfo": {"reason": "resource_availability", "metadatas": {
                "vmType": "n2-standard-4", "zonesAvailable": "us-central1-a,us-central1-f"
            }}},
        ]);
        let code = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS";
        let error = ended(code, "The zone …", details, true).error;
        assert_eq!(
            error.words,
            "us-central1-a has no room for a n2-standard-4 on spot now; Google has it in us-central1-a,us-central1-f"
        );
        assert_eq!(error.fields["room_in"], "us-central1-a,us-central1-f");
    }

    #[test]
    fn a_quota_says_which_how_much_where_and_who_raises_it() {
        let message = "Quota 'N2_CPUS' exceeded.  Limit: 24.0 in region us-central1.";
        let details = json!([{"quotaInfo": {
            "metricName": "compute.googleapis.com/n2_cpus", "limit": 24.0,
            "dimensions": {"region": "us-central1"},
        }}]);
        let both = [
            called(403, "quotaExceeded", message),
            ended("QUOTA_EXCEEDED", message, details, false),
        ];
        for refusal in both {
            let error = refusal.error;
            assert_eq!(
                error.words,
                "the quota N2_CPUS of the region us-central1 is used up: 24 is all; it is raised at https://console.cloud.google.com/iam-admin/quotas?project=p"
            );
            assert_eq!(
                (&*error.fields["metric"], &*error.fields["region"]),
                ("N2_CPUS", "us-central1")
            );
        }
        let details = json!([{"quotaInfo": {
            "metricName": "compute.googleapis.com/cpus_per_vm_family", "limit": 8,
            "dimensions": {"region": "us-central1", "vm_family": "C3"},
        }}]);
        let error = ended("QUOTA_EXCEEDED", "Quota 'CPUS_PER_VM_FAMILY' exceeded.", details, false);
        assert_eq!(error.error.fields["metric"], "C3_CPUS");
    }
}
