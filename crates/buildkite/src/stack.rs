//! The calls of one registered stack: list, reserve, look, issue tokens, notify, finish (section B).
//! What to reserve or finish, and whether to try again, is the caller's business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use secrecy::SecretString;
use uuid::Uuid;

use crate::batch::{Batch, distinct, in_chunks};
use crate::client::{Client, encode};
use crate::error::{Error, Remedy};
use crate::exchange::{Call, retry_after, segment};
use crate::limit::Limit;
use crate::limiter::Windows;
use crate::token::Ready;
use crate::wire::{
    BatchReserve, BatchReserved, FinishJob, GetStates, IssueTokens, IssuedTokens, JobDetail,
    JobState, JobStates, Notification, NotificationError, NotificationErrors, Notifications,
    PageInfo, ScheduledJob, ScheduledJobs, Scope,
};
use crate::{cut, wire};

/// The most bytes of a finish's detail (B.7).
const LONGEST_FINISH_DETAIL: usize = 4_096;
/// The most characters of a notification's detail (B.8).
const LONGEST_NOTIFICATION: usize = 256;
/// The longest that a reservation or a token may live (B.4, B.9).
const LONGEST_LEASE_S: u64 = 3_600;

/// One registered stack. Cheap to clone; calls wait for their turn within the stack's limits,
/// first come, first served per [`Scope`], and can be dropped at any time.
#[derive(Clone, Debug)]
pub struct StackClient {
    client: Client,
    key: Arc<str>,
    windows: Arc<Windows>,
}

/// How far to read a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Jobs per page, 1 to 1,000.
    pub page_limit: u32,
    /// Where a walk stops at the latest; beyond it [`Listing::complete`] is false.
    pub max_pages: u32,
}

impl Default for Paging {
    /// A hundred thousand jobs in pages of a thousand.
    fn default() -> Self {
        Self { page_limit: 1_000, max_pages: 100 }
    }
}

/// One page, as the server sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub content: ScheduledJobs,
    /// The server asks to wait this long before the next list (a 200 may say so, B.0).
    pub retry_after: Option<Duration>,
}

/// All pages of one walk. Not a snapshot: a job that came in behind the cursor is not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// Every job once, in the server's order (`scheduled_at` ascending).
    pub jobs: Vec<ScheduledJob>,
    pub queue_id: Uuid,
    /// No new job may be started; in either spelling, on any page.
    pub paused: bool,
    /// The longest wait that a page asked for. The next list keeps it by itself.
    pub retry_after: Option<Duration>,
    pub pages: u32,
    /// False when the walk stopped at [`Paging::max_pages`].
    pub complete: bool,
}

/// What came of asking for job acquisition tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    pub issued: Vec<IssuedToken>,
    /// No machine may be started for these.
    pub not_issued: Vec<Uuid>,
}

/// Registers exactly one agent for one reserved job.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub job: Uuid,
    /// `bkjat_…`
    pub token: SecretString,
    /// The lesser of the lifetime asked for and the reservation's rest.
    pub expires_at: Timestamp,
}

impl Listing {
    fn unread() -> Self {
        Self {
            jobs: Vec::new(),
            queue_id: Uuid::nil(),
            paused: false,
            retry_after: None,
            pages: 0,
            complete: true,
        }
    }

    /// Adds a page, but for the jobs that were on one before. Answers where the next page is.
    fn take_in(&mut self, page: Page, seen: &mut BTreeSet<Uuid>) -> PageInfo {
        let ScheduledJobs { jobs, page_info, cluster_queue } = page.content;
        self.jobs.extend(jobs.into_iter().filter(|job| seen.insert(job.id)));
        self.queue_id = cluster_queue.id;
        self.paused |= cluster_queue.is_paused();
        self.retry_after = self.retry_after.max(page.retry_after);
        self.pages += 1;
        page_info
    }
}

impl StackClient {
    pub(crate) fn new(client: Client, key: &str, windows: Arc<Windows>) -> Self {
        Self { client, key: Arc::from(key), windows }
    }

    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How long a call of this scope would wait for its turn if it were made now; zero when it
    /// would go at once. An estimate that counts those who wait already.
    #[must_use]
    pub fn not_before(&self, scope: Scope) -> Duration {
        self.windows.of(scope).wait()
    }

