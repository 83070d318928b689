//! Google's two shapes of errors: what a call is refused with, and what an operation ends with.

use serde_json::{Value, json};

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: u16,
    /// `notFound`, as in `error.errors[0].reason`.
    pub reason: &'static str,
    pub domain: &'static str,
    /// `NOT_FOUND`
    pub status: &'static str,
    pub message: String,
    /// `error.details`
    pub details: Vec<Value>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, status: &'static str, message: String) -> Self {
        Self { code, reason, domain: "global", status, message, details: Vec::new() }
    }

    /// The body does not fit its schema, or a parameter does not.
    pub(super) fn malformed(words: &[String]) -> Self {
        let violations: Vec<Value> =
            words.iter().map(|words| json!({"description": words})).collect();
        let mut refusal = Self::new(400, "badRequest", "INVALID_ARGUMENT", words.join("\n"));
        refusal.details = vec![
            json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}),
        ];
        refusal
    }

    /// A field's value that makes no sense here.
    pub(super) fn invalid(field: &str, value: &str, why: &str) -> Self {
        let message = format!("Invalid value for field '{field}': '{value}'. {why}");
        Self::new(400, "invalid", "INVALID_ARGUMENT", message)
    }

    pub(super) fn not_ready(resource: &str) -> Self {
        let message = format!("The resource '{resource}' is not ready");
        Self::new(400, "resourceNotReady", "INVALID_ARGUMENT", message)
    }

    pub(super) fn in_use(resource: &str, by: &str) -> Self {
        let message = format!("The disk resource '{resource}' is already being used by '{by}'");
        Self::new(400, "resourceInUseByAnotherResource", "INVALID_ARGUMENT", message)
    }

    pub(super) fn unauthenticated() -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.".to_owned();
        Self::new(401, "authError", "UNAUTHENTICATED", message)
    }

    pub(super) fn forbidden(permission: &str, resource: &str) -> Self {
        let message = format!("Required '{permission}' permission for '{resource}'");
        Self::new(403, "forbidden", "PERMISSION_DENIED", message)
    }

    pub(super) fn rate(metric: &str, limit: u32, region: &str, project_number: u64) -> Self {
        let message = format!(
            "Quota exceeded for quota metric '{metric}' and limit '{metric} per minute per region' of service 'compute.googleapis.com' for consumer 'project_number:{project_number}'."
        );
        let mut refusal = Self::new(403, "rateLimitExceeded", "PERMISSION_DENIED", message);
        refusal.domain = "usageLimits";
        refusal.details = vec![json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com",
            "metadata": {
                "quota_metric": format!("compute.googleapis.com/{metric}"),
                "quota_limit": format!("{metric}-per-minute-per-region"),
                "quota_limit_value": limit.to_string(), "quota_location": region,
                "quota_unit": "1/min/{project}/{region}", "service": "compute.googleapis.com",
                "consumer": format!("projects/{project_number}"),
            },
        })];
        refusal
    }

    pub(super) fn quota(exceeded: &Failure) -> Self {
        let mut refusal =
            Self::new(403, "quotaExceeded", "PERMISSION_DENIED", exceeded.message.clone());
        refusal.domain = "usageLimits";
        refusal
    }

    pub(super) fn not_found(resource: &str) -> Self {
        let message = format!("The resource '{resource}' was not found");
        Self::new(404, "notFound", "NOT_FOUND", message)
    }

    pub(super) fn exists(resource: &str) -> Self {
        let message = format!("The resource '{resource}' already exists");
        Self::new(409, "alreadyExists", "ALREADY_EXISTS", message)
    }

    pub(super) fn condition(message: String) -> Self {
        Self::new(412, "conditionNotMet", "FAILED_PRECONDITION", message)
    }

    pub(super) fn unavailable(what: &str) -> Self {
        Self::new(503, "backendError", "UNAVAILABLE", format!("{what} is not available now"))
    }

    /// Our own answer broke Google's schema: a bug of the sandbox.
    pub(super) fn broken(words: &str) -> Self {
        let message = format!("the sandbox's own answer breaks its schema: {words}");
        Self::new(500, "internalError", "INTERNAL", message)
    }

    /// What a fault on demand answers.
    pub(super) fn on_demand(code: u16, message: Option<String>) -> Self {
        let (reason, status) = match code {
            400 => ("invalid", "INVALID_ARGUMENT"),
            401 => ("authError", "UNAUTHENTICATED"),
            403 => ("forbidden", "PERMISSION_DENIED"),
            404 => ("notFound", "NOT_FOUND"),
            409 => ("alreadyExists", "ALREADY_EXISTS"),
            412 => ("conditionNotMet", "FAILED_PRECONDITION"),
            429 => ("rateLimitExceeded", "RESOURCE_EXHAUSTED"),
            503 => ("backendError", "UNAVAILABLE"),
            _ => ("internalError", "INTERNAL"),
        };
        Self::new(code, reason, status, message.unwrap_or_else(|| "refused on demand".to_owned()))
    }

    pub(super) fn body(&self) -> Value {
        let mut error = json!({
            "code": self.code, "message": self.message, "status": self.status,
            "errors": [{"message": self.message, "domain": self.domain, "reason": self.reason}],
        });
        if !self.details.is_empty() {
            error["details"] = Value::Array(self.details.clone());
        }
        json!({ "error": error })
    }
}

