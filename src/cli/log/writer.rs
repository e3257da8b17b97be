//! The queue between those who log and the thread that writes.

use std::{
    cell::Cell,
    io::{self, ErrorKind, Write},
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::telemetry::{dimensions::LineDropped, losses};

/// Lines that wait to be written.
const LINES_MAX: usize = 1024;
/// What is written at once, in bytes, where so much waits.
const BATCH_BYTES: usize = 32 << 10;
/// From one report of dropped lines to the next.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// From one write to the next while there is much to write: a thread that sleeps costs nobody who logs
/// the system call to wake it.
const WRITE_INTERVAL: Duration = Duration::from_millis(4);
/// Pause before another try where the reader shares a file description that does not block.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Stack of the thread, in bytes; it formats its own report, and nothing else.
const STACK_BYTES: usize = 256 << 10;

/// The target of the report of dropped lines.
pub(super) const DROPS: &str = "tollgate::log::drops";

/// Lines that were dropped and that no line has told of yet.
static UNREPORTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The report that the writing thread has just made, which takes no turn in the queue.
    static REPORT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The end of the queue to which lines are given.
#[derive(Debug)]
pub(super) struct Queue(SyncSender<Message>);

#[derive(Debug)]
enum Message {
    Entry(Vec<u8>),
    /// There is something to report.
    Drops,
    /// Everything before it is to be written, and then this dropped.
    Flush(SyncSender<()>),
}

impl Queue {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(name: &str, out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || write(&receiver, out))?;
        Ok(Self(sender))
    }

    /// Takes an entry if there is room for it.
    pub(super) fn offer(&self, entry: Vec<u8>) -> bool {
        self.0.try_send(Message::Entry(entry)).is_ok()
    }

    /// Waits until what was given is written, or for as long as `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let begun = Instant::now();
        let (done, is_done) = sync_channel(0);
        let mut message = Message::Flush(done);
        loop {
            match self.0.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if begun.elapsed() < limit => message = back,
                Err(_) => return,
            }
            thread::sleep(RETRY_INTERVAL);
        }
        let _late = is_done.recv_timeout(limit.saturating_sub(begun.elapsed())).is_err();
    }

    /// Counts a line that is not written, and sees to it that the log tells of it.
    pub(super) fn drops(&self, reason: LineDropped) {
        losses::lines_dropped(reason, 1);
        if UNREPORTED.fetch_add(1, Relaxed) == 0 {
            // A full queue has the thread's attention anyway.
            let _full = self.0.try_send(Message::Drops).is_err();
        }
    }

    /// Takes the report of dropped lines from the thread that writes, which gives it to itself.
    pub(super) fn report(entry: Vec<u8>) {
        REPORT.set(entry);
    }
}

/// Writes until there is nobody left to log.
fn write(receiver: &Receiver<Message>, mut out: impl Write) {
    let mut batch = Vec::new();
    let mut flushed = Vec::new();
    let mut reported: Option<Instant> = None;
    let mut written: Option<Instant> = None;
    loop {
        let until_report = reported.map_or(Duration::ZERO, |at| REPORT_INTERVAL.saturating_sub(at.elapsed()));
        let first = match UNREPORTED.load(Relaxed) {
            0 => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            _ => receiver.recv_timeout(until_report),
        };
        if matches!(first, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        let mut next = first.ok();
        while let Some(message) = next.take() {
            match message {
                Message::Entry(entry) => batch.extend_from_slice(&entry),
                Message::Drops => {}
                Message::Flush(done) => flushed.push(done),
            }
            if batch.len() < BATCH_BYTES {
                next = receiver.try_recv().ok();
            }
        }
        let is_backlog = batch.len() >= BATCH_BYTES;
        write_batch(&mut out, &batch);
        batch.clear();
        batch.shrink_to(BATCH_BYTES);
        if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) || !flushed.is_empty() {
            let lines = UNREPORTED.swap(0, Relaxed);
            if lines > 0 {
                reported = Some(Instant::now());
                tracing::warn!(target: DROPS, lines, "log lines were dropped: see tollgate.log.lines.dropped");
                write_batch(&mut out, &REPORT.take());
            }
        }
        let is_busy = written.replace(Instant::now()).is_some_and(|last| last.elapsed() < WRITE_INTERVAL);
        if is_busy && !is_backlog && flushed.is_empty() {
            thread::sleep(WRITE_INTERVAL);
        }
        flushed.clear();
    }
}

/// Writes lines, or counts them if their reader is gone.
fn write_batch(out: &mut impl Write, batch: &[u8]) {
    let mut rest = batch;
    let ended = loop {
        if rest.is_empty() {
            break out.flush();
        }
        match out.write(rest) {
            Ok(0) => break Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_INTERVAL),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    if ended.is_err() {
        let lines = memchr::memchr_iter(b'\n', rest).count();
        losses::lines_dropped(LineDropped::WriteFailed, lines as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex, mpsc::channel};

    use super::*;

    /// Takes nothing before it is opened.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        is_open: bool,
        written: Vec<u8>,
    }

    impl Gate {
        fn open(&self) {
            self.0.0.lock().unwrap().is_open = true;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let mut state = self.0.1.wait_while(self.0.0.lock().unwrap(), |state| !state.is_open).unwrap();
            // Like a terminal that takes what it likes.
            let some = data.len().min(1000);
            state.written.extend_from_slice(&data[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_and_nothing_that_was_taken_is_lost() {
        let gate = Gate::default();
        let queue = Queue::start("test", gate.clone()).unwrap();
        let begun = Instant::now();
        let taken = (0..5000).filter(|number| queue.offer(format!("line {number}\n").into_bytes())).count();
        // The thread may have taken a batch before it met the closed gate.
        assert!((LINES_MAX..5000).contains(&taken), "{taken}");
        queue.flush(Duration::from_millis(20));
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(gate.text(), "");
        gate.open();
        queue.flush(Duration::from_secs(10));
        let text = gate.text();
        assert_eq!(text.lines().count(), taken);
        assert!(text.starts_with("line 0\nline 1\n"));
    }

    #[test]
    fn a_reader_that_is_gone_costs_its_lines_only() {
        struct Gone(std::sync::mpsc::Sender<usize>);
        impl Write for Gone {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                self.0.send(data.len()).unwrap();
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, writes) = channel();
        let queue = Queue::start("test", Gone(sender)).unwrap();
        for _ in 0..2 {
            assert!(queue.offer(b"line\n".to_vec()));
            queue.flush(Duration::from_secs(10));
            assert_eq!(writes.recv(), Ok(5));
        }
    }
}
