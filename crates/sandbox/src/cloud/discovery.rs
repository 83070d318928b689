//! Google's discovery documents, as far as they are vendored: which methods there are, where, and
//! what they take and answer. It knows nothing of what the methods do.

pub(super) mod check;
pub(super) mod select;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

const DOCUMENTS: [&str; 3] = [
    include_str!("discovery/compute.v1.json"),
    include_str!("discovery/cloudresourcemanager.v3.json"),
    include_str!("discovery/iam.v1.json"),
];

/// All documents, read once.
pub(super) static DISCOVERY: LazyLock<Discovery> = LazyLock::new(Discovery::read);

/// A JSON schema as Google writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Schema {
    #[serde(rename = "$ref")]
    pub(super) reference: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) format: Option<String>,
    pub(super) pattern: Option<String>,
    #[serde(rename = "enum")]
    pub(super) values: Option<Vec<String>>,
    pub(super) read_only: bool,
    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) items: Option<Box<Schema>>,
    pub(super) additional_properties: Option<Box<Schema>>,
    pub(super) annotations: Annotations,
    /// Of parameters only.
    pub(super) location: Option<String>,
    pub(super) required: bool,
    pub(super) repeated: bool,
    pub(super) minimum: Option<String>,
    pub(super) maximum: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    /// The ids of the methods that need the field.
    pub(super) required: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    #[serde(rename = "$ref")]
    to: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource {
    methods: BTreeMap<String, RawMethod>,
    resources: BTreeMap<String, Resource>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMethod {
    id: String,
    http_method: String,
    flat_path: String,
    #[serde(default)]
    parameters: BTreeMap<String, Schema>,
    request: Option<Reference>,
    response: Option<Reference>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    id: String,
    revision: String,
    service_path: String,
    parameters: BTreeMap<String, Schema>,
    resources: BTreeMap<String, Resource>,
    schemas: BTreeMap<String, Schema>,
}

/// One document.
#[derive(Debug)]
pub(super) struct Document {
    /// `compute:v1`
    id: String,
    revision: String,
    /// What every method takes in its query.
    parameters: BTreeMap<String, Schema>,
    schemas: BTreeMap<String, Schema>,
    patterns: BTreeMap<String, Regex>,
}

/// A part of a path.
#[derive(Debug, PartialEq)]
enum Segment {
    Literal(String),
    /// A parameter, and what stands after it: `:testIamPermissions`.
    Parameter {
        name: String,
        verb: String,
    },
}

#[derive(Debug)]
pub(super) struct Method {
    /// `compute.instances.insert`
    pub(super) id: String,
    http: String,
    segments: Vec<Segment>,
    pub(super) parameters: BTreeMap<String, Schema>,
    /// The names of the schemas of the body and of the answer.
    pub(super) request: Option<String>,
    pub(super) response: Option<String>,
    document: usize,
}

#[derive(Debug)]
pub(super) struct Discovery {
    documents: Vec<Document>,
    methods: Vec<Method>,
}

/// A method with the parameters that its path had.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) method: &'static Method,
    pub(super) document: &'static Document,
    pub(super) path: BTreeMap<String, String>,
}

impl Discovery {
    fn read() -> Self {
        let mut all = Self { documents: Vec::new(), methods: Vec::new() };
        for text in DOCUMENTS {
            let raw: RawDocument =
                serde_json::from_str(text).expect("the vendored documents are tested");
            for resource in raw.resources.into_values() {
                all.add_methods(resource, &raw.service_path);
            }
            let mut patterns = BTreeMap::new();
            let of_methods = all.methods.iter().flat_map(|method| method.parameters.values());
            for schema in raw.schemas.values().chain(of_methods) {
                collect_patterns(schema, &mut patterns);
            }
            all.documents.push(Document {
                id: raw.id,
                revision: raw.revision,
                parameters: raw.parameters,
                schemas: raw.schemas,
                patterns,
            });
        }
        all
    }

    fn add_methods(&mut self, resource: Resource, service_path: &str) {
        for raw in resource.methods.into_values() {
            self.methods.push(Method {
                segments: segments(&format!("{service_path}{}", raw.flat_path)),
                id: raw.id,
                http: raw.http_method,
                parameters: raw.parameters,
                request: raw.request.map(|reference| reference.to),
                response: raw.response.map(|reference| reference.to),
                document: self.documents.len(),
            });
        }
        for inner in resource.resources.into_values() {
            self.add_methods(inner, service_path);
        }
    }

    /// The method that is served at this path, which is percent-encoded.
    pub(super) fn find(&'static self, http: &str, path: &str) -> Option<Found> {
        let parts: Vec<String> = path.strip_prefix('/')?.split('/').map(decoded).collect();
        self.methods.iter().filter(|method| method.http == http).find_map(|method| {
            let path = method.take(&parts)?;
            Some(Found { method, document: &self.documents[method.document], path })
        })
    }

