//! The one endpoint of a kubelet that the API server asks for here: containers' logs, over HTTPS.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::kubelet::Kubelet;
use super::life::Life;
use super::process::tail;
use crate::Result;
use crate::error::io;
use crate::plane::certificates;

/// Between two looks at a log that is followed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
const PIECE: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Wanted {
    follow: bool,
    previous: bool,
    tail_lines: Option<usize>,
}

struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, _)) = self.tcp.accept().await
                && let Ok(stream) = self.tls.accept(stream).await
            {
                return (stream, ());
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(())
    }
}

/// Serves them until the node is gone, at the port that this gives.
pub(super) async fn serve(kubelet: Arc<Kubelet>) -> Result<u16> {
    let tls = TlsAcceptor::from(certificates::of_node()?);
    let tcp = TcpListener::bind("127.0.0.1:0").await.map_err(io("listen for a node"))?;
    let port = tcp.local_addr().map_err(io("listen for a node"))?.port();
    let gone = kubelet.gone.clone();
    let router = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(log))
        .with_state(kubelet);
    tokio::spawn(async move {
        let served = axum::serve(Listener { tcp, tls }, router).into_future();
        gone.run_until_cancelled(served).await
    });
    Ok(port)
}

async fn log(
    State(kubelet): State<Arc<Kubelet>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let life = kubelet.find(&namespace, &pod).ok();
    let file = life.and_then(|life| Some((life.log(&container, wanted.previous)?, life)));
    let Some((path, life)) = file else {
        return (StatusCode::NOT_FOUND, "no such container").into_response();
    };
    if let Some(lines) = wanted.tail_lines.filter(|_| !wanted.follow) {
        return format!("{}\n", tail(&path, lines, usize::MAX)).into_response();
    }
    let file = match File::open(&path).await {
        Ok(file) => file,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let follow = (wanted.follow && !wanted.previous).then_some((life, container));
    Body::from_stream(stream::try_unfold((file, follow), next_piece)).into_response()
}

type Followed = (File, Option<(Arc<Life>, String)>);

/// What comes next in a log; its end only where the container's has come.
async fn next_piece((mut file, follow): Followed) -> std::io::Result<Option<(Vec<u8>, Followed)>> {
    loop {
        // Asked before the read, so that what is written before the end is read.
        let more = follow.as_ref().is_some_and(|(life, container)| life.may_log(container));
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        if read > 0 {
            return Ok(Some((piece, (file, follow))));
        }
        if !more {
            return Ok(None);
        }
        sleep(BETWEEN_LOOKS).await;
    }
}
