//! What a future holds while it runs somebody else's code that may panic.

/// Runs `run`; if it panics, what is in `slot` is dropped by the unwinding, and can tell (a permit says that its call
/// failed). The future that holds it may be dropped later, when nobody is panicking any more.
#[inline]
pub(crate) fn dropping_on_unwind<T, R>(slot: &mut Option<T>, run: impl FnOnce() -> R) -> R {
    struct OnUnwind<'a, T>(&'a mut Option<T>);
    impl<T> Drop for OnUnwind<'_, T> {
        fn drop(&mut self) {
            *self.0 = None;
        }
    }
    let unwinding = OnUnwind(slot);
    let result = run();
    std::mem::forget(unwinding);
    result
}