    /// A schema of Compute Engine's.
    pub(super) fn compute_schema(&self, name: &str) -> &Schema {
        self.documents[0].schema(name)
    }

    /// The documents and their revisions.
    pub(super) fn revisions(&self) -> BTreeMap<&str, &str> {
        let all = self.documents.iter();
        all.map(|document| (document.id.as_str(), document.revision.as_str())).collect()
    }

    /// The ids of all methods.
    pub(super) fn method_ids(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().map(|method| method.id.as_str())
    }
}

impl Document {
    pub(super) fn schema(&self, name: &str) -> &Schema {
        self.schemas.get(name).expect("the documents hold every schema that they refer to")
    }

    /// The schema itself, or the one that it refers to.
    pub(super) fn resolved<'a>(&'a self, schema: &'a Schema) -> &'a Schema {
        schema.reference.as_ref().map_or(schema, |name| self.schema(name))
    }

    pub(super) fn common_parameter(&self, name: &str) -> Option<&Schema> {
        self.parameters.get(name)
    }

    pub(super) fn matches(&self, pattern: &str, text: &str) -> bool {
        self.patterns.get(pattern).is_none_or(|regex| regex.is_match(text))
    }
}

impl Method {
    /// The path's parameters, if the path is this method's.
    fn take(&self, parts: &[String]) -> Option<BTreeMap<String, String>> {
        if parts.len() != self.segments.len() {
            return None;
        }
        let mut path = BTreeMap::new();
        for (segment, part) in self.segments.iter().zip(parts) {
            match segment {
                Segment::Literal(text) if text == part => {}
                Segment::Literal(_) => return None,
                Segment::Parameter { name, verb } => {
                    let value = part.strip_suffix(verb.as_str()).filter(|v| !v.is_empty())?;
                    path.insert(name.clone(), value.to_owned());
                }
            }
        }
        Some(path)
    }
}

fn segments(path: &str) -> Vec<Segment> {
    let one = |part: &str| match part.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((name, verb)) => Segment::Parameter { name: name.to_owned(), verb: verb.to_owned() },
        None => Segment::Literal(part.to_owned()),
    };
    path.split('/').map(one).collect()
}

fn collect_patterns(schema: &Schema, patterns: &mut BTreeMap<String, Regex>) {
    if let Some(pattern) = &schema.pattern {
        let whole = || Regex::new(&format!("^(?:{pattern})$")).expect("Google's patterns are RE2");
        patterns.entry(pattern.clone()).or_insert_with(whole);
    }
    let inner = schema.properties.values().chain(schema.items.as_deref());
    for schema in inner.chain(schema.additional_properties.as_deref()) {
        collect_patterns(schema, patterns);
    }
}

/// A part of a path without its percent signs; as it stands where they make no sense.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let pair = [rest.next(), rest.next()];
        let [Some(high), Some(low)] = pair else { return part.to_owned() };
        let digits = [high, low];
        let code = std::str::from_utf8(&digits).ok().and_then(|it| u8::from_str_radix(it, 16).ok());
        let Some(code) = code else { return part.to_owned() };
        bytes.push(code);
    }
    String::from_utf8(bytes).unwrap_or_else(|_| part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_methods() {
        let check = |http: &str, path: &str, expected: &str| {
            let found = DISCOVERY.find(http, path).map(|found| {
                let path: Vec<String> = found.path.values().cloned().collect();
                format!("{} {}", found.method.id, path.join(" "))
            });
            assert_eq!(found.as_deref().unwrap_or("none"), expected, "{http} {path}");
        };
        check("POST", "/compute/v1/projects/p/zones/z/instances", "compute.instances.insert p z");
        check("GET", "/compute/v1/projects/p/zones/z/instances/i", "compute.instances.get i p z");
        check("GET", "/compute/v1/projects/a%3Ap/zones", "compute.zones.list a:p");
        check(
            "POST",
            "/v3/projects/p:testIamPermissions",
            "cloudresourcemanager.projects.testIamPermissions p",
        );
        check(
            "POST",
            "/v1/projects/p/serviceAccounts/a@b:testIamPermissions",
            "iam.projects.serviceAccounts.testIamPermissions p a@b",
        );
        check("PATCH", "/compute/v1/projects/p/zones/z/instances/i", "none");
        check("GET", "/compute/v1/projects/p/zones/z/instanceGroups", "none");
        check("GET", "/compute/v1/projects/p/zones//instances", "none");
    }

    #[test]
    fn every_document_says_its_revision() {
        let revisions = DISCOVERY.revisions();
        assert!(revisions.values().all(|date| date.len() == 8), "{revisions:?}");
        let documents: Vec<&str> = revisions.into_keys().collect();
        assert_eq!(documents, ["cloudresourcemanager:v3", "compute:v1", "iam:v1"]);
        assert!(DISCOVERY.method_ids().count() > 30);
    }
}
