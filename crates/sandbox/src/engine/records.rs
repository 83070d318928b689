//! What jobs leave behind for people and for each other: meta-data, annotations, artifacts.
//! Artifacts' bytes are kept in memory, within one limit for all of them.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{Engine, Refusal};

/// Of one value of the meta-data, and of one annotation.
const MAX_TEXT_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Annotation {
    pub id: Uuid,
    pub context: String,
    pub style: Option<String>,
    pub body: String,
    pub priority: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Whose page an annotation is on: a build's, by its index, or a job's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    Build(usize),
    Job(Uuid),
}

#[derive(Clone, Debug, Default)]
pub struct NewAnnotation {
    pub context: String,
    pub style: Option<String>,
    pub body: String,
    pub append: bool,
    pub priority: Option<u32>,
    /// On the job's page instead of the build's.
    pub on_job: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactState {
    New,
    Finished,
    Error,
}

#[derive(Clone, Debug, Serialize)]
pub struct Artifact {
    pub id: Uuid,
    pub job: Uuid,
    pub path: String,
    pub absolute_path: String,
    pub glob_path: String,
    pub file_size: u64,
    pub sha1sum: String,
    pub sha256sum: String,
    pub content_type: String,
    pub state: ArtifactState,
    #[serde(skip)]
    pub content: Option<Arc<[u8]>>,
}

/// What an agent says of a file before it sends it.
#[derive(Clone, Debug, Default)]
pub struct NewArtifact {
    pub path: String,
    pub absolute_path: String,
    pub glob_path: String,
    pub file_size: u64,
    pub sha1sum: String,
    pub sha256sum: String,
    pub content_type: String,
}

/// Artifacts announced together; whoever knows the secret may send their bytes.
#[derive(Clone, Debug)]
pub struct Batch {
    pub secret: String,
    pub ids: Vec<Uuid>,
}

/// Which of a build's artifacts are asked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A path, with `*` for a part of one segment and `**` for any.
    pub query: String,
    /// A step's key or label, or a job's id.
    pub scope: Option<String>,
    pub include_retried_jobs: bool,
    pub include_duplicates: bool,
}

impl Engine {
    /// The index of a build by its id.
    pub fn build_index(&self, build: Uuid) -> Result<usize, Refusal> {
        let index = self.build_ids.get(&build).copied();
        index.ok_or_else(|| Refusal::NotFound(format!("no build {build}")))
    }

    /// The index of a job's build.
    pub fn build_of_job(&self, job: Uuid) -> Result<usize, Refusal> {
        Ok(self.known_job(job)?.build)
    }

    pub fn set_meta_data(&mut self, build: usize, key: &str, value: String) -> Result<(), Refusal> {
        if key.is_empty() || value.len() > MAX_TEXT_BYTES {
            let why =
                format!("meta-data needs a key and a value of at most {MAX_TEXT_BYTES} bytes");
            return Err(Refusal::Unprocessable(why));
        }
        self.builds[build].meta_data.insert(key.to_owned(), value);
        Ok(())
    }

    /// Creates an annotation on the job's page or on its build's, or replaces or lengthens the one
    /// with its context.
    pub fn annotate(
        &mut self,
        job: Uuid,
        new: NewAnnotation,
        now: Timestamp,
    ) -> Result<Annotation, Refusal> {
        let board = self.board(job, new.on_job)?;
        self.annotate_on(board, new, now)
    }

    /// As `annotate`, where there may be no job; `on_job` does not count.
    pub fn annotate_on(
        &mut self,
        board: Board,
        new: NewAnnotation,
        now: Timestamp,
    ) -> Result<Annotation, Refusal> {
        if new.body.len() > MAX_TEXT_BYTES {
            let why = format!("an annotation has at most {MAX_TEXT_BYTES} bytes");
            return Err(Refusal::Unprocessable(why));
        }
        let id = self.ids.uuid(now);
        let all = self.annotations_mut(board);
        let Some(there) = all.iter_mut().find(|there| there.context == new.context) else {
            let made = Annotation {
                id,
                context: new.context,
                style: new.style,
                body: new.body,
                priority: new.priority.unwrap_or(3),
                created_at: now,
                updated_at: now,
            };
            all.push(made.clone());
            return Ok(made);
        };
        if new.append {
            there.body.push_str(&new.body);
        } else {
            there.body = new.body;
        }
        there.style = new.style.or_else(|| there.style.take());
        there.priority = new.priority.unwrap_or(there.priority);
        there.updated_at = now;
        Ok(there.clone())
    }

    pub fn remove_annotation(
        &mut self,
        job: Uuid,
        context: &str,
        on_job: bool,
    ) -> Result<(), Refusal> {
        let board = self.board(job, on_job)?;
        let gone = self.take_annotations(board, |there| there.context == context);
        gone.then_some(())
            .ok_or_else(|| Refusal::NotFound(format!("no annotation with context {context:?}")))
    }

    pub fn remove_annotation_by_id(&mut self, board: Board, id: Uuid) -> Result<(), Refusal> {
        let gone = self.take_annotations(board, |there| there.id == id);
        gone.then_some(()).ok_or_else(|| Refusal::NotFound("No annotation found".to_owned()))
    }

    /// The annotations on a page, oldest first.
    pub fn annotations(&self, board: Board) -> &[Annotation] {
        match board {
            Board::Build(build) => &self.builds[build].annotations,
            Board::Job(job) => self.jobs.get(&job).map_or(&[], |job| &job.annotations),
        }
    }

