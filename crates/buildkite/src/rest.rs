//! The REST API, as far as it mends and explains what happened to jobs: one job, its retry,
//! annotations, and whose token it is. What it is asked for, and when again, is the caller's.

pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use uuid::Uuid;

use crate::client::{Client, Options, encode};
use crate::cut;
use crate::error::{ConfigError, Error};
use crate::exchange::{Call, segment};
use crate::limit::Limit;
use crate::limiter::Quotas;
use crate::token::Scheme;
use wire::{AccessToken, Annotation, Job, NewAnnotation};

/// The most bytes of an annotation's body.
const LONGEST_ANNOTATION: usize = 1 << 20;

/// One organisation by one API access token. Cheap to clone; calls wait for their turn within the
/// limits of the user and of the organisation, first come, first served, and can be dropped at any
/// time.
#[derive(Clone, Debug)]
pub struct RestClient {
    client: Client,
    /// `organizations/SLUG`.
    organization: Arc<str>,
    quotas: Quotas,
}

impl RestClient {
    /// A client for the REST API's endpoint (`https://api.buildkite.com/v2`) and an API access
    /// token, for the organisation with this slug. Nothing is sent yet.
    ///
    /// # Errors
    /// Each names the option and the reason.
    pub fn new(options: Options, organization: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            client: Client::with_scheme(options, Scheme::Bearer)?,
            organization: format!("organizations/{}", segment(organization)).into(),
            quotas: Quotas::new(),
        })
    }

    /// How long a call would wait for its turn if it were made now; zero when it would go at once.
    #[must_use]
    pub fn not_before(&self) -> Duration {
        self.quotas.wait()
    }

    /// Whose token this is and what it may do; needs no scope.
    ///
    /// # Errors
    /// [`Remedy::Unauthorized`](crate::Remedy::Unauthorized) for a token that is not known.
    pub async fn access_token(&self) -> Result<AccessToken, Error> {
        let call = self.read("check the API token", "access-token".to_owned());
        call.decode(&call.send(&self.client).await?)
    }

    /// One job, whatever its build (scope `read_builds`).
    ///
    /// # Errors
    /// [`Remedy::Gone`](crate::Remedy::Gone) for a job that the organisation does not have.
    pub async fn job(&self, id: Uuid) -> Result<Job, Error> {
        let call = self.read("look the job up", self.path(&format!("jobs/{id}")));
        call.decode(&call.send(&self.client).await?)
    }

    /// Asks for a job that has failed to be run once more (scope `write_builds`). The answer is
    /// the new job. Each job can be retried once; a second retry is one of the new job.
    ///
    /// # Errors
    /// [`Remedy::Unknown`](crate::Remedy::Unknown) when it may have been done, and
    /// [`Remedy::Never`](crate::Remedy::Never) when it cannot be, of which that it has been done
    /// before is one reason. In both cases [`RestClient::job`] tells which: its
    /// `retried_in_job_id` is the new job.
    pub async fn retry_job(&self, id: Uuid) -> Result<Job, Error> {
        let path = self.path(&format!("jobs/{id}/retry"));
        let call = self.write("retry the job", Method::PUT, path, None);
        call.decode(&call.send(&self.client).await?)
    }

    /// Puts a note on a job's page, in the place of the one with the same context (scope
    /// `write_builds`). Sent again it changes nothing, unless it appends. The body is cut at
    /// 1 MiB.
    ///
    /// # Errors
    /// [`Remedy::Gone`](crate::Remedy::Gone) for a job that the organisation does not have.
    pub async fn annotate_job(&self, id: Uuid, new: &NewAnnotation) -> Result<Annotation, Error> {
        let path = self.path(&format!("jobs/{id}/annotations"));
        self.annotate("annotate the job", path, new).await
    }

    /// As [`RestClient::annotate_job`], on the page of a build.
    ///
    /// # Errors
    /// [`Remedy::Gone`](crate::Remedy::Gone) for a build that the pipeline does not have.
    pub async fn annotate_build(
        &self,
        pipeline: &str,
        number: u64,
        new: &NewAnnotation,
    ) -> Result<Annotation, Error> {
        let pipeline = segment(pipeline);
        let path = self.path(&format!("pipelines/{pipeline}/builds/{number}/annotations"));
        self.annotate("annotate the build", path, new).await
    }

    async fn annotate(
        &self,
        name: &'static str,
        path: String,
        new: &NewAnnotation,
    ) -> Result<Annotation, Error> {
        let body = cut::bytes(&new.body, LONGEST_ANNOTATION);
        let body = encode(&NewAnnotation { body, ..new.clone() });
        let call = self.write(name, Method::POST, path, Some(body));
        call.decode(&call.send(&self.client).await?)
    }

    fn path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.organization)
    }

    fn read(&self, name: &'static str, path: String) -> Call<'_> {
        let limit = Limit::Rest(&self.quotas);
        Call { name, method: Method::GET, path, query: Vec::new(), body: None, limit, reads: true }
    }

    fn write(
        &self,
        name: &'static str,
        method: Method,
        path: String,
        body: Option<Vec<u8>>,
    ) -> Call<'_> {
        let limit = Limit::Rest(&self.quotas);
        Call { name, method, path, query: Vec::new(), body, limit, reads: false }
    }
}
