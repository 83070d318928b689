//! A container's environment and command line, with all references resolved.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar};

use super::lookup::{Absent, Content, Found, Lookup};

/// The variables of a container, later ones over earlier ones.
pub(super) async fn resolve(
    lookup: &Lookup<'_>,
    container: &Container,
    given: BTreeMap<String, String>,
) -> Found<BTreeMap<String, String>> {
    let mut variables = given;
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut content = Content::new();
        if let Some(from) = &source.secret_ref {
            content.extend(lookup.secret(&from.name, from.optional == Some(true)).await?);
        }
        if let Some(from) = &source.config_map_ref {
            content.extend(lookup.config_map(&from.name, from.optional == Some(true)).await?);
        }
        let texts =
            content.into_iter().map(|(key, value)| (format!("{prefix}{key}"), text(&value)));
        variables.extend(texts);
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(lookup, container, variable, &variables).await? {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// Its value; none where what it refers to is absent and may be.
async fn value(
    lookup: &Lookup<'_>,
    container: &Container,
    variable: &EnvVar,
    known: &BTreeMap<String, String>,
) -> Found<Option<String>> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), known)));
    };
    if let Some(field) = &from.field_ref {
        return lookup.field(field).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return lookup.resource(resource, Some(container)).map(Some);
    }
    let namespace = lookup.pod.metadata.namespace.as_deref().unwrap_or_default();
    let (content, key, kind, name, optional) = if let Some(key) = &from.secret_key_ref {
        let optional = key.optional == Some(true);
        (lookup.secret(&key.name, optional).await?, &key.key, "Secret", &key.name, optional)
    } else if let Some(key) = &from.config_map_key_ref {
        let optional = key.optional == Some(true);
        (lookup.config_map(&key.name, optional).await?, &key.key, "ConfigMap", &key.name, optional)
    } else {
        return Err(Absent::Missing(format!("unknown source of variable {}", variable.name)));
    };
    match content.get(key) {
        Some(value) => Ok(Some(text(value))),
        None if optional => Ok(None),
        None => {
            let words = format!("couldn't find key {key} in {kind} {namespace}/{name}");
            Err(Absent::Missing(words))
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The words that a container runs.
pub(super) fn command(container: &Container, known: &BTreeMap<String, String>) -> Vec<String> {
    let words = container.command.iter().flatten().chain(container.args.iter().flatten());
    words.map(|word| expand(word, known)).collect()
}

/// `$(NAME)` becomes the value of a known variable, `$$` a dollar sign; all else stays.
pub(super) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let named = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = named {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_in_words() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expected) in [
            ("x$(A)y", "x1y"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }
}
