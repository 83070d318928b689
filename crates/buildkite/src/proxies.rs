//! Which proxy, if any, leads to an endpoint: the rules of `HTTPS_PROXY` and `NO_PROXY` as curl
//! and Go's programs have them. It opens no connection and reads no environment.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::error::ConfigError;

/// The operator's proxies. Loopback addresses never go through one.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Url>,
    http: Option<Url>,
    except: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq)]
struct Exception {
    host: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
enum Hosts {
    All,
    /// The name itself and what is below it.
    Domain(String),
    /// Only what is below it (`.example.com`).
    Below(String),
    Network {
        address: IpAddr,
        bits: u8,
    },
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |proxy: &Option<Url>| proxy.as_ref().map(without_password);
        f.debug_struct("Proxies")
            .field("https", &shown(&self.https))
            .field("http", &shown(&self.http))
            .field("except", &self.except)
            .finish()
    }
}

/// A proxy's address as people may see it.
fn without_password(url: &Url) -> String {
    let credentials =
        if url.username().is_empty() && url.password().is_none() { "" } else { "…@" };
    let port = url.port_or_known_default().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{credentials}{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

impl Proxies {
    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// From variables: `HTTPS_PROXY` for `https://` endpoints, `HTTP_PROXY` for `http://` ones,
    /// `ALL_PROXY` where the fitting one is unset, and `NO_PROXY`; the lower-case spelling counts
    /// first, empty is unset. `var` looks one up, so that the environment is read where the
    /// configuration is.
    ///
    /// # Errors
    /// Names the variable whose value is not an `http://` or `https://` address.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let find = |upper: &str| {
            [upper.to_ascii_lowercase(), upper.to_owned()]
                .into_iter()
                .find_map(|name| var(&name).filter(|v| !v.trim().is_empty()).map(|v| (name, v)))
        };
        let proxy = |upper: &str| {
            find(upper).or_else(|| find("ALL_PROXY")).map(|(name, value)| parse(&name, &value))
        };
        let no_proxy = find("NO_PROXY").map(|(_, value)| value).unwrap_or_default();
        Ok(Self {
            https: proxy("HTTPS_PROXY").transpose()?,
            http: proxy("HTTP_PROXY").transpose()?,
            except: no_proxy.split([',', ' ']).filter_map(Exception::parse).collect(),
        })
    }

    /// The proxy's address for people (without its password), or none when the endpoint is
    /// reached directly.
    #[must_use]
    pub fn describe(&self, endpoint: &str) -> Option<String> {
        Url::parse(endpoint).ok().and_then(|url| self.choose(&url).map(without_password))
    }

    /// The proxy that leads to `url`.
    pub(crate) fn choose(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        }?;
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default();
        let direct =
            is_loopback(host) || self.except.iter().any(|except| except.covers(host, port));
        (!direct).then_some(proxy)
    }
}

fn parse(variable: &str, value: &str) -> Result<Url, ConfigError> {
    let value = value.trim();
    let full = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let refuse = |reason: &str| ConfigError::Proxy {
        variable: variable.to_owned(),
        reason: reason.to_owned(),
    };
    // The value may hold a password, so it is not repeated.
    let url = Url::parse(&full).map_err(|error| refuse(&format!("not an address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("only http:// and https:// proxies can be used"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refuse("names no host"));
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

impl Exception {
    /// An entry that cannot match anything (`:80`, an impossible mask) is left out, as elsewhere.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Some(Self { host: Hosts::All, port: None });
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok().filter(|&bits| bits <= width(address))?;
            return Some(Self { host: Hosts::Network { address, bits }, port: None });
        }
        let (name, port) = split_port(&entry)?;
        let name = name.trim_end_matches('.');
        let host = if let Ok(address) = name.parse::<IpAddr>() {
            Hosts::Network { address, bits: width(address) }
        } else if let Some(domain) = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Hosts::Below(domain.to_owned())
        } else {
            Hosts::Domain(name.to_owned())
        };
        (!name.is_empty()).then_some(Self { host, port })
    }

    fn covers(&self, host: &str, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match &self.host {
            Hosts::All => true,
            Hosts::Domain(name) => host == *name || is_below(&host, name),
            Hosts::Below(name) => is_below(&host, name),
            Hosts::Network { address, bits } => {
                host.parse().is_ok_and(|host| within(host, *address, *bits))
            }
        }
    }
}

/// `name:port`, `[v6]:port`, a bare IPv6 address, or a bare name.
fn split_port(entry: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = entry.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            None => Some((address, None)),
            Some(port) => Some((address, Some(port.parse().ok()?))),
        };
    }
    match entry.split_once(':') {
        Some((name, port)) if !port.contains(':') => Some((name, Some(port.parse().ok()?))),
        _ => Some((entry, None)),
    }
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn within(host: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (host.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(host), IpAddr::V4(network)) => {
            let shift = 32u32.saturating_sub(u32::from(bits));
            (host.to_bits() ^ network.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(host), IpAddr::V6(network)) => {
            let shift = 128u32.saturating_sub(u32::from(bits));
            (host.to_bits() ^ network.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests;
