//! What a path and a query of the REST API mean: which build, which job, which page of a list.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use uuid::Uuid;

use crate::engine::Board;
use crate::http::reply::{Failure, Reply};
use crate::server::Shared;

/// Of one page of a list.
const PER_PAGE: usize = 30;
const MOST_PER_PAGE: usize = 100;

fn missing(what: &str) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("No {what} found"))
}

pub(super) fn refuse(why: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, why)
}

/// The parts of the path that stand for something.
struct Named(RawPathParams);

impl Named {
    async fn of(parts: &mut Parts, shared: &Arc<Shared>) -> Self {
        let params = RawPathParams::from_request_parts(parts, shared).await;
        Self(params.expect("every route of this API has parameters that are UTF-8"))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        self.get(name)?.parse().ok()
    }

    /// The index of the build that the path names by pipeline and number; `None` where it names
    /// none.
    fn build(&self, shared: &Shared) -> Reply<Option<usize>> {
        let Some(number) = self.get("number") else { return Ok(None) };
        let number: u64 = number.parse().map_err(|_| missing("build"))?;
        let pipeline = self.get("pipeline").unwrap_or_default();
        let found = shared.look(|engine| {
            let mut builds = engine.builds().iter();
            builds.position(|build| build.number == number && build.pipeline == pipeline)
        });
        found.map(Some).ok_or_else(|| missing("build"))
    }
}

/// The build of the path, by its index.
pub(super) struct OfBuild(pub(super) usize);

impl FromRequestParts<Arc<Shared>> for OfBuild {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Reply<Self> {
        let found = Named::of(parts, shared).await.build(shared)?;
        found.map(Self).ok_or_else(|| missing("build"))
    }
}

/// The pipeline of the path, where it names one.
pub(super) struct OfPipeline(pub(super) Option<String>);

impl FromRequestParts<Arc<Shared>> for OfPipeline {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Reply<Self> {
        Ok(Self(Named::of(parts, shared).await.get("pipeline").map(str::to_owned)))
    }
}

/// The job of the path, or the block step that counts as one; of the path's build if it names
/// one.
pub(super) struct JobOrStep(pub(super) Uuid);

impl FromRequestParts<Arc<Shared>> for JobOrStep {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Reply<Self> {
        let named = Named::of(parts, shared).await;
        let build = named.build(shared)?;
        let id = named.id("job").ok_or_else(|| missing("job"))?;
        let is_in = shared.look(|engine| match engine.job(id) {
            Some(job) => Some(job.build),
            None => engine.held_step(id).map(|(build, _)| build),
        });
        match (is_in, build) {
            (Some(is_in), Some(build)) if is_in != build => Err(missing("job")),
            (Some(_), _) => Ok(Self(id)),
            (None, _) => Err(missing("job")),
        }
    }
}

/// The command job of the path.
pub(super) struct OfJob(pub(super) Uuid);

impl FromRequestParts<Arc<Shared>> for OfJob {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Reply<Self> {
        let JobOrStep(id) = JobOrStep::from_request_parts(parts, shared).await?;
        let is_job = shared.look(|engine| engine.job(id).is_some());
        is_job.then_some(Self(id)).ok_or_else(|| missing("job"))
    }
}

/// The agent of the path.
pub(super) struct OfAgent(pub(super) Uuid);

impl FromRequestParts<Arc<Shared>> for OfAgent {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Reply<Self> {
        let id = Named::of(parts, shared).await.id("agent");
        id.map(Self).ok_or_else(|| missing("agent"))
    }
}

/// The page that annotations are on, and which one of them.
pub(super) struct OfBoard {
    pub(super) board: Board,
    pub(super) annotation: Option<Uuid>,
}

impl FromRequestParts<Arc<Shared>> for OfBoard {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Reply<Self> {
        let named = Named::of(parts, shared).await;
        let annotation = match named.get("annotation") {
            Some(_) => Some(named.id("annotation").ok_or_else(|| missing("annotation"))?),
            None => None,
        };
        let board = if named.get("job").is_some() {
            Board::Job(OfJob::from_request_parts(parts, shared).await?.0)
        } else {
            Board::Build(OfBuild::from_request_parts(parts, shared).await?.0)
        };
        Ok(Self { board, annotation })
    }
}

/// The query's parts, of which some may come more than once.
pub(super) struct Asked(Vec<(String, String)>);

impl FromRequestParts<Arc<Shared>> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Reply<Self> {
        let read = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        read.map(|Query(all)| Self(all)).map_err(|error| refuse(error.to_string()))
    }
}

impl Asked {
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number of at least 1.
    fn number(&self, name: &str, otherwise: usize) -> Reply<usize> {
        let Some(text) = self.one(name) else { return Ok(otherwise) };
        let read = text.parse().ok().filter(|number| *number > 0);
        read.ok_or_else(|| refuse(format!("{name} must be a positive integer")))
    }

    pub(super) fn per_page(&self) -> Reply<usize> {
        let number = self.number("per_page", PER_PAGE)?;
        if number > MOST_PER_PAGE {
            return Err(refuse(format!("per_page must be at most {MOST_PER_PAGE}")));
        }
        Ok(number)
    }

    /// The asked page of a list, with a `Link` header to its neighbours.
    pub(super) fn page(&self, all: Vec<Value>, url: &str) -> Reply<Response> {
        let (page, size) = (self.number("page", 1)?, self.per_page()?);
        let last = all.len().div_ceil(size).max(1);
        let start = (page - 1).saturating_mul(size);
        let items: Vec<Value> = all.into_iter().skip(start).take(size).collect();
        let kept: String = (self.0.iter())
            .filter(|(key, _)| key != "page" && key != "per_page")
            .map(|(key, value)| format!("{}={}&", escaped(key), escaped(value)))
            .collect();
        let link = |rel: &str, page: usize| {
            format!("<{url}?{kept}page={page}&per_page={size}>; rel=\"{rel}\"")
        };
        let mut links = Vec::new();
        if page > 1 {
            links.extend([link("first", 1), link("prev", page - 1)]);
        }
        if page < last {
            links.extend([link("next", page + 1), link("last", last)]);
        }
        let mut response = axum::Json(items).into_response();
        if let Some(links) = HeaderValue::try_from(links.join(", ")).ok().filter(|l| !l.is_empty())
        {
            response.headers_mut().insert(header::LINK, links);
        }
        Ok(response)
    }
}

/// As it may stand in a query.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~[]".contains(&byte);
    let one = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}
