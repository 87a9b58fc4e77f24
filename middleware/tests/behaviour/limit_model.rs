//! The limit against a model that does the same with plain numbers and lists: whatever is taken, dropped, polled or set,
//! in whatever order, nothing is lost, nothing is made up, and nobody overtakes.

use std::{
    collections::{BTreeSet, VecDeque},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use campanile_middleware::{Acquire, ConcurrencyLimit, OverflowQueue, Place};
use proptest::prelude::*;
use tokio::runtime::Builder;

#[derive(Debug, Clone)]
enum Step {
    Try,
    /// With room for so many in the queue.
    Wait(usize),
    DropPlace(prop::sample::Index),
    DropWaiter(prop::sample::Index),
    Poll(prop::sample::Index),
    SetLimit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Try),
        4 => (0_usize..4).prop_map(Step::Wait),
        3 => any::<prop::sample::Index>().prop_map(Step::DropPlace),
        1 => any::<prop::sample::Index>().prop_map(Step::DropWaiter),
        3 => any::<prop::sample::Index>().prop_map(Step::Poll),
        1 => (0_usize..4).prop_map(Step::SetLimit),
    ]
}

#[derive(Default)]
struct Model {
    limit: usize,
    in_flight: usize,
    waiting: VecDeque<u32>,
    granted: BTreeSet<u32>,
    shed: u64,
}

impl Model {
    fn take(&mut self) -> bool {
        let taken = self.waiting.is_empty() && self.in_flight < self.limit;
        self.in_flight += usize::from(taken);
        taken
    }

    fn hand_on(&mut self) {
        while self.in_flight < self.limit
            && let Some(first) = self.waiting.pop_front()
        {
            self.in_flight += 1;
            self.granted.insert(first);
        }
    }

    fn give_back(&mut self) {
        self.in_flight -= 1;
        self.hand_on();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn it_does_what_the_model_does(limit in 0_usize..4, steps in prop::collection::vec(step(), 1..80)) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let _entered = runtime.enter();
        let mut cx = Context::from_waker(Waker::noop());
        let mut model = Model { limit, ..Model::default() };
        let limit = ConcurrencyLimit::fixed(limit);
        let mut places: Vec<Place> = Vec::new();
        let mut waiters: Vec<(u32, Pin<Box<Acquire>>)> = Vec::new();
        for (id, step) in (0..).zip(steps) {
            match step {
                Step::Try => {
                    let taken = model.take();
                    model.shed += u64::from(!taken);
                    let place = limit.try_acquire();
                    prop_assert_eq!(place.is_ok(), taken);
                    places.extend(place);
                }
                Step::Wait(len) => {
                    let mut acquire = Box::pin(limit.acquire(OverflowQueue { len, timeout: Duration::MAX }));
                    if model.take() {
                        let Poll::Ready(Ok(place)) = acquire.as_mut().poll(&mut cx) else { panic!("a place was free") };
                        places.push(place);
                    } else if model.waiting.len() >= len {
                        model.shed += 1;
                        prop_assert!(matches!(acquire.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
                    } else {
                        model.waiting.push_back(id);
                        waiters.push((id, acquire));
                    }
                }
                Step::DropPlace(index) if !places.is_empty() => {
                    drop(places.swap_remove(index.index(places.len())));
                    model.give_back();
                }
                Step::DropWaiter(index) if !waiters.is_empty() => {
                    let (id, acquire) = waiters.swap_remove(index.index(waiters.len()));
                    drop(acquire);
                    if model.granted.remove(&id) {
                        model.give_back();
                    } else {
                        model.waiting.retain(|waiting| *waiting != id);
                    }
                }
                Step::Poll(index) if !waiters.is_empty() => {
                    let index = index.index(waiters.len());
                    let polled = waiters[index].1.as_mut().poll(&mut cx);
                    prop_assert_eq!(polled.is_ready(), model.granted.contains(&waiters[index].0));
                    if let Poll::Ready(place) = polled {
                        places.push(place.expect("granted"));
                        model.granted.remove(&waiters.swap_remove(index).0);
                    }
                }
                Step::SetLimit(to) => {
                    limit.set_limit(to);
                    model.limit = to;
                    model.hand_on();
                }
                Step::DropPlace(_) | Step::DropWaiter(_) | Step::Poll(_) => {}
            }
            let now = limit.snapshot();
            let told = (now.limit, now.in_flight, now.queued, now.shed_total);
            prop_assert_eq!(told, (model.limit, model.in_flight, model.waiting.len(), model.shed));
            prop_assert_eq!(now.in_flight, places.len() + model.granted.len());
        }
        drop((places, waiters));
        let end = limit.snapshot();
        prop_assert_eq!((end.in_flight, end.queued), (0, 0));
        limit.set_limit(1);
        prop_assert!(limit.try_acquire().is_ok(), "nobody waits any more");
    }
}
