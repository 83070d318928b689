//! What a block or input step asks a person, and which answers it takes. The answers become the
//! build's meta-data; storing them is `settle`'s part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::pattern::Pattern;

/// What a person says, by the fields' keys. In JSON each is a text, or a list of texts where
/// several may be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Answers(BTreeMap<String, Answer>);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Answer {
    One(String),
    Several(Vec<String>),
}

impl Answer {
    fn values(&self) -> Vec<String> {
        match self {
            Self::One(value) => vec![value.clone()],
            Self::Several(values) => values.clone(),
        }
    }
}

/// As a browser sends a form: a field of which several are chosen comes several times.
impl FromIterator<(String, String)> for Answers {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in pairs {
            all.entry(key).or_default().push(value);
        }
        Self(all.into_iter().map(|(key, values)| (key, Answer::Several(values))).collect())
    }
}

/// What stands on a block or input step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Form {
    pub prompt: Option<String>,
    pub fields: Vec<Field>,
    pub blocked_state: BlockedState,
}

/// What a build counts as to others while it waits for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockedState {
    #[default]
    Passed,
    Failed,
    Running,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Of the meta-data that holds the answer.
    pub key: String,
    pub label: String,
    pub hint: Option<String>,
    pub required: bool,
    pub entry: Entry,
}

/// How a field is filled in.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Text { default: Option<String>, format: Option<Pattern> },
    Select { options: Vec<Choice>, multiple: bool, default: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub label: String,
    pub value: String,
}

impl Form {
    /// The meta-data that these answers make. A field of which nothing is said takes its default;
    /// one that may be left empty and is has no meta-data.
    pub(super) fn meta_data(&self, answers: &Answers) -> Result<Vec<(String, String)>, Refusal> {
        if let Some(unknown) =
            answers.0.keys().find(|key| !self.fields.iter().any(|f| f.key == **key))
        {
            let known: Vec<&str> = self.fields.iter().map(|field| field.key.as_str()).collect();
            let has = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(refuse(format!("there is no field {unknown:?}; the step has {has}")));
        }
        let mut meta_data = Vec::new();
        for field in &self.fields {
            let values = match answers.0.get(&field.key) {
                Some(answer) => answer.values(),
                None => field.entry.defaults(),
            };
            let value = field.entry.take(values).map_err(|why| refuse(field.blame(&why)))?;
            if !value.is_empty() {
                meta_data.push((field.key.clone(), value));
            } else if field.required {
                return Err(refuse(field.blame("must be filled in")));
            }
        }
        Ok(meta_data)
    }
}

fn refuse(why: String) -> Refusal {
    Refusal::Unprocessable(why)
}

impl Field {
    fn blame(&self, why: &str) -> String {
        format!("the field {:?} {why}", self.key)
    }
}

impl Entry {
    fn defaults(&self) -> Vec<String> {
        match self {
            Self::Text { default, .. } => default.iter().cloned().collect(),
            Self::Select { default, .. } => default.clone(),
        }
    }

