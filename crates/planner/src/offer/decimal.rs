//! Numbers as the tables of families and prices write them, read exactly: sizes, shares, and
//! amounts of money in billionths. For `#[serde(with = …)]` and as [`Nanos`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Billionths of a currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

/// A price above this is a mistake, and would make sums too large.
const NANOS_MOST: u64 = 1_000_000_000_000_000;
const DECIMALS: usize = 9;

impl Nanos {
    /// `0.021812`: digits and at most nine decimals.
    fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || !is_digits(whole)
            || !is_digits(decimals)
            || decimals.len() > DECIMALS
        {
            return None;
        }
        let nanos: u64 = format!("{whole}{decimals:0<DECIMALS$}").parse().ok()?;
        (nanos <= NANOS_MOST).then_some(Self(nanos))
    }
}

/// The shortest text that is read as the same.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| wrong(&text, "an amount", "0.021812"))
    }
}

fn wrong<E: de::Error>(text: &str, what: &str, example: &str) -> E {
    let text = crate::words::crop(text, 40);
    E::custom(format!("\"{text}\" is not {what}: write {example}"))
}

/// Thousandths, as `5%` or `225.4%`.
pub(super) mod permille {
    use super::{Deserialize, Deserializer, Nanos, Serializer, wrong};

    const ONE_PERCENT: u64 = 1_000_000_000;

    pub(crate) fn serialize<S: Serializer>(permille: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}.{}%", permille / 10, permille % 10))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = String::deserialize(from)?;
        let percent = text.strip_suffix('%').and_then(Nanos::parse).map(|percent| percent.0);
        let whole = percent.filter(|percent| percent % (ONE_PERCENT / 10) == 0);
        whole
            .and_then(|percent| u32::try_from(percent / (ONE_PERCENT / 10)).ok())
            .ok_or_else(|| wrong(&text, "a share", "5% or 2.5%"))
    }
}

/// `640G`.
pub(super) mod size {
    use serde::de::Error;

    use super::{Deserialize, Deserializer, Serializer};
    use crate::{Bytes, parse_size};

    pub(crate) fn serialize<S: Serializer>(size: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}K", size.get() >> 10))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        let size = parse_size(&text).map_err(D::Error::custom)?;
        // What is finer than a kibibyte would not be written as it was read.
        Ok(Bytes::new(size.get() >> 10 << 10))
    }
}

/// `640G`, where there may be none.
pub(super) mod some_size {
    use super::{Deserializer, Serializer, size};
    use crate::Bytes;

    pub(crate) fn serialize<S: Serializer>(size: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => size::serialize(size, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Bytes>, D::Error> {
        size::deserialize(from).map(Some)
    }
}
