//! The instances of the broker: which there are, which of them take requests, and how requests go round.
//!
//! ```text
//!   target ──► GET /health/instance every 250 ms ──► Verdict ──► in or out of the round
//! ```
//! Not here: what a verdict is. Invariants: a request goes only to this process while it is active, or to an instance
//! that was found to serve the same store; one that was forwarded once is served here or refused.

use std::{
    convert::Infallible,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use campanile_middleware::{CircuitBreaker, CircuitState, Failover, Instance, RoundRobin};
use http::{Method, Response, request::Parts};
use tracing::{debug, error, info, warn};

use super::{
    ServeError,
    dispatch::Dispatch,
    forward::{DEADLINE_MAX, Forward},
    identity::{Identity, Role},
    member::{Member, MemberError},
    operation::Operation,
    probe::Probe,
    verdict::Verdict,
};
use crate::config::{Address, Config};

/// How often each target is asked who it is and what it does.
const PROBE_PERIOD: Duration = Duration::from_millis(250);

/// How long a request waits for an instance that takes it: a standby takes over well within that.
const WAIT_FOR_READY: Duration = Duration::from_secs(5);

/// What a request may have beside its payload and still be sent again to another instance.
const REPLAY_OVERHEAD_BYTES: usize = 256 << 10;

/// Says that the broker did nothing for a request, and why.
const REFUSAL: &str = "campanile-refusal";

pub(super) type Round = RoundRobin<Member, MemberError, Body>;

/// The instances. Clones share one state.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    round: Round,
    this_process: Instance<Member>,
    targets: Vec<Target>,
    /// One for each target, in the same order.
    verdicts: Mutex<Vec<Verdict>>,
}

#[derive(Debug)]
struct Target {
    instance: Instance<Member>,
    probe: Probe,
}

impl Peers {
    /// The targets of the settings and this process, which `local` serves. Nobody takes requests before the first
    /// [`Peers::refresh`].
    pub(super) fn new(config: &Config, identity: Identity, local: Dispatch) -> Result<Self, ServeError> {
        let targets: Result<Vec<_>, _> =
            config.backend_targets.iter().map(|target| Target::new(config, target)).collect();
        let targets = targets?;
        // The operations' breakers guard this process; with one of its own, a request that panics could shut out all.
        let unbroken = CircuitBreaker::builder("this process").consecutive_failures(u32::MAX).build();
        let this_process = Instance::new("this process", Member::ThisProcess(local), unbroken).local();
        let failover = Failover {
            attempts: u32::try_from(targets.len()).unwrap_or(u32::MAX).saturating_add(1),
            // A receive may wait for 60 s, so no attempt is bounded by itself. That an instance hangs is found out by
            // the pings on its connection, and that it does not answer by the probes.
            per_try: None,
            replay_limit: config.message_bytes_max + REPLAY_OVERHEAD_BYTES,
            wait_for_ready: Some(WAIT_FOR_READY),
            // When the active instance dies, all that was under way on it is repeated on the one that takes over.
            budget: None,
        };
        let round = RoundRobin::new([])
            .failover(failover)
            .never_sent(MemberError::is_never_sent)
            .refused(is_refused)
            .idempotent(is_idempotent);
        let verdicts = Mutex::new(vec![Verdict::Unknown; targets.len()]);
        Ok(Self { shared: Arc::new(Shared { identity, round, this_process, targets, verdicts }) })
    }

    /// What requests go through.
    pub(super) fn round(&self) -> Round {
        self.shared.round.clone()
    }

    /// Puts those into the round who take requests now. Called when this process became active, too.
    pub(super) fn refresh(&self) {
        let Shared { identity, round, this_process, targets, verdicts } = &*self.shared;
        let verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let me = (identity.report().role != Role::Standby).then(|| this_process.clone());
        let others = targets.iter().zip(&*verdicts).filter(|(_, verdict)| verdict.is_in_the_round());
        round.set_instances(me.into_iter().chain(others.map(|(target, _)| target.instance.clone())));
    }

    /// Asks every target who it is, over and over. Never completes.
    pub(super) async fn watch(self) -> Infallible {
        let mut watches = tokio::task::JoinSet::new();
        for index in 0..self.shared.targets.len() {
            watches.spawn(self.clone().watch_one(index));
        }
        loop {
            match watches.join_next().await {
                Some(Err(error)) => error!(%error, "an instance is no longer watched"),
                Some(Ok(never)) => match never {},
                None => std::future::pending().await,
            }
        }
    }

