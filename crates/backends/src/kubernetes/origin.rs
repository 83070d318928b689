//! Where the template comes from: the configuration, or an object of the cluster that is read again
//! now and then. It is not changed here.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::call::{Api, Kind, decode};
use super::settings::TemplateFrom;
use super::template::{Template, TemplateError};
use crate::contract::{Class, Error};

/// How long a template of the cluster's is good for.
const GOOD_FOR: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Origin {
    from: TemplateFrom,
    known: Mutex<Option<(Instant, Arc<Template>)>>,
}

impl Origin {
    pub(super) fn new(from: TemplateFrom) -> Self {
        let known = match &from {
            TemplateFrom::Here(template) => Some((Instant::now(), Arc::new(template.clone()))),
            TemplateFrom::Job(_) | TemplateFrom::PodTemplate(_) => None,
        };
        Self { from, known: Mutex::new(known) }
    }

    /// The template. One that is known is good enough while the cluster does not tell another.
    pub(super) async fn template(&self, api: &Api) -> Result<Arc<Template>, Error> {
        // Held while it is asked for, so that of many creates at once one asks.
        let mut known = self.known.lock().await;
        let (kind, name) = match &self.from {
            TemplateFrom::Here(_) => (Kind::Jobs, None),
            TemplateFrom::Job(name) => (Kind::Jobs, Some(name)),
            TemplateFrom::PodTemplate(name) => (Kind::PodTemplates, Some(name)),
        };
        if let Some((at, template)) = &*known
            && (name.is_none() || at.elapsed() < GOOD_FOR)
        {
            return Ok(Arc::clone(template));
        }
        let name = name.expect("a template of the configuration is always known");
        let asked = match api.get(kind, name).await {
            Ok(body) => decode::<Value>(&body),
            Err(refused) => Err(refused.error),
        };
        let read = asked.and_then(|object| {
            self.read(&object).map_err(|error| Error::new(Class::Denied, error.to_string()))
        });
        let fresh = match (read, &*known) {
            (Ok(template), _) => Arc::new(template),
            (Err(error), Some((_, template))) if error.class == Class::Ambiguous => {
                Arc::clone(template)
            }
            (Err(mut error), _) => {
                error.words = format!("the template `{name}` cannot be read: {}", error.words);
                return Err(error);
            }
        };
        *known = Some((Instant::now(), Arc::clone(&fresh)));
        Ok(fresh)
    }

    fn read(&self, object: &Value) -> Result<Template, TemplateError> {
        match &self.from {
            TemplateFrom::Job(_) => Template::from_job(object),
            TemplateFrom::PodTemplate(_) => Template::from_pod_template(object),
            TemplateFrom::Here(template) => Ok(template.clone()),
        }
    }
}