    fn annotations_mut(&mut self, board: Board) -> &mut Vec<Annotation> {
        match board {
            Board::Build(build) => &mut self.builds[build].annotations,
            Board::Job(job) => &mut self.own_job(job).annotations,
        }
    }

    fn take_annotations(&mut self, board: Board, which: impl Fn(&Annotation) -> bool) -> bool {
        let all = self.annotations_mut(board);
        let before = all.len();
        all.retain(|there| !which(there));
        all.len() < before
    }

    fn board(&self, job: Uuid, on_job: bool) -> Result<Board, Refusal> {
        let build = self.build_of_job(job)?;
        Ok(if on_job { Board::Job(job) } else { Board::Build(build) })
    }

    pub fn announce_artifacts(
        &mut self,
        job: Uuid,
        new: Vec<NewArtifact>,
        now: Timestamp,
    ) -> Result<Batch, Refusal> {
        let build = self.build_of_job(job)?;
        let mut ids = Vec::with_capacity(new.len());
        for file in new {
            let id = self.ids.uuid(now);
            let artifact = Artifact {
                id,
                job,
                path: file.path,
                absolute_path: file.absolute_path,
                glob_path: file.glob_path,
                file_size: file.file_size,
                sha1sum: file.sha1sum,
                sha256sum: file.sha256sum,
                content_type: file.content_type,
                state: ArtifactState::New,
                content: None,
            };
            self.artifacts.insert(id, artifact);
            self.builds[build].artifacts.push(id);
            ids.push(id);
        }
        let secret = self.ids.token("upload-");
        self.batches.insert(secret.clone(), ids.clone());
        Ok(Batch { secret, ids })
    }

    /// Stores a file's bytes under the path that was announced.
    pub fn store_artifact(
        &mut self,
        secret: &str,
        path: &str,
        content: Vec<u8>,
    ) -> Result<(), Refusal> {
        let limit = self.settings.artifacts_limit_bytes;
        let unknown = || Refusal::NotFound(format!("no upload of {path:?} was announced"));
        let ids = self.batches.get(secret).ok_or_else(unknown)?;
        let id = *ids.iter().find(|id| self.artifacts[*id].path == path).ok_or_else(unknown)?;
        let artifact = self.artifacts.get_mut(&id).ok_or_else(unknown)?;
        let replaced = artifact.content.as_ref().map_or(0, |content| content.len());
        let bytes = self.artifact_bytes - replaced + content.len();
        if bytes > limit {
            let why = format!("{path:?} is too large: all artifacts together have {limit} bytes");
            return Err(Refusal::TooLarge(why));
        }
        self.artifact_bytes = bytes;
        artifact.content = Some(content.into());
        Ok(())
    }

    pub fn set_artifact_state(&mut self, id: Uuid, state: ArtifactState) -> Result<(), Refusal> {
        self.artifacts
            .get_mut(&id)
            .map(|artifact| artifact.state = state)
            .ok_or_else(|| Refusal::NotFound(format!("no artifact {id}")))
    }

    #[must_use]
    pub fn artifact(&self, id: Uuid) -> Option<&Artifact> {
        self.artifacts.get(&id)
    }

    /// A build's finished artifacts that match, newest first, each path once unless asked for.
    pub fn search_artifacts(
        &self,
        build: Uuid,
        search: &Search,
    ) -> Result<Vec<&Artifact>, Refusal> {
        let build = &self.builds[self.build_index(build)?];
        let mut found: Vec<&Artifact> = Vec::new();
        for artifact in build.artifacts.iter().rev().map(|id| &self.artifacts[id]) {
            let job = &self.jobs[&artifact.job];
            let in_scope = search.scope.as_ref().is_none_or(|scope| {
                job.step_key.as_ref() == Some(scope)
                    || job.label == *scope
                    || job.id.to_string() == *scope
            });
            if artifact.state == ArtifactState::Finished
                && in_scope
                && (search.include_retried_jobs || job.retried_in.is_none())
                && (search.include_duplicates || !found.iter().any(|f| f.path == artifact.path))
                && glob_matches(search.query.as_bytes(), artifact.path.as_bytes())
            {
                found.push(artifact);
            }
        }
        Ok(found)
    }
}

/// `*` and `?` stay within a path's segment, `**` does not, and `**/` may be nothing at all.
fn glob_matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', b'/', rest @ ..] => (0..=path.len())
            .filter(|at| *at == 0 || path[at - 1] == b'/')
            .any(|at| glob_matches(rest, &path[at..])),
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| glob_matches(rest, &path[at..])),
        [b'*', rest @ ..] => {
            let segment = path.iter().position(|c| *c == b'/').unwrap_or(path.len());
            (0..=segment).any(|at| glob_matches(rest, &path[at..]))
        }
        [b'?', rest @ ..] => {
            path.first().is_some_and(|c| *c != b'/') && glob_matches(rest, &path[1..])
        }
        [c, rest @ ..] => path.first() == Some(c) && glob_matches(rest, &path[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_know_their_segments() {
        let check = |pattern: &str, path: &str| glob_matches(pattern.as_bytes(), path.as_bytes());
        assert!(check("log.txt", "log.txt"));
        assert!(check("pkg/*.tar.gz", "pkg/a.tar.gz"));
        assert!(!check("pkg/*.tar.gz", "pkg/x/a.tar.gz"));
        assert!(check("pkg/**/*.gz", "pkg/x/y/a.gz"));
        assert!(check("pkg/**/*.gz", "pkg/a.gz"));
        assert!(check("**", "pkg/a.gz"));
        assert!(!check("*", "pkg/a.gz"));
        assert!(check("?.gz", "a.gz"));
        assert!(!check("?.gz", "ab.gz"));
    }
}