    async fn watch_one(self, index: usize) -> Infallible {
        let Some(target) = self.shared.targets.get(index) else { std::future::pending().await };
        let mut ticks = tokio::time::interval(PROBE_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let me = self.shared.identity.report();
            let (before, was_open) = (self.verdict(index), target.is_open());
            let verdict = match target.probe.ask(target.instance.breaker()).await {
                Ok(report) => Verdict::of(me, report),
                Err(error) => {
                    debug!(instance = target.instance.name(), error = &error as &dyn Error, "probe failed");
                    before.unanswered()
                }
            };
            if target.is_open() && !was_open && !verdict.is_in_the_round() {
                // One that is in the round is passed over, and this said, by the round itself.
                warn!("Instance {} circuit OPEN; skipping", target.instance.name());
            }
            if verdict != before {
                target.change(verdict, me.store);
                self.judge(index, verdict);
            }
        }
    }

    fn verdict(&self, index: usize) -> Verdict {
        let verdicts = self.shared.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.get(index).copied().unwrap_or(Verdict::Unknown)
    }

    fn judge(&self, index: usize, verdict: Verdict) {
        let mut verdicts = self.shared.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = verdicts.get_mut(index) {
            *slot = verdict;
        }
        drop(verdicts);
        self.refresh();
    }
}

impl Target {
    fn new(config: &Config, address: &Address) -> Result<Self, ServeError> {
        let name = address.to_string();
        let invalid = |source| ServeError::Target { target: address.clone(), source };
        let breaker = CircuitBreaker::builder(name.clone())
            .consecutive_failures(config.backend_circuit_max_failures)
            .open_for(config.backend_circuit_reset)
            .build();
        let member = Member::Other(Arc::new(Forward::new(address, DEADLINE_MAX).map_err(invalid)?));
        let probe = Probe::new(address).map_err(invalid)?;
        Ok(Self { instance: Instance::new(name, member, breaker), probe })
    }

    fn is_open(&self) -> bool {
        self.instance.breaker().state() == CircuitState::Open
    }

    /// Acts on a verdict other than the one before, and logs it: once, however long it lasts.
    fn change(&self, verdict: Verdict, my_store: Option<uuid::Uuid>) {
        let instance = self.instance.name();
        self.instance.set_ready(verdict == Verdict::Ready);
        match verdict {
            Verdict::Unknown => info!(instance, "instance does not say which store it serves"),
            Verdict::ThisProcess => info!(instance, "instance is this process"),
            Verdict::NotReady(role) => info!(instance, ?role, "instance takes no requests"),
            Verdict::Silent | Verdict::Unreachable => warn!(instance, "instance does not answer"),
            Verdict::OtherStore(store) => {
                let my_store = my_store.map(tracing::field::display);
                error!(instance, %store, my_store, "instance serves another store: no request is sent to it");
            }
            Verdict::Ready => {
                info!(instance, "instance is active");
                // What opened the circuit was that it did not answer; now it does.
                self.instance.breaker().reset();
            }
        }
    }
}

/// Whether another instance may take what this one did not: it is not the active one, or not any more.
fn is_refused(response: &Response<Body>) -> bool {
    response.headers().get(REFUSAL).is_some_and(|why| why == "not_active" || why == "draining")
}

/// Whether a request may be processed twice: it reads only, or says by what it is recognised, or takes messages under a
/// lease, so that those of a lost answer come back. A plain consume is none of these.
fn is_idempotent(request: &Parts) -> bool {
    let reads = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    match Operation::of_path(request.uri.path()) {
        Operation::Receive => reads && is_leased(request.uri.query().unwrap_or_default()),
        _ => reads || request.headers.contains_key("idempotency-key"),
    }
}

fn is_leased(query: &str) -> bool {
    query.split('&').any(|pair| pair.starts_with("ack_deadline_seconds="))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn what_takes_messages_for_good_is_not_repeated() {
        let is = |request: http::request::Builder| is_idempotent(&request.body(()).expect("valid").into_parts().0);
        assert!(!is(Request::get("/consume/q")));
        assert!(!is(Request::get("/consume/q?max_messages=2&wait_seconds=1")));
        assert!(is(Request::get("/consume/q?max_messages=2&ack_deadline_seconds=10")));
        assert!(!is(Request::get("/consume/q?x=ack_deadline_seconds=10")));
        assert!(!is(Request::get("/consume/q").header("idempotency-key", "k")));
        assert!(!is(Request::post("/publish")));
        assert!(is(Request::post("/publish").header("idempotency-key", "k")));
        assert!(!is(Request::post("/MessageBrokerService/ReceiveMessage").header("idempotency-key", "k")));
        assert!(is(Request::post("/MessageBrokerService/SendMessage").header("idempotency-key", "k")));
        assert!(is(Request::get("/v1/topics")));
    }
}
