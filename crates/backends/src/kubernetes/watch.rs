//! Following one kind of objects: a listing in pages, then a watch from there on, and a new listing
//! where the watch's place in history is gone. It runs until it is dropped.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http_body::Body as _;
use tokio::time::{Instant, sleep, timeout};

use super::cache::{Cache, Needed};
use super::call::{Api, Ask, Kind, chain, unreadable};
use super::seen::{Event, Job, Pod};
use super::wire::{self, Broken, Change, Frames, Message, Page};
use crate::contract::{Class, Error};

/// How many objects a page of a listing has.
const PAGE: u32 = 500;
/// How long a watch is held before it is begun anew from where it was.
const HELD_S: u32 = 290;
/// The server marks its place every minute; longer silence is a dead connection.
const SILENCE: Duration = Duration::from_secs(100);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(3);
/// A watch that ends sooner than this is not begun anew at once.
const SHORT: Duration = Duration::from_secs(1);
/// An answer 410, also as an event: the place in history is gone.
const EXPIRED: u16 = 410;

/// Where what is seen of one kind goes.
pub(super) trait Sink: Send + Sync + 'static {
    type Object: Message + Send;
    const KIND: Kind;

    /// What narrows the kind to ours: `labelSelector=…` or `fieldSelector=…`.
    fn selector(&self) -> &str;
    fn all(&self, objects: Vec<Self::Object>, version: &str);
    fn seen(&self, object: Self::Object);
    fn gone(&self, object: &Self::Object);
    fn told_up_to(&self, version: &str);
    fn fine(&self);
    fn failing(&self, error: Error);
    fn version(object: &Self::Object) -> u64;
}

/// Follows for ever.
pub(super) async fn follow<S: Sink>(api: Api, sink: S) {
    let mut pauses = Pauses::new();
    loop {
        match list(&api, &sink).await {
            Ok((objects, version)) => {
                pauses.reset();
                sink.all(objects, &version);
                watch_from(&api, &sink, version, &mut pauses).await;
            }
            Err(error) => pauses.after(&sink, error).await,
        }
    }
}

/// Everything, as the store itself has it: without a version the server reads past its cache.
async fn list<S: Sink>(api: &Api, sink: &S) -> Result<(Vec<S::Object>, String), Error> {
    let mut all = Vec::new();
    let mut more: Option<String> = None;
    loop {
        let mut path = format!("{}?limit={PAGE}&{}", api.path(S::KIND, None), sink.selector());
        if let Some(more) = &more {
            path.push_str("&continue=");
            path.push_str(&escaped(more));
        }
        let accept = wire::ONLY;
        let ask = Ask { verb: "list", method: Method::GET, path, body: None, accept };
        // Where the pages' place in history is gone meanwhile, the whole is begun anew.
        let body = api.send(ask).await.map_err(|refused| refused.error)?;
        let page = Page::<S::Object>::read(&body).map_err(unreadable)?;
        all.extend(page.items);
        match page.more {
            Some(next) => more = Some(next),
            None => return Ok((all, page.version)),
        }
    }
}

/// How a watch ended.
enum Ended {
    /// Its time was over, or the connection's.
    Closed,
    Expired,
    Failed(Error),
}

/// Watches until only a new listing helps.
async fn watch_from<S: Sink>(api: &Api, sink: &S, mut version: String, pauses: &mut Pauses) {
    loop {
        let began = Instant::now();
        match watch_once(api, sink, &mut version).await {
            Ended::Expired => return,
            Ended::Closed if began.elapsed() >= SHORT => pauses.reset(),
            Ended::Closed => sleep(pauses.next()).await,
            Ended::Failed(error) => pauses.after(sink, error).await,
        }
    }
}

async fn watch_once<S: Sink>(api: &Api, sink: &S, version: &mut String) -> Ended {
    let path = format!(
        "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={HELD_S}&resourceVersion={version}&{}",
        api.path(S::KIND, None),
        sink.selector()
    );
    let mut body = match api.watch(path).await {
        Ok(body) => body,
        Err(refused) if refused.status.is_some_and(|status| status == EXPIRED) => {
            return Ended::Expired;
        }
        Err(refused) => return Ended::Failed(refused.error),
    };
    sink.fine();
    let mut frames = Frames::default();
    loop {
        let piece = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        match timeout(SILENCE, piece).await {
            Ok(Some(Ok(piece))) => piece.data_ref().into_iter().for_each(|data| frames.add(data)),
            Ok(Some(Err(error))) => return Ended::Failed(unreachable_server(&chain(&error))),
            Ok(None) | Err(_) => return Ended::Closed,
        }
        match take_all(sink, &mut frames, version) {
            Ok(None) => {}
            Ok(Some(ended)) => return ended,
            Err(broken) => return Ended::Failed(unreadable(broken)),
        }
    }
}

