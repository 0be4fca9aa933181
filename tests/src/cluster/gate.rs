//! A gate between one client and the API server: requests go through it one by one, and a test can stop a write on its way
//! in or its answer on its way out, or keep to itself what a watch tells.
//!
//! It speaks HTTP without TLS and hands tokens on as they come, so that whoever goes through it has the rights of its own.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, future};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Cluster, background, client};

/// A gate that is open. Dropping it closes it to those who come later.
#[derive(Debug)]
pub struct Gate {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    client: Client,
    stops: Mutex<Vec<Stop>>,
    muted: Mutex<Option<String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("stops", &self.stops).field("muted", &self.muted).finish_non_exhaustive()
    }
}

/// Where a write is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the API server hears of it.
    Request,
    /// When it is carried out, and before who asked for it hears of that.
    Answer,
}

/// What the gate knows of a stop.
#[derive(Debug)]
struct Stop {
    object: String,
    moment: Moment,
    /// Nothing has been caught yet.
    armed: Option<Trap>,
}

/// How a stop tells that it has caught something, and hears that it may go on.
#[derive(Debug)]
struct Trap {
    caught: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
}

/// What a request meets.
enum Met {
    /// Nothing.
    Way,
    /// A stop that was waiting for it. It is over when the test lets go.
    Stop(Moment, Trap),
    /// A stop that has caught another one before.
    Wall,
}

/// A stop, as the test has it. Unless it is let go, what was caught never arrives.
#[derive(Debug)]
pub struct Stopped {
    shared: Arc<Shared>,
    object: String,
    caught: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Gate {
    pub(super) async fn open(cluster: &Cluster) -> Result<Self> {
        let mut kubeconfig: Value = serde_json::from_slice(&std::fs::read(cluster.kubeconfig())?)?;
        kubeconfig["users"][0]["user"] = json!({});
        let kubeconfig = serde_json::to_vec(&kubeconfig)?;
        // What goes on in the gate belongs to no test's runtime.
        let open = background()?.spawn(async move {
            anyhow::Ok((client(kubeconfig).await?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?))
        });
        let (client, listener) = open.await??;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared { client, stops: Mutex::default(), muted: Mutex::default() });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let task = background()?.spawn(async move {
            // It ends when the task does.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, shared, task })
    }

    /// The address to talk to in place of the API server's.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the next write that names this object, in its path or in its content, at this moment; from then on nothing
    /// about the object passes, until it is let go.
    pub fn stop(&self, object: &str, moment: Moment) -> Stopped {
        let ((caught, receive), (go, wait)) = (oneshot::channel(), oneshot::channel());
        let stop = Stop { object: object.to_owned(), moment, armed: Some(Trap { caught, go: wait }) };
        lock(&self.shared.stops).push(stop);
        Stopped { shared: Arc::clone(&self.shared), object: object.to_owned(), caught: receive, go }
    }

    /// Lets everything pass again that comes from now on.
    pub fn clear(&self) {
        lock(&self.shared.stops).clear();
    }

    /// Keeps everything to itself that watches of this path (`/api/v1/pods`) tell from now on, for good.
    pub fn mute(&self, path: &str) {
        *lock(&self.shared.muted) = Some(path.to_owned());
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stopped {
    /// Waits until something is caught, for at most `bound`.
    pub async fn caught(&mut self, bound: Duration) -> Result<()> {
        let caught = timeout(bound, &mut self.caught).await;
        caught.context("nothing came to the gate")?.context("the gate was cleared before anything came")
    }

    /// Lets go what was caught, and all that comes.
    pub fn release(self) {
        lock(&self.shared.stops).retain(|stop| stop.object != self.object);
        // Who asked may have given up waiting, and will ask again.
        let _ = self.go.send(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn meet(&self, request: &Parts, content: &[u8]) -> Met {
        let names = |object: &str| {
            request.uri.path().contains(object) || content.windows(object.len()).any(|part| part == object.as_bytes())
        };
        let mut stops = lock(&self.stops);
        let Some(stop) = stops.iter_mut().find(|stop| names(&stop.object)) else { return Met::Way };
        match stop.armed.take() {
            None => Met::Wall,
            armed if request.method == Method::GET => {
                stop.armed = armed;
                Met::Way
            }
            Some(trap) => Met::Stop(stop.moment, trap),
        }
    }
}

impl Trap {
    /// Tells the test, and waits until it lets go, perhaps for ever.
    async fn hold(self) {
        // The test may have lost interest.
        let _ = self.caught.send(());
        if self.go.await.is_err() {
            future::pending::<()>().await;
        }
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match forward(&shared, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn forward(shared: &Arc<Shared>, request: Request) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    let content = to_bytes(body, usize::MAX).await?;
    let uri = parts.uri.clone();
    let mut on_its_way_out = None;
    match shared.meet(&parts, &content) {
        Met::Way => {}
        Met::Stop(Moment::Request, trap) => trap.hold().await,
        Met::Stop(Moment::Answer, trap) => on_its_way_out = Some(trap),
        Met::Wall => future::pending().await,
    }
    // Those are about the connection to the gate.
    for header in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        parts.headers.remove(header);
    }
    let answer = shared.client.send(Request::from_parts(parts, kube::client::Body::from(content))).await?;
    if let Some(trap) = on_its_way_out {
        trap.hold().await;
    }
    let (mut parts, body) = answer.into_parts();
    for header in [CONNECTION, TRANSFER_ENCODING] {
        parts.headers.remove(header);
    }
    let watches = uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    let body = if watches { audible(shared, uri.path(), Body::new(body)) } else { Body::new(body) };
    Ok(Response::from_parts(parts, body))
}

/// What a watch tells, line by line, as long as it is not muted.
fn audible(shared: &Arc<Shared>, path: &str, body: Body) -> Body {
    let (shared, path) = (Arc::clone(shared), path.to_owned());
    let mut pending = Vec::new();
    Body::from_stream(body.into_data_stream().filter_map(move |chunk| {
        let told = chunk.map(|bytes| {
            pending.extend_from_slice(&bytes);
            let whole = pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
            let lines: Bytes = pending.drain(..whole).collect();
            let muted = lock(&shared.muted).as_deref() == Some(path.as_str());
            (!muted && !lines.is_empty()).then_some(lines)
        });
        future::ready(told.transpose())
    }))
}
