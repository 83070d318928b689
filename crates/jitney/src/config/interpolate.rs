//! `${NAME}` and `${NAME:-default}` inside values, from an environment that is handed in.
//!
//! Only values, never keys; after the YAML is parsed, so that no value can change the structure.
//! What still holds `${` afterwards is an error: it was meant to be replaced and was not.

use super::problem::Complaint;

/// The text with every reference replaced, and whether there was one.
pub(super) fn interpolate(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, bool), Complaint> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut replaced = false;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((reference, after)) = after.split_once('}') else {
            return Err(unfinished());
        };
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_name(name) {
            return Err(unfinished());
        }
        // As a shell does: with a default, an empty variable counts as unset.
        let value = match (environment(name), default) {
            (Some(value), Some(default)) if value.is_empty() => default.to_owned(),
            (Some(value), _) => value,
            (None, Some(default)) => default.to_owned(),
            (None, None) => {
                return Err(Complaint::new(
                    format!("the environment variable {name} is not set"),
                    format!("set {name}, or write ${{{name}:-default}}"),
                ));
            }
        };
        if default.is_some_and(|default| default.contains("${")) {
            return Err(unfinished());
        }
        if value.contains("${") {
            return Err(Complaint::new(
                format!("after ${{{name}}} was replaced, the value still holds \"${{\""),
                format!("give {name} a value without \"${{\": it is not replaced a second time"),
            ));
        }
        out.push_str(&value);
        replaced = true;
        rest = after;
    }
    out.push_str(rest);
    Ok((out, replaced))
}

/// The value is not repeated: it may be a secret.
fn unfinished() -> Complaint {
    Complaint::new(
        "the value still holds \"${\"",
        "write ${NAME} or ${NAME:-default}, with a name of letters, digits and _",
    )
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let environment = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        };
        let got = match interpolate(text, &environment) {
            Ok((text, replaced)) => format!("{text}{}", if replaced { " (replaced)" } else { "" }),
            Err(complaint) => format!("error: {}", complaint.message),
        };
        assert_eq!(got, expected, "of {text:?}");
    }

    #[test]
    fn references() {
        check("", "");
        check("plain $A and $", "plain $A and $");
        check("${A}", "one (replaced)");
        check("x${A}y${A}z", "xoneyonez (replaced)");
        check("${B:-}", " (replaced)");
        check("${B:-two}", "two (replaced)");
        check("${A:-two}", "one (replaced)");
        check("${EMPTY:-two}", "two (replaced)");
        check("${EMPTY}", " (replaced)");
        check("${B}", "error: the environment variable B is not set");
        check("${A", "error: the value still holds \"${\"");
        check("${a-b}", "error: the value still holds \"${\"");
        check("${}", "error: the value still holds \"${\"");
        check("${NESTED}", "error: after ${NESTED} was replaced, the value still holds \"${\"");
        check("${B:-${A}}", "error: the value still holds \"${\"");
    }
}
