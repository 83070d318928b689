//! The JSON of the `http` backend's three calls, for us who call and for the service that answers
//! (`docs/http-backend.md` shows each). Types only: no client and no server.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::contract::{Class, Error, Hardware, Labels, Machine, Order, Resources};

/// The query of `GET {url}/machines`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListQuery {
    /// Only machines whose label `mark` equals this, exactly.
    pub mark: String,
    /// The version that the caller has seen. With it the reply may be held until there is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// For how many seconds at the most the reply may be held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

/// The reply to `GET {url}/machines`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListReply {
    /// Opaque; another one after each change to any machine of this mark.
    pub version: String,
    /// False where some machines could not be looked up: what is absent is then unknown.
    pub complete: bool,
    pub machines: Vec<Machine>,
}

/// The body of `PUT {url}/machines/<name>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The same for each repetition of this very request.
    pub request_id: Uuid,
    pub labels: Labels,
    pub resources: Resources,
    #[serde(default)]
    pub place: String,
    #[serde(default)]
    pub machine_type: String,
    #[serde(default)]
    pub spot: bool,
    /// Seconds from the create until the service ends the machine by itself.
    pub deadline_s: u64,
    pub agent: Agent,
    #[serde(default)]
    pub image: Option<String>,
    /// The machine may do nothing in your cloud in its own name: a policy's word.
    #[serde(default)]
    pub no_rights: bool,
}

/// How the machine's one agent is to be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    pub endpoint: String,
    /// Good for one job only. Secret: it stands in this body and is redacted in `Debug`.
    #[serde(serialize_with = "expose", deserialize_with = "conceal")]
    pub token: SecretString,
    pub name: String,
    /// `key=value`.
    pub tags: Vec<String>,
}

/// The body of every reply that is not a success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub class: Class,
    /// For people: what is wrong and what would help.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<f64>,
}

impl CreateRequest {
    #[must_use]
    pub fn from_order(order: &Order) -> Self {
        let whole = order.deadline.as_secs();
        let deadline_s = if order.deadline.subsec_nanos() > 0 { whole + 1 } else { whole };
        Self {
            request_id: order.request_id,
            labels: order.labels.clone(),
            resources: order.resources,
            place: order.place.clone(),
            machine_type: order.machine_type.clone(),
            spot: order.spot,
            deadline_s,
            agent: Agent {
                endpoint: order.endpoint.clone(),
                token: order.token.clone(),
                name: order.agent_name.clone(),
                tags: order.agent_tags.clone(),
            },
            image: order.image.clone(),
            no_rights: order.no_rights,
        }
    }

    /// The order as a service sees it, so that it can hand it on to a backend of its own.
    #[must_use]
    pub fn into_order(self, name: String) -> Order {
        Order {
            name,
            request_id: self.request_id,
            labels: self.labels,
            resources: self.resources,
            place: self.place,
            machine_type: self.machine_type,
            spot: self.spot,
            vm: None,
            hardware: Hardware::default(),
            deadline: std::time::Duration::from_secs(self.deadline_s),
            endpoint: self.agent.endpoint,
            token: self.agent.token,
            agent_name: self.agent.name,
            agent_tags: self.agent.tags,
            image: self.image,
            no_rights: self.no_rights,
        }
    }

    /// When the service ends the machine by itself, counted from `created_at`.
    #[must_use]
    pub fn deadline_at(&self, created_at: Timestamp) -> Timestamp {
        created_at
            .checked_add(std::time::Duration::from_secs(self.deadline_s))
            .unwrap_or(Timestamp::MAX)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            class: error.class,
            message: error.words.clone(),
            retry_after_s: error.retry_after.map(|wait| wait.as_secs_f64()),
        }
    }
}

fn expose<S: Serializer>(token: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose_secret())
}

fn conceal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}
