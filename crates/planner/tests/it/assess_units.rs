//! Sizes, durations, rates and vCPUs: text in, text out.

use std::time::Duration;

use planner::{
    Bytes, Cpu, SizeError, parse_count, parse_cpu, parse_duration, parse_rate, parse_size,
    spell_duration, spell_size,
};
use proptest::prelude::*;

fn check<T: std::fmt::Debug + std::fmt::Display>(
    parse: fn(&str) -> Result<T, SizeError>,
    cases: &[(&str, &str)],
) {
    for (text, expected) in cases {
        let got = match parse(text) {
            Ok(value) => value.to_string(),
            Err(error) => format!("{} / {}", error.problem, error.remedy),
        };
        assert_eq!(got, *expected, "of {text:?}");
    }
}

#[test]
fn sizes_count_in_powers_of_two_however_they_are_spelled() {
    for text in ["64G", "64GB", "64Gi", "64GiB", "64g", "64gb", " 64 GiB ", "65536M", "0.0625T"] {
        assert_eq!(parse_size(text), Ok(Bytes::gib(64)), "of {text:?}");
    }
    check(
        parse_size,
        &[
            ("1.5T", "1.5 TiB"),
            ("512M", "512 MiB"),
            ("4K", "4 KiB"),
            ("0.1G", "102.3 MiB"),
            ("0G", "0 B"),
        ],
    );
}

#[test]
fn what_is_no_size_says_what_would_be() {
    check(
        parse_size,
        &[
            ("64", "\"64\" has no unit / write 64G (or K, M, T)"),
            ("64GB!", "\"GB!\" is not a unit of size / write 64G (or K, M, T)"),
            ("64P", "\"P\" is not a unit of size / write 64G (or K, M, T)"),
            ("64Gx", "\"Gx\" is not a unit of size / write 64G (or K, M, T)"),
            ("1 000G", "\"000G\" is not a unit of size / write 1G (or K, M, T)"),
            ("", "the size is missing / write 64G"),
            ("lots", "\"lots\" is not a size / write 64G"),
            ("-4G", "\"-4G\" is negative / write 64G"),
            ("1,5T", "\"1,5T\" has a comma; a fraction needs a point / write 64G"),
            ("1.G", "\"1.G\" is not a size / write 64G"),
            (".5G", "\".5G\" is not a size / write 64G"),
            ("1.2.3G", "\"1.2.3G\" is not a size / write 64G"),
            ("1.0000000000G", "\"1.0000000000G\" has too many decimals / write 64G"),
            ("16777216T", "\"16777216T\" is too large / write 64G"),
            (
                "99999999999999999999999999999999999999999G",
                "\"9999999999999999999999999999999999999…\" is too large / write 64G",
            ),
        ],
    );
    assert_eq!(parse_size("16777215T").map(Bytes::get), Ok(16_777_215 << 40), "the last that fits");
}

#[test]
fn durations() {
    let spelled = |text: &str| parse_duration(text).map(spell_duration);
    for (text, expected) in [
        ("250ms", "250ms"),
        ("30s", "30s"),
        ("15m", "15m"),
        ("6h", "6h"),
        ("30d", "30d"),
        ("1h30m", "1h30m"),
        ("90m", "1h30m"),
        ("1.5h", "1h30m"),
        ("1d2h3m4s5ms", "1d2h3m4s5ms"),
        ("0s", "0s"),
        ("1000d", "1000d"),
    ] {
        assert_eq!(spelled(text).as_deref(), Ok(expected), "of {text:?}");
    }
    for (text, problem, remedy) in [
        ("30", "\"30\" has no unit", "write 30s, 30m or 30h (also ms, d)"),
        ("1h30", "\"1h30\" has no unit", "write 30s, 30m or 30h (also ms, d)"),
        ("30min", "\"min\" is not a unit of time", "write 30s, 30m or 30h (also ms, d)"),
        ("30m1h", "\"30m1h\" does not name its units from long to short", "write 1h30m"),
        ("1h1h", "\"1h1h\" does not name its units from long to short", "write 1h30m"),
        ("", "the duration is missing", "write 30s"),
        ("soon", "\"soon\" is not a duration", "write 30s"),
        ("-1h", "\"-1h\" is negative", "write 30s"),
        ("1000d1ms", "\"1000d1ms\" is too long", "write at most 1000d"),
        ("300000000000000d", "\"300000000000000d\" is too long", "write at most 1000d"),
    ] {
        let error = parse_duration(text).unwrap_err();
        assert_eq!(
            (error.problem.as_str(), error.remedy.as_str()),
            (problem, remedy),
            "of {text:?}"
        );
    }
}

