//! The metadata server of one machine, at an address of its own: what the machine is, its tokens,
//! whether it is being preempted. It answers whoever has the address, as the real one does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::compute::{Compute, Instance};
use super::server::Shared;

/// What the machine's own `poweroff` calls.
pub(super) const POWER_OFF: &str = "/_machine/poweroff";
const ROOT: &str = "/computeMetadata/v1";
/// The longest that a change is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
const FLAVOR: &str = "metadata-flavor";
const GUEST_ATTRIBUTES: &str = "/instance/guest-attributes/";

#[derive(Clone, Debug)]
struct Server {
    shared: Arc<Shared>,
    id: u64,
}

/// Serves until the task is aborted.
pub(super) fn serve(listener: TcpListener, shared: Arc<Shared>, id: u64) -> JoinHandle<()> {
    let app = Router::new().fallback(answer).with_state(Server { shared, id });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, machine = id, "a metadata server stopped");
        }
    })
}

type Parameters = BTreeMap<String, String>;

async fn answer(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut response = server.respond(&method, uri.path(), &parameters, &headers, &body).await;
    response.headers_mut().insert(FLAVOR, HeaderValue::from_static("Google"));
    response
        .headers_mut()
        .insert(header::SERVER, HeaderValue::from_static("Metadata Server for VM"));
    response
}

fn text(status: StatusCode, words: impl Into<String>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/text")];
    (status, kind, words.into()).into_response()
}

fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "Not found\n")
}

