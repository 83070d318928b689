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
pub(super) enum Origin {
    Here(Arc<Template>),
    Cluster(Looked),
}

/// An object of the cluster's, as last seen.
#[derive(Debug)]
pub(super) struct Looked {
    kind: Kind,
    name: String,
    read: fn(&Value) -> Result<Template, TemplateError>,
    known: Mutex<Option<(Instant, Arc<Template>)>>,
}

impl Origin {
    pub(super) fn new(from: TemplateFrom) -> Self {
        let looked =
            |kind, name, read| Self::Cluster(Looked { kind, name, read, known: Mutex::default() });
        match from {
            TemplateFrom::Here(template) => Self::Here(Arc::new(template)),
            TemplateFrom::Job(name) => looked(Kind::Jobs, name, Template::from_job),
            TemplateFrom::PodTemplate(name) => {
                looked(Kind::PodTemplates, name, Template::from_pod_template)
            }
        }
    }

    pub(super) async fn template(&self, api: &Api) -> Result<Arc<Template>, Error> {
        match self {
            Self::Here(template) => Ok(Arc::clone(template)),
            Self::Cluster(looked) => looked.template(api).await,
        }
    }
}

impl Looked {
    /// One that is known is good enough while the cluster does not tell another.
    async fn template(&self, api: &Api) -> Result<Arc<Template>, Error> {
        // Held while it is asked for, so that of many creates at once one asks.
        let mut known = self.known.lock().await;
        if let Some((at, template)) = &*known
            && at.elapsed() < GOOD_FOR
        {
            return Ok(Arc::clone(template));
        }
        let fresh = match (self.ask(api).await, &*known) {
            (Ok(template), _) => Arc::new(template),
            (Err(error), Some((_, template))) if error.class == Class::Ambiguous => {
                Arc::clone(template)
            }
            (Err(mut error), _) => {
                error.words = format!("the template `{}` cannot be read: {error}", self.name);
                return Err(error);
            }
        };
        *known = Some((Instant::now(), Arc::clone(&fresh)));
        Ok(fresh)
    }

    async fn ask(&self, api: &Api) -> Result<Template, Error> {
        let body = api.get(self.kind, &self.name).await.map_err(|refused| refused.error)?;
        let object: Value = decode(&body)?;
        (self.read)(&object).map_err(|error| Error::new(Class::Denied, error.to_string()))
    }
}
