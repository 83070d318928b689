//! Texts with a unit, read and written: sizes, durations, rates, vCPUs. Every refusal says what
//! would have been right. Knows nothing of tags or of configurations.

use std::time::Duration;

use super::{Bytes, Cpu, SizeError, shown};

/// A gibibyte, as `64G` counts it.
const UNITS: [(char, u32); 4] = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];

/// More decimals than this say nothing about a machine.
const DECIMALS: usize = 9;

/// The spans that a duration may name, longest first, in milliseconds.
const SPANS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A thousand days: longer spans are mistakes, and no cloud keeps such a deadline.
const LONGEST: u64 = 86_400_000_000;

/// `1200/m`: so many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

/// `64G`, `64GB`, `64Gi` and `64GiB` are all 64 × 2³⁰ bytes; also K, M, T and fractions (`1.5T`).
/// A bare number is refused: nobody knows whether it means bytes or GiB.
pub fn parse_size(text: &str) -> Result<Bytes, SizeError> {
    let text = text.trim();
    let (number, unit) = split_number(text, "size", "64G")?;
    let mut letters = unit.chars().map(|letter| letter.to_ascii_lowercase());
    let shift = letters
        .next()
        .and_then(|first| UNITS.iter().find(|(unit, _)| *unit == first))
        .map(|(_, shift)| *shift)
        .filter(|_| matches!(letters.collect::<String>().as_str(), "" | "b" | "i" | "ib"));
    let digits = number.text;
    let Some(shift) = shift else {
        let problem = if unit.is_empty() {
            format!("{} has no unit", shown(text))
        } else {
            format!("{} is not a unit of size", shown(unit))
        };
        return Err(SizeError::new(problem, format!("write {digits}G (or K, M, T)")));
    };
    number
        .times(1_u128 << shift)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .map(Bytes::new)
        .ok_or_else(|| SizeError::new(format!("{} is too large", shown(text)), "write 64G"))
}

/// `250ms`, `30s`, `15m`, `6h`, `30d`, `1h30m`, `1.5h`; at most 1000 days.
pub fn parse_duration(text: &str) -> Result<Duration, SizeError> {
    let text = text.trim();
    let too_long = || SizeError::new(format!("{} is too long", shown(text)), "write at most 1000d");
    let mut rest = text;
    let mut millis = 0_u128;
    let mut last = u128::MAX;
    loop {
        let (number, after) = split_number(rest, "duration", "30s")?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let Some((_, span)) = SPANS.iter().find(|(name, _)| *name == unit) else {
            return Err(not_a_span(text, number.text, unit));
        };
        if *span >= last {
            let problem = format!("{} does not name its units from long to short", shown(text));
            return Err(SizeError::new(problem, "write 1h30m"));
        }
        last = *span;
        millis =
            number.times(*span).and_then(|part| millis.checked_add(part)).ok_or_else(too_long)?;
        if next.is_empty() {
            let millis = u64::try_from(millis).ok().filter(|millis| *millis <= LONGEST);
            return millis.map(Duration::from_millis).ok_or_else(too_long);
        }
        rest = next;
    }
}

fn not_a_span(text: &str, digits: &str, unit: &str) -> SizeError {
    let problem = if unit.is_empty() {
        format!("{} has no unit", shown(text))
    } else {
        format!("{} is not a unit of time", shown(unit))
    };
    SizeError::new(problem, format!("write {digits}s, {digits}m or {digits}h (also ms, d)"))
}

/// `20/s`, `1200/m`, `5000/h`.
pub fn parse_rate(text: &str) -> Result<Rate, SizeError> {
    let text = text.trim();
    let wrong =
        || SizeError::new(format!("{} is not a rate", shown(text)), "write 20/s, 1200/m or 5000/h");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count = parse_count(count.trim_end()).map_err(|_| wrong())?;
    let seconds = match unit.trim_start() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    Ok(Rate { count, per: Duration::from_secs(seconds) })
}

