//! Kubernetes' quantities (`500m`, `1.5Gi`, `2e3`) as numbers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const SUFFIXES: [(&str, u64); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("Ei", 1 << 60),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

/// In thousandths. `None` where it is no quantity; the API server takes none such.
pub(super) fn milli(quantity: &Quantity) -> Option<u128> {
    let text = quantity.0.trim();
    if let Some(text) = text.strip_suffix('m') {
        return text.parse().ok();
    }
    let (digits, unit) =
        SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let (digits, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let number: u128 = format!("{whole}{fraction}").parse().ok()?;
    let power = 10_u128.checked_pow(exponent.parse().ok()?)?;
    Some(number.checked_mul(1000)?.checked_mul(u128::from(unit))?.checked_mul(power)? / scale)
}

/// Whole units, rounded up, as the kubelet tells them.
pub(super) fn units(quantity: &Quantity, divisor: Option<&Quantity>) -> Option<u64> {
    let divisor = divisor.and_then(milli).filter(|divisor| *divisor > 0).unwrap_or(1000);
    u64::try_from(milli(quantity)?.div_ceil(divisor)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |text: &str, expected| {
            assert_eq!(units(&Quantity(text.to_owned()), None), expected, "{text}");
        };
        check("500m", Some(1));
        check("2", Some(2));
        check("64Mi", Some(64 << 20));
        check("1.5Gi", Some(3 << 29));
        check("2e3", Some(2000));
        check("1M", Some(1_000_000));
        check("1Ei", Some(1 << 60));
        check("many", None);
    }
}