    /// The value as meta-data has it; empty where nothing was said.
    fn take(&self, values: Vec<String>) -> Result<String, String> {
        match self {
            Self::Text { format, .. } => {
                let [value] = &values[..] else {
                    return if values.is_empty() {
                        Ok(String::new())
                    } else {
                        Err("takes one value".to_owned())
                    };
                };
                // Browsers send the line ends of the web, meta-data has those of Unix.
                let value = value.replace("\r\n", "\n");
                match format {
                    Some(format) if !value.is_empty() && !format.matches(&value) => {
                        Err(format!("must match {}, and is {value:?}", format.written()))
                    }
                    Some(_) | None => Ok(value),
                }
            }
            Self::Select { options, multiple, .. } => {
                // Several choices may also come as one text, with a line for each.
                let lines = values.iter().flat_map(|value| value.lines());
                let chosen: Vec<&str> = lines.filter(|value| !value.is_empty()).collect();
                if chosen.len() > 1 && !multiple {
                    return Err("takes one choice".to_owned());
                }
                let known = |value: &str| options.iter().any(|option| option.value == value);
                if let Some(unknown) = chosen.iter().find(|value| !known(value)) {
                    let all: Vec<&str> = options.iter().map(|o| o.value.as_str()).collect();
                    return Err(format!("must be of {}, and is {unknown:?}", all.join(", ")));
                }
                Ok(chosen.join("\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn field(key: &str, required: bool, entry: Entry) -> Field {
        Field { key: key.to_owned(), label: String::new(), hint: None, required, entry }
    }

    fn form() -> Form {
        let choice = |value: &str| Choice { label: value.to_uppercase(), value: value.to_owned() };
        let options = vec![choice("eu"), choice("us")];
        let select = |multiple, default: &[&str]| Entry::Select {
            options: options.clone(),
            multiple,
            default: default.iter().map(|value| (*value).to_owned()).collect(),
        };
        let text = |default: Option<&str>, format: Option<&str>| Entry::Text {
            default: default.map(str::to_owned),
            format: format.map(|format| Pattern::whole(format).unwrap()),
        };
        let fields = vec![
            field("name", true, text(Some("Dolphin"), None)),
            field("hex", false, text(None, Some("[0-9a-f]+"))),
            field("one", false, select(false, &[])),
            field("many", true, select(true, &["eu"])),
        ];
        Form { fields, ..Form::default() }
    }

    #[track_caller]
    fn check(answers: &[(&str, &[&str])], expected: Result<&str, &str>) {
        let answers = answers.iter().map(|(key, values)| ((*key).to_owned(), json!(values)));
        let answers: serde_json::Map<String, Value> = answers.collect();
        let found = form().meta_data(&serde_json::from_value(Value::Object(answers)).unwrap());
        let shown = found.map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
            pairs.join(" ")
        });
        let expected = expected.map(str::to_owned).map_err(|why| refuse(why.to_owned()));
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        check(&[], Ok(r#"name="Dolphin" many="eu""#));
        check(&[("name", &["Orca"]), ("many", &[])], Err("the field \"many\" must be filled in"));
        check(&[("name", &[""])], Err("the field \"name\" must be filled in"));
    }

    #[test]
    fn several_choices_are_lines() {
        check(&[("many", &["eu", "us"])], Ok("name=\"Dolphin\" many=\"eu\\nus\""));
        check(&[("many", &["eu\nus"])], Ok("name=\"Dolphin\" many=\"eu\\nus\""));
        check(&[("one", &["us"]), ("many", &["us"])], Ok(r#"name="Dolphin" one="us" many="us""#));
        check(&[("one", &["eu", "us"])], Err("the field \"one\" takes one choice"));
        check(&[("many", &["mars"])], Err("the field \"many\" must be of eu, us, and is \"mars\""));
    }

    #[test]
    fn texts_have_a_form() {
        check(&[("hex", &["c0ffee"])], Ok(r#"name="Dolphin" hex="c0ffee" many="eu""#));
        check(&[("hex", &[""])], Ok(r#"name="Dolphin" many="eu""#));
        check(&[("hex", &["0x1"])], Err("the field \"hex\" must match [0-9a-f]+, and is \"0x1\""));
        check(&[("name", &["a\r\nb"])], Ok("name=\"a\\nb\" many=\"eu\""));
        check(&[("name", &["a", "b"])], Err("the field \"name\" takes one value"));
    }

    #[test]
    fn answers_come_as_json_and_as_forms() {
        let json: Answers = serde_json::from_value(json!({"hex": "0", "many": ["eu"]})).unwrap();
        let pairs = [("hex", "0"), ("many", ""), ("many", "eu")];
        let form_data: Answers =
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        let expected = form().meta_data(&json).unwrap();
        assert_eq!(expected.len(), 3);
        assert_eq!(form().meta_data(&form_data), Ok(expected));
        assert!(serde_json::from_value::<Answers>(json!({"hex": 1})).is_err());
    }

    #[test]
    fn a_field_that_is_not_there_is_refused() {
        let why = "there is no field \"nmae\"; the step has name, hex, one, many";
        check(&[("nmae", &["x"])], Err(why));
        let answers = [("x".to_owned(), String::new())].into_iter().collect();
        let none = Form::default().meta_data(&answers);
        assert_eq!(none, Err(refuse("there is no field \"x\"; the step has none".to_owned())));
    }
}