/// Takes what is whole, until a change ends the watch.
fn take_all<S: Sink>(
    sink: &S,
    frames: &mut Frames,
    version: &mut String,
) -> Result<Option<Ended>, Broken> {
    while let Some(frame) = frames.next()? {
        if let Some(ended) = take(sink, Change::read(frame)?, version) {
            return Ok(Some(ended));
        }
    }
    Ok(None)
}

fn take<S: Sink>(sink: &S, change: Change<S::Object>, version: &mut String) -> Option<Ended> {
    let mut note = |object: &S::Object| {
        let seen = S::version(object);
        if seen > 0 {
            *version = seen.to_string();
        }
    };
    match change {
        Change::Seen(object) => {
            note(&object);
            sink.seen(object);
        }
        Change::Gone(object) => {
            note(&object);
            sink.gone(&object);
        }
        Change::Told(object) => {
            note(&object);
            sink.told_up_to(version);
        }
        Change::Failed(status) if status.code == EXPIRED => return Some(Ended::Expired),
        Change::Failed(status) => {
            return Some(Ended::Failed(Error::new(Class::Ambiguous, status.message)));
        }
    }
    None
}

fn unreachable_server(why: &str) -> Error {
    Error::new(Class::Ambiguous, format!("the API server cannot be reached: {why}"))
}

/// A token of a continued listing may hold what a query must not.
pub(super) fn escaped(text: &str) -> String {
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes()
        .map(
            |byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") },
        )
        .collect()
}

struct Pauses {
    next: Duration,
    told: bool,
}

impl Pauses {
    const fn new() -> Self {
        Self { next: FIRST_PAUSE, told: false }
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(LAST_PAUSE);
        now
    }

    async fn after<S: Sink>(&mut self, sink: &S, error: Error) {
        if !self.told {
            let kind = S::KIND;
            tracing::debug!(%error, ?kind, "failed to follow objects of the cluster");
        }
        self.told = true;
        sink.failing(error);
        sleep(self.next()).await;
    }
}

/// Jobs and pods bear our mark.
pub(super) struct Marked<T> {
    cache: Arc<Cache>,
    selector: String,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T> Marked<T> {
    pub(super) fn new(cache: Arc<Cache>, mark: &str) -> Self {
        let selector = format!("labelSelector={}%3D{mark}", escaped(super::stamp::MARK));
        Self { cache, selector, of: std::marker::PhantomData }
    }
}

impl Sink for Marked<Job> {
    type Object = Job;
    const KIND: Kind = Kind::Jobs;

    fn selector(&self) -> &str {
        &self.selector
    }

    fn all(&self, objects: Vec<Job>, version: &str) {
        self.cache.all_jobs(objects, version.parse().unwrap_or_default());
    }

    fn seen(&self, object: Job) {
        self.cache.job(object);
    }

    fn gone(&self, object: &Job) {
        self.cache.job_gone(object);
    }

    fn told_up_to(&self, version: &str) {
        self.cache.jobs_told_up_to(version.parse().unwrap_or_default());
    }

    fn fine(&self) {
        self.cache.fine(Needed::Jobs);
    }

    fn failing(&self, error: Error) {
        self.cache.failing(Needed::Jobs, error);
    }

    fn version(object: &Job) -> u64 {
        object.metadata.version
    }
}

impl Sink for Marked<Pod> {
    type Object = Pod;
    const KIND: Kind = Kind::Pods;

    fn selector(&self) -> &str {
        &self.selector
    }

    fn all(&self, objects: Vec<Pod>, _version: &str) {
        self.cache.all_pods(objects);
    }

    fn seen(&self, object: Pod) {
        self.cache.pod(object);
    }

    fn gone(&self, object: &Pod) {
        self.cache.pod_gone(object);
    }

    fn told_up_to(&self, _version: &str) {}

    fn fine(&self) {
        self.cache.fine(Needed::Pods);
    }

    fn failing(&self, error: Error) {
        self.cache.failing(Needed::Pods, error);
    }

    fn version(object: &Pod) -> u64 {
        object.metadata.version
    }
}

/// Events of one reason. Without them reasons are poorer, and nothing else is.
pub(super) struct Said {
    pub(super) cache: Arc<Cache>,
    selector: String,
}

impl Said {
    pub(super) fn new(cache: Arc<Cache>, kind: &str, reason: &str) -> Self {
        let selector = format!("fieldSelector=involvedObject.kind%3D{kind}%2Creason%3D{reason}");
        Self { cache, selector }
    }
}

impl Sink for Said {
    type Object = Event;
    const KIND: Kind = Kind::Events;

    fn selector(&self) -> &str {
        &self.selector
    }

    fn all(&self, objects: Vec<Event>, _version: &str) {
        objects.into_iter().for_each(|event| self.cache.event(event));
    }

    fn seen(&self, object: Event) {
        self.cache.event(object);
    }

    fn gone(&self, _object: &Event) {}

    fn told_up_to(&self, _version: &str) {}

    fn fine(&self) {}

    fn failing(&self, error: Error) {
        tracing::debug!(%error, "the cluster's events cannot be read");
    }

    fn version(object: &Event) -> u64 {
        object.metadata.version
    }
}