#[test]
fn cpus_and_counts() {
    check(
        parse_cpu,
        &[
            ("16", "16"),
            ("0.5", "0.5"),
            ("500m", "0.5"),
            ("1.250", "1.25"),
            ("0.0005", "\"0.0005\" is finer than a thousandth of a vCPU / write 0.5 or 500m"),
            ("1.5m", "\"1.5m\" is finer than a thousandth of a vCPU / write 0.5 or 500m"),
            ("16 cores", "\"cores\" is not a unit of vCPUs / write 16 or 500m"),
            ("many", "\"many\" is not a number of vCPUs / write cpu: 2 or cpu: 0.5"),
            ("5000000", "\"5000000\" is too many vCPUs / write 16"),
        ],
    );
    check(
        parse_count,
        &[
            ("2", "2"),
            ("-1", "\"-1\" is not a whole number / write 2"),
            ("1.5", "\"1.5\" is not a whole number / write 2"),
            ("", "\"\" is not a whole number / write 2"),
            ("5000000000", "\"5000000000\" is too large / write 2"),
        ],
    );
}

#[test]
fn rates() {
    for (text, count, seconds) in [("20/s", 20, 1), ("1200/m", 1200, 60), ("5000 / h", 5000, 3600)]
    {
        let rate = parse_rate(text).unwrap();
        assert_eq!((rate.count, rate.per), (count, Duration::from_secs(seconds)), "of {text:?}");
    }
    for text in ["20", "20/", "/s", "20/day", "x/s", "1.5/s", "20/s/s", ""] {
        let error = parse_rate(text).unwrap_err();
        assert_eq!(error.problem, format!("{text:?} is not a rate"));
        assert_eq!(error.remedy, "write 20/s, 1200/m or 5000/h");
    }
}

#[test]
fn a_size_is_suggested_as_somebody_would_write_it() {
    for (bytes, expected) in [
        (Bytes::gib(64), "64G"),
        (Bytes::gib(768), "768G"),
        (Bytes::gib(2048), "2T"),
        (Bytes::new(1536 << 20), "1536M"),
        (Bytes::new(33_567_123_456), "31G"),
        (Bytes::new(3_567_123_456), "3401M"),
        (Bytes::new(4096), "4K"),
    ] {
        assert_eq!(spell_size(bytes), expected);
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,40}") {
        let _ = (parse_size(&text), parse_duration(&text), parse_cpu(&text), parse_count(&text), parse_rate(&text));
    }

    #[test]
    fn nearly_right_texts_neither(text in "[-0-9.,]{0,45}[a-zA-Z!/ ]{0,4}[0-9.]{0,20}[a-z]{0,2}") {
        let _ = (parse_size(&text), parse_duration(&text), parse_cpu(&text), parse_count(&text), parse_rate(&text));
    }

    #[test]
    fn a_spelled_duration_reads_back(millis in 0_u64..=86_400_000_000) {
        let span = Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&spell_duration(span)), Ok(span));
    }

    #[test]
    fn a_printed_cpu_reads_back(millis in 0_u32..=u32::MAX) {
        let cpu = Cpu::from_millis(millis);
        prop_assert_eq!(parse_cpu(&cpu.to_string()), Ok(cpu));
    }

    #[test]
    fn what_is_printed_or_suggested_is_never_more(bytes in 1024_u64..=u64::MAX) {
        let bytes = Bytes::new(bytes);
        for text in [bytes.to_string(), spell_size(bytes)] {
            let read = parse_size(&text).unwrap();
            prop_assert!(read <= bytes, "{text} is more than {bytes:?}");
            prop_assert!(read.get() >= bytes.get() / 10 * 5, "{text} is far less than {bytes:?}");
        }
    }
}
