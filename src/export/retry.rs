//! Whether, when and how often an export is tried again.
//!
//! Owns the rules of the OTLP specification for retries and the pauses between them; knows no
//! socket, so that its tests run on paused time. What a try sends is the caller's to say.

use std::time::Duration;

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    answer::{Answer, Failure},
    grpc::Code,
};

/// The first pause is up to this long, later ones half as long again each time.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The longest pause a receiver can ask for.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// How an export ended.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) answer: Answer,
    pub(super) attempts: u32,
    /// The receiver asked not to be sent anything before.
    pub(super) not_before: Option<Instant>,
}

/// Runs `attempt` until it succeeds, fails for good, or its next try would start at `until` or later.
/// What the last attempt sent is returned beside its answer. `hurry` ends the pauses.
pub(super) async fn deliver<T>(
    until: Instant,
    hurry: &Notify,
    mut attempt: impl AsyncFnMut() -> (T, Answer),
) -> (T, Delivered) {
    let mut backoff = Backoff::default();
    let mut attempts = 0;
    loop {
        let (sent, answer) = attempt().await;
        attempts += 1;
        let Some(asked) = retryable(&answer) else {
            return (sent, Delivered { answer, attempts, not_before: None });
        };
        let pause = backoff.next(random());
        let wait = match asked {
            // A receiver that keeps saying "now" is not asked in a tight loop.
            Some(asked) if attempts > 1 => asked.max(pause),
            Some(asked) => asked,
            None => pause,
        };
        let again = Instant::now() + wait;
        let not_before = asked.map(|asked| Instant::now() + asked);
        if again >= until {
            return (sent, Delivered { answer, attempts, not_before });
        }
        tracing::debug!(?answer, ?wait, "export is tried again");
        tokio::select! {
            () = sleep_until(again) => {}
            () = hurry.notified() => return (sent, Delivered { answer, attempts, not_before }),
        }
    }
}

/// `Some` if an export with this answer may be tried again, with the pause the receiver asked for.
///
/// Statuses and codes are those of the OTLP specification and no others; a timeout is none of them,
/// because the receiver may still be at work on the request.
pub(super) fn retryable(answer: &Answer) -> Option<Option<Duration>> {
    match answer {
        Answer::Refused { status: 429 | 502 | 503 | 504, retry_after, .. } => Some(*retry_after),
        Answer::RefusedGrpc {
            code:
                Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss,
            retry_after,
            ..
        } => Some(*retry_after),
        // Without a pause it means that the request is too large, or that a quota is used up.
        Answer::RefusedGrpc { code: Code::ResourceExhausted, retry_after, .. } => retry_after.map(Some),
        Answer::Failed(
            Failure::Resolve(_)
            | Failure::ConnectionRefused
            | Failure::ConnectTimeout
            | Failure::Unreachable(_)
            | Failure::Closed(_),
        ) => Some(None),
        // A certificate does not become valid by asking again.
        Answer::Failed(
            Failure::Tls(..) | Failure::Timeout(_) | Failure::NotHttp(_) | Failure::NotOtlp(_) | Failure::TooLarge(_),
        )
        | Answer::Accepted
        | Answer::Partial { .. }
        | Answer::Refused { .. }
        | Answer::RefusedGrpc { .. } => None,
    }
}

/// Exponential pauses with full jitter, so that gateways do not come back all at once.
#[derive(Debug, Default)]
struct Backoff {
    taken: i32,
}

impl Backoff {
    /// The next pause; `random` is in `0.0..1.0`.
    fn next(&mut self, random: f64) -> Duration {
        let ceiling = BACKOFF_FIRST.mul_f64(1.5_f64.powi(self.taken)).min(BACKOFF_MAX);
        // The ceiling is long reached when the count stops.
        self.taken = (self.taken + 1).min(16);
        ceiling.mul_f64(random)
    }
}

