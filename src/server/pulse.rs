//! Whether every worker still turns: a question that each of them has to answer itself.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::watch;

/// Asks all workers.
#[derive(Debug)]
pub(super) struct Pulse {
    question: watch::Sender<u64>,
    answers: Vec<Arc<AtomicU64>>,
}

/// One worker's side.
#[derive(Debug)]
pub(super) struct Answering {
    question: watch::Receiver<u64>,
    answer: Arc<AtomicU64>,
}

impl Pulse {
    pub(super) fn of(workers: usize) -> (Self, Vec<Answering>) {
        let (question, receiver) = watch::channel(0);
        let answers: Vec<Arc<AtomicU64>> = (0..workers).map(|_| Arc::default()).collect();
        let answering =
            answers.iter().map(|answer| Answering { question: receiver.clone(), answer: Arc::clone(answer) }).collect();
        (Self { question, answers }, answering)
    }

    /// Whether all have answered what they were asked last; asks again.
    pub(super) fn beats(&self) -> bool {
        let asked = *self.question.borrow();
        let all = self.answers.iter().all(|answer| answer.load(Relaxed) == asked);
        if all {
            self.question.send_modify(|question| *question += 1);
        }
        all
    }
}

impl Answering {
    /// Answers for as long as somebody asks.
    pub(super) async fn run(mut self) {
        while self.question.changed().await.is_ok() {
            self.answer.store(*self.question.borrow_and_update(), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_does_not_answer_stops_the_pulse() {
        let (pulse, mut workers) = Pulse::of(2);
        let (stuck, turning) = (workers.pop().unwrap(), workers.pop().unwrap());
        assert!(pulse.beats(), "nothing was asked yet");
        let mut turning = std::pin::pin!(turning.run());
        let mut stuck = std::pin::pin!(stuck.run());
        let mut turn = async |both: bool| {
            std::future::poll_fn(|cx| {
                assert!(turning.as_mut().poll(cx).is_pending());
                assert!(!both || stuck.as_mut().poll(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
        };
        turn(false).await;
        assert!(!pulse.beats());
        turn(true).await;
        assert!(pulse.beats());
        assert!(!pulse.beats(), "asked again");
    }
}
