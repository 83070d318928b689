//! Single values: from the text in the file to the type that the rest of the program uses.
//!
//! Each takes a text and gives a value or a complaint with its remedy; sizes and durations are the
//! planner's, so that a configuration and a job's tags read the same.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use planner::{Bytes, Cpu, Glob, Rate, SizeError};

use super::problem::Complaint;
use super::words::{list_of, nearest};

type Parsed<T> = Result<T, Complaint>;

pub(super) fn text(text: &str) -> Parsed<String> {
    Ok(text.to_owned())
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    Ok(PathBuf::from(text))
}

/// A value as it is shown in a sentence: quoted, and cut where it is long.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 40;
    let rest = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    format!("\"{}{rest}\"", text.chars().take(MOST).collect::<String>())
}

fn unit(error: SizeError) -> Complaint {
    Complaint::new(error.problem, error.remedy)
}

pub(super) fn duration(text: &str) -> Parsed<Duration> {
    planner::parse_duration(text).map_err(unit)
}

pub(super) fn duration_above_zero(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        Duration::ZERO => {
            Err(Complaint::new(format!("{} is no time at all", shown(text)), "write 30s"))
        }
        span => Ok(span),
    }
}

pub(super) fn size(text: &str) -> Parsed<Bytes> {
    planner::parse_size(text).map_err(unit)
}

/// A number of vCPU above zero.
pub(super) fn cpu(text: &str) -> Parsed<Cpu> {
    match planner::parse_cpu(text).map_err(unit)? {
        none if none.millis() == 0 => {
            Err(Complaint::new(format!("{} is no vCPU at all", shown(text)), "write 2 or 0.5"))
        }
        cpu => Ok(cpu),
    }
}

/// Money, in millionths.
pub(super) fn micros(text: &str) -> Parsed<u64> {
    decimal(text, 6).ok_or_else(|| {
        Complaint::new(
            format!("{} is not an amount", shown(text)),
            "write a number, as 400 or 12.50",
        )
    })
}

/// A decimal number, shifted left by so many places; nothing where it has more, or is too large.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > places {
        return None;
    }
    format!("{whole}{fraction:0<places$}").parse().ok()
}

/// A whole number within bounds.
pub(super) fn whole<N>(least: N, most: N) -> impl Fn(&str) -> Parsed<N>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    move |text| {
        let number = text.parse::<N>().ok();
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            Complaint::new(
                format!("{} is not a whole number from {least} to {most}", shown(text)),
                format!("write a whole number from {least} to {most}"),
            )
        })
    }
}

/// A count of machines or agents.
pub(super) fn count(text: &str) -> Parsed<u32> {
    whole(0, 1_000_000)(text)
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Complaint::new(
            format!("{} is neither true nor false", shown(other)),
            "write true or false",
        )),
    }
}

/// One of some words.
pub(super) fn one_of<T: Copy, const N: usize>(
    words: [(&'static str, T); N],
) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let all = || words.iter().map(|(word, _)| *word);
        let remedy = match nearest(text, all()) {
            Some(near) => format!("did you mean {near}? One of: {}", list_of(all())),
            None => format!("write one of: {}", list_of(all())),
        };
        Err(Complaint::new(format!("{} is not a word that is known here", shown(text)), remedy))
    }
}

/// A name of ours that stands elsewhere in the file.
pub(super) fn reference<'n>(
    kind: &'static str,
    names: &'n [String],
) -> impl Fn(&str) -> Parsed<String> + use<'n> {
    move |text| {
        // Where there is none at all, that is the error, and not this.
        if names.is_empty() || names.iter().any(|name| name == text) {
            return Ok(text.to_owned());
        }
        let all = || names.iter().map(String::as_str);
        let remedy = match nearest(text, all()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there is: {}", list_of(all())),
        };
        Err(Complaint::new(format!("there is no {kind} {}", shown(text)), remedy))
    }
}

