//! The listening socket, which can be closed and opened again on the same port.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a port that was ours may be held by what is left of its connections.
const REOPEN_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: Wanted,
    is_closed: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    #[default]
    Open,
    Closed,
    Gone,
}

impl Door {
    /// A door on a free port of 127.0.0.1, and the listener that [`Self::serve`] takes.
    pub(crate) fn new() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (Self { address, state: Mutex::default(), changed: Condvar::new() }, listener)
    }

    /// Hands over connections until the door is gone.
    pub(crate) fn serve(&self, mut listener: TcpListener, mut accept: impl FnMut(TcpStream)) {
        loop {
            // Only a further connection lets it look: whoever changes what is wanted makes one.
            while self.wanted() == Wanted::Open {
                if let Ok((stream, _)) = listener.accept()
                    && self.wanted() == Wanted::Open
                {
                    accept(stream);
                }
            }
            drop(listener);
            self.set_closed(true);
            if !self.wait(|state| state.wanted != Wanted::Closed) {
                return;
            }
            listener = self.reopen();
            self.set_closed(false);
        }
    }

    /// Closes the listener: from its return on, connections are refused.
    pub(crate) fn close(&self) {
        self.want(Wanted::Closed);
        self.wait(|state| state.is_closed);
    }

    /// Listens again.
    pub(crate) fn open(&self) {
        self.want(Wanted::Open);
        self.wait(|state| !state.is_closed);
    }

    /// Ends [`Self::serve`].
    pub(crate) fn remove(&self) {
        self.want(Wanted::Gone);
    }

    fn reopen(&self) -> TcpListener {
        let start = Instant::now();
        loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => return listener,
                Err(error) => assert!(start.elapsed() < REOPEN_WITHIN, "{}: {error}", self.address),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn want(&self, wanted: Wanted) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wanted = wanted;
        self.changed.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }

    fn wanted(&self) -> Wanted {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wanted
    }

    fn set_closed(&self, is_closed: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = is_closed;
        self.changed.notify_all();
    }

    /// Waits for a state; says whether the door is still there.
    fn wait(&self, ready: impl Fn(&State) -> bool) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut State| !ready(state) && state.wanted != Wanted::Gone;
        let state = self.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        state.wanted != Wanted::Gone
    }
}