impl Server {
    async fn respond(
        &self,
        method: &Method,
        path: &str,
        parameters: &Parameters,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Response {
        if path == POWER_OFF && method == Method::POST {
            self.shared.compute(|compute, now| compute.power_off(self.id, now));
            return StatusCode::NO_CONTENT.into_response();
        }
        // So that a page or a proxy cannot be made to ask for somebody else.
        let flavor = headers.get(FLAVOR).is_some_and(|value| value == "Google");
        if headers.contains_key("x-forwarded-for") || !flavor && path != "/" {
            let words = "Missing Metadata-Flavor:Google header.\n";
            return text(StatusCode::FORBIDDEN, words);
        }
        if path == "/" {
            return text(StatusCode::OK, "computeMetadata/\n");
        }
        let Some(path) = path.strip_prefix(ROOT) else { return not_found() };
        if method != Method::GET {
            return self.write(method, path, body);
        }
        if let Some(response) = self.tokens(path, parameters) {
            return response;
        }
        self.read(path, parameters).await
    }

    fn write(&self, method: &Method, path: &str, body: &Bytes) -> Response {
        let key = path.strip_prefix(GUEST_ATTRIBUTES).filter(|key| key.contains('/'));
        let Some(key) = key else { return not_found() };
        let Ok(value) = std::str::from_utf8(body) else {
            return text(StatusCode::BAD_REQUEST, "the value is no text\n");
        };
        let value = match *method {
            Method::PUT => Some(value),
            Method::DELETE => None,
            _ => return text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n"),
        };
        let written =
            self.shared.compute(|compute, _| compute.set_guest_attribute(self.id, key, value));
        if written {
            return StatusCode::OK.into_response();
        }
        text(StatusCode::FORBIDDEN, "Guest attributes endpoint access is disabled.\n")
    }

    /// The access and the identity token of the machine's service account.
    fn tokens(&self, path: &str, parameters: &Parameters) -> Option<Response> {
        let rest = path.strip_prefix("/instance/service-accounts/")?;
        let (account, what) = rest.split_once('/')?;
        let email = self.shared.look(|compute| {
            let account = compute.instance_by_id(self.id)?.account.as_ref()?;
            Some(account.email.clone())
        })?;
        if account != "default" && account != email {
            return None;
        }
        match what {
            "token" => Some(axum::Json(self.shared.access_token(&email)).into_response()),
            "identity" => {
                let Some(audience) = parameters.get("audience").filter(|it| !it.is_empty()) else {
                    let words = "non-empty audience parameter required\n";
                    return Some(text(StatusCode::BAD_REQUEST, words));
                };
                let full = parameters.get("format").is_some_and(|format| format == "full");
                let token = self.shared.identity_token(self.id, audience, full)?;
                Some(text(StatusCode::OK, token))
            }
            _ => None,
        }
    }

    async fn read(&self, path: &str, parameters: &Parameters) -> Response {
        let asked = |name: &str| parameters.get(name).is_some_and(|it| it == "true");
        if asked("wait_for_change") {
            let limit = parameters.get("timeout_sec").and_then(|text| text.parse().ok());
            let limit = limit.map_or(LONGEST_WAIT, Duration::from_secs).min(LONGEST_WAIT);
            let last = parameters.get("last_etag").map(String::as_str);
            // That the time is up is an answer too: the value as it is.
            let _ = timeout(limit, self.change(path, last)).await;
        }
        let Some(value) = self.value(path) else { return not_found() };
        let etag = etag(&value);
        let recursive = asked("recursive");
        let format = parameters.get("alt").map(String::as_str);
        let mut response = show(&value, recursive, format, path.ends_with('/'));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }

    fn value(&self, path: &str) -> Option<Value> {
        self.shared.look(|compute| {
            let instance = compute.instance_by_id(self.id)?;
            walk(tree(compute, instance), path)
        })
    }

    /// Resolves when the value is another one than the caller knows.
    async fn change(&self, path: &str, last: Option<&str>) {
        let mut changes = self.shared.changes();
        let now = || self.value(path).map(|value| etag(&value));
        let first = last.map(str::to_owned).or_else(now);
        while now() == first {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

fn walk(mut value: Value, path: &str) -> Option<Value> {
    for part in path.split('/').filter(|part| !part.is_empty()) {
        value = match value {
            Value::Object(mut map) => map.remove(part)?,
            Value::Array(mut items) => {
                let index: usize = part.parse().ok()?;
                (index < items.len()).then(|| items.swap_remove(index))?
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
    }
    Some(value)
}

fn etag(value: &Value) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(value.to_string().as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that there is to read, by the names that the paths have.
fn tree(compute: &Compute, instance: &Instance) -> Value {
    let settings = compute.settings();
    let number = settings.project_number;
    let zone = format!("projects/{number}/zones/{}", instance.zone);
    let yes = |is: bool| if is { "TRUE" } else { "FALSE" };
    let attributes: Map<String, Value> =
        instance.attributes().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    let accounts = instance.account.as_ref().map_or_else(
        || json!({}),
        |account| {
            let own =
                json!({"aliases": ["default"], "email": account.email, "scopes": account.scopes});
            let mut accounts = json!({"default": own});
            accounts[&account.email] = own;
            accounts
        },
    );
    json!({
        "instance": {
            "id": instance.id.to_string(), "name": instance.name, "zone": zone,
            "hostname": format!("{}.{}.c.{}.internal", instance.name, instance.zone, settings.project),
            "machine-type": format!("projects/{number}/machineTypes/{}", instance.machine_type.name),
            "preempted": yes(instance.preempted), "maintenance-event": "NONE",
            "tags": instance.network_tags(), "attributes": attributes,
            "service-accounts": accounts,
            "guest-attributes": guest_attributes(instance),
            "scheduling": {
                "preemptible": yes(instance.spot), "automatic-restart": yes(!instance.spot),
                "on-host-maintenance": if instance.spot { "TERMINATE" } else { "MIGRATE" },
            },
            "network-interfaces": [{"ip": instance.internal_ip, "network": format!("projects/{number}/networks/ci")}],
        },
        "project": {
            "project-id": settings.project, "numeric-project-id": number.to_string(), "attributes": {},
        },
        "universe": {"universe-domain": "googleapis.com"},
    })
}

fn guest_attributes(instance: &Instance) -> Value {
    let mut namespaces = Map::new();
    for (path, value) in &instance.guest_attributes {
        let Some((namespace, key)) = path.split_once('/') else { continue };
        let within = namespaces.entry(namespace).or_insert_with(|| json!({}));
        within[key] = json!(value);
    }
    Value::Object(namespaces)
}

/// A leaf as text, a folder as a list of names or, when all of it is wanted, as JSON.
fn show(value: &Value, recursive: bool, format: Option<&str>, folder: bool) -> Response {
    match value {
        Value::String(words) if format != Some("json") => text(StatusCode::OK, words.clone()),
        Value::Object(_) if recursive => axum::Json(camel(value, false)).into_response(),
        Value::Object(map) if folder => {
            let name = |(key, inner): (&String, &Value)| match inner {
                Value::Object(_) => format!("{key}/\n"),
                Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                    format!("{key}/\n")
                }
                Value::Array(_)
                | Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_) => format!("{key}\n"),
            };
            let mut names: Vec<String> = map.iter().map(name).collect();
            names.sort();
            text(StatusCode::OK, names.concat())
        }
        Value::Array(items) if !recursive && format != Some("json") => {
            let one = |(index, item): (usize, &Value)| match item.as_str() {
                Some(words) => format!("{words}\n"),
                None => format!("{index}/\n"),
            };
            text(StatusCode::OK, items.iter().enumerate().map(one).collect::<String>())
        }
        Value::Object(_) => text(StatusCode::MOVED_PERMANENTLY, "a folder's path ends with /\n"),
        Value::Array(_) | Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {
            axum::Json(camel(value, false)).into_response()
        }
    }
}

/// JSON has `machineType` where the paths have `machine-type`; what people named stays.
fn camel(value: &Value, theirs: bool) -> Value {
    match value {
        Value::Object(map) => {
            let one = |(key, inner): (&String, &Value)| {
                let names =
                    matches!(key.as_str(), "attributes" | "guest-attributes" | "service-accounts");
                let shown = if theirs { key.clone() } else { camel_name(key) };
                (shown, camel(inner, names))
            };
            Value::Object(map.iter().map(one).collect())
        }
        Value::Array(items) => items.iter().map(|item| camel(item, false)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn camel_name(name: &str) -> String {
    let mut parts = name.split('-');
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        shown.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        shown.push_str(letters.as_str());
    }
    shown
}
