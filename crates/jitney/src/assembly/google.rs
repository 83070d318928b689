//! From the keys of a gce backend to the backend: its settings, and who we are to Google.

use std::time::Duration;

use backends::gce::{Access, Delivery, Gce, Options, Pauses, SelfDelete, Settings};
use planner::{BackendName, Rate};
use serde_json::json;

use crate::clock::process_now;
use crate::config::Config;
use crate::config::backends::clouds::{self, Credentials, TokenDelivery};
use crate::config::is_loopback;

/// Where the keys are that Google signs identity tokens with.
const KEYS: &str = "https://www.googleapis.com";
const KEYS_PATH: &str = "/oauth2/v3/certs";
/// Who says what we may do with a project and with an account.
const RESOURCE_MANAGER: &str = "https://cloudresourcemanager.googleapis.com";
const IAM: &str = "https://iam.googleapis.com";
/// How long an agent may take to connect where no queue says it.
const CONNECT_WITHIN: Duration = Duration::from_secs(300);

/// The backend. It makes no call yet.
///
/// # Errors
/// In words, with the key that is to blame.
pub(crate) fn gce(
    config: &Config,
    name: &BackendName,
    wanted: &clouds::Gce,
) -> Result<Gce, String> {
    // A sandbox has all services at one address.
    let sandbox = is_loopback(&wanted.endpoint).then_some(wanted.endpoint.trim_end_matches('/'));
    let service = |address: &str| sandbox.unwrap_or(address).to_owned();
    let options = Options {
        settings: settings(config, name, wanted)?,
        endpoint: wanted.endpoint.clone(),
        access: match wanted.credentials {
            Credentials::Default => Access::Default,
            Credentials::Anonymous => Access::Anonymous,
        },
        writes_per_minute: per_minute(wanted.writes),
        keys_url: format!("{}{KEYS_PATH}", service(KEYS)),
        resource_manager: service(RESOURCE_MANAGER),
        iam: service(IAM),
        keep_failed: wanted.keep_failed,
        pauses: Pauses::default(),
        now: process_now,
    };
    Gce::new(options).map_err(|error| format!("gce: {error}"))
}

fn settings(config: &Config, name: &BackendName, wanted: &clouds::Gce) -> Result<Settings, String> {
    let delivery = match (wanted.token_delivery, &config.server.public_url) {
        (TokenDelivery::Metadata, _) => Delivery::Metadata,
        (TokenDelivery::Pull, Some(url)) => {
            Delivery::Pull { url: format!("{}/guests/{name}", url.trim_end_matches('/')) }
        }
        (TokenDelivery::Pull, None) => {
            return Err("gce.token_delivery: pull needs public_url".to_owned());
        }
    };
    if matches!(delivery, Delivery::Pull { .. }) && wanted.service_account.is_none() {
        return Err("gce.service_account: a machine that pulls its token proves who it is by its service account, which may have no role at all; name one, or set token_delivery: metadata".to_owned());
    }
    let agent_config = wanted
        .agent_config
        .as_ref()
        .map(|path| {
            std::fs::read_to_string(path)
                .map_err(|error| format!("gce.agent_config: {}: {error}", path.display()))
        })
        .transpose()?;
    Ok(Settings {
        mark: config.name.clone(),
        project: wanted.project.clone(),
        zones: wanted.zones.clone(),
        image: wanted.image.clone(),
        images: wanted.images.clone(),
        service_account: wanted.service_account.clone(),
        delivery,
        self_delete: wanted.self_delete.then(|| SelfDelete {
            endpoint: wanted.endpoint.clone(),
            keeps_failed: !wanted.keep_failed.is_zero(),
        }),
        agent_config,
        subnetworks: wanted.subnetworks.clone(),
        external_ip: wanted.external_ip,
        template: wanted.template.clone().unwrap_or_else(|| json!({})),
        connect_within: connect_within(config, name),
    })
}

/// As long as the most patient queue of the backend waits.
fn connect_within(config: &Config, name: &BackendName) -> Duration {
    let served =
        config.queues.values().filter(|queue| queue.backends.iter().any(|of| of == name.as_str()));
    served.map(|queue| queue.start_timeout).max().unwrap_or(CONNECT_WITHIN)
}

/// At the least one; what is more than fits is as many as anybody can ask for.
fn per_minute(rate: Rate) -> u32 {
    let each = f64::from(rate.count) * 60.0 / rate.per.as_secs_f64().max(0.001);
    let whole = Duration::try_from_secs_f64(each).map_or(u64::MAX, |whole| whole.as_secs());
    u32::try_from(whole).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_a_minute() {
        let of = |count, seconds| per_minute(Rate { count, per: Duration::from_secs(seconds) });
        assert_eq!([of(1200, 60), of(20, 1), of(1, 3_600)], [1200, 1200, 1]);
    }
}