/// `50%`, as thousandths.
pub(super) fn permille(text: &str) -> Parsed<u32> {
    let number = text.strip_suffix('%').and_then(|number| decimal(number.trim_end(), 1));
    number
        .and_then(|permille| u32::try_from(permille).ok())
        .filter(|permille| *permille <= 1000)
        .ok_or_else(|| {
            Complaint::new(format!("{} is not a share", shown(text)), "write 0% to 100%, as 50%")
        })
}

/// `20/s`, `1200/m`, `5000/h`.
pub(super) fn rate(text: &str) -> Parsed<Rate> {
    match planner::parse_rate(text).map_err(unit)? {
        Rate { count: 0, per: _ } => Err(Complaint::new(
            format!("{} never comes", shown(text)),
            "write 20/s, 1200/m or 5000/h",
        )),
        rate => Ok(rate),
    }
}

/// Where to listen: an address of this machine and a port.
pub(super) fn listen(text: &str) -> Parsed<SocketAddr> {
    let port = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = port {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        Complaint::new(
            format!("{} is not an address with a port", shown(text)),
            "write 127.0.0.1:8780, or 0.0.0.0:8780 to be reached from elsewhere",
        )
    })
}

/// An `http` or `https` address, without a slash at its end.
pub(super) fn url(text: &str) -> Parsed<String> {
    // Before the @ of an address may stand a password.
    if text.contains('@') {
        return Err(Complaint::new(
            "the address carries a user or a password",
            "take them out of the address; tokens have keys of their own",
        )
        .hiding());
    }
    let bad = |why: &str| {
        Complaint::new(
            format!("{} is not an address: {why}", shown(text)),
            "write https://HOST, with a port and a path if there are any",
        )
    };
    let parsed = reqwest::Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(bad("it does not begin with http:// or https://"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A name as RFC 1035 has them, short enough for the names of machines.
pub(super) fn mark(text: &str) -> Parsed<String> {
    const MOST: usize = 23;
    let remedy = "write at most 23 small letters, digits and dashes, beginning with a letter";
    if text.chars().count() > MOST {
        let problem = format!("{} is longer than {MOST} characters", shown(text));
        return Err(Complaint::new(problem, remedy));
    }
    if !is_label(text) {
        return Err(Complaint::new(
            format!("{} is not a name as RFC 1035 has them", shown(text)),
            remedy,
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn is_label(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

pub(super) fn glob(text: &str) -> Parsed<Glob> {
    Ok(Glob::new(text))
}

/// `key=value`, as agents carry them.
pub(super) fn tag(text: &str) -> Parsed<String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(text.to_owned()),
        Some(_) | None => {
            Err(Complaint::new(format!("{} is not a tag", shown(text)), "write key=value"))
        }
    }
}

/// Three capital letters.
pub(super) fn currency(text: &str) -> Parsed<String> {
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(
        format!("{} is not a currency", shown(text)),
        "write its three letters, as USD",
    ))
}

/// Five fields, as `0 4 * * *`.
pub(super) fn cron(text: &str) -> Parsed<String> {
    const BOUNDS: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let fits = fields.len() == BOUNDS.len()
        && fields
            .iter()
            .zip(BOUNDS)
            .all(|(field, bounds)| field.split(',').all(|part| is_cron_part(part, bounds)));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(
        format!("{} is not a schedule", shown(text)),
        "write five fields in UTC (minute, hour, day, month, weekday), as \"0 4 * * *\"",
    ))
}

/// `*`, `5`, `1-5`, each with `/step` or without.
fn is_cron_part(part: &str, (least, most): (u32, u32)) -> bool {
    let (range, step) = part.split_once('/').unwrap_or((part, "1"));
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| (least..=most).contains(n));
    let in_bounds = match range.split_once('-') {
        Some((from, to)) => {
            matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to)
        }
        None => range == "*" || number(range).is_some(),
    };
    in_bounds && step.parse::<u32>().is_ok_and(|step| step > 0)
}

/// Whether an address that `url` accepted is on this machine.
pub(crate) fn is_loopback(address: &str) -> bool {
    let url = reqwest::Url::parse(address).ok();
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