/// What an operation ends with when it fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// `ZONE_RESOURCE_POOL_EXHAUSTED`
    pub code: String,
    pub message: String,
    /// `error.errors[0].errorDetails`
    pub details: Vec<Value>,
    pub http: (u16, &'static str),
}

impl Failure {
    /// One without details.
    pub(super) fn plain(code: &str, message: &str) -> Self {
        let http = match code {
            "RESOURCE_NOT_FOUND" => (404, "NOT FOUND"),
            "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE" | "UNSUPPORTED_OPERATION" => (400, "BAD REQUEST"),
            "INTERNAL_ERROR" => (500, "INTERNAL ERROR"),
            _ => (503, "SERVICE UNAVAILABLE"),
        };
        Self { code: code.to_owned(), message: message.to_owned(), details: Vec::new(), http }
    }

    /// The zone has no room for the machine; `elsewhere` are the zones of its region that have.
    pub(super) fn stockout(
        project: &str,
        zone: &str,
        machine_type: &str,
        elsewhere: &[String],
    ) -> Self {
        let advice = if elsewhere.is_empty() {
            String::new()
        } else {
            format!(
                " Consider trying your request in the {} zone(s), which currently has capacity to accommodate your request.",
                elsewhere.join(", ")
            )
        };
        let localized = format!(
            "A {machine_type} VM instance is currently unavailable in the {zone} zone.{advice} Alternatively, you can try your request again with a different VM hardware configuration or at a later time. For more information, see the troubleshooting documentation."
        );
        let details = vec![
            json!({"help": {"links": [{
                "description": "Troubleshooting documentation",
                "url": "https://cloud.google.com/compute/docs/resource-error",
            }]}}),
            json!({"localizedMessage": {"locale": "en-US", "message": localized}}),
            json!({"errorInfo": {
                "domain": "compute.googleapis.com", "reason": "resource_availability",
                "metadatas": {
                    "attachment": "", "vmType": machine_type, "zone": zone,
                    "zonesAvailable": elsewhere.join(","),
                },
            }}),
        ];
        Self {
            code: "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS".to_owned(),
            message: format!(
                "The zone 'projects/{project}/zones/{zone}' does not have enough resources available to fulfill the request. '(resource type:compute)'."
            ),
            details,
            http: (503, "SERVICE UNAVAILABLE"),
        }
    }

    pub(super) fn quota(metric: &str, limit: f64, region: &str, family: Option<&str>) -> Self {
        let place = if metric.ends_with("_ALL_REGIONS") {
            "globally".to_owned()
        } else {
            format!("in region {region}")
        };
        let lower = metric.to_lowercase();
        let dashes = metric.replace('_', "-");
        let mut dimensions = json!({"region": region});
        let mut message = format!("Quota '{metric}' exceeded.  Limit: {limit:.1} {place}.");
        if let Some(family) = family {
            dimensions["vm_family"] = json!(family);
            message.push_str(&format!("\n\tmetric name = compute.googleapis.com/{lower}\n\tlimit name = {dashes}-per-project-region\n\tdimensions = region: {region}, vm_family: {family}"));
        }
        Self {
            code: "QUOTA_EXCEEDED".to_owned(),
            message,
            details: vec![json!({"quotaInfo": {
                "metricName": format!("compute.googleapis.com/{lower}"),
                "limitName": format!("{dashes}-per-project-region"),
                "limit": limit, "dimensions": dimensions,
            }})],
            http: (403, "FORBIDDEN"),
        }
    }

    pub(super) fn body(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.details.is_empty() {
            error["errorDetails"] = Value::Array(self.details.clone());
        }
        json!({"errors": [error]})
    }
}