    /// One page of the queue's scheduled jobs (B.3), from the start or after a cursor.
    ///
    /// # Errors
    /// As [`Remedy`] sorts them; never `Unknown`, since nothing is changed.
    pub async fn list_page(
        &self,
        queue_key: &str,
        page_limit: u32,
        after: Option<&str>,
    ) -> Result<Page, Error> {
        let call = self.list_call(queue_key, page_limit, after);
        let reply = call.send(&self.client).await?;
        Ok(Page { content: call.decode(&reply)?, retry_after: retry_after(&reply.headers) })
    }

    /// Every page to the end, however many jobs are not ours. A job that shows on two pages (they
    /// move while we read) is reported once, as first seen.
    ///
    /// # Errors
    /// That of the first page that fails: half a listing is none.
    pub async fn list_all(&self, queue_key: &str, paging: Paging) -> Result<Listing, Error> {
        let mut listing = Listing::unread();
        let mut seen = BTreeSet::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = self.list_page(queue_key, paging.page_limit, cursor.as_deref()).await?;
            let next = listing.take_in(page, &mut seen);
            if !next.has_next_page {
                return Ok(listing);
            }
            let broken = |words| self.list_call(queue_key, paging.page_limit, None).broken(words);
            if next.end_cursor.is_none() {
                return Err(broken("there is a next page, but no cursor to it"));
            }
            if next.end_cursor == cursor {
                return Err(broken("the next page leads back to itself"));
            }
            if listing.pages >= paging.max_pages {
                listing.complete = false;
                return Ok(listing);
            }
            cursor = next.end_cursor;
        }
    }

    /// Reserves jobs, or extends what this stack has reserved (B.4). `lease` is cut to whole
    /// seconds between 1 and 3,600 and counts from when the request was sent. Only what is in
    /// `reserved` is ours; an id in neither list is unknown.
    pub async fn reserve(&self, ids: &[Uuid], lease: Duration) -> Batch<BatchReserved> {
        let seconds = whole_seconds(lease);
        let call = async |job_uuids: Vec<Uuid>| {
            let body = BatchReserve { job_uuids, reservation_expiry_seconds: Some(seconds) };
            let path = self.path("scheduled-jobs/batch-reserve");
            let call = self.write("reserve jobs", Method::PUT, path, &body, Scope::BatchReserve);
            call.decode::<BatchReserved>(&call.send(&self.client).await?)
        };
        in_chunks(distinct(ids), call, |all: &mut BatchReserved, _, part| {
            all.reserved.extend(part.reserved);
            all.not_reserved.extend(part.not_reserved);
        })
        .await
    }

    /// A job's command and environment (B.5): may hold the pipeline's secrets, never to be logged.
    ///
    /// # Errors
    /// [`Remedy::Gone`] for a job that the server does not know.
    pub async fn job(&self, id: Uuid) -> Result<JobDetail, Error> {
        let call = Call {
            name: "read the job",
            method: Method::GET,
            path: self.path(&format!("jobs/{id}")),
            query: Vec::new(),
            body: None,
            limit: Limit::Stack(&self.windows, Scope::ShowJob),
            reads: true,
        };
        call.decode(&call.send(&self.client).await?)
    }

    /// The states of jobs (B.6). One that the server leaves out is unknown, not ended.
    pub async fn states(&self, ids: &[Uuid]) -> Batch<BTreeMap<Uuid, JobState>> {
        let call = async |job_uuids: Vec<Uuid>| {
            let path = self.path("jobs/get-states");
            let body = GetStates { job_uuids };
            let scope = Scope::BatchLoadJobStates;
            let mut call = self.write("ask for job states", Method::POST, path, &body, scope);
            call.reads = true;
            call.decode::<JobStates>(&call.send(&self.client).await?)
        };
        in_chunks(distinct(ids), call, |all: &mut BTreeMap<_, _>, _, part| all.extend(part.states))
            .await
    }

    /// Ends a job that no agent has acquired (B.7): at most once per job. `detail` is what the
    /// developer reads on the build page, cut at 4,096 bytes.
    ///
    /// # Errors
    /// [`Remedy::Unknown`] when the job may be finished: ask its state.
    pub async fn finish(&self, id: Uuid, exit_status: i32, detail: &str) -> Result<(), Error> {
        let body = FinishJob { exit_status, detail: cut::bytes(detail, LONGEST_FINISH_DETAIL) };
        let path = self.path(&format!("jobs/{id}/finish"));
        let call = self.write("finish the job", Method::POST, path, &body, Scope::FinishJob);
        call.send_for_status(&self.client).await
    }

    /// Notes on jobs for their developers (B.8), each cut at 256 characters; an empty one is not
    /// sent and comes back as an error. The value names those that were refused, by their places
    /// in `notes`; all others were stored.
    pub async fn notify(&self, notes: Vec<Notification>) -> Batch<Vec<NotificationError>, usize> {
        let (empty, full): (Vec<usize>, Vec<usize>) =
            (0..notes.len()).partition(|&place| notes[place].detail.is_empty());
        let call = async |places: Vec<usize>| {
            let notifications = places.iter().map(|&place| shortened(&notes[place])).collect();
            let body = Notifications { notifications };
            let path = self.path("notifications");
            let scope = Scope::StackNotification;
            let call = self.write("store notifications", Method::POST, path, &body, scope);
            call.decode::<NotificationErrors>(&call.send(&self.client).await?)
        };
        let join =
            |all: &mut Vec<NotificationError>, places: &[usize], part: NotificationErrors| {
                all.extend(part.errors.into_iter().map(|mut error| {
                    error.indexes.retain_mut(|index| match places.get(*index) {
                        Some(&place) => {
                            *index = place;
                            true
                        }
                        None => false,
                    });
                    error
                }));
            };
        let mut batch = in_chunks(full, call, join).await;
        if !empty.is_empty() {
            let error = "the detail is empty".to_owned();
            batch.value.push(NotificationError { error, indexes: empty });
        }
        batch
    }

    /// Job acquisition tokens for jobs that this stack has reserved (B.9). `lifetime` is cut to
    /// whole seconds between 1 and 3,600. A server without them answers 404.
    pub async fn issue_tokens(&self, ids: &[Uuid], lifetime: Duration) -> Batch<Tokens> {
        let seconds = whole_seconds(lifetime);
        let call = async |job_uuids: Vec<Uuid>| {
            let body = IssueTokens { job_uuids, token_lifetime_seconds: Some(seconds) };
            let path = self.path("job-acquisition-tokens");
            let scope = Scope::JobAcquisitionTokens;
            let call = self.write("issue job tokens", Method::POST, path, &body, scope);
            call.decode::<IssuedTokens>(&call.send(&self.client).await?)
        };
        in_chunks(distinct(ids), call, |all: &mut Tokens, _, part| {
            all.issued.extend(part.job_acquisition_tokens.into_iter().map(IssuedToken::from));
            all.not_issued.extend(part.not_issued);
        })
        .await
    }

    /// The agent token as it stands now, for machines of a server that issues no tokens for single
    /// jobs.
    ///
    /// # Errors
    /// [`Remedy::Retry`], in words that name the file.
    pub async fn agent_token(&self) -> Result<SecretString, Error> {
        self.client.token().soon().await.map(Ready::secret).map_err(|message| Error {
            remedy: Remedy::Retry,
            status: None,
            message,
            retry_after: None,
            scope: None,
            call: "read the token",
        })
    }

    fn path(&self, rest: &str) -> String {
        format!("stacks/{}/{rest}", segment(&self.key))
    }

    fn list_call(&self, queue_key: &str, page_limit: u32, after: Option<&str>) -> Call<'_> {
        let mut query =
            vec![("queue_key", queue_key.to_owned()), ("limit", page_limit.to_string())];
        query.extend(after.map(|cursor| ("after", cursor.to_owned())));
        Call {
            name: "list jobs",
            method: Method::GET,
            path: self.path("scheduled-jobs"),
            query,
            body: None,
            limit: Limit::Stack(&self.windows, Scope::ListScheduledJobs),
            reads: true,
        }
    }

    fn write(
        &self,
        name: &'static str,
        method: Method,
        path: String,
        body: &impl serde::Serialize,
        scope: Scope,
    ) -> Call<'_> {
        let limit = Limit::Stack(&self.windows, scope);
        Call {
            name,
            method,
            path,
            query: Vec::new(),
            body: Some(encode(body)),
            limit,
            reads: false,
        }
    }
}

impl From<wire::JobAcquisitionToken> for IssuedToken {
    fn from(wire: wire::JobAcquisitionToken) -> Self {
        let token = SecretString::from(wire.job_acquisition_token);
        Self { job: wire.job_uuid, token, expires_at: wire.expires_at }
    }
}

fn shortened(note: &Notification) -> Notification {
    Notification { detail: cut::chars(&note.detail, LONGEST_NOTIFICATION), ..note.clone() }
}

fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs().clamp(1, LONGEST_LEASE_S)).expect("at most 3,600")
}
