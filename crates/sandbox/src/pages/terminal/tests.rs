//! One line per case: what a job wrote, what the page says.

use super::*;

#[track_caller]
fn check_line(line: &str, expected: &str) {
    assert_eq!(of_line(shown(line)).into_string(), expected);
}

#[test]
fn colours() {
    check_line("plain", "plain");
    check_line("\x1b[31mred\x1b[0m plain", "<span class=\"c1\">red</span> plain");
    check_line("\x1b[1;92mgood\x1b[m", "<span class=\"b c2\">good</span>");
    check_line("\x1b[38;5;9mx\x1b[39my", "<span class=\"c1\">x</span>y");
    check_line("\x1b[38;2;255;255;0mx", "<span class=\"c3\">x</span>");
    check_line(
        "\x1b[41;37mx\x1b[49my",
        "<span class=\"c7 g1\">x</span><span class=\"c7\">y</span>",
    );
    check_line("\x1b[1mx\x1b[22my", "<span class=\"b\">x</span>y");
    check_line("\x1b[38;5;200mx", "x");
}

#[test]
fn other_sequences_are_dropped() {
    check_line("a\x1b[2Kb\x1b[1;1Hc", "abc");
    check_line("a\x1b]8;;https://e.org\x07b", "ab");
    check_line("a\x1b_bk;t=1\x07b", "ab");
    check_line("a\x1b", "a");
    check_line("a\x1b[3", "a");
    check_line("a\x1b(Bb", "aBb");
}

#[test]
fn a_carriage_return_overwrites() {
    check_line("10%\r50%\r100%", "100%");
    check_line("windows\r", "windows");
}

#[test]
fn markup_is_text() {
    check_line("\x1b[31m<script>\"&\x1b[0m", "<span class=\"c1\">&lt;script&gt;&quot;&amp;</span>");
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let shown: Vec<String> = sections(text)
        .iter()
        .map(|s| {
            let title = s.title.unwrap_or("-");
            let fold = if s.open { "open" } else { "shut" };
            format!("{title} {fold}{} {:?}", if s.muted { " muted" } else { "" }, s.lines)
        })
        .collect();
    assert_eq!(shown.join(" | "), expected);
}

#[test]
fn folding() {
    check("", "");
    check("a\nb", r#"- open ["a", "b"]"#);
    check("a\n--- One\nb\n--- Two\nc", r#"- open ["a"] | One shut ["b"] | Two open ["c"]"#);
    check("+++ One\nb\n~~~ Two\n--- End", r#"One open ["b"] | Two shut muted [] | End open []"#);
    check("--- One\nbad\n^^^ +++\n--- Two", r#"One open ["bad"] | Two open []"#);
    check("^^^ +++", "");
}

#[test]
fn only_the_end_of_a_long_log_is_drawn() {
    let long = "0123456789\n".repeat(SHOWN_BYTES / 10);
    let (shown, cut) = tail(&long);
    assert!(shown.len() <= SHOWN_BYTES && shown.starts_with("0123456789\n"));
    assert_eq!(shown.len() + cut, long.len());
    assert_eq!(tail("short"), ("short", 0));
}
