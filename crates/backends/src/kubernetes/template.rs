//! What an operator puts under our Jobs, and how the two become one: objects key by key, lists of
//! things with names by name. What the API server has set, and what would break a promise of ours,
//! is taken out first.

pub(crate) mod copied;

use serde_json::{Map, Value};

/// A JobTemplateSpec, cleaned; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template(Value);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("it is not a mapping with `metadata` and `spec`")]
    NotAMapping,
    #[error("it has no `{0}`")]
    Missing(&'static str),
    #[error(
        "its container `{0}` runs beside the job's, for ever; name it `job`, or make it an init container with restartPolicy: Always"
    )]
    Beside(String),
}

/// The main container's name: a template's container of this name lies under ours.
pub const JOB_CONTAINER: &str = "job";

impl Template {
    /// From a fragment of a JobTemplateSpec.
    pub fn from_fragment(fragment: &Value) -> Result<Self, TemplateError> {
        let given = fragment.as_object().ok_or(TemplateError::NotAMapping)?;
        if given.keys().any(|key| key != "metadata" && key != "spec") {
            return Err(TemplateError::NotAMapping);
        }
        Ok(Self::cleaned(given.get("metadata"), given.get("spec")))
    }

    /// From a Job in the cluster.
    pub fn from_job(job: &Value) -> Result<Self, TemplateError> {
        let spec = job.get("spec").ok_or(TemplateError::Missing("spec"))?;
        Ok(Self::cleaned(job.get("metadata"), Some(spec)))
    }

    /// From a PodTemplate in the cluster.
    pub fn from_pod_template(object: &Value) -> Result<Self, TemplateError> {
        let template = object.get("template").ok_or(TemplateError::Missing("template"))?;
        let spec = Value::Object(Map::from_iter([("template".to_owned(), template.clone())]));
        Ok(Self::cleaned(None, Some(&spec)))
    }

    fn cleaned(metadata: Option<&Value>, spec: Option<&Value>) -> Self {
        let mut clean = Map::new();
        if let Some(metadata) = metadata {
            clean.insert("metadata".to_owned(), Value::Object(copied::metadata_of_job(metadata)));
        }
        if let Some(Value::Object(spec)) = spec {
            clean.insert("spec".to_owned(), Value::Object(copied::spec(spec)));
        }
        let mut clean = Value::Object(clean);
        // What is laid over another must not undo it by saying nothing.
        without_nulls(&mut clean);
        Self(clean)
    }

    /// The image of the container that lies under ours.
    pub(super) fn image(&self) -> Option<&str> {
        self.containers().find(|one| name_of(one) == Some(JOB_CONTAINER))?.get("image")?.as_str()
    }

    fn containers(&self) -> impl Iterator<Item = &Value> {
        self.0
            .pointer("/spec/template/spec/containers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    /// What is allowed and hardly meant, for `doctor`.
    #[must_use]
    pub fn doubt(&self) -> Option<TemplateError> {
        let mut others =
            self.containers().filter_map(name_of).filter(|name| *name != JOB_CONTAINER);
        others.next().map(|name| TemplateError::Beside(name.to_owned()))
    }

    /// What lies under every Job, as a fragment of a JobTemplateSpec.
    #[must_use]
    pub fn fragment(&self) -> &Value {
        &self.0
    }

    pub(super) fn value(&self) -> Value {
        if self.0.is_null() { Value::Object(Map::new()) } else { self.0.clone() }
    }
}

fn name_of(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// How two lists of one field become one.
enum Lists {
    /// What has the same name becomes one.
    Merged,
    /// What has the same name, by this field, is replaced.
    Replaced(&'static [&'static str]),
    Appended,
    /// Every term of the one has to hold together with every expression of the other.
    Crossed,
    /// The upper one alone.
    Upper,
}

fn lists(field: &str) -> Lists {
    match field {
        "containers" | "initContainers" => Lists::Merged,
        "env" | "volumes" | "imagePullSecrets" => Lists::Replaced(&["name"]),
        "volumeMounts" => Lists::Replaced(&["mountPath"]),
        "tolerations" => Lists::Replaced(&["key", "effect"]),
        "preferredDuringSchedulingIgnoredDuringExecution" => Lists::Appended,
        "nodeSelectorTerms" => Lists::Crossed,
        _ => Lists::Upper,
    }
}

/// Lays `upper` over `lower`.
pub(super) fn lay_over(lower: &mut Value, upper: Value) {
    lay_field("", lower, upper);
}

fn lay_field(field: &str, lower: &mut Value, upper: Value) {
    match (lower, upper) {
        // A probe is of one kind: the two would be none.
        (lower, upper) if field == "startupProbe" => *lower = upper,
        (Value::Object(lower), Value::Object(upper)) => {
            for (key, value) in upper {
                match lower.get_mut(&key) {
                    Some(known) => lay_field(&key, known, value),
                    None => {
                        lower.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(lower), Value::Array(upper)) => lay_list(field, lower, upper),
        (lower, upper) => *lower = upper,
    }
}

fn lay_list(field: &str, lower: &mut Vec<Value>, upper: Vec<Value>) {
    match lists(field) {
        Lists::Upper => *lower = upper,
        Lists::Appended => lower.extend(upper),
        Lists::Merged => {
            for item in upper {
                match lower.iter_mut().find(|known| known.get("name") == item.get("name")) {
                    Some(known) => lay_field("", known, item),
                    None => lower.push(item),
                }
            }
        }
        Lists::Replaced(keys) => {
            for item in upper {
                let same =
                    |known: &&mut Value| keys.iter().all(|key| known.get(key) == item.get(key));
                match lower.iter_mut().find(same) {
                    Some(known) => *known = item,
                    None => lower.push(item),
                }
            }
        }
        Lists::Crossed => {
            let more: Vec<Value> = upper
                .iter()
                .filter_map(|term| term.get("matchExpressions")?.as_array())
                .flatten()
                .cloned()
                .collect();
            for term in lower.iter_mut().filter_map(Value::as_object_mut) {
                let known =
                    term.entry("matchExpressions").or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(known) = known {
                    known.extend(more.iter().cloned());
                }
            }
        }
    }
}