/// A number in `0.0..1.0`; without a source of randomness, the middle.
fn random() -> f64 {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut bits = [0; 4];
    match SystemRandom::new().fill(&mut bits) {
        Ok(()) => f64::from(u32::from_ne_bytes(bits)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::answer::TlsFailure;

    fn refused(status: u16, retry_after: Option<Duration>) -> Answer {
        Answer::Refused { status, location: None, retry_after, text: String::new() }
    }

    /// Delivers against these answers in turn, the last one for ever; returns when each try began.
    async fn run(until: Duration, answers: &[Answer]) -> (Delivered, Vec<Duration>) {
        let start = Instant::now();
        let mut tries = Vec::new();
        let (last, delivered) = deliver(start + until, &Notify::new(), async || {
            tries.push(start.elapsed());
            (tries.len(), answers.get(tries.len() - 1).or(answers.last()).unwrap().clone())
        })
        .await;
        assert_eq!(last, tries.len());
        (delivered, tries)
    }

    #[tokio::test(start_paused = true)]
    async fn exactly_the_retryable_answers_are_tried_again() {
        for status in 300..600 {
            let (delivered, tries) = run(Duration::from_secs(60), &[refused(status, None), Answer::Accepted]).await;
            let again = matches!(status, 429 | 502 | 503 | 504);
            assert_eq!(tries.len(), if again { 2 } else { 1 }, "status {status}");
            assert_eq!(delivered.answer == Answer::Accepted, again);
        }
        let failures = [
            (Failure::Resolve(String::new()), true),
            (Failure::ConnectionRefused, true),
            (Failure::ConnectTimeout, true),
            (Failure::Unreachable(String::new()), true),
            (Failure::Closed(String::new()), true),
            (Failure::Tls(TlsFailure::Untrusted, String::new()), false),
            (Failure::Timeout(Duration::ZERO), false),
            (Failure::NotHttp(String::new()), false),
            (Failure::NotOtlp("an HTML page"), false),
            (Failure::TooLarge(1), false),
        ];
        for (failure, again) in failures {
            let (delivered, _) =
                run(Duration::from_secs(60), &[Answer::Failed(failure.clone()), Answer::Accepted]).await;
            assert_eq!(delivered.answer == Answer::Accepted, again, "{failure:?}");
        }
        for code in Code::ALL {
            for retry_after in [None, Some(Duration::ZERO)] {
                let refused = Answer::RefusedGrpc { code, retry_after, text: String::new() };
                let (delivered, _) = run(Duration::from_secs(60), &[refused, Answer::Accepted]).await;
                let again = match code {
                    Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => true,
                    Code::OutOfRange | Code::Unavailable | Code::DataLoss => true,
                    Code::ResourceExhausted => retry_after.is_some(),
                    _ => false,
                };
                assert_eq!(delivered.answer == Answer::Accepted, again, "{code:?} {retry_after:?}");
            }
        }
        let partial = Answer::Partial { rejected: 1, message: String::new() };
        assert_eq!(run(Duration::from_secs(60), &[partial]).await.0.attempts, 1);
    }

    #[test]
    fn pauses_grow_have_jitter_and_end_at_a_ceiling() {
        let ceilings = |random: f64| {
            let mut backoff = Backoff::default();
            std::iter::repeat_with(|| backoff.next(random).as_millis()).take(40).collect::<Vec<_>>()
        };
        assert_eq!(ceilings(1.0)[..6], [1_000, 1_500, 2_250, 3_375, 5_000, 5_000]);
        assert_eq!(ceilings(1.0)[39], 5_000);
        assert_eq!(ceilings(0.5)[..3], [500, 750, 1_125]);
        assert_eq!(ceilings(0.0)[..3], [0, 0, 0]);
        let drawn: Vec<f64> = std::iter::repeat_with(random).take(50).collect();
        assert!(drawn.iter().all(|random| (0.0..1.0).contains(random)));
        assert!(drawn.iter().any(|random| *random != drawn[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn case_21_pauses_grow_have_jitter_and_end_by_the_deadline() {
        let most: Vec<Duration> = (0..40).scan(Backoff::default(), |backoff, _| Some(backoff.next(1.0))).collect();
        assert!(most.is_sorted() && most[0] < most[3] && most[39] == BACKOFF_MAX, "{most:?}");
        let minutes = Duration::from_secs(120);
        let (first, second) =
            (run(minutes, &[refused(503, None)]).await.1, run(minutes, &[refused(503, None)]).await.1);
        assert!(first.len() > 20 && first.last().unwrap() < &minutes, "{first:?}");
        assert_ne!(first, second, "two gateways do not come back in step");
    }

    #[tokio::test(start_paused = true)]
    async fn no_try_starts_after_the_deadline() {
        let (delivered, tries) = run(Duration::from_secs(15), &[refused(503, None)]).await;
        assert!(tries.len() > 2, "{tries:?}");
        assert!(*tries.last().unwrap() < Duration::from_secs(15));
        assert_eq!(delivered.answer, refused(503, None));
        assert!(delivered.not_before.is_none());
        assert_eq!(run(Duration::ZERO, &[refused(503, None)]).await.1.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_a_receiver_asks_for_is_kept() {
        let five = Duration::from_secs(5);
        let (_, tries) = run(Duration::from_secs(60), &[refused(429, Some(five)), Answer::Accepted]).await;
        assert_eq!(tries, [Duration::ZERO, five]);
        let (delivered, tries) = run(Duration::from_secs(3), &[refused(503, Some(five))]).await;
        assert_eq!(tries.len(), 1);
        assert_eq!(delivered.not_before, Some(Instant::now() + five));
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_always_says_now_is_not_asked_in_a_tight_loop() {
        let (_, tries) = run(Duration::from_secs(15), &[refused(503, Some(Duration::ZERO))]).await;
        assert_eq!(tries[1], Duration::ZERO);
        assert!(tries.len() < 100, "{} tries", tries.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hurry_ends_the_pause() {
        let start = Instant::now();
        let hurry = Notify::new();
        let hour = Duration::from_secs(3_600);
        let attempt = async || ((), refused(503, Some(hour / 30)));
        let soon = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            hurry.notify_one();
        };
        let ((_, delivered), ()) = tokio::join!(deliver(start + hour, &hurry, attempt), soon);
        assert_eq!((delivered.attempts, start.elapsed()), (1, Duration::from_secs(7)));
    }
}
