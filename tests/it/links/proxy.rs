//! A line that breaks after so many bytes, drawn from a seed: sometimes with a reset, always
//! somewhere in the middle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Passes bytes on until it breaks the line, then waits for the next to dial.
pub(super) struct Proxy {
    address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    // Dropped with the test, and its tasks with it.
    _runtime: Runtime,
}

impl Proxy {
    pub(super) fn start(target: SocketAddr, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::<AtomicUsize>::default();
        runtime.spawn(serve(listener, target, seed, cuts.clone()));
        Self { address, cuts, _runtime: runtime }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, seed: u64, cuts: Arc<AtomicUsize>) {
    let mut chance = seed;
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(target).await.unwrap();
        chance =
            chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let there = usize::try_from(chance >> 33).unwrap() % 300_000;
        let back = usize::try_from((chance >> 13) & 0xFFF).unwrap();
        relay(near, far, there, back, chance & 1 << 40 != 0).await;
        cuts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Passes on at most so many bytes in each direction, and breaks the line when one is used up.
async fn relay(mut near: TcpStream, mut far: TcpStream, there: usize, back: usize, reset: bool) {
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
    }
    {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        tokio::select! {
            () = pass(near_read, far_write, there) => {}
            () = pass(far_read, near_write, back) => {}
        }
    }
    if reset {
        for stream in [&near, &far] {
            let _ = SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut left: usize) {
    let mut buffer = vec![0; 16 * 1_024];
    while left > 0 {
        let room = left.min(buffer.len());
        let Ok(count @ 1..) = from.read(&mut buffer[..room]).await else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        left -= count;
    }
}
