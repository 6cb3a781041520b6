//! The accept loop, and the bounds of its connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::AdminContext;
use super::bind::BoundAdmin;
use super::plain_answers::PlainAnswers;
use super::router::router;
use crate::runtime::background::BackgroundHandle;

impl BoundAdmin {
    /// Answers until the background runtime ends: also while the broker drains, so that probes can
    /// see it.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub fn serve(
        self,
        context: Arc<AdminContext>,
        background: &BackgroundHandle,
    ) -> io::Result<()> {
        let listener = background.enter(|| TcpListener::from_std(self.socket.into()))?;
        let service = TowerToHyperService::new(router(context));
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let spawner = background.clone();
        background.spawn("admin acceptor", async move {
            // One more client waits in the backlog until another has gone.
            while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
                let stream = accept(&listener).await;
                let served = serve_connection(stream, service.clone(), seat);
                spawner.spawn("admin connection", served);
            }
        });
        Ok(())
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // No file is left, or the client has gone; at once again would only burn the core.
                tracing::debug!(%error, "an administration client was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    service: TowerToHyperService<axum::Router>,
    _seat: OwnedSemaphorePermit,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(PlainAnswers::new(stream)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an administration connection ended");
    }
}

/// Connections at a time. They count among the files a broker keeps for itself.
const CONNECTIONS_MAX: usize = 32;
/// From the connection, or the answer before, to the last byte of a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(12);
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 * 1_024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