/// `16`, `0.5`, `500m` (thousandths).
pub fn parse_cpu(text: &str) -> Result<Cpu, SizeError> {
    let text = text.trim();
    let (number, unit) = split_number(text, "number of vCPUs", "cpu: 2 or cpu: 0.5")?;
    let scale = match unit {
        "" => 1000,
        "m" => 1,
        other => {
            let problem = format!("{} is not a unit of vCPUs", shown(other));
            return Err(SizeError::new(problem, format!("write {} or 500m", number.text)));
        }
    };
    if !number.is_multiple(scale) {
        let problem = format!("{} is finer than a thousandth of a vCPU", shown(text));
        return Err(SizeError::new(problem, "write 0.5 or 500m"));
    }
    number
        .times(scale)
        .and_then(|millis| u32::try_from(millis).ok())
        .map(Cpu::from_millis)
        .ok_or_else(|| SizeError::new(format!("{} is too many vCPUs", shown(text)), "write 16"))
}

/// `2`: a whole number, not negative.
pub fn parse_count(text: &str) -> Result<u32, SizeError> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SizeError::new(format!("{} is not a whole number", shown(text)), "write 2"));
    }
    text.parse().map_err(|_| SizeError::new(format!("{} is too large", shown(text)), "write 2"))
}

/// The shortest text that [`parse_duration`] reads as this duration, to the millisecond.
#[must_use]
pub fn spell_duration(span: Duration) -> String {
    let mut rest = span.as_millis();
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (name, millis) in SPANS {
        if rest >= millis {
            text.push_str(&format!("{}{name}", rest / millis));
            rest %= millis;
        }
    }
    text
}

/// The largest size of at most `bytes` that can be written as a tag in whole units: `64G`, `512M`.
#[must_use]
pub fn spell_size(bytes: Bytes) -> String {
    let bytes = bytes.get();
    let exact = [(40, "T"), (30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift);
    // Nobody writes `33554431K`: what is not a round number is cut to whole GiB, or MiB below 8 GiB.
    let (shift, unit) = match exact {
        Some(exact) if bytes >> exact.0 < 10_000 => exact,
        Some(_) | None if bytes >= 8 << 30 => (30, "G"),
        Some(_) | None if bytes >= 1 << 20 => (20, "M"),
        Some(_) | None => (10, "K"),
    };
    format!("{}{unit}", bytes >> shift)
}

/// A decimal number, kept exact.
struct Number<'a> {
    text: &'a str,
    whole: u128,
    /// The digits after the point, as a number, and how many there are.
    fraction: u128,
    decimals: u32,
}

impl Number<'_> {
    /// The number × `scale`, rounded down.
    fn times(&self, scale: u128) -> Option<u128> {
        let part = self.fraction.checked_mul(scale)? / 10_u128.pow(self.decimals);
        self.whole.checked_mul(scale)?.checked_add(part)
    }

    /// Whether the number × `scale` is whole.
    const fn is_multiple(&self, scale: u128) -> bool {
        (self.fraction * scale).is_multiple_of(10_u128.pow(self.decimals))
    }
}

/// The number that a text begins with, and the rest of it.
fn split_number<'a>(
    text: &'a str,
    what: &str,
    example: &str,
) -> Result<(Number<'a>, &'a str), SizeError> {
    let wrong = |problem: &str| {
        SizeError::new(format!("{} {problem}", shown(text)), format!("write {example}"))
    };
    if text.is_empty() {
        return Err(SizeError::new(format!("the {what} is missing"), format!("write {example}")));
    }
    if text.starts_with('-') {
        return Err(wrong("is negative"));
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if rest.starts_with(',') {
        return Err(wrong("has a comma; a fraction needs a point"));
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(wrong(&format!("is not a {what}")));
    }
    if fraction.len() > DECIMALS {
        return Err(wrong("has too many decimals"));
    }
    let whole = whole.parse().map_err(|_| wrong("is too large"))?;
    let decimals = u32::try_from(fraction.len()).expect("at most 9");
    let fraction = fraction.parse().expect("at most 9 digits");
    Ok((Number { text: number, whole, fraction, decimals }, rest.trim_start()))
}
